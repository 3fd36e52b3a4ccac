"""The simple commands of a shell text, such as an entry of setup_commands.

This is no shell: it knows quotes, operators, groups, conditions, comments and here-documents, but expands nothing.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

# Programs whose status answers a question. A command after one of them runs only where the answer asks for it.
TESTS = frozenset({"[", "[[", "test", "grep", "egrep", "mountpoint", "findmnt", "which", "command", "type", "hash"})
_ALSO_TESTS = frozenset({"ls", "stat", "id", "getent", "pgrep", "dpkg", "cmp", "diff"})
_OPENS, _CLOSES = frozenset({"if", "while", "until", "for", "case", "{"}), frozenset({"fi", "done", "esac", "}"})
_SKIPPED = frozenset({"then", "else", "elif", "do", "!"})
_SHELLS = frozenset({"bash", "sh", "dash", "zsh", "su"})
_WRAPPERS = {  # programs that run the rest of their words, with those of their options that take a value
    "sudo": ("-u", "-g", "-h", "-p", "-C", "-D", "-R", "-T", "-r", "-t", "--user", "--group"),
    "env": ("-u", "-C", "-S"),
    "nice": ("-n",),
    "timeout": ("-k", "-s"),
    "flock": ("-w", "-E"),
    "nohup": (),
    "time": (),
    "exec": (),
    "stdbuf": ("-i", "-o", "-e"),
}
_OWN_OPERAND = frozenset({"timeout", "flock"})  # a duration, a lock file

_HEREDOC = re.compile(r"(<<-?\s*(['\"]?)(\w+)\2[^\n]*)\n.*?^\s*\3\s*$", re.DOTALL | re.MULTILINE)
_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\r]+|\\\n)
    | (?P<comment>(?<![^\s;&|()])\#[^\n]*)
    | (?P<redirect>&>>?|\d*(?:<<<|<<-?|>>|>\||>&|<&|<|>))
    | (?P<operator>\n|&&|\|\||;;|;|\|&?|&|\(|\))
    | (?P<word>(?:'[^']*'|"(?:\\.|[^"\\])*"|\$\((?:[^()]|\([^()]*\))*\)|\\.|[^\s;&|()<>'"\\])+)
    """,
    re.VERBOSE | re.DOTALL,
)
_QUOTED = re.compile(r"""'([^']*)'|"((?:\\.|[^"\\])*)"|\\(.)""", re.DOTALL)
_VARIABLE = re.compile(r"(\w+)=(.*)", re.DOTALL)


@dataclass(frozen=True)
class Command:
    """One program with its operands.

    Attributes:
        words: program and operands without quotes; sudo, env, timeout and the like are stripped.
        variables: assignments before the program, or by `export`.
        appends: the files after `>>`.
        as_root: run by sudo or su as root.
        is_guarded: runs only after a test, or its failure is allowed for (`||`).
        decides: its failure is the failure of the whole text.
    """

    words: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    appends: tuple[str, ...] = ()
    as_root: bool = False
    is_guarded: bool = False
    decides: bool = True

    @property
    def program(self) -> str:
        """The name of the program without its folder; empty for an assignment."""
        return self.words[0].rpartition("/")[2] if self.words else ""

    @property
    def text(self) -> str:
        """The words, with quotes around those that need them."""
        return " ".join(f"'{word}'" if re.search(r"[\s;&|<>()]", word) else word for word in self.words)

    def has_option(self, *names: str) -> bool:
        """Whether an option is given, as `--name`, `--name=value`, `-n`, or among several letters (`-pv`)."""
        for word in self.words[1:]:
            if word.split("=")[0] in names:
                return True
            letters = word[1:] if re.fullmatch(r"-[a-zA-Z]+", word) else ""
            if any(len(name) == 2 and name[1] in letters for name in names):
                return True
        return False

    def operands(self, with_value: tuple[str, ...] = ()) -> list[str]:
        """Return the words after the program without options and without the values of the options `with_value`."""
        found, skip = [], False
        for word in self.words[1:]:
            if skip:
                skip = False
            elif word.startswith("-") and word != "-":
                skip = word in with_value
            else:
                found.append(word)
        return found


def commands(text: str) -> list[Command]:
    """Return the simple commands of a text in order, those inside `bash -c "..."` included."""
    text = _HEREDOC.sub(r"\1", text)
    lists = list(_lists(text))
    stops_early = bool(re.search(r"\bset\s+-\w*e|errexit", text))
    may_have_ended = False  # after a test and `exit`, as in `[ -d FOLDER ] && exit 0`
    found: list[Command] = []
    for number, (members, is_conditional) in enumerate(lists):
        tested = is_conditional or may_have_ended
        for member in members:
            decides = stops_early or number == len(lists) - 1
            expanded = list(_unwrapped(replace(member, is_guarded=tested, decides=decides)))
            found += expanded
            may_have_ended |= tested and member.words[:1] == ("exit",)
            tested = tested or any(command.program in TESTS | _ALSO_TESTS for command in expanded)
    return found


def _lists(text: str) -> Iterator[tuple[list[Command], bool]]:
    """Yield the lists of commands between `;`, with whether the list has an alternative (`||`) or a condition."""
    members: list[Command] = []
    words: list[str] = []
    appends: list[str] = []
    depth, is_conditional, redirect = 0, False, ""
    for token in [*_TOKEN.finditer(text), None]:
        kind, value = (str(token.lastgroup), token.group()) if token else ("operator", "\n")
        if kind == "redirect":
            redirect = value
        elif kind == "word" and redirect:
            appends += [_unquoted(value)] if redirect.endswith(">>") else []
            redirect = ""
        elif kind == "word" and not words and value in _OPENS | _CLOSES | _SKIPPED:
            depth += (value in _OPENS) - (value in _CLOSES)
            is_conditional |= value in _OPENS and value != "{"
            words += [value] if value in ("for", "case") else []
        elif kind == "word":
            words.append(_unquoted(value))
        elif kind == "operator":
            if words or appends:
                members.append(Command(tuple(words), appends=tuple(appends)))
            words, appends, redirect = [], [], ""
            depth += (value == "(") - (value == ")")
            is_conditional |= value == "||"
            if depth <= 0 and value in (";", "\n", "&") and members:
                yield members, is_conditional
                members, is_conditional = [], False
    if members:
        yield members, is_conditional


def _unwrapped(command: Command) -> Iterator[Command]:
    """Yield a command without the programs that only run it; those of a nested shell text one by one."""
    words, variables, as_root = list(command.words), dict(command.variables), command.as_root
    while words:
        name = words[0].rpartition("/")[2]
        if assignment := _VARIABLE.fullmatch(words[0]):
            variables[assignment[1]] = assignment[2]
            words = words[1:]
        elif name == "export":
            variables |= {pair[1]: pair[2] for word in words[1:] if (pair := _VARIABLE.fullmatch(word))}
            break
        elif name in _WRAPPERS and len(words) > 1:
            as_root |= name == "sudo" and not _other_user(words)
            words = _after_wrapper(words, _WRAPPERS[name])
            words = words[1:] if name in _OWN_OPERAND else words
        else:
            break
    command = replace(command, words=tuple(words), variables=variables, as_root=as_root)
    nested = _nested_text(command)
    if nested is None:
        yield command
        return
    for inner in commands(nested):
        yield replace(
            inner,
            variables={**variables, **inner.variables},
            as_root=inner.as_root or as_root or (command.program == "su" and not command.operands(("-c",))[1:]),
            is_guarded=inner.is_guarded or command.is_guarded,
            decides=inner.decides and command.decides,
        )


def _after_wrapper(words: list[str], with_value: tuple[str, ...]) -> list[str]:
    place = 1
    while place < len(words) and words[place].startswith("-"):
        place += 2 if words[place] in with_value else 1
    return words[place:]


def _other_user(words: list[str]) -> bool:
    users = [after for word, after in pairwise(words) if word in ("-u", "--user")]
    return bool(users) and users[0] != "root"


def _nested_text(command: Command) -> str | None:
    if command.program == "eval":
        return " ".join(command.words[1:])
    if command.program in _SHELLS:
        for word, after in pairwise(command.words):
            if re.fullmatch(r"-[a-z]*c|--command", word):
                return after
    return None


def _unquoted(word: str) -> str:
    def content(found: re.Match[str]) -> str:
        single, double, escaped = found.groups()
        if double is not None:
            return re.sub(r'\\(["\\$`\n])', r"\1", double)
        return str(single if single is not None else escaped)

    return _QUOTED.sub(content, word)

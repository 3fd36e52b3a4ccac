"""Shell texts are divided into their simple commands."""

import pytest

from raygrid.study.cluster_file.shell import commands


def words(text: str) -> list[str]:
    return [" ".join(command.words) for command in commands(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a; b && c || d | e &", ["a", "b", "c", "d", "e"]),
        ("a \\\n  b\nc # d; e\n# f\n", ["a b", "c"]),
        ("echo 'a; b' \"c && d\" e\\ f", ["echo a; b c && d e f"]),
        ("pip install 'git+https://host/x#egg=y' z#w", ["pip install git+https://host/x#egg=y z#w"]),
        ("cat <<EOF > file\nmkdir x\nEOF\nls", ["cat", "ls"]),
        ("cat > file <<-'END'\n\tmkdir x\n\tEND\nls", ["cat", "ls"]),
        ("a > out 2>&1 &> both < in", ["a"]),
        ("sudo -E -u root env A=1 timeout -k 5 60 nice -n 5 b c", ["b c"]),
        ("flock -w 9 /tmp/lock b", ["b"]),
        ('sudo bash -lc "a && b \\"c d\\""', ["a", "b c d"]),
        ("bash -c 'sh -c \"a; b\"'; eval 'c; d'", ["a", "b", "c", "d"]),
        ("su - ubuntu -c 'pip install x'", ["pip install x"]),
        ("if [ -d a ]; then b; else c; fi", ["[ -d a ]", "b", "c"]),
        ("{ a; b; } || (c; d)", ["a", "b", "c", "d"]),
        ("echo $(date; ls) `x`", ["echo $(date; ls) `x`"]),
        ("echo 'never closed", ["echo never closed"]),
        ("", []),
    ],
)
def test_simple_commands(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", False),
        ("b; a", False),
        ("b && a", False),
        ("[ -d x ] && a", True),
        ("[ -d x ]; a", False),
        ("a || true", True),
        ("(a; b) || true", True),
        ("{ a; b; } || true", True),
        ("if b; then a; fi", True),
        ("if b; then c; fi; a", False),
        ("! grep -q x y && a", True),
        ("command -v x > /dev/null || { b && a; }", True),
        ("mountpoint -q /x || sudo bash -c 'a'", True),
        ("bash -c '[ -d x ] || a'", True),
    ],
)
def test_guards(text: str, expected: bool) -> None:
    (guarded,) = (command.is_guarded for command in commands(text) if command.program == "a")
    assert guarded == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a", True), ("b; a", True), ("a; b", False), ("set -e; a; b", True), ("set -euo pipefail\na\nb", True)],
)
def test_whose_failure_is_the_failure_of_the_text(text: str, expected: bool) -> None:
    (decides,) = (command.decides for command in commands(text) if command.program == "a")
    assert decides == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a", False), ("sudo a", True), ("sudo -u ubuntu a", False), ("sudo -u root a", True), ("su -c a", True)],
)
def test_root(text: str, expected: bool) -> None:
    (command,) = commands(text)
    assert command.as_root == expected


def test_variables_and_appended_files() -> None:
    one, two, three = commands("export A=1 B='2 3'; C=4 b >> file; D=5")
    assert one.variables == {"A": "1", "B": "2 3"}
    assert (two.variables, two.appends) == ({"C": "4"}, ("file",))
    assert (three.program, three.variables) == ("", {"D": "5"})


def test_options() -> None:
    (command,) = commands("mkdir -pv -m 755 --mode=700 folder")
    assert command.has_option("-p", "--parents")
    assert command.has_option("--mode")
    assert not command.has_option("-r")
    assert command.operands(("-m",)) == ["folder"]

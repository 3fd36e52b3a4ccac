"""Damage to files for fuzzing: edits of bytes at any place, and texts that readers often take for something else."""

from collections.abc import Sequence

from hypothesis import strategies as st

Edit = tuple[str, int, int, bytes]  # kind, position, length, bytes

TEXTS = (
    *("", " ", "0", "1", "-1", "1.0", "00", "01", "1e999", "-0", "nan", "NaN", "None", "<NA>", "inf", "0x1", "1_0"),
    *("true", "FALSE", "²", "١", "１", "½", "é", "e\u0301", "\u202e1", "1\u200b", "\ufeff1", "\xa01", "\x85", "\u2028"),
    *(
        "\0",
        "1\0",
        "\x1b[31m",
        "\r",
        "\n",
        "a\nb",
        '"',
        '""',
        "'",
        ",",
        ";",
        "\t",
        "\\",
        "=1+1",
        "%s",
        "{0}",
        "9" * 400,
    ),
    *("../x", "/etc/passwd", "C:\\x", "a/../b", "./a", "a//b", "a/", "x" * 300, "x" * 200_000),
)
BYTES = (b"", b"\0", b"\xff", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80", b"\0\0\0\0", b"\r\n", b'"', b",")


def texts() -> st.SearchStrategy[str]:
    """Any short text without surrogates, or one of TEXTS."""
    return st.sampled_from(TEXTS) | st.text(st.characters(codec="utf-8"), max_size=6)


def edits(longest: int, most: int = 4) -> st.SearchStrategy[list[Edit]]:
    """A few edits of a file of at most `longest` bytes, mostly near its start or its end."""
    place = st.integers(0, longest) | st.integers(0, 64) | st.integers(-64, -1)
    return st.lists(
        st.tuples(
            st.sampled_from(("flip", "write", "insert", "delete", "repeat", "cut", "swap", "zero")),
            place,
            st.integers(1, 64),
            st.sampled_from(BYTES) | st.binary(max_size=6),
        ),
        max_size=most,
    )


def edited(content: bytes, changes: Sequence[Edit]) -> bytes:
    """Return the content after the edits."""
    for kind, position, length, data in changes:
        at = position % (len(content) + 1)
        before, after = content[:at], content[at:]
        match kind:
            case "flip":
                content = before + bytes(b ^ (1 << length % 8) for b in after[:1]) + after[1:]
            case "write":
                content = before + data + after[len(data) :]
            case "insert":
                content = before + data + after
            case "delete":
                content = before + after[length:]
            case "repeat":
                content = before + after[:length] * 2 + after[length:]
            case "cut":
                content = before
            case "swap":
                content = after + before
            case "zero":
                content = before + bytes(len(after[:length])) + after[length:]
    return content

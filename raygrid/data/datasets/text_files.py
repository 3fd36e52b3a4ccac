"""The text of label files, lists and split files; a file of another kind is named in the error."""

import io
import re
from pathlib import Path

from raygrid.data.images.kinds import NUM_START_BYTES, image_kind_of
from raygrid.data.images.kinds import kind_of as kind_beside_images
from raygrid.errors import DataError

_SAVE = "save it as CSV UTF-8, separated by commas"
_KINDS: tuple[tuple[bytes, str, str], ...] = (  # first bytes, kind, remedy
    (b"PK\x03\x04", "an Excel workbook or another ZIP archive", f"open it and {_SAVE}"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook (.xls)", f"open it and {_SAVE}"),
    (b"PAR1", "a Parquet file", "rename it to .parquet"),
    (b"\x1f\x8b", "a gzip archive", "unpack it"),
    (b"%PDF", "a PDF document", f"export its table and {_SAVE}"),
    (b"\x89HDF", "an HDF5 file", f"export its table and {_SAVE}"),
    (b"\x93NUMPY", "a NumPy array", f"export it and {_SAVE}"),
    (b"version https://git-lfs", "a Git LFS pointer instead of the file", "run git lfs pull"),
    (b"/annex/objects/", "a git-annex pointer instead of the file", "run git annex get"),
)
_MAGIC = {".npz": b"PK", ".h5": b"\x89HDF"}
_PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype|html|head|\?xml|!--)", re.IGNORECASE)
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x19\x1b-\x1f]")  # in no text; \x1a ended files of DOS
_LINE_END = re.compile(rb"\r\n|\r|\n")


def read_text(path: Path, expected: str) -> str:
    """Return the text of a file, in UTF-8, without a byte order mark.

    Args:
        expected: the content of a sound file, for messages: "a CSV file in UTF-8".

    Raises DataError, which names the kind of the file, if it is no such text or cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: expected {expected}, got {type(error).__name__}: {error}; choose a readable file"
        ) from error
    return text_of(content, path, expected)


def text_of(content: bytes, path: Path, expected: str) -> str:
    """Return the text of `content`, the bytes of `path`, by the rules of `read_text`."""
    kind, remedy = kind_of(content)
    if not kind:
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            byte = content[error.start : error.start + 1]
            row = len(_LINE_END.findall(content[: error.start])) + 1
            shown = byte.decode("cp1252", errors="replace")
            kind = f"the byte 0x{byte.hex()} in row {row} ({shown!r} if it is Windows-1252)"
            remedy = "save it as CSV UTF-8, or as UTF-8 text"
    raise DataError(f"{path}: expected {expected}, got {kind}; {remedy}")


def what_is(path: Path) -> str:
    """Return the kind of a file that no reader of archives opens, for the end of a message; "" if it is not clear."""
    try:
        with open(path, "rb") as file:
            start = file.read(NUM_START_BYTES)
    except OSError:
        return ""
    if not start:
        return "; the file is empty (0 bytes)"
    if not start.strip(b"\0"):
        return "; the file begins with zeros, usually after an unfinished copy"
    if start.startswith(_MAGIC.get(path.suffix.lower(), b"\0")):
        return "; the file is cut off or damaged"
    kind = kind_of(start)[0]
    return f"; the file is {kind}" if kind else ""


def lines_of(text: str) -> list[str]:
    """Return the lines of a text, without their ends; only CR, LF or both end a line."""
    return io.StringIO(text, newline=None).read().split("\n")


def kind_of(content: bytes) -> tuple[str, str]:
    """Return the kind of a file that is no UTF-8 text, and a remedy for a table; "" and "" for any other.

    Args:
        content: the bytes of the file, or the first hundreds of them.
    """
    for start, kind, remedy in _KINDS:
        if content.startswith(start):
            return kind, remedy
    if _PAGE.match(content):
        return "a web page or XML", "download the file itself"
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "text in UTF-16, as Excel saves 'Unicode text'", _SAVE
    zeros = content.count(0)
    if content and zeros == len(content):
        return f"{zeros} zeros, usually from an unfinished copy", "copy or download it again"
    if _CONTROL.search(content[:NUM_START_BYTES]) and (binary := _binary_kind(content[:NUM_START_BYTES])):
        return binary, "use the table or list itself"
    if 4 * zeros > len(content):
        return "text in UTF-16 without a byte order mark, or binary data", _SAVE
    return "", ""


def _binary_kind(start: bytes) -> str:
    """Return the kind of a file of bytes, not text; "" if its start does not tell."""
    if start[128:132] == b"DICM":
        return "a DICOM file"
    image = image_kind_of(start)
    return f"a {image} image" if image else kind_beside_images(start)[0]

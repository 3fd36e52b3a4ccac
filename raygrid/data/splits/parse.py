"""Reading split files: the images or patients that a YAML, CSV or text file names, each with its line number."""

import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from raygrid.data.datasets.label_files import named_lines, rows_of
from raygrid.data.datasets.text_files import lines_of, text_of
from raygrid.errors import DataError, MissingDataError, unknown_name

YAML_ROLES = {"trainIDs": "train", "valIDs": "validation", "testIDs": "test"}  # the paper's published files
LIST_ROLES = tuple(YAML_ROLES.values())
LIST_COLUMNS = ("image", "role")
_SUFFIXES = (".yml", ".yaml", ".csv", ".txt")
# This loader keeps every value as text: any other would read 00000013_010 without quotes as the number 4104.
_LOADER: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_MOST_BYTES = 32 * 2**20  # of a split file; the list of all 112,120 images of ChestX-ray14 has 2 MB
_DEEPEST = 8  # brackets in brackets; a split file needs 2


@dataclass(frozen=True)
class SplitFile:
    """The content of a split file.

    Attributes:
        path: the file that was read.
        text: its text, decompressed and without a byte order mark.
    """

    path: Path
    text: str

    @property
    def is_yaml(self) -> bool:
        """Whether the file name has the extension of a YAML file."""
        return _suffix(self.path) in (".yml", ".yaml")


@dataclass(frozen=True)
class Entry:
    """One image that a split file names.

    Attributes:
        line: line number in the file, from 1.
        role: train, validation or test.
        name: name of the image, as in the file.
    """

    line: int
    role: str
    name: str


def read_split_files(files: Mapping[str, str], data_root: Path) -> dict[str, SplitFile]:
    """Return the content of each file of `SplitSpec.files`; `.gz` files are decompressed.

    Raises MissingDataError, which lists all missing files, or DataError if a file is not UTF-8 text or its name has an
    unknown extension.
    """
    paths = {name: data_root / path for name, path in files.items()}
    absent = missing_split_files(files, data_root)
    if absent:
        raise MissingDataError(*absent)
    return {name: SplitFile(path, _text(path)) for name, path in paths.items()}


def missing_split_files(files: Mapping[str, str], data_root: Path) -> list[str]:
    """Return one line for each missing file of `SplitSpec.files`, with near misses."""
    return [_absent(name, data_root / path) for name, path in files.items() if not (data_root / path).is_file()]


def content_hashes(files: Mapping[str, SplitFile]) -> dict[str, str]:
    """Return name -> SHA-256 (hex) of each file's text, which depends on neither its path nor its compression."""
    return {name: hashlib.sha256(file.text.encode()).hexdigest() for name, file in files.items()}


def entries_of(file: SplitFile, role: str | None) -> list[Entry]:
    """Return the images that a file names, in the order of the file.

    A file of one `role` is a list: one name per line, or a CSV with a column `image`. A file of all roles
    (`role=None`) is YAML with the lists `trainIDs`, `valIDs` and optionally `testIDs`, or a CSV with the columns
    `image` and `role` (train, validation, test). Other columns are ignored.

    Raises DataError if the file has another structure, an unknown role, an empty list or an empty name.
    """
    entries = _of_one_role(file, role) if role else list(_from_yaml(file) if file.is_yaml else _from_table(file))
    for needed in [role] if role else ["train", "validation"]:
        if not any(e.role == needed for e in entries):
            raise DataError(f"{file.path}: expected at least one image for {needed}, got none; add the images")
    for entry in entries:
        if not entry.name:
            raise DataError(
                f"{file.path}, line {entry.line}: expected the name of an image, got nothing; delete the entry"
            )
    return entries


def read_table(file: SplitFile, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line, values) for each row of a CSV file with a header that has `columns`; other columns are ignored.

    Raises DataError as `raygrid.data.datasets.label_files.rows_of` does.
    """
    yield from rows_of(io.StringIO(file.text, newline=""), file.path, columns, exact=True)


def _from_table(file: SplitFile) -> Iterator[Entry]:
    for line, values in read_table(file, LIST_COLUMNS):
        role = values["role"].strip()
        if role not in LIST_ROLES:
            raise DataError(f"{file.path}, line {line}: {unknown_name('role', role, LIST_ROLES)}")
        yield Entry(line, role, values["image"].strip())


def _of_one_role(file: SplitFile, role: str) -> list[Entry]:
    if file.is_yaml:
        raise DataError(
            f"{file.path}: expected a list of {role} images (.csv, .txt), got YAML, which holds all roles; "
            "declare it for the whole split: 'd1' instead of 'd1/train'"
        )
    header = lines_of(file.text)[0]
    if any(mark in header for mark in ",;\t") or header.strip() == "image":
        return [Entry(line, role, values["image"].strip()) for line, values in read_table(file, ["image"])]
    return [Entry(number, role, name) for number, name in named_lines(file.text, file.path)]


def _from_yaml(file: SplitFile) -> Iterator[Entry]:
    shape = f"lists named {', '.join(YAML_ROLES)}"
    try:
        _require_shallow(file, shape)
        root = yaml.compose(file.text, Loader=_LOADER)
    except yaml.YAMLError as error:
        raise DataError(f"{file.path}: expected YAML, got {' '.join(str(error).split())}; correct the line") from error
    if not isinstance(root, yaml.MappingNode):
        raise DataError(
            f"{file.path}: expected {shape}, got {'an empty file' if root is None else 'another structure'}; "
            "correct the file"
        )
    seen: set[str] = set()
    for key, node in root.value:
        line, name = key.start_mark.line + 1, key.value if isinstance(key, yaml.ScalarNode) else "a structure"
        if name not in YAML_ROLES:
            raise DataError(f"{file.path}, line {line}: expected {shape}; {unknown_name('list', name, YAML_ROLES)}")
        if name in seen:  # yaml.load would keep the last list and drop the others without a message
            raise DataError(f"{file.path}, line {line}: expected one list {name}, got a second one; join the two")
        seen.add(name)
        if not isinstance(node, yaml.SequenceNode):
            got = repr(node.value) if isinstance(node, yaml.ScalarNode) else "another structure"
            raise DataError(f"{file.path}, line {line}: expected a list under {name}, got {got}; correct it")
        for item in node.value:
            if not isinstance(item, yaml.ScalarNode):
                raise DataError(
                    f"{file.path}, line {item.start_mark.line + 1}: expected the name of an image, got a structure; "
                    "correct the line"
                )
            yield Entry(item.start_mark.line + 1, YAML_ROLES[name], item.value)


def _require_shallow(file: SplitFile, shape: str) -> None:
    """Raise DataError for brackets in brackets in brackets: `yaml.compose` calls itself for each, until it crashes."""
    depth = 0
    events: Iterator[Any] = yaml.parse(file.text, Loader=_LOADER)
    for event in events:
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise DataError(
                f"{file.path}, line {event.start_mark.line + 1}: expected {shape}, got {depth} nested "
                "structures; correct the line"
            )


def _absent(name: str, path: Path) -> str:
    beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    hint = unknown_name("file", path.name, beside) if beside else f"the folder {path.parent} does not exist either"
    return f"looked for {path} (split file {name!r}): not found; {hint}. Paths are relative to the data root"


def _text(path: Path) -> str:
    if _suffix(path) not in _SUFFIXES:
        raise DataError(
            f"{path}: expected a split file with the extension {', '.join(_SUFFIXES)}, optionally followed by .gz; "
            "rename the file"
        )
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            content = file.read(_MOST_BYTES + 1)  # a few kB can unpack to many GB
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: expected UTF-8 text, got {type(error).__name__}: {error}; re-download it") from error
    if len(content) > _MOST_BYTES:
        raise DataError(f"{path}: expected at most {_MOST_BYTES // 2**20} MiB of names, got more; name a split file")
    return text_of(content, path, "UTF-8 text")


def _suffix(path: Path) -> str:
    return (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()

"""Helpers of the loaders of real data sets: label files, lists, image files, folders, options."""

import csv
import io
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from raygrid.data.damage import DamagedFileError
from raygrid.data.datasets.base import INDEX_COLUMNS, Reject
from raygrid.data.datasets.nearest_files import IMAGE_SUFFIXES
from raygrid.data.datasets.text_files import lines_of, read_text
from raygrid.errors import DataError, MissingDataError, SpecError, did_you_mean, listed, unknown_name
from raygrid.spec import DatasetSpec

_RESERVED = {*INDEX_COLUMNS, "image", "images", "patients", "split", "role"}  # columns of samples and of their counts
_MOST_TEXT = 200  # characters of a damaged row that an error message shows


def check_spec(spec: DatasetSpec, channels: Collection[int], options: Collection[str]) -> None:
    """Raise SpecError if `spec` has other channels than one of `channels`, or an option outside `options`."""
    if spec.channels not in channels:
        wanted = " or ".join(map(str, channels))
        raise SpecError(
            f"data set {spec.loader!r}: channels is {spec.channels}, expected {wanted}; set channels={wanted}"
        )
    for name in spec.options:
        if name not in options:
            raise SpecError(f"data set {spec.loader!r}: {unknown_name('option', name, options)}")


def read_rows(
    path: Path, columns: Sequence[str], optional: Sequence[str] = (), *, exact: bool = False
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield (place, values) for each row of a CSV file with a header; `place` is "file, row n" for messages.

    Row 1 is the header. Values are stripped of blanks; a byte order mark and any line ending are accepted, and so are
    blank lines and, after the last row, empty rows of commas.

    Args:
        columns: names of the columns to read.
        optional: columns to read where the file has them.
        exact: whether a row longer than the header is an error.

    Raises DataError if a column is absent or occurs twice, a row is too short or empty between others, a quote is not
    closed, or the file is not UTF-8 text.
    """
    text = read_text(path, "a CSV file in UTF-8")
    for row, values in rows_of(io.StringIO(text, newline=""), path, columns, optional, exact=exact):
        yield f"{path}, row {row}", {name: value.strip() for name, value in values.items()}


def rows_of(
    lines: Iterable[str], path: Path, columns: Sequence[str], optional: Sequence[str] = (), *, exact: bool = False
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (row number, values) for each row of CSV text, by the rules of `read_rows`, but with blanks kept.

    Error messages name `path` as the file.

    Raises DataError if a column is missing or repeated, a row is too short or empty between others, or a quote is not
    closed.
    """
    number, empty = 1, 0
    reader = csv.reader(lines, strict=True)  # else a stray quote swallows rows in silence
    try:
        header = [name.replace("\ufeff", "").strip() for name in next(reader, [])]  # joined files have a second mark
        places = {name: header.index(name) for name in require_columns(f"{path}, row 1", header, columns, optional)}
        while True:
            number = reader.line_num + 1
            row = next(reader, None)
            if row is None:
                return
            if not any(cell.strip() for cell in row):
                empty = empty or number * (len(row) > 1)  # Excel ends files with rows of commas
                continue
            if empty:
                raise DataError(
                    f"{path}, row {empty}: expected values, got an empty row between others; delete the row"
                )
            if len(row) < len(header) or (exact and any(row[len(header) :])):
                shown = str(row)[:_MOST_TEXT]
                raise DataError(
                    f"{path}, row {number}: expected {len(header)} values, got {len(row)}: {shown}; repair the row"
                )
            yield number, {name: row[i] for name, i in places.items()}
    except csv.Error as error:
        remedy = "close or double the quotes in this row"
        if number == 1 and "expected after" in str(error):  # "image";"patient"
            remedy += ", and separate the values by commas"
        raise DataError(f"{path}, row {number}: expected CSV, got {error}; {remedy}") from error


def require_columns(
    place: str, header: Sequence[str], columns: Sequence[str], optional: Sequence[str] = ()
) -> tuple[str, ...]:
    """Return `columns` and the `optional` ones in `header`. Raises DataError if one is absent or occurs twice."""
    absent = [name for name in columns if name not in header]
    if absent:
        hint = _hint(absent[0], header) or did_you_mean(absent[0], header) or " add or rename them"
        raise DataError(f"{place}: expected the columns {list(columns)}, got {list(header)}; lacking {absent};{hint}")
    found = (*columns, *(name for name in optional if name in header and name not in columns))
    for name in found:
        if header.count(name) > 1:
            raise DataError(f"{place}: expected one column {name!r}, got {header.count(name)}; remove or rename one")
    return found


def _hint(absent: str, header: Sequence[str]) -> str:
    """Return the remedy for a header that is no list of names separated by commas; "" if it is one."""
    if header and not any(header):
        return " delete the empty rows above the names of the columns"
    line = ",".join(header)
    if line.lower().startswith("sep="):
        return " delete this line, which only Excel reads, and separate the values by commas"
    if line.startswith("#"):
        return " delete the lines above the names of the columns"
    for mark in ";\t| " if len(header) == 1 else ";\t|":
        if absent in (name.strip(' "') for name in line.split(mark)):
            return f" separate the values by commas instead of {mark!r}"
    if any(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in header):
        return " insert a first row with the names of the columns"
    if "__index_level_0__" in header:
        return " the index of the pandas frame has no name; call reset_index() and name the column before you write it"
    return ""


def named_lines(text: str, path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number, name) for each line of a list; blank lines and separators after the last name are left out.

    Raises DataError, which names `path`, if a line between names has only separators.
    """
    empty = 0
    for number, line in enumerate(lines_of(text), start=1):
        name = line.strip()
        if not name.strip(',;\t "'):
            empty = empty or number * bool(name)
            continue
        if empty:
            raise DataError(
                f"{path}, line {empty}: expected the name of an image, got an empty row between others; delete the row"
            )
        yield number, name


def read_names(path: Path) -> list[str]:
    """Return the non-empty lines of a list file.

    Raises DamagedFileError if it is empty, DataError if it is not UTF-8 text or a name occurs twice.
    """
    names = [name for _, name in named_lines(read_text(path, "one file name per line in UTF-8"), path)]
    if not names:
        raise DamagedFileError(f"{path}: expected one file name per line, got an empty file")
    seen: set[str] = set()
    repeated = [name for name in names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
    if repeated:
        raise DataError(
            f"{path}: {len(repeated)} names occur twice in the list: {listed(repeated)}; remove the repeated lines"
        )
    return names


def file_sizes(folder: Path, suffixes: Collection[str]) -> dict[str, int]:
    """Return name -> size in bytes, sorted by name, of the files directly in `folder` with one of `suffixes`.

    Suffixes are in lower case, with the dot.
    """
    with os.scandir(folder) as entries:
        found = {e.name: e.stat().st_size for e in entries if Path(e.name).suffix.lower() in suffixes and e.is_file()}
    return dict(sorted(found.items()))


def absent_paths(paths: Sequence[Path], advice: str) -> list[str]:
    """Return one line for each absent path, then `advice`; empty if all paths exist."""
    lines = [f"looked for {path}: not found" for path in paths if not path.exists()]
    return [*lines, advice] if lines else []


def require_all(lines: Sequence[str]) -> None:
    """Raise MissingDataError with `lines` (of `Dataset.missing`) unless there are none."""
    if lines:
        raise MissingDataError(*lines)


def path_inside(data_root: Path, option: str, value: object) -> Path:
    """Return the file of an option, a path in the data root. Raises SpecError if the path leads elsewhere."""
    if not isinstance(value, str) or not value or leaves_folder(value):
        raise SpecError(
            f"option {option} is {value!r}; expected a file's path relative to {data_root}, with / and without .."
        )
    return data_root / value


def leaves_folder(path: str) -> bool:
    """Return whether a path could leave its folder: absolute, with `..`, or in the notation of Windows."""
    return path.startswith("/") or "\\" in path or "\0" in path or ":" in path[:2] or ".." in path.split("/")


def check_labels(option: object) -> tuple[str, ...]:
    """Return the option `labels`. Raises SpecError unless it lists unique names, none of them a column of the index."""
    if isinstance(option, str) or not isinstance(option, (list, tuple)) or not option:
        raise SpecError(f"option labels is {option!r}; expected a list of at least one name")
    for name in option:
        if not isinstance(name, str) or not name.strip() or name in _RESERVED:
            raise SpecError(f"option labels holds {name!r}; expected a name other than {', '.join(sorted(_RESERVED))}")
    if len(set(option)) < len(option):
        raise SpecError(f"option labels is {option!r}; expected each name once")
    return tuple(option)


def size_of(path: Path) -> int | None:
    """Return the size of a file in bytes, None if the path is absent or no regular file."""
    try:
        info = path.stat()
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return None
    return info.st_size if stat.S_ISREG(info.st_mode) else None


def unusable_file(path: Path, size: int | None, remedy: str) -> str:
    """Return why a file of `size` bytes (None: no such file) cannot be an image, with `remedy`; empty if it can."""
    if size:
        return ""
    got = "no such file" if size is None else "an empty file (0 bytes)"
    return f"{path}: expected an image file, got {got}; {remedy}"


def require_some_images(rejects: Sequence[Reject], named: int, where: Path, advice: str) -> tuple[Reject, ...]:
    """Return `rejects`, the first with `advice`: an error about too many rejects lists the first ones.

    Raises MissingDataError if all of the `named` images are rejects.
    """
    if not rejects:
        return ()
    if len(rejects) == named:
        names = listed([reject.image_id for reject in rejects])
        raise MissingDataError(
            f"none of the {named} images named by the label files is in {where}, the first are {names}", advice
        )
    first = Reject(rejects[0].image_id, f"{rejects[0].reason}. {advice}")
    return (first, *rejects[1:])

"""The rows of a Parquet table as text, as in a CSV file; columns of other kinds than text and numbers are refused."""

from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as kinds

from raygrid.data.datasets.label_files import require_columns
from raygrid.data.datasets.text_files import read_text
from raygrid.errors import DataError, RaygridError

_MAGIC, _ENCRYPTED = b"PAR1", b"PARE"  # first and last bytes of a Parquet file
_BATCH = 10_000  # rows


def read_parquet_rows(
    path: Path, columns: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield (place, values) for each row, by the rules of `raygrid.data.datasets.label_files.read_rows`.

    `place` is "file, row n", and row 1 the first one. Missing values and not-a-number are empty texts.

    Raises DataError if the file is no whole Parquet file, a column is absent or occurs twice, or a column holds neither
    text nor numbers.
    """
    _check_file(path)
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            found = require_columns(str(path), file.schema_arrow.names, columns, optional)
            for name in found:
                _check_column(path, name, file.schema_arrow.field(name).type)
            numbers = count(1)
            for batch in file.iter_batches(_BATCH, columns=list(found)):  # billions of equal rows take a few kB
                table = batch.to_pydict()
                for cells in zip(*table.values(), strict=True):
                    yield f"{path}, row {next(numbers)}", dict(zip(table, map(_cell, cells), strict=True))
    except RaygridError:
        raise
    except Exception as error:  # ArrowException, OSError, ValueError, OverflowError, NotImplementedError, ...
        got = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise DataError(f"{path}: expected a Parquet file, got {got}; write the file again") from error


def _check_file(path: Path) -> None:
    """Raise DataError if `path` is a folder, or its first and last bytes are not those of a Parquet file."""
    if path.is_dir():
        count = len(list(path.glob("*.parquet")))
        raise DataError(
            f"{path}: expected a Parquet file, got a folder with {count} of them; write one file, such as "
            "pandas.read_parquet(folder).to_parquet(file)"
        )
    with open(path, "rb") as file:
        start = file.read(4)
        file.seek(-min(4, path.stat().st_size), 2)
        end = file.read(4)
    if _ENCRYPTED in (start, end):
        raise DataError(f"{path}: expected a Parquet file, got an encrypted one; write it without encryption")
    if not start:
        raise DataError(f"{path}: expected a Parquet file, got an empty file (0 bytes); copy or write it again")
    if start != _MAGIC:
        read_text(path, "a Parquet file")
        raise DataError(f"{path}: expected a Parquet file, got text; rename it to .csv, or write it as Parquet")
    if end != _MAGIC:
        raise DataError(f"{path}: expected a Parquet file, got one that is cut off; copy or write it again")


def _check_column(path: Path, name: str, kind: pa.DataType) -> None:
    """Raise DataError, with the way to convert the column, unless it holds text, numbers or truth values."""
    inner = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    inner = inner.value_type if kinds.is_dictionary(inner) else inner
    binaries = (kinds.is_binary, kinds.is_large_binary, kinds.is_fixed_size_binary, kinds.is_binary_view)
    if any(is_one(inner) for is_one in binaries):
        remedy = f"write it as text, such as table[{name!r}].str.decode('utf-8') in pandas"
    elif kinds.is_temporal(inner):
        remedy = "write it as text or whole numbers"
    elif kinds.is_nested(inner):
        remedy = "write one value per row and column"
    else:
        return
    raise DataError(f"{path}: expected text or numbers in column {name!r}, got {kind}; {remedy}")


def _cell(value: object) -> str:
    """Return a value as text, as in a CSV file; None and not-a-number are empty."""
    return "" if value is None or value != value else str(value).strip()

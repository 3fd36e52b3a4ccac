"""Tables of a user's own images, CSV and Parquet: damaged cells, headers, types, encodings and bytes."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from byte_edits import Edit, edited, edits, texts
from fuzzing import Fuzz, few_changes, outcome
from hypothesis import strategies as st
from sound_index import require_sound

from raygrid.data.datasets import Index, open_dataset
from raygrid.spec import DatasetSpec

HEADER = ["image", "patient", "mass", "cyst", "split"]
ROWS = [
    ["a.png", "p1", "0", "1", "train"],
    ["b.png", "p1", "1", "0", "train"],
    ["sub/c.png", "p2", "0", "0", "val"],
    ["d.png", "p3", "1", "1", "test"],
    ["absent.png", "p4", "0", "0", "test"],
]
TRUTH = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}
_KEYED: Any = pa.map_(pa.string(), pa.int8())
TYPES: dict[str, tuple[Any, list[Any]]] = {
    "text": (pa.string(), ["0", "1", "", "nan", "a.png", None, "\0", "p\n1", "x" * 5000]),
    "large text": (pa.large_string(), ["0", "1", "a.png", "p1", None]),
    "bytes": (pa.binary(), [b"0", b"1", b"a.png", b"\xff", None]),
    "whole": (pa.int64(), [0, 1, 2, -1, 2**62, None]),
    "unsigned": (pa.uint64(), [0, 1, 2**64 - 1, None]),
    "real": (pa.float64(), [0.0, 1.0, float("nan"), float("inf"), 1e300, -0.0, 12.0, None]),
    "half": (pa.float16(), [0.0, 1.0, None]),
    "flag": (pa.bool_(), [True, False, None]),
    "nothing": (pa.null(), [None]),
    "decimal": (pa.decimal128(5, 2), [Decimal("0.00"), Decimal("1.00"), None]),
    "date": (pa.date32(), [date(1, 1, 1), date(9999, 12, 31), None]),
    "day": (pa.date64(), [0, 2**60, -(2**60)]),
    "time": (pa.timestamp("ns", tz="Nowhere/Land"), [0, 2**62, -(2**63), None]),
    "moment": (pa.timestamp("s"), [2**52, -(2**52), 0, datetime(2020, 1, 1)]),
    "span": (pa.duration("us"), [timedelta(1), 2**62, None]),
    "list": (pa.list_(pa.int8()), [[0], [1], [], None]),
    "struct": (pa.struct([("path", pa.string()), ("patient", pa.string())]), [{"path": "a.png", "patient": "p"}, None]),
    "map": (_KEYED, [[("a", 1)], [("a", 1), ("a", 2)], None]),
    "dictionary": (pa.dictionary(pa.int8(), pa.string()), ["0", "1", "a.png", None]),
}


@dataclass(frozen=True)
class CsvTable:
    """A table with changed cells, then rows added twice, then one cut short; then bytes are damaged."""

    cells: Mapping[tuple[int, int], str] = field(default_factory=dict)
    doubled: Sequence[int] = ()
    short: tuple[int, int] | None = None
    quoting: int = csv.QUOTE_MINIMAL
    end: str = "\n"
    encoding: str = "utf-8"
    damage: Sequence[Edit] = ()
    suffix = "csv"

    def rows(self) -> list[list[str]]:
        rows = [[self.cells.get((r, c), text) for c, text in enumerate(row)] for r, row in enumerate([HEADER, *ROWS])]
        rows += [list(rows[r]) for r in self.doubled]
        if self.short:
            rows[self.short[0]] = rows[self.short[0]][: self.short[1]]
        return rows

    def content(self) -> bytes:
        file = io.StringIO(newline="")
        csv.writer(file, quoting=self.quoting, lineterminator=self.end).writerows(self.rows())  # type: ignore[arg-type]
        return edited(file.getvalue().encode(self.encoding, errors="replace"), self.damage)

    def is_sound(self) -> bool:
        return not self.damage and self.encoding.startswith("utf-8")


@dataclass(frozen=True)
class ParquetTable:
    """A table with columns of other types and names; then bytes are damaged."""

    columns: Mapping[int, tuple[str, Sequence[int]]] = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    damage: Sequence[Edit] = ()
    suffix = "parquet"

    def content(self) -> bytes:
        arrays: list[Any] = [pa.array([row[c] for row in ROWS]) for c in range(len(HEADER))]
        for place, (kind, choices) in self.columns.items():
            form, values = TYPES[kind]
            arrays[place] = pa.array([values[choice % len(values)] for choice in choices], form)
        names = [self.names.get(place, name) for place, name in enumerate(HEADER)]
        file = io.BytesIO()
        pq.write_table(pa.Table.from_arrays(arrays, names=names), file, **self.options)
        return edited(file.getvalue(), self.damage)


ROW, COLUMN = st.integers(0, len(ROWS)), st.integers(0, len(HEADER) - 1)
CSV = few_changes(
    CsvTable,
    3,
    {},
    cells=st.dictionaries(st.tuples(ROW, COLUMN), texts(), min_size=1, max_size=3),
    doubled=st.lists(ROW, min_size=1, max_size=2),
    short=st.tuples(ROW, COLUMN),
    quoting=st.just(csv.QUOTE_ALL),
    end=st.sampled_from(("\r\n", "\r")),
    encoding=st.sampled_from(("utf-8-sig", "latin-1", "utf-16")),
    damage=edits(200),
)
OPTIONS = {
    "compression": st.sampled_from(("none", "snappy", "zstd", "gzip")),
    "row_group_size": st.sampled_from((1, 2, 100)),
    "use_dictionary": st.booleans(),
    "store_schema": st.booleans(),
}
PARQUET = few_changes(
    ParquetTable,
    2,
    {},
    columns=st.dictionaries(
        COLUMN,
        st.tuples(st.sampled_from(sorted(TYPES)), st.tuples(*[st.integers(0, 6)] * len(ROWS))),
        min_size=1,
        max_size=2,
    ),
    names=st.dictionaries(COLUMN, texts(), min_size=1, max_size=1),
    options=st.fixed_dictionaries({}, optional=OPTIONS),
    damage=edits(2000),
)


def require_the_cells(index: Index, cells: list[list[str]]) -> None:
    """Fail unless the index has the values of the cells, in the columns that the header names."""
    header = [name.strip() for name in cells[0]]
    rows = [{n: t.strip() for n, t in zip(header, row, strict=False)} for row in cells[1:] if any(map(str.strip, row))]
    assert len(index.table) + len(index.rejects) == len(rows)
    by_image = {str(Path(row["image"])): row for row in rows}
    for found in index.table.to_dict("records"):
        row: Mapping[str, str] = by_image[found["image_id"]]
        assert found["patient_id"] == row["patient"]
        assert [found["mass"], found["cyst"]] == [TRUTH[row[name].lower()] for name in ("mass", "cyst")]
        if "split" in row:
            assert found["part"] == ("test" if row["split"].lower() == "test" else "development")


def test_a_table_is_read_right_or_refused(fuzz: Fuzz, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for row in ROWS[:-1]:
        (tmp_path / row[0]).write_bytes(b"an image")

    def check(table: CsvTable | ParquetTable) -> None:
        path = tmp_path / f"table.{table.suffix}"
        path.write_bytes(table.content())
        options = {"table": path.name, "labels": ["mass", "cyst"]}
        spec = DatasetSpec(loader="table", image_size=32, channels=1, options=options)
        index = outcome(lambda: open_dataset(spec, tmp_path).index(), tmp_path)
        if index is not None:
            require_sound(index, tmp_path)
            if isinstance(table, CsvTable) and table.is_sound():
                require_the_cells(index, table.rows())

    fuzz(check, CSV | PARQUET)

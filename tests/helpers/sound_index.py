"""The rules that the index of every data set keeps, however its files are damaged."""

from pathlib import Path

from raygrid.data.datasets import Index

PARTS = {"", "development", "test"}


def require_sound(index: Index, folder: Path | None = None) -> None:
    """Fail unless ids are unique, labels are 0 or 1, parts are known and, with `folder`, each locator is a file in it.

    An image is never both in the table and a reject.
    """
    table = index.table
    assert table["image_id"].is_unique
    assert set(table["part"]) <= PARTS
    for label in index.labels:
        assert table[label].dtype == "uint8"
        assert set(table[label]) <= {0, 1}
    for column in ("image_id", "patient_id", "locator"):
        for value in table[column]:
            assert isinstance(value, str)
            assert value == value.strip()
            assert value
            value.encode()
    rejected = [reject.image_id for reject in index.rejects]
    assert len(set(rejected)) == len(rejected)
    assert not set(rejected) & set(table["image_id"])
    if folder is not None:
        for locator in table["locator"]:
            path = (folder / locator).resolve()
            assert path.is_file()
            assert path.is_relative_to(folder.resolve())

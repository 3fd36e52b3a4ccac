"""Label files and lists of the published data sets: damaged cells and bytes."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from byte_edits import Edit, edited, edits, texts
from fuzzing import Fuzz, outcome
from hypothesis import strategies as st
from small_data import make_chest, make_kaggle
from sound_index import require_sound

from raygrid.data.datasets import open_dataset
from raygrid.spec import DatasetSpec

FILES = {
    "kaggle_dr": ("trainLabels.csv", "retinopathy_solution.csv"),
    "chestxray14": ("Data_Entry_2017.csv", "train_val_list.txt", "test_list.txt"),
}
CHANNELS = {"kaggle_dr": 3, "chestxray14": 1}


@dataclass(frozen=True)
class Change:
    """Changed cells of one file, then damaged bytes."""

    file: str
    cells: Mapping[tuple[int, int], str]
    damage: Sequence[Edit]

    def apply(self, content: bytes) -> bytes:
        rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))
        for (r, c), text in self.cells.items():
            if r < len(rows) and c < len(rows[r]):
                rows[r][c] = text
        file = io.StringIO(newline="")
        csv.writer(file).writerows(rows)
        return edited(file.getvalue().encode(), self.damage)


def changes(loader: str) -> st.SearchStrategy[Sequence[Change]]:
    return st.lists(
        st.builds(
            Change,
            file=st.sampled_from(FILES[loader]),
            cells=st.dictionaries(st.tuples(st.integers(0, 4), st.integers(0, 4)), texts(), max_size=2),
            damage=st.just([]) | edits(150),
        ),
        min_size=1,
        max_size=2,
    )


@pytest.mark.parametrize("loader", FILES)
def test_label_files_are_read_or_refused(loader: str, fuzz: Fuzz, tmp_path: Path) -> None:
    root = {"kaggle_dr": make_kaggle, "chestxray14": make_chest}[loader](tmp_path)
    whole = {name: (root / name).read_bytes() for name in FILES[loader]}

    def check(made: Sequence[Change]) -> None:
        for name, content in whole.items():
            (root / name).write_bytes(content)
        for change in made:
            (root / change.file).write_bytes(change.apply(whole[change.file]))
        spec = DatasetSpec(loader=loader, image_size=32, channels=CHANNELS[loader])
        index = outcome(lambda: open_dataset(spec, tmp_path).index(), tmp_path)
        if index is not None:
            require_sound(index, root)

    fuzz(check, changes(loader))

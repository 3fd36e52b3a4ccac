"""STUDY/results/: the frames of a finished study.

auc.parquet         one row per pairing, attack, epsilon and condition: AUC, interval, influence of each patient
decisions.parquet   one row per pairing, attack, epsilon, condition and finding: sensitivity, specificity, counts
visibility.parquet  one row per surrogate, attack, epsilon and condition: perceptibility of the change
"""

from dataclasses import dataclass
from html import escape
from pathlib import Path

import pandas as pd

from raygrid.errors import StoreError
from raygrid.io.files import atomic_path
from raygrid.io.mirror import display_path
from raygrid.spec import ENSEMBLE, EXTERNAL, MODEL


@dataclass(frozen=True)
class Results:
    """The results of a study, read as pandas frames.

    Each call reads its frame again. Raises StoreError if the frame is absent or cannot be read.
    """

    path: Path

    def auc(self) -> pd.DataFrame:
        """Return the AUC frame: one row per pairing, attack, epsilon and condition."""
        return self.read("auc")

    def decisions(self) -> pd.DataFrame:
        """Return sensitivity and specificity at the operating point: one row per pairing, case and finding."""
        return self.read("decisions")

    def perceptibility(self) -> pd.DataFrame:
        """Return the mean size of the changes: one row per surrogate, attack, epsilon and condition."""
        return self.read("visibility")

    def has(self, name: str) -> bool:
        """Whether the frame `auc`, `decisions` or `visibility` has been written."""
        return self._file(name).exists()

    def read(self, name: str) -> pd.DataFrame:
        """Return the frame `auc`, `decisions` or `visibility`."""
        file, study_dir = self._file(name), self.path.parent
        if not file.exists():
            where = display_path(study_dir)
            raise StoreError(
                f"{where} has no results yet: {display_path(file)} does not exist; finish the study, or write results "
                f"of the scores so far with: raygrid report {where}"
            )
        try:
            frame = pd.read_parquet(file)
        except (OSError, ValueError) as error:  # pyarrow's errors are among them
            raise StoreError(
                f"{display_path(file)} cannot be read ({error}); write it again with: "
                f"raygrid report {display_path(study_dir)}"
            ) from error
        return _with_kinds(frame) if name == "auc" else frame

    def write(self, name: str, frame: pd.DataFrame) -> Path:
        """Write the frame `auc`, `decisions` or `visibility` atomically; return its path."""
        file = self._file(name)
        with atomic_path(file) as temporary:
            frame.to_parquet(temporary, index=False, compression="zstd")
        return file

    def _file(self, name: str) -> Path:
        return self.path / f"{name}.parquet"

    def _repr_html_(self) -> str:
        """Return the files of the folder as an HTML list, for notebooks."""
        files = sorted(path.relative_to(self.path) for path in self.path.rglob("*") if path.is_file())
        items = "".join(f"<li><code>{escape(str(file))}</code></li>" for file in files) or "<li>nothing yet</li>"
        return f"<p><code>{escape(display_path(self.path))}</code></p><ul>{items}</ul>"


def _with_kinds(auc: pd.DataFrame) -> pd.DataFrame:
    """Add surrogate_kind and target_kind to the AUC frame of a study that was made without these columns."""
    for side in ("surrogate", "target"):
        if f"{side}_kind" not in auc:
            arch = auc[f"{side}_arch"]
            kind = arch.where(arch.isin(["", ENSEMBLE, EXTERNAL]), MODEL)
            auc.insert(list(auc.columns).index(f"{side}_arch"), f"{side}_kind", kind)
    return auc

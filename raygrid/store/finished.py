"""A finished study as the scripts in analysis/ see it: its results read, their pictures written beside them."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from raygrid.analysis.frames import read_frame
from raygrid.io.files import atomic_path, read_json
from raygrid.io.mirror import whereabouts
from raygrid.spec import StudySpec
from raygrid.store.folder import Zoo
from raygrid.study.run import open_study


@dataclass(frozen=True)
class FinishedStudy:
    """A study with results.

    Attributes:
        phantom: whether its images are generated, which every picture of it must say.
    """

    zoo: Zoo
    phantom: bool

    @property
    def study(self) -> StudySpec:
        """The study's declaration."""
        return self.zoo.study

    @property
    def results(self) -> Path:
        """The folder of its results."""
        return self.zoo.study_dir / "results"

    def frame(self, name: str) -> pd.DataFrame:
        """Return one frame of the results, `auc`, `decisions` or `visibility`. Raises StoreError if it is not there."""
        return read_frame(self.zoo.study_dir, name)

    def save(self, figure: Figure, name: str) -> str:
        """Write a picture to STUDY/figures/`name`, in the format that the name ends in; return where it is."""
        path = self.zoo.study_dir / "figures" / name
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format=path.suffix[1:], dpi=150)
        return whereabouts(path)


def open_finished(location: str) -> FinishedStudy:
    """Return the study in a folder or at a URL. Raises StoreError if there is none."""
    zoo = open_study(location)
    return FinishedStudy(zoo, bool(read_json(zoo.study_dir / "study.json")["phantom"]))

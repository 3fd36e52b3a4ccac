"""The data sets that a study can name, and how to open one."""

from collections.abc import Callable
from pathlib import Path

from raygrid.datasets.base import Dataset, Index, Reject
from raygrid.datasets.chestxray14 import ChestXray14
from raygrid.datasets.kaggle_dr import KaggleDR
from raygrid.datasets.medmnist import MedMnist
from raygrid.datasets.own_table import OwnTable
from raygrid.datasets.pcam import PCam
from raygrid.datasets.phantom_fundus import PhantomFundus
from raygrid.datasets.phantom_textures import PhantomTextures
from raygrid.datasets.phantom_tissue import PhantomTissue
from raygrid.datasets.phantom_xray import PhantomXray
from raygrid.errors import SpecError, unknown_name
from raygrid.spec import DatasetSpec

__all__ = ["DATASETS", "Dataset", "Index", "Reject", "open_dataset"]

DATASETS: dict[str, Callable[[DatasetSpec, Path], Dataset]] = {
    "kaggle_dr": KaggleDR,
    "chestxray14": ChestXray14,
    "pcam": PCam,
    "medmnist": MedMnist,
    "table": OwnTable,
    "phantom_fundus": PhantomFundus,
    "phantom_xray": PhantomXray,
    "phantom_tissue": PhantomTissue,
    "phantom_textures": PhantomTextures,
}


def open_dataset(spec: DatasetSpec, data_root: Path) -> Dataset:
    """Return the data set that `spec` names, looking for its files under `data_root`.

    Raises SpecError for an unknown name or option.
    """
    if spec.loader not in DATASETS:
        raise SpecError(unknown_name("data set", spec.loader, DATASETS))
    return DATASETS[spec.loader](spec, data_root)

"""The data sets of a study, and how to open one by its name."""

from collections.abc import Callable
from pathlib import Path

from raygrid.data.datasets.base import Dataset, Index, Reject
from raygrid.data.datasets.chestxray14 import ChestXray14
from raygrid.data.datasets.kaggle_dr import KaggleDR
from raygrid.data.datasets.medmnist import MedMnist
from raygrid.data.datasets.pcam import PCam
from raygrid.data.datasets.table import TableDataset
from raygrid.data.phantoms.fundus import PhantomFundus
from raygrid.data.phantoms.textures import PhantomTextures
from raygrid.data.phantoms.tissue import PhantomTissue
from raygrid.data.phantoms.xray import PhantomXray
from raygrid.errors import SpecError, unknown_name
from raygrid.spec import DatasetSpec

__all__ = ["DATASETS", "Dataset", "Index", "Reject", "open_dataset"]

DATASETS: dict[str, Callable[[DatasetSpec, Path], Dataset]] = {
    "kaggle_dr": KaggleDR,
    "chestxray14": ChestXray14,
    "pcam": PCam,
    "medmnist": MedMnist,
    "table": TableDataset,
    "phantom_fundus": PhantomFundus,
    "phantom_xray": PhantomXray,
    "phantom_tissue": PhantomTissue,
    "phantom_textures": PhantomTextures,
}


def open_dataset(spec: DatasetSpec, data_root: Path) -> Dataset:
    """Return the data set of `spec`, with its files under `data_root`; none is opened yet.

    Raises SpecError if the name or an option is unknown.
    """
    if spec.loader not in DATASETS:
        raise SpecError(unknown_name("data set", spec.loader, DATASETS))
    return DATASETS[spec.loader](spec, data_root)

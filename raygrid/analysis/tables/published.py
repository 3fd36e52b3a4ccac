"""The paper's own tables, and a study's cells beside them."""

from importlib.resources import files

import pandas as pd

from raygrid.analysis.tables.cells import FACTORS, INFLUENCES
from raygrid.errors import DataError

_PRETRAINED = "imagenet"  # the paper's only initialisation that is not random
_COLUMNS = ["auc", "auc_low", "auc_high", "relative_percent", "relative_low", "relative_high"]


def published_tables() -> dict[int, pd.DataFrame]:
    """Return the paper's Tables 1 to 3 as cells without intervals. Source: raygrid/analysis/tables/SOURCE.txt."""
    with (files("raygrid.analysis.tables") / "published_tables.csv").open(encoding="utf-8") as file:
        cells = pd.read_csv(file)
    texts = [name for name in FACTORS if name not in ("table", "epsilon")]
    cells[texts] = cells[texts].fillna("")
    cells["epsilon"] = cells["epsilon"].fillna(0.0)
    cells["unlearned"] = ""
    for name in INFLUENCES:
        cells[name] = pd.Series([None] * len(cells), dtype=object)
    return {int(str(number)): part.reset_index(drop=True) for number, part in cells.groupby("table")}


def beside_published(cells: dict[int, pd.DataFrame]) -> pd.DataFrame:
    """Return the cells that a study shares with the published tables, with both numbers.

    Columns: the factors; `auc` and `relative_percent` with their intervals; `published_auc`, `published_relative`. The
    study's pre-training stands for the paper's ImageNet; the factors keep the study's name of it.

    Raises DataError if a study has several pre-trainings and none is the paper's.
    """
    ours = pd.concat(cells.values(), ignore_index=True)
    inits = sorted({*ours["target_init"], *ours["surrogate_init"]} - {"", "random", "mean"})
    if len(inits) > 1 and _PRETRAINED not in inits:
        raise DataError(f"the study has several pre-trainings, {inits}; the published tables have one, {_PRETRAINED}")
    stands_for = _PRETRAINED if _PRETRAINED in inits or not inits else inits[0]
    keys = ours[FACTORS].replace({"target_init": stands_for, "surrogate_init": stands_for}, _PRETRAINED)
    theirs = pd.concat(published_tables().values(), ignore_index=True)
    for frame in (keys, theirs):
        frame["epsilon"] = frame["epsilon"].round(8)
    published = theirs[[*FACTORS, "auc", "relative_percent"]].rename(
        columns={"auc": "published_auc", "relative_percent": "published_relative"}
    )
    matched = keys.reset_index().merge(published, on=FACTORS).set_index("index").sort_index()
    beside = ours.loc[matched.index, [*FACTORS, *_COLUMNS]]
    return beside.join(matched[["published_auc", "published_relative"]]).reset_index(drop=True)

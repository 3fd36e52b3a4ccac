"""The paper's Tables 1 to 3: the AUC frame in, cells and their text forms out. Pure functions."""

from raygrid.analysis.tables.cells import CELL_COLUMNS, FACTORS, INFLUENCES, LEARNED_BOUND, Instances
from raygrid.analysis.tables.operational import (
    best_surrogates,
    damage_and_perceptibility,
    decision_table,
    finding_table,
)
from raygrid.analysis.tables.paper import (
    check_agreement,
    default_epsilon,
    labels_left_out,
    missing_pairings,
    of_zoo,
    table1,
    table2,
    table3,
    unlearned,
)
from raygrid.analysis.tables.published import beside_published, published_tables

__all__ = [
    "CELL_COLUMNS",
    "FACTORS",
    "INFLUENCES",
    "LEARNED_BOUND",
    "Instances",
    "beside_published",
    "best_surrogates",
    "check_agreement",
    "damage_and_perceptibility",
    "decision_table",
    "default_epsilon",
    "finding_table",
    "labels_left_out",
    "missing_pairings",
    "of_zoo",
    "published_tables",
    "table1",
    "table2",
    "table3",
    "unlearned",
]

"""The paper's Tables 1 to 3: the AUC frame in, cells and their text forms out. Pure functions."""

from raygrid.analysis.tables.cells import CELL_COLUMNS, FACTORS, INFLUENCES, LEARNED_BOUND, Instances
from raygrid.analysis.tables.operational import best_surrogates, damage_and_visibility, decision_table, finding_table
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
from raygrid.report.table_text import (
    PHANTOM_NOTICE,
    caption_of,
    cell_text,
    label_of_init,
    lay_out,
    notices_of,
    to_latex,
    to_markdown,
    to_paper_shape,
    to_terminal,
    void_notice,
)

__all__ = [
    "CELL_COLUMNS",
    "FACTORS",
    "INFLUENCES",
    "LEARNED_BOUND",
    "PHANTOM_NOTICE",
    "Instances",
    "beside_published",
    "best_surrogates",
    "caption_of",
    "cell_text",
    "check_agreement",
    "damage_and_visibility",
    "decision_table",
    "default_epsilon",
    "finding_table",
    "label_of_init",
    "labels_left_out",
    "lay_out",
    "missing_pairings",
    "notices_of",
    "of_zoo",
    "published_tables",
    "table1",
    "table2",
    "table3",
    "to_latex",
    "to_markdown",
    "to_paper_shape",
    "to_terminal",
    "unlearned",
    "void_notice",
]

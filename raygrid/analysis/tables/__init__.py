"""The paper's Tables 1 to 3 and the operational tables, computed from the frames of results/. Pure functions."""

from raygrid.analysis.tables.cells import CELL_COLUMNS as CELL_COLUMNS
from raygrid.analysis.tables.cells import FACTORS as FACTORS
from raygrid.analysis.tables.cells import INFLUENCES as INFLUENCES
from raygrid.analysis.tables.cells import LEARNED_BOUND as LEARNED_BOUND
from raygrid.analysis.tables.cells import Instances as Instances
from raygrid.analysis.tables.operational import best_surrogates as best_surrogates
from raygrid.analysis.tables.operational import damage_and_perceptibility as damage_and_perceptibility
from raygrid.analysis.tables.operational import decision_table as decision_table
from raygrid.analysis.tables.operational import finding_table as finding_table
from raygrid.analysis.tables.paper import check_agreement as check_agreement
from raygrid.analysis.tables.paper import default_epsilon as default_epsilon
from raygrid.analysis.tables.paper import labels_left_out as labels_left_out
from raygrid.analysis.tables.paper import missing_pairings as missing_pairings
from raygrid.analysis.tables.paper import paper_tables as paper_tables
from raygrid.analysis.tables.paper import table1 as table1
from raygrid.analysis.tables.paper import table2 as table2
from raygrid.analysis.tables.paper import table3 as table3
from raygrid.analysis.tables.paper import unlearned as unlearned
from raygrid.analysis.tables.published import beside_published as beside_published
from raygrid.analysis.tables.published import published_tables as published_tables

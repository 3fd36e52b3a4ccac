"""Figures of a study as matplotlib Figures: pure functions, object API only, no pyplot state."""

from raygrid.report.figures.canvas import save_figure as save_figure
from raygrid.report.figures.curves import damage_against_perceptibility as damage_against_perceptibility
from raygrid.report.figures.curves import epsilon_curves as epsilon_curves
from raygrid.report.figures.curves import learning_curves as learning_curves
from raygrid.report.figures.forests import beside_published as beside_published
from raygrid.report.figures.forests import clean_auc_plot as clean_auc_plot
from raygrid.report.figures.forests import effects_plot as effects_plot
from raygrid.report.figures.heat_maps import heat_map as heat_map
from raygrid.report.figures.images import attacked_examples as attacked_examples
from raygrid.report.figures.images import contact_sheet as contact_sheet
from raygrid.report.figures.images import example_images as example_images
from raygrid.report.figures.model_order import ModelFacts as ModelFacts
from raygrid.report.figures.model_order import models_in_order as models_in_order
from raygrid.report.figures.model_order import short_name as short_name

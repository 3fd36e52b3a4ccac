"""Pictures of a study as matplotlib Figures: pure functions, object API only, no pyplot state."""

from raygrid.report.figures.canvas import save_figure
from raygrid.report.figures.curves import damage_against_perceptibility, epsilon_curves, learning_curves
from raygrid.report.figures.forests import beside_published, clean_auc_plot, effects_plot
from raygrid.report.figures.heat_maps import heat_map
from raygrid.report.figures.images import attacked_examples, contact_sheet, example_images
from raygrid.report.figures.model_order import ModelFacts, models_in_order, short_name

__all__ = [
    "ModelFacts",
    "attacked_examples",
    "beside_published",
    "clean_auc_plot",
    "contact_sheet",
    "damage_against_perceptibility",
    "effects_plot",
    "epsilon_curves",
    "example_images",
    "heat_map",
    "learning_curves",
    "models_in_order",
    "save_figure",
    "short_name",
]

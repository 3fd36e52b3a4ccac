"""Pictures of a study as matplotlib Figures: pure functions, object API only, no pyplot state."""

from raygrid.figures.canvas import WATERMARK
from raygrid.figures.curves import damage_against_visibility, epsilon_curves, learning_curves
from raygrid.figures.forests import beside_published, clean_auc_plot, effects_plot
from raygrid.figures.grids import heat_map
from raygrid.figures.images import attacked_examples, contact_sheet, example_images
from raygrid.figures.order import ModelFacts, models_in_order, short_name

__all__ = [
    "WATERMARK",
    "ModelFacts",
    "attacked_examples",
    "beside_published",
    "clean_auc_plot",
    "contact_sheet",
    "damage_against_visibility",
    "effects_plot",
    "epsilon_curves",
    "example_images",
    "heat_map",
    "learning_curves",
    "models_in_order",
    "short_name",
]

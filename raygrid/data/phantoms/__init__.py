"""Generated images that stand for each data set."""

import raygrid.data.datasets  # noqa: F401, first: its table imports the phantoms, and they its base class

"""Generated images that take the place of each data set."""

import raygrid.data.datasets  # noqa: F401  must come first: it imports the phantoms, and they import its base module

"""Units of work to score files, without Ray."""

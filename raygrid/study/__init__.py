"""Run a study: one module per stage, and the commands that look at a study or tidy it."""

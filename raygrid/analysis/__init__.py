"""Scores to numbers: AUCs, intervals, effects, tables and claims, as pure functions."""

"""Splits of patients, drawn or read from files."""

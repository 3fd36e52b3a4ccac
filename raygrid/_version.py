"""The version of raygrid."""

__version__ = "0.1.0"

"""Shared code of the book: data, models, training, counting, metrics and results."""

__version__ = "0.1.0"

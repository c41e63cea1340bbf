"""Where the project keeps its files."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""Root of the checkout, when the package is installed in editable mode (as `make` does)."""


def data_dir():
    """Return the folder that holds the data registry and the splits.

    Returns
    -------
    pathlib.Path
        ``data/`` of the checkout, or the copy inside an installed wheel.
    """
    packaged = Path(__file__).resolve().parent / "_data"
    return packaged if packaged.is_dir() else ROOT / "data"

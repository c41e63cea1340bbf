"""The bone marrow images of bendiabdallah2021, for a reader who has them.

They were collected in the university hospital of Tlemcen ([1]_, section 3.1) and are not public: nothing
here can fetch them. Put into one folder they stand in for the chapter's public images:

.. code-block:: text

    images/NAME.bmp     87 photographs, 1024 x 768 pixels; .png, .jpg and .tif are read too
    masks/NAME.png      the expert's regions, painted in one colour each, as large as the photograph
    regions.csv         region,red,green,blue: a line for each of nucleus, cytoplasm, red cell and plasma

References
----------
.. [1] M. H. Bendiabdallah, N. Settouti, "A comparison of U-net backbone architectures for the automatic white
   blood cells segmentation"
"""

import hashlib
import os
from pathlib import Path

import numpy as np
import pandas as pd

from bloodcells.datasets import SPLITS, Sample, check_limit, default_cache
from bloodcells.errors import DataUnavailableError, UserError
from bloodcells.image_io import read_image

NAME = "tlemcen"
CELL_TYPE = "white cell"
"""The type of all cells: the images show several, of types that the masks don't tell."""

REGIONS = ("nucleus", "cytoplasm", "red cell", "plasma")
_SUFFIXES = (".bmp", ".png", ".jpg", ".jpeg", ".tif", ".tiff")


def find_folder():
    """Say where the images are looked for.

    Returns
    -------
    pathlib.Path
        ``$BLOODCELLS_TLEMCEN``, or else the folder "tlemcen" in the cache.
    """
    given = os.environ.get("BLOODCELLS_TLEMCEN")
    return Path(given).expanduser() if given else default_cache() / NAME


def load_split(split, *, folder=None, limit=None):
    """Read the images of a split with their masks.

    Parameters
    ----------
    split : {"train", "val", "test"}
        Of every ten images two are for testing, as in [1]_, and one is for validation; which, the hash of
        the name decides, so that more images move none of those that are there.
    folder : path-like, optional
        With the layout above; `find_folder` by default.
    limit : int, optional
        Read the first `limit` images only.

    Returns
    -------
    list of bloodcells.datasets.Sample
        By name; ``cell`` is nucleus and cytoplasm together, ``cell_type`` is `CELL_TYPE`.

    Raises
    ------
    DataUnavailableError
        If the folder, or a part of it, is missing.
    UserError
        If an argument is wrong, a file is damaged, sizes differ, or a mask has a colour of no region.
    """
    if split not in SPLITS:
        raise UserError(f"Expected a split, one of {', '.join(SPLITS)}; got {split!r}.")
    check_limit(limit, "images")
    folder = Path(folder) if folder is not None else find_folder()
    colours = _read_colours(folder / "regions.csv")
    paths = sorted(path for path in _folder(folder / "images").iterdir() if path.suffix.lower() in _SUFFIXES)
    if not paths:
        raise DataUnavailableError(f"{folder / 'images'} holds no image; expected {', '.join(_SUFFIXES)}.")
    chosen = [path for path in paths if _split_of(path.stem) == split][:limit]
    return [_read_sample(path, folder / "masks" / f"{path.stem}.png", colours) for path in chosen]


def _split_of(name):
    tenth = int(hashlib.sha256(name.encode()).hexdigest(), 16) % 10
    return "test" if tenth < 2 else "val" if tenth == 2 else "train"


def _folder(path):
    if not path.is_dir():
        raise DataUnavailableError(
            f"The bone marrow images of Tlemcen are not public, and {path} does not exist. If you have them, "
            "lay them out as `bloodcells.tlemcen` says and set BLOODCELLS_TLEMCEN to their folder; else "
            'take dataset="auto".'
        )
    return path


def _read_colours(path):
    """Read the colour of each region."""
    _folder(path.parent)
    if not path.is_file():
        raise DataUnavailableError(f"{path} is missing; expected a line region,red,green,blue a region.")
    try:
        table = pd.read_csv(path).set_index("region")[["red", "green", "blue"]].astype("int64")
        if not table.isin(range(256)).all(axis=None):
            raise ValueError("a number that is not 0 to 255")
        table = table.astype("uint8")
    except (ValueError, KeyError, pd.errors.ParserError) as error:
        raise UserError(f"{path}: expected the columns region, red, green, blue; got {error}.") from error
    if sorted(table.index) != sorted(REGIONS) or table.duplicated().any():
        raise UserError(
            f"{path}: expected a colour of its own for each of {', '.join(REGIONS)}; got "
            f"{', '.join(map(str, table.index))}."
        )
    return {region: table.loc[region].to_numpy() for region in REGIONS}


def _read_sample(path, mask_path, colours):
    if not mask_path.is_file():
        raise DataUnavailableError(f"{mask_path} is missing, the mask of {path.name}.")
    image, mask = read_image(path), read_image(mask_path)
    if image.shape != mask.shape:
        raise UserError(
            f"Expected {mask_path} to be as large as {path.name}, {image.shape[:2]}; got {mask.shape[:2]}."
        )
    regions = {region: (mask == colour).all(axis=-1) for region, colour in colours.items()}
    if not (known := np.logical_or.reduce(list(regions.values()))).all():
        row, column = np.argwhere(~known)[0]
        raise UserError(
            f"{mask_path}: the colour {tuple(mask[row, column].tolist())} at row {row}, column {column} "
            "is of no region in regions.csv; save masks without compression losses or smoothing."
        )
    return Sample(
        NAME, path.stem, CELL_TYPE, image, regions["nucleus"], regions["nucleus"] | regions["cytoplasm"]
    )

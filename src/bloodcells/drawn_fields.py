"""Drawn microscope fields that stand in for real ones: masks, outlines and counts are exact."""

from functools import cache

import numpy as np
import pandas as pd
from skimage.measure import find_contours

from bloodcells.drawn_cells import CELL_TYPES, STAINS, Cell
from bloodcells.errors import UserError
from bloodcells.fields import CELLS, Field
from bloodcells.synthetic import draw

SHAPE = (512, 640)
PART_SIZES = {"train": 8, "test": 3}
# Lowest and highest red cell radius in pixels: real fields differ in magnification, and so do these.
_RADII = (20, 36)
_COVERED = 0.4  # share of the field that red cells take up, counted without overlap
_OVERLAP = 0.2  # share of a red cell that earlier cells may hide
_SEED = 2023
_DRAWN_NAME = {"rbc": "rbc", "wbc": "wbc", "plt": "platelet"}


def draw_field(part, index):
    """Draw one field.

    Parameters
    ----------
    part : {"train", "test"}
    index : int
        From 0, below the number in `PART_SIZES`. Part and index determine the field.

    Returns
    -------
    bloodcells.fields.Field
        The image has the shape (512, 640, 3). Two to five white cells and three to ten platelets lie above
        the red cells, whose typical radius is 20 to 36 pixels, another in each field. A mask holds all pixels
        of its cells, and an outline goes around the whole of its cell, also where another cell hides it; both
        end at the border of the image (outlines less than a pixel past it), which cuts red cells.

    Raises
    ------
    UserError
        If there is no such field.

    Notes
    -----
    Red cells let light through, so that the hidden part of a red cell can be made out under another red cell,
    but not under a white cell or platelet.
    """
    image_id, every = _image_id(part, index), list_fields("all")
    if image_id not in every:
        sizes = ", ".join(f"{name} 0 to {n - 1}" for name, n in PART_SIZES.items())
        raise UserError(f"Expected a drawn field, {sizes}; got {part} {index}.")
    number = every.index(image_id)
    rng = np.random.default_rng([_SEED, number])
    # Steps of the golden ratio: however few fields are taken, their radii are well spread.
    radius = _RADII[0] + (_RADII[1] - _RADII[0]) * ((0.618 * number + 0.2) % 1)
    kinds = [*rng.choice(CELL_TYPES, rng.integers(2, 6)), *["platelet"] * rng.integers(3, 11)]
    kinds += ["rbc"] * round(_COVERED * SHAPE[0] * SHAPE[1] / (np.pi * radius**2))
    cells = [Cell(rng, str(kind), radius) for kind in kinds]
    stain = STAINS[index % len(STAINS)]
    smear = draw(rng, cells, SHAPE, stain, overlap=_OVERLAP, whole=False, blur=1.0, noise=3.0, light=0.12)
    return make_field(image_id, smear, cells)


def make_field(image_id, smear, cells):
    """Make a field of a drawn smear.

    Parameters
    ----------
    image_id : str
    smear : bloodcells.synthetic.Smear
    cells : list of bloodcells.drawn_cells.Cell
        Those that it was drawn from, placed.

    Returns
    -------
    bloodcells.fields.Field
        With masks, outlines of whole red cells, and counts.
    """
    return Field(
        "synthetic",
        image_id,
        smear.image,
        {cell: smear.masks[_DRAWN_NAME[cell]] for cell in CELLS},
        [_outline(cell, smear.labels.shape) for cell in cells if cell.cell_class == "rbc"],
        {cell: smear.counts[_DRAWN_NAME[cell]] for cell in CELLS},
    )


def list_fields(part):
    """List drawn fields.

    Parameters
    ----------
    part : str
        One of `bloodcells.fields.PARTS`: "train" and "test" are themselves, "phase1" is the same as "train",
        anything else means all fields.

    Returns
    -------
    list of str
        Image ids.
    """
    part = {"phase1": "train"}.get(part, part)
    parts = (part,) if part in PART_SIZES else PART_SIZES
    return [_image_id(name, index) for name in parts for index in range(PART_SIZES[name])]


def load_field(image_id):
    """Draw the field of an image id.

    Parameters
    ----------
    image_id : str
        As from `list_fields`.

    Returns
    -------
    bloodcells.fields.Field

    Raises
    ------
    UserError
        If there is no such field.
    """
    if image_id not in list_fields("all"):
        raise UserError(f"Expected a drawn field, one of {', '.join(list_fields('all'))}; got {image_id!r}.")
    _, _, part, index = image_id.split("-")
    return draw_field(part, int(index))


@cache
def _count_all():
    return {image_id: load_field(image_id).counts for image_id in list_fields("all")}


def read_counts():
    """Return the counts of all drawn fields, which are drawn for it.

    Returns
    -------
    pandas.DataFrame
        As from `bloodcells.fields.read_counts`.
    """
    table = pd.DataFrame.from_dict(_count_all(), orient="index").astype("Int64")
    return table.rename_axis("image_id").reset_index()


def _image_id(part, index):
    return f"synthetic-field-{part}-{index}"


def _outline(cell, shape):
    """Return the outline of a placed cell within the field, (row, column) of each vertex."""
    half = len(cell.mask) // 2
    corner = np.array([cell.row - half, cell.column - half])
    first = np.maximum(corner, 0)
    last = np.minimum(corner + len(cell.mask), shape)
    inside = tuple(slice(a, b) for a, b in zip(first - corner, last - corner, strict=True))
    # The ring of pixels around the field lies outside the cell; half way to it the outline ends.
    depth = np.pad(np.clip(cell.depth[inside], -1, 1), 1, constant_values=-1)
    longest = max(find_contours(depth, 0), key=len)
    return longest[:-1] + first - 1

"""Crops of whole fields around white cells, with a class for every pixel that has one.

They are the images of chapters 1 and 3. tran2019 labelled 42 crops of ALL-IDB1 by hand, li2021 100 crops of
other fields, and neither published them. These are stand-ins, 42 wide and 100 square windows of as many
fields of ALL-IDB1 (``data/make_crops.py``), whose labels come from the published masks of red and white
cells.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd

from bloodcells import fields
from bloodcells.cell_size import estimate_cell_radius
from bloodcells.class_labels import CLASSES, SMALLEST, label_classes
from bloodcells.datasets import check_limit
from bloodcells.errors import UserError
from bloodcells.object_metrics import fill_outline
from bloodcells.registry import FIELD_DATASETS, read_crops
from bloodcells.resizing import resize_image
from bloodcells.working_scale import scale_outlines

SHAPES = {"wide": (360, 480), "square": (256, 256)}
"""Rows and columns of a crop by its kind: section IV of tran2019, section 2 of li2021."""
SPLITS = ("train", "val", "test")

COUNTED_AREA = 0.1
"""Of a cell that the window cuts at least this much must be in it to count, discs of a red cell's radius."""
_N_DRAWN_VAL = 2  # of the drawn training fields


@dataclass(frozen=True, eq=False)
class Crop:
    """One crop with its truth.

    Attributes
    ----------
    dataset, image_id : str
        The field that it is cut out of.
    image : ndarray of uint8, shape (M, N, 3)
        RGB.
    labels : ndarray of uint8, shape (M, N)
        Class of each pixel, see `bloodcells.class_labels.label_classes`; 255 where it has none.
    cell_radius : float
        Typical radius of its red cells, pixels of the crop.
    outlines : list of ndarray of float64, shape (K, 2), or None
        Outlines of its red cells as (row, column), in pixels of the crop; they may leave it. None where the
        field has no outlines.
    counts : dict of str to int
        Number of red and of white cells, "rbc" and "wbc"; a kind without a key isn't known. See `load_crops`.
    """

    dataset: str
    image_id: str
    image: np.ndarray
    labels: np.ndarray
    cell_radius: float
    outlines: list | None
    counts: dict


def list_crops(name, split, kind="wide", *, limit=None, registry=None):
    """List the crops of a split; no image is needed.

    Parameters
    ----------
    name : str
        "all-idb1", or "synthetic" for drawn fields.
    split : {"train", "val", "test"}
    kind : {"wide", "square"}
        Of chapter 1 or of chapter 3.
    limit : int, optional
        Keep the first `limit` crops only; all by default.
    registry : path-like, optional
        As in `bloodcells.datasets.describe`.

    Returns
    -------
    pandas.DataFrame
        One row a crop: ``image_id`` of its field, ``row`` and ``column`` of the window's first pixel there,
        ``rows`` and ``columns`` of the window, all in pixels of the field. No crops of two splits, and no two
        wide ones, show one place of a smear.

    Raises
    ------
    UserError
        If an argument is wrong.

    Examples
    --------
    >>> [len(list_crops("all-idb1", split)) for split in SPLITS]
    [25, 4, 13]
    >>> [len(list_crops("all-idb1", split, "square")) for split in SPLITS]
    [60, 20, 20]
    """
    if split not in SPLITS:
        raise UserError(f"Expected a split, one of {', '.join(SPLITS)}; got {split!r}.")
    if name not in (*FIELD_DATASETS, "synthetic"):
        raise UserError(f"Expected a dataset of fields, one of {', '.join(fields.NAMES)}; got {name!r}.")
    if kind not in SHAPES:
        raise UserError(f"Expected a kind of crop, one of {', '.join(SHAPES)}; got {kind!r}.")
    check_limit(limit, "crops")
    if name == "synthetic":
        table = _drawn_windows(split, kind)
    else:
        table = read_crops(name, registry=registry).query("kind == @kind and split == @split")
        table = table.drop(columns=["kind", "split"])
    return table.reset_index(drop=True)[:limit]


def _drawn_windows(split, kind):
    """Windows in the middle of drawn fields, three quarters of their height."""
    from bloodcells import drawn_fields

    image_ids = drawn_fields.list_fields("test" if split == "test" else "train")
    if split != "test":
        image_ids = image_ids[:-_N_DRAWN_VAL] if split == "train" else image_ids[-_N_DRAWN_VAL:]
    n_rows, n_columns = drawn_fields.SHAPE
    rows = n_rows * 3 // 4
    columns = rows * SHAPES[kind][1] // SHAPES[kind][0]
    table = pd.DataFrame({"image_id": image_ids})
    return table.assign(
        row=(n_rows - rows) // 2, column=(n_columns - columns) // 2, rows=rows, columns=columns
    )


def load_crops(name, split, kind="wide", *, shape=None, limit=None, registry=None):
    """Read the crops of a split, fetching what is not at hand.

    Parameters
    ----------
    name, split, kind, limit, registry
        As in `list_crops`.
    shape : tuple of int, optional
        Rows and columns that they are resized to; those of `SHAPES` by default.

    Returns
    -------
    list of Crop
        In the order of the committed list.

    Raises
    ------
    DataUnavailableError, UserError
        As in `list_crops` and `bloodcells.fields.load_field`.

    Notes
    -----
    A cell counts if at least a tenth of the area of a typical red cell is in the window. Red cells are
    counted by their outlines. White cells are by the components of their mask, and only in fields where the
    number of components is the number counted by hand: elsewhere white cells touch, or one has two of them.
    """
    table = list_crops(name, split, kind, limit=limit, registry=registry)
    return [
        cut_crop(
            fields.load_field(name, row.image_id),
            (row.row, row.column, row.rows, row.columns),
            shape or SHAPES[kind],
        )
        for row in table.itertuples()
    ]


def cut_crop(field, window, shape):
    """Cut one crop out of a field.

    Parameters
    ----------
    field : bloodcells.fields.Field
        With masks of red and white cells.
    window : tuple of int
        First row, first column, rows and columns, pixels of the field.
    shape : tuple of int
        Rows and columns of the result.

    Returns
    -------
    Crop

    Raises
    ------
    UserError
        If the window leaves the field, or the field lacks a mask.
    """
    row, column, rows, columns = window
    if min(row, column) < 0 or row + rows > field.image.shape[0] or column + columns > field.image.shape[1]:
        raise UserError(
            f"The window must lie in the field {field.image_id}, {field.image.shape[0]} x "
            f"{field.image.shape[1]} pixels; got rows {row} to {row + rows}, "
            f"columns {column} to {column + columns}."
        )
    inside = np.s_[row : row + rows, column : column + columns]
    own_radius = estimate_cell_radius(field.image)
    labels = label_classes({name: mask[inside] for name, mask in field.masks.items()}, cell_radius=own_radius)
    scale = shape[0] / rows
    counts, outlines = {}, None
    if field.outlines is not None:
        moved = [np.asarray(outline, float) - (row, column) for outline in field.outlines]
        least = COUNTED_AREA * np.pi * own_radius**2
        outlines = scale_outlines(
            [one for one in moved if _area_inside(one, (rows, columns)) >= least], scale
        )
        counts["rbc"] = len(outlines)
    if (n_white := _count_white(field, inside, own_radius)) is not None:
        counts["wbc"] = n_white
    return Crop(
        field.dataset,
        field.image_id,
        resize_image(field.image[inside], shape),
        # A label has no average: the nearest pixel's is taken.
        cv2.resize(labels, shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT),
        own_radius * scale,
        outlines,
        counts,
    )


def stack_crops(crops):
    """Turn crops of one size into the arrays a network of pixel classes is trained on.

    Parameters
    ----------
    crops : list of Crop

    Returns
    -------
    images : ndarray of uint8, shape (N, M, N, 3)
    labels : ndarray of uint8, shape (N, M, N)
    """
    if not crops:
        raise UserError("`crops` must hold at least one crop, got none.")
    return np.stack([crop.image for crop in crops]), np.stack([crop.labels for crop in crops])


def count_label_pixels(labels):
    """Count the pixels of each class.

    Parameters
    ----------
    labels : ndarray of uint8, any shape
        Classes, and 255 where there is none.

    Returns
    -------
    pandas.Series of int
        Indexed by the names in `bloodcells.class_labels.CLASSES`, and "unlabelled" at last.
    """
    n_pixels = np.bincount(np.asarray(labels, np.uint8).ravel(), minlength=256)
    return pd.Series(n_pixels[[*range(len(CLASSES)), 255]], index=[*CLASSES, "unlabelled"], name="pixels")


def _area_inside(outline, shape):
    """Pixels of an outline that lie in the image."""
    top, left, patch = fill_outline(outline)
    rows = slice(max(-top, 0), max(shape[0] - top, 0))
    columns = slice(max(-left, 0), max(shape[1] - left, 0))
    return int(patch[rows, columns].sum())


def _count_white(field, inside, own_radius):
    """Count the white cells in a window, or return None where the mask's components aren't the cells."""
    disc = np.pi * own_radius**2
    pieces, stats = cv2.connectedComponentsWithStats(field.masks["wbc"].astype(np.uint8), connectivity=8)[1:3]
    cells = np.flatnonzero(stats[1:, cv2.CC_STAT_AREA] >= SMALLEST["wbc"] * disc) + 1
    if len(cells) != field.counts.get("wbc"):
        return None
    n_pixels = np.bincount(pieces[inside].ravel(), minlength=len(stats))
    return int((n_pixels[cells] >= COUNTED_AREA * disc).sum())

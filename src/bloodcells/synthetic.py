"""Drawn blood smears whose truth is exact: every cell, outline and count is known because we drew it."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import ndimage as ndi

from bloodcells.drawn_cells import CELL_TYPES, STAINS, Cell, absorbance, stain_colors
from bloodcells.errors import UserError
from bloodcells.placement import place

SPLIT_SIZES = {"train": 60, "val": 15, "test": 30}


@dataclass(frozen=True)
class Smear:
    """A drawn smear and its truth; arrays have the shape (M, N).

    Attributes
    ----------
    image : ndarray of uint8, shape (M, N, 3)
    labels : ndarray of int32
        A label for each cell, 0 is background. Where cells overlap the upper one owns the pixel.
    masks : dict of str to ndarray of bool
        Pixels of "rbc", "wbc" and "platelet", also where a cell of another class lies above.
    nucleus, edges : ndarray of bool
        Nuclei of white cells; outermost pixels of all cells. Red outlines end at white cells and platelets.
    cells : pandas.DataFrame
        A row for each cell: label, cell_class, cell_type (None unless white), row and column of its centre,
        radius of the disc of equal area. Lengths are in pixels.
    counts : dict of str to int
        Number of "rbc", "wbc" and "platelet".
    """

    image: np.ndarray
    labels: np.ndarray
    masks: dict
    nucleus: np.ndarray
    edges: np.ndarray
    cells: pd.DataFrame
    counts: dict


def _paint(rng, cells, shape, pad, colors):
    """Lay the cells over one another; return what they absorb of each colour, and their masks."""
    absorbed = np.zeros((*shape, 3))
    masks = {name: np.zeros(shape, bool) for name in ("rbc", "wbc", "platelet", "nucleus", "edges")}
    for cell in cells:
        window, cover = cell.window(pad), np.clip(cell.depth + 0.5, 0, 1)[..., None]
        if cell.cell_class != "rbc":  # red cells let light through; the others hide what lies below
            absorbed[window] *= 1 - cover
            masks["edges"][window] &= ~cell.mask
        absorbed[window] += cover * absorbance(rng, cell, colors)
        masks[cell.cell_class][window] |= cell.mask
        masks["nucleus"][window] |= cell.nucleus_depth > 0
        masks["edges"][window] |= cell.mask & ~ndi.binary_erosion(cell.mask)
    return absorbed, masks


def _photograph(rng, image, blur, noise, light):
    """Return an image as a camera sees it: blurred, unevenly lit, noisy, in whole grey levels."""
    image = ndi.gaussian_filter(image, (blur, blur, 0))
    n_rows, n_columns = image.shape[:2]
    rows, columns = np.ogrid[-0.5 : 0.5 : n_rows * 1j, -0.5 : 0.5 : n_columns * 1j]
    down, right = rng.dirichlet([1, 1]) * rng.choice([-1, 1], 2)  # where the light fades to
    image = image * (1 - light * (0.5 + down * rows + right * columns))[..., None]
    return np.clip(np.rint(image + rng.normal(0, noise, image.shape)), 0, 255).astype(np.uint8)


def _table(cells):
    """Return the table of `Smear.cells`; written so that it has the same types without any cell."""
    types = [cell.kind if cell.cell_class == "wbc" else None for cell in cells]
    return pd.DataFrame(
        {
            "label": np.arange(len(cells)) + 1,
            "cell_class": [cell.cell_class for cell in cells],
            "cell_type": pd.Series(types, dtype=object),
            "row": np.array([cell.row for cell in cells], int),
            "column": np.array([cell.column for cell in cells], int),
            "radius": np.array([np.sqrt(cell.mask.sum() / np.pi) for cell in cells], float),
        }
    )


def draw(rng, cells, shape, stain, *, overlap, whole, blur, noise, light):
    """Place, paint and photograph cells, white cells and platelets first; the rest is as in `draw_smear`."""
    pad = max([len(cell.mask) // 2 for cell in cells], default=0)  # lets the border cut a cell's patch
    crop = tuple(slice(pad, pad + n) for n in shape)
    labels = place(rng, cells, shape, pad=pad, overlap=overlap, whole=whole)
    background, colors = stain_colors(stain)
    bottom_up = sorted(cells, key=lambda cell: cell.cell_class != "rbc")  # else in the order they came
    absorbed, masks = _paint(rng, bottom_up, labels.shape, pad, colors)
    image = _photograph(rng, background * np.exp(-absorbed[crop]), blur, noise, light)
    masks = {name: mask[crop].copy() for name, mask in masks.items()}
    nucleus, edges = masks.pop("nucleus"), masks.pop("edges")
    counts = {name: sum(cell.cell_class == name for cell in cells) for name in masks}
    return Smear(image, labels[crop].copy(), masks, nucleus, edges, _table(cells), counts)


def _check(name, value, ok, expected):
    if not ok:
        raise UserError(f"`{name}` must be {expected}. Received: {value!r}.")


def _check_field(rng, shape, minimum, stain):
    _check("rng", rng, isinstance(rng, np.random.Generator), "a numpy random Generator")
    fits = np.shape(shape) == (2,) and all(isinstance(n, int | np.integer) and n >= minimum for n in shape)
    _check("shape", shape, fits, f"two whole numbers, each at least {minimum:g} pixels")
    _check("stain", stain, stain in STAINS, f"one of {', '.join(STAINS)}")


def draw_smear(
    shape=(256, 256),
    *,
    rng,
    n_rbc,
    n_wbc,
    n_platelets,
    overlap=0.1,
    stain="giemsa",
    rbc_radius=14.0,
    blur=0.8,
    noise=3.0,
    light=0.12,
    whole=True,
):
    """Draw a smear with exact truth.

    White cells and platelets lie above red cells and never over one another. Every cell keeps at least a
    quarter of its pixels visible, so each has its label and `counts` is exact.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns, each at least 5 `rbc_radius`.
    rng : numpy.random.Generator
        Source of all randomness: the same state draws the same smear.
    n_rbc, n_wbc, n_platelets : int
        Number of cells of each class. White cells are of `CELL_TYPES`, drawn by lot.
    overlap : float
        Largest share of a red cell's area, 0 to 0.7, that cells placed before may share. With 0 none touch.
    stain : str
        Colour scheme, one of `STAINS`.
    rbc_radius : float
        Typical radius of a red cell in pixels, at least 4. All other sizes follow from it.
    blur, noise, light : float
        Standard deviation of the optical blur in pixels (0 to 9) and of the sensor noise in grey levels (0 to
        99); share of the brightness that is lost in the darkest corner (0 to 0.9).
    whole : bool
        False lets the border of the image cut red cells. Their centres stay inside.

    Returns
    -------
    Smear

    Raises
    ------
    UserError
        If an argument is out of range or the cells do not fit.

    Examples
    --------
    >>> draw_smear(rng=np.random.default_rng(0), n_rbc=12, n_wbc=1, n_platelets=3).counts
    {'rbc': 12, 'wbc': 1, 'platelet': 3}
    """
    _check("rbc_radius", rbc_radius, rbc_radius >= 4, "at least 4 pixels")
    _check_field(rng, shape, 5 * rbc_radius, stain)
    for name, n in {"n_rbc": n_rbc, "n_wbc": n_wbc, "n_platelets": n_platelets}.items():
        _check(name, n, isinstance(n, int | np.integer) and n >= 0, "a whole number, 0 or more")
    ranges = {"overlap": (overlap, 0.7), "blur": (blur, 9), "noise": (noise, 99), "light": (light, 0.9)}
    for name, (value, highest) in ranges.items():
        _check(name, value, 0 <= value <= highest, f"between 0 and {highest}")
    kinds = [*rng.choice(CELL_TYPES, n_wbc).tolist(), *["platelet"] * n_platelets, *["rbc"] * n_rbc]
    cells = [Cell(rng, kind, rbc_radius) for kind in kinds]
    return draw(rng, cells, shape, stain, overlap=overlap, whole=whole, blur=blur, noise=noise, light=light)


def draw_cell(cell_type, *, rng, shape=(120, 120), stain="giemsa"):
    """Draw one white cell near the centre, with red cells around it that the border may cut.

    Parameters
    ----------
    cell_type : str
        One of `CELL_TYPES`.
    rng : numpy.random.Generator
        Source of all randomness.
    shape : tuple of int
        Rows and columns, each at least 32. The cell is about half as wide as the shorter of them.
    stain : str
        Colour scheme, one of `STAINS`.

    Returns
    -------
    Smear

    Raises
    ------
    UserError
        If an argument is out of range.
    """
    _check("cell_type", cell_type, cell_type in CELL_TYPES, f"one of {', '.join(CELL_TYPES)}")
    _check_field(rng, shape, 32, stain)
    kinds = [cell_type, *["rbc"] * int(rng.integers(2, 8))]
    cells = [Cell(rng, kind, 0.165 * min(shape)) for kind in kinds]
    cells[0].row, cells[0].column = (int(n / 2 + 0.04 * min(shape) * rng.uniform(-1, 1)) for n in shape)
    return draw(rng, cells, shape, stain, overlap=0.3, whole=False, blur=0.8, noise=3.0, light=0.12)


def load_split(split, *, cell_types=None, limit=None):
    """Draw the stand-in for a split of a single-cell dataset: types take turns, stains after each round.

    Parameters
    ----------
    split : str
        One of `SPLIT_SIZES`, which holds the numbers of samples.
    cell_types : sequence of str, optional
        Keep only these of `CELL_TYPES`.
    limit : int, optional
        Keep at most this many samples, the first ones. A sample depends on its split and index alone.

    Returns
    -------
    list of bloodcells.datasets.Sample
        Images of shape (120, 120, 3).

    Raises
    ------
    UserError
        If the split or a type is unknown, or the limit below 1.
    """
    from bloodcells.datasets import Sample  # not at the top: that module calls this function

    _check("split", split, split in SPLIT_SIZES, f"one of {', '.join(SPLIT_SIZES)}")
    expected = f"a list of types from {', '.join(CELL_TYPES)}"
    _check("cell_types", cell_types, not isinstance(cell_types, str), expected)
    cell_types = CELL_TYPES if cell_types is None else tuple(cell_types)
    _check("cell_types", cell_types, set(cell_types) <= set(CELL_TYPES), expected)
    can_limit = limit is None or (isinstance(limit, int | np.integer) and limit >= 1)
    _check("limit", limit, can_limit, "None or at least 1, a whole number")
    types = [CELL_TYPES[i % len(CELL_TYPES)] for i in range(SPLIT_SIZES[split])]
    chosen = [i for i, cell_type in enumerate(types) if cell_type in cell_types]
    samples = []
    for i in chosen[:limit]:
        rng = np.random.default_rng([list(SPLIT_SIZES).index(split), i])
        smear = draw_cell(types[i], rng=rng, stain=STAINS[i // len(CELL_TYPES) % len(STAINS)])
        truth = {"image": smear.image, "nucleus": smear.nucleus, "cell": smear.masks["wbc"]}
        samples.append(Sample("synthetic", f"synthetic-{split}-{i:03d}", types[i], **truth))
    return samples

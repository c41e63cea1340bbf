"""Drawn blood smears whose truth is exact: every cell, outline and count is known because we drew it."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy import ndimage as ndi

from bloodcells.errors import UserError

CELL_TYPES = ("neutrophil", "lymphocyte", "basophil")
SPLIT_SIZES = {"train": 60, "val": 15, "test": 30}
# RGB of each part, matched by eye to Jiangxi, CellaVision and ALL-IDB1. A type's own name is its cytoplasm.
_PARTS = ("background", "rbc", "platelet", "nucleus", "granule", *CELL_TYPES)
_RGB = {
    "giemsa": "fcf9a6 e0b880 9a6288 5e1a5c 461450 d2a87c a09a8a c08ca0",
    "may-grunwald": "fce6cc d09490 9060a4 582a86 3c1868 e4bab8 a4acce c094b4",
    "wright": "cecfd0 aa9088 7c5a98 4e1c7c 34125e c4a6ba 8a88bc a886b0",
}
STAINS = tuple(_RGB)
_RADIUS = {"rbc": (0.88, 1.1), "platelet": (0.2, 0.34)}  # lowest and highest, in typical red cell radii
_RADIUS |= {"neutrophil": (1.6, 1.85), "lymphocyte": (1.2, 1.5), "basophil": (1.5, 1.75)}
_TRIES = 3000  # positions tried for each cell
_MIN_VISIBLE = 0.25  # share of each cell that the image border and the cells above leave to be seen


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


class _Cell:
    """A cell with a slightly irregular outline; `kind` is its type if white, else its class."""

    def __init__(self, rng, kind, rbc_radius):
        self.kind, self.radius = kind, max(rbc_radius * rng.uniform(*_RADIUS[kind]), 1.5)
        self.cell_class = "wbc" if kind in CELL_TYPES else kind
        self.row = self.column = None  # centre, once placed
        half = int(1.25 * self.radius) + 3
        self.rows, self.columns = np.mgrid[-half : half + 1, -half : half + 1].astype(float)
        waves = np.arange(2, 6)  # per turn; two make an oval
        heights = rng.normal(0, (0.15 if kind == "platelet" else 0.06) / (waves - 1) ** 1.3)
        phases = rng.uniform(0, 2 * np.pi, waves.size)
        ripple = (heights * np.cos(waves * np.arctan2(self.rows, self.columns)[..., None] + phases)).sum(
            axis=-1
        )
        # Depth is the distance to the outline in pixels, positive inside.
        self.depth = self.radius * (1 + np.clip(ripple, -0.2, 0.2)) - np.hypot(self.rows, self.columns)
        self.mask = self.depth > 0
        self.nucleus_depth = _nucleus_depth(rng, self) if kind in CELL_TYPES else np.full(ripple.shape, -1.0)

    def window(self, pad):
        """Return the slices of the cell's patch in a field with `pad` extra pixels on each side."""
        starts = (center + pad - len(self.mask) // 2 for center in (self.row, self.column))
        return tuple(slice(start, start + len(self.mask)) for start in starts)


def _grain(rng, shape, sigma):
    """Return smooth noise of mean 0 and standard deviation 1."""
    noise = ndi.gaussian_filter(rng.standard_normal(shape), sigma)
    return (noise - noise.mean()) / noise.std()


def _rod_depth(cell, start, stop, radius):
    """Return how deep each pixel lies within a thick, round-ended line, in pixels."""
    step, rows, columns = stop - start, cell.rows - start[0], cell.columns - start[1]
    along = np.clip((rows * step[0] + columns * step[1]) / (step @ step), 0, 1)
    return radius - np.hypot(rows - along * step[0], columns - along * step[1])


def _nucleus_depth(rng, cell):
    """Return the depth within a nucleus: lobes on an arc, joined by bridges, kept inside the cell."""
    n_lobes = {"neutrophil": int(rng.integers(3, 6)), "lymphocyte": 1, "basophil": 2}[cell.kind]
    (
        ring,
        size,
        length,
        step,
    ) = {  # radii of the arc and of a lobe, a lobe's half length; radians between lobes
        "neutrophil": ((0.36, 0.55), (0.18, 0.24), 0.09, min(1.4, 4.5 / max(n_lobes - 1, 1))),
        "lymphocyte": ((0.04, 0.1), (0.72, 0.8), 0.06, 0),
        "basophil": ((0.3, 0.38), (0.36, 0.4), 0.08, 2.6),
    }[cell.kind]
    angles = rng.uniform(0, 2 * np.pi) + step * (np.arange(n_lobes) + rng.uniform(-0.15, 0.15, n_lobes))
    tilts = angles + np.pi / 2 + rng.normal(0, 0.5, n_lobes)
    centers = (
        rng.uniform(*ring, (n_lobes, 1)) * np.column_stack([np.sin(angles), np.cos(angles)]) * cell.radius
    )
    halves = length * np.column_stack([np.sin(tilts), np.cos(tilts)]) * cell.radius
    ends = zip(centers - halves, centers + halves, strict=True)
    lobes = np.max([_rod_depth(cell, *pair, cell.radius * rng.uniform(*size)) for pair in ends], axis=0)
    lobes += 0.025 * cell.radius * _grain(rng, lobes.shape, 0.12 * cell.radius)
    # Bridges stay straight: the noise could cut a line this thin.
    bridges = [_rod_depth(cell, *pair, max(0.05 * cell.radius, 1)) for pair in pairwise(centers)]
    return np.minimum(np.max([lobes, *bridges], axis=0), cell.depth - 0.05 * cell.radius)


def _absorbance(rng, cell, colors):
    """Return what each pixel of the patch absorbs of each colour, as log(background / colour)."""
    shape, inward = (
        cell.mask.shape,
        np.maximum(cell.depth, 0) / cell.radius,
    )  # 0 at the outline, 1 at the centre
    if cell.kind == "platelet":
        return np.clip(0.8 + 0.4 * _grain(rng, shape, 0.9), 0.1, 2)[..., None] * colors["platelet"]
    if cell.kind == "rbc":
        pallor = rng.uniform(0.1, 0.9) * np.exp(-(((1 - inward) / rng.uniform(0.3, 0.5)) ** 2))
        return (rng.uniform(0.85, 1.2) * (1 - pallor + 0.2 * np.exp(-inward / 0.1)))[..., None] * colors[
            "rbc"
        ]
    fine, coarse, clumps = (_grain(rng, shape, sigma * cell.radius) for sigma in (0.025, 0.13, 0.04))
    body = 1 + (0.16 if cell.kind == "neutrophil" else 0.06) * fine + 0.12 * coarse
    if cell.kind == "lymphocyte":
        body = body * (0.7 + 0.6 * np.exp(-inward / 0.1))  # bluest at the outline
    absorbed = np.maximum(body, 0.2)[..., None] * colors[cell.kind]
    chromatin = np.clip(1 + 0.12 * (clumps + coarse), 0.5, 1.6)[..., None] * colors["nucleus"]
    absorbed += np.clip(cell.nucleus_depth + 0.5, 0, 1)[..., None] * (chromatin - absorbed)
    if cell.kind == "basophil":
        absorbed += np.clip(1.6 * clumps + 0.2, 0, 0.85)[..., None] * (colors["granule"] - absorbed)
    return absorbed


def _place(rng, cells, n_upper, frame, pad, overlap, whole):
    """Give every cell a place under the rules of `draw_smear` and return the padded labels."""
    labels, shape = np.zeros(frame.shape, np.int32), np.subtract(frame.shape, 2 * pad)
    area, visible = np.array([0, *(cell.mask.sum() for cell in cells)]), np.zeros(len(cells) + 1)
    for label, cell in enumerate(cells, start=1):
        limit, entire = (0, True) if label <= n_upper else (overlap, whole)
        # Without overlap a gap of two pixels keeps neighbours apart, also as 8-connected components.
        reach = cell.mask if limit else ndi.binary_dilation(cell.mask, np.ones((3, 3)), iterations=2)
        margin = int(0.8 * cell.radius) if entire else 0  # no outline comes closer to its centre
        random = rng.integers(margin, shape - margin, size=(_TRIES, 2))
        for spot in random if cell.row is None else [(cell.row, cell.column)]:
            if label > n_upper + 1 and rng.random() < 2 * limit:  # beside an earlier one: red cells clump
                other, angle = cells[rng.integers(n_upper, label - 1)], rng.uniform(0, 2 * np.pi)
                away = cell.radius * rng.uniform(1.2, 2) * np.array([np.sin(angle), np.cos(angle)])
                spot = np.clip(np.array([other.row, other.column]) + away, 0, shape - 1)
            cell.row, cell.column = map(int, spot)
            own, under = cell.mask & frame[cell.window(pad)], labels[cell.window(pad)]
            if (under[reach] > 0).sum() > limit * own.sum() or (entire and own.sum() < area[label]):
                continue
            taken = own & ((under == 0) | (under > n_upper))
            kept = visible - np.bincount(under[taken], minlength=visible.size)
            kept[label] = taken.sum()
            if (kept >= _MIN_VISIBLE * area)[1 : label + 1].all():
                under[taken], visible = label, kept
                break
        else:
            raise UserError(
                f"Could place only {label - 1} of {len(cells)} cells in {shape[0]} x {shape[1]} pixels. "
                "Ask for fewer cells, a larger `shape`, a smaller `rbc_radius` or more `overlap`."
            )
    return labels


def _draw(rng, cells, shape, stain, overlap, blur, noise, light, whole):
    """Place and paint the cells, which come with white cells and platelets first."""
    n_upper = sum(cell.kind != "rbc" for cell in cells)
    pad = max([len(cell.mask) // 2 for cell in cells], default=0)  # lets the border cut a cell's patch
    frame, crop = np.pad(np.ones(shape, bool), pad), tuple(slice(pad, pad + n) for n in shape)
    labels = _place(rng, cells, n_upper, frame, pad, overlap, whole)
    rgb = [np.array([*bytes.fromhex(color)], float) for color in _RGB[stain].split()]
    colors = {part: np.log(rgb[0] / color) for part, color in zip(_PARTS, rgb, strict=True)}
    absorbed = np.zeros((*frame.shape, 3))
    masks = {name: np.zeros(frame.shape, bool) for name in ("rbc", "wbc", "platelet", "nucleus", "edges")}
    for cell in cells[n_upper:] + cells[:n_upper]:
        window, cover = cell.window(pad), np.clip(cell.depth + 0.5, 0, 1)[..., None]
        if cell.kind != "rbc":  # red cells let light through; the others hide what lies below
            absorbed[window] *= 1 - cover
            masks["edges"][window] &= ~cell.mask
        absorbed[window] += cover * _absorbance(rng, cell, colors)
        masks[cell.cell_class][window] |= cell.mask
        masks["nucleus"][window] |= cell.nucleus_depth > 0
        masks["edges"][window] |= cell.mask & ~ndi.binary_erosion(cell.mask)
    image = ndi.gaussian_filter(rgb[0] * np.exp(-absorbed[crop]), (blur, blur, 0))
    rows, columns = np.ogrid[-0.5 : 0.5 : shape[0] * 1j, -0.5 : 0.5 : shape[1] * 1j]
    down, right = rng.dirichlet([1, 1]) * rng.choice([-1, 1], 2)  # where the light fades to
    image = image * (1 - light * (0.5 + down * rows + right * columns))[..., None]
    image = np.clip(np.rint(image + rng.normal(0, noise, image.shape)), 0, 255).astype(np.uint8)
    table = pd.DataFrame(
        {"label": np.arange(len(cells)) + 1, "cell_class": [cell.cell_class for cell in cells]}
    )
    types = [cell.kind if cell.cell_class == "wbc" else None for cell in cells]
    table["cell_type"] = pd.Series(types, dtype=object)
    table[["row", "column"]] = np.array([(cell.row, cell.column) for cell in cells], int).reshape(-1, 2)
    table["radius"] = [np.sqrt(cell.mask.sum() / np.pi) for cell in cells]
    masks = {name: mask[crop].copy() for name, mask in masks.items()}
    nucleus, edges = masks.pop("nucleus"), masks.pop("edges")
    counts = {name: int((table["cell_class"] == name).sum()) for name in masks}
    return Smear(image, labels[crop].copy(), masks, nucleus, edges, table, counts)


def _check(name, value, ok, expected):
    if not ok:
        raise UserError(f"`{name}` must be {expected}. Received: {value!r}.")


def _check_field(rng, shape, minimum, stain):
    _check("rng", rng, isinstance(rng, np.random.Generator), "a numpy random Generator")
    fits = len(shape) == 2 and all(isinstance(n, int | np.integer) and n >= minimum for n in shape)
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
    for name, value, highest in [
        ("overlap", overlap, 0.7),
        ("blur", blur, 9),
        ("noise", noise, 99),
        ("light", light, 0.9),
    ]:
        _check(name, value, 0 <= value <= highest, f"between 0 and {highest}")
    kinds = [*rng.choice(CELL_TYPES, n_wbc).tolist(), *["platelet"] * n_platelets, *["rbc"] * n_rbc]
    cells = [_Cell(rng, kind, rbc_radius) for kind in kinds]
    return _draw(rng, cells, shape, stain, overlap, blur, noise, light, whole)


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
    cells = [_Cell(rng, kind, 0.165 * min(shape)) for kind in kinds]
    cells[0].row, cells[0].column = (int(n / 2 + 0.04 * min(shape) * rng.uniform(-1, 1)) for n in shape)
    return _draw(rng, cells, shape, stain, overlap=0.3, blur=0.8, noise=3.0, light=0.12, whole=False)


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
    known = cell_types is None or (not isinstance(cell_types, str) and set(cell_types) <= set(CELL_TYPES))
    _check("cell_types", cell_types, known, f"a list of types from {', '.join(CELL_TYPES)}")
    _check("limit", limit, limit is None or limit >= 1, "None or at least 1")
    kinds = [(i, CELL_TYPES[i % len(CELL_TYPES)]) for i in range(SPLIT_SIZES[split])]
    samples = []
    for i, kind in [pair for pair in kinds if cell_types is None or pair[1] in cell_types][:limit]:
        rng = np.random.default_rng([list(SPLIT_SIZES).index(split), i])
        smear = draw_cell(kind, rng=rng, stain=STAINS[i // len(CELL_TYPES) % len(STAINS)])
        truth = {"image": smear.image, "nucleus": smear.nucleus, "cell": smear.masks["wbc"]}
        samples.append(Sample("synthetic", f"synthetic-{split}-{i:03d}", kind, **truth))
    return samples

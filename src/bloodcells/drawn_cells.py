"""One drawn blood cell: its outline, its nucleus and the light it absorbs."""

from itertools import pairwise

import numpy as np
from scipy import ndimage as ndi

CELL_TYPES = ("neutrophil", "lymphocyte", "basophil")
# RGB of each part, matched by eye to Jiangxi, CellaVision and ALL-IDB1. A type's own name is its cytoplasm.
_PARTS = ("background", "rbc", "platelet", "nucleus", "granule", *CELL_TYPES)
_RGB = {
    "giemsa": "fcf9a6 e0b880 9a6288 5e1a5c 461450 d2a87c a09a8a c08ca0",
    "may-grunwald": "fce6cc d09490 9060a4 582a86 3c1868 e4bab8 a4acce c094b4",
    "wright": "cecfd0 aa9088 7c5a98 4e1c7c 34125e c4a6ba 8a88bc a886b0",
}
STAINS = tuple(_RGB)
# Lowest and highest radius of each kind, in typical red cell radii.
_RADIUS = {
    "rbc": (0.88, 1.1),
    "platelet": (0.2, 0.34),
    "neutrophil": (1.6, 1.85),
    "lymphocyte": (1.2, 1.5),
    "basophil": (1.5, 1.75),
}
# A nucleus is made of lobes on an arc: lowest and highest radius of the arc and of a lobe, and half the
# length by which a lobe is stretched, all in cell radii; the angle between neighbouring lobes in radians.
_NUCLEUS = {
    "neutrophil": {"arc": (0.36, 0.55), "lobe": (0.18, 0.24), "stretch": 0.09, "step": 1.4},
    "lymphocyte": {"arc": (0.04, 0.1), "lobe": (0.72, 0.8), "stretch": 0.06, "step": 0},
    "basophil": {"arc": (0.3, 0.38), "lobe": (0.36, 0.4), "stretch": 0.08, "step": 2.6},
}
_MAX_ARC = 4.5  # radians from the first lobe to the last: more would close the ring


class Cell:
    """A cell with a slightly irregular outline, in the middle of its own square patch of pixels.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of all randomness.
    kind : str
        "rbc", "platelet" or one of `CELL_TYPES`.
    rbc_radius : float
        Typical radius of a red cell in pixels; the size of every kind follows from it.

    Attributes
    ----------
    kind : str
    cell_class : str
        "rbc", "platelet" or "wbc".
    radius : float
        Mean radius in pixels.
    depth : ndarray of float, shape (K, K)
        Distance of each pixel of the patch to the outline in pixels, positive inside.
    mask : ndarray of bool, shape (K, K)
        The pixels of the cell.
    nucleus_depth : ndarray of float, shape (K, K)
        As `depth`, for the nucleus; -1 everywhere if the cell has none.
    row, column : int or None
        Centre in the field; None until the cell is placed.
    """

    def __init__(self, rng, kind, rbc_radius):
        self.kind = kind
        self.cell_class = "wbc" if kind in CELL_TYPES else kind
        self.radius = max(rbc_radius * rng.uniform(*_RADIUS[kind]), 1.5)
        self.row = self.column = None
        # The outline comes no further out than 1.2 radii; the rest is for its soft edge and a gap.
        half = int(1.25 * self.radius) + 3
        rows, columns = np.mgrid[-half : half + 1, -half : half + 1].astype(float)
        self.depth = _outline_depth(rng, self.radius, 0.15 if kind == "platelet" else 0.06, rows, columns)
        self.mask = self.depth > 0
        self.nucleus_depth = np.full(self.mask.shape, -1.0)
        if kind in CELL_TYPES:
            lobes = _lobes_depth(rng, kind, self.radius, rows, columns)
            # A rim of cytoplasm stays all around.
            self.nucleus_depth = np.minimum(lobes, self.depth - 0.05 * self.radius)

    def window(self, pad):
        """Return the slices of the patch in a field with `pad` extra pixels on each side."""
        size = len(self.mask)
        top, left = (center + pad - size // 2 for center in (self.row, self.column))
        return slice(top, top + size), slice(left, left + size)


def stain_colors(stain):
    """Return the colours of a stain.

    Parameters
    ----------
    stain : str
        One of `STAINS`.

    Returns
    -------
    background : ndarray of float, shape (3,)
        RGB where no cell lies, 0 to 255.
    colors : dict of str to ndarray of float, shape (3,)
        What each part of a cell absorbs of red, green and blue, as log(background / colour).
    """
    rgb = {
        part: np.array(list(bytes.fromhex(color)), float)
        for part, color in zip(_PARTS, _RGB[stain].split(), strict=True)
    }
    background = rgb["background"]
    return background, {part: np.log(background / color) for part, color in rgb.items()}


def absorbance(rng, cell, colors):
    """Return what each pixel of a cell's patch absorbs of each colour.

    Parameters
    ----------
    rng : numpy.random.Generator
    cell : Cell
    colors : dict
        As from `stain_colors`.

    Returns
    -------
    ndarray of float, shape (K, K, 3)
        Meant for the pixels of the cell; those outside hold a value too.
    """
    if cell.kind == "platelet":
        density = np.clip(0.8 + 0.4 * _grain(rng, cell.mask.shape, 0.9), 0.1, 2)
        return density[..., None] * colors["platelet"]
    inward = np.maximum(cell.depth, 0) / cell.radius  # 0 at the outline, 1 at the centre
    if cell.kind == "rbc":
        pallor = rng.uniform(0.1, 0.9) * np.exp(-(((1 - inward) / rng.uniform(0.3, 0.5)) ** 2))
        density = rng.uniform(0.85, 1.2) * (1 - pallor + 0.2 * np.exp(-inward / 0.1))
        return density[..., None] * colors["rbc"]
    return _white_absorbance(rng, cell, inward, colors)


def _white_absorbance(rng, cell, inward, colors):
    """Return the absorbance of a white cell: cytoplasm, over it the nucleus, over both the granules."""
    fine, coarse, clumps = (_grain(rng, cell.mask.shape, s * cell.radius) for s in (0.025, 0.13, 0.04))
    body = 1 + (0.16 if cell.kind == "neutrophil" else 0.06) * fine + 0.12 * coarse
    if cell.kind == "lymphocyte":
        body = body * (0.7 + 0.6 * np.exp(-inward / 0.1))  # bluest at the outline
    absorbed = np.maximum(body, 0.2)[..., None] * colors[cell.kind]
    chromatin = np.clip(1 + 0.12 * (clumps + coarse), 0.5, 1.6)[..., None] * colors["nucleus"]
    in_nucleus = np.clip(cell.nucleus_depth + 0.5, 0, 1)[..., None]
    absorbed += in_nucleus * (chromatin - absorbed)
    if cell.kind == "basophil":
        in_granule = np.clip(1.6 * clumps + 0.2, 0, 0.85)[..., None]
        absorbed += in_granule * (colors["granule"] - absorbed)
    return absorbed


def _outline_depth(rng, radius, waviness, rows, columns):
    """Return the distance to a wavy circle around (0, 0), positive inside."""
    waves = np.arange(2, 6)  # per turn; two make an oval
    heights = rng.normal(0, waviness / (waves - 1) ** 1.3)
    phases = rng.uniform(0, 2 * np.pi, waves.size)
    angles = np.arctan2(rows, columns)[..., None]
    ripple = (heights * np.cos(waves * angles + phases)).sum(axis=-1)
    return radius * (1 + np.clip(ripple, -0.2, 0.2)) - np.hypot(rows, columns)


def _lobes_depth(rng, kind, radius, rows, columns):
    """Return the depth within the lobes of a nucleus and the bridges that join them."""
    form = _NUCLEUS[kind]
    several = int(rng.integers(3, 6))  # asked for with every type: a seed gives all of them the same numbers
    n_lobes = {"neutrophil": several, "lymphocyte": 1, "basophil": 2}[kind]
    step = min(form["step"], _MAX_ARC / max(n_lobes - 1, 1))
    start = rng.uniform(0, 2 * np.pi)
    angles = start + step * (np.arange(n_lobes) + rng.uniform(-0.15, 0.15, n_lobes))
    tilts = angles + np.pi / 2 + rng.normal(0, 0.5, n_lobes)
    centers = rng.uniform(*form["arc"], (n_lobes, 1)) * _directions(angles) * radius
    halves = form["stretch"] * _directions(tilts) * radius
    lobes = [
        _rod_depth(rows, columns, center - half, center + half, radius * rng.uniform(*form["lobe"]))
        for center, half in zip(centers, halves, strict=True)
    ]
    uneven = np.max(lobes, axis=0) + 0.025 * radius * _grain(rng, rows.shape, 0.12 * radius)
    # Bridges stay straight: the noise could cut a line this thin.
    thickness = max(0.05 * radius, 1)
    bridges = [_rod_depth(rows, columns, *pair, thickness) for pair in pairwise(centers)]
    return np.max([uneven, *bridges], axis=0)


def _directions(angles):
    return np.column_stack([np.sin(angles), np.cos(angles)])


def _rod_depth(rows, columns, start, stop, radius):
    """Return how deep each pixel lies within a thick, round-ended line, in pixels."""
    step, rows, columns = stop - start, rows - start[0], columns - start[1]
    along = np.clip((rows * step[0] + columns * step[1]) / (step @ step), 0, 1)
    return radius - np.hypot(rows - along * step[0], columns - along * step[1])


def _grain(rng, shape, sigma):
    """Return smooth noise of mean 0 and standard deviation 1."""
    noise = ndi.gaussian_filter(rng.standard_normal(shape), sigma)
    return (noise - noise.mean()) / noise.std()

"""Drawn fields for controlled experiments: one property of smear or photograph is set, the rest stays.

On real smears properties come together: a crowded field is also one with more overlap. Here each is a number.
"""

import dataclasses

import cv2
import numpy as np

from bloodcells.colours import turn_hue
from bloodcells.drawn_cells import CELL_TYPES, Cell
from bloodcells.drawn_fields import make_field
from bloodcells.errors import UserError
from bloodcells.synthetic import draw

RADIUS = 18.0
"""Typical radius of a red cell, pixels: what the shipped networks expect, so that nothing is resized."""

_SEED = 2026
_LEAST_RADIUS = 4.0  # pixels; no cell is drawn smaller


@dataclasses.dataclass(frozen=True)
class Condition:
    """How a field is drawn and photographed.

    Attributes
    ----------
    density : float
        Share of the field that red cells would take up side by side, 0 to 0.9.
    overlap : float
        Largest share of a red cell that earlier ones may hide, 0 to 0.7. With 0 none touch.
    spread : float
        Standard deviation of the logarithm of the radii of red cells, 0 to 0.5, beside the tenth by which all
        drawn cells differ.
    others : int
        Number of white cells, 0 to 20, with twice as many platelets.
    blur : float
        Standard deviation of the optical blur, 0 to 9 pixels.
    noise : float
        Standard deviation of the sensor's noise, 0 to 99 grey levels.
    hue : float
        By how many degrees all colours are turned around the colour circle, -180 to 180.
    quality : int
        Of JPEG compression, 1 to 100; 100 is none at all.
    """

    density: float = 0.3
    overlap: float = 0.1
    spread: float = 0.0
    others: int = 0
    blur: float = 1.0
    noise: float = 3.0
    hue: float = 0.0
    quality: int = 100

    def __post_init__(self):
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise UserError(f"`{name}` must be from {low:g} to {high:g}, got {value!r}.")


_RANGES = {
    "density": (0, 0.9),
    "overlap": (0, 0.7),
    "spread": (0, 0.5),
    "others": (0, 20),
    "blur": (0, 9),
    "noise": (0, 99),
    "hue": (-180, 180),
    "quality": (1, 100),
}

GEOMETRY = ("density", "overlap", "spread", "others")
"""Properties of the cells; the others are of the photograph, and change neither masks nor counts."""


def draw_condition(condition, shape, *, seed):
    """Draw a field under a condition.

    Parameters
    ----------
    condition : Condition
    shape : tuple of int
        Rows and columns, each at least 5 `RADIUS`.
    seed : int
        Two conditions that differ only in blur, noise, hue or quality have the same cells with the same seed.

    Returns
    -------
    bloodcells.fields.Field
        As many red cells as the density asks for, which the border may cut, below any others. Outlines go
        around whole cells.

    Raises
    ------
    UserError
        If the cells don't fit.
    """
    rng = np.random.default_rng([_SEED, seed])
    upper = [*rng.choice(CELL_TYPES, condition.others).tolist(), *["platelet"] * (2 * condition.others)]
    n_red = round(condition.density * shape[0] * shape[1] / (np.pi * RADIUS**2))
    sizes = RADIUS * np.exp(condition.spread * rng.standard_normal(n_red))
    cells = [Cell(rng, kind, RADIUS) for kind in upper]
    cells += [Cell(rng, "rbc", max(size, _LEAST_RADIUS)) for size in sizes]
    smear = draw(
        rng,
        cells,
        shape,
        "giemsa",
        overlap=condition.overlap,
        whole=False,
        blur=condition.blur,
        noise=condition.noise,
        light=0.12,
    )
    image = compress(turn_hue(smear.image, condition.hue), condition.quality)
    field = make_field(f"synthetic-condition-{seed}", smear, cells)
    return dataclasses.replace(field, image=image)


def compress(image, quality):
    """Compress an image as JPEG files do, and read it again.

    Parameters
    ----------
    image : ndarray of uint8, shape (M, N, 3)
        RGB.
    quality : int
        1 to 100; 100 leaves the image as it is.

    Returns
    -------
    ndarray of uint8, shape (M, N, 3)
    """
    if quality == 100:
        return image
    ok, content = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    if not ok:
        raise UserError(f"An image of the shape {image.shape} can't be compressed as JPEG.")
    return np.ascontiguousarray(cv2.imdecode(content, cv2.IMREAD_COLOR)[..., ::-1])

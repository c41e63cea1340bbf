"""Tell from a photograph when its counts are not to be trusted: it is unlike what the networks learned from.

References
----------
.. [1] J. Immerkaer, "Fast noise variance estimation", Computer Vision and Image Understanding 64(2), 1996,
   pp. 300-302, doi:10.1006/cviu.1996.0060
"""

import json
from pathlib import Path

import cv2
import numpy as np
from scipy.ndimage import gaussian_gradient_magnitude
from skimage.color import rgb2lab
from skimage.filters import threshold_otsu

from bloodcells.checks import check_rgb
from bloodcells.errors import UserError
from bloodcells.networks import WEIGHTS
from bloodcells.working_scale import to_working_scale

SCALE_RADIUS = 18.0
"""Radius of red cells, pixels, at which photographs are compared: that of the network for red cells."""

RANGES = WEIGHTS / "ranges.json"

MEASURES = {
    "cell_radius": "radius of red cells, pixels of the photograph",
    "edge_width": "width of the edges of cells, pixels where red cells have a radius of 18",
    "noise": "noise, grey levels",
    "background_lightness": "lightness of the background, 0 to 100",
    "background_a": "background, green (-) to red (+)",
    "background_b": "background, blue (-) to yellow (+)",
    "cells_lightness": "lightness of the cells, 0 to 100",
    "cells_a": "cells, green (-) to red (+)",
    "cells_b": "cells, blue (-) to yellow (+)",
}
"""What is measured, and its unit."""

_FACTOR = 2  # how far beyond its range a radius or noise may lie
_BY_FACTOR = ("cell_radius", "noise")
# Edges that are a little wider than usual are already as wide as those of fields on which chapter 6's counts
# break: wide ones are underestimated.
_NEVER_BEYOND = ("edge_width",)
_NEVER_TOO_SMALL = ("edge_width", "noise")
_SMOOTHING = 1.5  # pixels; keeps noise out of the steepness of edges, and is part of their width
_LARGEST = 2048  # rows and columns that are looked at, pixels at the scale of comparison
_NEIGHBOURS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
_NOISE_MASK = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)  # [1]


def measure_quality(image, *, cell_radius):
    """Measure a photograph at the scale that the networks see.

    Parameters
    ----------
    image : ndarray of uint8, shape (M, N, 3)
        RGB, cells darker than the background.
    cell_radius : float
        Typical radius of its red cells, pixels.

    Returns
    -------
    dict of str to float
        For each of `MEASURES`. The green channel is cut by Otsu's threshold into background and cells. The
        edge width is the standard deviation of the Gaussian blur that would make a step between the medians
        of both as steep as the image is, in the median, where they meet; from a fifth of the cell radius on
        it is an underestimate, since no flat part of a cell is left. Noise is the standard deviation that the
        mean absolute response to [1]_'s mask stands for, in the background a little away from the cells.
        Colours are medians in CIELAB.

    Raises
    ------
    UserError
        If the image isn't of that form, or is of one grey level.
    """
    check_rgb(image)
    # The middle of a large image first: at the scale of comparison it may be larger still.
    side = int(np.ceil(_LARGEST * cell_radius / SCALE_RADIUS))
    starts = [max((length - side) // 2, 0) for length in image.shape[:2]]
    middle = tuple(slice(start, start + side) for start in starts)
    scaled, _ = to_working_scale(image[middle], cell_radius=SCALE_RADIUS, own_radius=cell_radius)
    green = scaled[..., 1]
    if green.min() == green.max():
        raise UserError("The image has one grey level; expected a bright field with darker cells.")
    dark = green <= threshold_otsu(green)
    step = float(np.median(green[~dark])) - float(np.median(green[dark]))
    boundary = cv2.morphologyEx(dark.astype(np.uint8), cv2.MORPH_GRADIENT, _NEIGHBOURS) > 0
    steepness = gaussian_gradient_magnitude(green.astype(np.float32), _SMOOTHING)[boundary]
    response = np.abs(cv2.filter2D(green.astype(np.float32), -1, _NOISE_MASK))
    away = cv2.erode((~dark).astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    colours = rgb2lab(scaled.astype(np.float32) / np.float32(255))
    measured = {
        "cell_radius": cell_radius,
        # A step of height 1, blurred by a Gaussian, is as steep as that is high.
        "edge_width": step / np.sqrt(2 * np.pi) / np.median(steepness),
        # A normal variable is off by sqrt(2 / pi) standard deviations in the mean; 6 is the mask's gain.
        "noise": response[away if away.any() else ~dark].mean() * np.sqrt(np.pi / 2) / 6,
    }
    for part, pixels in (("background", ~dark), ("cells", dark)):
        values = np.median(colours[pixels], axis=0)
        measured |= {f"{part}_{name}": v for name, v in zip(("lightness", "a", "b"), values, strict=True)}
    return {name: float(value) for name, value in measured.items()}


def read_ranges(path=RANGES):
    """Read what is usual among the photographs that the shipped networks learned from.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    dict of str to tuple of float
        For each of `MEASURES` the 5th and the 95th percentile.

    Raises
    ------
    UserError
        If the file is missing or damaged.
    """
    path = Path(path)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["ranges"]
        return {name: (float(found[name][0]), float(found[name][1])) for name in MEASURES}
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is missing or damaged ({error}); install bloodcells again.") from error


def check_quality(measured, ranges=None):
    """Name what is unusual about a photograph.

    Parameters
    ----------
    measured : dict
        From `measure_quality`.
    ranges : dict of str to tuple of float, optional
        Default: `read_ranges`.

    Returns
    -------
    dict of str to str
        Measure to a sentence, for those out of range; empty for a photograph like those that the networks
        know.

    Notes
    -----
    Cell radius and noise may lie beyond their range by a factor of 2, lightness and colours beyond theirs by
    a quarter of its width, and edges may not be wider than theirs. Edges and noise are never too small.

    Examples
    --------
    >>> check_quality({"noise": 5.0}, {"noise": (0.5, 1.0)})
    {'noise': 'noise, grey levels: 5, usual are 0.5 to 1'}
    """
    ranges = read_ranges() if ranges is None else ranges
    found = {}
    for name, value in measured.items():
        low, high = ranges[name]
        slack = 0 if name in _NEVER_BEYOND else (high - low) / 4
        least, most = (low / _FACTOR, high * _FACTOR) if name in _BY_FACTOR else (low - slack, high + slack)
        if value > most or (value < least and name not in _NEVER_TOO_SMALL):
            found[name] = f"{MEASURES[name]}: {value:.3g}, usual are {low:.3g} to {high:.3g}"
    return found


def quality_table(measured, ranges=None):
    """Tabulate what is measured beside what is usual.

    Parameters
    ----------
    measured : dict
        From `measure_quality`.
    ranges : dict of str to tuple of float, optional
        Default: `read_ranges`.

    Returns
    -------
    pandas.DataFrame of str
        Rows are measures, columns "measured", "usual" and "verdict": "not unusual" or "unusual".
    """
    import pandas as pd  # a second that `bloodcells count` does without

    ranges = read_ranges() if ranges is None else ranges
    unusual = check_quality(measured, ranges)
    return pd.DataFrame(
        {
            "measured": {MEASURES[name]: f"{value:.1f}" for name, value in measured.items()},
            "usual": {MEASURES[name]: "{:.1f} to {:.1f}".format(*ranges[name]) for name in measured},
            "verdict": {MEASURES[name]: "unusual" if name in unusual else "not unusual" for name in measured},
        }
    )

"""One map of classes from the masks of red and white cells, without the pixels on which they don't decide.

Masks drawn or computed on their own disagree: the red cell masks of ALL-IDB1 carry thin rims around white
cells, specks and pinholes, and here and there both masks claim a pixel. Such pixels carry no label.
"""

import cv2
import numpy as np

from bloodcells.class_metrics import UNLABELLED
from bloodcells.errors import UserError

CLASSES = ("background", "rbc", "wbc")
"""Names of the classes; a class's value is its place here."""

RIM = 0.25
"""Parts of the mask of red cells no wider than this are rims, radii of a red cell."""
SMALLEST = {"rbc": 0.15, "wbc": 0.5}
"""Smaller pieces of a mask are specks, in discs of the radius of a red cell."""
LARGEST_HOLE = 0.1
"""Smaller holes in a cell are pinholes, in the same unit."""


def label_classes(masks, *, cell_radius):
    """Turn the masks of red and white cells into one map of classes.

    Parameters
    ----------
    masks : dict of str to ndarray of bool, shape (M, N)
        With the keys "rbc" and "wbc".
    cell_radius : float
        Typical radius of a red cell, pixels.

    Returns
    -------
    ndarray of uint8, shape (M, N)
        0 background, 1 red cell, 2 white cell (`CLASSES`), 255 (`UNLABELLED`) where the masks don't decide:
        both claim the pixel; a part of the red cells' mask that a disc of a quarter of a radius across
        doesn't fit into (a rim around a white cell, a thread); a speck; a pinhole. Platelets are background.

    Raises
    ------
    UserError
        If a mask is missing, the two differ in shape, or the radius isn't above 0.

    Examples
    --------
    >>> red = np.zeros((40, 40), bool)
    >>> red[4:24, 4:24] = True
    >>> labels = label_classes({"rbc": red, "wbc": np.zeros_like(red)}, cell_radius=10.0)
    >>> int((labels == 1).sum())  # all but the four corners, which no disc fills
    396
    """
    if absent := [name for name in ("rbc", "wbc") if name not in masks]:
        raise UserError(f"`masks` must hold masks of rbc and wbc, got none of {' and '.join(absent)}.")
    red, white = (np.asarray(masks[name], bool) for name in ("rbc", "wbc"))
    if red.ndim != 2 or red.shape != white.shape:
        raise UserError(f"The two masks must be 2-D and of one shape, got {red.shape} and {white.shape}.")
    if not cell_radius > 0:
        raise UserError(f"`cell_radius` must be above 0 pixels, got {cell_radius!r}.")
    disc = np.pi * cell_radius**2
    undecided = (red & white) | (red & ~_open(red, RIM * cell_radius))
    for name, mask in (("rbc", red & ~undecided), ("wbc", white)):
        undecided |= _small(mask, SMALLEST[name] * disc)
    undecided |= _small(~(red | white), LARGEST_HOLE * disc)
    labels = np.zeros(red.shape, np.uint8)
    labels[red], labels[white] = CLASSES.index("rbc"), CLASSES.index("wbc")
    labels[undecided] = UNLABELLED
    return labels


def _open(mask, diameter):
    """Keep what a disc of the diameter fits into; cells that the border cuts stay as they are there."""
    size = 2 * round(diameter / 2) + 1  # odd, so that the disc has a middle
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), size, size, size, size, cv2.BORDER_REPLICATE)
    return cv2.morphologyEx(padded, cv2.MORPH_OPEN, kernel)[size:-size, size:-size].astype(bool)


def _small(mask, area):
    """Return the pieces smaller than an area; a piece at the border may go on beyond it, and is none."""
    pieces, stats = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)[1:3]
    small = stats[:, cv2.CC_STAT_AREA] < area
    small[0] = False
    for side in (pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]):
        small[side] = False
    return small[pieces]

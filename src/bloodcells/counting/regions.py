"""What the counting methods share: checks, the core of cells, and labels filled, sifted and grown."""

import cv2
import numpy as np
from skimage.measure import label as label_pieces

from bloodcells.errors import UserError

_PINHOLE_AREA = 0.01  # in discs of the cell radius; smaller holes have no shape worth asking about
_MIN_SOLIDITY = 0.7  # a gap among three or four touching discs has 0.37 or 0.43, an ellipse 1
_ROUNDING = 1e-5  # how far beyond 0 and 1 a resized probability may lie
_MAX_VALUE = 1e6  # of a size in radii: anything larger is a mistake, and must not overflow


def check_probability(name, probability):
    """Return a probability as float32, once it is known to be one.

    Parameters
    ----------
    name : str
        What the error message calls it.
    probability : ndarray of float or bool, shape (M, N)
        In [0, 1], but for the last digits that resizing may spoil, and with at least one pixel.

    Returns
    -------
    ndarray of float32, shape (M, N)

    Raises
    ------
    UserError
        If it has the wrong type or dimensions, no pixel, or values that are no probabilities.
    """
    probability = np.asarray(probability)
    is_float = probability.dtype == bool or np.issubdtype(probability.dtype, np.floating)
    if probability.ndim != 2 or not probability.size or not is_float:
        raise UserError(
            f"`{name}` must be a 2-D array of probabilities (float or bool) with at least one pixel, "
            f"got {probability.dtype} of shape {probability.shape}."
        )
    low, high = probability.min(), probability.max()
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):  # written so that not-a-number fails too
        raise UserError(f"`{name}` must hold probabilities from 0 to 1, got values from {low} to {high}.")
    return np.clip(probability.astype(np.float32), 0, 1)


def check_size(name, value, *, minimum=0.0, strict=False):
    """Raise unless a size is a finite number that is at least (or, strictly, above) a minimum.

    Parameters
    ----------
    name : str
        What the error message calls it.
    value : float
    minimum : float
    strict : bool
        True forbids the minimum itself.

    Raises
    ------
    UserError
    """
    is_number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not (is_number and minimum <= value < _MAX_VALUE) or (strict and value == minimum):
        relation = "above" if strict else "at least"
        raise UserError(f"`{name}` must be a number {relation} {minimum:g}, got {value!r}.")


def check_threshold(name, value):
    """Raise unless a threshold of a probability is a number from 0 to 1.

    Parameters
    ----------
    name : str
        What the error message calls it.
    value : float

    Raises
    ------
    UserError
    """
    check_size(name, value)
    if value > 1:
        raise UserError(f"`{name}` must be a number from 0 to 1, got {value!r}.")


def count_cells(labels):
    """Count the cells in a label image.

    Parameters
    ----------
    labels : ndarray of int, shape (M, N)
        0 is background. Labels need not be consecutive.

    Returns
    -------
    int
        Number of distinct non-zero labels.

    Raises
    ------
    UserError
        If it is no 2-D array of integers.

    Examples
    --------
    >>> count_cells(np.array([[0, 7, 7], [0, 0, 0], [2, 0, 0]]))
    2
    """
    labels = np.asarray(labels)
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f"`labels` must be a 2-D integer array, got {labels.dtype} of shape {labels.shape}.")
    return int(np.unique(labels[labels != 0]).size)


def threshold_core(mask, edge, *, mask_threshold, edge_threshold):
    """Check the probabilities and cut them into the cells and their core.

    Parameters
    ----------
    mask : ndarray of float, shape (M, N)
        Probability of lying in a cell.
    edge : ndarray of float, shape (M, N), or None
        Probability of lying on the outline of a cell.
    mask_threshold, edge_threshold : float
        In [0, 1].

    Returns
    -------
    foreground : ndarray of bool, shape (M, N)
        Where `mask` is above its threshold.
    core : ndarray of bool, shape (M, N)
        Where, in addition, `edge` is below its threshold; the foreground itself without `edge`.

    Raises
    ------
    UserError
        If an array or a threshold is out of range, or the shapes differ.
    """
    mask = check_probability("mask", mask)
    check_threshold("mask_threshold", mask_threshold)
    check_threshold("edge_threshold", edge_threshold)
    foreground = mask > mask_threshold
    if edge is None:
        return foreground, foreground
    edge = check_probability("edge", edge)
    if edge.shape != mask.shape:
        raise UserError(f"`mask` and `edge` must have the same shape, got {mask.shape} and {edge.shape}.")
    return foreground, foreground & (edge < edge_threshold)


def label_core(core, *, cell_radius, min_area, max_hole):
    """Label the pieces of the core, fill their holes and drop the small ones.

    Parameters
    ----------
    core : ndarray of bool, shape (M, N)
    cell_radius : float
        In pixels.
    min_area : float
        Smallest piece kept, holes included, in discs of the cell radius.
    max_hole : float
        Largest hole to fill, likewise.

    Returns
    -------
    ndarray of int32, shape (M, N)
    """
    # Pixels that share only a corner do not belong together: an edge may be one pixel thin there.
    labels = cv2.connectedComponents(core.astype(np.uint8), connectivity=4)[1]
    labels = fill_holes(labels, cell_radius=cell_radius, max_hole=max_hole)
    labels = drop_small(labels, min_pixels=min_area * np.pi * cell_radius**2)
    # Again, for holes that held a speck.
    return fill_holes(labels, cell_radius=cell_radius, max_hole=max_hole)


def fill_holes(labels, *, cell_radius, max_hole):
    """Fill the holes of cells: the pale middle that a mask may miss, and pinholes.

    A hole is filled if it touches one label alone, does not touch the border of the image, is small, and
    bulges outwards. A gap between touching cells that carry one label curves inwards and stays.

    Parameters
    ----------
    labels : ndarray of int32, shape (M, N)
    cell_radius : float
        In pixels.
    max_hole : float
        Area of the largest hole to fill, in discs of the cell radius.

    Returns
    -------
    ndarray of int32, shape (M, N)
        A new array.
    """
    holes, stats = cv2.connectedComponentsWithStats((labels == 0).astype(np.uint8), connectivity=8)[1:3]
    area = stats[:, cv2.CC_STAT_AREA]
    disc = np.pi * cell_radius**2
    candidate = area <= max_hole * disc
    candidate[0] = False  # the cells themselves
    for side in (holes[0], holes[-1], holes[:, 0], holes[:, -1]):
        candidate[side] = False
    filled = labels.copy()
    if not candidate.any():
        return filled

    # The largest and the smallest label that touch a hole are the same if only one label touches it. Labels
    # are small whole numbers, which float32 holds exactly; OpenCV has no dilation of int32.
    inside = candidate[holes]
    values, numbers = labels.astype(np.float32), holes[inside]
    plus = np.ones((3, 3), np.uint8)
    plus[::2, ::2] = 0
    lowest, highest = np.full(len(area), np.inf), np.zeros(len(area))
    np.maximum.at(highest, numbers, cv2.dilate(values, plus)[inside])
    values[labels == 0] = np.inf
    np.minimum.at(lowest, numbers, cv2.erode(values, plus)[inside])
    owner = np.where(candidate & (lowest == highest), highest, 0).astype(np.int32)

    for number in np.flatnonzero((owner > 0) & (area > _PINHOLE_AREA * disc)):
        left, top, width, height = stats[number, :4]
        hole = holes[top : top + height, left : left + width] == number
        if hole.sum() < _MIN_SOLIDITY * _convex_area(hole):
            owner[number] = 0
    filled[inside] = owner[numbers]
    return filled


def _convex_area(region):
    """Return the number of pixels in the convex hull of a region."""
    hull = cv2.convexHull(cv2.findNonZero(region.astype(np.uint8)))
    return int(cv2.fillConvexPoly(np.zeros(region.shape, np.uint8), hull, 1).sum())


def drop_small(labels, *, min_pixels):
    """Remove the labels of small objects.

    Parameters
    ----------
    labels : ndarray of int32, shape (M, N)
    min_pixels : float
        Area of the smallest object kept.

    Returns
    -------
    ndarray of int32, shape (M, N)
        The labels kept, numbered from 1 in their old order.
    """
    keep = np.bincount(labels.ravel()) >= max(min_pixels, 1)
    keep[0] = False
    return np.where(keep, np.cumsum(keep), 0).astype(np.int32)[labels]


def grow_labels(labels, foreground, *, max_distance):
    """Let labels grow over the foreground, each pixel to the nearest label.

    Parameters
    ----------
    labels : ndarray of int32, shape (M, N)
    foreground : ndarray of bool, shape (M, N)
        Where labels may grow.
    max_distance : float
        How far, in pixels.

    Returns
    -------
    ndarray of int32, shape (M, N)
        Contains the old labels. Foreground beyond their reach, or cut off from them, stays background.
    """
    if not labels.any() or not (foreground & (labels == 0)).any():
        return labels.copy()
    background = (labels == 0).astype(np.uint8)
    distance, nearest = cv2.distanceTransformWithLabels(
        background, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    # `nearest` numbers the labelled pixels; look up the label behind each number.
    label_of = np.zeros(nearest.max() + 1, np.int32)
    label_of[nearest[labels > 0]] = labels[labels > 0]
    grown = np.where(foreground & (distance <= max_distance), label_of[nearest], labels)
    # A label does not jump over background: of its pieces, those without an old pixel go.
    pieces, n_pieces = label_pieces(grown, connectivity=2, return_num=True)
    keep = np.zeros(n_pieces + 1, bool)
    keep[pieces[labels > 0]] = True
    return np.where(keep[pieces], grown, 0).astype(np.int32)

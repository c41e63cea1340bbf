"""Measure the objects of a label image: place, size, shape and outline."""

import cv2
import numpy as np
from scipy import ndimage as ndi

from bloodcells.errors import UserError


def measure_objects(labels, probability):
    """Measure every object of a label image.

    Parameters
    ----------
    labels : ndarray of int, shape (M, N)
        0 is background. Labels need not be consecutive.
    probability : ndarray of float, shape (M, N)
        Of being part of an object.

    Returns
    -------
    dict of str to ndarray, shape (n,)
        By rising "label" (int): centroid "row" and "column" (whole numbers are pixel centres), "area" in
        pixels, "equivalent_diameter" of the disc of that area, "eccentricity" in [0, 1] of the ellipse of the
        same second moments (0: a disc), and "score", the mean probability inside.

    Raises
    ------
    UserError
        If the shapes differ or labels aren't whole numbers.

    Notes
    -----
    The definitions are those of `skimage.measure.regionprops`; sums over all objects at once make it many
    times faster with thousands of objects.

    Examples
    --------
    >>> objects = measure_objects(np.array([[0, 3, 3], [0, 3, 3]]), np.full((2, 3), 0.75))
    >>> [float(objects[name][0]) for name in ("row", "column", "area", "eccentricity", "score")]
    [0.5, 1.5, 4.0, 0.0, 0.75]
    """
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f"`labels` must be a 2-D integer array, got {labels.dtype} of shape {labels.shape}.")
    if labels.shape != probability.shape:
        raise UserError(
            f"`labels` and `probability` must have one shape, got {labels.shape} and {probability.shape}."
        )
    rows, columns = np.nonzero(labels)
    inside = labels[rows, columns]
    area = np.bincount(inside)
    present = np.flatnonzero(area)
    area = area[present].astype(float)

    def mean(values):
        return np.bincount(inside, values)[present] / area

    row, column, score = mean(rows), mean(columns), mean(probability[rows, columns])
    row_variance = mean(rows.astype(float) ** 2) - row**2
    column_variance = mean(columns.astype(float) ** 2) - column**2
    covariance = mean(rows.astype(float) * columns) - row * column
    middle = (row_variance + column_variance) / 2
    half_spread = np.hypot((row_variance - column_variance) / 2, covariance)
    longest = middle + half_spread
    # A single pixel has no extent: a disc. Rounding may take a line a little below 0.
    ratio = np.divide(middle - half_spread, longest, out=np.ones_like(longest), where=longest > 1e-9)
    return {
        "label": present,
        "row": row,
        "column": column,
        "area": area,
        "equivalent_diameter": np.sqrt(4 * area / np.pi),
        "eccentricity": np.sqrt(1 - np.clip(ratio, 0, 1)),
        "score": score,
    }


def touching_border(labels):
    """Labels of the objects that touch the border of a label image.

    Parameters
    ----------
    labels : ndarray of int, shape (M, N)

    Returns
    -------
    ndarray of int, shape (n,)
        Rising, without 0.

    Examples
    --------
    >>> touching_border(np.array([[0, 0, 0], [0, 5, 0], [0, 0, 2]]))
    array([2])
    """
    frame = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return np.unique(frame[frame != 0])


def trace_outlines(labels, *, tolerance=0.4):
    """Trace the outline of every object of a label image.

    Parameters
    ----------
    labels : ndarray of int, shape (M, N)
        0 is background.
    tolerance : float
        How far the outline may lie from that of the pixels, pixels: fewer vertices, and no steps.

    Yields
    ------
    label : int
    outline : ndarray of float64, shape (K, 2)
        Vertices (row, column) of the largest part's outer outline, the last equal to the first; whole numbers
        are pixel centres. It runs a quarter of a pixel inside of the object's outermost edge.
    """
    for label, window in enumerate(ndi.find_objects(labels), start=1):
        if window is None:
            continue
        # OpenCV joins the centres of pixels. Those of pixels half as large are nearer to the edge, and even a
        # single pixel gets an area.
        mask = (labels[window] == label).astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        contour = max(contours, key=cv2.contourArea)
        simple = cv2.approxPolyDP(contour, 2 * tolerance, True)
        outline = (simple if len(simple) >= 3 else contour)[:, 0, ::-1] / 2 - 0.25
        corner = np.array([axis.start for axis in window])
        yield label, np.concatenate([outline, outline[:1]]) + corner

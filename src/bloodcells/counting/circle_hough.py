"""Circle Hough transform (CHT): gharbi2023, section IV; the method that the paper prefers for red cells."""

import cv2
import numpy as np

from bloodcells.counting.regions import check_probability, check_size
from bloodcells.errors import UserError


def find_circles(
    probability,
    *,
    cell_radius,
    radius_range=(0.7, 1.4),
    min_distance=0.9,
    min_votes=0.55,
    edge_contrast=0.12,
    smoothing=0.0,
):
    """Find circles in a map of edges.

    Parameters
    ----------
    probability : ndarray of float, shape (M, N)
        Of lying on the outline of a cell, in [0, 1]. The probability of lying in a cell does as well: the
        method looks for the steps of the map.
    cell_radius : float
        Typical radius of a cell in pixels, above 0.
    radius_range : tuple of float
        Smallest and largest radius, in cell radii.
    min_distance : float
        Smallest distance between two centres, in cell radii, above 0.
    min_votes : float
        Edge pixels that must point at a centre, for each pixel of the cell radius (a full outline has 2 pi,
        twice that where both sides of its edge are seen).
    edge_contrast : float
        Upper threshold of the Canny edge detector, as a step of the probability, in (0, 4].
    smoothing : float
        Standard deviation of a Gaussian blur before the search, in cell radii; 0 is none.

    Returns
    -------
    ndarray of float64, shape (n, 3)
        Row, column and radius of each circle in pixels, the circle with most votes first. A whole number
        is the centre of a pixel. Centres are good to a pixel or two.

    Raises
    ------
    UserError
        If an argument has the wrong shape or is out of range.

    Notes
    -----
    The map is searched in 256 grey levels with ``cv2.HoughCircles`` (Hough gradient method).

    gharbi2023 has one set of constants in pixels for every image: for red cells ``minDist=33, minRadius=28,
    maxRadius=55, param1=30, param2=20``, and for the others ``minDist=51, minRadius=48, maxRadius=120,
    param1=70, param2=20`` (from the released program; the paper does not give them). On red cells of 36 px
    radius the first set is ``radius_range=(0.78, 1.53), min_distance=0.92, edge_contrast=0.12,
    min_votes=0.56``. It searched a colour picture of the map turned grey, we search the map.

    Examples
    --------
    >>> rows, columns = np.ogrid[:60, :60]
    >>> disc = np.hypot(rows - 30, columns - 25) <= 18
    >>> find_circles(disc, cell_radius=18)[:, :2]
    array([[30., 25.]])
    """
    probability = check_probability("probability", probability)
    check_size("cell_radius", cell_radius, strict=True)
    if np.shape(radius_range) != (2,):
        raise UserError(f"`radius_range` must be two numbers, got {radius_range!r}.")
    smallest, largest = radius_range
    check_size("radius_range[0]", smallest)
    check_size("radius_range[1]", largest, minimum=smallest, strict=True)
    sizes = {"min_distance": min_distance, "min_votes": min_votes, "edge_contrast": edge_contrast}
    for name, value in sizes.items():
        check_size(name, value, strict=True)
    if edge_contrast > 4:  # the steepest step that a Sobel filter can report
        raise UserError(f"`edge_contrast` must be a number above 0 and at most 4, got {edge_contrast!r}.")
    check_size("smoothing", smoothing)

    if smoothing > 0:
        probability = cv2.GaussianBlur(probability, (0, 0), smoothing * cell_radius)
    grey = np.clip(np.rint(255 * probability), 0, 255).astype(np.uint8)
    min_radius = max(round(smallest * cell_radius), 1)
    circles = cv2.HoughCircles(
        grey,
        cv2.HOUGH_GRADIENT,
        dp=1,
        minDist=min_distance * cell_radius,
        param1=255 * edge_contrast,
        param2=max(min_votes * cell_radius, 1),
        minRadius=min_radius,
        maxRadius=max(round(largest * cell_radius), min_radius + 1),
    )
    if circles is None:
        return np.zeros((0, 3))
    # OpenCV counts columns and rows from the corner of the first pixel, we do from its centre.
    return circles.reshape(-1, circles.shape[-1])[:, [1, 0, 2]].astype(np.float64) - [0.5, 0.5, 0]


def circles_to_labels(circles, shape):
    """Draw circles as a label image.

    Parameters
    ----------
    circles : ndarray of float, shape (n, 3)
        Row, column and radius of each in pixels.
    shape : tuple of int
        Rows and columns of the image.

    Returns
    -------
    ndarray of int32, shape `shape`
        Label i + 1 for circle i, 0 is background. Where circles overlap a pixel goes to the circle in which
        it lies deeper, as a share of the radius. A circle outside the image has no pixel.

    Raises
    ------
    UserError
        If the shape is no pair of numbers above 0 or the circles are no finite (n, 3) array with radii
        above 0.

    Examples
    --------
    >>> circles_to_labels(np.array([[1, 1, 1.0], [1, 4, 1.0]]), (3, 6))
    array([[0, 1, 0, 0, 2, 0],
           [1, 1, 1, 2, 2, 2],
           [0, 1, 0, 0, 2, 0]], dtype=int32)
    """
    circles = np.asarray(circles, dtype=np.float64)
    if circles.ndim != 2 or circles.shape[1] != 3:
        raise UserError(f"`circles` must have the shape (n, 3), got {circles.shape}.")
    if not (np.isfinite(circles).all() and (circles[:, 2] > 0).all()):
        raise UserError("`circles` must be finite with radii above 0, got others.")
    if np.shape(shape) != (2,) or min(shape) < 1:
        raise UserError(f"`shape` must be two numbers above 0, got {shape!r}.")
    labels = np.zeros(shape, np.int32)
    nearest = np.full(shape, np.inf)
    for number, (row, column, radius) in enumerate(circles, start=1):
        low = np.clip(np.ceil([row - radius, column - radius]), 0, shape).astype(int)
        high = np.clip(np.floor([row + radius, column + radius]) + 1, 0, shape).astype(int)
        window = (slice(low[0], high[0]), slice(low[1], high[1]))
        rows, columns = np.ogrid[window]
        depth = np.hypot(rows - row, columns - column) / radius  # 0 in the middle, 1 on the circle
        wins = (depth <= 1) & (depth < nearest[window])
        labels[window][wins] = number
        nearest[window][wins] = depth[wins]
    return labels

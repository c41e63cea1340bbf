"""Count cells by splitting components step by step, only those that don't look like one cell.

None of the papers' methods: connected components merge cells wherever an edge has a gap, and a threshold
strict enough to close the gaps loses faint cells; the distance transform cuts bent cells in two. Here a
component that is compact and no larger than a cell is left alone, and only others are split further.
"""

import cv2
import numpy as np
from scipy import ndimage as ndi
from skimage.feature import peak_local_max
from skimage.segmentation import watershed

from bloodcells.counting.regions import check_probability, check_size, grow_labels, threshold_core
from bloodcells.errors import UserError


def label_component_tree(
    mask,
    edge=None,
    *,
    cell_radius,
    levels=(0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    mask_threshold=0.5,
    min_area=0.12,
    max_area=1.3,
    min_solidity=0.9,
    min_distance=0.5,
    min_height=0.3,
    max_growth=0.35,
):
    """Label cells by splitting components of the core until each looks like one cell.

    Parameters
    ----------
    mask, edge : ndarray of float, shape (M, N)
        Probabilities in [0, 1]; without edges the mask alone decides.
    cell_radius : float
        Typical radius of a cell, pixels.
    levels : sequence of float
        Rising thresholds of the core's probability, mask times (1 - edge).
    mask_threshold : float
        The pixels that labels may grow to.
    min_area, max_area : float
        Smallest area of a cell, and the largest that isn't split, in areas of a disc of `cell_radius`.
    min_solidity : float
        A component that fills less than this share of its convex hull is split if it can be.
    min_distance, min_height : float
        Least distance between two peaks of the distance transform, and their least height, radii. They
        split what no level splits.
    max_growth : float
        How far labels grow at last, to take in the edges of their cells, radii.

    Returns
    -------
    ndarray of int32, shape (M, N)
        0 is background; labels are 1 to the number of cells.

    Raises
    ------
    UserError
        If the maps aren't probabilities of one shape, the levels don't rise within [0, 1], `cell_radius`
        isn't above 0, or another size is below it.

    Examples
    --------
    >>> core = np.zeros((20, 40))
    >>> core[5:15, 5:15] = core[5:15, 20:30] = 1.0
    >>> core[9:11, 15:20] = 0.4  # a bridge that the second level breaks
    >>> int(label_component_tree(core, cell_radius=5.5).max())
    2
    """
    check_size("cell_radius", cell_radius, strict=True)
    sizes = {
        "min_area": min_area,
        "max_area": max_area,
        "min_solidity": min_solidity,
        "min_distance": min_distance,
        "min_height": min_height,
        "max_growth": max_growth,
    }
    for name, value in sizes.items():
        check_size(name, value)
    if not levels or list(levels) != sorted(set(levels)) or not 0 <= levels[0] <= levels[-1] <= 1:
        raise UserError(f"`levels` must be thresholds that rise within [0, 1], got {levels!r}.")
    foreground, _ = threshold_core(mask, edge, mask_threshold=mask_threshold, edge_threshold=1.0)
    probability = check_probability("mask", mask)
    if edge is not None:
        probability = probability * (1 - check_probability("edge", edge))
    cell_area = np.pi * cell_radius**2
    cells = []  # (window, mask in the window)
    waiting = [
        (window, component, 0)
        for window, component in _components(probability > levels[0], min_area * cell_area)
    ]
    while waiting:
        window, component, level = waiting.pop()
        if component.sum() <= max_area * cell_area and _solidity(component) >= min_solidity:
            cells.append((window, component))
            continue
        parts, level = _split_by_level(
            probability[window], component, levels, level + 1, min_area * cell_area
        )
        if parts:
            waiting += [(_shift(part_window, window), part, level) for part_window, part in parts]
        else:
            parts = _split_by_distance(component, cell_radius * min_distance, cell_radius * min_height)
            cells += [(window, part) for part in parts if part.sum() >= min_area * cell_area]

    labels = np.zeros(probability.shape, np.int32)
    # From top to bottom, so that equal maps get equal labels whatever the order of splitting.
    for value, (window, component) in enumerate(sorted(cells, key=_first_pixel), start=1):
        labels[window][component] = value
    return grow_labels(labels, foreground, max_distance=max_growth * cell_radius)


def _components(foreground, min_size):
    """Return window and mask of each component of at least `min_size` pixels, its holes filled."""
    labels, _ = ndi.label(foreground)
    found = []
    for value, window in enumerate(ndi.find_objects(labels), start=1):
        component = ndi.binary_fill_holes(labels[window] == value)
        if component.sum() >= min_size:
            found.append((window, component))
    return found


def _split_by_level(probability, component, levels, first, min_size):
    """Find the first level at which two parts remain; without one, return no parts."""
    for level in range(first, len(levels)):
        parts = _components(component & (probability > levels[level]), min_size)
        if len(parts) != 1:
            return (parts, level) if parts else ([], level)
    return [], len(levels)


def _split_by_distance(component, min_distance, min_height):
    """Cut a component between the peaks of its distance transform; return it whole if there is only one."""
    padded = np.pad(component, 1)
    distance = cv2.distanceTransform(padded.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    distance = cv2.GaussianBlur(distance, (0, 0), 1)  # one peak for a plateau
    peaks = peak_local_max(
        distance, min_distance=max(round(min_distance), 1), threshold_abs=min_height, exclude_border=False
    )
    if len(peaks) < 2:
        return [component]
    markers = np.zeros(padded.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels = watershed(-distance, markers, mask=padded)[1:-1, 1:-1]
    return [labels == value for value in range(1, len(peaks) + 1)]


def _solidity(component):
    """Share of its convex hull that a component fills."""
    contours, _ = cv2.findContours(component.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    hull = cv2.convexHull(max(contours, key=cv2.contourArea))
    # OpenCV's area runs through pixel centres; half the perimeter more is the area of the pixels.
    area = cv2.contourArea(hull) + cv2.arcLength(hull, closed=True) / 2 + 1
    return component.sum() / area


def _shift(window, by):
    return tuple(
        slice(one.start + other.start, one.stop + other.start) for one, other in zip(window, by, strict=True)
    )


def _first_pixel(cell):
    window, component = cell
    row, column = np.argwhere(component)[0]
    return window[0].start + row, window[1].start + column

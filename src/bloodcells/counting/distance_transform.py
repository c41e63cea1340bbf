"""Euclidean distance transform (EDT), its peaks, and the watershed between them: gharbi2023, section IV."""

import cv2
import numpy as np

from bloodcells.counting.regions import check_size, drop_small, grow_labels, label_core, threshold_core

_NEIGHBOURS = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]


def label_distance_peaks(
    mask,
    edge=None,
    *,
    cell_radius,
    mask_threshold=0.5,
    edge_threshold=0.3,
    min_distance=0.6,
    min_height=0.3,
    min_prominence=0.05,
    smoothing=0.0,
    min_area=0.1,
    max_hole=0.3,
    max_growth=0.4,
):
    """Label cells by the peaks of their distance from what lies outside.

    Parameters
    ----------
    mask : ndarray of float, shape (M, N)
        Probability of lying in a cell, in [0, 1].
    edge : ndarray of float, shape (M, N), optional
        Probability of lying on the outline of a cell, in [0, 1].
    cell_radius : float
        Typical radius of a cell in pixels, above 0.
    mask_threshold, edge_threshold : float
        The core of the cells is where `mask` is above and `edge` below its threshold; both in [0, 1]. The
        distance is that from a pixel of the core to the nearest pixel outside. The border of the image is
        not outside: a cell that it cuts is as if mirrored.
    min_distance : float
        Smallest distance between two peaks of one piece of the core, in cell radii. Of two closer ones the
        higher stays.
    min_height : float
        Smallest height of a peak, in cell radii.
    min_prominence : float
        Smallest height of a peak above the pass to a higher one, in cell radii. It keeps the ripples on the
        ridge of a long cell from counting as cells.
    smoothing : float
        Standard deviation of a Gaussian blur of the distance, in cell radii; 0 is none.
    min_area : float
        Smallest share of the core kept, in discs of the cell radius.
    max_hole : float
        Largest hole filled before distances are taken, in discs of the cell radius; 0 fills none.
    max_growth : float
        How far labels grow over the mask beyond the core, in cell radii.

    Returns
    -------
    ndarray of int32, shape (M, N)
        Labels from 1 on, 0 is background.

    Raises
    ------
    UserError
        If an array or a number is out of range, or the shapes differ.

    Notes
    -----
    The watershed is one of hill climbing: every pixel goes up the steepest way until it is on a top. Then
    tops are joined across their passes, the highest pass first, unless both are peaks by the three rules
    above. A plateau is one top. This finds peaks and watershed in one go, many times faster than flooding.

    gharbi2023 names local maxima of the distance transform (section IV) without settings; the released
    program stops at the distance transform and gives no count by it.

    Examples
    --------
    >>> rows, columns = np.ogrid[:40, :60]
    >>> mask = np.maximum(np.hypot(rows - 20, columns - 20) <= 12, np.hypot(rows - 20, columns - 38) <= 12)
    >>> label_distance_peaks(mask, cell_radius=12)[20, [5, 20, 38, 55]]
    array([0, 1, 2, 0], dtype=int32)
    """
    check_size("cell_radius", cell_radius, strict=True)
    sizes = {
        "min_distance": min_distance,
        "min_height": min_height,
        "min_prominence": min_prominence,
        "smoothing": smoothing,
        "min_area": min_area,
        "max_hole": max_hole,
        "max_growth": max_growth,
    }
    for name, value in sizes.items():
        check_size(name, value)
    foreground, core = threshold_core(
        mask, edge, mask_threshold=mask_threshold, edge_threshold=edge_threshold
    )
    core = label_core(core, cell_radius=cell_radius, min_area=min_area, max_hole=max_hole) > 0
    distance = _measure_distance(core, sigma=smoothing * cell_radius)
    labels = _climb(
        distance,
        core,
        min_distance=min_distance * cell_radius,
        min_height=min_height * cell_radius,
        min_prominence=min_prominence * cell_radius,
    )
    labels = drop_small(labels, min_pixels=min_area * np.pi * cell_radius**2)
    return grow_labels(labels, foreground, max_distance=max_growth * cell_radius)


def _measure_distance(core, *, sigma):
    """Return the distance of each pixel of the core from the nearest other pixel, 0 elsewhere."""
    distance = cv2.distanceTransform(core.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    distance = np.minimum(distance, np.float32(np.hypot(*core.shape)))  # endless if all pixels are core
    if sigma > 0:
        distance = cv2.GaussianBlur(distance, (0, 0), sigma)
    return np.where(core, distance, np.float32(0))


def _find_hills(distance, core):
    """Return a label image of the tops that pixels climb to, and the top pixel of each (row, column)."""
    shape = core.shape
    padded = np.pad(np.where(core, distance, np.float32(-1)), 1, constant_values=-1)
    height, own = padded[1:-1, 1:-1], np.arange(core.size, dtype=np.int32).reshape(shape)
    steepest, target = np.zeros(shape, np.float32), own.copy()
    for down, right in _NEIGHBOURS:
        neighbour = padded[1 + down : 1 + down + shape[0], 1 + right : 1 + right + shape[1]]
        slope = (neighbour - height) / np.float32(np.hypot(down, right))
        steeper = slope > steepest
        np.copyto(steepest, slope, where=steeper)
        np.copyto(target, own + np.int32(down * shape[1] + right), where=steeper)

    # Neighbours without a higher neighbour are equally high: a plateau, hence one top.
    is_top = core & (target == own)
    tops = cv2.connectedComponents(is_top.astype(np.uint8), connectivity=8)[1].ravel()
    pixels = np.flatnonzero(core)
    target = target.ravel()
    goal = target[pixels]
    while not is_top.ravel()[goal].all():  # twice as far each time
        target[pixels] = goal = target[goal]
    hills = np.zeros(core.size, np.int32)
    hills[pixels] = tops[goal]

    numbers = tops[pixels]
    rows, columns = np.divmod(pixels[numbers > 0], shape[1])
    numbers = numbers[numbers > 0]
    n_pixels = np.maximum(np.bincount(numbers, minlength=1), 1)  # 0 stands for no top
    sums = [np.bincount(numbers, weights=position, minlength=1) for position in (rows, columns)]
    return hills.reshape(shape), np.stack(sums, axis=-1) / n_pixels[:, None]


def _find_passes(distance, hills):
    """Return the highest pass between each two hills that meet: numbers (n, 2) and heights, highest first."""
    first, second, heights = [], [], []
    n_rows, n_columns = hills.shape
    for down, right in _NEIGHBOURS[4:]:  # each pair of pixels once
        one = (slice(0, n_rows - down), slice(max(-right, 0), n_columns - max(right, 0)))
        other = (slice(down, n_rows), slice(max(right, 0), n_columns + min(right, 0)))
        meet = (hills[one] != hills[other]) & (hills[one] > 0) & (hills[other] > 0)
        first.append(np.minimum(hills[one][meet], hills[other][meet]))
        second.append(np.maximum(hills[one][meet], hills[other][meet]))
        heights.append(np.minimum(distance[one][meet], distance[other][meet]))
    first, second, heights = (np.concatenate(part) for part in (first, second, heights))
    pair = first.astype(np.int64) * (hills.max() + 1) + second
    order = np.lexsort((-heights, pair))
    order = order[np.unique(pair[order], return_index=True)[1]]  # of each pair, the highest
    order = order[np.argsort(-heights[order], kind="stable")]
    return np.stack([first[order], second[order]], axis=-1), heights[order]


def _climb(distance, core, *, min_distance, min_height, min_prominence):
    """Label the core by its peaks; lengths are in pixels."""
    hills, tops = _find_hills(distance, core)
    height = np.zeros(len(tops), np.float32)
    np.maximum.at(height, hills.ravel(), distance.ravel())
    height, tops = height.tolist(), tops.tolist()
    parent = list(range(len(tops)))

    def find(hill):
        while parent[hill] != hill:
            parent[hill] = parent[parent[hill]]
            hill = parent[hill]
        return hill

    passes, pass_heights = _find_passes(distance, hills)
    for (one, other), pass_height in zip(passes.tolist(), pass_heights.tolist(), strict=True):
        high, low = find(one), find(other)
        if high == low:
            continue
        if height[high] < height[low]:
            high, low = low, high
        apart = np.hypot(tops[high][0] - tops[low][0], tops[high][1] - tops[low][1])
        low_is_peak = height[low] >= min_height and height[low] - pass_height >= min_prominence
        if not (low_is_peak and apart >= min_distance):
            parent[low] = high

    peak = np.array([find(hill) for hill in range(len(tops))], np.int32)
    peak[np.array(height)[peak] < min_height] = 0
    return peak[hills]

"""Scores of cells found one by one, and of counts; the argument order is always (true, pred).

The empty rule is that of `bloodcells.metrics`: a ratio whose denominator is 0 is not-a-number.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from bloodcells.errors import UserError
from bloodcells.metrics import mean_score

_SUBPIXEL_BITS = 4  # OpenCV draws outlines to 1/16 pixel


@dataclass(frozen=True, eq=False)
class ObjectMatch:
    """Which true cells were found.

    Attributes
    ----------
    tp, fp, fn : int
        Cells found, found in error, and missed. Pooled scores add these up over images.
    pairs : ndarray of int64, shape (tp, 2)
        Index of the true outline (from 0 on), and the label or the index of the point matched with it.
    values : ndarray of float64, shape (tp,)
        How well each pair fits: IoU in [0, 1] from `match_outlines`, distance in pixels from `match_centres`.
    """

    tp: int
    fp: int
    fn: int
    pairs: np.ndarray
    values: np.ndarray


def _check_outlines(outlines):
    """Return outlines as float64 arrays."""
    outlines = [np.asarray(outline, dtype=np.float64) for outline in outlines]
    for index, outline in enumerate(outlines):
        if outline.ndim != 2 or outline.shape[1] != 2 or len(outline) == 0:
            raise UserError(
                f"Outlines must have the shape (K, 2) with K at least 1, "
                f"got {outline.shape} for number {index}."
            )
        if not np.abs(outline).max() < 1e6:  # written so that not-a-number fails too
            raise UserError(f"Outlines must hold finite pixel coordinates, outline {index} does not.")
    return outlines


def fill_outline(outline):
    """Return the pixels of an outline.

    Parameters
    ----------
    outline : ndarray of float, shape (K, 2)
        Row and column of each vertex; a whole number is the centre of a pixel. The last vertex joins the
        first.

    Returns
    -------
    top, left : int
        Place of the patch in the image; may be negative.
    patch : ndarray of bool, shape (m, n)
        The bounding box of the outline.

    Raises
    ------
    UserError
        If the outline has another shape or is not finite.

    Notes
    -----
    Drawn with ``cv2.fillPoly``: the pixels that the outline runs through belong to the cell, and where it
    crosses itself the even-odd rule holds. An outline without area is a line of pixels.

    Examples
    --------
    >>> top, left, patch = fill_outline(np.array([[2, 5], [2, 8], [4, 8], [4, 5]]))
    >>> top, left, patch.shape, int(patch.sum())
    (2, 5, (3, 4), 12)
    """
    (outline,) = _check_outlines([outline])
    top, left = np.floor(outline.min(axis=0)).astype(int).tolist()
    bottom, right = np.ceil(outline.max(axis=0)).astype(int).tolist()
    patch = np.zeros((bottom - top + 1, right - left + 1), np.uint8)
    vertices = np.rint((outline - [top, left]) * 2**_SUBPIXEL_BITS).astype(np.int32)
    # OpenCV wants (column, row).
    cv2.fillPoly(patch, [np.ascontiguousarray(vertices[:, ::-1])], 1, shift=_SUBPIXEL_BITS)
    return top, left, patch > 0


def _pair_up(true, pred, gain, n_true, n_pred):
    """Choose one-to-one pairs among candidates: as many as possible, then the greatest gain.

    Gains lie in [0, 1]. Returns the indices of the chosen candidates.
    """
    if not len(true):
        return np.zeros(0, np.int64)
    rows, row_of = np.unique(true, return_inverse=True)
    columns, column_of = np.unique(pred, return_inverse=True)
    # A pair counts more than all gains together can.
    profit = np.zeros((len(rows), len(columns)))
    profit[row_of, column_of] = 1 + gain / (min(n_true, n_pred) + 1)
    candidate = np.full(profit.shape, -1)
    candidate[row_of, column_of] = np.arange(len(true))
    chosen = candidate[linear_sum_assignment(profit, maximize=True)]
    return chosen[chosen >= 0]


def match_outlines(outlines, labels, *, iou_threshold=0.5):
    """Match true outlines with labels by their overlap.

    Parameters
    ----------
    outlines : sequence of ndarray of float, shape (K, 2)
        Row and column of the vertices of each true cell, in pixels. They may overlap, cross themselves or
        leave the image; each is filled on its own (`fill_outline`) and clipped to the image.
    labels : ndarray of int, shape (M, N)
        Cells found, 0 is background. Labels need not be consecutive.
    iou_threshold : float
        Smallest intersection over union of a pair, in (0, 1].

    Returns
    -------
    ObjectMatch
        One-to-one: as many pairs as possible and, among such choices, the greatest sum of IoUs. Every
        outline is a true cell; one without a pixel in the image can only be missed.

    Raises
    ------
    UserError
        If an argument has the wrong shape or type or is out of range.

    Examples
    --------
    >>> labels = np.zeros((10, 10), int)
    >>> labels[2:5, 5:9] = 7
    >>> square = np.array([[2, 5], [2, 8], [4, 8], [4, 5]])
    >>> match_outlines([square, square + 1], labels).pairs
    array([[0, 7]])
    """
    outlines, labels = _check_outlines(outlines), np.asarray(labels)
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f"`labels` must be a 2-D integer array, got {labels.dtype} of shape {labels.shape}.")
    if labels.size and labels.min() < 0:
        raise UserError(f"`labels` must not be negative, got {labels.min()}.")
    if not 0 < iou_threshold <= 1:
        raise UserError(f"`iou_threshold` must be above 0 and at most 1, got {iou_threshold!r}.")

    numbers = None
    if labels.max(initial=0) > labels.size:  # counting them would take more room than the image
        numbers, inverse = np.unique(labels, return_inverse=True)
        labels = inverse.reshape(labels.shape) + (numbers[0] > 0)
        numbers = numbers if numbers[0] == 0 else np.append(0, numbers)
    areas = np.bincount(labels.ravel(), minlength=1)
    areas[0] = 0
    true, pred, iou = [], [], []
    for index, outline in enumerate(outlines):
        top, left, patch = fill_outline(outline)
        bottom, right = top + patch.shape[0], left + patch.shape[1]
        patch = patch[
            max(-top, 0) : max(labels.shape[0] - top, 0), max(-left, 0) : max(labels.shape[1] - left, 0)
        ]
        window = labels[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
        met, shared = np.unique(window[patch], return_counts=True)
        met, shared = met[met > 0], shared[met > 0]
        overlap = shared / (patch.sum() + areas[met] - shared)
        good = overlap >= iou_threshold
        true += [index] * int(good.sum())
        pred += met[good].tolist()
        iou += overlap[good].tolist()
    true, pred, iou = np.array(true, np.int64), np.array(pred, np.int64), np.array(iou, np.float64)
    n_pred = int(np.count_nonzero(areas))
    chosen = _pair_up(true, pred, iou, len(outlines), n_pred)
    found = pred[chosen] if numbers is None else numbers[pred[chosen]]
    pairs = np.stack([true[chosen], found.astype(np.int64)], axis=-1)
    n_pairs = len(pairs)
    return ObjectMatch(n_pairs, n_pred - n_pairs, len(outlines) - n_pairs, pairs, iou[chosen])


def match_centres(outlines, points, *, max_distance):
    """Match true outlines with points by the distance from their centres.

    Parameters
    ----------
    outlines : sequence of ndarray of float, shape (K, 2)
        As for `match_outlines`. The centre is the mean position of the pixels of an outline.
    points : ndarray of float, shape (n, 2) or (n, 3)
        Row and column of each cell found, in pixels; a third column (the radius of circles) is not used.
    max_distance : float or sequence of float, one an outline
        Largest distance of a pair in pixels, at least 0; half the radius of the cell, say.

    Returns
    -------
    ObjectMatch
        One-to-one: as many pairs as possible and, among such choices, the closest.

    Raises
    ------
    UserError
        If an argument has the wrong shape or is out of range.

    Examples
    --------
    >>> square = np.array([[0, 0], [0, 4], [4, 4], [4, 0]])
    >>> match_centres([square], np.array([[2.0, 3.0], [30.0, 30.0]]), max_distance=1.5).values
    array([1.])
    """
    outlines, points = _check_outlines(outlines), np.asarray(points, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] not in (2, 3):
        raise UserError(f"`points` must have the shape (n, 2) or (n, 3), got {points.shape}.")
    if not np.isfinite(points).all():
        raise UserError("`points` must be finite, got others.")
    limits = np.asarray(max_distance, dtype=np.float64)
    if limits.shape not in ((), (len(outlines),)):
        raise UserError(
            f"`max_distance` must be one number, or one for each of the {len(outlines)} outlines, "
            f"got shape {limits.shape}."
        )
    if not ((limits >= 0) & (limits < np.inf)).all():
        raise UserError(f"`max_distance` must be finite and at least 0, got {max_distance!r}.")
    limits = np.broadcast_to(limits, len(outlines))
    distance = cdist(_centres(outlines), points[:, :2])
    true, pred = np.nonzero(distance <= limits[:, None])
    gain = 1 - distance[true, pred] / max(limits.max(initial=0), 1e-9)
    chosen = _pair_up(true, pred, gain, len(outlines), len(points))
    pairs = np.stack([true[chosen], pred[chosen]], axis=-1).astype(np.int64)
    n_pairs = len(pairs)
    return ObjectMatch(
        n_pairs,
        len(points) - n_pairs,
        len(outlines) - n_pairs,
        pairs,
        distance[true[chosen], pred[chosen]],
    )


def _centres(outlines):
    """Return the mean position of the pixels of each outline, shape (n, 2)."""
    centres = np.zeros((len(outlines), 2))
    for index, outline in enumerate(outlines):
        top, left, patch = fill_outline(outline)
        centres[index] = np.argwhere(patch).mean(axis=0) + np.array([top, left])
    return centres


def object_scores(tp, fp, fn):
    """Precision, recall and F1 of cells found.

    Parameters
    ----------
    tp, fp, fn : int or array of int
        From `ObjectMatch`, of an image or added up over images; arrays give arrays.

    Returns
    -------
    dict of str to float or ndarray of float
        ``precision``, ``recall`` and ``f1``, in [0, 1]. Without prediction the precision is not-a-number,
        without truth the recall is, without both all three are.

    Examples
    --------
    >>> float(object_scores(tp=3, fp=1, fn=2)["recall"])
    0.6
    """
    tp, fp, fn = (np.asarray(value, dtype=np.float64) for value in (tp, fp, fn))
    with np.errstate(invalid="ignore"):  # 0 / 0 is the empty rule at work
        return {
            "precision": (tp / (tp + fp))[()],
            "recall": (tp / (tp + fn))[()],
            "f1": (2 * tp / (2 * tp + fp + fn))[()],
        }


@dataclass(frozen=True, eq=False)
class CountScores:
    """How well counts agree, over the images of a set; what needs more images than there are is not-a-number.

    Attributes
    ----------
    n : int
        Number of images.
    accuracy : ndarray of float64, shape (n,)
        Of each image in per cent: 100 (1 - abs(n_pred - n_true) / n_true). Below 0 where the count is more
        than twice the truth, not-a-number where there is no true cell.
    mean_accuracy : float
        Mean over the images where it is defined.
    n_nan : int
        Number of images where it is not.
    mae, bias : float
        Mean of abs(n_pred - n_true), and of n_pred - n_true, over all images; in cells.
    limits : tuple of float
        Lower and upper limit of agreement of Bland and Altman, in cells: the bias less and plus 1.96 standard
        deviations of n_pred - n_true (n - 1 in the denominator).
    """

    n: int
    accuracy: np.ndarray
    mean_accuracy: float
    n_nan: int
    mae: float
    bias: float
    limits: tuple


def count_scores(n_true, n_pred):
    """Score counts of cells, one count an image.

    Parameters
    ----------
    n_true, n_pred : sequence of int, the same length
        Counts of each image, at least 0.

    Returns
    -------
    CountScores

    Raises
    ------
    UserError
        If the lengths differ or a count is missing, negative or no whole number.

    Notes
    -----
    The accuracy is that of gharbi2023, section IV; the limits are those of Bland and Altman, Lancet 327
    (1986) 307-310, doi:10.1016/S0140-6736(86)90837-8.

    Examples
    --------
    >>> count_scores([10, 20], [9, 22]).accuracy
    array([90., 90.])
    """
    n_true, n_pred = np.asarray(n_true, dtype=np.float64), np.asarray(n_pred, dtype=np.float64)
    if n_true.ndim != 1 or n_true.shape != n_pred.shape:
        raise UserError(
            f"`n_true` and `n_pred` must be lists of the same length, got {n_true.shape} and {n_pred.shape}."
        )
    for name, counts in (("n_true", n_true), ("n_pred", n_pred)):
        wrong = counts[~((counts >= 0) & (counts == np.floor(counts)) & (counts < np.inf))]
        if wrong.size:
            raise UserError(f"`{name}` must hold whole numbers, 0 or more, got {wrong[0]:g}.")
    difference = n_pred - n_true
    accuracy = np.full(len(n_true), np.nan)
    counted = n_true > 0
    accuracy[counted] = 100 * (1 - np.abs(difference[counted]) / n_true[counted])
    mean_accuracy, n_nan = mean_score(accuracy)
    n = len(difference)
    bias = float(difference.mean()) if n else float("nan")
    spread = 1.96 * float(difference.std(ddof=1)) if n > 1 else float("nan")
    mae = float(np.abs(difference).mean()) if n else float("nan")
    return CountScores(n, accuracy, mean_accuracy, n_nan, mae, bias, (bias - spread, bias + spread))

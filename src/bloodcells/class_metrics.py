"""Scores of maps of several classes, where some pixels of the truth may carry no label.

The scores are those of tran2019's Tables 1 and 2. Their names are those of MATLAB's
``evaluateSemanticSegmentation`` and ``bfscore``, with which such tables are made: the *accuracy* of a class
is its recall, the share of its true pixels found.

Argument order is always (true, pred), and the empty rule is that of `bloodcells.metrics`: a ratio whose
denominator is 0 is not-a-number, and means leave it out.
"""

import numpy as np
import pandas as pd
from scipy import ndimage as ndi

from bloodcells.errors import UserError
from bloodcells.metrics import check_one_an_image, confusion_matrix, mean_defined, percentile_interval

UNLABELLED = 255
"""Value of the pixels of the truth that carry no label; what is predicted there does not count."""


def _check_maps(true, pred):
    """Return the maps as arrays of integers of one shape, `pred` without `UNLABELLED`."""
    true, pred = np.asarray(true), np.asarray(pred)
    if true.shape != pred.shape:
        raise UserError(f"`true` and `pred` must have the same shape, got {true.shape} and {pred.shape}.")
    for name, array in (("true", true), ("pred", pred)):
        if not np.issubdtype(array.dtype, np.integer):
            raise UserError(f"`{name}` must hold classes as integers, got {array.dtype}.")
    if (pred == UNLABELLED).any():
        raise UserError(f"`pred` must name a class for every pixel, got {UNLABELLED} (unlabelled) in places.")
    return true, pred


def _check_names(class_names):
    """Return the names as a list, each there once."""
    names = list(class_names)
    if not 1 <= len(names) <= UNLABELLED or len(set(names)) < len(names):
        raise UserError(f"`class_names` must hold 1 to {UNLABELLED} different names, got {names}.")
    return names


def _check_confusion(confusion):
    """Return the matrix or stack of matrices as an array of integers."""
    confusion = np.asarray(confusion)
    if confusion.ndim < 2 or confusion.shape[-1] != confusion.shape[-2]:
        raise UserError(f"`confusion` must have the shape (..., C, C), got {confusion.shape}.")
    if not np.issubdtype(confusion.dtype, np.integer):  # per cents would weigh all classes the same
        raise UserError(f"`confusion` must hold counts of pixels as integers, got {confusion.dtype}.")
    return confusion


def _ratio(over, under):
    """Divide; 0 / 0 is not-a-number, without a warning."""
    with np.errstate(invalid="ignore"):  # 0 / 0 is the empty rule at work
        return (np.asarray(over, dtype=np.float64) / under)[()]


def confusion(true, pred, n_classes):
    """Count the pairs of true and predicted class over the labelled pixels.

    Parameters
    ----------
    true : ndarray of uint8, any shape
        Classes in 0 to `n_classes` - 1, or `UNLABELLED`.
    pred : ndarray of uint8, shape of `true`
        Classes in 0 to `n_classes` - 1, where `true` is unlabelled too.
    n_classes : int
        In 1 to 255.

    Returns
    -------
    ndarray of int64, shape (n_classes, n_classes)
        Pixels; rows are true classes, columns predicted ones.

    Raises
    ------
    UserError
        If the shapes differ, a map is not of integers, or a value is no class.

    Examples
    --------
    >>> confusion(np.array([0, 0, 1, UNLABELLED]), np.array([0, 1, 1, 0]), 2)
    array([[1, 1],
           [0, 1]])
    """
    true, pred = _check_maps(true, pred)
    if not 1 <= n_classes <= UNLABELLED:
        raise UserError(f"`n_classes` must lie in 1 to {UNLABELLED}, got {n_classes}.")
    if pred.size and not (pred.min() >= 0 and pred.max() < n_classes):
        raise UserError(f"`pred` must hold classes 0 to {n_classes - 1}, got {pred.min()} to {pred.max()}.")
    labelled = true != UNLABELLED
    return confusion_matrix(true[labelled], pred[labelled], n_classes)


def class_scores(confusion):
    """Scores of the classes, and of all classes together.

    Parameters
    ----------
    confusion : ndarray of int, shape (..., C, C)
        Pixels; rows are true classes, columns predicted ones. A stack of matrices gives a stack of scores.

    Returns
    -------
    dict
        Values in [0, 1], or not-a-number by the empty rule.

        ``accuracy``, ``iou`` : ndarray of float64, shape (..., C)
            Of each class: TP / (TP + FN) and TP / (TP + FP + FN). A class absent from the truth has no
            accuracy, one absent from truth and prediction no IoU.
        ``global_accuracy`` : float64, or ndarray of shape (...)
            Share of all pixels named rightly.
        ``mean_accuracy``, ``mean_iou`` : likewise
            Means over the classes that have the score.
        ``weighted_iou`` : likewise
            Mean of the IoUs, each weighted by the number of true pixels of its class.

    Raises
    ------
    UserError
        If the matrix is not square or not of integers.

    Notes
    -----
    tran2019, Tables 1 and 2; names and definitions are those of MATLAB's ``evaluateSemanticSegmentation``.

    Examples
    --------
    >>> scores = class_scores(np.array([[3, 1], [0, 4]]))
    >>> scores["accuracy"], scores["iou"], scores["mean_accuracy"]
    (array([0.75, 1.  ]), array([0.75, 0.8 ]), np.float64(0.875))
    """
    confusion = _check_confusion(confusion)
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    n_true, n_pred = confusion.sum(axis=-1), confusion.sum(axis=-2)
    n_pixels = n_true.sum(axis=-1)
    accuracy = _ratio(right, n_true)
    iou = _ratio(right, n_true + n_pred - right)
    return {
        "accuracy": accuracy,
        "iou": iou,
        "global_accuracy": _ratio(right.sum(axis=-1), n_pixels),
        "mean_accuracy": mean_defined(accuracy, axis=-1),
        "mean_iou": mean_defined(iou, axis=-1),
        # An IoU is undefined only where its weight is 0.
        "weighted_iou": _ratio((n_true * np.where(n_true > 0, iou, 0)).sum(axis=-1), n_pixels),
    }


def normalise_rows(confusion):
    """Turn counts of pixels into per cent of each true class.

    Parameters
    ----------
    confusion : ndarray of int, shape (..., C, C)
        Pixels; rows are true classes, columns predicted ones.

    Returns
    -------
    ndarray of float64, shape (..., C, C)
        Per cent, in [0, 100]; the row of a class without true pixels is not-a-number.

    Raises
    ------
    UserError
        If the matrix is not square or not of integers.

    Notes
    -----
    The layout of tran2019's Figure 6, whose rows add up to 100 and whose diagonal is the accuracy of the
    classes in its Table 2.

    Examples
    --------
    >>> normalise_rows(np.array([[3, 1], [0, 4]]))
    array([[ 75.,  25.],
           [  0., 100.]])
    """
    confusion = _check_confusion(confusion)
    return _ratio(100.0 * confusion, confusion.sum(axis=-1, keepdims=True))


def default_tolerance(shape):
    """Distance at which a boundary counts as found: 0.75 % of the image's diagonal.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the image; further axes are ignored.

    Returns
    -------
    float
        Pixels; 4.5 for tran2019's 360 x 480.

    Notes
    -----
    The value of Csurka, Larlus and Perronnin, "What is a good evaluation measure for semantic
    segmentation?", BMVC 2013, and the default of MATLAB's ``bfscore``.

    Examples
    --------
    >>> default_tolerance((360, 480))
    4.5
    """
    return float(0.0075 * np.hypot(*shape[:2]))


def _find_boundary(classes, class_value):
    """Pixels of a class with a 4-neighbour that is labelled as another class."""
    inside = classes == class_value
    return inside & ndi.binary_dilation(~inside & (classes != UNLABELLED))


def _share_near(boundary, other, tolerance):
    """Share of the pixels of one boundary that lie within the tolerance of another; neither is empty."""
    return float((ndi.distance_transform_edt(~other)[boundary] <= tolerance).mean())


def boundary_f1(true, pred, class_value, *, tolerance):
    """Score the boundary of one class in one image (BF score).

    Parameters
    ----------
    true : ndarray of uint8, shape (M, N)
        Classes, or `UNLABELLED`.
    pred : ndarray of uint8, shape (M, N)
        Classes.
    class_value : int
        The class, in 0 to 254.
    tolerance : float
        Distance in pixels, 0 or more, up to which a boundary counts as found; see `default_tolerance`.

    Returns
    -------
    float
        In [0, 1]: the harmonic mean of precision, the share of the predicted boundary within `tolerance`
        (Euclidean, inclusive) of the true one, and recall, the share of the true boundary that near to the
        predicted one. Not-a-number if neither map has a boundary, 0 if only one has.

    Raises
    ------
    UserError
        If the maps differ in shape, are not two-dimensional or not of integers, `pred` has unlabelled
        pixels, or the class or the tolerance is out of range.

    Notes
    -----
    Csurka, Larlus and Perronnin, "What is a good evaluation measure for semantic segmentation?", BMVC 2013.

    The boundary of a class is made of its pixels with a 4-neighbour of another class. The image's border
    makes no boundary, nor does a neighbour without label: where `true` is unlabelled `pred` is taken to be
    so, too. These two are our decisions; the values of MATLAB's ``bfscore`` may differ a little.

    Examples
    --------
    The true boundary is pixel 2, the predicted one pixels 2 and 6: precision 1/2, recall 1.

    >>> true, pred = np.array([[1, 1, 1, 0, 0, 0, 0, 0]]), np.array([[1, 1, 1, 0, 0, 0, 1, 1]])
    >>> round(boundary_f1(true, pred, 1, tolerance=3), 3)
    0.667
    >>> boundary_f1(true, pred, 1, tolerance=4)
    1.0
    """
    true, pred = _check_maps(true, pred)
    if true.ndim != 2:
        raise UserError(f"`true` and `pred` must be two-dimensional, got the shape {true.shape}.")
    if not 0 <= class_value < UNLABELLED:
        raise UserError(f"`class_value` must lie in 0 to {UNLABELLED - 1}, got {class_value}.")
    if not 0 <= tolerance < np.inf:  # written so that not-a-number fails too
        raise UserError(f"`tolerance` must be a distance in pixels, 0 or more, got {tolerance}.")

    boundary_true = _find_boundary(true, class_value)
    boundary_pred = _find_boundary(np.where(true == UNLABELLED, UNLABELLED, pred), class_value)
    if not (boundary_true.any() or boundary_pred.any()):
        return float("nan")
    if not (boundary_true.any() and boundary_pred.any()):
        return 0.0
    precision = _share_near(boundary_pred, boundary_true, tolerance)
    recall = _share_near(boundary_true, boundary_pred, tolerance)
    # Some pixel is near the other boundary either both ways or neither way.
    return 2 * precision * recall / (precision + recall) if precision else 0.0


def tabulate_classes(image_ids, true, pred, class_names, *, tolerance=None):
    """Count the pixels of each image and class, and score the boundaries.

    Parameters
    ----------
    image_ids : sequence of str
        Of n images.
    true, pred : sequence of n ndarray of uint8, shape (M, N)
        Class i is ``class_names[i]``; `true` may be `UNLABELLED` in places. Images may differ in size.
    class_names : sequence of str
    tolerance : float, optional
        Of `boundary_f1`, in pixels; without it `default_tolerance` of each image.

    Returns
    -------
    pandas.DataFrame
        One row an image and class: ``image_id``, ``class``, ``tp``, ``fp``, ``fn``, ``tn`` (the class
        against the rest, in labelled pixels), ``bf`` (of `boundary_f1`, not-a-number where undefined), and
        for each name an ``as_NAME``: how many true pixels of the row's class were predicted as NAME.

    Raises
    ------
    UserError
        If the numbers of ids, truths and predictions differ, a name occurs twice, or as `confusion` and
        `boundary_f1` do.
    """
    names = _check_names(class_names)
    check_one_an_image(image_ids, true, pred)
    rows = []
    for image_id, one_true, one_pred in zip(image_ids, true, pred, strict=True):
        matrix = confusion(one_true, one_pred, len(names))
        distance = default_tolerance(one_true.shape) if tolerance is None else tolerance
        for value, name in enumerate(names):
            tp = matrix[value, value]
            fp, fn = matrix[:, value].sum() - tp, matrix[value].sum() - tp
            counts = {"tp": tp, "fp": fp, "fn": fn, "tn": matrix.sum() - tp - fp - fn}
            predicted = {f"as_{other}": n for other, n in zip(names, matrix[value], strict=True)}
            bf = boundary_f1(one_true, one_pred, value, tolerance=distance)
            rows.append({"image_id": image_id, "class": name} | counts | {"bf": bf} | predicted)
    return pd.DataFrame(rows)


def _check_table(table, class_names):
    """Return the class names and the names of their columns, after a look at what the table holds."""
    names = _check_names(class_names)
    if len(table) == 0:
        raise UserError("`table` must hold at least one image, got none.")
    predicted = [f"as_{name}" for name in names]
    missing = [column for column in ("image_id", "class", "bf", *predicted) if column not in table.columns]
    if missing:
        raise UserError(f"`table` must be from `tabulate_classes`; it lacks the columns {missing}.")
    if set(table["class"]) != set(names):
        raise UserError(f"`table` must have the classes {names}, got {list(table['class'].unique())}.")
    return names, predicted


def confusion_from_table(table, class_names):
    """Rebuild the confusion matrix of the images of a table.

    Parameters
    ----------
    table : pandas.DataFrame
        From `tabulate_classes`, or some of its images; an image that is there twice counts twice.
    class_names : sequence of str
        In the order wanted.

    Returns
    -------
    ndarray of int64, shape (C, C)
        Pixels; rows are true classes, columns predicted ones.

    Raises
    ------
    UserError
        If the table is empty, lacks a column, or has other classes.
    """
    names, predicted = _check_table(table, class_names)
    return table.groupby("class")[predicted].sum().loc[names].to_numpy(dtype=np.int64)


def _stack_images(table, class_names):
    """Arrays of a table: matrices, int64 of shape (n, C, C), and BF scores, float64 of shape (n, C)."""
    names, predicted = _check_table(table, class_names)
    wanted = pd.MultiIndex.from_product([table["image_id"].unique(), names])
    rows = table.set_index(["image_id", "class"])
    if not rows.index.is_unique or len(rows) != len(wanted):
        raise UserError(
            f"`table` must have one row an image and class, {len(wanted)} here, got {len(rows)} rows."
        )
    rows = rows.reindex(wanted)
    counts = rows[predicted].to_numpy(dtype=np.int64).reshape(-1, len(names), len(names))
    return counts, rows["bf"].to_numpy(dtype=np.float64).reshape(-1, len(names))


def _name_scores(matrix, class_bf, class_names):
    """Scores by name, from matrices of shape (..., C, C) and mean BF scores of shape (..., C)."""
    scores = class_scores(matrix)
    per_class = {"accuracy": scores.pop("accuracy"), "iou": scores.pop("iou"), "bf": class_bf}
    scores["mean_bf"] = mean_defined(class_bf, axis=-1)
    for score, values in per_class.items():
        scores |= {f"{score}_{name}": values[..., index] for index, name in enumerate(class_names)}
    return scores


def score_classes(table, class_names, *, rng, n_resamples=1000):
    """Scores of a set of images, with 95 % bootstrap intervals over the images.

    Parameters
    ----------
    table : pandas.DataFrame
        From `tabulate_classes`; one row an image and class, so one run at a time.
    class_names : sequence of str
    rng : numpy.random.Generator
    n_resamples : int

    Returns
    -------
    dict of str to float or int
        ``n`` images; for each score S ``S``, ``S_low`` and ``S_high``, in [0, 1] or not-a-number by the
        empty rule: ``global_accuracy``, ``mean_accuracy``, ``mean_iou``, ``weighted_iou``, and
        ``accuracy_CLASS`` and ``iou_CLASS`` for each class, all pooled (pixels of all images added up);
        ``bf_CLASS``, the mean over images, which leaves out the ``bf_CLASS_n_nan`` images where it is
        undefined, and ``mean_bf``, the mean of those over the classes.

    Raises
    ------
    UserError
        If the table is empty, lacks a column, has other classes, or an image twice or in part.

    Notes
    -----
    tran2019's mean BF score is of this kind: 0.77040 in its Table 1 is the mean of the three in Table 2.
    MATLAB documents a mean over the images of each image's mean over classes, which is the same as long as
    every image has every class.
    """
    counts, bf = _stack_images(table, class_names)
    n = len(counts)
    whole = _name_scores(counts.sum(axis=0), mean_defined(bf, axis=0), class_names)
    # Adding counts is linear, so all resamples are one indexed sum.
    drawn = rng.integers(n, size=(n_resamples, n))
    resampled = _name_scores(counts[drawn].sum(axis=1), mean_defined(bf[drawn], axis=1), class_names)
    scores = {"n": n}
    for name, value in whole.items():
        low, high = percentile_interval(resampled[name])
        scores |= {name: float(value), f"{name}_low": low, f"{name}_high": high}
    n_nan = np.isnan(bf).sum(axis=0)
    return scores | {f"bf_{name}_n_nan": int(n_nan[index]) for index, name in enumerate(class_names)}

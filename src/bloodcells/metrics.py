"""Scores of pixels, of cells and of counts; the argument order is always (true, pred).

The empty rule, for every score that is a ratio: where its denominator is 0 (truth and prediction both
empty, say) the score is undefined and comes back as not-a-number. Means leave such images out and say
how many they were (`n_nan`); pooled scores, which add up the pixels of all images first, stand beside them.
"""

import numpy as np
import pandas as pd

from bloodcells.errors import UserError
from bloodcells.inference import name_cell

PIXEL_SCORES = ("accuracy", "precision", "recall", "specificity", "dice", "iou")


def confusion_matrix(true, pred, n_classes):
    """Count the pairs of true and predicted class.

    Parameters
    ----------
    true, pred : ndarray of int, any shape, both the same
        Classes in 0 to `n_classes` - 1.
    n_classes : int

    Returns
    -------
    ndarray of int64, shape (n_classes, n_classes)
        Rows are true classes, columns predicted ones.

    Examples
    --------
    >>> confusion_matrix(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), 2)
    array([[1, 1],
           [0, 2]])
    """
    true, pred = np.asarray(true), np.asarray(pred)
    if true.shape != pred.shape:
        raise UserError(f"`true` and `pred` must have the same shape, got {true.shape} and {pred.shape}.")
    for name, array in (("true", true), ("pred", pred)):
        if array.size and not (array.min() >= 0 and array.max() < n_classes):
            raise UserError(
                f"`{name}` must hold classes 0 to {n_classes - 1}, got {array.min()} to {array.max()}."
            )
    pairs = true.astype(np.int64).ravel() * n_classes + pred.astype(np.int64).ravel()
    return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def binary_counts(true, pred):
    """Count true and false positives and negatives.

    Parameters
    ----------
    true, pred : ndarray of bool, any shape, both the same

    Returns
    -------
    dict of str to int
        Keys ``tp``, ``fp``, ``fn`` and ``tn``.
    """
    (tn, fp), (fn, tp) = confusion_matrix(np.asarray(true, bool), np.asarray(pred, bool), 2).tolist()
    return {"tp": tp, "fp": fp, "fn": fn, "tn": tn}


def pixel_scores(tp, fp, fn, tn):
    """Accuracy, precision, recall, specificity, Dice and IoU of one class against the rest.

    Parameters
    ----------
    tp, fp, fn, tn : int or array of int
        Pixels counted; arrays give arrays.

    Returns
    -------
    dict of str to float or ndarray of float
        Values in [0, 1], or not-a-number by the empty rule: without truth and prediction Dice and
        IoU are undefined, without prediction precision is, without truth recall is, and where all is
        truth specificity is.

    Notes
    -----
    nasser2025, eqs. 3 (precision), 4 (accuracy), 5 (Dice) and 6 (IoU); recall is the usual tp / (tp + fn),
    which bendiabdallah2021 calls sensitivity, and specificity tn / (tn + fp).
    """
    tp, fp, fn, tn = (np.asarray(value, dtype=np.float64) for value in (tp, fp, fn, tn))
    ratios = {
        "accuracy": (tp + tn, tp + tn + fp + fn),
        "precision": (tp, tp + fp),
        "recall": (tp, tp + fn),
        "specificity": (tn, tn + fp),
        "dice": (2 * tp, 2 * tp + fp + fn),
        "iou": (tp, tp + fp + fn),
    }
    with np.errstate(invalid="ignore"):  # 0 / 0 is the empty rule at work
        return {name: (over / under)[()] for name, (over, under) in ratios.items()}


def mean_score(values):
    """Mean over images, by the empty rule.

    Parameters
    ----------
    values : sequence of float
        Not-a-number where the score is undefined.

    Returns
    -------
    mean : float
        Not-a-number if every value is.
    n_nan : int
        Number of values left out.
    """
    values = np.asarray(values, dtype=np.float64)
    defined = values[~np.isnan(values)]
    return (float(defined.mean()) if defined.size else float("nan")), int(values.size - defined.size)


def bootstrap_interval(table, statistic, *, rng, n_resamples=1000, level=0.95):
    """Percentile bootstrap interval of a statistic of images.

    Parameters
    ----------
    table : pandas.DataFrame
        One row an image; images are drawn with replacement.
    statistic : callable
        Takes such a table, returns a float.
    rng : numpy.random.Generator
    n_resamples : int
    level : float
        Coverage, in (0, 1).

    Returns
    -------
    low, high : float
        Resamples on which the statistic is undefined are left out; not-a-number if all are.
    """
    if len(table) == 0:
        raise UserError("`table` must hold at least one image, got none.")
    if not 0 < level < 1:
        raise UserError(f"`level` must lie between 0 and 1, got {level!r}.")
    values = np.array(
        [statistic(table.iloc[rng.integers(len(table), size=len(table))]) for _ in range(n_resamples)],
        dtype=float,
    )
    return percentile_interval(values, level)


def percentile_interval(values, level=0.95):
    """Give the ends of the middle share of what resamples gave.

    Parameters
    ----------
    values : ndarray of float, shape (N,)
        Not-a-number where a resample has no score; these are left out.
    level : float
        In (0, 1).

    Returns
    -------
    low, high : float
        Not-a-number where no value is defined.
    """
    values = values[~np.isnan(values)]
    if not values.size:
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_defined(values, axis=-1):
    """Mean along an axis, by the empty rule.

    Parameters
    ----------
    values : ndarray of float
        Not-a-number where the score is undefined.
    axis : int

    Returns
    -------
    ndarray of float
        Not-a-number where every value is.
    """
    values = np.asarray(values, dtype=np.float64)
    defined = ~np.isnan(values)
    n = defined.sum(axis=axis)
    total = np.where(defined, values, 0).sum(axis=axis)
    # A number, not an array without dimensions, where one axis is all there is.
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)[()]


def summarise_pixels(per_image, *, rng, n_resamples=1000):
    """Pooled and mean pixel scores of one class, with intervals over images.

    Parameters
    ----------
    per_image : pandas.DataFrame
        One row an image with the columns ``tp``, ``fp``, ``fn`` and ``tn``.
    rng : numpy.random.Generator
    n_resamples : int

    Returns
    -------
    dict
        ``n`` images and, for each score S of `pixel_scores`: ``S`` (pooled: pixels of all images added
        up), ``S_low`` and ``S_high`` (95 % bootstrap interval of the pooled score), ``S_mean`` and
        ``S_n_nan`` (mean over images); also ``mean_iou``, the mean of the IoUs of the class and of
        the rest, both pooled, with its interval.
    """
    counts = per_image[["tp", "fp", "fn", "tn"]].to_numpy(dtype=np.int64)
    if not len(counts):
        raise UserError("`per_image` must hold at least one image, got none.")

    def pooled(total):
        tp, fp, fn, tn = np.moveaxis(total, -1, 0)
        scores = pixel_scores(tp, fp, fn, tn)
        scores["mean_iou"] = (scores["iou"] + pixel_scores(tn, fn, fp, tp)["iou"]) / 2
        return scores

    # Adding counts is linear, so all resamples are one indexed sum.
    resampled = pooled(counts[rng.integers(len(counts), size=(n_resamples, len(counts)))].sum(axis=1))
    whole = pooled(counts.sum(axis=0))
    single = pooled(counts)
    summary = {"n": len(counts)}
    for name, value in whole.items():
        low, high = percentile_interval(resampled[name])
        mean, n_nan = mean_score(single[name])
        summary |= {name: float(value), f"{name}_low": low, f"{name}_high": high}
        summary |= {f"{name}_mean": mean, f"{name}_n_nan": n_nan}
    return summary


def cell_accuracy(per_image):
    """Share of cells whose type was named rightly.

    Parameters
    ----------
    per_image : pandas.DataFrame
        One row a cell with the columns ``type_true`` and ``type_pred`` ("" where no cell was found).

    Returns
    -------
    float
        In [0, 1]; not-a-number without cells.
    """
    return (
        float((per_image["type_true"] == per_image["type_pred"]).mean()) if len(per_image) else float("nan")
    )


def type_table(per_image, types):
    """Cross-tabulate the true and the named types of cells.

    Parameters
    ----------
    per_image : pandas.DataFrame
        With the columns ``type_true`` and ``type_pred``.
    types : sequence of str

    Returns
    -------
    pandas.DataFrame of int
        Rows are true types, columns named types, the last one "none".
    """
    table = pd.crosstab(per_image["type_true"], per_image["type_pred"].replace("", "none"))
    return table.reindex(index=list(types), columns=[*types, "none"], fill_value=0).rename_axis(
        index="true", columns="named"
    )


def check_one_an_image(image_ids, true, pred):
    """Raise unless there are as many truths and predictions as ids.

    Parameters
    ----------
    image_ids, true, pred : sequence
        One element an image.

    Raises
    ------
    UserError
    """
    if not len(image_ids) == len(true) == len(pred):
        raise UserError(
            "Expected one id, truth and prediction an image, "
            f"got {len(image_ids)}, {len(true)} and {len(pred)}."
        )


def count_pixels(image_ids, true, pred, types):
    """Count the pixels behind the scores of images of single cells.

    Parameters
    ----------
    image_ids : sequence of str
    true, pred : ndarray of int, shape (N, rows, columns)
        Classes; 0 is background, i the type ``types[i - 1]``.
    types : sequence of str

    Returns
    -------
    pandas.DataFrame
        One row an image and class: ``image_id``, ``class`` ("any" for all types together, against the
        background, and each type against the rest), ``tp``, ``fp``, ``fn``, ``tn``.
    """
    check_one_an_image(image_ids, true, pred)
    rows = []
    for image_id, one_true, one_pred in zip(image_ids, true, pred, strict=True):
        rows.append({"image_id": image_id, "class": "any"} | binary_counts(one_true > 0, one_pred > 0))
        for value, name in enumerate(types, start=1):
            rows.append(
                {"image_id": image_id, "class": name} | binary_counts(one_true == value, one_pred == value)
            )
    return pd.DataFrame(rows)


def tabulate_cells(samples, true, pred, types):
    """Count the pixels and name the cells of images of single cells.

    Parameters
    ----------
    samples : list of bloodcells.datasets.Sample
    true, pred : ndarray of int, shape (N, rows, columns)
        Classes; 0 is background, i the type ``types[i - 1]``.
    types : sequence of str

    Returns
    -------
    pandas.DataFrame
        The rows of `count_pixels`, with the ``dataset`` of the image, the type of its cell
        (``type_true``) and what `bloodcells.inference.name_cell` calls it (``type_pred``).
    """
    counts = count_pixels([sample.image_id for sample in samples], true, pred, types)
    cells = pd.DataFrame(
        {
            "dataset": [sample.dataset for sample in samples],
            "type_true": [sample.cell_type for sample in samples],
            "type_pred": [name_cell(one, types) for one in pred],
        }
    )
    # `count_pixels` gives as many rows an image as there are classes, "any" among them.
    return counts.join(cells.loc[cells.index.repeat(len(types) + 1)].reset_index(drop=True))


def score_cells(per_image, types, *, rng):
    """Scores of one dataset's images of single cells.

    Parameters
    ----------
    per_image : pandas.DataFrame
        From `tabulate_cells`.
    types : sequence of str
    rng : numpy.random.Generator

    Returns
    -------
    dict
        The scores of `summarise_pixels` for "any"; ``cell_accuracy`` with its interval; and
        ``dice_TYPE`` and ``precision_TYPE``, pooled, for each type.
    """
    cells = per_image[per_image["class"] == "any"]
    scores = summarise_pixels(cells, rng=rng)
    low, high = bootstrap_interval(cells, cell_accuracy, rng=rng)
    scores |= {"cell_accuracy": cell_accuracy(cells), "cell_accuracy_low": low, "cell_accuracy_high": high}
    for name in types:
        total = per_image.loc[per_image["class"] == name, ["tp", "fp", "fn", "tn"]].sum()
        one = pixel_scores(**total)
        scores |= {f"dice_{name}": float(one["dice"]), f"precision_{name}": float(one["precision"])}
    return scores


def score_datasets(per_image, types, *, seed):
    """Scores of a run, by dataset, as they go into its ``metrics.json``.

    Parameters
    ----------
    per_image : pandas.DataFrame
        As for `score_cells`, with the column ``dataset``.
    types : sequence of str
    seed : int
        Seed of the bootstrap, the same for every dataset.

    Returns
    -------
    dict
        ``{"datasets": {name: scores}}``.
    """
    return {
        "datasets": {
            name: score_cells(table, types, rng=np.random.default_rng(seed))
            for name, table in per_image.groupby("dataset", sort=False)
        }
    }


def bootstrap_gaps(per_image, methods, metric, *, rng, of="any", n_resamples=1000):
    """Differences between methods on the same images, with paired bootstrap intervals.

    Parameters
    ----------
    per_image : pandas.DataFrame
        Rows with ``method``, ``seed``, ``image_id``, ``class``, ``tp``, ``fp``, ``fn`` and ``tn``, the same
        images for every method and seed.
    methods : sequence of str
        In the order claimed, the worst first.
    metric : str
        One of `PIXEL_SCORES`.
    rng : numpy.random.Generator
    of : str
        The class whose pixels are scored; "mean" for the mean over all classes there are; or "pooled", with
        all classes added up, of which the recall is the global accuracy.
    n_resamples : int

    Returns
    -------
    list of tuple of float
        For each pair of neighbours: score of the later method minus that of the earlier one, pooled over
        images and seeds, and the 95 % interval, (gap, low, high); not-a-number where a score is undefined.

    Raises
    ------
    UserError
        If the images of two methods, or of two seeds of one, differ.

    Notes
    -----
    Every resample draws images, the same for all methods, and of each method its seeds: what could have
    come out with other images *and* from other trainings. Of n seeds n - 1 are drawn; n draws would make
    the variance of a mean over seeds too small by (n - 1) / n, by half for two seeds [1]_. A single seed
    tells nothing of others.

    References
    ----------
    .. [1] J. N. K. Rao, C. F. J. Wu, "Resampling inference with complex survey data", Journal of the
       American Statistical Association 83, 1988, doi:10.1080/01621459.1988.10478591.
    """
    classes = sorted(per_image["class"].unique()) if of in ("mean", "pooled") else [of]
    tables = [_counts_by_seed(per_image, method, classes) for method in methods]
    image_ids = tables[0].index
    for method, table in zip(methods, tables, strict=True):
        if not table.index.equals(image_ids):
            raise UserError(
                f"The images of {method} and {methods[0]} differ; pairs need the same test images."
            )

    n_images = len(image_ids)
    images_drawn = _draw_weights(rng, n_images, n_images, n_resamples)
    whole, resampled = [], []
    for table in tables:
        n_seeds = table.columns.get_level_values("seed").nunique()
        counts = table.to_numpy(np.int64).reshape(n_images, 4, len(classes), n_seeds)
        if of == "pooled":
            counts = counts.sum(axis=2, keepdims=True)
        seeds_drawn = _draw_weights(rng, n_seeds, max(n_seeds - 1, 1), n_resamples)
        by_seed = np.tensordot(images_drawn, counts, axes=1)  # resamples, counts, classes, seeds
        whole.append(_mean_score(counts.sum(axis=(0, 3)), metric))
        resampled.append(_mean_score(np.einsum("rkcs,rs->krc", by_seed, seeds_drawn), metric))

    gaps = []
    for earlier in range(len(methods) - 1):
        differences = resampled[earlier + 1] - resampled[earlier]
        gap = whole[earlier + 1] - whole[earlier]
        gaps.append((float(gap), *percentile_interval(differences)))
    return gaps


def _counts_by_seed(per_image, method, classes):
    """Lay out a method's counts: one row an image, columns by count, class and seed."""
    columns = ["tp", "fp", "fn", "tn"]
    chosen = per_image[(per_image["method"] == method) & per_image["class"].isin(classes)]
    # A class that no image of the method has is counted as nowhere.
    levels = pd.MultiIndex.from_product([columns, classes, sorted(chosen["seed"].unique())])
    table = chosen.pivot_table(index="image_id", columns=["class", "seed"], values=columns, aggfunc="sum")
    if table.isna().any(axis=None):
        raise UserError(f"The seeds of {method} differ in their images; all need the same test images.")
    return table.reindex(columns=levels.set_names([None, "class", "seed"]), fill_value=0).sort_index()


def _draw_weights(rng, n, n_draws, n_resamples):
    """How often each of `n` things comes in draws with replacement: shape (n_resamples, n)."""
    drawn = rng.integers(n, size=(n_resamples, n_draws))
    places = drawn + n * np.arange(n_resamples)[:, np.newaxis]
    return np.bincount(places.ravel(), minlength=n_resamples * n).reshape(n_resamples, n)


def _mean_score(counts, metric):
    """Score of each class from counts, the first axis, averaged over classes, the last."""
    return mean_defined(pixel_scores(*counts)[metric])

"""Score what a network and the counting methods find in a whole field, and sum up the scores of many."""

from functools import partial

import numpy as np
from scipy import ndimage as ndi

from bloodcells.counting.find import METHODS, count_objects, find_cells
from bloodcells.errors import UserError
from bloodcells.metrics import binary_counts, bootstrap_interval, pixel_scores
from bloodcells.object_metrics import count_scores, match_centres, match_outlines
from bloodcells.working_scale import draw_edges, resize_probability, scale_outlines

MASK_THRESHOLD = 0.5
SMALLEST_PLATELET = 0.01
"""Least area of a platelet in a truth mask, in areas of a red cell; what is smaller is a speck."""
TVERSKY_ALPHA = 0.3


def count_truth(field, cell, *, own_radius):
    """Return the true number of cells of a field, and where it comes from.

    Parameters
    ----------
    field : bloodcells.fields.Field
    cell : {"rbc", "wbc", "plt"}
    own_radius : float
        Radius of its red cells, pixels of the field.

    Returns
    -------
    n_true : int or None
        The published count; for platelets without one, the connected components of the mask (gharbi2023,
        section III-C) of at least `SMALLEST_PLATELET`. None where there is neither.
    source : {"count", "mask", ""}
    """
    if cell in field.counts:
        return field.counts[cell], "count"
    if cell == "plt" and cell in field.masks:
        return truth_from_mask(field.masks[cell], own_radius=own_radius), "mask"
    return None, ""


def truth_from_mask(mask, *, own_radius, smallest=SMALLEST_PLATELET):
    """Count the connected components of a truth mask, specks left out.

    Parameters
    ----------
    mask : ndarray of bool, shape (M, N)
    own_radius : float
        Radius of the field's red cells, pixels.
    smallest : float
        Least area of a component, in discs of that radius.

    Returns
    -------
    int
    """
    labels, _ = ndi.label(mask, np.ones((3, 3)))
    areas = np.bincount(labels.ravel())[1:]
    return int((areas >= smallest * np.pi * own_radius**2).sum())


def score_field(field, probability, scale, *, cell, cell_radius, settings, methods=METHODS):
    """Count the cells of a field by every method and compare pixels, objects and counts with the truth.

    Parameters
    ----------
    field : bloodcells.fields.Field
        At its own size.
    probability : ndarray of float32, shape (rows, columns, 1 or 2)
        Mask and, for networks with two outputs, edge, at the working scale.
    scale : float
        Pixels of the working image for one of the field.
    cell : {"rbc", "wbc", "plt"}
    cell_radius : float
        Radius of red cells at the working scale, pixels.
    settings : dict of str to dict
        For each method, the parameters it counts this cell with.
    methods : sequence of str
        Out of `bloodcells.counting.find.METHODS`.

    Returns
    -------
    dict
        One row of a per-image table: ``n_true`` and ``truth`` (None and "" if unknown); ``tp``, ``fp``,
        ``fn``, ``tn`` of the mask's pixels at the field's own size; with edges and outlines
        ``edge_tp``, ..., of the edge's pixels at the working scale; for each method M ``n_M`` and,
        with outlines, ``M_tp``, ``M_fp``, ``M_fn`` of objects: at an intersection over union of
        0.5, or for circles at a distance of half a radius.
    """
    mask = probability[..., 0]
    edge = probability[..., 1] if probability.shape[-1] > 1 else None
    n_true, source = count_truth(field, cell, own_radius=cell_radius / scale)
    row = {"dataset": field.dataset, "image_id": field.image_id, "class": "any"}
    row |= {"n_true": n_true, "truth": source}
    if cell in field.masks:
        found = resize_probability(mask, field.image.shape[:2]) > MASK_THRESHOLD
        row |= binary_counts(field.masks[cell], found)
    outlines = None
    if cell == "rbc" and field.outlines is not None:
        outlines = scale_outlines(field.outlines, scale)
        if edge is not None:
            counts = binary_counts(draw_edges(outlines, edge.shape), edge > MASK_THRESHOLD)
            row |= {f"edge_{name}": value for name, value in counts.items()}
    for method in methods:
        cells = find_cells(method, mask, edge, cell_radius=cell_radius, **settings[method])
        row[f"n_{method}"] = count_objects(cells)
        if outlines is not None:
            match = (
                match_centres(outlines, cells[:, :2], max_distance=cell_radius / 2)
                if method == "cht"
                else match_outlines(outlines, cells)
            )
            row |= {f"{method}_{name}": getattr(match, name) for name in ("tp", "fp", "fn")}
    return row


def score_fields(table, *, rng, methods=METHODS):
    """Sum up the rows of `score_field`.

    Parameters
    ----------
    table : pandas.DataFrame
        One row a field.
    rng : numpy.random.Generator
    methods : sequence of str

    Returns
    -------
    dict
        ``n`` fields and ``n_counted`` of them with a true count above 0. For pixels, pooled over fields with
        a mask: ``mask_dice``, ``mask_iou``, ``mask_accuracy``, ``mask_tversky``, likewise ``edge_...``. For
        each method M: ``M_accuracy`` (mean of 1 - |n_pred - n_true| / n_true, a fraction) with its 95 %
        bootstrap interval ``M_accuracy_low`` and ``_high``, ``M_mae``, ``M_bias``, ``M_agreement_low``
        and ``M_agreement_high``, in cells; and pooled over fields with outlines ``M_f1``.
        Not-a-number where there is no such truth.
    """
    if not len(table):
        raise UserError("`table` must hold at least one field, got none.")
    scores = {"n": len(table), "n_counted": int((table["n_true"].fillna(0) > 0).sum())}
    for part, prefix in (("mask", ""), ("edge", "edge_")):
        scores |= {f"{part}_{name}": value for name, value in _pixel_scores(table, prefix).items()}
    counted = table[table["n_true"].notna()]
    for method in methods:
        true, pred = (counted[name].to_numpy(float) for name in ("n_true", f"n_{method}"))
        summary = count_scores(true, pred)
        low, high = np.nan, np.nan
        if len(counted):
            low, high = bootstrap_interval(counted, partial(_accuracy, method=method), rng=rng)
        scores |= {
            f"{method}_accuracy": _accuracy(counted, method),
            f"{method}_accuracy_low": low,
            f"{method}_accuracy_high": high,
            f"{method}_mae": summary.mae,
            f"{method}_bias": summary.bias,
            f"{method}_agreement_low": summary.limits[0],
            f"{method}_agreement_high": summary.limits[1],
            f"{method}_f1": _pooled_f1(table, method),
        }
    return {name: float(value) if isinstance(value, np.floating) else value for name, value in scores.items()}


def _accuracy(table, method):
    """Mean counting accuracy as a fraction, like all scores; fields without a cell are left out."""
    return count_scores(table["n_true"], table[f"n_{method}"]).mean_accuracy / 100


def _pixel_scores(table, prefix):
    names = [f"{prefix}{name}" for name in ("tp", "fp", "fn", "tn")]
    nothing = dict.fromkeys(("dice", "iou", "accuracy", "tversky"), float("nan"))
    if not set(names) <= set(table.columns) or table[names[0]].notna().sum() == 0:
        return nothing
    tp, fp, fn, tn = table[names].dropna().to_numpy(float).sum(axis=0)
    scores = pixel_scores(tp, fp, fn, tn)
    # Tversky index: false positives weigh alpha, false negatives 1 - alpha.
    over = tp + TVERSKY_ALPHA * fp + (1 - TVERSKY_ALPHA) * fn
    scores["tversky"] = tp / over if over else float("nan")
    return {name: float(scores[name]) for name in nothing}


def _pooled_f1(table, method):
    names = [f"{method}_{name}" for name in ("tp", "fp", "fn")]
    if not set(names) <= set(table.columns) or table[names[0]].notna().sum() == 0:
        return float("nan")
    tp, fp, fn = table[names].dropna().sum()
    return 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else float("nan")


def groups(dataset, cell, image_ids):
    """Say which groups of fields an evaluation reports, and which of the given fields are in each.

    Parameters
    ----------
    dataset : str
    cell : {"rbc", "wbc", "plt"}
    image_ids : collection of str
        Fields that were scored.

    Returns
    -------
    dict of str to list of str
        "test": held-out test fields of the published split; "paper": the 13 fields that gharbi2023 averages
        over, most of them training fields; "counted": every field with a true count.
    """
    from bloodcells.fields import list_fields

    found = {name: list_fields(dataset, cell, name) for name in ("test", "paper", "counted")}
    return {name: [one for one in ids if one in set(image_ids)] for name, ids in found.items()}


def scores_by_group(table, cell, *, seed):
    """Scores of a run, by group of fields, as they go into its ``metrics.json``.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of `score_field`, of one dataset.
    cell : {"rbc", "wbc", "plt"}
    seed : int
        Seed of the bootstrap, the same for every group.

    Returns
    -------
    dict
        ``{"datasets": {"NAME/GROUP": scores}}``; groups without a field are left out.
    """
    dataset = table["dataset"].iloc[0]
    members = groups(dataset, cell, table["image_id"])
    return {
        "datasets": {
            f"{dataset}/{name}": score_fields(
                table[table["image_id"].isin(ids)], rng=np.random.default_rng(seed)
            )
            for name, ids in members.items()
            if ids
        }
    }

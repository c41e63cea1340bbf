"""Scores, counts and tables of chapters that name every pixel of a crop."""

import numpy as np
import pandas as pd

from bloodcells import claims
from bloodcells.class_labels import CLASSES
from bloodcells.class_metrics import UNLABELLED, confusion_from_table, normalise_rows, score_classes
from bloodcells.counting.find import METHODS, count_objects, find_cells
from bloodcells.counting.settings import SETTINGS
from bloodcells.errors import UserError
from bloodcells.number_text import with_sign
from bloodcells.object_metrics import count_scores

COUNTED = ("rbc", "wbc")
"""Classes whose cells are counted."""

OVERALL = {
    "global_accuracy": "global accuracy",
    "mean_accuracy": "mean accuracy",
    "mean_iou": "mean IoU",
    "weighted_iou": "weighted IoU",
    "mean_bf": "mean BF",
}
"""Scores of tran2019's Table 1, and what tables call them."""

OF_A_CLASS = {"accuracy": "accuracy", "iou": "IoU", "bf": "BF"}
"""Scores of its Table 2."""


def count_crops(crops, probability):
    """Count red and white cells in crops, by the methods and the settings of chapter 2.

    Parameters
    ----------
    crops : list of bloodcells.crops.Crop
    probability : ndarray of float32, shape (N, M, N, 3)
        Of each class of `bloodcells.class_labels.CLASSES`.

    Returns
    -------
    pandas.DataFrame
        One row a crop and kind of cell: ``image_id``, ``class``, ``n_true`` (not-a-number where it isn't
        known) and for each method of `bloodcells.counting.find.METHODS` ``n_METHOD``.

    Notes
    -----
    A class map has no edges: the probability of a class is the mask, and cells that touch are told apart by
    their shape alone.
    """
    if len(crops) != len(probability):
        raise UserError(
            f"Expected a prediction for each crop, got {len(crops)} crops and {len(probability)} predictions."
        )
    rows = []
    for crop, predicted in zip(crops, probability, strict=True):
        for cell in COUNTED:
            row = {"image_id": crop.image_id, "class": cell, "n_true": crop.counts.get(cell, np.nan)}
            mask = np.ascontiguousarray(predicted[..., CLASSES.index(cell)])
            for method in METHODS:
                found = find_cells(method, mask, cell_radius=crop.cell_radius, **SETTINGS[cell][method])
                row[f"n_{method}"] = count_objects(found)
            rows.append(row)
    return pd.DataFrame(rows)


def count_true_maps(crops, *, method="tree"):
    """Count red and white cells in the true maps of crops, for want of better counts.

    Parameters
    ----------
    crops : list of bloodcells.crops.Crop
    method : str
        One of `bloodcells.counting.find.METHODS`.

    Returns
    -------
    ndarray of float32, shape (N, 2)
        Red and white cells of each crop. Cells that touch are told apart by their shape, as in `count_crops`.
    """
    labels = np.stack([crop.labels for crop in crops])
    perfect = np.eye(len(CLASSES), dtype=np.float32)[np.where(labels == UNLABELLED, 0, labels)]
    counts = count_crops(crops, perfect)
    columns = [counts[counts["class"] == cell][f"n_{method}"] for cell in COUNTED]
    return np.column_stack(columns).astype("float32")


def score_crops(per_image, *, seed):
    """Scores of a run, by dataset, as they go into its ``metrics.json``.

    Parameters
    ----------
    per_image : pandas.DataFrame
        From `bloodcells.class_metrics.tabulate_classes`, with the column ``dataset`` and those of
        `count_crops`.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    dict
        ``{"datasets": {name: scores}}``: the scores of `bloodcells.class_metrics.score_classes`;
        ``share_TRUE_as_NAMED``, in [0, 1], for each two classes; and for red and white cells and each method
        that has a column, "head" (of `bloodcells.models.count_head`) included, ``count_CELL_METHOD``
        (counting accuracy, per cent), ``mae_...`` and ``bias_...`` (cells), and the number of crops whose
        true count is known and not 0, ``n_counted_CELL``.
    """
    found = {}
    for name, table in per_image.groupby("dataset", sort=False):
        shares = normalise_rows(confusion_from_table(table, CLASSES)) / 100
        scores = score_classes(table, CLASSES, rng=np.random.default_rng(seed)) | {
            f"share_{true}_as_{named}": float(shares[i, j])
            for i, true in enumerate(CLASSES)
            for j, named in enumerate(CLASSES)
            if i != j
        }
        for cell in COUNTED:
            known = table[(table["class"] == cell) & (pd.to_numeric(table["n_true"]) > 0)]
            scores[f"n_counted_{cell}"] = len(known)
            for method in _counters(table):
                counts = count_scores(pd.to_numeric(known["n_true"]), pd.to_numeric(known[f"n_{method}"]))
                values = {"count": counts.mean_accuracy, "mae": counts.mae, "bias": counts.bias}
                scores |= {f"{what}_{cell}_{method}": value for what, value in values.items()}
        found[name] = scores
    return {"datasets": found}


def _counters(table):
    return [method for method in (*METHODS, "head") if f"n_{method}" in table.columns]


def overall_table(scores):
    """Lay out the scores of all classes together, like tran2019's Table 1.

    Parameters
    ----------
    scores : pandas.DataFrame
        From `bloodcells.results.load_runs`, of runs scored by `score_crops`; may be empty.

    Returns
    -------
    pandas.DataFrame
        Indexed by network and seed; text, with 95 % intervals.
    """
    rows = []
    for run in scores.to_dict("records"):
        row = {"network": claims.METHOD_NAMES.get(run["method"], run["method"]), "seed": run["seed"]}
        for name, title in OVERALL.items():
            # No-break spaces: in a narrow table an interval would fall apart into three lines.
            row[title] = f"{run[name]:.3f}\u00a0[{run[f'{name}_low']:.3f},\u00a0{run[f'{name}_high']:.3f}]"
        rows.append(row)
    keys = ["network", "seed"]
    return pd.DataFrame(rows, columns=[*keys, *OVERALL.values()]).set_index(keys)


def class_table(scores):
    """Lay out the scores of each class, like tran2019's Table 2.

    Parameters
    ----------
    scores : pandas.DataFrame
        As for `overall_table`.

    Returns
    -------
    pandas.DataFrame
        Indexed by network and class; means over seeds.
    """
    columns = [f"{score}_{name}" for name in CLASSES for score in OF_A_CLASS]
    rows = []
    for method, runs in scores.groupby("method", sort=False) if len(scores) else ():
        means = runs[columns].mean()
        for name in CLASSES:
            row = {"network": claims.METHOD_NAMES.get(method, method), "class": name}
            rows.append(row | {title: means[f"{score}_{name}"] for score, title in OF_A_CLASS.items()})
    keys = ["network", "class"]
    return pd.DataFrame(rows, columns=[*keys, *OF_A_CLASS.values()]).set_index(keys).round(3)


def cost_table(scores, *, baseline="unet"):
    """Lay out scores beside their costs, like li2021's Tables 1 and 2.

    Parameters
    ----------
    scores : pandas.DataFrame
        As for `overall_table`, with ``predict_s``, ``n_evaluations`` and ``parameter_mib`` of each run.
    baseline : str
        Method whose time is 1; without a run of it, times are not-a-number.

    Returns
    -------
    pandas.DataFrame of float
        Indexed by network, means over seeds: scores in per cent; ``time`` of a prediction as a multiple of
        the baseline's; ``evaluations`` of f in all ODE blocks, for one image; ``MiB`` of parameters.
    """
    titles = {
        "global_accuracy": "accuracy",
        **{f"accuracy_{name}": name for name in CLASSES},
        "mean_iou": "mean IoU",
    }
    columns = [*titles.values(), "time", "evaluations", "MiB"]
    if scores.empty:
        return pd.DataFrame(columns=["network", *columns]).set_index("network")
    needed = [*titles, "predict_s", "n_evaluations", "parameter_mib"]
    means = scores.groupby("method", sort=False)[needed].mean()
    means[list(titles)] *= 100
    means["predict_s"] /= means["predict_s"].get(baseline, np.nan)
    means.index = pd.Index([claims.METHOD_NAMES.get(name, name) for name in means.index], name="network")
    return means.set_axis(columns, axis="columns").round(2)


def tolerance_table(scores):
    """List what trained networks reach with other tolerances of their solvers.

    Parameters
    ----------
    scores : pandas.DataFrame
        As for `overall_table`; runs with ``tolerances``, a dict of tolerance, as text, to ``n_evaluations``,
        ``predict_s`` (seconds) and ``mean_iou``. Other runs are left out.

    Returns
    -------
    pandas.DataFrame
        One row a run and tolerance: ``method``, ``seed``, ``tolerance`` and those three.
    """
    columns = ["method", "seed", "tolerance", "n_evaluations", "predict_s", "mean_iou"]
    rows = [
        {"method": run["method"], "seed": run["seed"], "tolerance": float(tolerance)} | found
        for run in scores.to_dict("records")
        if isinstance(run.get("tolerances"), dict)
        for tolerance, found in run["tolerances"].items()
    ]
    return pd.DataFrame(rows, columns=columns).sort_values(["method", "seed", "tolerance"], ignore_index=True)


def crop_count_table(scores):
    """Lay out counting accuracies, with mean absolute error and bias.

    Parameters
    ----------
    scores : pandas.DataFrame
        As for `overall_table`.

    Returns
    -------
    pandas.DataFrame
        Indexed by network and cells; the number of crops with a known count, and for each method, means over
        seeds, the accuracy in per cent, and in brackets mean absolute error and bias in cells, as text. With
        the method "head" where some network has one.
    """
    rows = []
    counters = [*METHODS, *(["head"] if f"count_{COUNTED[0]}_head" in scores.columns else [])]
    for method, runs in scores.groupby("method", sort=False) if len(scores) else ():
        for cell in COUNTED:
            row = {"network": claims.METHOD_NAMES.get(method, method), "cells": cell}
            row["n"] = int(runs[f"n_counted_{cell}"].iloc[0])
            for counter in counters:
                accuracy, mae, bias = (
                    runs[f"{what}_{cell}_{counter}"].mean() for what in ("count", "mae", "bias")
                )
                row[counter] = f"{accuracy:.1f}\u00a0({mae:.1f},\u00a0{with_sign(bias, 1)})"
                if np.isnan(accuracy):
                    row[counter] = "-"
            rows.append(row)
    keys = ["network", "cells"]
    return pd.DataFrame(rows, columns=[*keys, "n", *counters]).set_index(keys)


def confusion_table(per_image):
    """Add up the confusion matrices of runs, and give each true class in per cent, like tran2019's Figure 6.

    Parameters
    ----------
    per_image : pandas.DataFrame
        From `bloodcells.results.load_runs`; may hold several seeds of one method.

    Returns
    -------
    pandas.DataFrame of float
        Rows are true classes, columns named ones; per cent.
    """
    shares = normalise_rows(confusion_from_table(per_image, CLASSES))
    return pd.DataFrame(shares, index=pd.Index(CLASSES, name="true"), columns=pd.Index(CLASSES, name="named"))

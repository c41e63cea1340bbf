"""Tables of counts for chapters that count whole fields."""

from pathlib import Path

import numpy as np
import pandas as pd

from bloodcells import claims, fields
from bloodcells.cell_outlines import PLURALS
from bloodcells.cell_size import estimate_cell_radius
from bloodcells.counting.find import METHODS
from bloodcells.counting.settings import BEST
from bloodcells.errors import UserError
from bloodcells.field_scores import SMALLEST_PLATELET, groups, truth_from_mask
from bloodcells.metrics import bootstrap_interval
from bloodcells.number_text import with_sign
from bloodcells.object_metrics import count_scores, object_scores
from bloodcells.paths import ROOT

RELEASED = ROOT / "book" / "results" / "02_gharbi2023_dounet" / "released.csv"
"""Counts of ``workflow/score_released.py``."""

LEAST_FIELDS = 10
"""From which on an interval over fields tells methods apart: three differences often have one sign."""

# The methods that it counts by.
_OF_RELEASED = "cht", "ccl", "edt"


def count_table(scores):
    """Lay out the counting accuracies of runs: one row a run and group of fields, one column a method.

    Parameters
    ----------
    scores : pandas.DataFrame
        From `bloodcells.results.load_runs`, of runs scored by `bloodcells.field_scores`; may be empty.

    Returns
    -------
    pandas.DataFrame
        Indexed by cells, network and group of fields; the number of fields with a cell, and for each method,
        by its short name, the accuracy in per cent with its 95 % interval, as text.
    """
    rows = []
    for run in scores.to_dict("records"):
        row = _row(run) | {"n": run["n_counted"]}
        for method in METHODS:
            accuracy, low, high = (100 * run[f"{method}_accuracy{end}"] for end in ("", "_low", "_high"))
            # A no-break space, so that in a narrow table the interval goes below its value in one piece.
            row[method] = f"{accuracy:z.1f} [{low:z.0f},\u00a0{high:z.0f}]"
        rows.append(row)
    return pd.DataFrame(rows, columns=[*_KEYS, "n", *METHODS]).set_index(_KEYS)


def error_table(scores):
    """Lay out the errors of counts in cells.

    Parameters
    ----------
    scores : pandas.DataFrame
        As for `count_table`.

    Returns
    -------
    pandas.DataFrame
        Indexed as in `count_table`; for each method mean absolute error and bias, as "12.3 (-4.5)".
    """
    rows = []
    for run in scores.to_dict("records"):
        row = _row(run)
        for method in METHODS:
            row[method] = f"{run[f'{method}_mae']:.1f} ({with_sign(run[f'{method}_bias'], 1)})"
        rows.append(row)
    return pd.DataFrame(rows, columns=[*_KEYS, *METHODS]).set_index(_KEYS)


def f1_table(scores):
    """Lay out how many of the cells found are the right ones, where cells have outlines.

    Parameters
    ----------
    scores : pandas.DataFrame
        As for `count_table`.

    Returns
    -------
    pandas.DataFrame
        Indexed as in `count_table`; F1 at an intersection over union of 0.5 for each method. Runs whose cells
        have no outlines are left out.
    """
    rows = []
    for run in scores.to_dict("records"):
        values = {method: _number(run[f"{method}_f1"]) for method in METHODS}
        if not all(np.isnan(value) for value in values.values()):
            texts = {method: "" if np.isnan(value) else f"{value:.3f}" for method, value in values.items()}
            rows.append(_row(run) | texts)
    return pd.DataFrame(rows, columns=[*_KEYS, *METHODS]).set_index(_KEYS)


def _row(run):
    network = claims.METHOD_NAMES.get(run["method"], run["method"])
    return {"cells": run["target"], "network": network, "fields": run["dataset"].split("/")[-1]}


_KEYS = ["cells", "network", "fields"]


def segmentation_table(scores):
    """Lay out the pixel scores of runs like gharbi2023's Table II.

    Parameters
    ----------
    scores : pandas.DataFrame
        As for `count_table`.

    Returns
    -------
    pandas.DataFrame
        Indexed by cells, network, group of fields and output; Dice, IoU, Tversky index and accuracy, pooled.
    """
    keys, names = [*_KEYS, "output"], ["dice", "iou", "tversky", "accuracy"]
    rows = []
    for run in scores.to_dict("records"):
        for part in ("mask", "edge"):
            values = {name: _number(run.get(f"{part}_{name}")) for name in names}
            if not np.isnan(values["dice"]):
                rows.append(_row(run) | {"output": part} | values)
    return pd.DataFrame(rows, columns=[*keys, *names]).set_index(keys).round(3)


def counts_beside_published(per_image, method, cell, *, dataset="all-idb1"):
    """Put our counts of the 13 fields of gharbi2023 beside its authors' own.

    Parameters
    ----------
    per_image : pandas.DataFrame
        From `bloodcells.results.load_runs`; may be empty.
    method : str
        Network whose counts to show.
    cell : {"rbc", "wbc", "plt"}
    dataset : str

    Returns
    -------
    pandas.DataFrame
        Indexed by field; its part in the published split, the true count, the authors' counts from SegNet
        masks, and ours by each method (mean over seeds, to the nearest cell).
    """
    published = fields.read_published_counts(dataset).query("cell == @cell").set_index("image_id")
    split = {one: part for part in ("train", "test") for one in fields.list_fields(dataset, cell, part)}
    table = pd.DataFrame(
        {
            ("", "part"): published.index.map(lambda one: split.get(one, "")),
            ("", "true"): published["n_true"],
        },
        index=published.index,
    )
    for name in _OF_RELEASED:
        table["authors, SegNet", name] = published[name]
    if len(per_image):
        ours = per_image[(per_image["method"] == method) & (per_image["target"] == cell)]
        for name in METHODS:
            means = ours.groupby("image_id")[f"n_{name}"].mean()
            counts = means.reindex(table.index).round().astype("Int64")
            table[claims.METHOD_NAMES.get(method, method), name] = counts
    table.columns = pd.MultiIndex.from_tuples(table.columns)
    return table.rename_axis(index="field")


def released_table(path=RELEASED, *, dataset="all-idb1"):
    """Score the counts that the authors' released weights give, by the authors' own methods and constants.

    Parameters
    ----------
    path : path-like
        Table of ``workflow/score_released.py``.
    dataset : str

    Returns
    -------
    pandas.DataFrame
        Indexed by cells, group of fields and method: fields, accuracy in per cent, mean absolute error, bias,
        and F1 of the circles at an intersection over union of 0.5. Groups whose fields are all there.
    """
    keys, rows = ["cells", "fields", "method"], []
    for cell, table in pd.read_csv(path).groupby("cell"):
        for part, members in groups(dataset, cell, set(table["image_id"])).items():
            chosen = table[table["image_id"].isin(members)]
            # Some fields of a group may be there as members of another: half a group has no mean.
            if part == "counted" or len(members) < len(fields.list_fields(dataset, cell, part)):
                continue
            for method in _OF_RELEASED:
                scores = count_scores(chosen["n_true"], chosen[f"n_{method}"])
                names = [f"{method}_{name}" for name in ("tp", "fp", "fn")]
                has_outlines = set(names) <= set(chosen) and chosen[names].notna().all(axis=None)
                found = chosen[names].sum() if has_outlines else None
                rows.append(
                    dict(zip(keys, (cell, part, method), strict=True))
                    | {
                        "n": scores.n,
                        "accuracy, %": f"{scores.mean_accuracy:.1f}",
                        "mean absolute error": f"{scores.mae:.1f}",
                        "bias": with_sign(scores.bias, 1),
                        "F1": "" if found is None else f"{object_scores(*found)['f1']:.3f}",
                    }
                )
    columns = ["n", "accuracy, %", "mean absolute error", "bias", "F1"]
    return pd.DataFrame(rows, columns=[*keys, *columns]).set_index(keys)


def platelet_truth(dataset="all-idb1"):
    """Compare the two truths of platelets: the published counts, and the components of the masks.

    Parameters
    ----------
    dataset : str

    Returns
    -------
    pandas.DataFrame
        Indexed by field, for each that has both: the count; the components of at least
        `bloodcells.field_scores.SMALLEST_PLATELET`; and all components.
    """
    rows = []
    for image_id in fields.list_fields(dataset, "plt", "counted"):
        field = fields.load_field(dataset, image_id)
        if "plt" not in field.masks:
            continue
        radius = estimate_cell_radius(field.image)
        some, every = (
            truth_from_mask(field.masks["plt"], own_radius=radius, smallest=least)
            for least in (SMALLEST_PLATELET, 0)
        )
        rows.append(
            {
                "field": image_id,
                "count": field.counts["plt"],
                "components": some,
                "all components": every,
            }
        )
    if not rows:
        raise UserError(f"No field of {dataset} has both a count and a mask of platelets.")
    return pd.DataFrame(rows).set_index("field")


def ceiling(table):
    """Return the counting accuracy of one truth against the other.

    Parameters
    ----------
    table : pandas.DataFrame
        From `platelet_truth`.

    Returns
    -------
    float
        Per cent, mean over fields.
    """
    return count_scores(table["count"], table["components"]).mean_accuracy


def platelet_agreement(per_image, *, method="dounet", counter="ccl", path=RELEASED, dataset="all-idb1"):
    """Compare three counts of the platelets of the test fields, each pair: the truth and two networks.

    Parameters
    ----------
    per_image : pandas.DataFrame
        From `bloodcells.results.load_runs`.
    method : str
        Our network.
    counter : str
        How both networks' platelets are counted, one of "cht", "ccl" and "edt".
    path : path-like
        Table of ``workflow/score_released.py``, with platelets.
    dataset : str

    Returns
    -------
    pandas.DataFrame
        Indexed by the pair, "taken for the truth" and "against it"; the number of fields, counting accuracy
        in per cent (of fields where the first isn't 0), mean absolute error and bias in platelets, and the
        correlation. Empty without a run.
    """
    keys = ["taken for the truth", "against it"]
    columns = ["n", "accuracy, %", "mean absolute error", "bias", "correlation"]
    ours = per_image
    if len(per_image):  # a table of no runs has no columns
        ours = per_image[(per_image["method"] == method) & (per_image["target"] == "plt")]
    if ours.empty:
        return pd.DataFrame(columns=[*keys, *columns]).set_index(keys)
    released = pd.read_csv(path).query("cell == 'plt'").set_index("image_id")[f"n_{counter}"]
    ours = ours[ours["seed"] == ours["seed"].min()].set_index("image_id")
    test = [one for one in fields.list_fields(dataset, "plt", "test") if one in ours.index]
    counts = {
        "truth": pd.to_numeric(ours["n_true"]).loc[test],
        "our network": pd.to_numeric(ours[f"n_{counter}"]).loc[test],
        "released weights": released.loc[test],
    }
    rows = []
    for first, second in (
        ("truth", "our network"),
        ("truth", "released weights"),
        ("released weights", "our network"),
    ):
        scores = count_scores(counts[first], counts[second])
        values = (
            scores.n,
            round(scores.mean_accuracy, 1),
            round(scores.mae, 1),
            round(scores.bias, 1),
            round(np.corrcoef(counts[first], counts[second])[0, 1], 3),
        )
        rows.append(dict(zip([*keys, *columns], (first, second, *values), strict=True)))
    return pd.DataFrame(rows).set_index(keys)


def size_table(tables):
    """Put the scores of networks beside those of the same networks trained at another size, on test fields.

    Parameters
    ----------
    tables : dict of str to pandas.DataFrame
        Mode to scores, from `bloodcells.results.load_runs`; may be empty.

    Returns
    -------
    pandas.DataFrame
        Indexed by cells, network and mode, for each network that every mode has: the number of ``seeds``, and
        as text, mean over seeds with their range where there are several, the Dice coefficient of the mask,
        the F1 of cells with outlines and the counting accuracy in per cent, both by the method that
        `bloodcells.counting.settings.BEST` names.
    """
    keys, columns = ["cells", "network", "mode"], ["seeds", "mask Dice", "F1", "accuracy, %"]
    groups = {
        (*key, mode): runs
        for mode, scores in tables.items()
        if len(scores)
        for key, runs in scores[scores["dataset"].str.endswith("/test")].groupby(
            ["target", "method"], sort=False
        )
    }
    rows = []
    for cell, method in dict.fromkeys(key[:2] for key in groups):
        found = {mode: groups.get((cell, method, mode)) for mode in tables}
        if any(runs is None for runs in found.values()):
            continue
        for mode, runs in found.items():
            values = {
                "cells": cell,
                "network": claims.METHOD_NAMES.get(method, method),
                "mode": mode,
                "seeds": len(runs),
                "mask Dice": _range(runs["mask_dice"], 3),
                "F1": _range(pd.to_numeric(runs[f"{BEST[cell]}_f1"]), 3),
                "accuracy, %": _range(100 * runs[f"{BEST[cell]}_accuracy"], 1),
            }
            rows.append(values)
    return pd.DataFrame(rows, columns=[*keys, *columns]).set_index(keys)


def _range(values, digits):
    """Return the mean in words, with the range of several values; nothing where there is none."""
    if values.isna().all():
        return ""
    low, mean, high = (f"{value:z.{digits}f}" for value in (values.min(), values.mean(), values.max()))
    return mean if len(values) == 1 else f"{mean} ({low} to\u00a0{high})"


def compare_on_training(per_image, methods, *, cell="rbc", counter="tree", dataset="all-idb1"):
    """Compare networks on the training fields of a kind of cell, to choose one without the test fields.

    Parameters
    ----------
    per_image : pandas.DataFrame
        From `bloodcells.results.load_runs`; every run must have been scored on all training fields.
    methods : sequence of str
        Networks; those without a run are left out.
    cell, counter : str
        Kind of cell with outlines, and one of `METHODS`.
    dataset : str

    Returns
    -------
    pandas.DataFrame
        Indexed by network: the number of fields, the mean counting accuracy and the pooled F1 at an
        intersection over union of 0.5, both in [0, 1], and their sum, by which counting settings are chosen.
    """
    rows = []
    training = fields.list_fields(dataset, cell, "train")
    for method in methods if len(per_image) else ():
        chosen = (per_image["method"] == method) & (per_image["target"] == cell)
        table = per_image[chosen & per_image["image_id"].isin(training)]
        if table.empty:
            continue
        counts = table[["n_true", f"n_{counter}"]].apply(pd.to_numeric)
        accuracy = count_scores(counts["n_true"], counts[f"n_{counter}"]).mean_accuracy / 100
        found = table[[f"{counter}_{name}" for name in ("tp", "fp", "fn")]].apply(pd.to_numeric).sum()
        f1 = object_scores(*found)["f1"]
        name = claims.METHOD_NAMES.get(method, method)
        rows.append({"network": name, "n": len(table), "accuracy": accuracy, "F1": f1, "sum": accuracy + f1})
    columns = ["network", "n", "accuracy", "F1", "sum"]
    return pd.DataFrame(rows, columns=columns).set_index("network").round(4)


def compare_shipped_with_released(cards, *, record=RELEASED.parent, dataset="all-idb1", seed=0):
    """Hold the counts of the shipped networks against those of the authors' larger ones, on held-out fields.

    Parameters
    ----------
    cards : sequence of dict
        From `bloodcells.networks.read_card`.
    record : path-like
        Recorded runs of chapter 2, and ``released.csv`` by ``workflow/score_released.py``.
    dataset : str
    seed : int
        Of the bootstrap, the same for every card.

    Returns
    -------
    pandas.DataFrame
        Indexed by kind of cell; the number of held-out fields with such cells; the counting accuracies in
        per cent of the shipped network, counted as ``bloodcells count`` counts, and of the released one, by
        that of the authors' methods that comes out best on these fields; the mean of their differences
        with the 95 % interval of a paired bootstrap over fields; and "no difference" where that interval has
        0 in it, "better" or "worse" where not; but of few fields the interval is no more than the range, and
        "too few fields" stands in place of these two.
    """
    record, rows = Path(record), []
    released = pd.read_csv(record / "released.csv")
    for card in cards:
        cell, counter = card["cell"], card["counting"]["method"]
        test = fields.list_fields(dataset, cell, "test")
        ours = pd.read_csv(record / "workstation" / card["run"] / "per_image.csv").set_index("image_id")
        theirs = released[released["cell"] == cell].set_index("image_id")
        # No accuracy without a cell, so such fields are in neither mean.
        test = [one for one in test if one in theirs.index and ours.loc[one, "n_true"] > 0]
        n_true = ours.loc[test, "n_true"]
        accuracy = count_scores(n_true, ours.loc[test, f"n_{counter}"]).accuracy
        accuracies = [count_scores(n_true, theirs.loc[test, f"n_{name}"]).accuracy for name in _OF_RELEASED]
        of_released = max(accuracies, key=np.mean)
        gaps = pd.DataFrame({"gap": accuracy - of_released})
        rng = np.random.default_rng(seed)
        low, high = bootstrap_interval(gaps, lambda table: table["gap"].mean(), rng=rng)
        rows.append(
            {
                "cells": PLURALS[cell],
                "fields": len(test),
                "shipped, %": f"{accuracy.mean():.1f}",
                "released, %": f"{of_released.mean():.1f}",
                "difference": f"{gaps['gap'].mean():+.1f}\u00a0[{low:+.1f},\u00a0{high:+.1f}]",
                "verdict": _judge_gap(low, high, len(test)),
            }
        )
    return pd.DataFrame(rows).set_index("cells")


def _judge_gap(low, high, n):
    if low <= 0 <= high:
        return "no difference"
    if n < LEAST_FIELDS:
        return "too few fields"
    return "better" if low > 0 else "worse"


def _number(value):
    return float("nan") if value is None or value == "" else float(value)


def agreement_counts(per_image, method, cell, counter, *, part="test", dataset="all-idb1"):
    """Pick the true and the predicted counts of one network on one group of fields.

    Parameters
    ----------
    per_image : pandas.DataFrame
        From `bloodcells.results.load_runs`.
    method, cell, counter : str
        Network, kind of cell, and one of `METHODS`.
    part : str
        Group of fields, as in `bloodcells.field_scores.groups`.
    dataset : str

    Returns
    -------
    n_true, n_pred : ndarray of float64, shape (n,)
        Fields whose true count is known.
    """
    table = per_image[(per_image["method"] == method) & (per_image["target"] == cell)]
    members = groups(dataset, cell, set(table["image_id"]))[part]
    table = table[table["image_id"].isin(members) & (table["n_true"].astype(str) != "")]
    return tuple(pd.to_numeric(table[name]).to_numpy(float) for name in ("n_true", f"n_{counter}"))

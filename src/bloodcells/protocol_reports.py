"""Scores and tables of the comparison of all networks under one protocol."""

import numpy as np
import pandas as pd

from bloodcells.colours import PROPERTIES, ColourChange
from bloodcells.datasets import CELL_DATASETS
from bloodcells.errors import UserError
from bloodcells.metrics import bootstrap_gaps, mean_defined, percentile_interval, pixel_scores
from bloodcells.models.catalogue import NETWORKS, name_network
from bloodcells.number_text import mean_with_range, with_sign
from bloodcells.protocol import class_names

STAINED = "_stain"
"""Suffix of a method that is trained with stain augmentation."""

REFERENCE = {name: getattr(ColourChange(), name) for name in PROPERTIES}
"""Where each property of the colours stands before a change."""

_COUNTS = ["tp", "fp", "fn", "tn"]


def main_score(target):
    """Return what a task is judged by.

    Parameters
    ----------
    target : str
        As in `bloodcells.protocol`.

    Returns
    -------
    title : str
    metric : str
        One of `bloodcells.metrics.PIXEL_SCORES`.
    of : str
        The class whose pixels are scored, or "mean" for the mean over all classes.

    Examples
    --------
    >>> main_score("classes"), main_score("cell_jiangxi")
    (('mean IoU', 'iou', 'mean'), ('Dice', 'dice', 'cell'))
    """
    if target == "classes":
        return "mean IoU", "iou", "mean"
    return "Dice", "dice", class_names(target)[1]


def name_training(method):
    """Return what figures call a network together with its training.

    Parameters
    ----------
    method : str
        A network of `bloodcells.models.catalogue`, or one with the suffix `STAINED`.

    Returns
    -------
    str

    Examples
    --------
    >>> name_training("wcsegnet_stain")
    'WCSegNet, stains jittered'
    """
    name = name_network(method.removesuffix(STAINED))
    return f"{name}, stains jittered" if method.endswith(STAINED) else name


def score_task(per_image, target, *, seed, n_resamples=1000):
    """Score a run by its task's score, pooled over images, with 95 % bootstrap intervals over images.

    Parameters
    ----------
    per_image : pandas.DataFrame
        From `bloodcells.protocol.count_class_pixels`, images as they are.
    target : str
    seed : int
        Seed of the bootstrap, the same for every dataset.
    n_resamples : int

    Returns
    -------
    dict
        ``{"datasets": {name: {"n", "score", "score_low", "score_high"}}}``; of several datasets also all
        together, under their names joined by a plus.
    """
    groups = dict(iter(per_image.groupby("dataset", sort=False)))
    if len(groups) > 1:
        groups["+".join(groups)] = per_image
    found = {}
    for name, table in groups.items():
        counts = _stack(table, target)
        drawn = np.random.default_rng(seed).integers(len(counts), size=(n_resamples, len(counts)))
        resampled = _score(counts[drawn].sum(axis=1), target)
        low, high = percentile_interval(resampled)
        found[name] = {
            "n": len(counts),
            "score": float(_score(counts.sum(axis=0), target)),
            "score_low": low,
            "score_high": high,
        }
    return {"datasets": found}


def _stack(table, target):
    """Return the counts of a table as an array of shape (images, classes, 4)."""
    names = class_names(target)
    one = table.set_index(["dataset", "image_id", "class"])[_COUNTS]
    if not one.index.is_unique:
        raise UserError("`per_image` must have one row an image and class, got some more than once.")
    images = table[["dataset", "image_id"]].drop_duplicates()
    order = [(*image, name) for image in images.itertuples(index=False) for name in names]
    return one.loc[order].to_numpy(np.int64).reshape(len(images), len(names), len(_COUNTS))


def _score(counts, target):
    """Return a task's score of counts of shape (..., classes, 4)."""
    _, metric, of = main_score(target)
    values = pixel_scores(*np.moveaxis(counts, -1, 0))[metric]
    return mean_defined(values) if of == "mean" else values[..., class_names(target).index(of)]


def network_table(scores, target):
    """Lay out what the networks reach at a task, and what they cost.

    Parameters
    ----------
    scores : pandas.DataFrame
        From `bloodcells.results.load_runs`, with ``n_parameters``, ``train_s`` and ``predict_s``; may be
        empty.
    target : str

    Returns
    -------
    pandas.DataFrame
        Indexed by network: the chapter it is from, millions of parameters, minutes of training, milliseconds
        an image, the score as text, mean over seeds with their range, and the number of seeds. Best first.
        Networks trained with stain augmentation and pairs are left out.
    """
    columns = ["chapter", "parameters, M", "training, min", "ms an image", main_score(target)[0], "seeds"]
    rows = []
    for method, runs in _pooled_runs(scores, target).groupby("method", sort=False):
        if method.endswith(STAINED) or "+" in method:
            continue
        values = runs["score"].astype(float)
        chapter = NETWORKS[method][1] if method in NETWORKS else 4
        costs = runs[["n_parameters", "train_s", "predict_s"]].astype(float).mean()
        cells = [
            chapter,
            f"{costs['n_parameters'] / 1e6:.2f}",
            f"{costs['train_s'] / 60:.1f}",
            f"{1000 * costs['predict_s']:.1f}",
            mean_with_range(values, space="\N{NO-BREAK SPACE}"),
            len(values),
        ]
        rows.append((-values.mean(), name_network(method), cells))
    rows.sort(key=lambda row: row[:2])
    return pd.DataFrame(
        [cells for *_, cells in rows],
        columns=columns,
        index=pd.Index([row[1] for row in rows], name="network"),
    )


def dataset_table(scores, target):
    """Lay out what the networks reach at a task on each of its datasets.

    Parameters
    ----------
    scores : pandas.DataFrame
        As in `network_table`.
    target : str

    Returns
    -------
    pandas.DataFrame of str
        Indexed by network, in the order of `network_table`, a column for each dataset: the score, mean over
        seeds with their range, "missing" without runs.
    """
    names = network_table(scores, target).index
    if names.empty:
        return pd.DataFrame(index=names)
    runs = scores[(scores["target"] == target) & ~scores["dataset"].str.contains("+", regex=False)]
    found = {
        dataset: [
            mean_with_range(
                table.loc[table["method"].map(name_network) == name, "score"], space="\N{NO-BREAK SPACE}"
            )
            for name in names
        ]
        for dataset, table in runs.groupby("dataset", sort=False)
    }
    return pd.DataFrame(found, index=names)


def _pooled_runs(scores, target):
    """Return the rows of a task's runs that hold the score over all their images."""
    if scores.empty:
        return pd.DataFrame(columns=["method", "score"])
    runs = scores[scores["target"] == target]
    return runs.loc[runs.groupby("run", sort=False)["n"].idxmax()] if len(runs) else runs


def difference_table(per_image, target, *, seed=0):
    """Compare every network with the best one, on the same images.

    Parameters
    ----------
    per_image : pandas.DataFrame
        From `bloodcells.results.load_runs`; may be empty.
    target : str
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    pandas.DataFrame
        Indexed by network, nearest first: by how much its score differs from the best network's, the 95 %
        interval of the paired bootstrap over images and seeds, and whether 0 lies outside it.
    """
    columns = [f"{main_score(target)[0]} less the best's", "95 % interval", "verdict"]
    empty = pd.DataFrame(columns=columns, index=pd.Index([], name="network"))
    if per_image.empty:
        return empty
    chosen = per_image[(per_image["target"] == target) & (per_image["change"] == "")]
    chosen = chosen[
        ~chosen["method"].str.endswith(STAINED) & ~chosen["method"].str.contains("+", regex=False)
    ]
    if chosen.empty:
        return empty
    best, *others = _ranked(chosen, target)
    rows = {name_network(best): ["", "", "best"]}
    for method in others:
        gap, low, high = _gap(chosen, best, method, target, seed)
        is_outside = low > 0 or high < 0
        rows[name_network(method)] = [*_gap_text(gap, low, high), "worse" if is_outside else "no difference"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("network")


def _ranked(per_image, target):
    """List the methods by their score, all images and seeds added up, the best first."""
    totals = {
        method: _total_score(table, target) for method, table in per_image.groupby("method", sort=False)
    }
    return sorted(totals, key=totals.get, reverse=True)


def _gap(per_image, base, method, target, seed):
    """Return the score of a method less that of `base` on the same images, and its interval."""
    # Ids of two datasets may be alike.
    images = per_image.assign(image_id=per_image["dataset"] + "/" + per_image["image_id"])
    _, metric, of = main_score(target)
    (gap,) = bootstrap_gaps(images, [base, method], metric, rng=np.random.default_rng(seed), of=of)
    return gap


def _gap_text(gap, low, high):
    gap, low, high = (with_sign(value, 3) for value in (gap, low, high))
    # A no-break space: in a narrow table an interval would fall apart.
    return gap, f"[{low},\u00a0{high}]"


def _total_score(table, target):
    counts = table.groupby("class")[_COUNTS].sum().loc[list(class_names(target))]
    return float(_score(counts.to_numpy(np.int64), target))


def transfer_table(scores, method, column="score"):
    """Lay out how a network does on datasets that it has not learnt from.

    Parameters
    ----------
    scores : pandas.DataFrame
        From `bloodcells.results.load_runs`; may be empty.
    method : str
    column : {"score", "score_low", "score_high"}
        The score, or an end of its 95 % interval over the test images.

    Returns
    -------
    pandas.DataFrame of float
        Dice of whole cells: a row for each dataset learnt from, a column for each tested on; means over
        seeds, not-a-number where there is no run.
    """
    table = pd.DataFrame(np.nan, index=CELL_DATASETS, columns=CELL_DATASETS)
    for source in CELL_DATASETS if len(scores) else ():
        runs = scores[(scores["method"] == method) & (scores["target"] == f"cell_{source}")]
        for name, found in runs.groupby("dataset"):
            if name in table.columns:
                table.loc[source, name] = found[column].astype(float).mean()
    return table.rename_axis(index="learnt from", columns="tested on")


def transfer_interval_table(scores, method):
    """Write `transfer_table` as text, each score with its 95 % interval over the test images.

    Parameters
    ----------
    scores : pandas.DataFrame
    method : str

    Returns
    -------
    pandas.DataFrame of str
        "" where there is no run. Of several seeds the means of scores and of ends.
    """
    score, low, high = (
        transfer_table(scores, method, column) for column in ("score", "score_low", "score_high")
    )
    text = score.map("{:.3f}".format) + low.map("\u00a0[{:.3f},".format) + high.map("\u00a0{:.3f}]".format)
    return text.where(score.notna(), "")


def transfer_overview(scores):
    """Put the tables of `transfer_interval_table` of all networks below each other.

    Parameters
    ----------
    scores : pandas.DataFrame
        As in `transfer_table`.

    Returns
    -------
    pandas.DataFrame of str
        Indexed by network and dataset learnt from; rows without any run are left out.
    """
    chosen = scores[scores["target"].str.startswith("cell_")] if len(scores) else scores
    if chosen.empty:
        return pd.DataFrame(columns=CELL_DATASETS)
    methods = chosen["method"].unique()
    tables = {name_network(method): transfer_interval_table(chosen, method) for method in methods}
    table = pd.concat(tables, names=["network"])
    return table[(table != "").any(axis=1)]


def mean_transfer_table(scores):
    """Lay out for each network how it does at home and abroad.

    Parameters
    ----------
    scores : pandas.DataFrame
        As in `transfer_table`.

    Returns
    -------
    pandas.DataFrame of float
        Indexed by network: the mean Dice over the datasets learnt from (the diagonal of `transfer_table`),
        that over all others, what is lost, and how many trainings of each kind there are at least. Networks
        that lack a run are left out.
    """
    rows = {}
    for method in dict.fromkeys(scores["method"]) if len(scores) else ():
        values = transfer_table(scores, method).to_numpy()
        if np.isnan(values).any():
            continue
        at_home = np.eye(len(values), dtype=bool)
        home, abroad = values[at_home].mean(), values[~at_home].mean()
        runs = scores[(scores["method"] == method) & scores["target"].str.startswith("cell_")]
        n_seeds = runs.groupby("target")["seed"].nunique().min()
        rows[name_network(method)] = [home, abroad, home - abroad, n_seeds]
    columns = ["at home", "abroad", "lost", "seeds"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("network")


def colour_curves(per_image, target="classes"):
    """Score networks on images with changed colours.

    Parameters
    ----------
    per_image : pandas.DataFrame
        From `bloodcells.results.load_runs`, with ``change``, such as "hue -20", and "" for images as they
        are; may be empty.
    target : str

    Returns
    -------
    pandas.DataFrame
        One row a network, kind of training, property and level, the unchanged one included: ``method``,
        ``stained``, ``property``, ``level``, ``score``, the mean over seeds, and ``low`` and ``high``, their
        range.
    """
    columns = ["method", "stained", "property", "level", "score", "low", "high"]
    chosen = per_image[per_image["target"] == target] if len(per_image) else per_image
    rows = []
    for method, table in chosen.groupby("method", sort=False) if len(chosen) else ():
        scores = {
            change: [_total_score(run, target) for _, run in runs.groupby("seed")]
            for change, runs in table.groupby("change", sort=False)
        }
        if set(scores) == {""}:
            continue  # a pair, say, whose colours weren't changed
        identity = {"method": method.removesuffix(STAINED), "stained": method.endswith(STAINED)}
        for name in PROPERTIES:
            levels = {REFERENCE[name]: scores[""]}
            levels |= {
                float(change.split()[1]): values
                for change, values in scores.items()
                if change.startswith(f"{name} ")
            }
            for level in sorted(levels):
                values = levels[level]
                spread = {"score": np.mean(values), "low": min(values), "high": max(values)}
                rows.append(identity | {"property": name, "level": level} | spread)
    return pd.DataFrame(rows, columns=columns)


def colour_loss_table(curves, *, slight):
    """Lay out what slightly changed colours cost each network, without and with stain augmentation.

    Parameters
    ----------
    curves : pandas.DataFrame
        From `colour_curves`.
    slight : dict of str to tuple of float
        The levels of each property that count as slight.

    Returns
    -------
    pandas.DataFrame of float
        Indexed by network and training ("as they are", "stains jittered"): the score of unchanged images, and
        for each property the largest fall among its slight levels.
    """
    rows = {}
    # Both trainings of a network stand together, in whatever order runs were read.
    for (method, stained), table in curves.groupby(["method", "stained"]):
        key = name_network(method), "stains jittered" if stained else "as they are"
        unchanged = None
        for name in PROPERTIES:
            one = table[table["property"] == name].set_index("level")["score"]
            unchanged = one[REFERENCE[name]]
            changed = one[one.index.isin(slight[name])]
            rows.setdefault(key, {"unchanged": unchanged})[name] = (unchanged - changed).max()
    index = pd.MultiIndex.from_tuples(rows, names=["network", "colours in training"]) if rows else None
    return pd.DataFrame(list(rows.values()), index=index, columns=["unchanged", *PROPERTIES])


def stain_gain_table(per_image, *, slight, target="classes", seed=0):
    """Lay out what stain augmentation gains each network on slightly changed colours.

    Parameters
    ----------
    per_image : pandas.DataFrame
        As in `colour_curves`.
    slight : dict of str to tuple of float
        As in `colour_loss_table`.
    target : str
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    pandas.DataFrame of str
        Indexed by network: on unchanged images, and for each property on its slight levels, pixels added up,
        the score with stain augmentation less that without, and the 95 % interval of the paired bootstrap
        over images and seeds; "-" where there are no such levels. Networks that lack one are left out.
    """
    rows = {}
    chosen = per_image[per_image["target"] == target] if len(per_image) else per_image
    methods = set(chosen["method"]) if len(chosen) else set()
    changes = {"unchanged": [""]}
    changes |= {
        name: [f"{name} {level:g}" for level in slight[name]] for name in PROPERTIES if name in slight
    }
    for method in sorted(methods):
        pair = [method, method + STAINED]
        if pair[1] not in methods:
            continue
        cells = []
        for names in changes.values():
            images = chosen[chosen["method"].isin(pair) & chosen["change"].isin(names)]
            # Levels of one image are no images of their own.
            keys = ["method", "seed", "dataset", "image_id", "class"]
            images = images.groupby(keys, as_index=False)[_COUNTS].sum()
            cells.append(" ".join(_gap_text(*_gap(images, *pair, target, seed))) if len(images) else "-")
        rows[name_network(method)] = cells
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(changes)).rename_axis("network")


def pair_gain_table(per_image, pairs, *, seed=0):
    """Lay out what two networks gain whose probabilities are averaged.

    Parameters
    ----------
    per_image : pandas.DataFrame
        From `bloodcells.results.load_runs`; may be empty.
    pairs : sequence of str
        As in `pair_table`.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    pandas.DataFrame of str
        Indexed by pair and by what it is compared with: the better of its members alone, and, for two
        different networks, the better of the pairs of two trainings of one of them. The mean IoU gained, and
        the 95 % interval of the paired bootstrap over images and seeds.
    """
    columns = ["mean IoU gained", "95 % interval"]
    rows = {}
    chosen = per_image
    if len(per_image):
        chosen = per_image[(per_image["target"] == "classes") & (per_image["change"] == "")]
    known = set(chosen["method"]) if len(chosen) else set()
    for pair in pairs:
        members = dict.fromkeys(pair.split("+"))
        rivals = [list(members)]
        if len(members) > 1:
            rivals.append([f"{one}+{one}" for one in members])
        for candidates in rivals:
            candidates = [one for one in candidates if one in known]
            if pair not in known or not candidates:
                continue
            base = _ranked(chosen[chosen["method"].isin(candidates)], "classes")[0]
            rows[_name_pair(pair), _name_pair(base)] = _gap_text(*_gap(chosen, base, pair, "classes", seed))
    index = pd.MultiIndex.from_tuples(rows, names=["pair", "compared with"]) if rows else None
    return pd.DataFrame(list(rows.values()), index=index, columns=columns)


def _name_pair(pair):
    return " + ".join(name_network(one) for one in pair.split("+"))


def pair_table(scores, pairs):
    """Lay out what two networks reach whose probabilities are averaged.

    Parameters
    ----------
    scores : pandas.DataFrame
        From `bloodcells.results.load_runs`; may be empty.
    pairs : sequence of str
        Names joined by a plus; twice the same for two trainings of one network.

    Returns
    -------
    pandas.DataFrame
        Indexed by pair: mean IoU of the first alone, of the second alone, and of both; text, means over seeds
        with their range, "missing" without runs.
    """
    runs = _pooled_runs(scores, "classes")
    rows = {}
    for pair in pairs:
        cells = []
        for method in (*pair.split("+"), pair):
            values = runs.loc[runs["method"] == method, "score"]
            cells.append(mean_with_range(values, space="\N{NO-BREAK SPACE}"))
        rows[_name_pair(pair)] = cells
    columns = ["first alone", "second alone", "both"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("pair")

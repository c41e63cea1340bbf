"""How counting methods err as one property of a drawn field changes and all others stay.

Chapter 6: each method counts red cells from the true masks and edges of a field, and from what the shipped
network makes of its image. The first shows where the method itself breaks, the second where the network does.
"""

from dataclasses import asdict, replace
from functools import partial

import numpy as np
import pandas as pd
from scipy.stats import bootstrap

from bloodcells.counting.find import METHODS
from bloodcells.drawn_conditions import RADIUS, Condition, draw_condition
from bloodcells.errors import UserError
from bloodcells.field_scores import score_field
from bloodcells.object_metrics import object_scores
from bloodcells.tiling import choose_output_size, predict_tiled
from bloodcells.working_scale import draw_edges

REFERENCE = Condition()
"""What all properties but one have."""

LEVELS = {
    "overlap": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6),
    "density": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7),
    "spread": (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4),
    "others": (0, 1, 2, 3, 4, 6, 8),
    "blur": (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0),
    "noise": (0.0, 3.0, 10.0, 20.0, 30.0, 45.0, 60.0),
    "hue": (-180.0, -90.0, -45.0, 0.0, 45.0, 90.0, 135.0),
    "quality": (100, 75, 50, 30, 20, 10, 5),
}
"""Values of each property of `bloodcells.drawn_conditions.Condition`; one of each is that of `REFERENCE`."""

INPUTS = ("truth", "network")


def choose_levels(factor, n_levels):
    """Choose evenly among the levels of a factor.

    Parameters
    ----------
    factor : str
        One of `LEVELS`.
    n_levels : int
        At least 2. The first, the last and that of `REFERENCE` are always among them, so that one more may
        come.

    Returns
    -------
    list of float or int
        In the order of `LEVELS`.

    Raises
    ------
    UserError
        If there is no such factor, or too few levels are asked for.
    """
    if factor not in LEVELS:
        raise UserError(f"Expected a factor, one of {', '.join(LEVELS)}; got {factor!r}.")
    if n_levels < 2:
        raise UserError(f"`n_levels` must be at least 2, got {n_levels!r}.")
    levels = LEVELS[factor]
    places = np.linspace(0, len(levels) - 1, min(n_levels, len(levels))).round().astype(int)
    chosen = {*places.tolist(), levels.index(getattr(REFERENCE, factor))}
    return [levels[place] for place in sorted(chosen)]


def list_conditions(factors, n_levels):
    """List every condition in which one factor differs from the reference, and the reference itself once.

    Parameters
    ----------
    factors : sequence of str
    n_levels : int
        As in `choose_levels`.

    Returns
    -------
    list of Condition
        The reference first.
    """
    varied = [replace(REFERENCE, **{f: level}) for f in factors for level in choose_levels(f, n_levels)]
    return list(dict.fromkeys([REFERENCE, *varied]))


def count_condition(condition, shape, *, seed, network, methods=tuple(METHODS)):
    """Draw a field and count its red cells by every method, from the truth and from a network.

    Parameters
    ----------
    condition : Condition
    shape : tuple of int
        Rows and columns.
    seed : int
    network : bloodcells.networks.Network
        For red cells, with the outputs mask and edge and a `cell_radius` of
        `bloodcells.drawn_conditions.RADIUS`. Its card's settings are those of the methods.
    methods : sequence of str
        Out of `bloodcells.counting.find.METHODS`.

    Returns
    -------
    list of dict
        A row for each of `INPUTS`: the condition's values, "seed", "input", and what
        `bloodcells.field_scores.score_field` gives.
    """
    if network.cell_radius != RADIUS:
        raise UserError(
            f"`network` must take red cells with a radius of {RADIUS:g} pixels, as they are drawn; it takes "
            f"{network.cell_radius:g}."
        )
    field = draw_condition(condition, shape, seed=seed)
    found = predict_tiled(
        network.predict,
        field.image,
        output_size=choose_output_size(shape, target=max(shape)),
        margin=network.margin,
    )
    edge = draw_edges(field.outlines, shape)
    truth = np.stack([field.masks["rbc"], edge], axis=-1).astype(np.float32)
    score = partial(
        score_field,
        field,
        scale=1.0,
        cell="rbc",
        cell_radius=RADIUS,
        settings=network.counting,
        methods=methods,
    )
    identity = asdict(condition) | {"seed": seed}
    return [
        identity | {"input": name} | score(probability)
        for name, probability in zip(INPUTS, (truth, found), strict=True)
    ]


def summarise(table, factors, *, seed, methods=tuple(METHODS)):
    """Sum up counts by factor and level.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of `count_condition`, of at least two seeds.
    factors : sequence of str
    seed : int
        Of the bootstrap.
    methods : sequence of str

    Returns
    -------
    pandas.DataFrame
        A row for each factor, level, input and method: "n" fields, "error", the relative error of the count
        (n_pred - n_true) / n_true, mean over fields, with its 95 % bootstrap interval over fields, "low" and
        "high"; and "f1" of objects at an intersection over union of 0.5 (circles: centres within half a
        radius), pooled over fields, with "f1_low" and "f1_high" likewise.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for factor in factors:
        others = {name: value for name, value in asdict(REFERENCE).items() if name != factor}
        alone = table[np.logical_and.reduce([table[name] == value for name, value in others.items()])]
        for (level, name), group in alone.groupby([factor, "input"], sort=True):
            for method in methods:
                errors = (group[f"n_{method}"] - group["n_true"]) / group["n_true"]
                low, high = bootstrap(
                    (errors.to_numpy(float),), np.mean, method="percentile", n_resamples=1000, rng=rng
                ).confidence_interval
                cells = group[[f"{method}_{part}" for part in ("tp", "fp", "fn")]].to_numpy()
                # The same fields for every level and method.
                drawn = np.random.default_rng(seed).integers(len(cells), size=(1000, len(cells)))
                f1_low, f1_high = np.quantile(_pooled_f1(cells[drawn]), [0.025, 0.975])
                rows.append(
                    {"factor": factor, "level": level, "input": name, "method": method, "n": len(group)}
                    | {"error": errors.mean(), "low": low, "high": high}
                    | {"f1": float(_pooled_f1(cells)), "f1_low": f1_low, "f1_high": f1_high}
                )
    return pd.DataFrame(rows)


def _pooled_f1(cells):
    """Return F1 of counts of shape (..., fields, 3), true positives, false positives and false negatives."""
    return object_scores(*np.moveaxis(cells.sum(axis=-2), -1, 0))["f1"]


def reference_table(summary):
    """Return the errors at the reference as text.

    Parameters
    ----------
    summary : pandas.DataFrame
        From `summarise`.

    Returns
    -------
    pandas.DataFrame of str
        Rows are methods, columns `INPUTS`: the error in per cent, with its interval in brackets.
    """
    here = summary[summary["level"] == summary["factor"].map(asdict(REFERENCE))]
    here = here.drop_duplicates(["input", "method"])
    texts = [f"{100 * r.error:.1f} [{100 * r.low:.1f}, {100 * r.high:.1f}]" for r in here.itertuples()]
    table = here.assign(method=here["method"].map(METHODS), text=texts)
    return table.pivot(index="method", columns="input", values="text")[
        [name for name in INPUTS if name in set(table["input"])]
    ]


def breaking_points(summary, *, most=0.1):
    """Tell from which level on a count is off.

    Parameters
    ----------
    summary : pandas.DataFrame
        From `summarise`.
    most : float
        Largest relative error that is borne, a fraction of the true count.

    Returns
    -------
    pandas.DataFrame
        Rows are factors and inputs, columns methods. Of the levels whose absolute error exceeds `most`, the
        one closest to the reference in the order of `LEVELS`; for a tie the later one. Not-a-number where
        there is none.
    """
    return _nearest(summary, summary["error"].abs() > most, "level")


def breaking_table(summary, *, most=0.1):
    """Write `breaking_points` as text, and mark those that the fields leave in doubt.

    Parameters
    ----------
    summary : pandas.DataFrame
        From `summarise`.
    most : float
        As in `breaking_points`.

    Returns
    -------
    pandas.DataFrame of str
        Rows and columns of `breaking_points`; "-" where there is no level. A question mark is added where the
        interval of the error holds `most` at that level, or at one that is nearer to the reference: other
        fields might move the level.
    """
    is_off = summary["error"].abs() > most
    points = breaking_points(summary, most=most)
    text = points.map(lambda level: "-" if np.isnan(level) else f"{level:g}")
    holds = [((summary["low"] <= limit) & (summary["high"] >= limit)) for limit in (-most, most)]
    doubtful = _nearest(summary, holds[0] | holds[1], "place")
    return text.where(~(doubtful <= _nearest(summary, is_off, "place").fillna(np.inf)), text + " ?")


def _nearest(summary, chosen, column):
    """Return a column of the chosen rows nearest to the reference: factors and inputs by methods."""
    places = map(_distance, summary["factor"], summary["level"])
    rows = summary.assign(place=list(places))[chosen].sort_values("place", kind="stable")
    first = rows.groupby(["factor", "input", "method"])[column].first().unstack("method")
    inputs = [name for name in INPUTS if name in set(summary["input"])]
    index = pd.MultiIndex.from_product([summary["factor"].unique(), inputs], names=["factor", "input"])
    return first.reindex(index=index, columns=summary["method"].unique()).astype(float)


def _distance(factor, level):
    """Count the steps between a level and the reference, a little less behind it than before it."""
    steps = LEVELS[factor].index(level) - LEVELS[factor].index(getattr(REFERENCE, factor))
    return abs(steps) - 0.5 * (steps > 0)

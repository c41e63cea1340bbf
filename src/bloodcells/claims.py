"""What the papers claim, as data, and how the record judges it.

``book/claims.yml`` holds seven kinds of claim.

* ``value``: a figure the paper prints, for one method, dataset and metric. *Reproduced* when the mean
  over seeds lies within the tolerance of the figure, *partly* when only some seed does, *not
  reproduced* otherwise. The difference tells the direction: a baseline that does better than its
  paper says isn't reproduced either.
* ``order``: each of several methods is better than the one before. Every gap is judged by a paired
  bootstrap over test images and seeds: it holds when its 95 % interval lies above 0. The field ``of``
  names the class that is scored, "any" without it, "mean" for the mean over classes, or "pooled" for all
  classes added up. *Reproduced* when all gaps hold, *partly* when some do; when none does, there is *no
  difference* if every interval has 0 in it, and else it is *not reproduced*.
* ``best``: one method is better than each of the others named, judged likewise: *reproduced* when all gaps
  hold, *not reproduced* when some other method is better, and else there is *no difference* to some.
* ``fewest``: one method needs less than each of the others named. *Reproduced* when its largest value over
  seeds lies below the smallest of the others, *partly* when only the means are in that order. The field
  ``within`` names the score that tells how many a run was allowed: a run that took them all, or has no value
  because they were too few, needs at least so many, and when neither side is known to need fewer, the claim
  is *not tested*.
* ``bound``: a score is at least so large. *Reproduced* when it is for every seed, *partly* when it is in
  the mean. Of the method "best" it is judged for the method with the largest mean.
* ``ratio``: one method has so many times as much as another, on its ``dataset`` where the claim names one;
  what hangs on no images, epochs for one, has none. *Reproduced* when the mean over seeds
  lies within the tolerance, *partly* when it is at least on the same side of 1 for every seed.
* ``spread``: a score is nearly the same for several methods. *Reproduced* when the largest and the smallest
  of their means over seeds differ by no more than the value.

Datasets joined by a plus are taken together. A claim for which there is no run, or whose target the public
data doesn't have, is *not tested*.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from bloodcells.backbone_reports import ENCODER_NAMES, LOSSES
from bloodcells.errors import UserError
from bloodcells.metrics import bootstrap_gaps
from bloodcells.number_text import with_sign
from bloodcells.paths import ROOT
from bloodcells.plain_yaml import load_yaml

METHOD_NAMES = {
    "unet_relu": "U-Net (ReLU)",
    "unet_leaky_relu": "U-Net (LeakyReLU)",
    "wcsegnet": "WCSegNet",
    "dounet_a": "DO-U-Net, model A",
    "dounet_b": "DO-U-Net, model B",
    "dounet": "U-Net (single output)",
    "segnet": "SegNet",
    "segnet_vgg16": "SegNet, VGG-16 encoder",
    "segnet_vgg16_unweighted": "SegNet, VGG-16 encoder, no class weights",
    "segnet_vgg16_raw_light": "SegNet, VGG-16 encoder, light as it is",
    "segnet_random": "SegNet, random encoder",
    "segnet_random_unweighted": "SegNet, random encoder, no class weights",
    "unet": "U-Net, half width",
    "resnet": "ResNet",
    "nodes_unet": "NODEs-UNet",
    **{f"ode_unet{i}": f"ODE-UNet{i}" for i in range(1, 10)},
    "released": "authors' released weights",
    **{
        f"{encoder}_{start}{loss}": f"{name}{' (random)' if start else ''}, {words}"
        for encoder, name in ENCODER_NAMES.items()
        for start in ("", "none_")
        for loss, words in LOSSES.items()
    },
}
"""What tables and figures call the methods."""

CLAIMS = ROOT / "book" / "claims.yml"
UNTESTED = ("no record", "no run", "other target")
"""What stands in place of our figures where a claim has no run."""

VERDICTS = ("reproduced", "partly", "no difference", "not reproduced", "not tested")
KINDS = ("value", "bound", "order", "best", "fewest", "ratio", "spread")
OWN = "our own"
"""How the place of a claim begins that no paper makes."""
_COUNT = 1
"""Decimals of a mean of whole numbers."""
_COMMON = {"id", "chapter", "kind", "where", "claim", "target"}
_FIELDS = {
    "value": _COMMON | {"dataset", "method", "metric", "value", "tolerance"},
    "bound": _COMMON | {"dataset", "method", "metric", "value"},
    "order": _COMMON | {"dataset", "methods", "metric"},
    "best": _COMMON | {"dataset", "method", "methods", "metric"},
    "fewest": _COMMON | {"dataset", "method", "methods", "metric"},
    "ratio": _COMMON | {"methods", "metric", "value", "tolerance"},
    "spread": _COMMON | {"dataset", "methods", "metric", "value"},
}


def load(chapter=None, *, path=CLAIMS):
    """Read the claims.

    Parameters
    ----------
    chapter : str, optional
        Only this chapter's.
    path : path-like

    Returns
    -------
    list of dict

    Raises
    ------
    UserError
        If the file is no list of claims, and for a claim of unknown kind, with missing or unknown fields, or
        with an id that occurs twice.
    """
    path = Path(path)
    try:
        found = load_yaml(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path.name} can't be read as YAML: {error}.") from error
    if not isinstance(found, list) or not all(isinstance(claim, dict) for claim in found):
        raise UserError(f"{path.name}: expected a list of claims, each a mapping of its fields.")
    seen = set()
    for claim in found:
        kind = claim.get("kind")
        if kind not in KINDS:
            raise UserError(
                f"{path.name}: claim {claim.get('id')!r} has kind {kind!r}; expected {', '.join(KINDS)}."
            )
        optional = {"paper_target", "headline", "of", "within"} | ({"dataset"} if kind == "ratio" else set())
        wrong = set(claim).symmetric_difference(_FIELDS[kind]) - optional
        if wrong:
            raise UserError(
                f"{path.name}: claim {claim['id']!r}: check the fields {', '.join(sorted(wrong))}."
            )
        if not isinstance(claim["id"], str):
            raise UserError(f"{path.name}: expected text as a claim's id, got {claim['id']!r}.")
        if claim["id"] in seen:
            raise UserError(f"{path.name}: the id {claim['id']!r} occurs twice.")
        seen.add(claim["id"])
    return [claim for claim in found if chapter is None or claim["chapter"] == chapter]


def chapters(*, path=CLAIMS):
    """List the chapters that have claims.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    list of str
    """
    return sorted({claim["chapter"] for claim in load(path=path)})


def value_table(chapter, *, path=CLAIMS):
    """Return the figures that a paper prints, laid out like its tables.

    Parameters
    ----------
    chapter : str
    path : path-like

    Returns
    -------
    pandas.DataFrame
        Rows are datasets and methods (and targets or tables, where these are not told apart by them), columns
        metrics; not-a-number where the paper has no figure.
    """
    table = pd.DataFrame([claim for claim in load(chapter, path=path) if claim["kind"] == "value"])
    table["method"] = table["method"].replace(METHOD_NAMES)
    keys = ["dataset", "method"]
    for more in ("target", "where"):
        if table.duplicated([*keys, "metric"]).any() and table[more].nunique() > 1:
            keys.insert(0, more)
    return table.pivot(index=keys, columns="metric", values="value").loc[
        pd.MultiIndex.from_frame(table[keys].drop_duplicates()), table["metric"].drop_duplicates()
    ]


def claim_table(chapter, *, path=CLAIMS):
    """Return a chapter's claims other than single figures, before anything is run.

    Parameters
    ----------
    chapter : str
    path : path-like

    Returns
    -------
    pandas.DataFrame
        Indexed by ``claim``, with the columns ``where`` and ``paper``.
    """
    found = [claim for claim in load(chapter, path=path) if claim["kind"] != "value"]
    rows = [{"claim": claim["claim"], "where": claim["where"], "paper": _paper(claim)} for claim in found]
    return pd.DataFrame(rows).set_index("claim")


def judge(claims, scores, per_image, *, seed=0):
    """Judge claims by runs.

    Parameters
    ----------
    claims : list of dict
        From `load`.
    scores, per_image : pandas.DataFrame
        From `bloodcells.results.load_runs`; may be empty.
    seed : int
        Seed of the bootstrap of order claims.

    Returns
    -------
    pandas.DataFrame
        One row a claim: ``id``; ``headline`` (bool); and as text for people ``claim``, ``target``,
        ``where``, ``paper``, ``ours``, ``difference`` and ``verdict``.
    """
    judges = {
        "value": _judge_value,
        "bound": _judge_value,
        "order": _judge_order,
        "best": _judge_best,
        "fewest": _judge_fewest,
        "ratio": _judge_ratio,
        "spread": _judge_spread,
    }
    rows = []
    for claim in claims:
        row = {name: claim[name] for name in ("id", "claim", "target", "where")} | {"paper": _paper(claim)}
        row["headline"] = claim.get("headline", False)
        if scores.empty:
            outcome = {"ours": "no record", "difference": "", "verdict": "not tested"}
        else:
            outcome = judges[claim["kind"]](claim, scores, per_image, np.random.default_rng(seed))
        rows.append(row | outcome)
    return pd.DataFrame(rows)


def compare_scores(claims, scores):
    """Put the scores that papers print beside ours, as numbers.

    Parameters
    ----------
    claims : list of dict
        From `load`. Those of other kinds than "value", and shares of pixels named wrongly, are left out.
    scores : pandas.DataFrame
        From `bloodcells.results.load_runs`; may be empty.

    Returns
    -------
    pandas.DataFrame
        One row a score in [0, 1] that some run has: ``id``, ``chapter``, ``metric``, ``paper``; ``ours``, the
        mean over seeds, with ``low`` and ``high``, their range; and ``verdict``.
    """
    columns = ["id", "chapter", "metric", "paper", "ours", "low", "high", "verdict"]
    rows = []
    for claim in claims:
        is_score = claim["kind"] == "value" and not isinstance(claim["value"], int)
        if scores.empty or not is_score or claim["metric"].startswith("share_"):
            continue
        ours = _runs_of_value(claim, scores)[claim["metric"]].astype(float)
        if len(ours):
            verdict = _judge_value(claim, scores, None, None)["verdict"]
            row = {name: claim[name] for name in ("id", "chapter", "metric")} | {"paper": claim["value"]}
            row |= {"ours": ours.mean(), "low": ours.min(), "high": ours.max(), "verdict": verdict}
            rows.append(row)
    return pd.DataFrame(rows, columns=columns)


def _paper(claim):
    if claim["kind"] == "order":
        return " < ".join(_name(method) for method in claim["methods"])
    if claim["kind"] in ("best", "fewest"):
        sign = ">" if claim["kind"] == "best" else "<"
        others = claim["methods"]
        rest = _name(others[0]) if len(others) == 1 else f"{len(others)} others"
        return f"{_name(claim['method'])} {sign} {rest}"
    if claim["kind"] == "spread":
        return f"within {claim['value']:.4f}"
    if claim["kind"] == "bound":
        value = claim["value"]
        return f"at least {value:.2f}" if round(value, 2) == value else f"at least {value:.3f}"
    return _number(claim["value"], _digits(claim)) if claim["kind"] == "value" else f"{claim['value']:.2f}"


def _name(method):
    """Return what tables call a method; one without a name goes by its own."""
    return METHOD_NAMES.get(method, method)


def _digits(claim):
    """Decimals of the values of a claim: few where the paper's is a whole number, as of epochs."""
    return _COUNT if isinstance(claim["value"], int) else 4


def _shown_digits(value, n_digits):
    """Return how many decimals to show: of epochs none where they are whole."""
    return 0 if n_digits == _COUNT and float(value).is_integer() else n_digits


def _number(value, n_digits):
    """Return a number as text."""
    return f"{value:.{_shown_digits(value, n_digits)}f}"


def _signed(value, n_digits):
    """Return a difference as text."""
    return with_sign(value, _shown_digits(value, n_digits))


def _gap(gap, low, high):
    """Return a gap with its interval as text."""
    return f"{_signed(gap, 4)} [{_signed(low, 4)}, {_signed(high, 4)}]"


def _select(table, claim, **equal):
    keep = table["target"] == claim["target"]
    for column, value in equal.items():
        keep &= table[column] == value
    return table[keep]


def _not_tested(claim):
    reason = "other target" if claim.get("paper_target", claim["target"]) != claim["target"] else "no run"
    return {"ours": reason, "difference": "", "verdict": "not tested"}


def _verdict(value, claim, ours):
    if claim["kind"] == "bound":
        return "reproduced" if ours.min() >= value else "partly" if ours.mean() >= value else "not reproduced"
    if abs(np.mean(ours) - value) <= claim["tolerance"]:
        return "reproduced"
    if any(abs(one - value) <= claim["tolerance"] for one in ours):
        return "partly"
    return "not reproduced"


def _spread(values, n_digits):
    """Mean over seeds and their range, as text; no range where seeds are alike to the last digit shown."""
    mean, least, most = (_number(value, n_digits) for value in (values.mean(), values.min(), values.max()))
    if len(values) == 1:
        return f"{mean} (1 seed)"
    if least == most:
        return f"{mean} (each of {len(values)} seeds)"
    return f"{mean} ({least} to {most}, {len(values)} seeds)"


def _runs_of_value(claim, scores):
    """Select the runs that a claimed figure is compared with, all of one method."""
    runs = _select(scores, claim, dataset=claim["dataset"])
    method = claim["method"]
    if method == "best" and len(runs):
        method = runs.groupby("method")[claim["metric"]].mean().idxmax()
    return runs[runs["method"] == method]


def _judge_value(claim, scores, per_image, rng):
    runs = _runs_of_value(claim, scores)
    if runs.empty:
        return _not_tested(claim)
    name = f"{_name(runs['method'].iloc[0])}: " if claim["method"] == "best" else ""
    ours = runs[claim["metric"]].to_numpy(dtype=float)
    n = _digits(claim)
    outcome = {
        "ours": name + _spread(ours, n),
        "difference": _signed(ours.mean() - claim["value"], n),
    }
    if claim.get("paper_target", claim["target"]) != claim["target"]:
        # The figure stands beside ours for the eye, but it was measured on something else.
        return outcome | {"verdict": "not tested"}
    return outcome | {"verdict": _verdict(claim["value"], claim, ours)}


def _images(claim, per_image):
    """Select the images of a claim, with names that tell those of several datasets apart."""
    names = claim["dataset"].split("+")
    images = _select(per_image, claim)
    images = images[images["dataset"].isin(names)]
    if len(names) > 1:
        images = images.assign(image_id=images["dataset"] + "/" + images["image_id"])
    return images


def _judge_order(claim, scores, per_image, rng):
    images = _images(claim, per_image)
    if not set(claim["methods"]) <= set(images["method"]):
        return _not_tested(claim)
    gaps = bootstrap_gaps(images, claim["methods"], claim["metric"], rng=rng, of=claim.get("of", "any"))
    holds = [low > 0 for _, low, _ in gaps]
    text = "; ".join(_gap(*gap) for gap in gaps)
    verdict = "reproduced" if all(holds) else "partly" if any(holds) else "not reproduced"
    if not any(holds) and all(high >= 0 for *_, high in gaps):
        verdict = "no difference"
    return {"ours": text, "difference": "", "verdict": verdict}


def _judge_best(claim, scores, per_image, rng):
    images = _images(claim, per_image)
    if not {claim["method"], *claim["methods"]} <= set(images["method"]):
        return _not_tested(claim)
    gaps = {
        other: bootstrap_gaps(images, [other, claim["method"]], claim["metric"], rng=rng)[0]
        for other in claim["methods"]
    }
    closest = min(gaps, key=lambda other: gaps[other][0])
    verdict = "no difference"
    if all(one > 0 for _, one, _ in gaps.values()):
        verdict = "reproduced"
    elif any(one < 0 for *_, one in gaps.values()):
        verdict = "not reproduced"
    return {
        "ours": f"{_gap(*gaps[closest])} to {_name(closest)}",
        "difference": "",
        "verdict": verdict,
    }


def _judge_fewest(claim, scores, per_image, rng):
    runs = _select(scores, claim, dataset=claim["dataset"])
    if not {claim["method"], *claim["methods"]} <= set(runs["method"]):
        return _not_tested(claim)
    needed = runs[claim["metric"]].astype(float)
    allowed = runs[claim["within"]] if "within" in claim else np.inf
    runs = runs.assign(cut=needed.isna() | (needed >= allowed), needed=needed.fillna(allowed))
    values = runs.groupby("method").agg(
        mean=("needed", "mean"), min=("needed", "min"), max=("needed", "max"), cut=("cut", "any")
    )
    own, others = values.loc[claim["method"]], values.loc[claim["methods"]]
    closest, least = others["mean"].idxmin(), others["mean"].min()
    verdict = "partly" if own["mean"] < least else "not reproduced"
    if own["cut"] and own["mean"] <= least:
        # Both may need more than they were given.
        verdict = "not tested"
    elif own["max"] < others["min"].min():
        verdict = "reproduced"
    spread = f" ({own['min']:.0f} to {own['max']:.0f})" if own["min"] < own["max"] else ""
    needs = f"{'at least ' if own['cut'] else ''}{_number(own['mean'], _COUNT)}{spread}"
    bound = "at least " if others.loc[closest, "cut"] else ""
    return {
        "ours": f"{needs}; {_name(closest)} {bound}{_number(least, _COUNT)}",
        "difference": _signed(own["mean"] - least, _COUNT),
        "verdict": verdict,
    }


def _judge_ratio(claim, scores, per_image, rng):
    named = {"dataset": claim["dataset"]} if "dataset" in claim else {}
    runs = (
        _select(scores, claim, **named)
        .drop_duplicates(["method", "seed"])
        .pivot(index="seed", columns="method", values=claim["metric"])
    )
    above, below = claim["methods"]
    if not {above, below} <= set(runs.columns):
        return _not_tested(claim)
    ratios = (runs[above] / runs[below]).dropna().to_numpy(dtype=float)
    if not ratios.size:  # no seed that both have
        return _not_tested(claim)
    verdict = _verdict(claim["value"], claim, ratios)
    if verdict != "reproduced":
        same_side = ((ratios < 1) == (claim["value"] < 1)).all()
        verdict = "partly" if same_side else "not reproduced"
    return {
        "ours": _spread(ratios, 2),
        "difference": _signed(ratios.mean() - claim["value"], 2),
        "verdict": verdict,
    }


def _judge_spread(claim, scores, per_image, rng):
    runs = _select(scores, claim, dataset=claim["dataset"])
    if not set(claim["methods"]) <= set(runs["method"]):
        return _not_tested(claim)
    means = runs.groupby("method")[claim["metric"]].mean()[claim["methods"]].astype(float)
    spread = means.max() - means.min()
    return {
        "ours": f"{spread:.4f} ({means.min():.4f} to {means.max():.4f})",
        "difference": _signed(spread - claim["value"], 4),
        "verdict": "reproduced" if spread <= claim["value"] else "not reproduced",
    }

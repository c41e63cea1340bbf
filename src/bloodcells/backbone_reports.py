"""Tables of the comparison of encoders, by network, loss and target: bendiabdallah2021, Tables 1 and 2."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bloodcells.errors import UserError
from bloodcells.metrics import summarise_pixels
from bloodcells.number_text import mean_with_range

LOSSES = {"ce": "cross-entropy", "dice": "Dice loss"}
"""What tables call the losses."""

SOURCES = {"none": "random", "blood": "white cells", "imagenet": "ImageNet", "hed": "ImageNet, edges"}
"""What an encoder starts from, and what tables call it."""

TARGETS = ("nucleus", "cytoplasm")
ENCODER_NAMES = {
    "unet": "U-Net",
    "mobilenet": "MobileNet",
    "mobilenetv2": "MobileNetV2",
    "resnet18": "ResNet-18",
    "resnet34": "ResNet-34",
    "resnet50": "ResNet-50",
    "resnet152": "ResNet-152",
    "vgg16": "VGG-16",
    "vgg19": "VGG-19",
}
"""What tables call the networks; any other encoder goes by its own name."""

OF_TABLE_2 = {
    "precision": "precision",
    "recall": "sensitivity",
    "specificity": "specificity",
    "dice": "F-score/Dice",
    "iou": "IoU/Jaccard",
}
"""Scores of Table 2, and what the paper calls them."""


@dataclass(frozen=True)
class Method:
    """What a method's name says: ``ENCODER_LOSS`` or ``ENCODER_SOURCE_LOSS``.

    Attributes
    ----------
    encoder : str
        "unet" for the plain U-Net, or an encoder of segmentation-models.
    source : str
        One of `SOURCES`: what the encoder starts from.
    loss : str
        One of `LOSSES`.
    """

    encoder: str
    source: str
    loss: str

    def __str__(self):
        name = ENCODER_NAMES.get(self.encoder, self.encoder)
        return name if self.encoder == "unet" else f"{name} ({SOURCES[self.source]})"


def parse_method(method, *, source="blood"):
    """Take the name of a method apart.

    Parameters
    ----------
    method : str
    source : str
        What an encoder starts from where the name does not say it; the plain U-Net has "none" always.

    Returns
    -------
    Method

    Raises
    ------
    UserError
        If a part is none of those known, or there are too few or too many. Encoders are not checked.

    Examples
    --------
    >>> parse_method("resnet50_none_ce")
    Method(encoder='resnet50', source='none', loss='ce')
    >>> parse_method("vgg16_dice").source
    'blood'
    """
    encoder, *middle = method.split("_")
    loss = middle.pop() if middle else None
    if loss not in LOSSES or middle not in ([], *([key] for key in SOURCES)):
        raise UserError(
            f"Expected a method ENCODER_LOSS or ENCODER_SOURCE_LOSS with a loss of {', '.join(LOSSES)} and a "
            f"source of {', '.join(SOURCES)}; got {method!r}."
        )
    if encoder == "unet" and middle not in ([], ["none"]):
        raise UserError(f"The plain U-Net has no weights to start from, got {method!r}; take 'unet_{loss}'.")
    return Method(encoder, "none" if encoder == "unet" else (middle or [source])[0], loss)


def score_binary(per_image, *, seed):
    """Scores of a run that finds one kind of region, by dataset and for all of them together.

    Parameters
    ----------
    per_image : pandas.DataFrame
        One row an image with ``dataset``, ``tp``, ``fp``, ``fn`` and ``tn``.
    seed : int
        Seed of the bootstrap, the same for every dataset.

    Returns
    -------
    dict
        ``{"datasets": {name: scores}}`` with the scores of `bloodcells.metrics.summarise_pixels`; the name of
        all datasets together is theirs joined by a plus.
    """
    groups = dict(iter(per_image.groupby("dataset", sort=False)))
    groups["+".join(groups)] = per_image
    return {
        "datasets": {
            name: summarise_pixels(table, rng=np.random.default_rng(seed)) for name, table in groups.items()
        }
    }


def epochs_to_level(history, level):
    """Count the epochs until the loss on the validation images is first as low as a level.

    Parameters
    ----------
    history : pandas.DataFrame
        From `bloodcells.training.train`, with ``epoch`` and ``val_loss``.
    level : float

    Returns
    -------
    int or None
        None if it never is.

    Notes
    -----
    How fast a network learns, known before it stops; and the stop hangs on the last wiggles of the loss.
    """
    low = history.loc[history["val_loss"] <= level, "epoch"]
    return int(low.min()) if len(low) else None


def printed_scores(claims):
    """Lay out the figures that the paper prints as if they were scores of runs, for the tables below.

    Parameters
    ----------
    claims : list of dict
        From `bloodcells.claims.load`.

    Returns
    -------
    pandas.DataFrame
        One row a method and target, columns ``method``, ``target`` and the scores; not-a-number where the
        paper has none. Epochs, which it gives once for both targets, stand with both.
    """
    values = pd.DataFrame([claim for claim in claims if claim["kind"] == "value"])
    table = values.pivot(index=["method", "target"], columns="metric", values="value")
    table["epochs"] = table["epochs"].groupby(level="method").transform("max")
    return table.loc[pd.MultiIndex.from_frame(values[["method", "target"]].drop_duplicates())].reset_index()


def comparison_table(scores, arms, *, source="blood"):
    """Lay out precision, Dice and epochs, like the paper's Table 1.

    Parameters
    ----------
    scores : pandas.DataFrame
        From `bloodcells.results.load_runs`, with ``epochs``; may be empty.
    arms : sequence of str
        All that there should be, as METHOD/TARGET. Those without a run are marked.
    source : str
        As in `parse_method`.

    Returns
    -------
    pandas.DataFrame
        Indexed by target and network, columns by loss and score; text, means over seeds, of Dice with the
        range, with "missing" where there is no run and "" where no arm is asked for.
    """
    rows = {}
    for arm in arms:
        name, target = arm.split("/")
        method = parse_method(name, source=source)
        row = rows.setdefault((target, str(method)), {})
        runs = _runs(scores, name, target)
        for column, digits in (("precision", 4), ("dice", 4), ("epochs", 1)):
            values = list(runs[column]) if len(runs) else []
            if values and column != "dice":
                values = [np.mean(values)]  # the columns are narrow, and only Dice has room for its range
            if column == "epochs" and all(float(value).is_integer() for value in values):
                digits = 0
            text = mean_with_range(values, digits, range_digits=3, space="\N{NO-BREAK SPACE}")
            row[LOSSES[method.loss], "Dice" if column == "dice" else column] = text
    table = pd.DataFrame.from_dict(rows, orient="index").fillna("")
    table.index = pd.MultiIndex.from_tuples(rows, names=["target", "network"])
    # In the order of the losses, whichever arm comes first.
    order = sorted(table.columns, key=lambda column: list(LOSSES.values()).index(column[0]))
    table = table[order]
    table.columns = pd.MultiIndex.from_tuples(order, names=["loss", "score"])
    return table


def detail_table(scores, methods):
    """Lay out five scores of some methods, like the paper's Table 2.

    Parameters
    ----------
    scores : pandas.DataFrame
        As for `comparison_table`.
    methods : sequence of str

    Returns
    -------
    pandas.DataFrame
        Indexed by score, columns by target and loss; text, means over seeds with the range, "missing" where
        there is no run.
    """
    columns = {}
    for target in TARGETS:
        for name in methods:
            runs = _runs(scores, name, target)
            found = {}
            for score, title in OF_TABLE_2.items():
                found[title] = mean_with_range(runs[score] if len(runs) else (), 4)
            columns[target, LOSSES[parse_method(name).loss]] = found
    return pd.DataFrame(columns)


def speed_table(scores, methods):
    """Lay out the epochs until the validation loss first is at a level, see `epochs_to_level`.

    Parameters
    ----------
    scores : pandas.DataFrame
        As for `comparison_table`, with ``epochs_to_level`` and ``epochs_allowed``.
    methods : sequence of str

    Returns
    -------
    pandas.DataFrame
        Indexed by network and loss, a column a target; text, means over seeds, "more than 12", say, if some
        seed never got there, "missing" where there is no run.
    """
    rows = {}
    for name in methods:
        method = parse_method(name)
        row = rows.setdefault((str(method), LOSSES[method.loss]), {})
        for target in TARGETS:
            runs = _runs(scores, name, target)
            row[target] = "missing"
            if len(runs):
                needed = runs["epochs_to_level"].astype(float)
                late = needed.isna().any()
                row[target] = (
                    f"more than {runs['epochs_allowed'].max():.0f}" if late else f"{needed.mean():.1f}"
                )
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(rows, names=["network", "loss"])
    return table


def cost_table(scores):
    """Put Dice beside what it costs, for every network, loss and target.

    Parameters
    ----------
    scores : pandas.DataFrame
        As for `comparison_table`, with ``n_parameters``, ``train_s`` and ``predict_s`` too.

    Returns
    -------
    pandas.DataFrame
        One row a method and target: ``encoder``, ``network``, ``source``, ``loss``, ``target``, ``dice``,
        ``n_parameters`` and seconds ``train_s`` and ``predict_s``, means over seeds.
    """
    columns = ["dice", "n_parameters", "train_s", "predict_s"]
    rows = []
    for (name, target), runs in scores.groupby(["method", "target"], sort=False) if len(scores) else ():
        if target not in TARGETS:
            continue
        method = parse_method(name)
        row = {
            "encoder": method.encoder,
            "network": str(method),
            "source": method.source,
            "loss": method.loss,
        }
        rows.append(row | {"target": target} | runs[columns].astype(float).mean().to_dict())
    return pd.DataFrame(rows, columns=["encoder", "network", "source", "loss", "target", *columns])


def _runs(scores, method, target):
    if scores.empty:
        return scores
    return scores[(scores["method"] == method) & (scores["target"] == target)]

"""What the full grid and a large folder of slides would take, worked out from what was measured."""

import dataclasses
import json
from pathlib import Path

import pandas as pd

from bloodcells import chapters, datasets
from bloodcells.backbone_reports import ENCODER_NAMES
from bloodcells.errors import UserError
from bloodcells.paths import ROOT
from bloodcells.results import RECORD

BENCHMARK = ROOT / "benchmarks" / "results" / "count.json"
"""What ``benchmarks/count.py --json`` has written."""

# Where a pass is not one over the training images: the pass of the paper.
_IMAGES_A_PASS = {"01_tran2019_segnet": 145, "03_li2021_nodes_unet": 600}
# A run keeps its best weights, its last ones, and Adam's two moments of these: four bytes each.
_BYTES_A_PARAMETER = 16


@dataclasses.dataclass(frozen=True)
class Assumptions:
    """What was not measured.

    Attributes
    ----------
    gpu_speedup : tuple of float
        Least and most times that one GPU is faster than the cores of the record, two or one.
    gpu_price, core_price : float
        Of an hour of one GPU with its machine, and of one core; in any currency.
    n_slides : int
    slide_megapixels : float
        Size of a slide's image, millions of pixels.
    """

    gpu_speedup: tuple = (20.0, 100.0)
    gpu_price: float = 2.5
    core_price: float = 0.05
    n_slides: int = 10_000
    slide_megapixels: float = 5.0


def training_work(values, arm, *, n_images):
    """Return the arithmetic of one training, up to a factor that modes of a chapter share.

    Parameters
    ----------
    values : dict
        Parameters of the chapter.
    arm : str
    n_images : int
        Training images of a pass; counts where ``steps_per_epoch`` is 0.

    Returns
    -------
    float
        Epochs times images times pixels times the square of the width: a convolution has as many products for
        each pixel. Networks on encoders of a library have a width of their own, which no mode changes.

    Examples
    --------
    >>> values = dict(epochs=2, steps_per_epoch=0, batch_size=4, image_size=10, base_filters=3)
    >>> training_work(values, "unet/cell", n_images=6)
    14400
    """
    target = arm.split("/")[1]
    epochs = values.get(f"epochs_{target}", values["epochs"])
    steps = values["steps_per_epoch"] or -(-n_images // values["batch_size"])
    if target == "types":
        epochs = values["pretraining_epochs"]
    # Chapter 2's SegNet has tiles of one size in all modes.
    size = 1 if "segnet_filters" in values and arm.startswith("segnet/") else values["image_size"]
    return epochs * steps * values["batch_size"] * size**2 * _width(values, arm) ** 2


def _width(values, arm):
    """Return the filters of a network's first level; 1 where no mode changes them."""
    method = arm.split("/")[0].removesuffix("_stain")
    is_unet = method.startswith("unet_")
    # Chapter 4 names its networks after their encoders, chapter 7 has "unet_" before them.
    of_library = not is_unet if "pretraining_epochs" in values else method[5:] in ENCODER_NAMES and is_unet
    if of_library:
        return 1
    return (
        values.get("segnet_filters", values["base_filters"]) if method == "segnet" else values["base_filters"]
    )


def grid_hours(*, record=RECORD, notebooks=None, mode="full"):
    """Estimate what all trainings of a mode take on the machine of the record.

    Parameters
    ----------
    record : path-like
    notebooks : path-like, optional
        Folder of the chapters.
    mode : {"full"}

    Returns
    -------
    pandas.DataFrame
        One row a chapter that trains: ``chapter``; ``n_trainings`` of the mode; ``measured`` hours of its
        workstation record, and ``n_measured`` trainings in it; ``hours`` that the mode would take, NaN
        without a record; ``gigabytes`` (1e9 bytes) of its runs' folders, NaN where the record doesn't tell
        the number of parameters. An arm that the record lacks takes the mean of those that it has.
    """
    rows = []
    for notebook in sorted(Path(notebooks or chapters.NOTEBOOKS).glob("*.ipynb")):
        try:
            small, large = (_values(notebook, name) for name in ("workstation", mode))
        except UserError:  # a chapter without modes
            continue
        if "arms" not in large:
            continue
        seconds, estimates, sizes = [], {}, []
        for arm, metrics, expected in _scale_runs(notebook.stem, record, small, large):
            seconds.append(metrics["train_s"])
            estimates.setdefault(arm, []).append(expected)
            if "n_parameters" in metrics:
                widths = [_width(values, arm) for values in (small, large)]
                sizes.append(metrics["n_parameters"] * (widths[1] / widths[0]) ** 2 * _BYTES_A_PARAMETER)
        means = pd.Series({arm: sum(found) / len(found) for arm, found in estimates.items()}, dtype=float)
        arms = large["arms"]
        # Schooling is in no mode's list of arms.
        extra = means[~means.index.isin(arms)].sum()
        each = means.reindex(arms).fillna(means[means.index.isin(arms)].mean())
        rows.append(
            {
                "chapter": notebook.stem,
                "n_trainings": len(arms) * large["n_seeds"],
                "n_measured": len(seconds),
                "measured": sum(seconds) / 3600,
                "hours": (each.sum(skipna=False) + extra) * large["n_seeds"] / 3600,
                "gigabytes": pd.Series(sizes, dtype=float).mean() * len(arms) * large["n_seeds"] / 1e9,
            }
        )
    return pd.DataFrame(rows)


def gpu_speedups(*, record=RECORD, notebooks=None, mode="full"):
    """Compare the trainings of a mode that ran on a GPU with what they would take on the record's cores.

    Parameters
    ----------
    record, notebooks : path-like, optional
        As in `grid_hours`.
    mode : {"full"}

    Returns
    -------
    pandas.DataFrame
        One row a training on a GPU whose arm is in the workstation record, too: ``chapter``, ``arm``,
        ``seed``, ``device``; ``seconds`` that it took; ``expected`` seconds, the mean of the workstation's
        trainings of that arm times the ratio of `training_work`; ``speedup``, the second by the first.
    """
    columns = ["chapter", "arm", "seed", "device", "seconds", "expected", "speedup"]
    rows = []
    for notebook in sorted(Path(notebooks or chapters.NOTEBOOKS).glob("*.ipynb")):
        runs = [
            (config, metrics["train_s"], device)
            for config, metrics, device in _runs(Path(record) / notebook.stem / mode)
            if "GPU" in device
        ]
        if not runs:
            continue
        small, large = (_values(notebook, name) for name in ("workstation", mode))
        estimates = {}
        for arm, _, seconds in _scale_runs(notebook.stem, record, small, large):
            estimates.setdefault(arm, []).append(seconds)
        for config, seconds, device in runs:
            if found := estimates.get(config["arm"]):
                expected = sum(found) / len(found)
                row = notebook.stem, config["arm"], config["seed"], device, seconds, expected
                rows.append((*row, expected / seconds))
    return pd.DataFrame(rows, columns=columns)


def gpu_text(*, record=RECORD, notebooks=None):
    """Say in words how much faster than the record's cores a GPU was.

    Parameters
    ----------
    record, notebooks : path-like, optional
        As in `grid_hours`.

    Returns
    -------
    str
        Markdown.
    """
    found = gpu_speedups(record=record, notebooks=notebooks)
    if found.empty:
        return "No training of the record was made on a GPU yet."
    low, middle, high = found["speedup"].min(), found["speedup"].median(), found["speedup"].max()
    cards = sorted({device.removeprefix("GPU (").removesuffix(")") for device in found["device"]})
    return (
        f"**Measured:** {len(found)} trainings of the record ran on a GPU ({', '.join(cards)}). "
        f"They were {low:.0f} to {high:.0f} times as fast as the same arithmetic on the record's cores, "
        f"half of them at least {middle:.0f} times."
    )


def slide_hours(benchmark, assumptions):
    """Estimate what a folder of slides takes.

    Parameters
    ----------
    benchmark : dict
        What ``benchmarks/count.py --json`` writes: one image, counted in a process of its own.
    assumptions : Assumptions

    Returns
    -------
    dict of str to float
        ``seconds_megapixel``, of all cores together; ``core_hours`` and ``price`` of all slides;
        ``gigabytes`` of results (1e9 bytes), NaN where the benchmark did not measure it.
    """
    (ours,) = (row["figures"] for row in benchmark["rows"] if row["side"] == "bloodcells count")
    megapixels = benchmark["megapixels"]
    total = assumptions.n_slides * assumptions.slide_megapixels
    seconds = ours["cpu_seconds"]["median"] / megapixels
    written = ours.get("output_megabytes", {"median": float("nan")})["median"] / megapixels
    hours = seconds * total / 3600
    return {
        "seconds_megapixel": seconds,
        "core_hours": hours,
        "price": hours * assumptions.core_price,
        "gigabytes": written * total / 1000,
    }


def grid_table(assumptions=None, *, record=RECORD, notebooks=None):
    """Tabulate what the full grid would take.

    Parameters
    ----------
    assumptions : Assumptions, optional
    record, notebooks : path-like, optional
        As in `grid_hours`.

    Returns
    -------
    str
        Markdown.
    """
    from bloodcells.reports import chapter_link, markdown_table

    assume = assumptions or Assumptions()
    rows, table = [], grid_hours(record=record, notebooks=notebooks)
    known = table.dropna(subset="hours")
    total = {"chapter": "all measured", **known[["n_trainings", "n_measured", "measured", "hours"]].sum()}
    total["gigabytes"] = known["gigabytes"].sum()
    for row in [*table.to_dict("records"), total]:
        measured = row["hours"] == row["hours"]
        gpu = sorted(row["hours"] / speedup for speedup in assume.gpu_speedup)
        chapter = row["chapter"]
        hours = f"{row['hours']:,.0f}" if measured else "not measured yet"
        rows.append(
            {
                "chapter": chapter if chapter == "all measured" else chapter_link(chapter),
                "trainings": f"{row['n_trainings']:.0f}",
                "record: trainings, hours": f"{row['n_measured']:.0f}, {row['measured']:.1f}",
                "full, hours on the record's cores": hours,
                "full, GPU hours": f"{gpu[0]:,.1f} to {gpu[1]:,.1f}" if measured else "",
                "price": " to ".join(f"{h * assume.gpu_price:,.0f}" for h in gpu) if measured else "",
                "runs, GB": f"{row['gigabytes']:,.1f}" if row["gigabytes"] == row["gigabytes"] else "",
            }
        )
    return markdown_table(pd.DataFrame(rows))


def slides_table(assumptions=None, *, benchmark=BENCHMARK):
    """Tabulate what a folder of slides would take.

    Parameters
    ----------
    assumptions : Assumptions, optional
    benchmark : path-like

    Returns
    -------
    str
        Markdown; of a benchmark that isn't there, a sentence.
    """
    from bloodcells.reports import markdown_table

    if not Path(benchmark).exists():
        return "The time of a slide is not measured yet: `benchmarks/count.py` has left no result."
    assume = assumptions or Assumptions()
    found = slide_hours(json.loads(Path(benchmark).read_text(encoding="utf-8")), assume)
    size = found["gigabytes"]
    row = {
        "slides": f"{assume.n_slides:,} of {assume.slide_megapixels:g} megapixels",
        "core seconds a megapixel": f"{found['seconds_megapixel']:.2f}",
        "core hours": f"{found['core_hours']:,.0f}",
        "results, GB": f"{size:,.0f}" if size == size else "not measured yet",
        "price": f"{found['price']:,.1f}",
    }
    return markdown_table(pd.DataFrame([row]))


def assumptions_text(assumptions=None):
    """Say in words what was assumed.

    Parameters
    ----------
    assumptions : Assumptions, optional

    Returns
    -------
    str
        Markdown.
    """
    assume = assumptions or Assumptions()
    low, high = assume.gpu_speedup
    return (
        f"**Assumed, not measured:** one GPU is {low:g} to {high:g} times as fast as the cores of the "
        f"record, two or one; an hour of it costs {assume.gpu_price:g}, an hour of a core "
        f"{assume.core_price:g}, in your currency."
    )


def _values(notebook, mode):
    return chapters.parameters(notebook) | chapters.choose_parameters(notebook, mode=mode)


def _scale_runs(chapter, record, small, large):
    """Yield arm and scores of the workstation's runs, and the seconds each would take in the larger mode."""
    # Of no account where both modes say how many steps an epoch has.
    counts = 0 in (small["steps_per_epoch"], large["steps_per_epoch"])
    for config, metrics, _ in _runs(Path(record) / chapter / "workstation"):
        n_images = _IMAGES_A_PASS.get(chapter) or (_count_training_images(config) if counts else 1)
        work = [training_work(values, config["arm"], n_images=n_images) for values in (small, large)]
        yield config["arm"], metrics, metrics["train_s"] * work[1] / work[0]


def _runs(folder):
    """Yield configuration, scores and device of the recorded trainings in a folder."""
    for path in sorted(folder.glob("*/metrics.json")):
        config, metrics, source = (
            json.loads(path.with_name(f"{name}.json").read_text(encoding="utf-8"))
            for name in ("config", "metrics", "provenance")
        )
        if metrics.get("train_s") is not None:
            yield config, metrics, source["device"]


def _count_training_images(config):
    """Count the images of single cells that a run learned from, where all of them were taken."""
    tables = [datasets.read_split(name) for name in config["datasets"]]
    return sum(
        int(((table["split"] == "train") & table["cell_type"].isin(config["cell_types"])).sum())
        for table in tables
    )

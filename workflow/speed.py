"""The tables and pictures of the page on speed, made from what the benchmarks wrote.

As a script it draws the pictures alone, which ``benchmarks/run_all.py`` does in the end:

    python workflow/speed.py [count scaling ...]
"""

import argparse
import io
import json
import sys
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PLOTS = ROOT / "_build" / "benchmarks"
BENCHMARKS = ("count", "scaling", "inference", "counters", "training", "ode", "book")

# What this project set itself to reach.
TIMES_FASTER = 16
"""Than the tool that gharbi2023 released, at least."""
MEGAPIXELS = 100
"""Up to which the time of a megapixel must not grow, and memory must stay below its bar."""
GROWTH = 1.1
"""Of the time of a megapixel, from the smallest image, and from the last but one, to the largest."""
GIBIBYTES = 3
WAITING = 2
"""Per cent of an epoch, at most, that a network may wait for images, once the first batch is there."""
PEAK_SHARE = 60
"""Of the float32 peak, per cent, that the network should reach."""


def speed_section(name, out, *, results=RESULTS):
    """Write what a benchmark found: on which machine, a picture, a table, and whether that is enough.

    Parameters
    ----------
    name : str
        One of `BENCHMARKS`.
    out : pathlib.Path
        The folder of the staged book, for the picture.
    results : pathlib.Path
        Folder of the reports.

    Returns
    -------
    str
        Markdown.
    """
    path = results / f"{name}.json"
    if not path.exists():
        return f"Not measured yet: `python benchmarks/run_all.py --only {name}`."
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        from side_by_side import tabulate
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    from bloodcells.reports import markdown_table

    report = json.loads(path.read_text(encoding="utf-8"))
    machine = report["machine"]
    peaks = machine.get("peak_gflops", {})
    load = machine.get("load_average")
    facts = [
        f"{report['title']}; {machine['processor']}, {machine['cores']} cores",
        *([f"load average {load:.1f} before the benchmarks began"] if load is not None else []),
        f"medians of {report['rounds']} (lowest to highest)",
        *(f"largest matrix product in {kind}: {peak:.0f} GFLOP/s" for kind, peak in peaks.items()),
        f"commit `{report['commit']}`" + (f", {report['date']}" if "date" in report else ""),
    ]
    picture = out / "_static" / f"speed_{name}.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    _draw(report, picture)
    label = next(iter(report["labels"].values()))
    return "\n".join(
        [
            f"{'; '.join(facts)}.",
            "",
            f"```{{figure}} /_static/{picture.name}",
            f":name: fig-speed-{name}",
            ":width: 640px",
            f":alt: Bars of the figures in the first column of the table below, {label}.",
            "",
            f"{report['title']}: {label}, median and range.",
            "```",
            "",
            markdown_table(pd.DataFrame(tabulate(report))),
            *([f"{sentence}\n"] if (sentence := hold_against_bars(name, report)) else []),
            f"Made by `{report['command']}`.",
        ]
    )


def hold_against_bars(name, report):
    """Say whether a benchmark's figures reach what was wanted.

    Parameters
    ----------
    name : str
        One of `BENCHMARKS`.
    report : dict
        See ``benchmarks/side_by_side.py``.

    Returns
    -------
    str
        A sentence, from medians, of memory from the highest; "" for benchmarks without a bar.
    """
    rows = {row["side"]: row["figures"] for row in report["rows"]}
    if name == "count":
        return _compare_with_released_tool(rows)
    if name == "scaling":
        return _compare_sizes({int(side.split()[0]): figures for side, figures in rows.items()})
    if name == "inference":
        return _compare_with_peak(rows, report["ratio_to"])
    if name == "training":
        return _find_longest_waits(report["rows"])
    return ""


def _compare_with_released_tool(rows):
    if not {"bloodcells count", "released tool"} <= set(rows):
        return f"Wanted: {TIMES_FASTER} times as fast as the released tool; not tested, for want of both."
    ours, theirs = (rows[side]["seconds"]["median"] for side in ("bloodcells count", "released tool"))
    return (
        f"`bloodcells count` is {theirs / ours:.1f} times as fast as the released tool; "
        f"wanted: at least {TIMES_FASTER} times; {_verdict(theirs / ours >= TIMES_FASTER)}."
    )


def _compare_sizes(sizes):
    """Compare the largest image with the smallest; `sizes` maps megapixels to figures."""
    smallest, largest = min(sizes), max(sizes)
    wanted = (
        f"wanted: at most {GROWTH:g} times up to {MEGAPIXELS} megapixels, and less than {GIBIBYTES} GiB there"
    )
    if smallest == largest or largest < MEGAPIXELS:
        return f"The largest image has {largest} megapixels; {wanted}; not tested."
    # Starting up makes a megapixel of the smallest image dear, but not of the last but one.
    others = dict.fromkeys((smallest, sorted(sizes)[-2]))
    times = {size: figures["per_megapixel"]["median"] for size, figures in sizes.items()}
    growth = {size: times[largest] / times[size] for size in others}
    memory = sizes[largest]["megabytes"]["high"] * 1e6 / 2**30
    compared = " and ".join(f"{ratio:.2f} times as long as with {size}" for size, ratio in growth.items())
    return (
        f"With {largest} megapixels one of them takes {compared}; memory is {memory:.2f} GiB; {wanted}; "
        f"time {_verdict(max(growth.values()) <= GROWTH)}, memory {_verdict(memory < GIBIBYTES)}."
    )


def _compare_with_peak(rows, ours):
    """Compare the network with the peak, and with the paper's larger one at the wanted share of the peak."""
    share = rows[ours]["share"]["median"]
    reached = (
        f"As `bloodcells count` runs it, the network reaches {share:.0f} % of the float32 peak; "
        f"wanted: {PEAK_SHARE} %, or an equal gain by a smaller network"
    )
    if share >= PEAK_SHARE:
        return f"{reached}; met."
    papers = next((figures for side, figures in rows.items() if "paper's" in side), None)
    if papers is None:
        return f"{reached}; **not met**, and the paper's network was not timed."
    # Work is rate times time; at the wanted share of the peak it would take as long as this.
    seconds = papers["per_megapixel"]["median"] * papers["share"]["median"] / PEAK_SHARE
    own = rows[ours]["per_megapixel"]["median"]
    return (
        f"{reached}. The paper's network would take {seconds:.2f} s a megapixel at {PEAK_SHARE} % of the "
        f"peak, this one takes {own:.2f} s: {_verdict(own <= seconds)} by the smaller network. "
        "The next table says how well it counts."
    )


def _find_longest_waits(rows):
    """Find the networks that wait most for their images, in our own loop without and with XLA."""
    sentences = []
    for side in ("ours", "ours with XLA"):
        figures = {row["group"]: row["figures"] for row in rows if row["side"] == side}
        waits = {group: found["waiting"]["median"] for group, found in figures.items() if "waiting" in found}
        if not waits:
            continue
        longest = max(waits, key=waits.get)
        first = max(figures[group]["first_wait_s"]["median"] for group in waits)
        sentences.append(
            f"Of the medians of {side}, {longest} waits longest for images once the first batch of an epoch "
            f"is there: {waits[longest]:.1f} % of the time; wanted: at most {WAITING} %; "
            f"{_verdict(waits[longest] <= WAITING)}. For the first batch no network waits longer than "
            f"{first:.2f} s."
        )
    return " ".join(sentences)


def _verdict(is_met):
    return "met" if is_met else "**not met**"


def _draw(report, path):
    """Draw bars of the first figure."""
    import matplotlib.pyplot as plt
    from PIL import Image

    from bloodcells import plots

    plots.use_book_style()
    first, label = next(iter(report["labels"].items()))
    rows = report["rows"]
    names = [f"{row['group']}: {row['side']}" if row["group"] else row["side"] for row in rows]
    figures = [row["figures"][first] for row in rows]
    medians = [figure["median"] for figure in figures]
    sides = list(dict.fromkeys(row["side"] for row in rows)) if any(row["group"] for row in rows) else [None]
    figure, axis = plt.subplots(figsize=(8, 0.9 + 0.28 * len(rows)), layout="constrained")
    axis.barh(
        range(len(rows)),
        medians,
        xerr=[
            [f["median"] - f["low"] for f in figures],
            [f["high"] - f["median"] for f in figures],
        ],
        color=[f"C{sides.index(row['side']) if row['side'] in sides else 0}" for row in rows],
        ecolor="0.3",
    )
    if max(medians) > 30 * min(medians):
        axis.set_xscale("log")
    axis.set(xlabel=label, yticks=range(len(rows)), yticklabels=names)
    axis.invert_yaxis()
    buffer = io.BytesIO()
    # Twice as many pixels as the page gives it, and more, for dense screens; a palette keeps the file small.
    figure.savefig(buffer, format="png", dpi=200)
    plt.close(figure)
    Image.open(buffer).convert("RGB").quantize(64).save(path, optimize=True)


def main():
    """Draw the pictures of some reports, and say where they are."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("names", nargs="*", default=BENCHMARKS, metavar="NAME", help="[default: all]")
    names = parser.parse_args().names
    PLOTS.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (path := RESULTS / f"{name}.json").exists():
            _draw(json.loads(path.read_text(encoding="utf-8")), PLOTS / f"{name}.png")
            print(f"plot: {PLOTS / name}.png")


if __name__ == "__main__":
    main()

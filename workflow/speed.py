"""The tables and pictures of the page on speed, made from what the benchmarks wrote."""

import json
import sys
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
BENCHMARKS = ("count", "scaling", "inference", "counters", "training", "ode", "book")


def speed_section(name, out, *, results=RESULTS):
    """Write what a benchmark found: on which machine, a picture, a table.

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
    facts = [
        f"{report['title']}; {machine['processor']}, {machine['cores']} cores",
        f"medians of {report['rounds']} (lowest to highest)",
        *(f"largest matrix product in {kind}: {peak:.0f} GFLOP/s" for kind, peak in peaks.items()),
        f"commit `{report['commit']}`",
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
            f"Made by `{report['command']}`.",
        ]
    )


def _draw(report, path):
    """Draw bars of the first figure."""
    import matplotlib.pyplot as plt

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
    figure.savefig(path, dpi=100)
    plt.close(figure)

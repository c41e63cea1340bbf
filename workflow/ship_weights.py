"""Export the networks of finished runs of chapter 2 as the weights of `bloodcells count`, with their cards.

Usage: python workflow/ship_weights.py RUN [RUN ...]

RUN is the folder of a run of a DO-U-Net, with ``config.json``, ``metrics.json`` and ``best.weights.h5``. A
kind of cell has one network: the last one given.
"""

import argparse
import json
from pathlib import Path

from export_weights import export

from bloodcells.counting.settings import BEST, SETTINGS
from bloodcells.errors import told_in_one_line
from bloodcells.models.dounet import HEADS, MARGIN, build_dounet
from bloodcells.weights_io import load_weights

NAMES = {"rbc": "red cells", "wbc": "white cells", "plt": "platelets"}
LIMITS = {
    "rbc": (
        "Trained on the outlines of ten fields of one laboratory. In dense smears, where cells lie on top of "
        "one another, it misses cells: see the counting accuracy and F1 on the held-out fields."
    ),
    "wbc": (
        "Trained on lymphoblasts, lymphocytes and few other white cells, of one laboratory. Smudge cells and "
        "clumps are counted as the annotators of these fields did or didn't."
    ),
    "plt": (
        "Trained on masks with specks, whose number of components agrees only roughly with published counts. "
        "Clumps count as one; dirt and stain of the size of a platelet count too."
    ),
}
LICENCE = (
    "Weights: MIT, like the code. They were trained on ALL-IDB1 (R. Donida Labati, V. Piuri, F. Scotti), "
    "which its owners offer for research, with masks published under MIT terms and outlines converted from "
    "files published under AGPL-3.0. Whether that binds users of the weights is for them to judge. Not a "
    "medical device."
)
PIXEL_SCORES = ("n", "n_counted", "mask_dice", "edge_dice")
COUNT_SCORES = ("accuracy", "mae", "bias", "f1")


def ship(run):
    """Export one run; return its card."""
    run = Path(run)
    config, metrics, source = (
        json.loads((run / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("config", "metrics", "provenance")
    )
    cell = config["arm"].split("/")[1]
    heads = HEADS if cell == "rbc" else HEADS[:1]
    model = build_dounet((None, None, 3), heads=heads, base_filters=config["base_filters"])
    load_weights(model, run / "best.weights.h5", cure="run the chapter again")
    scores, method = metrics["datasets"]["all-idb1/test"], BEST[cell]
    shown = (*PIXEL_SCORES, *(f"{method}_{name}" for name in COUNT_SCORES))
    card = {
        "name": f"DO-U-Net for {NAMES[cell]}",
        "cell": cell,
        "heads": list(heads),
        "cell_radius": config["cell_radius"][cell],
        "margin": MARGIN,
        "counting": {"method": method} | SETTINGS[cell],
        "data": "ALL-IDB1, with masks, outlines and counts by Gharbi et al. and by Overton and Tucker",
        "split": (
            f"published split of {NAMES[cell]}; no field of its test part, nor another photograph of the "
            "same place, was trained on (data/splits/all-idb1.csv)"
        ),
        "metrics": {
            "on": f"held-out test fields, counted by the {method} method; accuracies are fractions",
            **{name: _round(scores[name]) for name in shown if scores.get(name) is not None},
        },
        "limits": LIMITS[cell],
        "licence": LICENCE,
        "run": run.name,
        "commit": source["commit"],
    }
    return export(model, card)


def _round(value):
    return round(value, 4) if isinstance(value, float) else value


def main():
    """Export the runs named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, nargs="+")
    for run in parser.parse_args().run:
        card = ship(run)
        print(f"{card['cell']}.onnx: {card['n_parameters']:,} parameters, from {run.name}")


if __name__ == "__main__":
    with told_in_one_line():
        main()

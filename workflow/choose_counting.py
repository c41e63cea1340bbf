"""Choose how each method counts, on training fields only; prints a table, the best setting first.

Usage: python workflow/choose_counting.py CELL [RUN]

For red cells, CELL is ``rbc``, two networks are trained, each on every other training field with the sizes
of the chapter's workstation mode but 9 epochs, and applied to the fields they haven't seen: 20 minutes on
two cores. For ``wbc`` and ``plt`` RUN is a run's folder (with ``best.weights.h5``); its network is applied
to training fields. What is best goes into ``src/bloodcells/counting/settings.py``, by hand.
"""

import argparse
import dataclasses
import itertools
import json
from pathlib import Path

import keras
import pandas as pd
from keras.optimizers.schedules import CosineDecay
from tqdm import tqdm

from bloodcells import fields, training
from bloodcells.counting.settings import SETTINGS
from bloodcells.errors import told_in_one_line
from bloodcells.field_scores import count_truth, score_field
from bloodcells.losses import CrossEntropyDice
from bloodcells.models.dounet import MARGIN, build_dounet
from bloodcells.tile_batches import TileBatches, TileRanges
from bloodcells.tiling import predict_tiled
from bloodcells.weights_io import load_weights
from bloodcells.working_scale import make_target, to_working_scale

CELL_RADIUS = {"rbc": 18, "wbc": 9, "plt": 18}
N_EPOCHS, STEPS, TILE, BASE_FILTERS = 9, 50, 284, 16
N_FIELDS = 40  # at most, of a kind of cell
LEVELS = {
    "rbc": [(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95), (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)],
    "wbc": [(0.5, 0.7, 0.9), (0.3, 0.5, 0.7, 0.9, 0.95)],
    "plt": [(0.5, 0.7, 0.9), (0.7, 0.9, 0.95), (0.85, 0.95)],
}
GRIDS = {
    "rbc": {
        "cht": {
            "min_distance": [1.0, 1.2],
            "min_votes": [0.7, 0.85],
            "edge_contrast": [0.12, 0.25],
            "radius_range": [(0.7, 1.3), (0.8, 1.3)],
        },
        "ccl": {"edge_threshold": [0.05, 0.07, 0.1, 0.2], "min_area": [0.06, 0.08, 0.15]},
        "edt": {
            "edge_threshold": [0.3, 0.5],
            "min_distance": [0.5, 0.7],
            "min_height": [0.2, 0.25],
            "min_prominence": [0.02, 0.03, 0.04],
        },
        "tree": {"levels": LEVELS["rbc"], "max_area": [1.2, 1.4], "min_height": [0.35, 0.45]},
    },
    **{
        cell: {
            "cht": {
                "min_distance": [0.8, 1.2],
                "min_votes": [0.7, 1.0, 1.5, 2.0, 3.0],
                "edge_contrast": [0.12, 0.25],
                "radius_range": ranges,
            },
            "ccl": {"mask_threshold": thresholds, "min_area": areas},
            "edt": {
                "mask_threshold": thresholds,
                "min_distance": [0.5, 0.8],
                "min_height": [0.3, 0.5],
                "min_area": areas,
            },
            "tree": {
                "levels": LEVELS[cell],
                "min_area": areas,
                "max_area": large,
                "min_solidity": [0.85, 0.9],
                "min_height": [0.3, 0.5],
            },
        }
        for cell, ranges, thresholds, areas, large in (
            ("wbc", [(0.5, 1.4), (0.6, 1.6)], [0.3, 0.5, 0.7], [0.15, 0.25, 0.35, 0.5], [1.3, 1.8, 2.5]),
            ("plt", [(0.4, 1.6)], [0.5, 0.7, 0.85, 0.95], [0.1, 0.2, 0.35, 0.6], [3.0, 6.0]),
        )
    },
}


def load_working(ids, cell):
    """Return pairs of field and working image with its scale."""
    loaded = [fields.load_field("all-idb1", image_id) for image_id in tqdm(ids, desc="loading")]
    return [(field, *to_working_scale(field.image, cell_radius=CELL_RADIUS[cell])) for field in loaded]


def train_fold(known, seed):
    """Train a red cell network on some fields."""
    keras.utils.set_random_seed(seed)
    model = build_dounet((TILE, TILE, 3), base_filters=BASE_FILTERS)
    both = ("mask", "edge")
    batches = TileBatches(
        [image for _, image, _ in known],
        [make_target(field, image.shape[:2], scale, cell="rbc", heads=both) for field, image, scale in known],
        output_size=TILE - 2 * MARGIN,
        margin=MARGIN,
        ranges=TileRanges(),
        batch_size=8,
        steps_per_epoch=STEPS,
        seed=seed,
    )
    optimizer = keras.optimizers.Adam(CosineDecay(0.002, N_EPOCHS * STEPS))
    loss = CrossEntropyDice((1.0, 4.0))
    training.train(model, batches, epochs=N_EPOCHS, optimizer=optimizer, loss=loss, seed=seed)
    return model


def with_count_only(field, cell, scale):
    """Return a field with its true count and without masks, whose pixels would be compared every time."""
    n_true, _ = count_truth(field, cell, own_radius=CELL_RADIUS[cell] / scale)
    return dataclasses.replace(field, counts={cell: n_true}, masks={})


def predict(model, loaded, cell):
    """Predict fields; return (field, probability, scale) of each."""
    return [
        (
            with_count_only(field, cell, scale),
            predict_tiled(
                model.predict_on_batch,
                image,
                output_size=TILE - 2 * MARGIN,
                margin=MARGIN,
                batch_size=4,
            ),
            scale,
        )
        for field, image, scale in tqdm(loaded, desc="predicting")
    ]


def predict_unseen():
    """Predict every red cell training field by a network that hasn't seen it."""
    loaded = load_working(fields.list_fields("all-idb1", "rbc", "train"), "rbc")
    return [
        one
        for fold in (0, 1)
        for one in predict(train_fold(loaded[1 - fold :: 2], fold), loaded[fold::2], "rbc")
    ]


def predict_seen(cell, run):
    """Predict training fields by the network of a finished run."""
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    model = build_dounet((TILE, TILE, 3), heads=("mask",), base_filters=config["base_filters"])
    load_weights(model, run / "best.weights.h5", cure="run the chapter again")
    ids = fields.list_fields("all-idb1", cell, "phase1")
    if cell == "plt":  # where the published count is known it is the better truth: take these first
        counted = fields.list_fields("all-idb1", cell, "counted")
        ids = [*(one for one in ids if one in counted), *(one for one in ids if one not in counted)]
    return predict(model, load_working(ids[:N_FIELDS], cell), cell)


def try_settings(cell, method, predicted):
    """Score every combination of a method's grid; return a table, best first."""
    grid = GRIDS[cell][method]
    size = {name: value for name, value in SETTINGS[cell][method].items() if name == "size"}
    rows = []
    for values in tqdm(list(itertools.product(*grid.values())), desc=method):
        setting = dict(zip(grid, values, strict=True))
        scored = pd.DataFrame(
            [
                score_field(
                    field,
                    probability,
                    scale,
                    cell=cell,
                    cell_radius=CELL_RADIUS[cell],
                    settings={method: size | setting},
                    methods=[method],
                )
                for field, probability, scale in predicted
            ]
        )
        scored = scored[scored["n_true"] > 0]
        errors = (scored[f"n_{method}"] - scored["n_true"]).abs()
        row = setting | {"accuracy": 1 - (errors / scored["n_true"]).mean(), "mae": errors.mean()}
        row["sum"] = row["accuracy"]
        if f"{method}_tp" in scored:
            tp, fp, fn = scored[[f"{method}_{name}" for name in ("tp", "fp", "fn")]].sum()
            row["f1"] = 2 * tp / (2 * tp + fp + fn)
            row["sum"] += row["f1"]
        rows.append(row)
    return pd.DataFrame(rows).sort_values("sum", ascending=False)


def main():
    """Read the command line and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cell", choices=list(GRIDS))
    parser.add_argument("run", type=Path, nargs="?", help="folder of a finished run (wbc and plt)")
    options = parser.parse_args()
    if (options.cell == "rbc") != (options.run is None):
        parser.error("give a run for wbc and plt, and none for rbc")
    predicted = predict_unseen() if options.cell == "rbc" else predict_seen(options.cell, options.run)
    for method in GRIDS[options.cell]:
        table = try_settings(options.cell, method, predicted)
        print(f"\n{options.cell}, {method}:\n{table.head(8).round(4).to_string(index=False)}", flush=True)


if __name__ == "__main__":
    with told_in_one_line():
        main()

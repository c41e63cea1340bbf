"""Count fields with the authors' released weights, by their own methods and constants, for chapter 2.

Usage: python workflow/score_released.py CELL [--part PART] [--maps FOLDER] [--pip-option OPTION ...]

Writes ``book/results/02_gharbi2023_dounet/released.csv``, a row a field, in place of that cell's rows. Takes
half a minute of processor time a field. FOLDER keeps the predicted maps, so that a second run only counts.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from bloodcells import fields
from bloodcells.cell_size import estimate_cell_radius
from bloodcells.counting.circle_hough import circles_to_labels
from bloodcells.errors import told_in_one_line
from bloodcells.field_scores import count_truth
from bloodcells.files import atomic_path, write_text
from bloodcells.object_metrics import match_outlines
from bloodcells.paths import ROOT
from bloodcells.released import build_released, count_released, find_circles_released, predict_released

TABLE = ROOT / "book" / "results" / "02_gharbi2023_dounet" / "released.csv"


def score(field, probability, cell):
    """Return one row of the table."""
    own_radius = estimate_cell_radius(field.image)
    n_true, source = count_truth(field, cell, own_radius=own_radius)
    counts = count_released(probability, cell)
    row = {"image_id": field.image_id, "cell": cell, "n_true": n_true, "truth": source}
    row |= {f"n_{method}": n for method, n in counts.items()}
    if cell == "rbc" and field.outlines is not None:
        circles = find_circles_released(probability[..., 1], cell)
        match = match_outlines(field.outlines, circles_to_labels(circles, probability.shape[:2]))
        row |= {f"cht_{name}": getattr(match, name) for name in ("tp", "fp", "fn")}
    return row


def predict(model, field, cell, maps):
    """Predict a field, or read its map where one is kept: a folder of maps for each kind of cell."""
    path = maps / cell / f"{field.image_id}.npy" if maps else None
    if path is not None and path.exists():
        return np.load(path).astype(np.float32)
    probability = predict_released(model, field.image)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.save(stream, probability)
    return probability


def main():
    """Read the command line, count, write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cell", choices=fields.CELLS)
    parser.add_argument("--part", choices=fields.PARTS, default="paper")
    parser.add_argument("--maps", type=Path)
    parser.add_argument("--pip-option", action="append", default=[])
    options = parser.parse_args()
    model = build_released(options.cell, pip_options=options.pip_option)
    rows = []
    for image_id in tqdm(fields.list_fields("all-idb1", options.cell, options.part)):
        field = fields.load_field("all-idb1", image_id)
        rows.append(score(field, predict(model, field, options.cell, options.maps), options.cell))
    table = pd.DataFrame(rows)
    if TABLE.exists():
        before = pd.read_csv(TABLE)
        table = pd.concat([before[before["cell"] != options.cell], table], ignore_index=True)
    write_text(TABLE, table.to_csv(index=False))
    print(f"{TABLE}: {len(rows)} fields of {options.cell}")


if __name__ == "__main__":
    with told_in_one_line():
        main()

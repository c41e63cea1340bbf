"""Remake ``splits/all-idb1_crops.csv``: the windows of chapter 1, cut out of ALL-IDB1 around white cells.

Usage: python data/make_crops.py

Reads the masks of ``all-idb1`` (from the cache or BLOODCELLS_MIRROR; see ``bloodcells data fetch``). tran2019
cropped 42 images of ALL-IDB1, 29 for training and 13 for testing, and never published which. Here:

* of each group of fields that overlap only one takes part, so that no cell is on two sides;
* test are the fields whose red cells are outlined one by one, so that the counts of their crops are known,
  and one more, since only twelve of these have a mask of white cells;
* the others are those with the smallest hashes of seed and name; the last four of the 29 are for validation;
* a window is 12 to 18 red cell radii high and 4 / 3 of that wide (the paper's crops had different sizes),
  and its middle lies on a white cell: a component of the mask of at least one disc of the red cells' radius.
  The cell and the height are drawn with the hash as seed; at the border the window is shifted inwards.
"""

import csv
import hashlib
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from bloodcells import fields
from bloodcells.cell_size import estimate_cell_radius
from bloodcells.registry import read_split

SEED = 2019
N_TRAIN, N_VAL, N_TEST = 25, 4, 13
HEIGHTS = (12, 18)  # red cell radii
ASPECT = 4 / 3  # columns to rows, that of 480 x 360
COLUMNS = ("image_id", "split", "row", "column", "rows", "columns")
TARGET = Path(__file__).parent / "splits" / "all-idb1_crops.csv"


def hash_of(image_id):
    """Return a number that looks random, the same on every machine."""
    return int.from_bytes(hashlib.sha256(f"{SEED}/{image_id}".encode()).digest()[:8], "big")


def choose_fields():
    """Return image ids by part."""
    groups = read_split("all-idb1").set_index("image_id")["group"]
    red, white = (fields.list_fields("all-idb1", cell, "masked") for cell in ("rbc", "wbc"))
    usable = [image_id for image_id in red if image_id in white]
    outlined = [one for one in fields.list_fields("all-idb1", "rbc", "paper") if one in usable]
    taken, chosen = {groups[one] for one in outlined}, list(outlined)
    for image_id in sorted(usable, key=hash_of):
        if groups[image_id] not in taken and len(chosen) < N_TRAIN + N_VAL + N_TEST:
            taken.add(groups[image_id])
            chosen.append(image_id)
    ends = np.cumsum([N_TEST, N_TRAIN, N_VAL])
    return {
        "train": chosen[ends[0] : ends[1]],
        "val": chosen[ends[1] : ends[2]],
        "test": chosen[: ends[0]],
    }


def place_window(field, *, cell_radius, rng):
    """Return first row, first column, rows and columns of a window around a white cell."""
    n_rows, n_columns = field.image.shape[:2]
    rows = min(round(rng.uniform(*HEIGHTS) * cell_radius), n_rows)
    columns = min(round(rows * ASPECT), n_columns)
    _, _, stats, centres = cv2.connectedComponentsWithStats(field.masks["wbc"].astype(np.uint8))
    large = np.flatnonzero(stats[1:, cv2.CC_STAT_AREA] >= np.pi * cell_radius**2) + 1
    column, row = centres[rng.choice(large)]
    return (
        int(np.clip(round(row - rows / 2), 0, n_rows - rows)),
        int(np.clip(round(column - columns / 2), 0, n_columns - columns)),
        rows,
        columns,
    )


def main():
    """Write the table."""
    table = []
    for part, image_ids in choose_fields().items():
        for image_id in tqdm(image_ids, desc=part):
            field = fields.load_field("all-idb1", image_id)
            cell_radius = estimate_cell_radius(field.image)
            rng = np.random.default_rng(hash_of(image_id))
            window = place_window(field, cell_radius=cell_radius, rng=rng)
            table.append((image_id, part, *window))
    with TARGET.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(table)
    print(f"{TARGET}: {len(table)} crops")


if __name__ == "__main__":
    main()

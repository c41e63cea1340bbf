"""Remake ``splits/all-idb1_crops.csv``: windows of chapters 1 and 3, cut out of ALL-IDB1 around white cells.

Usage: python data/make_crops.py

Reads the masks of ``all-idb1`` (from the cache or BLOODCELLS_MIRROR; see ``bloodcells data fetch``). The
crops of both papers were never published. Two kinds stand in for them:

* "wide", for tran2019, who cropped 42 images of ALL-IDB1, 29 for training and 13 for testing: windows 12 to
  18 red cell radii high and 4 / 3 of that wide (the paper's crops had different sizes). Of each group of
  fields that overlap only one takes part. The last four of the 29 are for validation.
* "square", for li2021, who cropped 100 images of 256 x 256 out of other fields, 20 of them for testing:
  windows 8 to 12 red cell radii wide. Of the 80 others a quarter is for validation. Fields that overlap an
  outlined one do not take part, and others that overlap are on one side, not for testing.

In both, test fields are those whose red cells are outlined one by one, so that the counts of their crops are
known, and a few more, since only twelve of these have a mask of white cells. The others, and their order, are
those with the smallest hashes of seed and name. The middle of a window lies on a white cell: a component of
the mask of at least one disc of the red cells' radius. The cell and the size are drawn with the hash as seed;
at the border the window is shifted inwards.
"""

import csv
import dataclasses
import hashlib
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from bloodcells import fields
from bloodcells.cell_size import estimate_cell_radius
from bloodcells.registry import read_split


@dataclasses.dataclass(frozen=True)
class Kind:
    """How many crops of one kind there are, by part, and how large they are."""

    seed: int
    n_train: int
    n_val: int
    n_test: int
    heights: tuple  # red cell radii
    aspect: float  # columns to rows
    one_a_group: bool  # of fields that overlap


KINDS = {
    "wide": Kind(2019, 25, 4, 13, (12, 18), 4 / 3, one_a_group=True),
    "square": Kind(2021, 60, 20, 20, (8, 12), 1.0, one_a_group=False),
}
COLUMNS = ("kind", "image_id", "split", "row", "column", "rows", "columns")
TARGET = Path(__file__).parent / "splits" / "all-idb1_crops.csv"


def hash_of(image_id, seed):
    """Return a number that looks random, the same on every machine."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{image_id}".encode()).digest()[:8], "big")


def choose_fields(kind):
    """Return image ids by part."""
    groups = read_split("all-idb1").set_index("image_id")["group"]
    red, white = (fields.list_fields("all-idb1", cell, "masked") for cell in ("rbc", "wbc"))
    usable = [image_id for image_id in red if image_id in white]
    usable = sorted(usable, key=lambda image_id: hash_of(image_id, kind.seed))
    test = [one for one in fields.list_fields("all-idb1", "rbc", "paper") if one in usable]
    taken, rest = {groups[one] for one in test}, []
    for image_id in usable:
        if groups[image_id] in taken:
            continue
        is_alone = kind.one_a_group or (groups == groups[image_id]).sum() == 1
        if kind.one_a_group:
            taken.add(groups[image_id])
        (test if is_alone and len(test) < kind.n_test else rest).append(image_id)
    return {"test": test} | split_rest(rest, groups, kind)


def split_rest(image_ids, groups, kind):
    """Divide what is not for testing; a group is on one side."""
    train, val = [], []
    for group in dict.fromkeys(groups[one] for one in image_ids):
        members = [one for one in image_ids if groups[one] == group]
        (train if len(train) + len(members) <= kind.n_train else val).extend(members)
    return {"train": train, "val": val[: kind.n_val]}


def place_window(field, kind, *, cell_radius, rng):
    """Return first row, first column, rows and columns of a window around a white cell."""
    n_rows, n_columns = field.image.shape[:2]
    rows = min(round(rng.uniform(*kind.heights) * cell_radius), n_rows)
    columns = min(round(rows * kind.aspect), n_columns)
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
    for name, kind in KINDS.items():
        chosen = choose_fields(kind)
        for part in ("train", "val", "test"):
            for image_id in tqdm(chosen[part], desc=f"{name}, {part}"):
                field = fields.load_field("all-idb1", image_id)
                cell_radius = estimate_cell_radius(field.image)
                rng = np.random.default_rng(hash_of(image_id, kind.seed))
                window = place_window(field, kind, cell_radius=cell_radius, rng=rng)
                table.append((name, image_id, part, *window))
    with TARGET.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(table)
    print(f"{TARGET}: {len(table)} crops")


if __name__ == "__main__":
    main()

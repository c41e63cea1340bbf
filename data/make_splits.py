"""Remake ``splits/<dataset>.csv`` from ``registry/<dataset>.csv``.

Usage: python data/make_splits.py [DATA]

DATA is the folder that holds ``registry/``, this folder by default. For each cell type, 20 % of the
images are test and one eighth of the rest is val. A type with three images or more has at least one in
each split; a type with fewer is for training only. Images of one group (duplicates, or images cut out
of one picture) stay together. Rows of a split cycle through the cell types, so that its first few rows
hold every type.

all-idb1 has a published split for each kind of cell, and nothing is drawn: each row has the part ("train",
"test" or nothing) of the image for red cells, white cells and platelets, and its group. Two groups have
images in both parts, see `STRADDLING`.

The order of the others is that of a hash of seed, dataset and group: it looks random, and it is the same on
every machine and with every version of Python and numpy.
"""

import csv
import hashlib
import itertools
import sys
from collections import Counter, defaultdict
from pathlib import Path

SEED = 2025
COLUMNS = ("image_id", "split", "cell_type", "group")
SPLITS = ("train", "val", "test")

# Images (in bcisc pictures) that show the same cell; the first name stands for the group. Those that the
# datasets' descriptions do not tell of were found by cutting every image to the box of its mask, bringing the
# cuts to one size and correlating all pairs, with and without the mean cut taken off. Each was then confirmed
# by eye: they are shots of one cell at another scale, shift or sharpness.
SAME = {
    "jiangxi": (
        ("112", "139"),
        ("166", "171"),
        ("019", "075"),
        ("021", "082"),
        ("026", "089"),
        ("030", "086"),
        ("051", "073"),
        ("054", "091"),
        ("056", "092"),
        ("060", "090"),
        ("070", "072"),
        ("071", "084"),
        ("157", "158"),
        ("167", "169"),
    ),
    "cellavision": (),
    "bcisc": (("lymp_6-1", "lymp_6-2"), ("lymp_8-1", "lymp_8-2"), ("baso_2-1", "baso_2-2")),
    # The first two are one file; the others overlap, as neighbouring or repeated photographs of one smear.
    # They were found by correlating all pairs of fields, at an eighth of their size, at all shifts that leave
    # them 8 % in common: 14 pairs correlate by 0.72 or more where they overlap, the next (of two stains, and
    # different to the eye) by 0.68. Another scale or a turn would have been missed.
    "all-idb1": (
        ("Im093_0", "Im108_0"),
        ("Im009_1", "Im010_1", "Im011_1"),
        ("Im013_1", "Im014_1", "Im015_1"),
        ("Im020_1", "Im021_1", "Im022_1"),
        ("Im036_0", "Im102_0", "Im103_0"),
        ("Im038_0", "Im039_0", "Im044_0"),
        ("Im078_0", "Im089_0"),
    ),
}
PUBLISHED = {"all-idb1": ("rbc", "wbc", "plt")}
# Groups that the published parts do not keep together. The parts stay as they were published.
STRADDLING = {"all-idb1": {"rbc": [], "wbc": ["Im036_0", "Im078_0"], "plt": ["Im036_0", "Im078_0"]}}


def group_of(name, image_id):
    """Return the group of an image: its picture in bcisc, else itself, with duplicates joined."""
    group = image_id.rsplit("_", 1)[0] if name == "bcisc" else image_id
    return next((names[0] for names in SAME[name] if group in names), group)


def sizes(n):
    """Return how many of `n` images of one type are test and val."""
    if n < 3:
        return 0, 0
    n_test = max(1, round(0.2 * n))
    return n_test, max(1, round((n - n_test) / 8))


def rank(name, key):
    """Return the pseudo-random rank of a group or image."""
    return hashlib.sha256(f"{SEED}:{name}:{key}".encode()).hexdigest()


def split_groups(name, groups, mixed):
    """Share out the groups of one cell type; `groups` maps group to its number of images.

    A group whose images carry two labels (`mixed`) has no true type to be tested against: it is for training.
    """
    n_test, n_val = sizes(sum(groups.values()))
    room = {"test": n_test, "val": n_val}
    chosen = {}
    for group in sorted(groups, key=lambda group: rank(name, group)):
        fits = [split for split, left in room.items() if left >= groups[group] and group not in mixed]
        chosen[group] = split = fits[0] if fits else "train"
        if split != "train":
            room[split] -= groups[group]
    if any(room.values()):
        raise SystemExit(f"{name}: groups too large to fill the splits, {room} left.")
    return chosen


def make_split(name, images):
    """Return the rows of one dataset's split; `images` maps image id to cell type."""
    by_type = defaultdict(Counter)
    for image_id, cell_type in images.items():
        by_type[cell_type][group_of(name, image_id)] += 1
    mixed = {group for group, n in Counter(itertools.chain(*by_type.values())).items() if n > 1}
    chosen = {cell_type: split_groups(name, groups, mixed) for cell_type, groups in by_type.items()}

    queues = {split: {cell_type: [] for cell_type in sorted(by_type)} for split in SPLITS}
    for image_id in sorted(images, key=lambda image_id: rank(name, f"row:{image_id}")):
        cell_type, group = images[image_id], group_of(name, image_id)
        split = chosen[cell_type][group]
        queues[split][cell_type].append((image_id, split, cell_type, group))
    return [
        row
        for split in SPLITS
        for turn in itertools.zip_longest(*queues[split].values())
        for row in turn
        if row is not None
    ]


def published_split(name, rows):
    """Return the rows of a published split, in the order of the images, after checking what it shares."""
    rows = [
        (
            row["image_id"],
            *(row[f"split_{cell}"] for cell in PUBLISHED[name]),
            group_of(name, row["image_id"]),
        )
        for row in sorted(rows, key=lambda row: row["image_id"])
    ]
    for n, cell in enumerate(PUBLISHED[name], start=1):
        parts = defaultdict(set)
        for row in rows:
            parts[row[-1]].add(row[n])
        straddling = [group for group, found in parts.items() if {"train", "test"} <= found]
        if straddling != STRADDLING[name][cell]:
            raise SystemExit(f"{name}: the {cell} parts share pictures: {', '.join(straddling) or 'none'}.")
    return rows


def main(data):
    """Write one split file per dataset under ``data/splits``."""
    (data / "splits").mkdir(exist_ok=True)
    for name in SAME:
        with (data / "registry" / f"{name}.csv").open(newline="", encoding="utf-8") as file:
            images = [row for row in csv.DictReader(file) if row["role"] == "image"]
        if name in PUBLISHED:
            columns, rows = ("image_id", *PUBLISHED[name], "group"), published_split(name, images)
        else:
            columns = COLUMNS
            rows = make_split(name, {row["image_id"]: row["class_label"] for row in images})
        with (data / "splits" / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(rows)


if __name__ == "__main__":
    if len(sys.argv) not in (1, 2):
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]) if len(sys.argv) == 2 else Path(__file__).parent)

"""Measure what is usual among the fields that the shipped networks learned from.

Usage: python workflow/measure_ranges.py

Writes src/bloodcells/weights/ranges.json. Needs the dataset all-idb1.
"""

import pandas as pd
from tqdm import tqdm

from bloodcells import fields
from bloodcells.cell_size import estimate_cell_radius
from bloodcells.errors import told_in_one_line
from bloodcells.files import write_json
from bloodcells.networks import CELLS
from bloodcells.smear_quality import RANGES, measure_quality

DATASET = "all-idb1"


def main():
    """Measure every training field of every kind of cell."""
    image_ids = sorted({name for cell in CELLS for name in fields.list_fields(DATASET, cell, "train")})
    rows = []
    for image_id in tqdm(image_ids, unit="field"):
        image = fields.load_field(DATASET, image_id).image
        rows.append(measure_quality(image, cell_radius=estimate_cell_radius(image)))
    table = pd.DataFrame(rows)
    write_json(
        RANGES,
        {
            "data": f"{len(table)} training fields of ALL-IDB1, of any kind of cell: 5th and 95th percentile",
            "ranges": {name: table[name].quantile([0.05, 0.95]).round(4).tolist() for name in table},
        },
    )
    print(table.describe(percentiles=[0.05, 0.5, 0.95]).T)


if __name__ == "__main__":
    with told_in_one_line():
        main()

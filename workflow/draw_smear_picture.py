"""Draw the README's picture: a smear, and the same smear with every cell's outline (`make picture`)."""

import io
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image

from bloodcells import synthetic
from bloodcells.files import atomic_path

COLOURS = {"rbc": "#d55e00", "wbc": "#0072b2", "platelet": "#000000"}


def main():
    """Write ``book/_static/smear.png``."""
    counts = {"n_rbc": 150, "n_wbc": 5, "n_platelets": 12}
    smear = synthetic.draw_smear((330, 560), rng=np.random.default_rng(12), overlap=0.2, **counts)
    outlined = smear.image / 255
    for cell in smear.cells.itertuples():
        outlined[smear.edges & (smear.labels == cell.label)] = to_rgb(COLOURS[cell.cell_class])
    figure, axes = plt.subplots(1, 2, figsize=(11.2, 3.6), dpi=150, layout="constrained")
    names = {"rbc": "red cells", "wbc": "white cells", "platelet": "platelets"}
    truth = ", ".join(f"{n} {names[cell_class]}" for cell_class, n in smear.counts.items())
    for axis, picture, title in zip(axes, (smear.image, outlined), ("a drawn smear", truth), strict=True):
        axis.imshow(picture)
        axis.set_title(title, fontsize=11)
        axis.set_axis_off()
    buffer = io.BytesIO()
    figure.savefig(buffer, metadata={"Software": None})
    # A palette keeps the file small; the cells have few colours.
    picture = Image.open(buffer).convert("RGB").quantize(160, kmeans=1)
    with atomic_path(Path(__file__).resolve().parents[1] / "book" / "_static" / "smear.png") as temporary:
        picture.save(temporary, optimize=True)


if __name__ == "__main__":
    main()

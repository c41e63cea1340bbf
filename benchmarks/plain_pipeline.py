"""The plain way to count cells with scikit-image: Otsu's threshold, distance transform, watershed.

Every dark thing on the bright background is a cell; white cells and platelets are not told from red ones.
Written as scikit-image's own example of a watershed does it, with a table and a picture out, as counting has.

    python benchmarks/plain_pipeline.py IMAGE [--out DIR]
"""

import argparse
from pathlib import Path

import numpy as np
from scipy import ndimage as ndi
from skimage import feature, filters, io, measure, morphology, segmentation

SMALLEST = 200
"""Objects of fewer pixels are no red cells at the magnification of ALL-IDB1."""

SEPARATION = 15
"""Least distance of two centres, pixels."""


def label_cells(image):
    """Label the cells of a photograph.

    Parameters
    ----------
    image : ndarray of uint8, shape (M, N, 3)

    Returns
    -------
    ndarray of int32, shape (M, N)
    """
    # Blood takes green light away.
    green = filters.gaussian(image[..., 1], 1)
    mask = ndi.binary_fill_holes(green < filters.threshold_otsu(green))
    mask = morphology.remove_small_objects(mask, max_size=SMALLEST)
    distance = filters.gaussian(ndi.distance_transform_edt(mask), 2)
    peaks = feature.peak_local_max(distance, min_distance=SEPARATION, labels=measure.label(mask))
    markers = np.zeros(mask.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return segmentation.watershed(-distance, markers, mask=mask)


def main():
    """Count the cells of an image; write ``counts.csv``, a table of the cells and a picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image")
    parser.add_argument("--out", type=Path, default=Path("output"))
    options = parser.parse_args()
    image = io.imread(options.image)[..., :3]
    labels = label_cells(image)
    options.out.mkdir(parents=True, exist_ok=True)
    table = measure.regionprops_table(labels, properties=("label", "centroid", "area", "eccentricity"))
    lines = [",".join(table), *(",".join(map(str, row)) for row in zip(*table.values(), strict=True))]
    (options.out / "cells.csv").write_text("\n".join(lines) + "\n")
    overlay = segmentation.mark_boundaries(image, labels, mode="inner")
    io.imsave(options.out / "overlay.png", (overlay * 255).astype(np.uint8), check_contrast=False)
    n_cells = len(table["label"])
    (options.out / "counts.csv").write_text(f"image,rbc\n{Path(options.image).name},{n_cells}\n")


if __name__ == "__main__":
    main()

"""What the released tool `cbc` 1.1.0 does with an image, step by step, on today's packages.

The tool itself does not install: it asks for TensorFlow 2.9.1, never built for Python 3.11 or newer. This
follows its script in what takes time and memory, with the authors' weights: TensorFlow, all tiles of an image
at once in float32, `predict` with Keras's batches of 32, pictures in false colours written and read back.

    python benchmarks/released_tool.py IMAGE [--cells rbc,wbc,plt] [--out DIR]
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"

import cv2
import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from scipy import ndimage as ndi

from bloodcells.released import COMPONENT_THRESHOLD, HOUGH, build_released, preprocess_released

INPUT, OUTPUT = 188, 100
# The script pads by 200 pixels and starts its tiles at 100, so a ring of them lies in the padding.
PADDING, FIRST = 200, 100


def cut_tiles(image):
    """Cut the padded image into tiles, all held at once.

    Parameters
    ----------
    image : ndarray of uint8, shape (M, N, 3)

    Returns
    -------
    tiles : ndarray of float32, shape (n, 188, 188, 3)
    grid : tuple of int
        Rows and columns of tiles.
    """
    padded = np.pad(image, ((PADDING, PADDING), (PADDING, PADDING), (0, 0)))
    starts = [
        np.arange(FIRST + OUTPUT / 2, size - INPUT / 2, OUTPUT) - INPUT / 2 for size in padded.shape[:2]
    ]
    tiles = [
        padded[row : row + INPUT, column : column + INPUT].astype(np.float32)
        for row in starts[0].astype(int)
        for column in starts[1].astype(int)
    ]
    return np.array(tiles), (len(starts[0]), len(starts[1]))


def join_tiles(tiles, grid):
    """Put predicted tiles side by side.

    Parameters
    ----------
    tiles : ndarray of float32, shape (n, 100, 100)
    grid : tuple of int
        Rows and columns of tiles.

    Returns
    -------
    ndarray of float32, shape (100 rows, 100 columns)
    """
    return cv2.vconcat([cv2.hconcat(list(row)) for row in tiles.reshape(*grid, OUTPUT, OUTPUT)])


def read_grey(path):
    """Read a picture and turn its colours into grey.

    Parameters
    ----------
    path : pathlib.Path

    Returns
    -------
    ndarray of uint8, shape (M, N)
    """
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2GRAY)


def count(image_path, cell, out):
    """Count the cells of one kind, writing the tool's pictures.

    Parameters
    ----------
    image_path : path-like
    cell : {"rbc", "wbc", "plt"}
    out : pathlib.Path
        Folder for the pictures.

    Returns
    -------
    int
        By circles for red cells, as the authors advise, and by components for the others.
    """
    out.mkdir(parents=True, exist_ok=True)
    model = build_released(cell)
    image = preprocess_released(cv2.cvtColor(cv2.imread(str(image_path)), cv2.COLOR_BGR2RGB))
    tiles, grid = cut_tiles(image)
    # The network scales its input to [-1, 1] itself; the script does so before.
    probability = model.predict(tiles, verbose=0)
    maps = {
        head: join_tiles(probability[..., i], grid)
        for i, head in enumerate(("mask", "edge")[: probability.shape[-1]])
    }
    for name, values in maps.items():
        plt.imsave(out / f"{name}.png", values)
    if cell == "rbc":
        plt.imsave(out / "edge_mask.png", maps["mask"] - maps["edge"])
    for name in maps:
        _, thresholded = cv2.threshold(read_grey(out / f"{name}.png"), 0, 255, cv2.THRESH_OTSU)
        plt.imsave(out / f"threshold_{name}.png", thresholded, cmap="gray")
    distance = ndi.distance_transform_edt(read_grey(out / "threshold_mask.png"))
    plt.imsave(out / "distance_transform.png", ndi.binary_dilation(distance), cmap="gray")

    mask = read_grey(out / "mask.png")
    n_labels, labels = cv2.connectedComponents((mask > COMPONENT_THRESHOLD).astype(np.uint8))
    plt.imsave(out / "component_labeling.png", labels, cmap="hsv")
    if cell != "rbc":
        return n_labels - 1
    edge = read_grey(out / "edge.png")
    circles = cv2.HoughCircles(edge, cv2.HOUGH_GRADIENT, 1, **HOUGH[cell])
    circles = np.empty((0, 3)) if circles is None else circles[0]
    drawn = edge.copy()
    for column, row, radius in np.round(circles).astype(int):
        cv2.circle(drawn, (column, row), radius, 255, 2)
    plt.imsave(out / "hough_transform.png", np.hstack([edge, drawn]))
    return len(circles)


def main():
    """Count what is asked for, and write ``counts.csv``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image")
    parser.add_argument("--cells", default="rbc,wbc,plt")
    parser.add_argument("--out", type=Path, default=Path("output"))
    options = parser.parse_args()
    counts = {cell: count(options.image, cell, options.out / cell) for cell in options.cells.split(",")}
    lines = [",".join(["image", *counts]), ",".join([Path(options.image).name, *map(str, counts.values())])]
    (options.out / "counts.csv").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

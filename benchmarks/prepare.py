"""Get what the benchmark needs before anything is timed: an image, and the released weights.

Prints the image's path and its rows and columns as JSON.
"""

import argparse
import json
import sys
from pathlib import Path

import cv2
import numpy as np

from bloodcells import datasets, synthetic
from bloodcells.errors import DataUnavailableError, UserError
from bloodcells.registry import read_files

DATASET, IMAGE_ID = "all-idb1", "Im045_0"
SHAPE = 1944, 2592


def default_image(folder):
    """Write the file of an ALL-IDB1 image, or where that is not to be had a drawn smear of its size.

    Parameters
    ----------
    folder : pathlib.Path

    Returns
    -------
    pathlib.Path
    """
    file = next(f for f in read_files(DATASET) if f.role == "image" and f.image_id == IMAGE_ID)
    try:
        folders = datasets.fetch_absent(DATASET, [file])
    except DataUnavailableError as error:
        print(f"{error} A drawn smear takes its place.", file=sys.stderr)
        smear = synthetic.draw_smear(
            SHAPE, rng=np.random.default_rng(0), n_rbc=400, n_wbc=5, n_platelets=20, rbc_radius=36.0
        )
        path = folder / "drawn.png"
        cv2.imwrite(str(path), smear.image[..., ::-1])
    else:
        form, content = datasets.read_file(DATASET, file, folders)
        path = folder / Path(form.path).name
        path.write_bytes(content)
    return path


def lay_out(image, megapixels):
    """Lay an image out beside and below its mirror images until it has a number of megapixels.

    Parameters
    ----------
    image : ndarray of uint8, shape (M, N, 3)
    megapixels : int

    Returns
    -------
    ndarray of uint8, shape (rows, columns, 3)
        A square, as near as whole pixels allow.
    """
    side = round((megapixels * 1e6) ** 0.5)
    period = np.concatenate([image, image[::-1]])
    period = np.concatenate([period, period[:, ::-1]], axis=1)
    rows, columns = (np.arange(side) % length for length in period.shape[:2])
    return period[np.ix_(rows, columns)]


def main():
    """Prepare what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", type=Path, help="an image of your own")
    parser.add_argument("--out", type=Path, required=True, help="folder for the default image")
    parser.add_argument("--megapixels", help="write images of these sizes, too, as SIZE.png")
    parser.add_argument("--released", action="store_true", help="get the released weights, too")
    options = parser.parse_args()
    try:
        path = options.image or default_image(options.out)
        if options.released:
            from bloodcells.released import fetch_released

            fetch_released()
    except UserError as error:
        sys.exit(str(error))
    image = cv2.imread(str(path))
    if image is None:
        sys.exit(f"{path} can't be read as an image.")
    for size in (options.megapixels or "").split(","):
        if size:
            cv2.imwrite(str(options.out / f"{size}.png"), lay_out(image, int(size)))
    print(json.dumps({"image": str(path), "shape": image.shape[:2]}))


if __name__ == "__main__":
    main()

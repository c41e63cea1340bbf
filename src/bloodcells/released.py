"""The weights that the authors of gharbi2023 released, run as their tool runs them.

Their package `cbc` 1.1.0 holds a script and three files of weights for a DO-U-Net: one with two heads for red
cells, two with one head for white cells and platelets. It asks for TensorFlow 2.9.1, which was never built
for Python 3.11 or newer. So the archive is taken without what it asks for, and of the archive only the
weights: nothing in it is installed or run.

References
----------
.. [1] A. Gharbi et al., "Blood cells image segmentation and counting using deep transfer learning", 2023
.. [2] A. Neggazi, `cbc` 1.1.0, June 2022, https://github.com/nemo256/cbc: the script `cbc`
"""

import cv2
import numpy as np
from matplotlib import colormaps
from scipy import ndimage as ndi

from bloodcells.checks import check_rgb
from bloodcells.download import File
from bloodcells.errors import UserError
from bloodcells.pip_archive import Archive, fetch_archive
from bloodcells.tiling import predict_tiled

VERSION = "1.1.0"
WHEEL = File(
    f"cbc-{VERSION}-py3-none-any.whl",
    "",
    "a1911c600aad30ebb4ffa1e6aa1db85170ba1d7dd5a9262a6eeb8a4fdfd78a63",
    22044736,
)
"""The archive."""

WEIGHTS = {
    cell: File(f"{cell}.h5", f"cbc-{VERSION}.data/data/share/cbc/weights/{cell}.h5", sha256, n_bytes)
    for cell, sha256, n_bytes in (
        ("rbc", "0e0fec8a371744c8d9f273e79d6b2a9a13d2b789e524cc0846b8e50f92cd06e8", 7906104),
        ("wbc", "2d108eb568e6ff447d3759eb8bb039d8a53971f4883f9b2912e1072a230c6008", 7903384),
        ("plt", "588f89353f6c4be6d762eafa4c30633a8d4d0ad75b7722e65cada8c540f094d0", 7903384),
    )
}
"""The weights by kind of cell: their place in the cache and in the archive."""

HOUGH = {
    "rbc": {"minDist": 33, "minRadius": 28, "maxRadius": 55, "param1": 30, "param2": 20},
    "wbc": {"minDist": 51, "minRadius": 48, "maxRadius": 120, "param1": 70, "param2": 20},
    "plt": {"minDist": 51, "minRadius": 48, "maxRadius": 120, "param1": 70, "param2": 20},
}
"""Arguments of `cv2.HoughCircles` in the script's `hough_transform`, lengths in pixels of the image."""

COMPONENT_THRESHOLD = 127
"""Brightness, of 255, above which the script's `component_labeling` sees a cell."""


def fetch_released(*, cache=None, pip_options=(), timeout=600.0):
    """Put the released weights into the cache, with pip.

    Weights that are there and sound stay as they are, and pip is not called.

    Parameters
    ----------
    cache : path-like, optional
        Where to put the files, as ``<cache>/cbc-1.1.0/<cell>.h5``; `bloodcells.datasets.default_cache` by
        default.
    pip_options : sequence of str
        Further options of ``pip download``. Without a network, ``("--no-index", "--find-links", folder)``
        takes the archive from a folder.
    timeout : float
        Seconds that pip may take.

    Returns
    -------
    pathlib.Path
        ``<cache>/cbc-1.1.0``.

    Raises
    ------
    DataUnavailableError
        If this Python has no pip, or pip finds no such archive, or takes too long.
    UserError
        If the archive is not the one that is known, or the cache can't be written.
    """
    archive = Archive("cbc", VERSION, WHEEL, tuple(WEIGHTS.values()), "The released weights")
    return fetch_archive(archive, cache=cache, pip_options=pip_options, timeout=timeout)


def build_released(cell, *, input_shape=(188, 188, 3), cache=None, pip_options=()):
    """Build the authors' network for a kind of cell, with their weights.

    Parameters
    ----------
    cell : {"rbc", "wbc", "plt"}
    input_shape : tuple of int or None
        As in `bloodcells.models.dounet.build_dounet`; 188 x 188 is theirs.
    cache, pip_options
        As in `fetch_released`, which is called.

    Returns
    -------
    keras.Model
        Takes images as `preprocess_released` gives them. Heads "mask" and "edge" for red cells, 1,937,442
        parameters; "mask" for the others.

    Raises
    ------
    UserError
        If `cell` is none of the three, or the weights can't be had.
    """
    # Here, so that fetching and counting need not wait for the import of Keras.
    from bloodcells.models.dounet import HEADS, build_dounet

    _check_cell(cell)
    folder = fetch_released(cache=cache, pip_options=pip_options)
    model = build_dounet(input_shape, heads=HEADS if cell == "rbc" else HEADS[:1], name=f"released_{cell}")
    # Written by Keras 2: read by the order of the layers. The sha256 of the file has been checked.
    model.load_weights(folder / WEIGHTS[cell].path)
    return model


def preprocess_released(image):
    """Prepare an image as the script does: even out the light, and put blue first.

    Parameters
    ----------
    image : ndarray of uint8, shape (M, N, 3)
        RGB.

    Returns
    -------
    ndarray of uint8, shape (M, N, 3)
        BGR, after contrast-limited adaptive histogram equalisation of the lightness (CIELAB), clip limit 2,
        in 8 x 8 regions of the whole image.

    Notes
    -----
    The script then scales to [-1, 1]; the network built here does that itself.
    """
    check_rgb(image)
    lab = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2LAB)
    equalise = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8))
    lab[..., 0] = equalise.apply(np.ascontiguousarray(lab[..., 0]))
    return cv2.cvtColor(lab, cv2.COLOR_LAB2BGR)


def predict_released(model, image, *, batch_size=8):
    """Predict a whole image with the released weights.

    Parameters
    ----------
    model : keras.Model
        From `build_released`.
    image : ndarray of uint8, shape (M, N, 3)
        RGB, at the size it was taken.
    batch_size : int
        Tiles predicted at once.

    Returns
    -------
    ndarray of float32, shape (M, N, 2) or (M, N, 1)
        Probabilities of mask and edge, or of mask, in [0, 1].

    Notes
    -----
    Preparation, tile size, tile places and the zeros around the image are the script's. It predicts, and
    counts in, a further ring of up to 200 pixels of those zeros; here the map ends with the image.
    """
    from bloodcells.models.dounet import MARGIN

    rows, columns = (188 if size is None else size for size in model.input_shape[1:3])
    return predict_tiled(
        model.predict_on_batch,
        preprocess_released(image),
        output_size=(rows - 2 * MARGIN, columns - 2 * MARGIN),
        margin=MARGIN,
        batch_size=batch_size,
    )


def find_circles_released(probability, cell):
    """Find circles as the script's `hough_transform` does, with its constants.

    Parameters
    ----------
    probability : ndarray of float32, shape (M, N)
        Of the edge for red cells, of the mask for the others.
    cell : {"rbc", "wbc", "plt"}

    Returns
    -------
    ndarray of float64, shape (n, 3)
        Row, column and radius, pixels, as OpenCV gives them to the script: 0.5 is the first pixel's centre.
    """
    _check_cell(cell)
    circles = cv2.HoughCircles(to_levels(probability), cv2.HOUGH_GRADIENT, 1, **HOUGH[cell])
    if circles is None:
        return np.empty((0, 3))
    return circles.reshape(-1, 3)[:, [1, 0, 2]].astype(float)


def count_released(probability, cell):
    """Count the cells by the script's three methods, with its constants.

    Parameters
    ----------
    probability : ndarray of float32, shape (M, N, 2) or (M, N, 1)
        From `predict_released`.
    cell : {"rbc", "wbc", "plt"}

    Returns
    -------
    dict of str to int
        "cht", circles: of the edge for red cells, of the mask for the others. "ccl", connected components of
        the mask. "edt", connected components of the distance transform.

    Notes
    -----
    What differs from the script [2]_: it writes each map as a picture in false colours and counts on what it
    reads back; here `to_levels` gives the same grey levels without a picture. It gives the background as one
    component more. It refuses circles of white cells and platelets, though it has constants for them. Of
    the distance transform, of the mask above Otsu's threshold, it draws the pixels above 0, widened by one
    pixel, and gives no number; here the components of that drawing are counted.
    """
    _check_cell(cell)
    n_heads = 2 if cell == "rbc" else 1
    if probability.ndim != 3 or probability.shape[2] != n_heads:
        raise UserError(
            f"`probability` must be of shape (M, N, {n_heads}) for {cell}, got {probability.shape}."
        )
    mask = to_levels(probability[..., 0])
    threshold, _ = cv2.threshold(mask, 0, 1, cv2.THRESH_OTSU)
    # Of a constant map OpenCV gives 0, and all would be cell.
    cells = mask > max(threshold, mask.min())
    widened = ndi.binary_dilation(ndi.distance_transform_edt(cells))
    return {
        "cht": len(find_circles_released(probability[..., -1], cell)),
        "ccl": _count_components(mask > COMPONENT_THRESHOLD),
        "edt": _count_components(widened),
    }


def to_levels(probability):
    """Turn a map into the grey levels that the script counts on.

    Parameters
    ----------
    probability : ndarray of float, shape (M, N)

    Returns
    -------
    ndarray of uint8, shape (M, N)
        Stretched from the lowest to the highest value of the map, then the brightness of matplotlib's colours
        "viridis": from 30 to 215, rising, but not evenly. All 30 where the map is constant.

    Notes
    -----
    The curve matters: its level 127 is 62 % of the way up, and with even levels 0 to 255 the circles that are
    found on one image differ by up to 6 %.
    """
    if probability.ndim != 2 or 0 in probability.shape:
        raise UserError(f"Expected a map of shape (M, N) that is not empty, got shape {probability.shape}.")
    low, high = probability.min(), probability.max()
    colours = colormaps["viridis"](np.arange(256), bytes=True)[np.newaxis, :, :3]
    brightness = cv2.cvtColor(np.ascontiguousarray(colours), cv2.COLOR_RGB2GRAY)[0]
    if high == low:
        return np.full(probability.shape, brightness[0])
    # 256 steps of one size, as matplotlib does it.
    return brightness[np.minimum((probability - low) / (high - low) * 256, 255).astype(np.uint8)]


def _count_components(mask):
    return cv2.connectedComponents(mask.astype(np.uint8))[0] - 1


def _check_cell(cell):
    if cell not in WEIGHTS:
        raise UserError(f"Expected a kind of cell, one of {', '.join(WEIGHTS)}; got {cell!r}.")

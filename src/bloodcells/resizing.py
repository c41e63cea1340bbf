"""Resizing images and masks to the size a network takes."""

import cv2
import numpy as np

from bloodcells.errors import UserError


def resize_image(image, shape):
    """Resize an image, averaging over pixels where it shrinks and interpolating where it grows.

    Parameters
    ----------
    image : ndarray of uint8, shape (M, N, 3)
    shape : tuple of int
        (rows, columns) of the result. The aspect ratio isn't kept.

    Returns
    -------
    ndarray of uint8, shape (rows, columns, 3)
    """
    shrinks = shape[0] < image.shape[0] or shape[1] < image.shape[1]
    return cv2.resize(image, shape[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def resize_mask(mask, shape):
    """Resize a mask so that a pixel is foreground where at least half of it was.

    Parameters
    ----------
    mask : ndarray of bool, shape (M, N)
    shape : tuple of int
        (rows, columns) of the result.

    Returns
    -------
    ndarray of bool, shape (rows, columns)

    Notes
    -----
    The share of foreground is resized like an image and cut at one half: areas are kept better than by
    taking the nearest pixel.
    """
    grey = np.where(mask, np.uint8(255), np.uint8(0))
    return resize_image(np.dstack([grey] * 3), shape)[..., 0] >= 128


def stack_cells(samples, *, target, cell_types, image_size):
    """Turn images of single cells into the arrays a network of pixel classes is trained on.

    Parameters
    ----------
    samples : list of bloodcells.datasets.Sample
    target : {"nucleus", "cell", "cytoplasm"}
        What the foreground is: the nucleus, the whole white cell, or the cell without its nucleus.
    cell_types : sequence of str
        Class i + 1 is ``cell_types[i]``; class 0 the background.
    image_size : int
        Rows and columns of the result.

    Returns
    -------
    images : ndarray of uint8, shape (N, image_size, image_size, 3)
    masks : ndarray of uint8, shape (N, image_size, image_size)

    Raises
    ------
    UserError
        If a sample has no truth for the target or a type not in `cell_types`.
    """
    if target not in ("nucleus", "cell", "cytoplasm"):
        raise UserError(f"`target` must be 'nucleus', 'cell' or 'cytoplasm', got {target!r}.")
    if not samples:
        raise UserError("`samples` must hold at least one image, got none.")
    shape = (image_size, image_size)
    masks = np.zeros((len(samples), *shape), dtype=np.uint8)
    for i, sample in enumerate(samples):
        if target != "cell" and sample.nucleus is None:
            raise UserError(
                f"{sample.dataset} has no nucleus truth (image {sample.image_id}); use target 'cell'."
            )
        if sample.cell_type not in cell_types:
            raise UserError(
                f"`cell_types` must cover every sample: {sample.image_id} is a {sample.cell_type}, "
                f"got {', '.join(cell_types)}."
            )
        truth = sample.cell & ~sample.nucleus if target == "cytoplasm" else getattr(sample, target)
        masks[i][resize_mask(truth, shape)] = cell_types.index(sample.cell_type) + 1
    return np.stack([resize_image(sample.image, shape) for sample in samples]), masks

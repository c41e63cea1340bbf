"""From images to probabilities and classes."""

import numpy as np

from bloodcells.errors import UserError


def predict_probability(model, images, *, batch_size=16):
    """Predict class probabilities of images as large as the network's input.

    Parameters
    ----------
    model : keras.Model
        uint8 images to probabilities.
    images : ndarray of uint8, shape (N, rows, columns, 3)
    batch_size : int

    Returns
    -------
    ndarray of float32, shape (N, rows, columns, n_classes)
        Sums to 1 over the last axis.
    """
    if images.dtype != np.uint8 or images.shape[1:] != tuple(model.input_shape[1:]):
        raise UserError(
            f"`images` must be uint8 of shape (N, {', '.join(map(str, model.input_shape[1:]))}), "
            f"got {images.dtype} of shape {images.shape}."
        )
    return model.predict(images, batch_size=batch_size, verbose=0)


def name_cell(classes, types):
    """Name the one cell of an image by the class that most of its pixels have.

    Parameters
    ----------
    classes : ndarray of int, shape (M, N)
        0 is background, i the type ``types[i - 1]``.
    types : sequence of str

    Returns
    -------
    str
        The type, or "" where every pixel is background. Of two types with equally many pixels, the
        first in `types`.

    Examples
    --------
    >>> name_cell(np.array([[0, 2, 2], [0, 2, 1]]), ["neutrophil", "lymphocyte"])
    'lymphocyte'
    """
    if classes.ndim != 2 or not np.issubdtype(classes.dtype, np.integer):
        raise UserError(
            f"`classes` must be a 2-D integer array, got {classes.dtype} of shape {classes.shape}."
        )
    n_pixels = np.bincount(classes.ravel(), minlength=len(types) + 1)
    if n_pixels.size > len(types) + 1:
        raise UserError(f"`classes` must hold 0 to {len(types)}, got {classes.max()}.")
    return types[int(n_pixels[1:].argmax())] if n_pixels[1:].any() else ""

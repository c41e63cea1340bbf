"""Checks of arguments that several modules make."""

import numpy as np

from bloodcells.errors import UserError


def check_rgb(image):
    """Raise `UserError` unless an image is uint8 RGB with at least one pixel.

    Parameters
    ----------
    image : ndarray
        Expected: uint8, shape (M, N, 3).
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise UserError(
            f"`image` must be uint8 of shape (M, N, 3), got {image.dtype} of shape {image.shape}."
        )

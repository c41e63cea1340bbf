"""Random distortions of an image together with its mask."""

from dataclasses import dataclass

import cv2
import numpy as np

from bloodcells.errors import UserError


@dataclass(frozen=True)
class AffineRanges:
    """Ranges of a random affine distortion; a range r is drawn uniformly from [-r, r].

    Attributes
    ----------
    rotation_degrees : float
        Rotation about the centre of the image.
    shift_rows, shift_columns : float
        Shift as a fraction of the image's height and width.
    shear_degrees : float
        Angle by which the columns lean.
    zoom : float
        Rows and columns are each scaled by a factor drawn from [1 - zoom, 1 + zoom].
    flip_columns : bool
        Mirror left to right in half of the cases.
    """

    rotation_degrees: float = 0.0
    shift_rows: float = 0.0
    shift_columns: float = 0.0
    shear_degrees: float = 0.0
    zoom: float = 0.0
    flip_columns: bool = False

    def __post_init__(self):
        for name in ("rotation_degrees", "shift_rows", "shift_columns", "shear_degrees", "zoom"):
            if not getattr(self, name) >= 0:
                raise UserError(f"`{name}` must be a range of at least 0, got {getattr(self, name)!r}.")
        if self.zoom >= 1:
            raise UserError(f"`zoom` must be below 1, or an image could vanish; got {self.zoom!r}.")


def random_affine(ranges, shape, rng):
    """Draw an affine distortion about the centre of an image.

    Parameters
    ----------
    ranges : AffineRanges
    shape : tuple of int
        (rows, columns) of the image.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of float64, shape (2, 3)
        Maps a *source* point (row, column, 1) to its place in the distorted image.

    Notes
    -----
    The distortions are composed into one matrix so that the image is interpolated only once.
    """
    rows, columns = shape
    angle = np.deg2rad(rng.uniform(-1, 1) * ranges.rotation_degrees)
    shear = np.deg2rad(rng.uniform(-1, 1) * ranges.shear_degrees)
    shift = np.array(
        [rng.uniform(-1, 1) * ranges.shift_rows * rows, rng.uniform(-1, 1) * ranges.shift_columns * columns]
    )
    zoom = 1 + rng.uniform(-1, 1, size=2) * ranges.zoom
    mirror = -1.0 if ranges.flip_columns and rng.random() < 0.5 else 1.0

    rotate = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    lean = np.array([[1.0, 0.0], [np.tan(shear), 1.0]])
    linear = rotate @ lean @ np.diag(zoom * (1.0, mirror))
    centre = (np.array([rows, columns]) - 1) / 2
    return np.column_stack([linear, centre + shift - linear @ centre])


def apply_affine(image, mask, matrix):
    """Distort an image and its mask alike.

    Parameters
    ----------
    image : ndarray of uint8, shape (M, N, 3)
        Interpolated bilinearly.
    mask : ndarray of uint8, shape (M, N)
        Class of each pixel; takes the nearest value, so no new class appears.
    matrix : ndarray of float, shape (2, 3)
        From `random_affine`.

    Returns
    -------
    image : ndarray of uint8, shape (M, N, 3)
    mask : ndarray of uint8, shape (M, N)

    Notes
    -----
    What comes in from outside repeats the nearest edge pixel, the default of the Keras generator whose
    argument names nasser2025 (section 2.2) lists.
    """
    if mask.shape != image.shape[:2]:
        raise UserError(
            f"`image` and `mask` must have the same rows and columns, got {image.shape} and {mask.shape}."
        )
    # OpenCV speaks (column, row): swap both axes of the matrix.
    matrix = matrix[::-1][:, [1, 0, 2]]
    size = mask.shape[::-1]
    warped = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    warped_mask = cv2.warpAffine(mask, matrix, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    return warped, warped_mask

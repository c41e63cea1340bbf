"""Contrast-limited adaptive histogram equalisation (CLAHE) of an image's brightness.

References
----------
.. [1] D. Li et al., "Robust Blood Cell Image Segmentation Method Based on Neural Ordinary Differential
   Equations", Computational and Mathematical Methods in Medicine, 2021, 5590180, doi:10.1155/2021/5590180,
   section 2
.. [2] K. Zuiderveld, "Contrast Limited Adaptive Histogram Equalization", in: P. S. Heckbert (editor),
   Graphics Gems IV, Academic Press, 1994, pp. 474-485
"""

import cv2

from bloodcells.checks import check_rgb
from bloodcells.errors import UserError

CLIP_LIMIT = 2.0
N_TILES = 8
"""[1]_ gives neither; these are the values of OpenCV's own tutorial and 8 x 8 tiles."""


def equalize_brightness(image, *, clip_limit=CLIP_LIMIT, n_tiles=N_TILES):
    """Raise the local contrast of a colour image by CLAHE on Y of YUV; U and V stay.

    Parameters
    ----------
    image : ndarray of uint8, shape (M, N, 3)
        RGB.
    clip_limit : float
        Above 0: no grey level of a tile may be more frequent than this many times the mean frequency.
    n_tiles : int
        Rows and columns of tiles, at least 1.

    Returns
    -------
    ndarray of uint8, shape (M, N, 3)
        RGB.

    Raises
    ------
    UserError
        If the image or an argument is none of these.

    Examples
    --------
    >>> import numpy as np
    >>> flat = np.full((64, 64, 3), 120, np.uint8)
    >>> np.ptp(equalize_brightness(flat)).item()
    0
    """
    check_rgb(image)
    if not clip_limit > 0:
        raise UserError(f"`clip_limit` must be above 0, got {clip_limit!r}.")
    if n_tiles < 1:
        raise UserError(f"`n_tiles` must be at least 1, got {n_tiles!r}.")
    yuv = cv2.cvtColor(image, cv2.COLOR_RGB2YUV)
    yuv[..., 0] = cv2.createCLAHE(clip_limit, (n_tiles, n_tiles)).apply(yuv[..., 0])
    return cv2.cvtColor(yuv, cv2.COLOR_YUV2RGB)

"""Even out the light of photographs: one brightness and one colour for all backgrounds.

A smear's background is glass, its cells let less light through: as long as some per cent of an image are
background, a high percentile of each colour channel measures the light. Scaling the channels by it is the
adaptation of von Kries with the brightest patch as white ([1]_, section 4.1; a percentile in place of the
maximum, against single bright pixels).

References
----------
.. [1] M. Ebner, "Color Constancy", Wiley, 2007, chapter 4, doi:10.1002/9780470510490
"""

import numpy as np

from bloodcells.checks import check_rgb
from bloodcells.errors import UserError

LEVEL = 200
PERCENTILE = 95
"""Both a choice, by training crops: at 200 what is brighter than the background still has room."""


def balance_white(image, *, level=LEVEL, percentile=PERCENTILE):
    """Scale each channel so that the image's background comes to one level of grey.

    Parameters
    ----------
    image : ndarray of uint8, shape (M, N, 3)
        RGB, with the background in it.
    level : int
        Of the background after scaling, 1 to 255.
    percentile : float
        Of a channel's values, above 0 and up to 100, that measures its background.

    Returns
    -------
    ndarray of uint8, shape (M, N, 3)
        RGB, rounded; what would pass 255 is 255.

    Raises
    ------
    UserError
        If the image or an argument is none of these, or a channel is black up to the percentile.

    Examples
    --------
    >>> dim = np.full((4, 4, 3), (80, 100, 50), np.uint8)
    >>> balance_white(dim)[0, 0].tolist()
    [200, 200, 200]
    """
    check_rgb(image)
    if not 1 <= level <= 255:
        raise UserError(f"`level` must be 1 to 255, got {level!r}.")
    if not 0 < percentile <= 100:
        raise UserError(f"`percentile` must be above 0 and at most 100, got {percentile!r}.")
    background = np.percentile(image.reshape(-1, 3), percentile, axis=0)
    if not background.all():
        raise UserError(
            f"The light can't be measured: the {percentile}th percentile of red, green and blue is "
            f"{background.tolist()}, and each must be above 0; is the image a photograph of a smear?"
        )
    return np.clip(np.rint(image * (level / background)), 0, 255).astype(np.uint8)

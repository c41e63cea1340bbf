"""Changes of an image's colours, as another stain, camera or lamp would make them, one property at a time."""

import dataclasses

import numpy as np
from skimage.color import hsv2rgb, rgb2hsv

from bloodcells.errors import UserError

PROPERTIES = ("hue", "saturation", "brightness")

LEVELS = {
    "hue": (-40, -20, -10, 10, 20, 40),
    "saturation": (0.25, 0.5, 0.75, 1.25, 1.5, 2.0),
    "brightness": (0.5, 0.7, 0.85, 1.15, 1.3, 1.5),
}
"""Levels at which chapter 7 measures networks: degrees, and factors."""


@dataclasses.dataclass(frozen=True)
class ColourChange:
    """A change of all colours of an image; the default changes nothing.

    Attributes
    ----------
    hue : float
        By how many degrees colours are turned around the colour circle, -180 to 180.
    saturation : float
        Factor of the distance from grey, 0 to 5; what leaves the colours there are is cut.
    brightness : float
        Factor of all channels, 0 to 5; what exceeds white is cut.
    """

    hue: float = 0.0
    saturation: float = 1.0
    brightness: float = 1.0

    def __post_init__(self):
        for name, (low, high) in {"hue": (-180, 180), "saturation": (0, 5), "brightness": (0, 5)}.items():
            if not low <= getattr(self, name) <= high:
                raise UserError(f"`{name}` must be from {low} to {high}, got {getattr(self, name)!r}.")


def change_colours(image, change):
    """Change the colours of an image: hue first, then saturation, then brightness.

    Parameters
    ----------
    image : ndarray of uint8, shape (..., 3)
        RGB; one image or many.
    change : ColourChange

    Returns
    -------
    ndarray of uint8, shape (..., 3)

    Examples
    --------
    >>> change_colours(np.uint8([[[200, 100, 100]]]), ColourChange(saturation=2.0)).tolist()
    [[[200, 0, 0]]]
    >>> change_colours(np.uint8([[[200, 100, 100]]]), ColourChange(brightness=1.5)).tolist()
    [[[255, 150, 150]]]
    """
    image = turn_hue(image, change.hue)
    if change.saturation != 1:
        colours = rgb2hsv(image)
        colours[..., 1] = np.minimum(colours[..., 1] * change.saturation, 1)
        image = np.rint(255 * hsv2rgb(colours)).astype(np.uint8)
    if change.brightness != 1:
        image = np.rint(np.minimum(image * change.brightness, 255)).astype(np.uint8)
    return image


def turn_hue(image, degrees):
    """Turn all colours around the colour circle.

    Parameters
    ----------
    image : ndarray of uint8, shape (..., 3)
        RGB.
    degrees : float
        120 makes red green.

    Returns
    -------
    ndarray of uint8, shape (..., 3)

    Examples
    --------
    >>> turn_hue(np.uint8([[[200, 10, 10]]]), 120).tolist()
    [[[10, 200, 10]]]
    """
    if degrees == 0:
        return image
    colours = rgb2hsv(image)
    colours[..., 0] = (colours[..., 0] + degrees / 360) % 1
    return np.rint(255 * hsv2rgb(colours)).astype(np.uint8)


def list_changes(n_levels):
    """List changes of colours, one property at a time.

    Parameters
    ----------
    n_levels : int
        Of each property, 2, 4 or 6: half of them below the image as it is, half above. Fewer leave out the
        smallest changes.

    Returns
    -------
    dict of str to ColourChange
        By name, such as "hue -20".

    Raises
    ------
    UserError

    Examples
    --------
    >>> list(list_changes(2))
    ['hue -40', 'hue 40', 'saturation 0.25', 'saturation 2', 'brightness 0.5', 'brightness 1.5']
    """
    if n_levels not in (2, 4, 6):
        raise UserError(f"`n_levels` must be 2, 4 or 6, got {n_levels!r}.")
    return {
        f"{name} {level:g}": ColourChange(**{name: level})
        for name, levels in LEVELS.items()
        for level in (*levels[: n_levels // 2], *levels[-(n_levels // 2) :])
    }

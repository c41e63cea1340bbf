"""Estimate how large the red cells of a field are, before any network has seen it.

Magnification differs between fields, even of one dataset. Networks and counting methods here work in units
of the red cell's radius, so it is estimated first, without training: by the heights of the peaks of the
distance transform of the stained pixels.
"""

import cv2
import numpy as np
from scipy import ndimage as ndi
from skimage.filters import threshold_multiotsu, threshold_otsu

from bloodcells.checks import check_rgb
from bloodcells.errors import UserError

RED_CELL_DIAMETER_UM = 7.2
"""Typical diameter of a human red cell on a dried smear, micrometres."""
# Long side, pixels, of the image that is looked at, and the least radius in it that is trusted.
_LONG_SIDE = 800
_LEAST_RADIUS = 6.0
_LEAST_SIDE = 8


def estimate_cell_radius(image):
    """Estimate the typical radius of the red cells of a field.

    Parameters
    ----------
    image : ndarray of uint8, shape (M, N, 3)
        RGB, cells darker than the background.

    Returns
    -------
    float
        Radius in pixels of `image`.

    Raises
    ------
    UserError
        If the image isn't of that form, or shows nothing that could be cells.

    Notes
    -----
    The green channel, where haemoglobin absorbs most, is cut by Otsu's thresholds into dark (nuclei),
    stained and clear. Pale middles are filled, nuclei with their surroundings set aside. Every peak of the
    distance transform is the radius of a disc that just fits; the answer is the mode of their distribution on
    a logarithmic scale, each weighted by its area, so that specks don't count. Two steps depend on the radius
    itself (which holes are pale middles, how far cytoplasm reaches); they are repeated with the estimate.
    Cells too small to measure in the reduced image are looked at again in its fullest quarter.
    """
    check_rgb(image)
    while True:
        scale = _LONG_SIDE / max(image.shape[:2])
        size = [max(round(length * scale), 1) for length in image.shape[1::-1]]
        interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        green = cv2.resize(np.ascontiguousarray(image[..., 1]), size, interpolation=interpolation)
        radius, stained = _measure(cv2.GaussianBlur(green, (0, 0), 1))
        is_measured = radius is not None and radius >= _LEAST_RADIUS
        # Of a strip there are no quarters to look into.
        if scale >= 1 or is_measured or min(*stained.shape, *image.shape[:2]) < _LEAST_SIDE:
            break
        image = _fullest_quarter(image, stained)
    if radius is None:
        raise UserError(
            "No cells were found to take the cell size from. Expected a bright field with darker cells; "
            "give the size in pixels or micrometres instead."
        )
    return radius / scale


def _measure(green):
    """Return the radius in pixels (None if there is nothing) and the mask of stained pixels."""
    if np.ptp(green) < 8:  # grey levels: less is noise, not stain
        return None, np.zeros(green.shape, bool)
    dark = green < _dark_threshold(green)
    if dark.mean() >= 0.25:  # too much for nuclei: a field without white cells was cut in three
        dark[:] = False
    stained = green < threshold_otsu(green[~dark])
    nuclei = ndi.binary_opening(dark, iterations=3)
    radius = _mode(_peaks(ndi.binary_fill_holes(stained)))
    for _ in range(3):
        if radius is None:
            break
        cells = _fill_holes(stained, max_area=0.6 * np.pi * radius**2)
        if nuclei.any():
            cells &= ~ndi.binary_dilation(nuclei, iterations=max(int(radius / 2), 1))
        radius = _mode(_peaks(cells))
    return radius, stained


def _dark_threshold(green):
    return threshold_multiotsu(green, 3)[0] if np.unique(green).size > 3 else -1


def _fill_holes(mask, *, max_area):
    holes, _ = ndi.label(~mask)
    small = np.bincount(holes.ravel()) <= max_area
    small[0] = False  # label 0 is the mask itself
    return mask | small[holes]


def _peaks(mask):
    """Heights of the local maxima of the distance transform, those of specks left out."""
    if mask.all():  # the distance to no background at all is infinite
        return np.empty(0, np.float32)
    distance = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    distance = cv2.GaussianBlur(distance, (0, 0), 0.7)
    is_peak = (distance == cv2.dilate(distance, np.ones((7, 7)))) & (distance > 2)
    return distance[is_peak]


def _mode(radii, *, bandwidth=0.1):
    """Mode of radii on a logarithmic scale, weighted by area; None without radii."""
    if not radii.size:
        return None
    logs = np.log(radii)
    grid = np.linspace(logs.min(), logs.max(), 400)
    # A histogram first, so that thousands of peaks cost no more than a few.
    weights, edges = np.histogram(logs, bins=400, weights=radii.astype(float) ** 2)
    centres = (edges[:-1] + edges[1:]) / 2
    kernel = np.exp(-0.5 * ((grid[:, np.newaxis] - centres) / bandwidth) ** 2)
    return float(np.exp(grid[(kernel @ weights).argmax()]))


def _fullest_quarter(image, stained):
    """Cut the quarter of an image that has most stained pixels."""
    half = [length // 2 for length in image.shape[:2]]
    quarters = []
    for row in (0, 1):
        for column in (0, 1):
            part = stained[
                row * stained.shape[0] // 2 : (row + 1) * stained.shape[0] // 2,
                column * stained.shape[1] // 2 : (column + 1) * stained.shape[1] // 2,
            ]
            window = image[row * half[0] : (row + 1) * half[0], column * half[1] : (column + 1) * half[1]]
            quarters.append((part.mean(), window))
    return max(quarters, key=lambda quarter: quarter[0])[1]

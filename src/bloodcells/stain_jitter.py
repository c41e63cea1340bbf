"""Stain augmentation: every image of a batch gets a stain of its own.

References
----------
.. [1] D. Tellez et al., "Whole-Slide Mitosis Detection in H&E Breast Histology Using PHH3 as a Reference to
   Train Distilled Stain-Invariant Convolutional Networks", IEEE TMI 37(9), 2018, pp. 2126-2136,
   doi:10.1109/TMI.2018.2820199
.. [2] A. C. Ruifrok, D. A. Johnston, "Quantification of histochemical staining by color deconvolution",
   Analytical and Quantitative Cytology and Histology 23(4), 2001, pp. 291-299
"""

import hashlib

import numpy as np
from skimage.color import bex_from_rgb, combine_stains, rgb_from_bex, separate_stains

from bloodcells.errors import UserError
from bloodcells.training import AugmentedBatches

_UNIT = -np.log(1e-6)
"""Optical density that scikit-image calls 1."""


def jitter_stains(image, rng, *, strength):
    """Change how much of each dye an image seems to have taken up.

    Parameters
    ----------
    image : ndarray of uint8, shape (M, N, 3)
        RGB.
    rng : numpy.random.Generator
    strength : float
        In [0, 1). The amount of each dye is multiplied by a factor from [1 - strength, 1 + strength], and
        something from [-strength, strength] / 10, in natural units of optical density, is added to it.

    Returns
    -------
    ndarray of uint8, shape (M, N, 3)

    Raises
    ------
    UserError
        If the strength is out of range.

    Notes
    -----
    [1]_, with the dyes of Giemsa's stain, methylene blue and eosin, in place of haematoxylin and eosin.
    Colours become amounts of two dyes and a rest by colour deconvolution ([2]_, as in scikit-image, which
    cuts the few amounts below zero; so even the strength 0 changes some pixels a little).
    """
    _check_strength(strength)
    amounts = separate_stains(image, bex_from_rgb)
    factors = 1 + rng.uniform(-strength, strength, 3)
    shifts = 0.1 * rng.uniform(-strength, strength, 3) / _UNIT
    return np.rint(255 * combine_stains(amounts * factors + shifts, rgb_from_bex)).astype(np.uint8)


def _check_strength(strength):
    if not 0 <= strength < 1:
        raise UserError(f"`strength` must be at least 0 and below 1, got {strength!r}.")


class StainedBatches(AugmentedBatches):
    """Batches of randomly distorted images, each with a stain of its own.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, rows, columns, 3)
    masks : ndarray of uint8, shape (N, rows, columns)
    strength : float
        As in `jitter_stains`.
    **options
        As in `bloodcells.training.AugmentedBatches`.

    Raises
    ------
    UserError
        If the strength is out of range, and as `bloodcells.training.AugmentedBatches` does.
    """

    def __init__(self, images, masks, *, strength, **options):
        _check_strength(strength)
        super().__init__(images, masks, **options)
        self.strength = strength

    def __getitem__(self, step):
        images, masks = super().__getitem__(step)
        rng = np.random.default_rng([self.seed, 3, self.epoch, step])
        return np.stack([jitter_stains(image, rng, strength=self.strength) for image in images]), masks

    def fingerprint(self):
        """Return a hash of all that decides the batches.

        Returns
        -------
        str
        """
        return hashlib.sha256(f"{super().fingerprint()} stains {self.strength!r}".encode()).hexdigest()

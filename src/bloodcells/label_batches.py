"""Batches for a network that names whole images."""

import hashlib

import numpy as np

from bloodcells.errors import UserError
from bloodcells.training import AugmentedBatches


class LabelledBatches(AugmentedBatches):
    """Batches of randomly distorted images with one class each.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, rows, columns, 3)
    classes : ndarray of int, shape (N,)
        At least 0.
    **options
        As in `bloodcells.training.AugmentedBatches`.
    """

    def __init__(self, images, classes, **options):
        classes = np.asarray(classes)
        if classes.shape != images.shape[:1] or classes.dtype.kind not in "iu" or classes.min(initial=0) < 0:
            raise UserError(
                f"`classes` must be {len(images)} whole numbers of at least 0, got {classes.dtype} of shape "
                f"{classes.shape}."
            )
        super().__init__(images, np.zeros(images.shape[:3], np.uint8), **options)
        self.classes = classes

    def __getitem__(self, step):
        return super().__getitem__(step)[0], self.classes[self.images_of(step)]

    def fingerprint(self):
        """Return a hash of all that decides the batches.

        Returns
        -------
        str
        """
        return hashlib.sha256((super().fingerprint() + repr(self.classes.tolist())).encode()).hexdigest()

"""Median frequency balancing: rare classes weigh more in the cross-entropy, and unlabelled pixels nothing.

References
----------
.. [1] V. Badrinarayanan, A. Kendall, R. Cipolla, "SegNet: A Deep Convolutional Encoder-Decoder Architecture
   for Image Segmentation", IEEE TPAMI 39(12), 2017, section 3.1 (training)
.. [2] D. Eigen, R. Fergus, "Predicting Depth, Surface Normals and Semantic Labels with a Common Multi-Scale
   Convolutional Architecture", ICCV 2015, section 6.3.2
"""

import keras
import numpy as np
from keras import ops

from bloodcells.class_metrics import UNLABELLED
from bloodcells.errors import UserError


def median_frequency_weights(labels, n_classes):
    """Weigh classes by the median of their frequencies over their own.

    Parameters
    ----------
    labels : ndarray of uint8, shape (N, rows, columns)
        Classes 0 to `n_classes` - 1; `UNLABELLED` pixels are left out.
    n_classes : int

    Returns
    -------
    ndarray of float64, shape (n_classes,)

    Raises
    ------
    UserError
        If a class has no pixel, so that it has no frequency.

    Notes
    -----
    The frequency of a class is its number of pixels over the number of labelled pixels of those images in
    which it occurs at all [2]_. The class in the middle has the weight 1.

    Examples
    --------
    >>> labels = np.array([[[0, 0, 0, 1]], [[0, 0, 2, 2]]], np.uint8)
    >>> median_frequency_weights(labels, 3)  # frequencies 5 / 8, 1 / 4 and 2 / 4
    array([0.8, 2. , 1. ])
    """
    labels = np.asarray(labels)
    known = sorted({*range(n_classes), UNLABELLED})
    if labels.ndim != 3 or labels.dtype != np.uint8 or not np.isin(labels, known).all():
        raise UserError(
            f"`labels` must be uint8 of shape (N, rows, columns) with classes 0 to {n_classes - 1} and "
            f"{UNLABELLED}, got {labels.dtype} of shape {labels.shape}."
        )
    counts = np.stack([np.bincount(one.ravel(), minlength=256)[:n_classes] for one in labels])
    if absent := [str(value) for value in np.flatnonzero(counts.sum(axis=0) == 0)]:
        raise UserError(
            f"Every class must have at least one pixel, got none of class {', '.join(absent)}; "
            "load more images."
        )
    total = np.where(counts > 0, counts.sum(axis=1, keepdims=True), 0).sum(axis=0)
    frequency = counts.sum(axis=0) / total
    return np.median(frequency) / frequency


@keras.saving.register_keras_serializable(package="bloodcells")
class WeightedCrossEntropy(keras.losses.Loss):
    """Cross-entropy of a softmax, each pixel weighted by its class; unlabelled pixels have no weight.

    Parameters
    ----------
    class_weights : sequence of float
        One a class, above 0.

    Notes
    -----
    The sum over an image is divided by its number of labelled pixels, not by the sum of their weights: a rare
    class then counts as much in an image as in the whole set.
    """

    def __init__(self, class_weights, name="weighted_cross_entropy"):
        super().__init__(name=name)
        self.class_weights = tuple(float(weight) for weight in class_weights)
        if not self.class_weights or not min(self.class_weights) > 0:
            raise UserError(f"`class_weights` must be above 0, got {self.class_weights}.")

    def call(self, y_true, y_pred):
        """Return the loss of each image.

        Parameters
        ----------
        y_true : tensor of uint8, shape (N, rows, columns)
            Classes, or `UNLABELLED`.
        y_pred : tensor of float, shape (N, rows, columns, n_classes)
            Probabilities that sum to 1.

        Returns
        -------
        tensor of float, shape (N,)
        """
        n_classes = len(self.class_weights)
        if y_pred.shape[-1] != n_classes:
            raise UserError(
                f"The network has {y_pred.shape[-1]} classes but there are {n_classes} `class_weights`; "
                "expected one for each class."
            )
        # A value beyond the classes, as that of unlabelled pixels, has a row of zeros.
        chosen = ops.one_hot(ops.cast(y_true, "int32"), n_classes, dtype=y_pred.dtype)
        weights = ops.convert_to_tensor(self.class_weights, dtype=y_pred.dtype)
        logarithm = ops.log(ops.clip(y_pred, 1e-7, 1.0))
        total = -ops.sum(chosen * weights * logarithm, axis=(1, 2, 3))
        return total / ops.maximum(ops.sum(chosen, axis=(1, 2, 3)), 1.0)

    def get_config(self):
        """Return the arguments, for saving and for the fingerprint of a training."""
        return {"class_weights": list(self.class_weights), "name": self.name}

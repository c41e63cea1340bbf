"""Losses of networks with one sigmoid an output channel."""

import keras
from keras import ops

from bloodcells.errors import UserError


@keras.saving.register_keras_serializable(package="bloodcells")
class CrossEntropyDice(keras.losses.Loss):
    """Binary cross-entropy plus one minus the soft Dice coefficient, both for each channel.

    Parameters
    ----------
    positive_weights : sequence of float
        For each channel, how much more the cross-entropy of a foreground pixel weighs than that of a
        background pixel: edges are thin, a few pixels in a hundred.

    Notes
    -----
    gharbi2023 trains with the mean squared error (both heads, weights 0.1 and 0.9 in its released code) or
    the cross-entropy (section IV-A). The Dice term keeps thin edges from being given up for the background;
    it is taken over all pixels of a batch, with one pixel added above and below so that tiles without any
    foreground have a gradient.
    """

    def __init__(self, positive_weights=(1.0,), name="cross_entropy_dice"):
        super().__init__(name=name)
        if min(positive_weights) <= 0:
            raise UserError(f"`positive_weights` must be above 0, got {tuple(positive_weights)}.")
        self.positive_weights = tuple(float(weight) for weight in positive_weights)

    def call(self, y_true, y_pred):
        """Return the loss of each image.

        Parameters
        ----------
        y_true, y_pred : tensor, shape (N, rows, columns, K)
            Truth, 0 or 1, and probabilities, in [0, 1].

        Returns
        -------
        tensor of float, shape (N,)
        """
        if y_pred.shape[-1] != len(self.positive_weights):
            raise UserError(
                f"The network has {y_pred.shape[-1]} outputs but there are {len(self.positive_weights)} "
                "`positive_weights`; expected one for each output."
            )
        y_true = ops.cast(y_true, y_pred.dtype)
        y_pred = ops.clip(y_pred, 1e-6, 1 - 1e-6)
        weights = ops.convert_to_tensor(self.positive_weights, dtype=y_pred.dtype)
        cross_entropy = -(weights * y_true * ops.log(y_pred) + (1 - y_true) * ops.log(1 - y_pred))
        overlap = ops.sum(y_true * y_pred, axis=(0, 1, 2))
        total = ops.sum(y_true, axis=(0, 1, 2)) + ops.sum(y_pred, axis=(0, 1, 2))
        dice = (2 * overlap + 1) / (total + 1)
        return ops.mean(cross_entropy, axis=(1, 2, 3)) + ops.mean(1 - dice)

    def get_config(self):
        """Return the arguments, for saving and for the fingerprint of a training."""
        return {"positive_weights": list(self.positive_weights), "name": self.name}


@keras.saving.register_keras_serializable(package="bloodcells")
class SoftDice(keras.losses.Loss):
    """One minus the Dice coefficient of probabilities, for a network with one output.

    Notes
    -----
    bendiabdallah2021, equation 2: the sums run over all pixels of a batch, and the 1 that is added above and
    below makes the loss of a batch without any foreground 0 where nothing is found.
    """

    def __init__(self, name="soft_dice"):
        super().__init__(name=name)

    def call(self, y_true, y_pred):
        """Return the loss of a batch, for each of its images the same.

        Parameters
        ----------
        y_true : tensor, shape (N, rows, columns)
            Truth, 0 or 1.
        y_pred : tensor of float, shape (N, rows, columns, 1)
            Probabilities, in [0, 1].

        Returns
        -------
        tensor of float, shape (N,)
        """
        if y_pred.shape[-1] != 1 or len(y_pred.shape) != len(y_true.shape) + 1:
            raise UserError(
                "Expected truth of shape (N, rows, columns), probabilities of shape (N, rows, columns, 1); "
                f"got {tuple(y_true.shape)} and {tuple(y_pred.shape)}."
            )
        y_pred = ops.squeeze(y_pred, axis=-1)
        y_true = ops.cast(y_true, y_pred.dtype)
        dice = (2 * ops.sum(y_true * y_pred) + 1) / (ops.sum(y_true) + ops.sum(y_pred) + 1)
        return ops.broadcast_to(1 - dice, ops.shape(y_pred)[:1])

    def get_config(self):
        """Return the arguments, for saving and for the fingerprint of a training."""
        return {"name": self.name}

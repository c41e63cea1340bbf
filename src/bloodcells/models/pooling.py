"""Max pooling that remembers where each maximum was, and the unpooling that puts it back.

Written in `keras.ops`, so that it runs on every backend of Keras.

References
----------
.. [1] V. Badrinarayanan, A. Kendall, R. Cipolla, "SegNet: A Deep Convolutional Encoder-Decoder Architecture
   for Image Segmentation", IEEE TPAMI 39(12), 2017, pp. 2481-2495, doi:10.1109/TPAMI.2016.2644615
"""

import keras
from keras import layers, ops

from bloodcells.errors import UserError


def max_pool_with_indices(x):
    """Take the largest value of each 2 x 2 window, and remember its place.

    Parameters
    ----------
    x : tensor of float, shape (N, rows, columns, channels)
        Rows, columns and channels are known; rows and columns are even.

    Returns
    -------
    pooled : tensor of float, shape (N, rows / 2, columns / 2, channels)
    indices : tensor of uint8, shape (N, rows / 2, columns / 2, channels)
        Place in the window: 0 top left, 1 top right, 2 bottom left, 3 bottom right. The first of these if the
        largest value occurs more than once, so that there is always exactly one.

    Raises
    ------
    UserError
        If rows or columns are odd, or not known.

    Notes
    -----
    [1]_ needs 2 bits a window for the place; here it is a byte.

    Examples
    --------
    >>> pooled, indices = max_pool_with_indices(ops.reshape(ops.array([1.0, 5.0, 5.0, 2.0]), (1, 2, 2, 1)))
    >>> float(pooled[0, 0, 0, 0]), int(indices[0, 0, 0, 0])
    (5.0, 1)
    """
    _, rows, columns, channels = x.shape
    if any(not isinstance(size, int) or size % 2 for size in (rows, columns)):
        raise UserError(
            f"Pooling with indices needs an even number of rows and columns, got {rows} and {columns}; "
            "pad or resize the images."
        )
    # With the stride left out, Keras 3.15 fails on JAX.
    pooled = ops.max_pool(x, 2, strides=2)
    # A place has no gradient. Two rows as one, and two columns as twice the channels: the four places of all
    # windows are then blocks of memory, which is ten times as fast as taking every second row and column.
    windows = ops.reshape(ops.stop_gradient(x), (-1, 2, columns // 2, 2 * channels))
    largest = ops.reshape(ops.stop_gradient(pooled), (-1, columns // 2, channels))
    top_left, top_right = windows[:, 0, :, :channels], windows[:, 0, :, channels:]
    not_first = ops.cast(top_left < largest, x.dtype)
    not_second = not_first * ops.cast(top_right < largest, x.dtype)
    not_third = not_second * ops.cast(windows[:, 1, :, :channels] < largest, x.dtype)
    indices = ops.cast(not_first + not_second + not_third, "uint8")
    return pooled, ops.reshape(indices, (-1, rows // 2, columns // 2, channels))


def max_unpool(x, indices):
    """Put each value at the place of its 2 x 2 window that was remembered, with zeros around it.

    Parameters
    ----------
    x : tensor of float, shape (N, rows, columns, channels)
        Rows, columns and channels are known.
    indices : tensor of uint8, shape (N, rows, columns, channels)
        From `max_pool_with_indices`.

    Returns
    -------
    tensor of float, shape (N, 2 rows, 2 columns, channels)

    Raises
    ------
    UserError
        If the two shapes differ.

    Examples
    --------
    >>> x = ops.full((1, 1, 1, 1), 7.0)
    >>> ops.convert_to_numpy(max_unpool(x, ops.full((1, 1, 1, 1), 2, "uint8")))[0, :, :, 0]
    array([[0., 0.],
           [7., 0.]], dtype=float32)
    """
    if tuple(x.shape[1:]) != tuple(indices.shape[1:]):
        raise UserError(
            "Unpooling needs values and indices of one shape, "
            f"got {tuple(x.shape[1:])} and {tuple(indices.shape[1:])}."
        )
    _, rows, columns, channels = x.shape
    parts = [x * ops.cast(indices == ops.cast(place, indices.dtype), x.dtype) for place in range(4)]
    # Side by side in the channels is side by side in the columns, seen as twice as many columns; in the same
    # way two rows of the result are one row that is twice as long. Nothing is transposed or scattered.
    top, bottom = ops.concatenate(parts[:2], axis=-1), ops.concatenate(parts[2:], axis=-1)
    both = ops.concatenate([top, bottom], axis=2)
    return ops.reshape(both, (-1, 2 * rows, 2 * columns, channels))


@keras.saving.register_keras_serializable(package="bloodcells")
class MaxPoolingWithIndices(layers.Layer):
    """`max_pool_with_indices` as a layer: one input, two outputs (pooled, indices)."""

    def call(self, inputs):
        """Pool; see `max_pool_with_indices`."""
        return max_pool_with_indices(inputs)


@keras.saving.register_keras_serializable(package="bloodcells")
class MaxUnpooling(layers.Layer):
    """`max_unpool` as a layer: inputs (values, indices), one output."""

    def call(self, inputs, indices):
        """Unpool; see `max_unpool`."""
        return max_unpool(inputs, indices)

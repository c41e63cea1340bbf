"""DO-U-Net: a U-Net with unpadded convolutions and two outputs, masks of cells and their edges.

References
----------
.. [1] T. Overton, A. Tucker, "DO-U-Net for Segmentation and Counting: Applications to Satellite and Medical
   Images", IDA 2020, LNCS 12080, pp. 391-403, doi:10.1007/978-3-030-44584-3_31
.. [2] A. Gharbi et al., "Blood cells image segmentation and counting using deep transfer learning", 2023,
   section III-A and the code its authors released
"""

import keras
from keras import layers

from bloodcells.errors import UserError
from bloodcells.models.layers import sigmoid_heads, softmax_head

MARGIN = 44
"""Pixels that the unpadded convolutions take off each side of a tile."""
HEADS = ("mask", "edge")


def build_dounet(input_shape=(188, 188, 3), *, heads=HEADS, n_classes=None, base_filters=32, name="dounet"):
    """Build a DO-U-Net, or with one head its single-output form.

    Parameters
    ----------
    input_shape : tuple of int or None
        (rows, columns, channels). Rows and columns are None, for any size, or 8 k + 4 with k at least 12, so
        that nothing is lost in the three poolings.
    heads : tuple of str
        Names of the outputs, one sigmoid each: ("mask", "edge"), or ("mask",) for white cells and platelets.
    n_classes : int, optional
        Number of classes, background included, for one softmax output in place of the heads; [1]_ and [2]_
        have none.
    base_filters : int
        Filters of the first level (32 in [1]_ and [2]_), doubled at each level; the very first
        convolution has three times as many.
    name : str
        Name of the model.

    Returns
    -------
    keras.Model
        uint8 or float RGB images in [0, 255], shape (N, rows, columns, channels), to float32 probabilities,
        shape (N, rows - 88, columns - 88, len(heads)), or (..., n_classes): those of the middle of the tile.

    Notes
    -----
    The second convolution is 1 x 1, and every convolution has a bias beside its batch normalisation, as in
    the released code of [2]_; with 32 filters and two heads that makes its 1,937,442 parameters.

    Examples
    --------
    >>> build_dounet().output_shape
    (None, 100, 100, 2)
    """
    _check(input_shape, heads)
    f = base_filters
    inputs = keras.Input(input_shape, name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1, name="rescale")(inputs)

    x = _conv(x, 3 * f, "down0_1")
    x = _conv(x, f, "down0_2", kernel_size=1)
    skips = [_conv(x, f, "down0_3")]
    for level in (1, 2, 3):
        x = layers.MaxPooling2D(2, name=f"down{level}_pool")(skips[-1])
        x = _conv(x, f * 2**level, f"down{level}_1")
        skips.append(_conv(x, f * 2**level, f"down{level}_2"))

    x = skips.pop()
    # What the convolutions between a skip connection's two ends have taken off each side of its map.
    for level, cropping in ((2, 4), (1, 16), (0, 40)):
        x = layers.Conv2DTranspose(f * 2**level, 2, strides=2, name=f"up{level}_upconv")(x)
        x = _norm_relu(x, f"up{level}_upconv")
        skip = layers.Cropping2D(cropping, name=f"up{level}_crop")(skips.pop())
        x = layers.Concatenate(name=f"up{level}_concat")([skip, x])
        x = _conv(x, f * 2**level, f"up{level}_1")
        x = _conv(x, f * 2**level, f"up{level}_2")
    outputs = sigmoid_heads(x, heads) if n_classes is None else softmax_head(x, n_classes)
    return keras.Model(inputs, outputs, name=name)


def _conv(x, filters, name, *, kernel_size=3):
    x = layers.Conv2D(filters, kernel_size, kernel_initializer="he_normal", name=f"{name}_conv")(x)
    return _norm_relu(x, name)


def _norm_relu(x, name):
    # A shorter memory than Keras's 0.99: the running statistics must follow runs of a few hundred steps.
    x = layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def _check(input_shape, heads):
    sizes = input_shape[:2]
    if len(input_shape) != 3 or any(size is not None and (size < 100 or size % 8 != 4) for size in sizes):
        raise UserError(
            "`input_shape` must be (rows, columns, channels) with rows and columns None or 100, 108, ... "
            f"(4 more than a multiple of 8), got {tuple(input_shape)}."
        )
    if not heads or len(set(heads)) != len(heads):
        raise UserError(f"`heads` must be one or more different names, got {tuple(heads)}.")

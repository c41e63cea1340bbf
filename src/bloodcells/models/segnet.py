"""SegNet: an encoder like VGG-16, and a decoder that unpools at the places the encoder remembered.

References
----------
.. [1] V. Badrinarayanan, A. Kendall, R. Cipolla, "SegNet: A Deep Convolutional Encoder-Decoder Architecture
   for Image Segmentation", IEEE TPAMI 39(12), 2017, pp. 2481-2495, doi:10.1109/TPAMI.2016.2644615
.. [2] A. Gharbi et al., "Blood cells image segmentation and counting using deep transfer learning", 2023,
   section III-B
.. [3] K. Simonyan, A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
   ICLR 2015, arXiv:1409.1556, table 1, column D
"""

import keras
from keras import layers

from bloodcells.errors import UserError
from bloodcells.models.layers import activation, crop, pad_to_multiple, sigmoid_heads, softmax_head
from bloodcells.models.pooling import MaxPoolingWithIndices, MaxUnpooling

ENCODER = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))
"""Width, in units of the first one, and number of convolutions of each encoder block: VGG-16's 13 ([3]_)."""
_FACTOR = 2 ** len(ENCODER)


def build_segnet(
    input_shape=(128, 128, 3), *, heads=("mask",), n_classes=None, base_filters=64, mean=None, name="segnet"
):
    """Build a SegNet: 13 convolutions down, 13 up, and max pooling indices instead of skip connections.

    Parameters
    ----------
    input_shape : tuple of int
        (rows, columns, channels), at least 32 rows and columns. [2]_ has 128 x 128.
    heads : tuple of str
        Names of the outputs, one sigmoid each: ("mask",), or ("mask", "edge") for the dual-output form
        that [2]_ uses for red cells.
    n_classes : int, optional
        Number of classes, background included, at least 2, for one softmax output as in [1]_ in place of the
        heads. [2]_ describes that output too, but its masks and edges need sigmoids: they overlap.
    base_filters : int
        Filters of the first block (64 in [1]_ to [3]_); all widths follow.
    mean : sequence of float, optional
        What to subtract from each channel, in [0, 255], instead of scaling the images to [-1, 1]: the
        trained weights of `bloodcells.models.vgg16_weights` need it.
    name : str
        Name of the model.

    Returns
    -------
    keras.Model
        uint8 or float images in [0, 255], shape (N, rows, columns, channels), to float32 probabilities, shape
        (N, rows, columns, len(heads)), or (N, rows, columns, n_classes) that sum to 1 over the last axis.

    Raises
    ------
    UserError
        If an argument is out of range.

    Notes
    -----
    Every convolution is 3 x 3, zero-padded ("same" in [2]_), with a bias as in VGG-16, and followed by batch
    normalisation and ReLU. The decoder mirrors the encoder: after the unpooling of a block come as many
    convolutions as it has, the last of which has the width of the block before it. So the thirteenth gives
    `base_filters` maps, not the image's 3 channels ([1]_, section 3), and the output is one more convolution,
    1 x 1. The encoder's convolutions are named as in `keras.applications.VGG16`, so that its weights can be
    copied by name.

    Rows and columns that are no multiples of 32 are padded with zeros to the next one, half on each side,
    after the mean has been subtracted or the images scaled; the padding is cropped from the last maps.

    The code that the authors of [2]_ published differs from what [1]_ and [2]_ say, which is what is built
    here: it pools overlapping 3 x 3 windows, so that two windows may remember one place, and its last decoder
    block has one convolution in place of two.

    Examples
    --------
    >>> build_segnet(heads=("mask", "edge"), base_filters=2).output_shape
    (None, 128, 128, 2)
    """
    _check(input_shape, heads, n_classes, mean)
    inputs = keras.Input(input_shape, name="image")
    if mean is None:
        x = layers.Rescaling(1 / 127.5, offset=-1, name="rescale")(inputs)
    else:
        x = layers.Rescaling(1.0, offset=[-float(value) for value in mean], name="rescale")(inputs)
    x, padding = pad_to_multiple(x, _FACTOR)

    indices = []
    for block, (width, n_convs) in enumerate(ENCODER, start=1):
        for i in range(1, n_convs + 1):
            x = _conv(x, width * base_filters, f"block{block}_conv{i}")
        x, places = MaxPoolingWithIndices(name=f"block{block}_pool")(x)
        indices.append(places)

    for block, (width, n_convs) in reversed(list(enumerate(ENCODER, start=1))):
        x = MaxUnpooling(name=f"decoder{block}_unpool")(x, indices.pop())
        above = ENCODER[max(block - 2, 0)][0]
        for i in range(1, n_convs + 1):
            x = _conv(x, (width if i < n_convs else above) * base_filters, f"decoder{block}_conv{i}")

    x = crop(x, padding)
    outputs = sigmoid_heads(x, heads) if n_classes is None else softmax_head(x, n_classes)
    return keras.Model(inputs, outputs, name=name)


def _conv(x, filters, name):
    x = layers.Conv2D(filters, 3, padding="same", kernel_initializer="he_normal", name=name)(x)
    # A shorter memory than Keras's 0.99: the running statistics must follow runs of a few hundred steps.
    x = layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
    return activation("relu", f"{name}_relu")(x)


def _check(input_shape, heads, n_classes, mean):
    if len(input_shape) != 3 or any(not size or size < _FACTOR for size in input_shape[:2]):
        raise UserError(
            f"`input_shape` must be (rows, columns, channels) with at least {_FACTOR} rows and columns, "
            f"got {tuple(input_shape)}."
        )
    if mean is not None and len(mean) != input_shape[2]:
        raise UserError(f"`mean` must have a number for each of {input_shape[2]} channels, got {mean}.")
    if n_classes is not None and n_classes < 2:
        raise UserError(f"`n_classes` must be at least 2, or None for sigmoid heads, got {n_classes}.")
    if n_classes is None and (not heads or len(set(heads)) != len(heads)):
        raise UserError(f"`heads` must be one or more different names, got {tuple(heads)}.")

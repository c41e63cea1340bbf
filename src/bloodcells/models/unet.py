"""U-Net, the baseline of several papers.

References
----------
.. [1] O. Ronneberger, P. Fischer, T. Brox, "U-Net: Convolutional Networks for Biomedical Image
   Segmentation", MICCAI 2015, LNCS 9351, pp. 234-241, doi:10.1007/978-3-319-24574-4_28
"""

import keras
from keras import layers

from bloodcells.models.layers import (
    activation,
    check_image_shape,
    conv_norm,
    crop,
    norm_first_conv,
    pad_to_multiple,
    sigmoid_heads,
    softmax_head,
)


def build_unet(
    input_shape,
    n_classes=None,
    *,
    heads=("mask",),
    base_filters=64,
    n_levels=4,
    activation_kind="relu",
    batch_norm=True,
    dropout=0.0,
    name="unet",
):
    """Build a U-Net: four poolings, two 3x3 convolutions a level, skip connections by concatenation.

    Parameters
    ----------
    input_shape : tuple of int
        (rows, columns, channels); any size, padded inside to a multiple of 2 ** `n_levels`.
    n_classes : int, optional
        Number of classes, background included, for a softmax; by default there are heads instead.
    heads : tuple of str
        Names of the outputs, one sigmoid each.
    base_filters : int
        Filters of the first level (64 in [1]); doubled at each level.
    n_levels : int
        Number of poolings.
    activation_kind : {"relu", "leaky_relu"}
        nasser2025 compares the two.
    batch_norm : bool or "first"
        Batch normalisation between convolution and activation, or, with "first", before the convolution
        (bendiabdallah2021, section 2.1); [1] has none.
    dropout : float
        Share of the features at the bottom set to 0, in [0, 1); bendiabdallah2021 has a dropout layer, whose
        place and share it does not give.
    name : str
        Name of the model.

    Returns
    -------
    keras.Model
        uint8 or float images in [0, 255], shape (N, rows, columns, channels), to float32
        probabilities, shape (N, rows, columns, n_classes), that sum to 1 over the last axis, or
        (N, rows, columns, len(heads)).

    Notes
    -----
    Against [1] the convolutions are zero-padded, so that the output is as large as the input.
    """
    check_image_shape(input_shape, smallest=2**n_levels)

    def double_conv(x, filters, name):
        for i in (1, 2):
            if batch_norm == "first":
                x = norm_first_conv(x, filters, name=f"{name}_{i}")
            else:
                x = conv_norm(x, filters, batch_norm=batch_norm, name=f"{name}_{i}")
            x = activation(activation_kind, f"{name}_{i}_act")(x)
        return x

    inputs = keras.Input(input_shape, name="image")
    x = layers.Rescaling(1 / 255, name="rescale")(inputs)
    x, padding = pad_to_multiple(x, 2**n_levels)

    skips = []
    for level in range(n_levels):
        x = double_conv(x, base_filters * 2**level, f"down{level}")
        skips.append(x)
        x = layers.MaxPooling2D(2, name=f"down{level}_pool")(x)
    x = double_conv(x, base_filters * 2**n_levels, "bottom")
    if dropout:
        x = layers.Dropout(dropout, name="bottom_dropout")(x)
    for level in reversed(range(n_levels)):
        x = layers.Conv2DTranspose(base_filters * 2**level, 2, strides=2, name=f"up{level}_upconv")(x)
        x = layers.Concatenate(name=f"up{level}_concat")([skips[level], x])
        x = double_conv(x, base_filters * 2**level, f"up{level}")

    x = crop(x, padding)
    outputs = sigmoid_heads(x, heads) if n_classes is None else softmax_head(x, n_classes)
    return keras.Model(inputs, outputs, name=name)

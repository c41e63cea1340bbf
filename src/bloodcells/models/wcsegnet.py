"""WCSegNet, a residual U-Net for the nuclei of white blood cells.

References
----------
.. [1] S. Nasser, G. Belalem, S. Mahmoudi, "An Automatic Nucleus Segmentation and Classification of
   White Blood Cell with ResUNet", Ingénierie des Systèmes d'Information 30(1), 2025,
   doi:10.18280/isi.300102
.. [2] K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", CVPR 2016,
   doi:10.1109/CVPR.2016.90
"""

import keras
from keras import layers

from bloodcells.models.layers import (
    activation,
    check_image_shape,
    conv_norm,
    crop,
    pad_to_multiple,
    softmax_head,
)

N_LEVELS = 4


def build_wcsegnet(input_shape, n_classes, *, base_filters=64, dropout=0.2, batch_norm=True, name="wcsegnet"):
    """Build WCSegNet ([1], section 2.3): a U-Net of residual blocks with LeakyReLU and dropout.

    Parameters
    ----------
    input_shape : tuple of int
        (rows, columns, channels); any size, padded inside to a multiple of 16.
    n_classes : int
        Number of classes, background included; 4 in [1].
    base_filters : int
        Filters of the first level (64 in [1]); doubled at each of the four poolings.
    dropout : float
        Share of the features set to 0, in [0, 1), in all four dropout layers; [1] gives no rate.
    batch_norm : bool
        Batch normalisation in the residual blocks; [1] names it only in the last convolution,
        where it is always present.
    name : str
        Name of the model.

    Returns
    -------
    keras.Model
        uint8 or float images in [0, 255], shape (N, rows, columns, channels), to float32
        probabilities, shape (N, rows, columns, n_classes), that sum to 1 over the last axis.

    Notes
    -----
    What [1] leaves open is decided here: 120 pixels cannot be halved four times, so the input is
    padded to 128 and the output cropped; the filters are 64, 128, 256, 512 and 1024 (section 2.3.1
    names 512 in one sentence and skips it in another); where a block changes the number of channels,
    its shortcut is a 1x1 convolution, option B of [2].
    """
    check_image_shape(input_shape, smallest=2**N_LEVELS)

    def conv_block(x, filters, name):
        shortcut = x
        if x.shape[-1] != filters:
            shortcut = conv_norm(x, filters, kernel_size=1, batch_norm=batch_norm, name=f"{name}_shortcut")
        x = conv_norm(x, filters, batch_norm=batch_norm, name=f"{name}_1")
        x = activation("leaky_relu", f"{name}_1_act")(x)
        x = conv_norm(x, filters, batch_norm=batch_norm, name=f"{name}_2")
        x = layers.Add(name=f"{name}_add")([shortcut, x])
        return activation("leaky_relu", f"{name}_act")(x)

    def two_blocks(x, level, name):
        for i in ("a", "b"):
            x = conv_block(x, base_filters * 2**level, f"{name}{i}")
        return x

    inputs = keras.Input(input_shape, name="image")
    x = layers.Rescaling(1 / 255, name="rescale")(inputs)
    x, padding = pad_to_multiple(x, 2**N_LEVELS)

    skips = []
    for level in range(N_LEVELS):
        x = two_blocks(x, level, f"down{level}")
        if level == N_LEVELS - 1:  # "after the second residual 512 conv-block"
            x = layers.Dropout(dropout, name=f"down{level}_dropout")(x)
        skips.append(x)
        x = layers.MaxPooling2D(2, name=f"down{level}_pool")(x)
    x = two_blocks(x, N_LEVELS, "bottom")
    for level in reversed(range(N_LEVELS)):
        x = layers.UpSampling2D(2, name=f"up{level}_upsample")(x)
        x = layers.Concatenate(name=f"up{level}_concat")([skips[level], x])
        x = two_blocks(x, level, f"up{level}")
        if level in (2, 1):  # "two dropout layers ... in the middle of the path"
            x = layers.Dropout(dropout, name=f"up{level}_dropout")(x)

    x = conv_norm(x, base_filters, batch_norm=True, name="last")
    x = activation("leaky_relu", "last_act")(x)
    x = layers.Dropout(dropout, name="last_dropout")(x)
    x = crop(x, padding)
    return keras.Model(inputs, softmax_head(x, n_classes), name=name)

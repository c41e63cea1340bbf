"""A U-Net of half width, with ODE blocks or residual blocks at any of its nine positions.

References
----------
.. [1] D. Li et al., "Robust Blood Cell Image Segmentation Method Based on Neural Ordinary Differential
   Equations", Computational and Mathematical Methods in Medicine, 2021, 5590180, doi:10.1155/2021/5590180,
   sections 3.2, 3.3 and 4, figures 5 and 6
.. [2] L. Zhou, C. Zhang, M. Wu, "D-LinkNet: LinkNet with Pretrained Encoder and Dilated Convolution for High
   Resolution Satellite Imagery Road Extraction", CVPR Workshops 2018, pp. 182-186
.. [3] K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", CVPR 2016,
   doi:10.1109/CVPR.2016.90
"""

import re

import keras
from keras import layers

from bloodcells.errors import UserError
from bloodcells.models.layers import (
    activation,
    check_image_shape,
    conv_norm,
    crop,
    pad_to_multiple,
    softmax_head,
)
from bloodcells.models.ode_block import ODEBlock

N_LEVELS = 4
N_POSITIONS = 2 * N_LEVELS + 1
"""1 to 4 on the way down, 5 at the bottom, 6 to 9 on the way up; 1 and 9 are as large as the image."""
POSITION_TOLERANCE = 1e-3
"""Of ODE-UNet1 to ODE-UNet9 ([1]_, section 3.2)."""
BOTTOM_TOLERANCES = (1e-6, 1e-4, 1e-4)
"""Of the three blocks of NODEs-UNet ([1]_, section 3.3)."""
RESIDUAL_BLOCKS = {2: 3, 3: 4, 4: 6, 5: 3}
"""Residual blocks by position: D-LinkNet's encoder ([2]_) has 3, 4, 6 and 3 with 64 to 512 filters, and the
positions 2 to 5 of the half-width U-Net have 64 to 512 filters."""


def blocks_of(network):
    """Return the blocks of a network of chapter 3.

    Parameters
    ----------
    network : str
        "unet", "resnet", "ode_unet1" to "ode_unet9", or "nodes_unet"; those with ODE blocks may end in a
        tolerance for all of them, such as "ode_unet5_1e-2".

    Returns
    -------
    dict of str to dict
        Arguments for `build_nodes_unet`.

    Raises
    ------
    UserError
        If there is no such network.

    Examples
    --------
    >>> blocks_of("ode_unet4")
    {'tolerances': {4: (0.001,)}}
    >>> blocks_of("nodes_unet_1e-2")
    {'tolerances': {5: (0.01, 0.01, 0.01)}}
    """
    fixed = {
        "unet": {},
        "resnet": {"residual_blocks": RESIDUAL_BLOCKS},
        "nodes_unet": {"tolerances": {N_LEVELS + 1: BOTTOM_TOLERANCES}},
    }
    if network in fixed:
        return fixed[network]
    if match := re.fullmatch(rf"(nodes_unet|ode_unet([1-{N_POSITIONS}]))(?:_(1e-[1-9]))?", network):
        position = int(match[2] or N_LEVELS + 1)
        tolerance = float(match[3] or POSITION_TOLERANCE)
        return {"tolerances": {position: (tolerance,) * (1 if match[2] else len(BOTTOM_TOLERANCES))}}
    raise UserError(
        f"Expected unet, resnet, ode_unet1 to ode_unet{N_POSITIONS} or nodes_unet, those with ODE blocks "
        f"perhaps with a tolerance from _1e-1 to _1e-9, got {network!r}."
    )


def build_nodes_unet(
    input_shape, n_classes, *, base_filters=32, tolerances=None, residual_blocks=None, name="nodes_unet"
):
    """Build a U-Net with further blocks after its double convolutions.

    Parameters
    ----------
    input_shape : tuple of int
        (rows, columns, channels); any size, padded inside to a multiple of 16. [1]_ has 256 x 256.
    n_classes : int
        Number of classes, background included; 3 in [1]_.
    base_filters : int
        Filters of the first level (32 in [1]_, half of U-Net's); doubled at each of the four poolings.
    tolerances : dict of int to sequence of float, optional
        ODE blocks by position, 1 to 9, one for each tolerance, in this order.
    residual_blocks : dict of int to int, optional
        Number of residual blocks by position.
    name : str
        Name of the model.

    Returns
    -------
    keras.Model
        uint8 or float images in [0, 255], shape (N, rows, columns, channels), to float32 probabilities, shape
        (N, rows, columns, n_classes), that sum to 1 over the last axis.

    Raises
    ------
    UserError
        If an argument is out of range.

    Notes
    -----
    Upsampling is bilinear, without a convolution of its own ([1]_, section 3.3). [1]_ does not say where
    batch normalisation is; here it follows every convolution but those in an ODE block. A residual block is
    that of [3]_, h + f(h), with batch normalisation in f. Where in its position an ODE block goes is only
    drawn in [1]_: here after the two convolutions, so that the network gets deeper, as its section 4.2 says.
    """
    check_image_shape(input_shape, smallest=2**N_LEVELS)
    tolerances, residual_blocks = tolerances or {}, residual_blocks or {}
    if wrong := [str(p) for p in (*tolerances, *residual_blocks) if p not in range(1, N_POSITIONS + 1)]:
        raise UserError(f"Positions must be 1 to {N_POSITIONS}, got {', '.join(wrong)}.")

    def double_conv(x, filters, position):
        for i in (1, 2):
            x = conv_norm(x, filters, batch_norm=True, name=f"position{position}_{i}")
            x = activation("relu", f"position{position}_{i}_act")(x)
        for i in range(1, residual_blocks.get(position, 0) + 1):
            x = _residual_block(x, f"position{position}_residual{i}")
        for i, tolerance in enumerate(tolerances.get(position, ()), start=1):
            x = ODEBlock(tolerance=tolerance, name=f"position{position}_ode{i}")(x)
        return x

    inputs = keras.Input(input_shape, name="image")
    x = layers.Rescaling(1 / 255, name="rescale")(inputs)
    x, padding = pad_to_multiple(x, 2**N_LEVELS)

    skips = []
    for level in range(N_LEVELS):
        x = double_conv(x, base_filters * 2**level, level + 1)
        skips.append(x)
        x = layers.MaxPooling2D(2, name=f"down{level}_pool")(x)
    x = double_conv(x, base_filters * 2**N_LEVELS, N_LEVELS + 1)
    for level in reversed(range(N_LEVELS)):
        x = layers.UpSampling2D(2, interpolation="bilinear", name=f"up{level}_upsample")(x)
        x = layers.Concatenate(name=f"up{level}_concat")([skips[level], x])
        x = double_conv(x, base_filters * 2**level, N_POSITIONS - level)

    x = crop(x, padding)
    return keras.Model(inputs, softmax_head(x, n_classes), name=name)


def _residual_block(x, name):
    """Identity shortcut, two convolutions, and a ReLU after the sum ([3]_, figure 2)."""
    shortcut, filters = x, x.shape[-1]
    x = conv_norm(x, filters, batch_norm=True, name=f"{name}_1")
    x = activation("relu", f"{name}_1_act")(x)
    x = conv_norm(x, filters, batch_norm=True, name=f"{name}_2")
    x = layers.Add(name=f"{name}_add")([shortcut, x])
    return activation("relu", f"{name}_act")(x)

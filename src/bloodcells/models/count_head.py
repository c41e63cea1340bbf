"""Counting without segmenting: a regression on the feature maps of all scales of a U-Net.

References
----------
.. [1] D. Li et al., "Robust Blood Cell Image Segmentation Method Based on Neural Ordinary Differential
   Equations", Computational and Mathematical Methods in Medicine, 2021, 5590180, doi:10.1155/2021/5590180,
   section 5, the last paragraph: announced, not carried out
"""

import keras
from keras import layers

from bloodcells.errors import UserError


def build_scale_features(network, layer_names):
    """Build a network that brings the feature maps of several scales to the coarsest, by averaging.

    Parameters
    ----------
    network : keras.Model
        Trained. The new one shares its layers.
    layer_names : sequence of str
        Names of layers whose outputs have shapes (N, rows, columns, channels); the rows and columns of each
        are whole multiples of the fewest.

    Returns
    -------
    keras.Model
        Images to feature maps, float32, shape (N, rows, columns, all channels).

    Raises
    ------
    UserError
        If there is no such layer, or the sizes don't divide.

    Notes
    -----
    [1]_ would convolve every scale with 1 x 1 kernels and fuse the results. Such a convolution without an
    activation commutes with averaging, so the maps are averaged first: the features then are small, and need
    computing only once, as the network isn't trained again.
    """
    known = {layer.name for layer in network.layers}
    if absent := [name for name in layer_names if name not in known]:
        raise UserError(f"Expected names of layers of {network.name!r}, got {', '.join(absent)}.")
    maps = [network.get_layer(name).output for name in layer_names]
    coarsest = min((x.shape[1:3] for x in maps), default=None)
    pooled = []
    for name, x in zip(layer_names, maps, strict=True):
        factors = [size // least for size, least in zip(x.shape[1:3], coarsest, strict=True)]
        if [f * least for f, least in zip(factors, coarsest, strict=True)] != list(x.shape[1:3]):
            raise UserError(
                f"The sizes of all scales must be whole multiples of the least, {tuple(coarsest)}; "
                f"{name} has {tuple(x.shape[1:3])}."
            )
        pooled.append(layers.AveragePooling2D(factors, name=f"{name}_average")(x))
    outputs = layers.Concatenate(dtype="float32", name="scales")(pooled)
    return keras.Model(network.input, outputs, name="scale_features")


def build_count_head(input_shape, n_counts, *, n_filters=32, name="count_head"):
    """Build the regression from fused scales to counts.

    Parameters
    ----------
    input_shape : tuple of int
        (rows, columns, channels) of `build_scale_features`.
    n_counts : int
        Kinds of cells.
    n_filters : int
        Of the 1 x 1 convolution that fuses the scales.
    name : str
        Name of the model.

    Returns
    -------
    keras.Model
        Feature maps, shape (N, rows, columns, channels), to counts, float32, shape (N, n_counts), not rounded
        and without bounds.

    Notes
    -----
    Every place of the coarsest scale gets its share of each count, and the shares are added up, so the number
    of parameters does not depend on the size of the image.
    """
    inputs = keras.Input(input_shape, name="scales")
    # Features have the scales that the network gave them, which differ by orders of magnitude.
    x = layers.BatchNormalization(momentum=0.9, name="norm")(inputs)
    x = layers.Conv2D(n_filters, 1, activation="relu", kernel_initializer="he_normal", name="fuse")(x)
    x = layers.Conv2D(n_counts, 1, dtype="float32", name="shares")(x)
    places = input_shape[0] * input_shape[1]
    x = layers.GlobalAveragePooling2D(name="mean", dtype="float32")(x)
    outputs = layers.Rescaling(float(places), name="counts", dtype="float32")(x)
    return keras.Model(inputs, outputs, name=name)

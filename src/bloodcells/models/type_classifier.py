"""An encoder that names the type of a white cell: what a U-Net's encoder may learn first.

bendiabdallah2021 starts its encoders from ImageNet. Where those weights can't be had, the images of this book
serve: the same encoder learns to tell types of white cells apart, and goes into a U-Net after that.
"""

import keras
from keras import layers

from bloodcells.errors import UserError
from bloodcells.models.backbones import build_encoder


def build_type_classifier(encoder, input_shape, n_types):
    """Build an encoder with an average over its maps and a softmax on top.

    Parameters
    ----------
    encoder, input_shape
        As in `bloodcells.models.backbones.build_encoder`.
    n_types : int
        At least 2.

    Returns
    -------
    keras.Model
        uint8 or float images in [0, 255], RGB, shape (N, rows, columns, 3), to float32 probabilities, shape
        (N, n_types), that sum to 1.

    Raises
    ------
    UserError
        If an argument is out of range.
    """
    if n_types < 2:
        raise UserError(f"`n_types` must be at least 2, got {n_types}.")
    inputs = keras.Input(input_shape, name="image")
    features = build_encoder(encoder, input_shape)(inputs)
    mean = layers.GlobalAveragePooling2D(name="mean")(features)
    outputs = layers.Dense(n_types, activation="softmax", dtype="float32", name="probability")(mean)
    return keras.Model(inputs, outputs, name=f"{encoder}_types")


def encoder_weights(classifier):
    """Return the weights of a classifier's encoder, for `bloodcells.models.backbones.build_backbone_unet`.

    Parameters
    ----------
    classifier : keras.Model
        From `build_type_classifier`.

    Returns
    -------
    list of ndarray
    """
    return classifier.get_layer(classifier.name.removesuffix("_types") + "_encoder").get_weights()

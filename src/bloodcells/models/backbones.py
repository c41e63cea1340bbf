"""U-Nets whose encoder is a network made for classifying photographs.

bendiabdallah2021 ([1]_) compares eight such encoders, or backbones, in the U-Nets of segmentation-models
([2]_). That package is of 2020 and knows nothing of Keras 3. It runs there all the same, on any backend, once
it is given three functions of Keras that have other names today. Nothing else imports it.

References
----------
.. [1] M. H. Bendiabdallah, N. Settouti, "A comparison of U-net backbone architectures for the automatic white
   blood cells segmentation", section 2.3
.. [2] P. Yakubovskiy, "Segmentation Models", 2019, https://github.com/qubvel/segmentation_models
"""

import contextlib
import functools
import hashlib
import io
import json
import os
import warnings
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

from bloodcells.errors import DataUnavailableError, UserError
from bloodcells.files import write_json
from bloodcells.models.layers import check_image_shape, crop, pad_to_multiple
from bloodcells.models.vgg16_weights import MEANS, read_vgg16
from bloodcells.weights_io import load_weights, save_weights

ENCODERS = (
    "mobilenet",
    "mobilenetv2",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet152",
    "vgg16",
    "vgg19",
)
"""The encoders of [1]_; `list_encoders` has more."""

_FACTOR = 32  # every encoder halves its maps five times
_SMALLEST = {"inceptionv3": 75, "inceptionresnetv2": 75}
# Their layers have names with a slash, which Keras 3 forbids.
_NOT_ON_KERAS_3 = ("densenet121", "densenet169", "densenet201")


class _OldBackend:
    """`keras.backend`, with what it no longer has."""

    int_shape = staticmethod(lambda tensor: tuple(tensor.shape))
    sigmoid = staticmethod(ops.sigmoid)

    def __getattr__(self, name):
        return getattr(keras.backend, name)


@functools.cache
def _library():
    """Import segmentation-models for Keras itself, whichever backend that has."""
    before = os.environ.get("SM_FRAMEWORK")
    os.environ["SM_FRAMEWORK"] = "keras"
    # Asked for once, on import.
    keras.utils.generic_utils = keras.utils
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            # Besides a line that it prints, its docstrings have escapes that Python no longer likes.
            warnings.simplefilter("ignore")
            import segmentation_models
    finally:
        del keras.utils.generic_utils
        if before is None:
            del os.environ["SM_FRAMEWORK"]
        else:
            os.environ["SM_FRAMEWORK"] = before
    segmentation_models._KERAS_BACKEND = _OldBackend()
    return segmentation_models


def list_encoders():
    """List the encoders that can be built.

    Returns
    -------
    tuple of str

    Examples
    --------
    >>> set(ENCODERS) <= set(list_encoders())
    True
    """
    return tuple(name for name in _library().get_available_backbone_names() if name not in _NOT_ON_KERAS_3)


def build_backbone_unet(
    encoder,
    input_shape=(256, 256, 3),
    *,
    n_classes=None,
    encoder_weights=None,
    batch_norm_momentum=0.9,
    name=None,
):
    """Build a U-Net around an encoder, with one sigmoid output, or a softmax over classes.

    Parameters
    ----------
    encoder : str
        One of `list_encoders`.
    input_shape : tuple of int
        (rows, columns, 3), at least 32 rows and columns. [1]_ has 256 x 256.
    n_classes : int, optional
        Number of classes, background included, for a softmax; [1]_ has none.
    encoder_weights : {"imagenet", "hed"}, list of ndarray, or None
        What the encoder starts from: weights of ImageNet, which are downloaded; for "vgg16" also "hed", see
        `bloodcells.models.vgg16_weights`; those of an encoder of `build_encoder` that was trained, as its
        ``get_weights`` returns them; or, with None, nothing: it is random. The decoder always is.
    batch_norm_momentum : float
        Of all batch normalisations, in [0, 1). The package's 0.99 is for trainings of many thousands of
        steps: what networks use in inference would lag behind what they have learned.
    name : str, optional
        Name of the model, that of the encoder with "_unet" by default.

    Returns
    -------
    keras.Model
        uint8 or float images in [0, 255], RGB, shape (N, rows, columns, 3), to float32 probabilities, shape
        (N, rows, columns, 1), or (N, rows, columns, n_classes) that sum to 1 over the last axis.

    Raises
    ------
    DataUnavailableError
        If weights can't be had here.
    UserError
        If an argument is out of range, or weights are not the encoder's.

    Notes
    -----
    The colours are scaled, shifted or reversed first as the encoder's authors did it ([2]_'s
    ``get_preprocessing``). Rows and columns that are no multiples of 32 are padded with zeros to the next
    one, half on each side, and the output is cropped.

    Examples
    --------
    >>> build_backbone_unet("mobilenet", (40, 48, 3)).output_shape
    (None, 40, 48, 1)
    """
    library = _check(encoder, input_shape)
    if n_classes is not None and n_classes < 2:
        raise UserError(f"`n_classes` must be None, or at least 2 with the background, got {n_classes!r}.")
    if not (encoder_weights in (None, "imagenet", "hed") or isinstance(encoder_weights, list)):
        raise UserError(
            f'`encoder_weights` must be "imagenet", "hed", a list of arrays or None, got {encoder_weights!r}.'
        )
    if encoder_weights == "hed" and encoder != "vgg16":
        raise UserError(f"The weights \"hed\" are for the encoder 'vgg16' only, got {encoder!r}.")
    inputs = keras.Input(input_shape, name="image")
    colours = (np.eye(3), np.negative(MEANS["hed"])) if encoder_weights == "hed" else _colour_map(encoder)
    x, padding = pad_to_multiple(ColourMap(*colours, name="colours")(inputs), _FACTOR)
    # Its last layer would compute in half precision where the policy says so: ours is added below.
    options = {"input_shape": tuple(x.shape[1:]), "classes": n_classes or 1, "activation": "linear"}
    if encoder_weights == "imagenet":
        with _download_errors(encoder):
            unet = library.Unet(encoder, encoder_weights="imagenet", **options)
    else:
        unet = library.Unet(encoder, encoder_weights=None, **options)
    if encoder_weights == "hed":
        _copy_vgg16("hed", unet)
    elif isinstance(encoder_weights, list):
        _copy_weights(encoder_weights, unet, encoder)
    _set_momentum(unet, batch_norm_momentum)
    x = crop(unet(x), padding)
    last = "sigmoid" if n_classes is None else "softmax"
    outputs = layers.Activation(last, dtype="float32", name="probability")(x)
    return keras.Model(inputs, outputs, name=name or f"{encoder}_unet")


def build_encoder(encoder, input_shape=(256, 256, 3), *, batch_norm_momentum=0.9):
    """Build an encoder alone, to train it on another task first.

    Parameters
    ----------
    encoder, input_shape, batch_norm_momentum
        As in `build_backbone_unet`.

    Returns
    -------
    keras.Model
        uint8 or float images in [0, 255], RGB, shape (N, rows, columns, 3), to features, shape
        (N, ceil(rows / 32), ceil(columns / 32), channels). Random. `build_backbone_unet` takes its weights,
        from ``get_weights``.

    Raises
    ------
    UserError
        If an argument is out of range.
    """
    library = _check(encoder, input_shape)
    inputs = keras.Input(input_shape, name="image")
    x, _ = pad_to_multiple(ColourMap(*_colour_map(encoder), name="colours")(inputs), _FACTOR)
    backbone = _bare_encoder(library, encoder, tuple(x.shape[1:]))
    _set_momentum(backbone, batch_norm_momentum)
    return keras.Model(inputs, backbone(x), name=f"{encoder}_encoder")


def save_unet(model, encoder, path):
    """Save a U-Net as a file of weights and a specification to rebuild it by.

    Keras's own format would save the library's layers, some of which can't be read again.

    Parameters
    ----------
    model : keras.Model
        From `build_backbone_unet`.
    encoder : str
        Its encoder.
    path : path-like
        Of the weights, with the suffix ``.weights.h5``; the specification stands beside them in a file with
        the suffix ``.json``. Both are replaced if they exist.

    Raises
    ------
    UserError
        If the suffix is another one.
    """
    weights, specification = _paths(path)
    n_outputs = model.output_shape[-1]
    spec = {
        "encoder": encoder,
        "input_shape": list(model.input_shape[1:]),
        "n_classes": None if n_outputs == 1 else n_outputs,
        # Weights from elsewhere may want other colours than the library's for this encoder.
        "matrix": model.get_layer("colours").matrix.tolist(),
        "offset": model.get_layer("colours").offset.tolist(),
    }
    save_weights(model, weights)
    write_json(specification, spec | {"sha256": _digest(spec, weights)})


def load_unet(path):
    """Rebuild a U-Net that `save_unet` saved.

    Parameters
    ----------
    path : path-like
        As given to `save_unet`.

    Returns
    -------
    keras.Model

    Raises
    ------
    UserError
        If a file is missing or damaged, or the two don't belong together.
    """
    weights, specification = _paths(path)
    for file in (weights, specification):
        if not file.is_file():
            raise UserError(f"{file} is missing; expected the two files that `save_unet` wrote.")
    try:
        spec = json.loads(specification.read_text(encoding="utf-8"))
        sha256 = spec.pop("sha256")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{specification} is damaged ({error!r}); save the network again.") from error
    if _digest(spec, weights) != sha256:
        raise UserError(f"{weights} is damaged, or not of {specification.name}; save the network again.")
    model = build_backbone_unet(spec["encoder"], tuple(spec["input_shape"]), n_classes=spec["n_classes"])
    colours = model.get_layer("colours")
    colours.matrix, colours.offset = (np.asarray(spec[name], "float32") for name in ("matrix", "offset"))
    load_weights(model, weights, cure="save the network again")
    return model


def _digest(spec, weights):
    """Hash a specification and a file of weights, so that damage to either shows before anything is built."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode() + weights.read_bytes()).hexdigest()


def _paths(path):
    path = Path(path)
    if not path.name.endswith(".weights.h5"):
        raise UserError(f"`path` must end in .weights.h5, got {path}.")
    return path, path.with_name(path.name.removesuffix(".weights.h5") + ".json")


@keras.saving.register_keras_serializable(package="bloodcells")
class ColourMap(layers.Layer):
    """Map each colour linearly to another: scale, shift or reverse the channels.

    Parameters
    ----------
    matrix : sequence, shape (3, 3)
        Row i is what one unit of channel i gives.
    offset : sequence, shape (3,)
        What black becomes.
    """

    def __init__(self, matrix, offset, **kwargs):
        super().__init__(**kwargs)
        self.matrix, self.offset = np.asarray(matrix, "float32"), np.asarray(offset, "float32")

    def call(self, image):
        image = ops.cast(image, self.compute_dtype)
        return ops.matmul(image, ops.cast(self.matrix, image.dtype)) + ops.cast(self.offset, image.dtype)

    def get_config(self):
        return super().get_config() | {"matrix": self.matrix.tolist(), "offset": self.offset.tolist()}


def _colour_map(encoder):
    """Find out what the library does to an image's colours: it is linear, so four colours tell."""
    colours = np.concatenate([np.zeros((1, 3)), 255 * np.eye(3)]).astype("float32")
    mapped = _library().get_preprocessing(encoder)(colours[np.newaxis, np.newaxis])[0, 0]
    return (mapped[1:] - mapped[0]) / 255, mapped[0]


def _bare_encoder(library, encoder, input_shape):
    """Build the encoder as the library does within a U-Net, without preprocessing, at random."""
    modules = {name: getattr(keras, name) for name in ("layers", "models", "utils")}
    return library.Backbones.get_backbone(
        encoder, input_shape=input_shape, weights=None, include_top=False, backend=_OldBackend(), **modules
    )


def _copy_weights(arrays, unet, encoder):
    """Put the weights of a bare encoder into the one that a U-Net begins with.

    Names don't serve: some encoders leave them to Keras, which counts on. Keras lists layers by their
    distance from the output, and the decoder puts all those of the encoder off by the same.
    """
    bare = _bare_encoder(_library(), encoder, tuple(unet.input_shape[1:]))
    if [weight.shape for weight in bare.weights] != [np.shape(array) for array in arrays]:
        raise UserError(
            f"`encoder_weights` must be those of the encoder {encoder!r}, {len(bare.weights)} arrays from "
            f"`build_encoder`; got {len(arrays)} arrays, or other shapes."
        )
    bare.set_weights(arrays)
    weighted = ([layer for layer in model.layers if layer.weights] for model in (bare, unet))
    for source, target in zip(*weighted, strict=False):
        target.set_weights(source.get_weights())


def _copy_vgg16(source, unet):
    """Put VGG-16's convolutions from another source into a U-Net's encoder."""
    for name, arrays in read_vgg16(source)[0].items():
        unet.get_layer(name).set_weights(arrays)


def _set_momentum(model, momentum):
    """Set the momentum of every batch normalisation."""
    if not 0 <= momentum < 1:
        raise UserError(f"`batch_norm_momentum` must be at least 0 and below 1, got {momentum!r}.")
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = momentum


@contextlib.contextmanager
def _download_errors(encoder):
    """Tell what else there is, when weights of ImageNet can't be downloaded."""
    others = (
        'take "blood", an encoder trained on the white cells of this book, "none" for a random one, or for '
        "'vgg16' also \"hed\""
    )
    try:
        yield
    except ValueError as error:  # of the download's checksum
        raise UserError(
            f"The weights of ImageNet for {encoder!r} came damaged ({error}); try again, or {others}."
        ) from error
    except Exception as error:  # Keras raises that very class when a download fails
        raise DataUnavailableError(
            f"The weights of ImageNet for {encoder!r} can't be had here ({error}); connect to the network, "
            f"or {others}."
        ) from error


def _check(encoder, input_shape):
    """Check the arguments and return the library."""
    library = _library()
    if encoder in _NOT_ON_KERAS_3:
        raise UserError(
            f"The encoder {encoder!r} can't be built on Keras 3, which forbids the names of its layers; "
            "expected another one, such as 'resnet50'."
        )
    if encoder not in list_encoders():
        raise UserError(f"Expected an encoder, one of {', '.join(list_encoders())}; got {encoder!r}.")
    check_image_shape(input_shape, smallest=_SMALLEST.get(encoder, _FACTOR))
    if input_shape[2] != 3:
        raise UserError(f"Encoders expect images with 3 channels, got `input_shape` {tuple(input_shape)}.")
    return library

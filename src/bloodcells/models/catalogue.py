"""Every network of the book behind one signature: images in, class probabilities of the same size out."""

import keras
from keras import layers, ops

from bloodcells.backbone_reports import ENCODER_NAMES
from bloodcells.errors import UserError
from bloodcells.models.backbones import build_backbone_unet, list_encoders
from bloodcells.models.dounet import MARGIN, build_dounet
from bloodcells.models.nodes_unet import blocks_of, build_nodes_unet
from bloodcells.models.segnet import build_segnet
from bloodcells.models.unet import build_unet
from bloodcells.models.wcsegnet import build_wcsegnet

NETWORKS = {
    "segnet": ("SegNet", 1),
    "dounet": ("DO-U-Net", 2),
    "resnet": ("ResNet", 3),
    "nodes_unet": ("NODEs-UNet", 3),
    "unet_resnet50": ("U-Net on ResNet-50", 4),
    "unet": ("U-Net", 5),
    "wcsegnet": ("WCSegNet", 5),
}
"""What tables call the networks, and the chapter that each is from."""


def name_network(method):
    """Return what tables call a network.

    Parameters
    ----------
    method : str
        As in `build_network`.

    Returns
    -------
    str
    """
    encoder = method.removeprefix("unet_")
    return NETWORKS[method][0] if method in NETWORKS else f"U-Net on {ENCODER_NAMES.get(encoder, encoder)}"


def build_network(method, input_shape, n_classes, *, base_filters, dropout=0.2):
    """Build a network by its name, at random.

    Parameters
    ----------
    method : str
        One of `NETWORKS`, or "unet_" and an encoder of `bloodcells.models.backbones.list_encoders`.
    input_shape : tuple of int
        (rows, columns, 3), at least 64 rows and columns.
    n_classes : int
        Number of classes, background included.
    base_filters : int
        Filters of the first level. An encoder from a library has widths of its own.
    dropout : float
        Of WCSegNet, see `bloodcells.models.wcsegnet`.

    Returns
    -------
    keras.Model
        uint8 or float images in [0, 255], shape (N, rows, columns, 3), to float32 probabilities, shape
        (N, rows, columns, n_classes), that sum to 1 over the last axis.

    Raises
    ------
    UserError
        If there is no such network, or the images are too small.

    Notes
    -----
    DO-U-Net, whose convolutions are unpadded, sees the image mirrored at its borders (the fields of chapter 2
    have zeros around them), and has one softmax here in place of its two outputs. Nothing is pre-trained.
    """
    if min(input_shape[:2]) < 64:
        raise UserError(f"`input_shape` must have at least 64 rows and columns, got {tuple(input_shape)}.")
    if method == "segnet":
        return build_segnet(input_shape, n_classes=n_classes, base_filters=base_filters)
    if method == "dounet":
        return _build_mirrored_dounet(input_shape, n_classes, base_filters)
    if method in ("resnet", "nodes_unet"):
        blocks = blocks_of(method)
        return build_nodes_unet(input_shape, n_classes, base_filters=base_filters, name=method, **blocks)
    if method == "unet":
        return build_unet(input_shape, n_classes, base_filters=base_filters)
    if method == "wcsegnet":
        return build_wcsegnet(input_shape, n_classes, base_filters=base_filters, dropout=dropout)
    encoder = method.removeprefix("unet_")
    if encoder == method or encoder not in list_encoders():
        raise UserError(
            f"Expected a network, one of {', '.join(NETWORKS)}, or unet_ and an encoder such as resnet18; "
            f"got {method!r}."
        )
    return build_backbone_unet(encoder, input_shape, n_classes=n_classes)


def _build_mirrored_dounet(input_shape, n_classes, base_filters):
    # DO-U-Net takes 8 k + 4 rows and columns, and gives 88 fewer.
    extra = [(4 - size) % 8 for size in input_shape[:2]]
    margins = [(MARGIN + e // 2, MARGIN + e - e // 2) for e in extra]
    inputs = keras.Input(input_shape, name="image")
    mirrored = MirrorPadding(margins, name="mirror")(inputs)
    dounet = build_dounet(tuple(mirrored.shape[1:]), n_classes=n_classes, base_filters=base_filters)
    x = dounet(mirrored)
    if any(extra):
        x = layers.Cropping2D([(e // 2, e - e // 2) for e in extra], name="crop")(x)
    return keras.Model(inputs, x, name="dounet")


@keras.saving.register_keras_serializable(package="bloodcells")
class MirrorPadding(layers.Layer):
    """Continue images beyond their borders by mirroring them there.

    Parameters
    ----------
    margins : sequence of tuple of int
        ((top, bottom), (left, right)), each less than the image's rows and columns.
    """

    def __init__(self, margins, **kwargs):
        super().__init__(**kwargs)
        self.margins = tuple(tuple(pair) for pair in margins)

    def call(self, image):
        image = ops.cast(image, self.compute_dtype)
        return ops.pad(image, ((0, 0), *self.margins, (0, 0)), mode="reflect")

    def compute_output_shape(self, input_shape):
        n, *sizes, channels = input_shape
        return (n, *(size + sum(pair) for size, pair in zip(sizes, self.margins, strict=True)), channels)

    def get_config(self):
        return super().get_config() | {"margins": self.margins}

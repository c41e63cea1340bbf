import keras
import numpy as np
import pytest

from bloodcells.errors import UserError
from bloodcells.models.catalogue import NETWORKS, MirrorPadding, build_network, name_network

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 72, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize("method", [*NETWORKS, "unet_mobilenet"])
def test_every_network_gives_a_probability_of_each_class_for_each_pixel(method):
    model = build_network(method, IMAGES.shape[1:], 3, base_filters=2)
    probability = model.predict(IMAGES, verbose=0)
    assert probability.shape == (2, 72, 64, 3)
    assert probability.dtype == np.float32
    np.testing.assert_allclose(probability.sum(axis=-1), 1, atol=1e-5)


def test_padding_mirrors_at_the_border():
    row = np.arange(4.0)[np.newaxis, np.newaxis, :, np.newaxis]
    padded = keras.ops.convert_to_numpy(MirrorPadding(((0, 0), (2, 3)))(row))
    # The border pixel itself isn't repeated.
    assert padded[0, 0, :, 0].tolist() == [2, 1, 0, 1, 2, 3, 2, 1, 0]


def test_dounet_is_not_shifted():
    # Mirrored images have mirrored outputs only if as much is added on the left as is cut there.
    keras.utils.set_random_seed(0)
    model = build_network("dounet", (68, 68, 3), 2, base_filters=1)
    for layer in model.layers[2]._flatten_layers():
        if isinstance(layer, keras.layers.Conv2D | keras.layers.Conv2DTranspose):
            kernel, bias = layer.get_weights()
            layer.set_weights([(kernel + kernel[:, ::-1]) / 2, bias])
    image = np.random.default_rng(1).integers(0, 256, (1, 68, 68, 3), dtype=np.uint8)
    probability, mirrored = (model.predict(x, verbose=0) for x in (image, image[:, :, ::-1]))
    np.testing.assert_allclose(mirrored[:, :, ::-1], probability, atol=1e-4)
    assert np.ptp(probability) > 0.01


def test_names():
    assert name_network("nodes_unet") == "NODEs-UNet"
    assert name_network("unet_resnet50") == "U-Net on ResNet-50"
    assert name_network("unet_resnet18") == "U-Net on ResNet-18"
    assert name_network("unet_seresnet18") == "U-Net on seresnet18"


@pytest.mark.parametrize("method", ["unets", "unet_", "unet_vgg", "resnet50"])
def test_an_unknown_network_is_refused(method):
    with pytest.raises(UserError, match=f"one of segnet.*got '{method}'"):
        build_network(method, (64, 64, 3), 3, base_filters=2)


def test_small_images_are_refused():
    with pytest.raises(UserError, match=r"at least 64 rows and columns, got \(48, 64, 3\)"):
        build_network("unet", (48, 64, 3), 3, base_filters=2)

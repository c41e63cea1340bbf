import keras
import numpy as np
import pytest
from keras import ops

from bloodcells.errors import UserError
from bloodcells.models.dounet import MARGIN, build_dounet


def test_parameters_of_the_published_size():
    assert build_dounet().count_params() == 1_937_442  # gharbi2023, the released code

    # One head less: 32 weights and a bias.
    assert build_dounet(heads=("mask",)).count_params() == 1_937_442 - 33


def test_classes_in_place_of_heads_sum_to_one():
    model = build_dounet((100, 108, 3), n_classes=4, base_filters=1)
    probability = model.predict_on_batch(np.zeros((1, 100, 108, 3), np.uint8))
    assert probability.shape == (1, 12, 20, 4)
    np.testing.assert_allclose(probability.sum(axis=-1), 1, atol=1e-5)


@pytest.mark.parametrize("size", [100, 188, 284])
def test_output_is_the_middle_of_the_tile(size):
    model = build_dounet((size, size + 8, 3), base_filters=1)
    assert model.output_shape == (None, size - 2 * MARGIN, size + 8 - 2 * MARGIN, 2)


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    return build_dounet((None, None, 3), base_filters=2)


def test_probabilities_of_any_size(network):
    images = np.random.default_rng(0).integers(0, 256, (2, 108, 124, 3), dtype=np.uint8)
    probability = network.predict_on_batch(images)
    assert probability.shape == (2, 20, 36, 2)
    assert probability.dtype == np.float32
    assert 0 <= probability.min() < probability.max() <= 1


def test_a_tile_predicted_alone_equals_the_same_place_in_a_larger_one(network):
    # Shifted by 8 pixels the three poolings fall on the same grid.
    image = np.random.default_rng(1).integers(0, 256, (1, 140, 140, 3), dtype=np.uint8)
    whole = network.predict_on_batch(image)[0]
    part = network.predict_on_batch(image[:, 16:124, 24:132])[0]
    np.testing.assert_allclose(part, whole[16:36, 24:44], atol=1e-5)


def test_context_is_exactly_the_margin(network):
    # Further than the receptive field reaches, nothing changes; within it, something does.
    image = np.full((1, 188, 188, 3), 128, np.uint8)
    changed = image.copy()
    changed[:, :8] = 255
    difference = np.abs(network.predict_on_batch(image) - network.predict_on_batch(changed))[0].max(
        axis=(1, 2)
    )
    assert difference[:8].max() > 0
    assert difference[2 * MARGIN + 8 :].max() == 0


def test_gradient_reaches_every_weight(network):
    images = np.random.default_rng(2).integers(0, 256, (2, 108, 108, 3)).astype("float32")
    target = (np.random.default_rng(3).random((2, 20, 20, 2)) > 0.5).astype("float32")
    before = [weight.numpy().copy() for weight in network.trainable_weights]
    twin = keras.models.clone_model(network)
    twin.set_weights(network.get_weights())
    twin.compile(keras.optimizers.SGD(0.1), loss="binary_crossentropy", jit_compile=False)
    twin.train_on_batch(images, target)
    for weight, old in zip(twin.trainable_weights, before, strict=True):
        is_bias_under_norm = weight.path.endswith("_conv/bias") or weight.path.endswith("_upconv/bias")
        if not is_bias_under_norm:  # a normalisation right after takes such a bias away again
            assert float(ops.max(ops.abs(weight - old))) > 0, weight.path


def test_frozen_mask_head_stays(network):
    twin = keras.models.clone_model(network)
    twin.get_layer("mask").trainable = False
    kernel = twin.get_layer("mask").get_weights()[0]
    edge = twin.get_layer("edge").get_weights()[0]
    twin.compile("sgd", loss="binary_crossentropy", jit_compile=False)
    images = np.random.default_rng(4).integers(0, 256, (1, 100, 100, 3)).astype("float32")
    twin.train_on_batch(images, np.ones((1, 12, 12, 2)))
    np.testing.assert_array_equal(twin.get_layer("mask").get_weights()[0], kernel)
    assert (twin.get_layer("edge").get_weights()[0] != edge).any()


@pytest.mark.parametrize("shape", [(96, 188, 3), (190, 190, 3), (188, 188)])
def test_sizes_that_do_not_fit_the_poolings(shape):
    with pytest.raises(UserError, match="100, 108, "):
        build_dounet(shape)


def test_heads_need_different_names():
    with pytest.raises(UserError, match="different names"):
        build_dounet(heads=("mask", "mask"))

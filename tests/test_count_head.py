"""Scales are averaged to the coarsest, and counts are sums over places."""

import keras
import numpy as np
import pytest

from bloodcells.errors import UserError
from bloodcells.models.count_head import build_count_head, build_scale_features
from bloodcells.models.nodes_unet import build_nodes_unet

NAMES = [f"position{p}_2_act" for p in (5, 6, 7, 8, 9)]


def test_features_are_means_over_blocks():
    network = build_nodes_unet((32, 48, 3), 3, base_filters=2)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3)).astype("float32")
    found = build_scale_features(network, NAMES).predict(images, verbose=0)
    assert found.shape == (2, 2, 3, 32 + 16 + 8 + 4 + 2)
    finest = keras.Model(network.input, network.get_layer("position9_2_act").output)
    maps = finest.predict(images, verbose=0)
    by_hand = maps.reshape(2, 2, 16, 3, 16, 2).mean(axis=(2, 4))
    assert found[..., -2:] == pytest.approx(by_hand, abs=1e-5)


def test_the_network_keeps_its_weights_while_the_head_learns():
    network = build_nodes_unet((32, 32, 3), 3, base_filters=2)
    features = build_scale_features(network, NAMES)
    before = network.get_weights()
    rng = np.random.default_rng(0)
    maps = features.predict(rng.integers(0, 256, (16, 32, 32, 3)).astype("float32"), verbose=0)
    head = build_count_head(maps.shape[1:], 2)
    head.compile("adam", "mse")
    head.fit(maps, rng.integers(0, 9, (16, 2)), verbose=0)
    for old, new in zip(before, network.get_weights(), strict=True):
        assert np.array_equal(old, new)


def test_counts_of_places_add_up():
    """Features that are 1 where a cell is: the head learns to count them, whatever their places."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    maps = (rng.random((256, 4, 4, 2)) < rng.random((256, 1, 1, 2))).astype("float32")
    counts = maps.sum(axis=(1, 2))
    head = build_count_head((4, 4, 2), 2)
    head.compile(keras.optimizers.Adam(0.01), "mse")
    head.fit(maps, counts, epochs=80, verbose=0)
    fresh = (rng.random((64, 4, 4, 2)) < 0.5).astype("float32")
    assert np.abs(head.predict(fresh, verbose=0) - fresh.sum(axis=(1, 2))).mean() < 0.5


def test_a_larger_image_of_the_same_kind_has_more_cells():
    small, large = build_count_head((2, 2, 3), 1), build_count_head((4, 4, 3), 1)
    assert small.count_params() == large.count_params()
    large.set_weights(small.get_weights())
    maps = np.random.default_rng(0).normal(size=(5, 2, 2, 3)).astype("float32")
    assert large.predict(np.tile(maps, (1, 2, 2, 1)), verbose=0) == pytest.approx(
        4 * small.predict(maps, verbose=0), rel=1e-4, abs=1e-4
    )


def test_refused():
    network = build_nodes_unet((32, 32, 3), 3, base_filters=2)
    with pytest.raises(UserError, match="got position4_3_act"):
        build_scale_features(network, ["position4_3_act"])
    inputs = keras.Input((6, 6, 1))
    x = keras.layers.Conv2D(1, 3, name="four")(inputs)
    model = keras.Model(inputs, keras.layers.Conv2D(1, 2, name="three")(x))
    with pytest.raises(UserError, match=r"multiples of the least, \(3, 3\); four has \(4, 4\)"):
        build_scale_features(model, ["four", "three"])

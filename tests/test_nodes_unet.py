"""The networks of chapter 3: sizes by hand, positions of the blocks, and the memory of their parameters."""

import keras
import numpy as np
import pytest

from bloodcells.errors import UserError
from bloodcells.models.nodes_unet import N_POSITIONS, blocks_of, build_nodes_unet
from bloodcells.models.ode_block import ODEBlock

NETWORKS = ["unet", "resnet", "nodes_unet", *(f"ode_unet{i}" for i in range(1, N_POSITIONS + 1))]


def build(network, size=32, base_filters=2, **arguments):
    return build_nodes_unet((size, size, 3), 3, base_filters=base_filters, **blocks_of(network), **arguments)


def by_hand(base_filters, *, residual=None, ode=None):
    """9 weights a pair of channels; after a convolution 4 values a channel to normalise with, or 1 bias."""
    widths = [base_filters * 2 ** min(p - 1, 9 - p) for p in range(1, 10)]
    total = 0
    for position, width in enumerate(widths, start=1):
        n_in = 3 if position == 1 else widths[position - 2]
        if position > 5:  # upsampled, beside what was kept
            n_in += width
        total += 9 * n_in * width + 4 * width + 9 * width * width + 4 * width
        total += 2 * (residual or {}).get(position, 0) * (9 * width * width + 4 * width)
        total += 2 * (ode or {}).get(position, 0) * (9 * (width + 1) * width + width)
    return total + (base_filters + 1) * 3


def test_sizes_at_full_width_by_hand():
    assert build("unet", base_filters=32).count_params() == by_hand(32)
    assert build("resnet", base_filters=32).count_params() == by_hand(32, residual={2: 3, 3: 4, 4: 6, 5: 3})
    assert build("nodes_unet", base_filters=32).count_params() == by_hand(32, ode={5: 3})
    for position in (1, 5, 9):
        size = build(f"ode_unet{position}", base_filters=32).count_params()
        assert size == by_hand(32, ode={position: 1})


@pytest.mark.parametrize("network", NETWORKS)
def test_probabilities_of_any_size(network):
    model = build(network, size=24)  # not divisible by 16
    found = model.predict(np.random.default_rng(0).integers(0, 256, (2, 24, 24, 3)), verbose=0)
    assert found.shape == (2, 24, 24, 3)
    assert found.sum(axis=-1) == pytest.approx(np.ones((2, 24, 24)), abs=1e-5)


def test_blocks_are_where_they_belong():
    for position in range(1, N_POSITIONS + 1):
        model = build(f"ode_unet{position}")
        (block,) = [layer for layer in model.layers if isinstance(layer, ODEBlock)]
        level = min(position - 1, 9 - position)
        assert block.output.shape == (None, 32 >> level, 32 >> level, 2 << level)
        assert block.tolerance == 1e-3
        assert block.name == f"position{position}_ode1"
    blocks = [layer for layer in build("nodes_unet").layers if isinstance(layer, ODEBlock)]
    assert [block.tolerance for block in blocks] == [1e-6, 1e-4, 1e-4]
    assert {block.output.shape for block in blocks} == {(None, 2, 2, 32)}


def test_upsampling_is_bilinear_and_has_no_weights():
    upsamplings = [layer for layer in build("unet").layers if isinstance(layer, keras.layers.UpSampling2D)]
    assert [layer.interpolation for layer in upsamplings] == ["bilinear"] * 4


@pytest.mark.parametrize("network", ["unet", "resnet", "nodes_unet", "ode_unet9"])
def test_all_of_it_learns(network):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    model = build(network)
    before = [weight.numpy().copy() for weight in model.trainable_weights]
    model.compile("adam", "sparse_categorical_crossentropy")
    images, classes = rng.integers(0, 256, (4, 32, 32, 3)), rng.integers(0, 3, (4, 32, 32))
    losses = model.fit(images, classes, epochs=6, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    for old, new in zip(before, model.trainable_weights, strict=True):
        assert (old != new.numpy()).any(), new.path


@pytest.mark.parametrize(
    "network", ["ode_unet0", "ode_unet10", "node", "unet1", "unet_1e-3", "ode_unet5_0.1"]
)
def test_unknown_networks_are_refused(network):
    with pytest.raises(UserError, match="nodes_unet"):
        blocks_of(network)


def test_a_name_may_end_in_a_tolerance():
    assert blocks_of("ode_unet9_1e-1") == {"tolerances": {9: (0.1,)}}
    model = build("nodes_unet_1e-2")
    assert {layer.tolerance for layer in model.layers if isinstance(layer, ODEBlock)} == {0.01}
    assert model.count_params() == build("nodes_unet").count_params()


def test_unknown_positions_are_refused():
    with pytest.raises(UserError, match="1 to 9, got 0, 10"):
        build_nodes_unet((32, 32, 3), 3, tolerances={0: (1e-3,)}, residual_blocks={10: 1})
    with pytest.raises(UserError, match="at least 16"):
        build_nodes_unet((8, 32, 3), 3)

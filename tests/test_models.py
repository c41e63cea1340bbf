"""The networks: shapes, sizes worked out by hand, and the places of their parts."""

import itertools

import keras
import numpy as np
import pytest

from bloodcells.errors import UserError
from bloodcells.models.layers import activation, pad_to_multiple
from bloodcells.models.unet import build_unet
from bloodcells.models.wcsegnet import build_wcsegnet


def conv(n_in, n_out, size, *, bias):
    return n_in * n_out * size**2 + (n_out if bias else 0)


def conv_norm(n_in, n_out, size=3):
    """Count a convolution without bias, then four values a channel (scale, shift, mean, variance)."""
    return conv(n_in, n_out, size, bias=False) + 4 * n_out


def unet_size(base):
    filters = [base * 2**level for level in range(5)]
    total = conv_norm(3, base) + conv_norm(base, base)
    for below, above in zip(filters[1:], filters, strict=False):
        total += conv_norm(above, below) + conv_norm(below, below)  # down
        total += conv(below, above, 2, bias=True)  # up-convolution
        total += conv_norm(2 * above, above) + conv_norm(above, above)
    return total + conv(base, 4, 1, bias=True)


def wcsegnet_size(base):
    filters = [base * 2**level for level in range(5)]

    def block(n_in, n_out):
        shortcut = conv_norm(n_in, n_out, 1) if n_in != n_out else 0
        return conv_norm(n_in, n_out) + conv_norm(n_out, n_out) + shortcut

    total = block(3, base) + block(base, base)
    for below, above in zip(filters[1:], filters, strict=False):
        total += block(above, below) + block(below, below)
        total += block(above + below, above) + block(above, above)
    return total + conv_norm(base, base) + conv(base, 4, 1, bias=True)


@pytest.mark.parametrize("base", [2, 8])
def test_sizes_by_hand(base):
    assert build_unet((32, 32, 3), 4, base_filters=base).count_params() == unet_size(base)
    assert build_wcsegnet((32, 32, 3), 4, base_filters=base).count_params() == wcsegnet_size(base)


def test_the_plain_unet_has_the_size_of_ronneberger_2015():
    """Their network has 31.03 million weights with one input channel and two classes."""
    filters = [64, 128, 256, 512, 1024]
    model = build_unet((64, 64, 1), 2, batch_norm=False)
    expected = conv(1, 64, 3, bias=True) + conv(64, 64, 3, bias=True)
    for above, below in itertools.pairwise(filters):
        expected += conv(above, below, 3, bias=True) + conv(below, below, 3, bias=True)
        expected += conv(below, above, 2, bias=True)
        expected += conv(below, above, 3, bias=True) + conv(above, above, 3, bias=True)
    expected += conv(64, 2, 1, bias=True)
    assert model.count_params() == expected
    assert round(expected / 1e6, 2) == 31.03


@pytest.mark.parametrize("build", [build_unet, build_wcsegnet])
@pytest.mark.parametrize("shape", [(120, 120, 3), (33, 50, 3)])
def test_output_is_a_probability_as_large_as_the_input(build, shape):
    model = build(shape, 4, base_filters=2)
    images = np.random.default_rng(0).integers(0, 256, (2, *shape), dtype=np.uint8)
    probability = np.asarray(model(images))
    assert probability.shape == (2, *shape[:2], 4)
    assert probability.dtype == np.float32
    assert probability.min() >= 0
    np.testing.assert_allclose(probability.sum(axis=-1), 1, atol=1e-5)


def test_padding_is_half_on_each_side():
    padded, padding = pad_to_multiple(keras.Input((120, 33, 3)), 16)
    assert padding == ((4, 4), (7, 8))
    assert padded.shape == (None, 128, 48, 3)


def test_wcsegnet_has_the_parts_of_the_paper():
    model = build_wcsegnet((120, 120, 3), 4, base_filters=2, dropout=0.3)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds.count("Add") == 18  # ten blocks down to the bottom, eight up
    assert kinds.count("MaxPooling2D") == kinds.count("UpSampling2D") == kinds.count("Concatenate") == 4
    dropouts = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert [layer.name for layer in dropouts] == [
        "down3_dropout",
        "up2_dropout",
        "up1_dropout",
        "last_dropout",
    ]
    assert {layer.rate for layer in dropouts} == {0.3}


def test_filters_double_and_end_at_1024_at_the_papers_size():
    model = build_wcsegnet((32, 32, 3), 4)
    widths = [model.get_layer(f"down{level}b_add").output.shape[-1] for level in range(4)]
    assert [*widths, model.get_layer("bottomb_add").output.shape[-1]] == [64, 128, 256, 512, 1024]
    assert [model.get_layer(f"up{level}b_add").output.shape[-1] for level in (3, 2, 1, 0)] == [
        512,
        256,
        128,
        64,
    ]


def test_a_block_of_zero_weights_passes_its_input_on():
    """What makes it residual: y = act(x + 0), and x is non-negative after the activation before."""
    model = build_wcsegnet((16, 16, 3), 4, base_filters=2)
    for layer in model.layers:
        if layer.name.startswith("down0b") and layer.name.endswith("_conv"):
            layer.set_weights([np.zeros_like(w) for w in layer.get_weights()])
    inner = keras.Model(model.input, [model.get_layer(f"down0{b}_act").output for b in "ab"])
    before, after = (np.asarray(x) for x in inner(np.full((1, 16, 16, 3), 100, np.uint8)))
    np.testing.assert_allclose(after, np.where(before > 0, before, 0.1 * before), rtol=1e-6)


def test_leaky_relu_is_equation_1():
    x = np.array([[-2.0, -0.5, 0.0, 3.0]])
    np.testing.assert_allclose(np.asarray(activation("leaky_relu", "a")(x)), np.maximum(0.1 * x, x))
    np.testing.assert_allclose(np.asarray(activation("relu", "b")(x)), np.maximum(0, x))


def test_every_weight_learns():
    """A gradient reaches each weight: no part of the network hangs loose."""
    x = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")
    y = np.random.default_rng(1).integers(0, 4, (2, 32, 32))
    for build in (build_unet, build_wcsegnet):
        model = build((32, 32, 3), 4, base_filters=2)
        before = [w.numpy().copy() for w in model.trainable_variables]
        model.compile(optimizer=keras.optimizers.SGD(0.1), loss="sparse_categorical_crossentropy")
        model.train_on_batch(x, y)
        still = [
            w.path for w, b in zip(model.trainable_variables, before, strict=True) if (w.numpy() == b).all()
        ]
        assert still == []


def test_errors():
    with pytest.raises(UserError, match="'relu' or 'leaky_relu', got 'elu'"):
        build_unet((32, 32, 3), 4, activation_kind="elu")
    for build in (build_unet, build_wcsegnet):
        with pytest.raises(UserError, match=r"at least 16 rows and columns, got \(8, 32, 3\)"):
            build((8, 32, 3), 4)


def test_normalising_first_has_the_size_by_hand():
    """Four values a channel that comes in, then convolutions with a bias; one sigmoid at the end."""

    def norm_first(n_in, n_out):
        return 4 * n_in + conv(n_in, n_out, 3, bias=True)

    filters = [2, 4, 8]
    total = norm_first(3, 2) + norm_first(2, 2)
    for below, above in zip(filters[1:], filters, strict=False):
        total += norm_first(above, below) + norm_first(below, below)
        total += conv(below, above, 2, bias=True)
        total += norm_first(2 * above, above) + norm_first(above, above)
    total += conv(2, 1, 1, bias=True)
    model = build_unet((20, 28, 3), base_filters=2, n_levels=2, batch_norm="first", dropout=0.5)
    assert model.count_params() == total
    assert model.output_shape == (None, 20, 28, 1)
    order = [layer.name for layer in model.layers]
    assert order.index("down0_1_norm") + 1 == order.index("down0_1_conv")
    assert order.index("bottom_2_act") + 1 == order.index("bottom_dropout")


def test_heads_of_the_plain_unet_are_sigmoids():
    model = build_unet((16, 16, 3), heads=("nucleus", "cytoplasm"), base_filters=2)
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3))
    found = model.predict(images, verbose=0)
    assert found.shape == (2, 16, 16, 2)
    assert not np.allclose(found.sum(axis=-1), 1)

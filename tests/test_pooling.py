"""Max pooling with indices and its inverse, against slow loops and finite differences."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers, ops

from bloodcells.errors import UserError
from bloodcells.models.pooling import (
    MaxPoolingWithIndices,
    MaxUnpooling,
    max_pool_with_indices,
    max_unpool,
)


def pool_slowly(x):
    """Pool window by window; np.argmax gives the first of equal values, in row-major order."""
    n, rows, columns, channels = x.shape
    pooled = np.empty((n, rows // 2, columns // 2, channels), x.dtype)
    indices = np.empty(pooled.shape, np.uint8)
    for i, row, column, channel in np.ndindex(*pooled.shape):
        window = x[i, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2, channel].ravel()
        indices[i, row, column, channel] = window.argmax()
        pooled[i, row, column, channel] = window.max()
    return pooled, indices


def unpool_slowly(x, indices):
    n, rows, columns, channels = x.shape
    out = np.zeros((n, 2 * rows, 2 * columns, channels), x.dtype)
    for i, row, column, channel in np.ndindex(*x.shape):
        below, right = divmod(int(indices[i, row, column, channel]), 2)
        out[i, 2 * row + below, 2 * column + right, channel] = x[i, row, column, channel]
    return out


def pool(x):
    return tuple(map(ops.convert_to_numpy, max_pool_with_indices(ops.convert_to_tensor(x))))


def unpool(x, indices):
    return ops.convert_to_numpy(max_unpool(ops.convert_to_tensor(x), ops.convert_to_tensor(indices)))


@pytest.fixture
def image():
    return np.random.default_rng(0).normal(size=(2, 6, 10, 3)).astype("float32")


@pytest.fixture
def tied():
    """Small whole numbers: most windows hold their largest value more than once."""
    x = np.random.default_rng(1).integers(0, 2, (3, 8, 6, 5)).astype("float32")
    assert (pool_slowly(x)[0].sum() * 1.2) < x.sum()
    return x


def test_every_pattern_of_ties_remembers_the_first_place():
    """All 81 windows of the values -1, 0 and 1, each in an image of its own."""
    x = np.array(list(itertools.product([-1, 0, 1], repeat=4)), "float32").reshape(-1, 2, 2, 1)
    pooled, indices = pool(x)
    expected, places = pool_slowly(x)
    np.testing.assert_array_equal(pooled, expected)
    np.testing.assert_array_equal(indices, places)
    assert indices.dtype == np.uint8


@pytest.mark.parametrize("name", ["image", "tied"])
def test_both_ways_agree_with_slow_loops(name, request):
    x = request.getfixturevalue(name)
    pooled, indices = pool(x)
    expected, places = pool_slowly(x)
    np.testing.assert_array_equal(pooled, expected)
    np.testing.assert_array_equal(indices, places)
    np.testing.assert_array_equal(unpool(pooled, indices), unpool_slowly(expected, places))


@pytest.mark.parametrize("name", ["image", "tied"])
def test_pooling_the_unpooled_map_gives_the_values_and_places_back(name, request):
    pooled, indices = pool(request.getfixturevalue(name))
    positive = np.abs(pooled) + 1  # beside a negative value the zeros would be the largest
    again = pool(unpool(positive, indices))
    np.testing.assert_array_equal(again[0], positive)
    np.testing.assert_array_equal(again[1], indices)


def test_unpooling_fills_exactly_one_place_a_window_and_it_holds_the_maximum(tied):
    pooled, indices = pool(tied)
    marks = unpool(np.ones_like(pooled), indices)
    assert set(np.unique(marks)) == {0, 1}
    windows = marks.reshape(3, 4, 2, 3, 2, 5)
    np.testing.assert_array_equal(windows.sum(axis=(2, 4)), 1)
    held = (tied * marks).reshape(windows.shape).sum(axis=(2, 4))
    np.testing.assert_array_equal(held, pooled)


def test_a_window_with_a_value_that_is_no_number_still_has_one_place(image):
    image[0, :2, :2, 0] = np.nan
    _, indices = pool(image)
    marks = unpool(np.ones(indices.shape, "float32"), indices)
    np.testing.assert_array_equal(marks.reshape(2, 3, 2, 5, 2, 3).sum(axis=(2, 4)), 1)


def test_values_are_those_of_keras_max_pooling(image):
    np.testing.assert_array_equal(pool(image)[0], ops.convert_to_numpy(layers.MaxPooling2D(2)(image)))


class Start(layers.Layer):
    """Adds a weight of the shape of the input, so that a training step has a gradient for every pixel."""

    def build(self, shape):
        self.offset = self.add_weight(shape=shape[1:], initializer="zeros", name="offset")

    def call(self, x):
        return x + self.offset


def test_gradient_against_finite_differences():
    """Of a weighted sum of unpool(pool(x) ** 2): one step of plain descent moves x by minus the gradient."""
    rng = np.random.default_rng(2)
    # Values 0.1 apart, so that steps of 0.01 change no maximum.
    x = (rng.permutation(48).astype("float32") / 10).reshape(1, 4, 6, 2)
    weights = rng.normal(size=x.shape).astype("float32")

    def loss_of(x):
        pooled, indices = pool_slowly(x)
        return float((unpool_slowly(pooled**2, indices) * weights).sum())

    inputs = keras.Input((4, 6, 2))
    pooled, indices = MaxPoolingWithIndices()(Start(name="start")(inputs))
    outputs = MaxUnpooling()(pooled * pooled, indices)
    model = keras.Model(inputs, outputs)
    model.compile(optimizer=keras.optimizers.SGD(1.0), loss=lambda true, pred: ops.sum(true * pred))
    model.train_on_batch(x, weights)
    gradient = -ops.convert_to_numpy(model.get_layer("start").offset)

    expected = np.zeros(x.shape[1:])
    for place in np.ndindex(*expected.shape):
        step = np.zeros(x.shape)
        step[(0, *place)] = 0.01
        expected[place] = (loss_of(x + step) - loss_of(x - step)) / 0.02
    assert np.count_nonzero(expected) == 12  # one a window
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4)


def test_layers_survive_saving(tmp_path, image):
    inputs = keras.Input((6, 10, 3))
    pooled, indices = MaxPoolingWithIndices(name="pool")(inputs)
    model = keras.Model(inputs, MaxUnpooling(name="unpool")(pooled, indices))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(ops.convert_to_numpy(loaded(image)), unpool_slowly(*pool_slowly(image)))


def test_half_precision_stays_half_and_unpools_alike(image):
    half = ops.cast(image, "bfloat16")
    pooled, indices = max_pool_with_indices(half)
    out = max_unpool(pooled, indices)
    assert keras.backend.standardize_dtype(out.dtype) == "bfloat16"
    rounded = ops.convert_to_numpy(ops.cast(half, "float32"))
    np.testing.assert_array_equal(
        ops.convert_to_numpy(ops.cast(out, "float32")), unpool_slowly(*pool_slowly(rounded))
    )


@pytest.mark.parametrize("shape", [(5, 8, 3), (8, 5, 3)])
def test_odd_sizes_are_refused(shape):
    message = f"even number of rows and columns, got {shape[0]} and {shape[1]}; pad or resize"
    with pytest.raises(UserError, match=message):
        max_pool_with_indices(np.zeros((1, *shape), "float32"))
    with pytest.raises(UserError, match=message):
        MaxPoolingWithIndices()(keras.Input(shape))


def test_sizes_must_be_known_and_agree():
    with pytest.raises(UserError, match=r"number of rows and columns, got \w+ and 8"):
        MaxPoolingWithIndices()(keras.Input((None, 8, 3)))
    with pytest.raises(UserError, match=r"got \(3, 4, 2\) and \(4, 3, 2\)"):
        max_unpool(np.zeros((1, 3, 4, 2), "float32"), np.zeros((1, 4, 3, 2), "uint8"))

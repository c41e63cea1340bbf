"""Median frequency balancing and the weighted cross-entropy."""

import keras
import numpy as np
import pytest
from keras import ops

from bloodcells.class_metrics import UNLABELLED
from bloodcells.class_weights import WeightedCrossEntropy, median_frequency_weights
from bloodcells.errors import UserError


def test_frequency_is_taken_over_images_with_the_class():
    # Class 1 fills half of one image and is not in the other: its frequency is 1/2, not 1/4. Class 0 has 1/2
    # and all of the other image, 6 of 8 pixels. The median of (3/4, 1/2) is 5/8.
    labels = np.array([[[0, 0], [1, 1]], [[0, 0], [0, 0]]], np.uint8)
    assert median_frequency_weights(labels, 2) == pytest.approx([5 / 6, 5 / 4])


def test_unlabelled_pixels_have_no_part_in_it():
    labels = np.array([[[0, 1, 1, 2]]], np.uint8)
    padded = np.full((1, 5, 4), UNLABELLED, np.uint8)
    padded[:, :1] = labels
    assert median_frequency_weights(padded, 3) == pytest.approx(median_frequency_weights(labels, 3))


def test_equal_classes_weigh_one():
    labels = np.arange(12, dtype=np.uint8).reshape(1, 3, 4) % 3
    assert median_frequency_weights(labels, 3) == pytest.approx([1, 1, 1])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((1, 2, 2), np.uint8), "none of class 1"),
        (np.full((1, 2, 2), 7, np.uint8), "classes 0 to 1 and 255"),
        (np.zeros((2, 2), np.uint8), r"shape \(N, rows, columns\).* got uint8 of shape \(2, 2\)"),
        (np.zeros((1, 2, 2), np.int64), "got int64"),
    ],
)
def test_labels_that_give_no_weights(labels, message):
    with pytest.raises(UserError, match=message):
        median_frequency_weights(labels, 2)


def random_case(rng):
    true = rng.integers(0, 3, (2, 4, 5)).astype(np.uint8)
    true[0, 0] = UNLABELLED
    pred = rng.uniform(0.1, 1, (2, 4, 5, 3)).astype("float32")
    return true, pred / pred.sum(axis=-1, keepdims=True)


def test_by_hand():
    # Two labelled pixels: -2 log 0.5 for class 0, -3 log 0.25 for class 1; the unlabelled one doesn't divide.
    true = np.array([[[0, 1, UNLABELLED]]], np.uint8)
    pred = np.array([[[[0.5, 0.5], [0.75, 0.25], [0.1, 0.9]]]], "float32")
    expected = (2 * np.log(2) + 3 * np.log(4)) / 2
    assert float(WeightedCrossEntropy((2, 3))(true, pred)) == pytest.approx(expected, rel=1e-6)


def test_equal_weights_are_the_plain_cross_entropy():
    true, pred = random_case(np.random.default_rng(0))
    true[true == UNLABELLED] = 1
    plain = keras.losses.SparseCategoricalCrossentropy()(true, pred)
    assert float(WeightedCrossEntropy((1, 1, 1))(true, pred)) == pytest.approx(float(plain), rel=1e-5)


def test_unlabelled_pixels_do_not_matter():
    rng = np.random.default_rng(1)
    true, pred = random_case(rng)
    changed = np.where((true == UNLABELLED)[..., np.newaxis], pred[..., ::-1], pred)
    assert not np.array_equal(pred, changed)
    loss = WeightedCrossEntropy((1, 2, 3))
    assert float(loss(true, changed)) == float(loss(true, pred))


def test_an_image_without_labels_costs_nothing():
    true = np.full((1, 2, 2), UNLABELLED, np.uint8)
    assert float(WeightedCrossEntropy((1, 2))(true, np.full((1, 2, 2, 2), 0.5, "float32"))) == 0


def test_certain_mistakes_are_finite():
    true, pred = np.zeros((1, 1, 1), np.uint8), np.array([[[[0.0, 1.0]]]], "float32")
    assert float(WeightedCrossEntropy((1, 1))(true, pred)) == pytest.approx(-np.log(1e-7), rel=1e-5)


def test_weights_must_fit():
    with pytest.raises(UserError, match="2 classes but there are 3"):
        WeightedCrossEntropy((1, 1, 1))(np.zeros((1, 2, 2), np.uint8), ops.zeros((1, 2, 2, 2)))
    for weights in ((1, 0), ()):
        with pytest.raises(UserError, match="above 0"):
            WeightedCrossEntropy(weights)


def test_configuration_survives_saving():
    loss = keras.losses.deserialize(keras.losses.serialize(WeightedCrossEntropy((1.0, 4.0))))
    assert loss.class_weights == (1.0, 4.0)

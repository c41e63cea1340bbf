import keras
import numpy as np
import pytest
from keras import ops

from bloodcells.errors import UserError
from bloodcells.losses import CrossEntropyDice, SoftDice


def test_value_by_hand():
    # One image of 1 x 2 pixels and one output: truth 1 and 0, probability 0.8 and 0.4. With a weight of 3:
    # cross-entropy (3 * -ln 0.8 - ln 0.6) / 2; Dice (2 * 0.8 + 1) / (1 + 1.2 + 1).
    true, pred = np.array([[[[1.0], [0.0]]]]), np.array([[[[0.8], [0.4]]]], "float32")
    expected = (-3 * np.log(0.8) - np.log(0.6)) / 2 + 1 - 2.6 / 3.2
    assert float(CrossEntropyDice((3.0,))(true, pred)) == pytest.approx(expected, rel=1e-5)


def test_outputs_count_alike():
    rng = np.random.default_rng(0)
    true = (rng.random((2, 4, 5, 2)) > 0.5).astype("float32")
    pred = rng.uniform(0.1, 0.9, true.shape).astype("float32")
    parts = [float(CrossEntropyDice((w,))(true[..., [k]], pred[..., [k]])) for k, w in enumerate((1.0, 4.0))]
    assert float(CrossEntropyDice((1.0, 4.0))(true, pred)) == pytest.approx(np.mean(parts), rel=1e-5)


def test_perfect_and_empty():
    empty = np.zeros((1, 3, 3, 1), "float32")
    assert float(CrossEntropyDice()(empty, empty)) == pytest.approx(0, abs=1e-4)
    assert float(CrossEntropyDice()(empty + 1, empty + 1)) == pytest.approx(0, abs=1e-4)
    # All wrong: no overlap, so the Dice term is 1 - 1 / (9 + 1), and the clipped logarithm of 1e-6.
    assert float(CrossEntropyDice()(empty + 1, empty)) == pytest.approx(-np.log(1e-6) + 0.9, rel=1e-4)


def test_moving_along_the_gradient_lowers_the_loss():
    rng = np.random.default_rng(1)
    true = (rng.random((2, 3, 4, 2)) > 0.7).astype("float32")
    pred = rng.uniform(0.2, 0.8, true.shape).astype("float32")
    loss = CrossEntropyDice((1.0, 4.0))
    slopes = np.empty_like(pred)
    for index in np.ndindex(pred.shape):
        step = np.zeros_like(pred)
        step[index] = 1e-2
        slopes[index] = (float(loss(true, pred + step)) - float(loss(true, pred - step))) / 2e-2
    # More probability where there is foreground, less where there is none.
    assert (slopes[true == 1] < 0).all()
    assert (slopes[true == 0] > 0).all()


def test_number_of_outputs_must_fit():
    with pytest.raises(UserError, match="2 outputs but there are 1"):
        CrossEntropyDice()(np.zeros((1, 2, 2, 2)), ops.zeros((1, 2, 2, 2)))
    with pytest.raises(UserError, match="above 0"):
        CrossEntropyDice((1, 0))


def test_configuration_survives_saving():
    loss = keras.losses.deserialize(keras.losses.serialize(CrossEntropyDice((1.0, 4.0))))
    assert loss.positive_weights == (1.0, 4.0)


def test_soft_dice_by_hand():
    # Two images of 1 x 2 pixels: truth 1, 0 and 1, 1; probability 0.5, 0.25 and 1, 0. Overlap 1.5, sums 3 and
    # 1.75: 1 - (3 + 1) / (4.75 + 1), for each of the two.
    true = np.array([[[1, 0]], [[1, 1]]], np.uint8)
    pred = ops.convert_to_tensor(np.array([[[0.5, 0.25]], [[1.0, 0.0]]], "float32")[..., np.newaxis])
    expected = 1 - 4 / 5.75
    assert float(SoftDice()(true, pred)) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(SoftDice().call(true, pred), [expected] * 2, rtol=1e-5)


def test_soft_dice_of_nothing_and_of_all():
    none = np.zeros((2, 3, 3), np.uint8)
    maps = ops.zeros((2, 3, 3, 1))
    assert float(SoftDice()(none, maps)) == 0
    assert float(SoftDice()(none + 1, maps + 1)) == pytest.approx(0, abs=1e-6)
    assert float(SoftDice()(none + 1, maps)) == pytest.approx(1 - 1 / 19, rel=1e-5)


def test_soft_dice_refuses_other_shapes_and_survives_saving():
    with pytest.raises(UserError, match=r"got \(1, 2, 2\) and \(1, 2, 2, 2\)"):
        SoftDice().call(np.zeros((1, 2, 2)), ops.zeros((1, 2, 2, 2)))
    assert isinstance(keras.losses.deserialize(keras.losses.serialize(SoftDice())), SoftDice)

import keras
import numpy as np
import pytest

from bloodcells import inference
from bloodcells.errors import UserError
from bloodcells.models.unet import build_unet

TYPES = ["x", "y"]


def test_the_majority_of_pixels_names_the_cell():
    assert inference.name_cell(np.array([[0, 0, 1], [2, 2, 0]]), TYPES) == "y"
    assert inference.name_cell(np.array([[1, 2]]), TYPES) == "x"  # a tie
    assert inference.name_cell(np.zeros((2, 2), int), TYPES) == ""


def test_name_cell_refuses_probabilities_and_unknown_classes():
    with pytest.raises(UserError, match="2-D integer"):
        inference.name_cell(np.zeros((2, 2)), TYPES)
    with pytest.raises(UserError, match="0 to 2, got 3"):
        inference.name_cell(np.array([[3]]), TYPES)


def test_batches_do_not_change_the_prediction():
    keras.utils.set_random_seed(0)
    model = build_unet((16, 16, 3), 3, base_filters=2)
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    together = inference.predict_probability(model, images)
    single = np.concatenate([inference.predict_probability(model, images[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(together, single, atol=1e-6)
    np.testing.assert_allclose(together.sum(axis=-1), 1, atol=1e-6)


def test_images_of_another_size_are_refused():
    model = build_unet((16, 16, 3), 3, base_filters=2)
    with pytest.raises(UserError, match=r"\(N, 16, 16, 3\), got uint8 of shape \(1, 32, 32, 3\)"):
        inference.predict_probability(model, np.zeros((1, 32, 32, 3), np.uint8))
    with pytest.raises(UserError, match="got float64"):
        inference.predict_probability(model, np.zeros((1, 16, 16, 3)))

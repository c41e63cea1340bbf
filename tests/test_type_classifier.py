"""An encoder that has learned types of cells, and then serves in a U-Net."""

import keras
import numpy as np
import pytest

from bloodcells import training
from bloodcells.augment import AffineRanges
from bloodcells.errors import UserError
from bloodcells.label_batches import LabelledBatches
from bloodcells.models.backbones import build_backbone_unet
from bloodcells.models.type_classifier import build_type_classifier, encoder_weights


def coloured(n, seed):
    """Images whose colour tells their class."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 2, n)
    images = rng.integers(0, 60, (n, 32, 32, 3)).astype(np.uint8)
    images[np.arange(n), :, :, 2 * classes] += 120
    return images, classes


def test_an_encoder_learns_types_and_its_weights_go_into_a_unet():
    keras.utils.set_random_seed(0)
    model = build_type_classifier("resnet18", (32, 32, 3), 2)
    before = encoder_weights(model)
    batches = LabelledBatches(
        *coloured(16, 0), ranges=AffineRanges(), batch_size=8, steps_per_epoch=10, seed=0
    )
    training.train(
        model,
        batches,
        coloured(8, 1),
        epochs=3,
        optimizer=keras.optimizers.Adam(1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(),
        seed=0,
        progress=False,
    )
    images, classes = coloured(20, 2)
    found = model.predict(images, verbose=0)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    assert (found.argmax(axis=1) == classes).mean() >= 0.9

    learned = encoder_weights(model)
    assert any(not np.array_equal(a, b) for a, b in zip(before, learned, strict=True))
    unet = build_backbone_unet("resnet18", (32, 32, 3), encoder_weights=learned)
    arrived = {weight.tobytes() for weight in unet.get_weights()}
    assert all(weight.tobytes() in arrived for weight in learned)


def test_one_type_is_refused():
    with pytest.raises(UserError, match="`n_types` must be at least 2, got 1"):
        build_type_classifier("resnet18", (32, 32, 3), 1)

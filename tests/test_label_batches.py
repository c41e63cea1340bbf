"""Images go with their own classes, whatever the distortion."""

import numpy as np
import pytest

from bloodcells.augment import AffineRanges
from bloodcells.errors import UserError
from bloodcells.label_batches import LabelledBatches

# The brightness of an image tells its class.
IMAGES = np.stack([np.full((8, 8, 3), 20 * (i + 1), np.uint8) for i in range(6)])
OPTIONS = {"ranges": AffineRanges(flip_columns=True), "batch_size": 4, "steps_per_epoch": 3, "seed": 0}


def test_every_image_keeps_its_class():
    batches = LabelledBatches(IMAGES, np.arange(6), **OPTIONS)
    seen = []
    for epoch in range(2):
        batches.epoch = epoch
        for step in range(len(batches)):
            images, classes = batches[step]
            np.testing.assert_array_equal(images[:, 0, 0, 0], 20 * (classes + 1))
            seen.extend(classes)
    assert np.bincount(seen).tolist() == [4] * 6  # 2 epochs of 3 batches of 4 of 6 images


def test_the_classes_are_part_of_the_fingerprint():
    one, other = (LabelledBatches(IMAGES, order, **OPTIONS) for order in (np.arange(6), np.arange(6)[::-1]))
    assert one.fingerprint() != other.fingerprint()
    assert one.fingerprint() == LabelledBatches(IMAGES, np.arange(6), **OPTIONS).fingerprint()


@pytest.mark.parametrize("classes", [np.arange(5), np.zeros(6), np.arange(6) - 1, np.zeros((6, 1), int)])
def test_other_classes_are_refused(classes):
    with pytest.raises(UserError, match="`classes` must be 6 whole numbers"):
        LabelledBatches(IMAGES, classes, **OPTIONS)

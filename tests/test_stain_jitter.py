import numpy as np
import pytest

from bloodcells.augment import AffineRanges
from bloodcells.errors import UserError
from bloodcells.stain_jitter import StainedBatches, jitter_stains
from bloodcells.synthetic import draw_cell
from bloodcells.training import AugmentedBatches


@pytest.fixture(scope="module")
def cell():
    return draw_cell("neutrophil", rng=np.random.default_rng(0))


def batches(cell, *, strength=0.3, seed=0, cls=StainedBatches):
    options = {"strength": strength} if cls is StainedBatches else {}
    return cls(
        cell.image[np.newaxis],
        cell.nucleus[np.newaxis].astype(np.uint8),
        ranges=AffineRanges(rotation_degrees=20),
        batch_size=2,
        steps_per_epoch=3,
        seed=seed,
        **options,
    )


@pytest.mark.parametrize("strength", [-0.1, 1.0])
def test_a_strength_out_of_range_is_refused_before_training(cell, strength):
    with pytest.raises(UserError, match="at least 0 and below 1"):
        batches(cell, strength=strength)


def test_no_strength_keeps_the_colours(cell):
    same = jitter_stains(cell.image, np.random.default_rng(0), strength=0.0)
    # What the dyes can't mix is cut, which few pixels feel.
    assert np.abs(same.astype(int) - cell.image).mean() < 1


def test_more_dye_makes_darker_and_less_makes_lighter(cell):
    class Draws:
        def __init__(self, value):
            self.value = value

        def uniform(self, low, high, n):
            return np.array([high * self.value] * n)

    darker, lighter = (jitter_stains(cell.image, Draws(value), strength=0.3) for value in (1, -1))
    assert darker.mean() < cell.image.mean() < lighter.mean()


def test_dark_and_light_pixels_keep_their_places(cell):
    jittered = jitter_stains(cell.image, np.random.default_rng(1), strength=0.3)
    grey, other = (image.astype(float).mean(axis=-1).ravel() for image in (cell.image, jittered))
    assert np.corrcoef(grey, other)[0, 1] > 0.9
    assert np.abs(jittered.astype(int) - cell.image).mean() > 2


def test_batches_change_colours_only(cell):
    stained, plain = batches(cell), batches(cell, cls=AugmentedBatches)
    images, masks = stained[1]
    plain_images, plain_masks = plain[1]
    np.testing.assert_array_equal(masks, plain_masks)
    assert images.shape == plain_images.shape
    assert images.dtype == np.uint8
    assert (images != plain_images).any(axis=(1, 2, 3)).all()


def test_batches_follow_from_seed_epoch_and_step(cell):
    one, other = batches(cell), batches(cell)
    other.epoch = one.epoch = 4
    np.testing.assert_array_equal(one[2][0], other[2][0])
    other.epoch = 5
    assert (one[2][0] != other[2][0]).any()


def test_fingerprint_knows_the_strength(cell):
    assert batches(cell).fingerprint() == batches(cell).fingerprint()
    assert batches(cell).fingerprint() != batches(cell, strength=0.2).fingerprint()
    assert batches(cell).fingerprint() != batches(cell, cls=AugmentedBatches).fingerprint()


@pytest.mark.parametrize("strength", [-0.1, 1.0, float("nan")])
def test_impossible_strength_is_refused(cell, strength):
    with pytest.raises(UserError, match="`strength` must be at least 0 and below 1"):
        jitter_stains(cell.image, np.random.default_rng(0), strength=strength)

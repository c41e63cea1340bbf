import dataclasses

import numpy as np
import pytest

from bloodcells.errors import UserError
from bloodcells.tile_batches import TileBatches, TileRanges, draw_tile

STILL = TileRanges(
    (1, 1), (1, 1), rotation=False, luminosity=0, saturation=0, stain=0, blur=0, noise=0, compression=0
)


def scene(seed=0, shape=(90, 110)):
    """Draw a field whose first channel is 255 on the target's first layer and 100 elsewhere."""
    rng = np.random.default_rng(seed)
    target = np.zeros((*shape, 2), np.uint8)
    for row, column in rng.integers(10, 80, (12, 2)):
        target[row - 6 : row + 6, column - 6 : column + 6, 0] = 1
    target[..., 1] = target[..., 0]
    image = np.full((*shape, 3), 100, np.uint8)
    image[target[..., 0] > 0] = 255
    return image, target


def batches(**changes):
    image, target = scene()
    arguments = {
        "output_size": 20,
        "margin": 6,
        "ranges": TileRanges(),
        "batch_size": 3,
        "steps_per_epoch": 2,
        "seed": 0,
    }
    return TileBatches([image], [target], **(arguments | changes))


@pytest.mark.parametrize("ranges", [STILL, dataclasses.replace(STILL, scale=(2.0, 2.0), rotation=True)])
def test_target_lies_under_the_middle_of_the_image(ranges):
    image, target = scene()
    for seed in range(20):
        tile, truth = draw_tile(
            [image], [target], output_size=24, margin=8, ranges=ranges, rng=np.random.default_rng(seed)
        )
        assert tile.shape == (40, 40, 3)
        assert truth.shape == (24, 24, 2)
        middle = tile[8:-8, 8:-8, 0]
        is_inside = truth[..., 0] > 0
        # Interpolated pixels along borders may fall on either side of one half.
        assert (middle[is_inside] > 150).all()
        assert (middle[~is_inside] <= 190).all()
        assert set(np.unique(truth)) <= {0, 1}


def test_without_colour_changes_grey_stays_grey():
    image, target = scene()
    for seed in range(10):
        tile, _ = draw_tile(
            [image[..., :1].repeat(3, axis=2)],
            [target],
            output_size=24,
            margin=8,
            ranges=dataclasses.replace(TileRanges(), stain=0, noise=0, compression=0),
            rng=np.random.default_rng(seed),
        )
        assert np.ptp(tile.astype(int), axis=-1).max() <= 1  # saturation of grey is nothing; rounding


def test_outside_of_the_field_lie_zeros():
    image, target = scene(shape=(30, 30))
    tile, truth = draw_tile(
        [image], [target], output_size=60, margin=30, ranges=STILL, rng=np.random.default_rng(0)
    )
    assert (tile[0] == 0).all()
    assert truth[..., 0].sum() <= target[..., 0].sum() * 1.2


def test_tiles_without_a_cell_are_avoided():
    image = np.full((400, 400, 3), 200, np.uint8)
    target = np.zeros((400, 400, 1), np.uint8)
    target[150:250, 150:250] = 1  # about a tenth of all places show it
    drawn = [
        draw_tile([image], [target], output_size=40, margin=0, ranges=STILL, rng=np.random.default_rng(seed))[
            1
        ].any()
        for seed in range(100)
    ]
    # Eight attempts miss with a probability of about 0.9 ** 8 = 0.4; one would with 0.9.
    assert np.mean(drawn) > 0.4


def test_same_seed_epoch_and_step_give_the_same_batch():
    one, other = batches(), batches()
    np.testing.assert_array_equal(one[1][0], other[1][0])
    other.epoch = 1
    assert (one[1][0] != other[1][0]).any()
    assert (one[0][0] != one[1][0]).any()
    assert (batches(seed=1)[0][0] != one[0][0]).any()


def test_shapes_and_length():
    images, targets = batches()[0]
    assert images.shape == (3, 32, 32, 3)
    assert targets.shape == (3, 20, 20, 2)
    assert images.dtype == targets.dtype == np.uint8
    assert len(batches()) == 2


def test_fingerprint_follows_everything_that_decides_the_batches():
    prints = {batches().fingerprint(), batches().fingerprint()}
    assert len(prints) == 1
    for changes in ({"seed": 1}, {"margin": 5}, {"ranges": STILL}, {"output_size": 21}):
        prints.add(batches(**changes).fingerprint())
    assert len(prints) == 5


def test_wrong_arguments():
    image, target = scene()
    with pytest.raises(UserError, match="lists of one length"):
        TileBatches(
            [image],
            [],
            **{
                "output_size": 9,
                "margin": 1,
                "ranges": STILL,
                "batch_size": 1,
                "steps_per_epoch": 1,
                "seed": 0,
            },
        )
    with pytest.raises(UserError, match="at least 1"):
        batches(batch_size=0)
    with pytest.raises(UserError, match=r"\(90, 110, K\), got uint8 of shape \(90, 110\)"):
        TileBatches(
            [image],
            [target[..., 0]],
            output_size=9,
            margin=1,
            ranges=STILL,
            batch_size=1,
            steps_per_epoch=1,
            seed=0,
        )

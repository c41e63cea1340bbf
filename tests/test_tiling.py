import numpy as np
import pytest

from bloodcells.errors import UserError
from bloodcells.fields import list_fields
from bloodcells.tiling import (
    choose_output_size,
    count_released_tiles,
    cut_tile,
    predict_tiled,
    tile_corners,
)

MARGIN = 4


def crop(tiles):
    """Give back the middle of a tile, as an identity network with unpadded convolutions does."""
    return tiles[:, MARGIN:-MARGIN, MARGIN:-MARGIN].astype(np.float32)


@pytest.mark.parametrize("shape", [(1, 1), (7, 30), (24, 24), (25, 23), (61, 13)])
@pytest.mark.parametrize("mode", ["constant", "symmetric"])
def test_identity_network_gives_back_the_image(shape, mode):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    for output_size in (12, (5, 40)):
        result = predict_tiled(
            crop, image, output_size=output_size, margin=MARGIN, padding_mode=mode, batch_size=3
        )
        np.testing.assert_array_equal(result, image)


def test_every_pixel_is_predicted_once():
    covered = np.zeros((61, 47), int)
    for row, column in tile_corners(covered.shape, (20, 15)):
        covered[row : row + 20, column : column + 15] += 1
    assert (covered == 1).all()


@pytest.mark.parametrize("mode", ["constant", "symmetric"])
def test_context_is_what_padding_the_whole_image_gives(mode):
    image = np.random.default_rng(1).integers(0, 256, (30, 20, 3), dtype=np.uint8)
    padded = np.pad(image, ((9, 9), (9, 9), (0, 0)), mode=mode)
    for row, column in tile_corners(image.shape, 10):
        tile = cut_tile(image, (row, column), 10, 9, padding_mode=mode)
        np.testing.assert_array_equal(tile, padded[row : row + 28, column : column + 28])


def test_a_neighbourhood_mean_does_not_show_the_tiles():
    image = np.random.default_rng(2).integers(0, 256, (40, 33, 1)).astype(np.float32)

    def mean(tiles):  # of 9 x 9 pixels, as far as the context reaches
        windows = np.lib.stride_tricks.sliding_window_view(tiles, (9, 9), axis=(1, 2))
        return windows.mean(axis=(-1, -2))

    in_tiles = predict_tiled(mean, image, output_size=10, margin=MARGIN)
    at_once = predict_tiled(mean, image, output_size=(40, 33), margin=MARGIN)
    np.testing.assert_allclose(in_tiles, at_once, rtol=1e-5)


def test_table_1_of_the_paper():
    # gharbi2023, Table I: tiles of the training and test images. It prints 31 platelet test images; 30 fields
    # of the published split give its number of tiles.
    size = {1: (1368, 1712), 2: (1944, 2592), 3: (652, 1226)}

    def n_tiles(cell, part):
        total = 0
        for image_id in list_fields("all-idb1", cell, part):
            number = int(image_id[2:5])
            total += count_released_tiles(size[3 if number == 37 else 1 if number <= 33 else 2])
        return total

    assert (n_tiles("rbc", "train"), n_tiles("rbc", "test")) == (3916, 1072)
    assert (n_tiles("wbc", "train"), n_tiles("wbc", "test")) == (28126, 15892)
    assert (n_tiles("plt", "train"), n_tiles("plt", "test")) == (27650, 14410)


@pytest.mark.parametrize("shape", [(972, 1296), (40, 5000), (324, 325), (1, 1)])
def test_chosen_tiles_cover_with_little_to_spare(shape):
    for length, size in zip(shape, choose_output_size(shape, target=388), strict=True):
        assert size % 8 == 4
        assert 12 <= size < 388 + 8
        n_tiles = -(-length // size)
        assert n_tiles == -(-length // 388)
        assert size * n_tiles - length < max(8 * n_tiles, 12)


def test_wrong_sizes_are_named():
    image = np.zeros((10, 10, 3), np.uint8)
    with pytest.raises(UserError, match=r"must give shape \(1, 8, 8, K\), got \(1, 12, 12, 3\)"):
        predict_tiled(crop, image, output_size=8, margin=6, batch_size=1)
    with pytest.raises(UserError, match="at least 1"):
        predict_tiled(crop, image, output_size=0, margin=4)
    with pytest.raises(UserError, match="not empty"):
        predict_tiled(crop, image[:0], output_size=8, margin=4)
    with pytest.raises(UserError, match="constant, symmetric"):
        predict_tiled(crop, image, output_size=8, margin=4, padding_mode="edge")

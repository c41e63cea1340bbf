import numpy as np
import pytest

from bloodcells.augment import AffineRanges, apply_affine, random_affine
from bloodcells.errors import UserError

IDENTITY = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


@pytest.fixture
def cell():
    """Draw a bright square in rows 4 to 7 and columns 10 to 12 in a 16 x 20 image."""
    mask = np.zeros((16, 20), dtype=np.uint8)
    mask[4:8, 10:13] = 3
    return np.dstack([mask * 60] * 3), mask


def test_identity_changes_nothing(cell):
    image, mask = apply_affine(*cell, IDENTITY)
    np.testing.assert_array_equal(image, cell[0])
    np.testing.assert_array_equal(mask, cell[1])


def test_a_shift_moves_rows_and_columns_by_their_own_amounts(cell):
    matrix = np.array([[1.0, 0.0, 5.0], [0.0, 1.0, -2.0]])  # 5 rows down, 2 columns left
    image, mask = apply_affine(*cell, matrix)
    expected = np.zeros_like(mask)
    expected[9:13, 8:11] = 3
    np.testing.assert_array_equal(mask, expected)
    np.testing.assert_array_equal(image[..., 0], expected * 60)


def test_what_comes_in_repeats_the_edge():
    mask = np.array([[1, 0, 0], [2, 0, 0]], dtype=np.uint8)
    _, shifted = apply_affine(np.dstack([mask] * 3), mask, np.array([[1.0, 0, 0], [0, 1.0, 1.0]]))
    np.testing.assert_array_equal(shifted, [[1, 1, 0], [2, 2, 0]])


def test_no_ranges_give_the_identity():
    matrix = random_affine(AffineRanges(), (16, 20), np.random.default_rng(0))
    np.testing.assert_allclose(matrix, IDENTITY, atol=1e-12)


def test_mirroring_is_about_the_centre_and_happens_to_half(cell):
    ranges = AffineRanges(flip_columns=True)
    mirrored = 0
    for seed in range(200):
        _, mask = apply_affine(*cell, random_affine(ranges, (16, 20), np.random.default_rng(seed)))
        if (mask == cell[1][:, ::-1]).all():
            mirrored += 1
        else:
            np.testing.assert_array_equal(mask, cell[1])
    assert 70 < mirrored < 130  # 4 standard deviations of a fair coin


def test_every_range_is_respected_and_used():
    """Recover angle, scales and shift from the matrix by its polar parts."""
    ranges = AffineRanges(rotation_degrees=40, shift_rows=0.2, shift_columns=0.1, zoom=0.2)
    centre = np.array([49.5, 99.5])
    found = []
    for seed in range(300):
        matrix = random_affine(ranges, (100, 200), np.random.default_rng(seed))
        linear = matrix[:, :2]
        angle = np.rad2deg(np.arctan2(linear[1, 0], linear[0, 0]))
        zoom = np.linalg.norm(linear, axis=0)
        shift = linear @ centre + matrix[:, 2] - centre
        found.append([angle, *zoom, *shift])
    found = np.array(found)
    low, high = found.min(axis=0), found.max(axis=0)
    np.testing.assert_array_less([-40.001, 0.8 - 1e-9, 0.8 - 1e-9, -20.001, -20.001], low)
    np.testing.assert_array_less(high, [40.001, 1.2 + 1e-9, 1.2 + 1e-9, 20.001, 20.001])
    # 300 draws come within a tenth of the half width of both ends.
    np.testing.assert_array_less(low, [-36, 0.82, 0.82, -18, -18])
    np.testing.assert_array_less([36, 1.18, 1.18, 18, 18], high)


def test_shear_leans_by_its_angle():
    ranges = AffineRanges(shear_degrees=30)
    leans = [
        np.rad2deg(np.arctan(random_affine(ranges, (9, 9), np.random.default_rng(seed))[1, 0]))
        for seed in range(100)
    ]
    assert -30 <= min(leans) < -27
    assert 27 < max(leans) <= 30


def test_masks_get_no_new_class(cell):
    ranges = AffineRanges(40, 0.2, 0.2, 10, 0.2, True)
    for seed in range(20):
        _, mask = apply_affine(*cell, random_affine(ranges, (16, 20), np.random.default_rng(seed)))
        assert set(np.unique(mask)) <= {0, 3}


@pytest.mark.parametrize("name", ["rotation_degrees", "shift_rows", "shift_columns", "shear_degrees", "zoom"])
def test_negative_ranges_are_refused(name):
    with pytest.raises(UserError, match=name):
        AffineRanges(**{name: -1})


def test_a_zoom_that_could_make_an_image_vanish_is_refused():
    with pytest.raises(UserError, match="below 1"):
        AffineRanges(zoom=1.0)


def test_shapes_must_agree(cell):
    with pytest.raises(UserError, match=r"\(16, 20, 3\) and \(16, 19\)"):
        apply_affine(cell[0], cell[1][:, 1:], IDENTITY)

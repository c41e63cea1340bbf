import numpy as np
import pytest

from bloodcells.errors import UserError
from bloodcells.fields import Field
from bloodcells.working_scale import (
    draw_edges,
    make_target,
    resize_probability,
    resize_truth,
    scale_outlines,
    to_working_scale,
)

SQUARE = np.array([[10.0, 20.0], [10.0, 30.0], [20.0, 30.0], [20.0, 20.0]])


@pytest.mark.parametrize(("own", "shape"), [(36.0, (30, 40)), (9.0, (120, 160))])
def test_scale_is_the_ratio_of_the_radii(own, shape):
    image = np.full((60, 80, 3), 200, np.uint8)
    working, scale = to_working_scale(image, cell_radius=18, own_radius=own)
    assert working.shape == (*shape, 3)
    assert scale == 18 / own
    assert (working == 200).all()


def test_radii_must_be_positive():
    with pytest.raises(UserError, match="above 0 pixels, got 0 and 5"):
        to_working_scale(np.zeros((9, 9, 3), np.uint8), cell_radius=0, own_radius=5)


def test_a_pixel_of_the_reduced_mask_follows_the_majority():
    mask = np.zeros((4, 4), bool)
    mask[:2, :2] = True  # all of the first pixel
    mask[0, 2] = True  # a quarter of the second
    mask[2:, 0] = mask[3, 1] = True  # three quarters of the third
    np.testing.assert_array_equal(resize_truth(mask, (2, 2)), [[True, False], [True, False]])


def test_probability_of_a_plain_field_stays():
    resized = resize_probability(np.full((5, 7), 0.3, np.float32), (11, 3))
    assert resized.shape == (11, 3)
    np.testing.assert_allclose(resized, 0.3, rtol=1e-6)


def test_outlines_scale_about_the_corner_of_the_image():
    # The corner of the image lies at (-0.5, -0.5) in pixel centres, before and after.
    (corner,) = scale_outlines([np.array([[-0.5, -0.5]])], 0.37)
    np.testing.assert_allclose(corner, [[-0.5, -0.5]])
    (halved,) = scale_outlines([np.array([[0.5, 2.5]])], 0.5)  # between pixels 0 and 1: centre of pixel 0
    np.testing.assert_allclose(halved, [[0.0, 1.0]])


def test_edges_follow_the_outline_in_rows_and_columns():
    edges = draw_edges([SQUARE], (40, 50), thickness=1)
    expected = np.zeros((40, 50), bool)
    expected[10:21, 20:31] = True
    expected[11:20, 21:30] = False
    np.testing.assert_array_equal(edges, expected)


def test_target_stacks_mask_and_edge_at_the_working_scale():
    mask = np.zeros((40, 50), bool)
    mask[10:20, 20:30] = True
    field = Field("drawn", "a", np.zeros((40, 50, 3), np.uint8), {"rbc": mask}, [SQUARE], {})
    target = make_target(field, (20, 25), 0.5, cell="rbc", heads=("mask", "edge"))
    assert target.dtype == np.uint8
    assert target.shape == (20, 25, 2)
    assert target[..., 0].sum() == 25
    np.testing.assert_array_equal(target[..., 1] > 0, draw_edges(scale_outlines([SQUARE], 0.5), (20, 25)))
    both = make_target(field, (20, 25), 0.5, cell="rbc", heads=("mask", "mask"))
    np.testing.assert_array_equal(both[..., 0], both[..., 1])


def test_missing_truth_and_unknown_heads_are_named():
    field = Field("drawn", "a", np.zeros((40, 50, 3), np.uint8), {}, None, {})
    with pytest.raises(UserError, match="a has no mask of wbc"):
        make_target(field, (20, 25), 0.5, cell="wbc", heads=("mask",))
    with pytest.raises(UserError, match="a has no outlines"):
        make_target(field, (20, 25), 0.5, cell="rbc", heads=("edge",))
    with pytest.raises(UserError, match="'mask' or 'edge', got 'core'"):
        make_target(field, (20, 25), 0.5, cell="rbc", heads=("core",))

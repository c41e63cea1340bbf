"""One map of classes from two masks: what carries a label and what doesn't."""

import numpy as np
import pytest

from bloodcells.class_labels import label_classes
from bloodcells.class_metrics import UNLABELLED
from bloodcells.errors import UserError

RADIUS = 10.0


def disc(shape, row, column, radius):
    rows, columns = np.indices(shape)
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def label(red, white=None):
    white = np.zeros_like(red) if white is None else white
    return label_classes({"rbc": red, "wbc": white}, cell_radius=RADIUS)


def test_cells_keep_all_of_their_pixels():
    red, white = disc((60, 90), 25, 25, RADIUS), disc((60, 90), 30, 65, 18)
    labels = label(red, white)
    assert (
        labels == 1
    ).sum() >= 0.97 * red.sum()  # a disc of pixels has corners that no smaller disc reaches
    assert (labels[red] != 0).all()
    assert np.array_equal(labels == 2, white)
    assert (labels == 0).sum() == (~red & ~white).sum()


def test_a_pixel_of_both_masks_has_no_label():
    red, white = disc((60, 60), 30, 20, RADIUS), disc((60, 60), 30, 42, 16)
    both = red & white
    assert both.any()
    assert (label(red, white)[both] == UNLABELLED).all()


def test_a_rim_around_a_white_cell_has_no_label():
    shape = (80, 80)
    white, rim = disc(shape, 40, 40, 18), disc(shape, 40, 40, 20)
    rim &= ~white
    labels = label(rim, white)
    assert (labels[rim] == UNLABELLED).all()
    assert not (labels == 1).any()
    assert np.array_equal(labels == 2, white)


def test_specks_and_pinholes_have_no_label():
    shape = (80, 120)
    red = disc(shape, 40, 30, RADIUS)
    hole = disc(shape, 40, 30, 2)
    red_speck, white_speck = disc(shape, 10, 60, 3), disc(shape, 60, 90, 6)
    labels = label((red & ~hole) | red_speck, white_speck)
    for part in (hole, red_speck, white_speck):
        assert (labels[part] == UNLABELLED).all()
    assert labels[40, 38] == 1


def test_a_hole_as_large_as_a_gap_between_cells_is_background():
    red = disc((80, 80), 40, 40, 30)
    gap = disc((80, 80), 40, 40, 5)
    assert (label(red & ~gap)[gap] == 0).all()


def test_what_the_border_cuts_is_no_speck():
    red = disc((60, 60), -7, 30, RADIUS)  # a sliver
    assert 0 < red.sum() < 0.15 * np.pi * RADIUS**2
    assert (label(red)[red] == 1).any()


def test_empty_masks_are_background():
    assert not label(np.zeros((20, 20), bool)).any()


def test_turning_the_masks_turns_the_labels():
    rng = np.random.default_rng(0)
    red, white = np.zeros((2, 100, 100), bool)
    for row, column in rng.integers(0, 100, (12, 2)):
        red |= disc(red.shape, row, column, RADIUS)
    for row, column in rng.integers(0, 100, (2, 2)):
        white |= disc(white.shape, row, column, 17)
    labels = label(red, white)
    assert np.array_equal(label(np.rot90(red), np.rot90(white)), np.rot90(labels))
    assert np.array_equal(label(red[:, ::-1], white[:, ::-1]), labels[:, ::-1])


@pytest.mark.parametrize(
    ("masks", "radius", "message"),
    [
        ({"rbc": np.zeros((4, 4), bool)}, 5, "none of wbc"),
        ({"rbc": np.zeros((4, 4), bool), "wbc": np.zeros((4, 5), bool)}, 5, r"\(4, 4\) and \(4, 5\)"),
        ({"rbc": np.zeros((4, 4), bool), "wbc": np.zeros((4, 4), bool)}, 0, "above 0 pixels, got 0"),
    ],
)
def test_wrong_arguments(masks, radius, message):
    with pytest.raises(UserError, match=message):
        label_classes(masks, cell_radius=radius)

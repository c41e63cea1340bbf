"""One drawn cell: what its arrays promise to those who place and paint it."""

import numpy as np
import pytest
from scipy import ndimage as ndi

from bloodcells.drawn_cells import CELL_TYPES, STAINS, Cell, absorbance, stain_colors

KINDS = ("rbc", "platelet", *CELL_TYPES)


def make_cell(kind, seed=0, rbc_radius=14):
    return Cell(np.random.default_rng(seed), kind, rbc_radius)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rbc_radius", [4, 14, 40])
def test_cell_is_in_one_piece_and_leaves_room_around(kind, rbc_radius):
    for seed in range(5):
        cell = make_cell(kind, seed, rbc_radius)
        assert ndi.label(cell.mask)[1] == 1
        # A gap of two pixels is laid around cells that may not touch.
        assert cell.mask[2:-2, 2:-2].sum() == cell.mask.sum()
        assert cell.mask[len(cell.mask) // 2, len(cell.mask) // 2]


@pytest.mark.parametrize("kind", KINDS)
def test_area_is_about_that_of_the_radius(kind):
    areas = [
        make_cell(kind, seed).mask.sum() / np.pi / make_cell(kind, seed).radius ** 2 for seed in range(20)
    ]
    # The outline keeps within a fifth of the radius, and goes in as often as out.
    assert min(areas) > 0.8**2
    assert max(areas) < 1.2**2
    assert np.mean(areas) == pytest.approx(1, abs=0.1)


def test_white_cells_are_largest_and_platelets_smallest():
    radius = {kind: [make_cell(kind, seed).radius for seed in range(20)] for kind in KINDS}
    assert max(radius["platelet"]) < min(radius["rbc"])
    assert max(radius["rbc"]) < min(radius["lymphocyte"])
    assert max(radius["lymphocyte"]) < min(radius["neutrophil"])


def test_only_white_cells_have_a_nucleus():
    for kind in KINDS:
        cell = make_cell(kind)
        assert (cell.nucleus_depth > 0).any() == (kind in CELL_TYPES)
        assert (cell.nucleus_depth < cell.depth)[cell.nucleus_depth > 0].all()
        assert cell.cell_class == ("wbc" if kind in CELL_TYPES else kind)


def test_window_centres_the_patch():
    cell = make_cell("rbc")
    half = len(cell.mask) // 2
    cell.row, cell.column = 30, 50
    rows, columns = cell.window(7)
    assert (rows.start, rows.stop) == (37 - half, 37 + half + 1)
    assert (columns.start, columns.stop) == (57 - half, 57 + half + 1)


def test_colours_are_those_of_the_stain():
    background, colors = stain_colors("giemsa")
    np.testing.assert_array_equal(background, [0xFC, 0xF9, 0xA6])
    np.testing.assert_array_equal(colors["background"], [0, 0, 0])
    # What is left of the background after a red cell has taken its share is the colour of a red cell.
    np.testing.assert_allclose(background * np.exp(-colors["rbc"]), [0xE0, 0xB8, 0x80])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stain", STAINS)
def test_every_pixel_of_a_cell_is_darker_than_the_background(kind, stain):
    cell = make_cell(kind)
    absorbed = absorbance(np.random.default_rng(0), cell, stain_colors(stain)[1])
    assert absorbed.shape == (*cell.mask.shape, 3)
    # On the whole: a stain may let more of one colour through than the background does.
    assert (absorbed[cell.mask].sum(axis=-1) > 0).all()

"""Who lies above whom, on cells whose places are given; the rest is tested on whole smears."""

import numpy as np
import pytest

from bloodcells.drawn_cells import Cell
from bloodcells.errors import UserError
from bloodcells.placement import place

PAD = 30


def make_cell(kind, row=None, column=None):
    cell = Cell(np.random.default_rng(0), kind, 8)
    cell.row, cell.column = row, column
    return cell


def place_all(cells, seed=0, shape=(60, 80), overlap=0.7, whole=True):
    return place(np.random.default_rng(seed), cells, shape, pad=PAD, overlap=overlap, whole=whole)


def covered(cell):
    """Return the pixels of a placed cell in the padded field."""
    field = np.zeros((60 + 2 * PAD, 80 + 2 * PAD), bool)
    field[cell.window(PAD)] = cell.mask
    return field


def test_later_red_cell_lies_above_an_earlier_one():
    below, above = make_cell("rbc", 30, 40), make_cell("rbc", 30, 50)
    labels = place_all([below, above])
    both = covered(below) & covered(above)
    assert both.any()
    assert (labels[both] == 2).all()
    np.testing.assert_array_equal(labels > 0, covered(below) | covered(above))


def test_white_cell_lies_above_red_cells():
    white, red = make_cell("lymphocyte", 30, 30), make_cell("rbc", 30, 44)
    labels = place_all([white, red])
    both = covered(white) & covered(red)
    assert both.any()
    np.testing.assert_array_equal(labels == 1, covered(white))
    np.testing.assert_array_equal(labels == 2, covered(red) & ~both)


@pytest.mark.parametrize("seed", range(5))
def test_given_place_is_kept_beside_cells_that_clump(seed):
    cells = [make_cell("rbc", 12, 12), make_cell("rbc"), make_cell("rbc", 45, 60)]
    place_all(cells, seed)
    assert [(cell.row, cell.column) for cell in cells[::2]] == [(12, 12), (45, 60)]


def test_given_place_that_breaks_a_rule_is_an_error():
    for cells, overlap in [
        ([make_cell("rbc", 30, 40), make_cell("rbc", 30, 50)], 0),  # they would touch
        ([make_cell("rbc", 30, 40), make_cell("rbc", 30, 41)], 0.7),  # too little of the first stays visible
        ([make_cell("lymphocyte", 30, 40), make_cell("platelet", 30, 40)], 0.7),  # white cells hide nothing
    ]:
        with pytest.raises(UserError, match="Could place only 1 of 2 cells in 60 x 80 pixels"):
            place_all(cells, overlap=overlap)


def test_padding_stays_empty_where_the_border_cuts_a_cell():
    cut = make_cell("rbc", 0, 40)
    labels = place_all([cut], whole=False)
    inside = np.zeros(labels.shape, bool)
    inside[PAD:-PAD, PAD:-PAD] = True
    np.testing.assert_array_equal(labels == 1, covered(cut) & inside)
    assert not (labels == 1).all()
    with pytest.raises(UserError, match="Could place only 0 of 1"):
        place_all([make_cell("rbc", 0, 40)], whole=True)

import numpy as np
import pytest

from bloodcells.counting.component_tree import label_component_tree
from bloodcells.errors import UserError

RADIUS = 10


def discs(*centres, shape=(70, 90), radius=RADIUS, level=1.0):
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    mask = np.zeros(shape, np.float32)
    for row, column in centres:
        mask[np.hypot(rows - row, columns - column) <= radius] = level
    return mask


def count(mask, edge=None, **settings):
    labels = label_component_tree(mask, edge, cell_radius=RADIUS, **settings)
    assert labels.dtype == np.int32
    assert set(np.unique(labels)) == set(range(labels.max() + 1)) | {0}
    return labels.max()


def test_separate_cells_with_their_extent():
    mask = discs((20, 20), (20, 60), (50, 40))
    labels = label_component_tree(mask, cell_radius=RADIUS)
    assert labels.max() == 3
    np.testing.assert_array_equal(labels > 0, mask > 0)


def test_a_bridge_is_broken_where_the_probability_is_lower():
    mask = discs((30, 25), (30, 50))
    mask[28:33, 30:46] = np.maximum(mask[28:33, 30:46], 0.55)
    assert count(mask) == 2


def test_touching_cells_are_told_apart_by_their_edges():
    mask = discs((30, 25), (30, 45))
    edge = np.zeros_like(mask)
    edge[20:41, 34:37] = 0.9
    labels = label_component_tree(mask, edge, cell_radius=RADIUS)
    assert labels.max() == 2
    # The labels grow back over the edge.
    assert (labels > 0).sum() == (mask > 0).sum()


def test_overlapping_cells_are_told_apart_by_their_shape():
    assert count(discs((30, 25), (30, 40))) == 2  # 30 % of an area shared, no edge at all


def test_a_compact_cell_is_not_split_by_doubt_inside():
    mask = discs((30, 40))
    mask[25:36, 39:42] = 0.45  # a fold: two halves at the next level
    assert count(mask) == 1


def test_cells_at_the_border_and_specks():
    mask = discs((0, 40), (60, 89), (35, 5))
    mask[5, 5] = mask[6, 80] = 1.0
    assert count(mask) == 3


@pytest.mark.parametrize("shape", [(40, 50), (3, 3)])
def test_nothing_there(shape):
    assert count(np.zeros(shape, np.float32)) == 0


def test_a_pale_middle_is_filled():
    mask = discs((30, 40)) - discs((30, 40), radius=4)
    labels = label_component_tree(mask, cell_radius=RADIUS)
    assert labels.max() == 1
    assert labels[30, 40] == 1


def test_magnification_does_not_matter():
    mask = discs((20, 20), (20, 37), (50, 40))
    twice = mask.repeat(2, axis=0).repeat(2, axis=1)
    assert count(mask) == 3
    assert label_component_tree(twice, cell_radius=2 * RADIUS).max() == 3


def test_flips_leave_the_count():
    rng = np.random.default_rng(0)
    mask = discs(*rng.integers(0, 70, (9, 2)))
    mask *= rng.uniform(0.6, 1, mask.shape).astype(np.float32)
    counts = {count(np.ascontiguousarray(view)) for view in (mask, mask[::-1], mask[:, ::-1], mask.T)}
    assert len(counts) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (np.zeros((4, 4, 1), np.float32),),
            r"2-D array of probabilities .*, got float32 of shape \(4, 4, 1\)",
        ),
        ((np.full((4, 4), 2.0),), "from 0 to 1, got values from 2.0 to 2.0"),
        ((np.full((4, 4), np.nan),), "from 0 to 1, got values from nan"),
        ((np.zeros((4, 4)), np.zeros((4, 5))), r"the same shape, got \(4, 4\) and \(4, 5\)"),
    ],
)
def test_wrong_maps(arguments, message):
    with pytest.raises(UserError, match=message):
        label_component_tree(*arguments, cell_radius=5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": ()}, r"rise within \[0, 1\], got \(\)"),
        ({"levels": (0.5, 0.4)}, "rise within"),
        ({"levels": (0.5, 1.4)}, "rise within"),
        ({"max_area": np.nan}, "`max_area` must be"),
        ({"min_area": -1}, "`min_area` must be"),
    ],
)
def test_wrong_settings(options, message):
    with pytest.raises(UserError, match=message):
        label_component_tree(np.zeros((4, 4)), cell_radius=5, **options)


def test_wrong_radius():
    with pytest.raises(UserError, match="above 0, got 0"):
        label_component_tree(np.zeros((4, 4)), cell_radius=0)

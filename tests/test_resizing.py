import numpy as np
import pytest

from bloodcells import resizing
from bloodcells.datasets import Sample
from bloodcells.errors import UserError


def sample(cell_type="lymphocyte", shape=(8, 6), *, nucleus=True):
    cell = np.zeros(shape, dtype=bool)
    cell[2:6, 1:5] = True
    inner = np.zeros(shape, dtype=bool)
    inner[2:4, 1:5] = True
    image = np.full((*shape, 3), (10, 20, 30), dtype=np.uint8)
    return Sample("drawn", "a", cell_type, image, inner if nucleus else None, cell)


def test_halving_a_mask_keeps_blocks_that_are_at_least_half_full():
    mask = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]], dtype=bool)
    # Blocks of 2 x 2: full; a quarter; half; none.
    np.testing.assert_array_equal(resizing.resize_mask(mask, (2, 2)), [[True, False], [True, False]])


# Halving exactly would leave many blocks half full, and the rule counts those as foreground.
@pytest.mark.parametrize("size", [70, 90, 200])
def test_the_area_of_a_disc_scales_with_the_image(size):
    rows, columns = np.mgrid[:120, :120]
    disc = (rows - 59.5) ** 2 + (columns - 59.5) ** 2 < 40**2
    resized = resizing.resize_mask(disc, (size, size))
    assert resized.mean() == pytest.approx(disc.mean(), rel=0.01)


def test_resizing_to_the_same_size_changes_nothing():
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 256, (9, 7, 3), dtype=np.uint8), rng.random((9, 7)) < 0.5
    np.testing.assert_array_equal(resizing.resize_image(image, (9, 7)), image)
    np.testing.assert_array_equal(resizing.resize_mask(mask, (9, 7)), mask)


def test_colours_keep_their_order():
    image = np.full((8, 6, 3), (10, 20, 30), dtype=np.uint8)
    assert resizing.resize_image(image, (4, 12))[0, 0].tolist() == [10, 20, 30]


def test_stack_cells_writes_the_class_of_the_type():
    types = ["neutrophil", "lymphocyte"]
    images, masks = resizing.stack_cells(
        [sample("lymphocyte"), sample("neutrophil")], target="nucleus", cell_types=types, image_size=24
    )
    assert images.shape == (2, 24, 24, 3)
    assert images.dtype == masks.dtype == np.uint8
    assert [set(np.unique(mask)) for mask in masks] == [{0, 2}, {0, 1}]
    # Two of eight rows and four of six columns are nucleus.
    assert (masks[0] == 2).mean() == pytest.approx(2 / 8 * 4 / 6, rel=0.1)


def test_the_cell_target_is_the_whole_cell():
    _, masks = resizing.stack_cells(
        [sample(nucleus=False)], target="cell", cell_types=["lymphocyte"], image_size=24
    )
    assert (masks > 0).mean() == pytest.approx(4 / 8 * 4 / 6, rel=0.1)


def test_cytoplasm_is_the_cell_without_its_nucleus():
    options = {"cell_types": ["lymphocyte"], "image_size": 24}
    whole, nucleus, cytoplasm = (
        resizing.stack_cells([sample()], target=target, **options)[1] > 0
        for target in ("cell", "nucleus", "cytoplasm")
    )
    assert not (nucleus & cytoplasm).any()
    assert not ((nucleus | cytoplasm) & ~whole).any()
    # Where they meet at the border of the cell, a pixel may be half of a cell but less than half of either.
    assert (whole & ~nucleus & ~cytoplasm).sum() <= 4
    assert cytoplasm.mean() == pytest.approx(2 / 8 * 4 / 6, rel=0.1)


def test_stack_cells_refuses_what_it_cannot_do():
    arguments = {"target": "nucleus", "cell_types": ["lymphocyte"], "image_size": 16}
    for target in ("nucleus", "cytoplasm"):
        with pytest.raises(UserError, match="no nucleus truth"):
            resizing.stack_cells([sample(nucleus=False)], **(arguments | {"target": target}))
    with pytest.raises(UserError, match="is a basophil"):
        resizing.stack_cells([sample("basophil")], **arguments)
    with pytest.raises(UserError, match="at least one image"):
        resizing.stack_cells([], **arguments)
    with pytest.raises(UserError, match="'cell' or 'cytoplasm', got 'edge'"):
        resizing.stack_cells([sample()], **(arguments | {"target": "edge"}))

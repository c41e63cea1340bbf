"""Crops around white cells: which there are, and their labels, outlines and counts."""

import numpy as np
import pytest

from bloodcells import fields
from bloodcells.class_metrics import UNLABELLED
from bloodcells.crops import SHAPES, SPLITS, count_label_pixels, cut_crop, list_crops, load_crops, stack_crops
from bloodcells.errors import UserError
from bloodcells.registry import read_crops, read_split

RADIUS = 12


def disc(shape, row, column, radius):
    rows, columns = np.indices(shape)
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def circle(row, column, radius):
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    return np.column_stack([row + radius * np.sin(angle), column + radius * np.cos(angle)])


def make_field(red=(), white=(), *, shape=(240, 320), n_white=None):
    """Draw a field of discs: pink ones are red cells, the large dark ones white cells."""
    image = np.full((*shape, 3), 235, np.uint8)
    masks = {name: np.zeros(shape, bool) for name in ("rbc", "wbc", "plt")}
    for row, column in red:
        masks["rbc"] |= disc(shape, row, column, RADIUS)
    for row, column in white:
        masks["wbc"] |= disc(shape, row, column, 20)
    image[masks["rbc"]], image[masks["wbc"]] = (200, 150, 140), (90, 60, 140)
    outlines = [circle(row, column, RADIUS) for row, column in red]
    counts = {"rbc": len(red), "wbc": len(white) if n_white is None else n_white}
    return fields.Field("drawn", "one", image, masks, outlines, counts)


GRID = [(row, column) for row in range(30, 240, 45) for column in range(30, 200, 45)]
WHITE = [(60, 240), (180, 240)]


@pytest.mark.parametrize(("kind", "n_seen", "n_test"), [("wide", 29, 13), ("square", 80, 20)])
def test_committed_crops_are_the_papers_numbers(kind, n_seen, n_test):
    sizes = {split: len(list_crops("all-idb1", split, kind)) for split in SPLITS}
    assert sizes["train"] + sizes["val"] == n_seen
    assert sizes["test"] == n_test
    assert len(list_crops("all-idb1", "train", kind, limit=3)) == 3


def test_validation_squares_are_a_quarter_of_those_not_for_testing():
    assert len(list_crops("all-idb1", "train", "square")) == 3 * len(list_crops("all-idb1", "val", "square"))


def test_no_place_of_a_smear_is_in_two_wide_crops_or_in_squares_of_two_splits():
    table = read_crops("all-idb1").merge(read_split("all-idb1")[["image_id", "group"]], on="image_id")
    assert not table.duplicated(["kind", "image_id"]).any()
    assert table[table["kind"] == "wide"]["group"].is_unique
    assert table[table["kind"] == "square"].groupby("group")["split"].nunique().max() == 1


def test_windows_lie_in_their_fields_and_have_the_shape_of_a_crop():
    sizes = fields.read_sizes("all-idb1")
    for row in read_crops("all-idb1").itertuples():
        n_rows, n_columns = sizes[row.image_id]
        assert 0 <= row.row <= n_rows - row.rows
        assert 0 <= row.column <= n_columns - row.columns
        assert row.columns / row.rows == pytest.approx(SHAPES[row.kind][1] / SHAPES[row.kind][0], rel=0.005)


@pytest.mark.parametrize("kind", SHAPES)
def test_red_cells_of_twelve_test_crops_are_outlined_and_of_no_other_crop(kind):
    outlined = set(fields.list_fields("all-idb1", "rbc", "paper"))
    assert list_crops("all-idb1", "test", kind)["image_id"].isin(outlined).sum() == 12
    for split in ("train", "val"):
        assert not list_crops("all-idb1", split, kind)["image_id"].isin(outlined).any()


def test_a_crop_holds_its_window():
    field = make_field(GRID, WHITE)
    crop = cut_crop(field, (0, 0, 240, 320), (240, 320))
    assert np.array_equal(crop.image, field.image)
    assert (crop.labels[field.masks["wbc"]] == 2).all()
    assert set(np.unique(crop.labels)) <= {0, 1, 2, UNLABELLED}
    assert crop.counts == {"rbc": len(GRID), "wbc": 2}
    part = cut_crop(field, (30, 100, 120, 160), (120, 160))
    assert np.array_equal(part.image, field.image[30:150, 100:260])


def test_what_the_window_cuts_counts_from_a_tenth_of_a_cell():
    field = make_field(GRID, WHITE)
    # Columns 30 and 75 stay; the window begins in the middle of the first, or 10 px before the end of it.
    for first, n_kept in ((30, len(GRID)), (40, len(GRID) - 5)):
        # Of a disc of radius 12 a cap of height 2 is in the second window, 13 of 452 px: less than a tenth.
        assert cut_crop(field, (0, first, 240, 280), (240, 280)).counts["rbc"] == n_kept


def test_scaling_moves_outlines_and_radius_alike():
    field = make_field(GRID, WHITE)
    crop, twice = (cut_crop(field, (0, 0, 240, 320), (240 * k, 320 * k)) for k in (1, 2))
    assert twice.cell_radius == pytest.approx(2 * crop.cell_radius)
    # The middle of pixel (0, 0) becomes the corner that four pixels share.
    assert twice.outlines[0] == pytest.approx(2 * crop.outlines[0] + 0.5)
    assert twice.counts == crop.counts


def test_white_cells_count_only_where_the_mask_has_as_many_as_were_counted():
    assert cut_crop(make_field(GRID, WHITE), (0, 200, 120, 120), (120, 120)).counts["wbc"] == 1
    assert "wbc" not in cut_crop(make_field(GRID, WHITE, n_white=3), (0, 200, 120, 120), (120, 120)).counts


def test_drawn_crops_need_no_files():
    found = {split: load_crops("synthetic", split, shape=(90, 120)) for split in SPLITS}
    ids = [crop.image_id for part in found.values() for crop in part]
    assert len(ids) == len(set(ids))
    images, labels = stack_crops(found["val"])
    assert images.shape == (2, 90, 120, 3)
    assert labels.shape == (2, 90, 120)
    assert (count_label_pixels(labels)[["background", "rbc", "wbc"]] > 0).all()
    assert all(crop.counts["rbc"] == len(crop.outlines) > 0 for crop in found["test"])


def test_pixels_are_counted_by_class():
    labels = np.array([[0, 1, 1], [2, UNLABELLED, 1]], np.uint8)
    assert count_label_pixels(labels).to_dict() == {"background": 1, "rbc": 3, "wbc": 1, "unlabelled": 1}


def test_wrong_arguments():
    with pytest.raises(UserError, match="one of train, val, test; got 'all'"):
        list_crops("all-idb1", "all")
    with pytest.raises(UserError, match="got 'jiangxi'"):
        list_crops("jiangxi", "train")
    with pytest.raises(UserError, match=r"1 or more crops.* got 0"):
        list_crops("all-idb1", "train", limit=0)
    with pytest.raises(UserError, match="at least one crop"):
        stack_crops([])
    with pytest.raises(UserError, match="must lie in the field one, 240 x 320 pixels; got rows 200 to 320"):
        cut_crop(make_field(GRID, WHITE), (200, 0, 120, 160), (120, 160))

"""The three counting methods on drawn cells whose count is known by construction."""

import numpy as np
import pytest
from skimage.measure import label as label_pieces

from bloodcells.counting import (
    circles_to_labels,
    count_cells,
    find_circles,
    label_components,
    label_distance_peaks,
    regions,
)
from bloodcells.errors import UserError
from bloodcells.synthetic import draw_smear

RADIUS = 18
OVERLAP_30 = 1.17  # two discs of radius 1 at this distance share 30 % of the area of each
COUNTS = {
    "cht": lambda mask, edge, radius: len(find_circles(edge, cell_radius=radius)),
    "ccl": lambda mask, edge, radius: count_cells(label_components(mask, edge, cell_radius=radius)),
    "edt": lambda mask, edge, radius: count_cells(label_distance_peaks(mask, edge, cell_radius=radius)),
    "edt, mask alone": lambda mask, edge, radius: count_cells(label_distance_peaks(mask, cell_radius=radius)),
}
every_method = pytest.mark.parametrize("count", COUNTS.values(), ids=COUNTS)
both_labellers = pytest.mark.parametrize("label", [label_components, label_distance_peaks])


def draw(centres, shape=(6, 8), *, radius=RADIUS, pallor=0.0):
    """Draw discs, later ones above, and their outlines; lengths but `radius` are in radii.

    Returns mask and edge as probabilities, float32, with soft steps as networks make them.
    """
    shape = tuple(round(n * radius) for n in shape)
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    mask, edge = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for row, column in centres:
        depth = 1 - np.hypot(rows - row * radius, columns - column * radius) / radius
        inside = np.clip(depth * radius + 0.5, 0, 1)
        line = np.clip(1.5 - np.abs(depth - 0.05) / 0.05, 0, 1)  # full width at half height: 0.1 radii
        edge = np.maximum(edge * (1 - inside), line).astype(np.float32)
        mask = np.maximum(mask, inside).astype(np.float32)
        mask[depth > 1 - pallor] = 0
    return mask, edge


@pytest.fixture(scope="module", params=[0.0, 0.3], ids=["apart", "overlapping"])
def smear(request):
    rng = np.random.default_rng(3)
    return draw_smear(
        (260, 300), rng=rng, n_rbc=15, n_wbc=0, n_platelets=0, overlap=request.param, rbc_radius=20.0
    )


SCENES = {
    "none": [],
    "single": [(3, 4)],
    "touching pair": [(3, 2), (3, 4)],
    "touching triangle": [(1.5, 3), (1.5, 5), (1.5 + 3**0.5, 4)],
    "touching square": [(2, 3), (2, 5), (4, 3), (4, 5)],
    "overlapping by 30 %": [(3, 2), (3, 2 + OVERLAP_30)],
    "overlapping chain": [(3, 2), (3, 2 + OVERLAP_30), (3, 2 + 2 * OVERLAP_30)],
    "cut by the border": [(0.4, 3), (3, 0.4), (5.6, 3), (3, 7.6), (3, 4)],
    "cut by a corner": [(0.5, 0.5), (5.5, 7.5)],
}


@every_method
@pytest.mark.parametrize("centres", SCENES.values(), ids=SCENES)
@pytest.mark.parametrize("radius", [RADIUS, 2 * RADIUS])
def test_count_of_drawn_cells_at_two_scales(count, centres, radius):
    assert count(*draw(centres, radius=radius), radius) == len(centres)


@every_method
@pytest.mark.parametrize("centres", [SCENES["touching triangle"], SCENES["overlapping chain"]])
def test_count_does_not_depend_on_orientation(count, centres):
    mask, edge = draw(centres)
    for turn in (np.flipud, np.fliplr, np.transpose):
        assert count(turn(mask), turn(edge), RADIUS) == len(centres)


@every_method
@pytest.mark.parametrize("turn", [np.array, np.rot90])
def test_count_of_smear(count, turn, smear):
    mask, edge = (turn(array.astype(float)) for array in (smear.masks["rbc"], smear.edges))
    if count is COUNTS["ccl"]:  # hidden outlines are drawn too, and part the shared 30 % of a cell from it
        assert count_cells(label_components(mask, edge, cell_radius=20, min_area=0.3)) == 15
    else:
        assert abs(count(mask, edge, 20) - 15) <= 1  # uneven cells, hard edges one pixel wide


@every_method
def test_cells_with_a_pale_middle(count):
    centres = SCENES["touching pair"]
    mask, edge = draw(centres, pallor=0.45)
    assert mask[3 * RADIUS, 2 * RADIUS] == 0
    assert count(mask, edge, RADIUS) == 2


@both_labellers
def test_pale_middle_belongs_to_its_cell(label):
    mask, edge = draw(SCENES["touching pair"], pallor=0.45)
    mask[3 * RADIUS, 2 * RADIUS] = 1  # a speck in the hole
    labels = label(mask, edge, cell_radius=RADIUS)
    whole, _ = draw(SCENES["touching pair"])
    np.testing.assert_array_equal(labels > 0, whole > 0.5)
    assert labels[3 * RADIUS, 2 * RADIUS] != labels[3 * RADIUS, 4 * RADIUS]


def test_large_hole_and_gap_between_cells_stay():
    mask, _ = draw([(3, 3)], pallor=0.7)  # 0.49 of the cell's area
    assert label_components(mask, cell_radius=RADIUS)[3 * RADIUS, 3 * RADIUS] == 0
    assert label_components(mask, cell_radius=RADIUS, max_hole=0.5)[3 * RADIUS, 3 * RADIUS] == 1
    # Without edges one piece, and a gap of 0.18 in its middle: 1.9^2 - pi, and two lenses of 0.04, over pi.
    mask, _ = draw([(2.05, 3.05), (2.05, 4.95), (3.95, 3.05), (3.95, 4.95)])
    labels = label_components(mask, cell_radius=RADIUS)
    assert count_cells(labels) == 1
    assert labels[3 * RADIUS, 4 * RADIUS] == 0


@every_method
def test_specks_are_no_cells(count):
    mask, edge = np.zeros((100, 120)), np.zeros((100, 120))
    mask[5::10, 5::10] = 1
    edge[::20, ::20] = 1
    assert count(mask, edge, RADIUS) == 0


@every_method
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (5, 3), (100, 120)])
def test_image_without_background(count, shape):
    found = count(np.ones(shape), np.zeros(shape), 1.0)  # so small a radius that one pixel can be a cell
    assert found == (0 if count is COUNTS["cht"] else 1)
    assert count(np.zeros(shape), np.zeros(shape), 1.0) == 0


def test_all_pixels_edge_is_no_cell():
    ones = np.ones((60, 60))
    assert [count(ones, ones, RADIUS) for count in list(COUNTS.values())[:3]] == [0, 0, 0]


@every_method
def test_radius_far_from_that_of_the_cells(count):
    mask, edge = draw([(3, 4)])
    assert count(mask, edge, 500) == 0
    assert count(mask, edge, 0.01) >= 1  # in units of so small a radius anything is a cell


def test_circles_lie_on_the_cells():
    centres = np.array([(3, 2), (3, 2 + OVERLAP_30), (2, 6)])
    _, edge = draw(centres)
    circles = find_circles(edge, cell_radius=RADIUS)
    assert circles.dtype == np.float64
    circles = circles[np.argsort(circles[:, 1])]
    np.testing.assert_allclose(circles[:, :2], centres * RADIUS, atol=0.1 * RADIUS)
    np.testing.assert_allclose(circles[:, 2], RADIUS, atol=0.15 * RADIUS)


def test_radius_range_and_distance_choose_circles():
    _, edge = draw([(3, 2), (3, 5)])
    assert len(find_circles(edge, cell_radius=RADIUS, radius_range=(1.3, 1.8))) == 0
    assert len(find_circles(edge, cell_radius=RADIUS, min_distance=3.5)) == 1
    assert len(find_circles(edge, cell_radius=RADIUS, min_votes=20)) == 0


def test_no_circle_has_three_columns():
    assert find_circles(np.zeros((50, 50)), cell_radius=10).shape == (0, 3)


def test_circles_share_pixels_by_depth():
    circles = np.array([[10, 10, 6], [10, 18, 6], [40, 40, 3], [-20, -20, 5]])
    labels = circles_to_labels(circles, (20, 30))
    assert labels.dtype == np.int32
    assert np.unique(labels).tolist() == [0, 1, 2]  # two circles lie outside
    assert labels[10, 13] == 1
    assert labels[10, 15] == 2
    assert (labels == 0)[0].all()
    mirrored = circles_to_labels(circles * [1, -1, 1] + [0, 29, 0], (20, 30))[:, ::-1]
    np.testing.assert_array_equal(np.delete(mirrored, 14, axis=1), np.delete(labels, 14, axis=1))  # a tie
    assert (labels == 1).sum() + (labels == 2).sum() < 2 * 36 * np.pi
    assert circles_to_labels(np.zeros((0, 3)), (4, 5)).tolist() == [[0] * 5] * 4


@both_labellers
def test_labels_cover_the_cells_and_each_is_one_piece(label):
    centres = [*SCENES["touching triangle"], (4.5, 1.5), (4.5, 1.5 + OVERLAP_30)]
    mask, edge = draw(centres)
    labels = label(mask, edge, cell_radius=RADIUS)
    assert labels.dtype == np.int32
    assert np.unique(labels).tolist() == [0, 1, 2, 3, 4, 5]
    np.testing.assert_array_equal(labels > 0, mask > 0.5)
    assert label_pieces(labels).max() == 5
    for row, column in centres[:3]:  # these do not overlap, so their areas are known
        area = (labels == labels[round(row * RADIUS), round(column * RADIUS)]).sum()
        assert area == pytest.approx(np.pi * RADIUS**2, rel=0.03)


def test_components_without_growth_are_the_core():
    mask, edge = draw(SCENES["touching pair"])
    labels = label_components(mask, edge, cell_radius=RADIUS, grow=False)
    np.testing.assert_array_equal(labels > 0, (mask > 0.5) & (edge < 0.3))


def test_growth_is_limited_and_does_not_jump():
    labels = np.zeros((5, 20), np.int32)
    labels[:, :3] = 4
    foreground = np.ones((5, 20), bool)
    grown = regions.grow_labels(labels, foreground, max_distance=5)
    assert np.unique(np.flatnonzero(grown[2] == 4)).tolist() == list(range(8))
    foreground[:, 4] = False  # cuts the rest off
    grown = regions.grow_labels(labels, foreground, max_distance=5)
    assert np.flatnonzero(grown[2]).tolist() == [0, 1, 2, 3]


@both_labellers
def test_distant_specks_stay_background(label):
    mask, edge = draw([(3, 3)])
    speck = (3 * RADIUS, round(4.3 * RADIUS))  # 0.3 radii off the cell, within the reach of growth
    mask[speck] = 1
    assert label(mask, edge, cell_radius=RADIUS, max_growth=0.5)[speck] == 0


@both_labellers
def test_small_objects_are_dropped(label):
    mask = np.maximum(draw([(3, 2)])[0], draw([(6, 12)], (12, 16), radius=RADIUS // 2)[0])
    assert count_cells(label(mask, cell_radius=RADIUS, min_area=0.2)) == 2  # the smaller has a quarter
    assert count_cells(label(mask, cell_radius=RADIUS, min_area=0.3)) == 1


def test_edge_that_is_thin_at_corners_parts_cells():
    mask, edge = np.ones((20, 20)), np.eye(20)
    assert count_cells(label_components(mask, edge, cell_radius=8)) == 2


def test_thresholds_decide_what_is_core():
    mask, edge = np.full((20, 41), 0.6), np.zeros((20, 41))
    edge[:, 20] = 0.4
    for label in (label_components, label_distance_peaks):
        options = (
            {"cell_radius": 10, "min_height": 0} if label is label_distance_peaks else {"cell_radius": 10}
        )
        assert label(mask, edge, mask_threshold=0.7, **options).max() == 0
        assert label(mask, edge, edge_threshold=0.3, **options).max() == 2
        assert label(mask, edge, edge_threshold=0.5, **options).max() == 1


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ({}, 2),
        ({"min_distance": OVERLAP_30 + 0.1}, 1),
        ({"min_distance": OVERLAP_30 - 0.1}, 2),
        # The pass between the discs is half their common chord, sqrt(1 - (1.17 / 2)^2) = 0.81 radii high.
        ({"min_prominence": 0.24}, 1),
        ({"min_prominence": 0.14}, 2),
        ({"min_height": 0.9}, 2),
        ({"min_height": 1.1}, 0),
        ({"smoothing": 0.1}, 2),
    ],
)
def test_rules_for_peaks(option, expected):
    mask, _ = draw(SCENES["overlapping by 30 %"], radius=40)
    assert count_cells(label_distance_peaks(mask, cell_radius=40, **option)) == expected


def test_plateau_is_one_peak():
    mask = np.zeros((60, 140))
    mask[20:41, 20:120] = 1  # the ridge is flat and 5 radii long
    assert count_cells(label_distance_peaks(mask, cell_radius=16)) == 1
    assert count_cells(label_distance_peaks(mask[:40], cell_radius=16)) == 1  # an even number of rows


@pytest.mark.parametrize("angle", [0, 10, 20, 30, 45, 70, 90])
def test_watershed_cuts_overlapping_cells_along_their_chord(angle):
    step = OVERLAP_30 * np.array([np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))])
    centres = np.array([2.5, 3]) + np.outer([0, 1], step)
    mask, _ = draw(centres)
    labels = label_distance_peaks(mask, cell_radius=RADIUS)
    rows, columns = np.indices(mask.shape)
    first, second = (np.hypot(rows - RADIUS * r, columns - RADIUS * c) for r, c in centres)
    true = np.where(mask > 0.5, np.where(first < second, 1, 2), 0)
    pred = labels if labels[round(2.5 * RADIUS), 3 * RADIUS] == 1 else np.array([0, 2, 1])[labels]
    assert (true == pred)[mask > 0.5].mean() > 0.97


@every_method
def test_same_input_same_output(count, smear):
    mask, edge = smear.masks["rbc"].astype(float), smear.edges.astype(float)
    assert len({count(mask, edge, 20) for _ in range(3)}) == 1


def test_inputs_are_left_alone():
    mask, edge = draw(SCENES["touching pair"], pallor=0.3)
    kept = mask.copy(), edge.copy()
    for count in COUNTS.values():
        count(mask, edge, RADIUS)
    np.testing.assert_array_equal(mask, kept[0])
    np.testing.assert_array_equal(edge, kept[1])


def test_rounding_of_resized_maps_is_forgiven():
    mask, edge = draw([(3, 4)])
    assert count_cells(label_components(mask * 1.000001, edge, cell_radius=RADIUS)) == 1


METHODS = {
    "find_circles": lambda probability, **options: find_circles(probability, **options),
    "label_components": label_components,
    "label_distance_peaks": label_distance_peaks,
}
every_function = pytest.mark.parametrize("function", METHODS.values(), ids=METHODS)


@every_function
@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 5, 3)), r"2-D .* got float64 of shape \(4, 5, 3\)"),
        (np.zeros((0, 5)), r"at least one pixel, got float64 of shape \(0, 5\)"),
        (np.zeros((4, 5), np.uint8), r"float or bool.* got uint8 of shape \(4, 5\)"),
        (np.full((4, 5), 255.0), "probabilities from 0 to 1, got values from 255.0 to 255.0"),
        (np.full((4, 5), -0.1), "from 0 to 1, got values from -0.1 to -0.1"),
        (np.array([[0.5, np.nan]]), "from 0 to 1, got values from nan"),
    ],
)
def test_error_for_what_is_no_probability(function, array, message):
    with pytest.raises(UserError, match=message):
        function(array, cell_radius=10)


@every_function
@pytest.mark.parametrize("cell_radius", [0, -3, np.nan, np.inf, "18", None, True])
def test_error_for_radius(function, cell_radius):
    with pytest.raises(UserError, match=f"`cell_radius` must be a number above 0, got {cell_radius!r}"):
        function(np.zeros((4, 5)), cell_radius=cell_radius)


@both_labellers
def test_error_for_other_shapes_and_edges(label):
    with pytest.raises(UserError, match=r"same shape, got \(4, 5\) and \(5, 4\)"):
        label(np.zeros((4, 5)), np.zeros((5, 4)), cell_radius=3)
    with pytest.raises(UserError, match=r"`edge` must hold probabilities from 0 to 1, got .* 2.0"):
        label(np.zeros((4, 5)), np.full((4, 5), 2.0), cell_radius=3)


@pytest.mark.parametrize(
    ("function", "option", "message"),
    [
        (
            find_circles,
            {"radius_range": (1.4, 0.7)},
            r"`radius_range\[1\]` must be a number above 1.4, got 0.7",
        ),
        (find_circles, {"radius_range": 1.4}, "`radius_range` must be two numbers, got 1.4"),
        (find_circles, {"min_distance": 0}, "`min_distance` must be a number above 0, got 0"),
        (find_circles, {"edge_contrast": 30}, "`edge_contrast` .* at most 4, got 30"),
        (label_components, {"min_area": -1}, "`min_area` must be a number at least 0, got -1"),
        (label_components, {"edge_threshold": 1.5}, "`edge_threshold` must be a number from 0 to 1, got 1.5"),
        (label_distance_peaks, {"min_height": -1}, "`min_height` must be a number at least 0, got -1"),
        (label_distance_peaks, {"mask_threshold": 127}, "`mask_threshold` must be a number from 0 to 1"),
    ],
)
def test_error_for_options(function, option, message):
    with pytest.raises(UserError, match=message):
        function(np.zeros((4, 5)), cell_radius=3, **option)


@pytest.mark.parametrize(
    ("circles", "shape", "message"),
    [
        (np.zeros((2, 2)), (4, 5), r"shape \(n, 3\), got \(2, 2\)"),
        (np.zeros((2, 3)), (4, 5), "radii above 0"),
        (np.full((1, 3), np.nan), (4, 5), "finite"),
        (np.ones((1, 3)), (4, 5, 3), r"`shape` must be two numbers above 0, got \(4, 5, 3\)"),
    ],
)
def test_error_for_circles(circles, shape, message):
    with pytest.raises(UserError, match=message):
        circles_to_labels(circles, shape)


def test_count_cells_needs_no_consecutive_labels_and_no_background():
    assert count_cells(np.array([[3, 9], [9, 100]])) == 3
    assert count_cells(np.zeros((3, 3), np.int32)) == 0
    with pytest.raises(UserError, match=r"2-D integer array, got float64 of shape \(3, 3\)"):
        count_cells(np.zeros((3, 3)))

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bloodcells import class_metrics, metrics
from bloodcells.class_metrics import UNLABELLED, boundary_f1
from bloodcells.errors import UserError

NAMES = ["background", "rbc", "wbc"]
PAIR = ["background", "cell"]

# One row of pixels. By hand, class 1: true boundary pixel 2, predicted boundary pixels 2 and 6;
# class 0: true boundary pixel 3, predicted boundary pixels 3 and 5; confusion [[3, 2], [0, 3]].
TRUE_A = np.array([[1, 1, 1, 0, 0, 0, 0, 0]], dtype=np.uint8)
PRED_A = np.array([[1, 1, 1, 0, 0, 0, 1, 1]], dtype=np.uint8)
# Only background is labelled: confusion [[6, 0], [0, 0]], and no boundary in either map.
TRUE_B = np.array([[0, 0, 0, 0, 0, 0, UNLABELLED, UNLABELLED]], dtype=np.uint8)
PRED_B = PRED_A * 0 + np.array([0, 0, 0, 0, 0, 0, 1, 1], dtype=np.uint8)

maps = hnp.arrays(np.uint8, (5, 6), elements=st.integers(0, 2))
holes = hnp.arrays(bool, (5, 6))
tolerances = st.sampled_from([0, 1, 1.5, 2.3])


def draw_images(n, rng, n_wrong=12):
    """Drawn maps of three classes, of which some pixels are unlabelled and some predicted wrongly."""
    true = rng.integers(3, size=(n, 4, 5)).repeat(3, axis=1).repeat(3, axis=2).astype(np.uint8)
    pred = true.copy()
    for one in pred:
        one.flat[rng.integers(one.size, size=n_wrong)] = rng.integers(3, size=n_wrong)
    true[rng.random(true.shape) < 0.1] = UNLABELLED
    return [f"image{index}" for index in range(n)], true, pred


# The confusion matrix


def test_confusion_by_hand():
    true = np.array([[0, 1, 2, UNLABELLED], [2, 2, 0, UNLABELLED]], dtype=np.uint8)
    pred = np.array([[0, 2, 2, 0], [1, 2, 0, 2]], dtype=np.uint8)
    np.testing.assert_array_equal(class_metrics.confusion(true, pred, 3), [[2, 0, 0], [0, 0, 1], [0, 1, 2]])


@given(maps, maps)
def test_confusion_without_holes_is_the_plain_one(true, pred):
    np.testing.assert_array_equal(
        class_metrics.confusion(true, pred, 3), metrics.confusion_matrix(true, pred, 3)
    )


@given(maps, maps, holes)
def test_confusion_counts_each_labelled_pixel_once(true, pred, hole):
    true[hole] = UNLABELLED
    assert class_metrics.confusion(true, pred, 3).sum() == (~hole).sum()


def test_confusion_takes_any_shape_even_an_empty_one():
    empty = np.zeros((0, 4, 4), dtype=np.uint8)
    np.testing.assert_array_equal(class_metrics.confusion(empty, empty, 2), np.zeros((2, 2)))
    flat = np.array([0, 1], dtype=np.int64)
    np.testing.assert_array_equal(class_metrics.confusion(flat, flat, 2), np.eye(2))


def test_confusion_refuses_what_is_no_map_of_classes():
    zeros = np.zeros(3, dtype=np.uint8)
    with pytest.raises(UserError, match=r"same shape, got \(3,\) and \(4,\)"):
        class_metrics.confusion(zeros, np.zeros(4, dtype=np.uint8), 2)
    with pytest.raises(UserError, match="`pred` must hold classes as integers, got float64"):
        class_metrics.confusion(zeros, np.zeros(3), 2)
    with pytest.raises(UserError, match="`true` must hold classes as integers, got bool"):
        class_metrics.confusion(zeros > 0, zeros, 2)
    with pytest.raises(UserError, match="`true` must hold classes 0 to 1, got 0 to 2"):
        class_metrics.confusion(np.array([0, 2, UNLABELLED]), zeros, 2)
    with pytest.raises(UserError, match="`n_classes` must lie in 1 to 255, got 256"):
        class_metrics.confusion(zeros, zeros, 256)


def test_predictions_must_be_classes_even_where_the_truth_has_none():
    unlabelled = np.full(2, UNLABELLED)
    with pytest.raises(UserError, match="`pred` must hold classes 0 to 1, got 0 to 2"):
        class_metrics.confusion(unlabelled, np.array([0, 2]), 2)
    with pytest.raises(UserError, match="`pred` must name a class for every pixel, got 255"):
        class_metrics.confusion(unlabelled, unlabelled, 2)


# Scores of a matrix


def test_class_scores_by_hand():
    """Class 0: 4 true, 3 predicted, 3 both. Class 1: 2 true, 3 predicted, 2 both. Class 2: nowhere."""
    scores = class_metrics.class_scores(np.array([[3, 1, 0], [0, 2, 0], [0, 0, 0]]))
    np.testing.assert_allclose(scores["accuracy"], [3 / 4, 1, np.nan])
    np.testing.assert_allclose(scores["iou"], [3 / 4, 2 / 3, np.nan])
    assert scores["global_accuracy"] == pytest.approx(5 / 6)
    assert scores["mean_accuracy"] == pytest.approx(7 / 8)
    assert scores["mean_iou"] == pytest.approx(17 / 24)
    assert scores["weighted_iou"] == pytest.approx((4 * 3 / 4 + 2 * 2 / 3) / 6)


def test_a_class_that_is_predicted_but_never_true():
    """It has no accuracy, and IoU 0 / (0 + 1) = 0, which weighs nothing."""
    scores = class_metrics.class_scores(np.array([[3, 1], [0, 0]]))
    np.testing.assert_array_equal(scores["accuracy"], [3 / 4, np.nan])
    np.testing.assert_array_equal(scores["iou"], [3 / 4, 0])
    assert scores["mean_accuracy"] == 3 / 4
    assert scores["mean_iou"] == 3 / 8
    assert scores["weighted_iou"] == 3 / 4


def test_a_class_that_is_true_but_never_predicted():
    scores = class_metrics.class_scores(np.array([[3, 0], [1, 0]]))
    np.testing.assert_array_equal(scores["accuracy"], [1, 0])
    np.testing.assert_array_equal(scores["iou"], [3 / 4, 0])
    assert scores["weighted_iou"] == pytest.approx((3 * 3 / 4 + 1 * 0) / 4)


def test_without_labelled_pixels_nothing_is_defined():
    scores = class_metrics.class_scores(np.zeros((2, 2), dtype=int))
    assert all(np.isnan(value).all() for value in scores.values())


@given(maps, holes)
def test_a_perfect_prediction_scores_one(classes, hole):
    true = np.where(hole, UNLABELLED, classes)
    scores = class_metrics.class_scores(class_metrics.confusion(true, classes, 3))
    for values in scores.values():
        assert (np.isnan(values) | (values == 1)).all()
    assert np.isnan(scores["mean_iou"]) == hole.all()
    for value in range(3):
        bf = boundary_f1(true, classes, value, tolerance=0)
        assert np.isnan(bf) or bf == 1


@given(maps, maps, st.permutations(range(3)), tolerances)
def test_renaming_the_classes_renames_the_scores(true, pred, new_names, tolerance):
    new_names = np.array(new_names, dtype=np.uint8)
    before = class_metrics.class_scores(class_metrics.confusion(true, pred, 3))
    after = class_metrics.class_scores(class_metrics.confusion(new_names[true], new_names[pred], 3))
    for name in ("accuracy", "iou"):
        np.testing.assert_array_equal(after[name][new_names], before[name])
    for name in ("global_accuracy", "mean_accuracy", "mean_iou", "weighted_iou"):
        np.testing.assert_allclose(after[name], before[name])
    for value in range(3):
        np.testing.assert_array_equal(
            boundary_f1(new_names[true], new_names[pred], new_names[value], tolerance=tolerance),
            boundary_f1(true, pred, value, tolerance=tolerance),
        )


@given(hnp.arrays(np.int64, (2, 3, 4, 4), elements=st.integers(0, 3)))
def test_a_stack_of_matrices_is_scored_one_by_one(stack):
    together = class_metrics.class_scores(stack)
    percent = class_metrics.normalise_rows(stack)
    for index in np.ndindex(2, 3):
        for name, value in class_metrics.class_scores(stack[index]).items():
            np.testing.assert_array_equal(together[name][index], value)
        np.testing.assert_array_equal(percent[index], class_metrics.normalise_rows(stack[index]))


@given(maps, maps)
def test_two_classes_score_as_one_against_the_rest(true, pred):
    """The recall and the IoU of `metrics.pixel_scores`, and its accuracy as the global one."""
    true, pred = true > 0, pred > 0
    matrix = class_metrics.confusion(true.astype(np.uint8), pred.astype(np.uint8), 2)
    scores = class_metrics.class_scores(matrix)
    single = metrics.pixel_scores(**metrics.binary_counts(true, pred))
    np.testing.assert_allclose(scores["accuracy"][1], single["recall"])
    np.testing.assert_allclose(scores["iou"][1], single["iou"])
    np.testing.assert_allclose(scores["global_accuracy"], single["accuracy"])


def test_the_tables_of_tran2019_fit_together_by_these_definitions():
    """Table 1's global accuracy and weighted IoU give the share of each class, with the values of Table 2.

    These shares times the rows of Figure 6 are the confusion matrix, which gives the IoUs of Table 2 to
    0.003. They are the solution of nearly parallel equations, and the paper prints five digits. Precision
    in place of recall, or columns in place of rows, would be 0.1 away for white cells.
    """
    accuracy, iou = np.array([[0.94929, 0.91112, 0.87319], [0.75042, 0.80025, 0.82485]])
    shares = np.linalg.solve([accuracy, iou, np.ones(3)], [0.89447, 0.80901, 1])
    rows = np.array([[94.93, 3.37, 1.7], [1.641, 91.11, 7.247], [2.82, 9.861, 87.32]])
    matrix = np.rint(shares[:, np.newaxis] * rows * 1e6).astype(np.int64)
    scores = class_metrics.class_scores(matrix)
    np.testing.assert_allclose(scores["accuracy"], accuracy, atol=1e-4)
    np.testing.assert_allclose(scores["iou"], iou, atol=0.003)
    assert scores["mean_accuracy"] == pytest.approx(0.91120, abs=1e-4)
    assert scores["global_accuracy"] == pytest.approx(0.89447, abs=1e-4)
    np.testing.assert_allclose(class_metrics.normalise_rows(matrix), rows, atol=0.01)


def test_normalise_rows_by_hand():
    percent = class_metrics.normalise_rows(np.array([[3, 1, 0], [0, 0, 0], [1, 2, 1]]))
    np.testing.assert_array_equal(percent, [[75, 25, 0], [np.nan] * 3, [25, 50, 25]])


@pytest.mark.parametrize("function", [class_metrics.class_scores, class_metrics.normalise_rows])
def test_scores_refuse_what_is_no_matrix_of_counts(function):
    with pytest.raises(UserError, match=r"shape \(..., C, C\), got \(2, 3\)"):
        function(np.zeros((2, 3), dtype=int))
    with pytest.raises(UserError, match=r"shape \(..., C, C\), got \(4,\)"):
        function(np.zeros(4, dtype=int))
    with pytest.raises(UserError, match="counts of pixels as integers, got float64"):
        function(np.eye(2) * 100)


# Boundaries


def test_the_default_tolerance_is_a_share_of_the_diagonal():
    """The diagonal of 360 x 480 is 600, as 3, 4 and 5 are a right-angled triangle; 0.75 % of it 4.5."""
    assert class_metrics.default_tolerance((360, 480)) == pytest.approx(4.5)
    assert class_metrics.default_tolerance((30, 40, 3)) == pytest.approx(0.375)


def test_boundary_f1_by_hand():
    # Class 1: pixel 6 is 4 away from the true boundary. Up to there precision is 1/2 and recall 1.
    for tolerance in (0, 3, 3.9):
        assert boundary_f1(TRUE_A, PRED_A, 1, tolerance=tolerance) == pytest.approx(2 / 3)
    assert boundary_f1(TRUE_A, PRED_A, 1, tolerance=4) == 1
    # Class 0: pixel 5 is 2 away.
    assert boundary_f1(TRUE_A, PRED_A, 0, tolerance=1.9) == pytest.approx(2 / 3)
    assert boundary_f1(TRUE_A, PRED_A, 0, tolerance=2) == 1
    assert type(boundary_f1(TRUE_A, PRED_A, 0, tolerance=2)) is float


def test_distances_are_euclidean():
    """Single pixels at (1, 1) and (2, 2): the square root of 2 apart."""
    true, pred = np.zeros((2, 4, 4), dtype=np.uint8)
    true[1, 1] = pred[2, 2] = 1
    assert boundary_f1(true, pred, 1, tolerance=np.sqrt(2)) == 1
    assert boundary_f1(true, pred, 1, tolerance=1.41) == 0


def test_neighbours_share_an_edge():
    """A corner touched across is no boundary.

    Of the truth (0, 1) and (1, 0) are boundary; of the prediction these and (0, 2), (1, 1), (2, 2).
    Precision is 2/5, recall 1. If (1, 1) touched the corner it would be 3/6 and 1.
    """
    true = np.array([[0, 1, 1], [1, 1, 1], [1, 1, 1]])
    pred = np.array([[0, 1, 1], [1, 1, 0], [1, 1, 1]])
    assert boundary_f1(true, pred, 1, tolerance=0) == pytest.approx(4 / 7)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shift", [1, 2, 5])
def test_a_boundary_moved_within_the_tolerance_is_found(axis, shift):
    true, pred = np.zeros((2, 20, 20), dtype=np.uint8)
    true[:8] = pred[: 8 + shift] = 1
    if axis:
        true, pred = true.T, pred.T
    for value in (0, 1):
        assert boundary_f1(true, pred, value, tolerance=shift) == 1
        assert boundary_f1(true, pred, value, tolerance=shift - 0.01) == 0


def test_the_border_of_the_image_is_no_boundary():
    full, empty = np.ones((4, 4), dtype=np.uint8), np.zeros((4, 4), dtype=np.uint8)
    assert np.isnan(boundary_f1(full, full, 1, tolerance=1))
    assert np.isnan(boundary_f1(full, empty, 1, tolerance=1))  # wrong everywhere, but without any boundary


def test_only_one_map_has_a_boundary():
    empty = np.zeros_like(TRUE_A)
    for value in (0, 1):
        assert boundary_f1(TRUE_A, empty, value, tolerance=9) == 0
        assert boundary_f1(empty, PRED_A, value, tolerance=9) == 0
    assert np.isnan(boundary_f1(TRUE_A, PRED_A, 2, tolerance=9))


def test_a_neighbour_without_label_makes_no_boundary():
    true = np.array([[1, 1, UNLABELLED, 0, 0]])
    for value in (0, 1):
        assert np.isnan(boundary_f1(true, np.array([[1, 1, 1, 0, 0]]), value, tolerance=1))
        assert np.isnan(boundary_f1(true, np.array([[1, 1, 0, 0, 0]]), value, tolerance=1))
    # Pixel 0 is labelled and borders on pixel 1: the prediction alone has a boundary.
    assert boundary_f1(true, np.array([[1, 0, 0, 0, 0]]), 1, tolerance=1) == 0


def test_a_boundary_beside_a_hole_is_judged_where_it_has_labels():
    """The truth's boundary of class 1 is pixel (0, 1); (1, 1) and (2, 1) have no labelled neighbour but 1."""
    true = np.array([[1, 1, 0], [1, 1, UNLABELLED], [1, 1, UNLABELLED]])
    pred = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 0]])
    # Predicted: (0, 0) beside (0, 1), and (1, 1) under it; both 1 away from (0, 1), (0, 1) is 1 from both.
    assert boundary_f1(true, pred, 1, tolerance=1) == 1
    assert boundary_f1(true, pred, 1, tolerance=0.9) == 0


@given(maps, maps, maps, holes, tolerances)
def test_what_is_predicted_in_holes_never_matters(true, pred, other, hole, tolerance):
    true = np.where(hole, UNLABELLED, true)
    changed = np.where(hole, other, pred)
    tables = [
        class_metrics.tabulate_classes(["a"], [true], [one], NAMES, tolerance=tolerance)
        for one in (pred, changed)
    ]
    pd.testing.assert_frame_equal(*tables)


@given(maps, maps, tolerances)
def test_swapping_truth_and_prediction_leaves_boundary_f1(true, pred, tolerance):
    for value in range(3):
        np.testing.assert_allclose(
            boundary_f1(true, pred, value, tolerance=tolerance),
            boundary_f1(pred, true, value, tolerance=tolerance),
        )


@given(maps, maps, holes, st.integers(0, 3))
def test_rotations_and_mirrors_leave_boundary_f1(true, pred, hole, quarter_turns):
    true = np.where(hole, UNLABELLED, true)
    turned = [np.rot90(one, quarter_turns)[::-1] for one in (true, pred)]
    np.testing.assert_allclose(
        boundary_f1(*turned, 1, tolerance=1.5), boundary_f1(true, pred, 1, tolerance=1.5)
    )


@given(maps, maps, holes)
def test_a_larger_tolerance_never_lowers_boundary_f1(true, pred, hole):
    true = np.where(hole, UNLABELLED, true)
    scores = [boundary_f1(true, pred, 1, tolerance=tolerance) for tolerance in (0, 1, 1.5, 2, 3, 8)]
    # Sums of a few fractions: equal values may differ in the last digit.
    assert np.isnan(scores).all() or (np.diff(scores) >= -1e-12).all()


def test_boundary_f1_refuses_nonsense():
    with pytest.raises(UserError, match=r"same shape, got \(1, 8\) and \(8, 1\)"):
        boundary_f1(TRUE_A, PRED_A.T, 1, tolerance=1)
    with pytest.raises(UserError, match=r"two-dimensional, got the shape \(8,\)"):
        boundary_f1(TRUE_A[0], PRED_A[0], 1, tolerance=1)
    with pytest.raises(UserError, match="as integers, got float64"):
        boundary_f1(TRUE_A / 2, PRED_A, 1, tolerance=1)
    with pytest.raises(UserError, match="a class for every pixel"):
        boundary_f1(TRUE_A, TRUE_B, 1, tolerance=1)
    for value in (-1, UNLABELLED):
        with pytest.raises(UserError, match=f"`class_value` must lie in 0 to 254, got {value}"):
            boundary_f1(TRUE_A, PRED_A, value, tolerance=1)
    for tolerance in (-1, float("nan"), float("inf")):
        with pytest.raises(UserError, match=f"`tolerance` must be a distance.*got {tolerance}"):
            boundary_f1(TRUE_A, PRED_A, 1, tolerance=tolerance)


# Tables


@pytest.fixture
def pair_table():
    return class_metrics.tabulate_classes(["a", "b"], [TRUE_A, TRUE_B], [PRED_A, PRED_B], PAIR, tolerance=0)


def test_tabulate_by_hand(pair_table):
    """Counts and boundaries are derived where the images are drawn, above."""
    expected = pd.DataFrame(
        [
            ("a", "background", 3, 0, 2, 3, 2 / 3, 3, 2),
            ("a", "cell", 3, 2, 0, 3, 2 / 3, 0, 3),
            ("b", "background", 6, 0, 0, 0, np.nan, 6, 0),
            ("b", "cell", 0, 0, 0, 6, np.nan, 0, 0),
        ],
        columns=["image_id", "class", "tp", "fp", "fn", "tn", "bf", "as_background", "as_cell"],
    )
    pd.testing.assert_frame_equal(pair_table, expected)


def test_the_tolerance_is_by_default_that_of_each_image():
    """An edge moved by 3 pixels is found in an image 480 wide (4.5 pixels), not in one 48 wide (0.45)."""
    true, pred = [], []
    for shape in ((360, 480), (36, 48)):
        true.append(np.zeros(shape, dtype=np.uint8))
        pred.append(np.zeros(shape, dtype=np.uint8))
        true[-1][:, :20] = pred[-1][:, :23] = 1
    table = class_metrics.tabulate_classes(["large", "small"], true, pred, PAIR)
    assert table["bf"].tolist() == [1, 1, 0, 0]
    table = class_metrics.tabulate_classes(["large", "small"], true, pred, PAIR, tolerance=3)
    assert table["bf"].tolist() == [1, 1, 1, 1]


def test_the_confusion_of_any_images_is_rebuilt():
    ids, true, pred = draw_images(6, np.random.default_rng(0))
    table = class_metrics.tabulate_classes(ids, true, pred, NAMES)
    np.testing.assert_array_equal(
        class_metrics.confusion_from_table(table, NAMES), class_metrics.confusion(true, pred, 3)
    )
    some = [1, 4]
    rows = table[table["image_id"].isin([ids[index] for index in some])]
    np.testing.assert_array_equal(
        class_metrics.confusion_from_table(rows, NAMES), class_metrics.confusion(true[some], pred[some], 3)
    )


def test_the_order_of_rows_and_of_names_is_free():
    ids, true, pred = draw_images(4, np.random.default_rng(1))
    table = class_metrics.tabulate_classes(ids, true, pred, NAMES)
    shuffled = table.sample(frac=1, random_state=0)
    matrix = class_metrics.confusion_from_table(table, NAMES)
    np.testing.assert_array_equal(class_metrics.confusion_from_table(shuffled, NAMES), matrix)
    np.testing.assert_array_equal(class_metrics.confusion_from_table(table, NAMES[::-1]), matrix[::-1, ::-1])
    one, other = (
        class_metrics.score_classes(rows, names, rng=np.random.default_rng(0))
        for rows, names in ((table, NAMES), (shuffled, NAMES[::-1]))
    )
    assert one.keys() == other.keys()
    for name in one:
        if not name.endswith(("_low", "_high")):  # other images are drawn
            assert one[name] == pytest.approx(other[name])


def test_a_table_survives_its_file(tmp_path, pair_table):
    pair_table.to_csv(tmp_path / "table.csv", index=False)
    read = pd.read_csv(tmp_path / "table.csv")
    one, other = (
        class_metrics.score_classes(table, PAIR, rng=np.random.default_rng(0)) for table in (pair_table, read)
    )
    assert one == pytest.approx(other, nan_ok=True)


def test_tables_refuse_nonsense(pair_table):
    with pytest.raises(UserError, match="got 1, 2 and 2"):
        class_metrics.tabulate_classes(["a"], [TRUE_A] * 2, [PRED_A] * 2, PAIR)
    for names in ([], ["cell", "cell"]):
        with pytest.raises(UserError, match="`class_names` must hold 1 to 255 different names"):
            class_metrics.tabulate_classes(["a"], [TRUE_A], [PRED_A], names)
    for function in (
        class_metrics.confusion_from_table,
        lambda table, names: class_metrics.score_classes(table, names, rng=np.random.default_rng(0)),
    ):
        with pytest.raises(UserError, match="at least one image"):
            function(pair_table.iloc[:0], PAIR)
        with pytest.raises(UserError, match=r"lacks the columns \['as_wbc'\]"):
            function(pair_table, [*PAIR, "wbc"])
        with pytest.raises(UserError, match=r"classes \['cell'\], got \['background', 'cell'\]"):
            function(pair_table, ["cell"])


def test_scores_need_each_image_once_and_whole(pair_table):
    rng = np.random.default_rng(0)
    with pytest.raises(UserError, match="one row an image and class, 4 here, got 8 rows"):
        class_metrics.score_classes(pd.concat([pair_table, pair_table]), PAIR, rng=rng)
    with pytest.raises(UserError, match="one row an image and class, 4 here, got 3 rows"):
        class_metrics.score_classes(pair_table.iloc[:3], PAIR, rng=rng)


# Scores of a set of images


def test_score_classes_by_hand(pair_table):
    """Pooled [[9, 2], [0, 3]]; boundaries are those of image a, as b has none.

    A resample is image a twice (1/4 of them), a and b (1/2) or b twice (1/4).
    """
    scores = class_metrics.score_classes(pair_table, PAIR, rng=np.random.default_rng(0))
    expected = {
        "global_accuracy": 12 / 14,
        "mean_accuracy": (9 / 11 + 1) / 2,
        "mean_iou": (9 / 11 + 3 / 5) / 2,
        "weighted_iou": (11 * 9 / 11 + 3 * 3 / 5) / 14,
        "mean_bf": 2 / 3,
        "accuracy_background": 9 / 11,
        "accuracy_cell": 1,
        "iou_background": 9 / 11,
        "iou_cell": 3 / 5,
        "bf_background": 2 / 3,
        "bf_cell": 2 / 3,
    }
    others = {"n": 2, "bf_background_n_nan": 1, "bf_cell_n_nan": 1}
    ends = {f"{name}_{end}" for name in expected for end in ("low", "high")}
    assert scores.keys() == expected.keys() | others.keys() | ends
    for name, value in (expected | others).items():
        assert scores[name] == pytest.approx(value), name
    # a twice is right in 6 of 8 pixels, b twice in all; a quarter each is more than the 2.5 % cut off.
    assert (scores["global_accuracy_low"], scores["global_accuracy_high"]) == (6 / 8, 1)
    # The cells are all in a: resamples without it are left out, the others agree.
    for name in ("iou_cell", "bf_cell", "bf_background", "mean_bf"):
        assert scores[f"{name}_low"] == pytest.approx(expected[name])
        assert scores[f"{name}_high"] == pytest.approx(expected[name])


def test_mean_bf_is_over_classes_of_the_means_over_images():
    """Class 1 is in two images (BF 1 and 0), class 0 in three: (1 + 0) / 2 and (1 + 0 + 1/2) / 3."""
    columns = ["image_id", "class", "bf", "as_background", "as_cell"]
    rows = [
        ("a", "background", 1.0, 1, 0),
        ("a", "cell", 1.0, 0, 1),
        ("b", "background", 0.0, 1, 0),
        ("b", "cell", 0.0, 0, 1),
        ("c", "background", 0.5, 1, 0),
        ("c", "cell", np.nan, 0, 0),
    ]
    scores = class_metrics.score_classes(
        pd.DataFrame(rows, columns=columns), PAIR, rng=np.random.default_rng(0)
    )
    assert scores["bf_cell"] == scores["bf_background"] == scores["mean_bf"] == 1 / 2
    assert (scores["bf_cell_n_nan"], scores["bf_background_n_nan"]) == (1, 0)


def test_intervals_hold_the_scores():
    ids, true, pred = draw_images(12, np.random.default_rng(2))
    table = class_metrics.tabulate_classes(ids, true, pred, NAMES, tolerance=1)
    scores = class_metrics.score_classes(table, NAMES, rng=np.random.default_rng(0))
    names = [name.removesuffix("_low") for name in scores if name.endswith("_low")]
    assert len(names) == 5 + 3 * len(NAMES)
    for name in names:
        assert 0 <= scores[f"{name}_low"] < scores[name] < scores[f"{name}_high"] <= 1
    again = class_metrics.score_classes(table, NAMES, rng=np.random.default_rng(0))
    assert scores == again


def test_intervals_are_those_of_whole_images():
    """The same draws, made one by one with the functions above, give the same interval."""
    ids, true, pred = draw_images(5, np.random.default_rng(3))
    table = class_metrics.tabulate_classes(ids, true, pred, NAMES)
    scores = class_metrics.score_classes(table, NAMES, rng=np.random.default_rng(4), n_resamples=50)
    values = [
        class_metrics.class_scores(class_metrics.confusion(true[drawn], pred[drawn], 3))["weighted_iou"]
        for drawn in np.random.default_rng(4).integers(5, size=(50, 5))
    ]
    low, high = np.quantile(values, [0.025, 0.975])
    assert scores["weighted_iou_low"] == pytest.approx(low)
    assert scores["weighted_iou_high"] == pytest.approx(high)


def test_one_image_has_an_interval_without_width(pair_table):
    scores = class_metrics.score_classes(pair_table.iloc[:2], PAIR, rng=np.random.default_rng(0))
    assert scores["iou_cell_low"] == scores["iou_cell"] == scores["iou_cell_high"] == 3 / 5


def test_where_nothing_is_labelled_nothing_is_defined():
    true = np.full((2, 3, 3), UNLABELLED, dtype=np.uint8)
    table = class_metrics.tabulate_classes(["a", "b"], true, true * 0, PAIR)
    assert (table[["tp", "fp", "fn", "tn"]] == 0).all(axis=None)
    scores = class_metrics.score_classes(table, PAIR, rng=np.random.default_rng(0))
    counted = {name: scores.pop(name) for name in ("n", "bf_background_n_nan", "bf_cell_n_nan")}
    assert counted == {"n": 2, "bf_background_n_nan": 2, "bf_cell_n_nan": 2}
    assert all(np.isnan(value) for value in scores.values())


def test_scores_go_into_json(pair_table):
    scores = class_metrics.score_classes(pair_table, PAIR, rng=np.random.default_rng(0))
    assert {type(value) for value in scores.values()} == {int, float}
    assert json.loads(json.dumps(scores)) == scores

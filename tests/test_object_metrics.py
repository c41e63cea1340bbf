"""Scores of objects and of counts, against values worked out by hand."""

import numpy as np
import pytest

from bloodcells import object_metrics
from bloodcells.errors import UserError


def box(top, left, bottom, right):
    """Return the outline of a rectangle that includes its last row and column."""
    return np.array([[top, left], [top, right], [bottom, right], [bottom, left]], float)


def fill(shape, *boxes):
    """Return a label image of rectangles (label, top, left, bottom, right); later ones lie above."""
    labels = np.zeros(shape, np.int32)
    for label, top, left, bottom, right in boxes:
        labels[top : bottom + 1, left : right + 1] = label
    return labels


def counts(match):
    return match.tp, match.fp, match.fn


def test_outline_holds_the_pixels_it_runs_through():
    top, left, patch = object_metrics.fill_outline(box(2, 3, 5, 9))
    assert (top, left, patch.shape) == (2, 3, (4, 7))
    assert patch.all()
    _, _, triangle = object_metrics.fill_outline(np.array([[0, 0], [4, 0], [4, 4]]))
    np.testing.assert_array_equal(triangle, np.tri(5, dtype=bool))


def test_outline_that_crosses_itself_is_filled_on_both_sides():
    top, left, patch = object_metrics.fill_outline(np.array([[0, 0], [8, 8], [8, 0], [0, 8]]))
    assert (top, left, patch.shape) == (0, 0, (9, 9))
    assert patch[0].all()
    assert patch[8].all()
    assert patch[4].tolist() == [False] * 4 + [True] + [False] * 4  # the waist
    np.testing.assert_array_equal(patch, patch[::-1])
    np.testing.assert_array_equal(patch, patch[:, ::-1])


def test_matching_outlines():
    # First cell: 4 x 5 true pixels, 4 x 4 of them found: IoU 16 / 20. Second cell: missed. Label 9: nothing.
    labels = fill((20, 30), (5, 2, 2, 5, 5), (9, 15, 15, 17, 17))
    match = object_metrics.match_outlines([box(10, 20, 13, 23), box(2, 2, 5, 6)], labels)
    assert counts(match) == (1, 1, 1)
    assert match.pairs.tolist() == [[1, 5]]
    assert match.values.tolist() == [0.8]
    assert counts(object_metrics.match_outlines([box(2, 2, 5, 6)], labels, iou_threshold=0.8)) == (1, 1, 0)
    assert counts(object_metrics.match_outlines([box(2, 2, 5, 6)], labels, iou_threshold=0.81)) == (0, 2, 1)


def test_overlapping_outlines_are_each_compared_whole():
    # Both cells have 6 x 10 pixels and share 6 x 3. Labels cannot overlap, so the first lost that.
    labels = fill((6, 20), (1, 0, 0, 5, 9), (2, 0, 7, 5, 16))
    match = object_metrics.match_outlines([box(0, 0, 5, 9), box(0, 7, 5, 16)], labels)
    assert match.pairs.tolist() == [[0, 1], [1, 2]]
    np.testing.assert_allclose(match.values, [0.7, 1.0])


def test_matching_is_one_to_one_and_finds_most_pairs():
    # Label 1 (10 columns) fits outline 0 (10) best but outline 1 (7) too; label 2 fits outline 0 alone.
    # Greedy matching would pair outline 0 with label 1 and leave the others alone.
    labels = fill((10, 12), (1, 0, 0, 4, 9), (2, 5, 0, 9, 9))
    outlines = [box(0, 0, 9, 9), box(0, 0, 4, 6)]
    match = object_metrics.match_outlines(outlines, labels)
    assert match.pairs.tolist() == [[0, 2], [1, 1]]  # IoU 0.5 and 0.7
    np.testing.assert_allclose(match.values, [0.5, 0.7])
    # Twice the same outline: one of them is missed.
    assert counts(object_metrics.match_outlines([box(0, 0, 4, 9)] * 2, fill((5, 12), (3, 0, 0, 4, 9)))) == (
        1,
        0,
        1,
    )


def test_better_of_two_equal_choices_is_taken():
    labels = fill((10, 12), (1, 0, 0, 9, 8))
    match = object_metrics.match_outlines([box(0, 0, 9, 9), box(0, 0, 9, 8)], labels)
    assert match.pairs.tolist() == [[1, 1]]
    assert match.values.tolist() == [1.0]


@pytest.mark.parametrize(
    "outline",
    [
        box(-1, -1, 3, 3),  # past the border
        box(6, 8, 10, 12),
        box(-0.4, -0.4, 3.3, 3.3),
    ],
)
def test_outline_is_clipped_to_the_image(outline):
    labels = fill((10, 12), (1, 0, 0, 3, 3), (2, 6, 8, 9, 11))
    match = object_metrics.match_outlines([outline], labels)
    assert counts(match) == (1, 1, 0)
    assert match.values.tolist() == [1.0]


@pytest.mark.parametrize(
    "outline",
    [
        np.array([[2, 2], [2, 9]]),  # strokes
        np.array([[2, 2], [8, 8], [2, 2]]),
        np.array([[4, 4]]),
        box(-20, -20, -10, -10),  # outside
        box(30, 2, 40, 5),
        box(2, 30, 5, 40),
    ],
)
def test_outline_without_area_can_only_be_missed(outline):
    labels = fill((10, 12), (1, 0, 0, 9, 11))
    assert counts(object_metrics.match_outlines([outline], labels)) == (0, 1, 1)


def test_labels_may_be_huge_or_without_background():
    labels = fill((4, 6), (2_000_000_000, 0, 0, 3, 2), (7, 0, 3, 3, 5))
    for image in (labels, labels.astype(np.int64) * 1000):
        match = object_metrics.match_outlines([box(0, 0, 3, 2), box(0, 3, 3, 5)], image)
        assert match.pairs.tolist() == [[0, image[0, 0]], [1, image[0, 5]]]
        assert counts(match) == (2, 0, 0)
    labels[:, 3] = 0
    assert counts(object_metrics.match_outlines([box(0, 0, 3, 2)], labels)) == (1, 1, 0)


def test_nothing_true_or_nothing_found():
    empty = np.zeros((5, 6), int)
    match = object_metrics.match_outlines([], empty)
    assert counts(match) == (0, 0, 0)
    assert match.pairs.shape == (0, 2)
    assert counts(object_metrics.match_outlines([], fill((5, 6), (1, 0, 0, 2, 2)))) == (0, 1, 0)
    assert counts(object_metrics.match_outlines([box(0, 0, 2, 2)], empty)) == (0, 0, 1)
    assert counts(object_metrics.match_centres([], np.zeros((0, 2)), max_distance=3)) == (0, 0, 0)
    assert counts(object_metrics.match_centres([], np.zeros((2, 3)), max_distance=3)) == (0, 2, 0)
    assert counts(object_metrics.match_centres([box(0, 0, 2, 2)], np.zeros((0, 3)), max_distance=3)) == (
        0,
        0,
        1,
    )


def test_matching_centres():
    outlines = [box(0, 0, 10, 10), box(0, 20, 10, 30)]  # centres (5, 5) and (5, 25)
    points = np.array([[5, 22, 9.0], [8, 9, 9.0], [40, 40, 9.0]])
    match = object_metrics.match_centres(outlines, points, max_distance=5)
    assert counts(match) == (2, 1, 0)
    assert match.pairs.tolist() == [[0, 1], [1, 0]]
    assert match.values.tolist() == [5, 3]  # the first by 3, 4, 5
    assert counts(object_metrics.match_centres(outlines, points, max_distance=4.9)) == (1, 2, 1)
    assert counts(object_metrics.match_centres(outlines, points, max_distance=[5, 2])) == (1, 2, 1)


def test_centres_are_matched_one_to_one_for_most_pairs():
    outlines = [box(0, 0, 2, 2), box(0, 3, 2, 5)]  # centres in columns 1 and 4
    # The point in column 3 is closest to the second cell, which alone reaches column 7.
    match = object_metrics.match_centres(outlines, np.array([[1, 3], [1, 7]]), max_distance=3)
    assert match.pairs.tolist() == [[0, 0], [1, 1]]
    # Of two points within reach the closer one.
    match = object_metrics.match_centres(outlines[:1], np.array([[1, 3], [1, 2]]), max_distance=3)
    assert match.pairs.tolist() == [[0, 1]]


def test_distance_0_needs_the_very_centre():
    match = object_metrics.match_centres([box(0, 0, 2, 2)], np.array([[1, 2], [1, 1]]), max_distance=0)
    assert match.pairs.tolist() == [[0, 1]]


def test_object_scores():
    scores = object_metrics.object_scores(tp=6, fp=2, fn=4)
    assert scores == {"precision": 0.75, "recall": 0.6, "f1": 12 / 18}
    swapped = object_metrics.object_scores(tp=6, fp=4, fn=2)
    assert (swapped["precision"], swapped["recall"], swapped["f1"]) == (0.6, 0.75, 12 / 18)


def test_object_scores_by_the_empty_rule():
    # Columns: nothing at all; nothing true; nothing found.
    scores = object_metrics.object_scores(np.zeros(3), np.array([0, 2, 0]), np.array([0, 0, 2]))
    np.testing.assert_array_equal(scores["precision"], [np.nan, 0, np.nan])
    np.testing.assert_array_equal(scores["recall"], [np.nan, np.nan, 0])
    np.testing.assert_array_equal(scores["f1"], [np.nan, 0, 0])


def test_count_scores():
    # Differences -1, +2, +4, -1: mean 1, mean size 2, sum of squares about the mean 4 + 1 + 9 + 4 = 18.
    scores = object_metrics.count_scores([10, 20, 2, 0 + 100], [9, 22, 6, 99])
    assert scores.n == 4
    np.testing.assert_allclose(scores.accuracy, [90, 90, -100, 99])
    assert scores.mean_accuracy == pytest.approx(179 / 4)
    assert (scores.n_nan, scores.mae, scores.bias) == (0, 2, 1)
    spread = 1.96 * np.sqrt(18 / 3)
    assert scores.limits == pytest.approx((1 - spread, 1 + spread))


def test_count_scores_of_images_without_cells():
    scores = object_metrics.count_scores([0, 0, 4], [0, 3, 3])
    np.testing.assert_array_equal(scores.accuracy, [np.nan, np.nan, 75])
    assert (scores.mean_accuracy, scores.n_nan) == (75, 2)
    assert scores.mae == pytest.approx(4 / 3)  # these images count here
    one = object_metrics.count_scores([4], [3])
    assert one.bias == -1
    assert np.isnan(one.limits).all()
    none = object_metrics.count_scores([], [])
    assert (none.n, none.n_nan) == (0, 0)
    assert np.isnan([none.mean_accuracy, none.mae, none.bias, *none.limits]).all()


@pytest.mark.parametrize(
    ("n_true", "n_pred", "message"),
    [
        ([1, 2], [1], r"same length, got \(2,\) and \(1,\)"),
        ([[1]], [[1]], r"lists of the same length, got \(1, 1\)"),
        ([1, -2], [1, 2], "`n_true` must hold whole numbers, 0 or more, got -2"),
        ([1, 2], [1, 2.5], "`n_pred` must hold whole numbers, 0 or more, got 2.5"),
        ([1, 2], [np.nan, 2], "`n_pred` must hold whole numbers, 0 or more, got nan"),
        ([np.inf], [2], "`n_true` must hold whole numbers, 0 or more, got inf"),
    ],
)
def test_error_for_counts(n_true, n_pred, message):
    with pytest.raises(UserError, match=message):
        object_metrics.count_scores(n_true, n_pred)


@pytest.mark.parametrize(
    ("outlines", "labels", "options", "message"),
    [
        ([np.zeros((3, 3))], np.zeros((4, 4), int), {}, r"shape \(K, 2\) .* got \(3, 3\) for number 0"),
        ([box(0, 0, 1, 1), np.zeros((0, 2))], np.zeros((4, 4), int), {}, r"got \(0, 2\) for number 1"),
        ([box(0, 0, 1, np.nan)], np.zeros((4, 4), int), {}, "finite pixel coordinates, outline 0"),
        ([], np.zeros((4, 4)), {}, r"2-D integer array, got float64 of shape \(4, 4\)"),
        ([], np.zeros((4, 4, 3), int), {}, r"2-D integer array, got int64 of shape \(4, 4, 3\)"),
        ([], np.full((4, 4), -1), {}, "must not be negative, got -1"),
        ([], np.zeros((4, 4), int), {"iou_threshold": 0}, "above 0 and at most 1, got 0"),
    ],
)
def test_error_for_outlines_and_labels(outlines, labels, options, message):
    with pytest.raises(UserError, match=message):
        object_metrics.match_outlines(outlines, labels, **options)


@pytest.mark.parametrize(
    ("points", "max_distance", "message"),
    [
        (np.zeros((2, 4)), 1, r"shape \(n, 2\) or \(n, 3\), got \(2, 4\)"),
        (np.full((2, 2), np.inf), 1, "finite"),
        (np.zeros((2, 2)), -1, "at least 0, got -1"),
        (np.zeros((2, 2)), [1, 2], r"one for each of the 1 outlines, got shape \(2,\)"),
    ],
)
def test_error_for_centres(points, max_distance, message):
    with pytest.raises(UserError, match=message):
        object_metrics.match_centres([box(0, 0, 1, 1)], points, max_distance=max_distance)

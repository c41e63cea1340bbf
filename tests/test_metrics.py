import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bloodcells import metrics
from bloodcells.datasets import Sample
from bloodcells.errors import UserError

TRUE = np.array([[1, 1, 1, 0], [0, 0, 0, 0]], dtype=bool)
PRED = np.array([[1, 0, 0, 1], [0, 0, 0, 0]], dtype=bool)
# By hand: tp 1, fp 1, fn 2, tn 4.

masks = hnp.arrays(bool, (3, 4))


def test_binary_counts_by_hand():
    assert metrics.binary_counts(TRUE, PRED) == {"tp": 1, "fp": 1, "fn": 2, "tn": 4}


def test_pixel_scores_by_hand():
    scores = metrics.pixel_scores(tp=1, fp=1, fn=2, tn=4)
    assert scores == pytest.approx(
        {
            "accuracy": 5 / 8,
            "precision": 1 / 2,
            "recall": 1 / 3,
            "specificity": 4 / 5,
            "dice": 2 / 5,
            "iou": 1 / 4,
        }
    )


@given(masks, masks)
def test_swapping_truth_and_prediction_swaps_precision_and_recall(true, pred):
    one = metrics.pixel_scores(**metrics.binary_counts(true, pred))
    other = metrics.pixel_scores(**metrics.binary_counts(pred, true))
    np.testing.assert_equal(one["precision"], other["recall"])
    for name in ("accuracy", "dice", "iou"):
        np.testing.assert_equal(one[name], other[name])


@given(masks, masks)
def test_dice_and_iou_tell_the_same(true, pred):
    scores = metrics.pixel_scores(**metrics.binary_counts(true, pred))
    np.testing.assert_allclose(scores["dice"], 2 * scores["iou"] / (1 + scores["iou"]))


@given(masks, masks, st.integers(0, 3))
def test_rotations_leave_the_counts(true, pred, quarter_turns):
    turned = np.rot90(true, quarter_turns), np.rot90(pred, quarter_turns)
    assert metrics.binary_counts(true, pred) == metrics.binary_counts(*turned)


def test_the_empty_rule():
    nothing = metrics.pixel_scores(**metrics.binary_counts(np.zeros((2, 2), bool), np.zeros((2, 2), bool)))
    assert nothing["accuracy"] == nothing["specificity"] == 1
    assert np.isnan(metrics.pixel_scores(tp=1, fp=0, fn=1, tn=0)["specificity"])
    assert all(np.isnan(nothing[name]) for name in ("precision", "recall", "dice", "iou"))
    missed = metrics.pixel_scores(tp=0, fp=0, fn=3, tn=1)
    assert np.isnan(missed["precision"])
    assert missed["dice"] == missed["recall"] == 0
    false = metrics.pixel_scores(tp=0, fp=3, fn=0, tn=1)
    assert np.isnan(false["recall"])
    assert false["dice"] == false["precision"] == 0


def test_mean_score_leaves_out_and_reports():
    assert metrics.mean_score([0.5, float("nan"), 1.0]) == (0.75, 1)
    mean, n_nan = metrics.mean_score([float("nan")])
    assert np.isnan(mean)
    assert n_nan == 1


def test_confusion_matrix_by_hand():
    true = np.array([[0, 1, 2], [2, 2, 0]])
    pred = np.array([[0, 2, 2], [1, 2, 0]])
    np.testing.assert_array_equal(metrics.confusion_matrix(true, pred, 3), [[2, 0, 0], [0, 0, 1], [0, 1, 2]])


def test_confusion_matrix_refuses_other_shapes_and_classes():
    with pytest.raises(UserError, match="same shape"):
        metrics.confusion_matrix(np.zeros(3, int), np.zeros(4, int), 2)
    with pytest.raises(UserError, match="`pred` must hold classes 0 to 1, got 0 to 255"):
        metrics.confusion_matrix(np.zeros(2, int), np.array([0, 255]), 2)


def test_large_images_do_not_overflow():
    big = np.ones((3000, 3000), dtype=np.uint8)
    assert metrics.confusion_matrix(big, big, 2)[1, 1] == 9_000_000


def test_summary_by_hand():
    """Image a has Dice 2/5 (above), image b is empty in truth and prediction (undefined), 8 pixels each."""
    table = pd.DataFrame([{"tp": 1, "fp": 1, "fn": 2, "tn": 4}, {"tp": 0, "fp": 0, "fn": 0, "tn": 8}])
    summary = metrics.summarise_pixels(table, rng=np.random.default_rng(0))
    assert summary["n"] == 2
    assert summary["dice"] == pytest.approx(2 / 5)  # pooled: the empty image adds true negatives only
    assert summary["accuracy"] == pytest.approx(13 / 16)
    assert (summary["dice_mean"], summary["dice_n_nan"]) == (pytest.approx(2 / 5), 1)
    assert summary["mean_iou"] == pytest.approx((1 / 4 + 12 / 15) / 2)
    # Resamples hold a at least once, or are undefined and left out: Dice is always 2/5.
    assert summary["dice_low"] == summary["dice_high"] == pytest.approx(2 / 5)


def test_intervals_cover_the_truth():
    """Of 200 samples of 40 coin throws about 95 % of the intervals hold the coin's 0.6."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        throws = pd.DataFrame({"hit": rng.random(40) < 0.6})
        low, high = metrics.bootstrap_interval(throws, lambda t: t["hit"].mean(), rng=rng, n_resamples=200)
        covered += low <= 0.6 <= high
    assert 174 <= covered <= 200  # 95 % less 5 standard deviations


def test_intervals_refuse_nonsense():
    with pytest.raises(UserError, match="at least one image"):
        metrics.bootstrap_interval(pd.DataFrame(), len, rng=np.random.default_rng(0))
    with pytest.raises(UserError, match="between 0 and 1"):
        metrics.bootstrap_interval(pd.DataFrame({"a": [1]}), len, rng=np.random.default_rng(0), level=95)


def per_image(method, n_right, n_images=30):
    """Images of ten pixels, all foreground, of which the method finds some."""
    rows = [
        {"image_id": str(i), "class": "any", "tp": n_right, "fp": 0, "fn": 10 - n_right, "tn": 0}
        for i in range(n_images)
    ]
    return pd.DataFrame(rows).assign(method=method, seed=0)


def test_gaps_by_hand():
    """Finding 4, 8 and 8 of 10 pixels gives Dice 8/14, 16/18, 16/18; without variation no width."""
    table = pd.concat([per_image("a", 4), per_image("b", 8), per_image("c", 8)])
    (gap, low, high), (none, *_) = metrics.bootstrap_gaps(
        table, ["a", "b", "c"], "dice", rng=np.random.default_rng(0)
    )
    assert gap == pytest.approx(16 / 18 - 8 / 14)
    assert low == pytest.approx(gap)
    assert high == pytest.approx(gap)
    assert none == 0


def test_gaps_change_sign_with_the_order():
    table = pd.concat([per_image("a", 4), per_image("b", 8)])
    ((there, *_),) = metrics.bootstrap_gaps(table, ["a", "b"], "iou", rng=np.random.default_rng(0))
    ((back, *_),) = metrics.bootstrap_gaps(table, ["b", "a"], "iou", rng=np.random.default_rng(0))
    assert there == -back > 0


def test_gaps_need_the_same_images():
    table = pd.concat([per_image("a", 4), per_image("b", 8, n_images=29)])
    with pytest.raises(UserError, match="images of b and a differ"):
        metrics.bootstrap_gaps(table, ["a", "b"], "dice", rng=np.random.default_rng(0))


def test_gaps_know_of_seeds():
    """Two seeds of a find 4 and 6 of 10 pixels, one of b 8: Dice 2/3 pooled, 4/7 and 3/4 alone, 8/9."""
    seeds = pd.concat([per_image("a", 4), per_image("a", 6).assign(seed=1)])
    table = pd.concat([seeds, per_image("b", 8)])
    ((gap, low, high),) = metrics.bootstrap_gaps(table, ["a", "b"], "dice", rng=np.random.default_rng(0))
    assert gap == pytest.approx(8 / 9 - 2 / 3)
    # One of the two seeds is drawn, images are all alike: each gap comes in half of the resamples.
    assert (low, high) == pytest.approx((8 / 9 - 3 / 4, 8 / 9 - 4 / 7))


def test_gaps_have_the_variance_of_a_mean_over_seeds():
    """Seeds that scatter by s have a mean with a variance of s^2 / n: an interval of 2 x 1.96 s / sqrt(n)."""
    rng = np.random.default_rng(3)
    right = rng.normal(5e5, 1e4, size=12).astype(int)
    seeds = pd.concat(
        [per_image("a", 0, n_images=2).assign(seed=seed, tp=n, fn=10**6 - n) for seed, n in enumerate(right)]
    )
    table = pd.concat([seeds, per_image("b", 8, n_images=2)])
    ((_, low, high),) = metrics.bootstrap_gaps(table, ["a", "b"], "recall", rng=rng, n_resamples=20_000)
    expected = 2 * 1.96 * right.std(ddof=1) / 10**6 / np.sqrt(12)
    assert high - low == pytest.approx(expected, rel=0.06)  # eleven draws are nearly normal


def test_gaps_need_every_image_of_every_seed():
    table = pd.concat([per_image("a", 4), per_image("a", 6, n_images=29).assign(seed=1), per_image("b", 8)])
    with pytest.raises(UserError, match="seeds of a differ in their images"):
        metrics.bootstrap_gaps(table, ["a", "b"], "dice", rng=np.random.default_rng(0))


def test_count_pixels_and_score_cells_by_hand():
    """Types x (1) and y (2). Image p: x found but for one pixel. Image q: y taken for x."""
    true = np.array([[[1, 1, 0, 0]], [[2, 2, 0, 0]]])
    pred = np.array([[[1, 0, 0, 0]], [[1, 1, 0, 0]]])
    blank = np.zeros((1, 4, 3), np.uint8)
    samples = [
        Sample("d", name, kind, blank, None, blank[..., 0] > 0) for name, kind in (("p", "x"), ("q", "y"))
    ]
    table = metrics.tabulate_cells(samples, true, pred, ["x", "y"])
    assert table["image_id"].tolist() == ["p"] * 3 + ["q"] * 3
    assert table["type_true"].tolist() == ["x"] * 3 + ["y"] * 3
    assert set(table["type_pred"]) == {"x"}
    pooled = table[table["class"] == "any"][["tp", "fp", "fn", "tn"]].sum().to_dict()
    assert pooled == {"tp": 3, "fp": 0, "fn": 1, "tn": 4}
    scores = metrics.score_cells(table, ["x", "y"], rng=np.random.default_rng(0))
    assert scores["dice"] == pytest.approx(6 / 7)
    assert scores["cell_accuracy"] == 1 / 2
    assert scores["dice_x"] == pytest.approx(2 * 1 / (2 * 1 + 2 + 1))  # tp 1, fp 2 (from q), fn 1
    assert scores["precision_x"] == pytest.approx(1 / 3)
    assert scores["dice_y"] == 0
    assert np.isnan(scores["precision_y"])


def test_type_table_has_every_type_and_none():
    table = pd.DataFrame({"type_true": ["x", "x", "y"], "type_pred": ["x", "", "x"]})
    found = metrics.type_table(table, ["x", "y", "z"])
    assert list(found.columns) == ["x", "y", "z", "none"]
    np.testing.assert_array_equal(found, [[1, 0, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]])


def test_scores_by_dataset_use_their_own_images():
    true, pred = np.array([[[1, 1]], [[1, 1]]]), np.array([[[1, 1]], [[1, 0]]])
    table = metrics.count_pixels(["p", "q"], true, pred, ["x"])
    table["dataset"] = ["one", "one", "two", "two"]
    table["type_true"] = table["type_pred"] = "x"
    scores = metrics.score_datasets(table, ["x"], seed=0)["datasets"]
    assert scores["one"]["dice"] == 1
    assert scores["two"]["dice"] == pytest.approx(2 / 3)


def test_gaps_of_a_class_by_hand():
    """Recall of a class is 4/10 and 8/10; the other class, found whole by both, doesn't count."""
    parts = []
    for method, n_right in (("a", 4), ("b", 8)):
        parts.append(per_image(method, n_right).assign(**{"class": "x"}))
        parts.append(per_image(method, 10).assign(**{"class": "y"}))
    table = pd.concat(parts)
    rng = np.random.default_rng(0)
    ((gap, low, high),) = metrics.bootstrap_gaps(table, ["a", "b"], "recall", rng=rng, of="x")
    assert (gap, low, high) == pytest.approx((0.4, 0.4, 0.4))
    ((gap, low, high),) = metrics.bootstrap_gaps(table, ["a", "b"], "recall", rng=rng, of="mean")
    assert (gap, low, high) == pytest.approx((0.2, 0.2, 0.2))


def test_gaps_of_all_classes_added_up_by_hand():
    """Class x has 10 true pixels an image and y 30: recalls 4/10 and 30/30 make 34/40, 8/10 make 38/40."""
    parts = []
    for method, n_right in (("a", 4), ("b", 8)):
        parts.append(per_image(method, n_right).assign(**{"class": "x"}))
        parts.append(per_image(method, 10).assign(**{"class": "y"}, tp=30, fn=0))
    rng = np.random.default_rng(0)
    ((gap, low, high),) = metrics.bootstrap_gaps(pd.concat(parts), ["a", "b"], "recall", rng=rng, of="pooled")
    assert (gap, low, high) == pytest.approx((0.1, 0.1, 0.1))


def test_gaps_of_undefined_scores():
    """Nothing is predicted: a precision of 0/0. A class that is nowhere is left out of the mean."""
    empty = per_image("b", 0)
    rng = np.random.default_rng(0)
    ((*gap,),) = metrics.bootstrap_gaps(
        pd.concat([per_image("a", 4), empty]), ["a", "b"], "precision", rng=rng
    )
    assert np.isnan(gap).all()
    parts = []
    for method, n_right in (("a", 4), ("b", 8)):
        parts.append(per_image(method, n_right).assign(**{"class": "x"}))
        parts.append(per_image(method, 0).assign(**{"class": "nowhere"}, fn=0, tn=10))
    ((gap, *_),) = metrics.bootstrap_gaps(pd.concat(parts), ["a", "b"], "recall", rng=rng, of="mean")
    assert gap == pytest.approx(0.4)


def test_mean_defined_along_an_axis():
    values = [[1.0, np.nan, 3.0], [np.nan] * 3]
    np.testing.assert_array_equal(metrics.mean_defined(values), [2, np.nan])
    np.testing.assert_array_equal(metrics.mean_defined(values, axis=0), [1, np.nan, 3])

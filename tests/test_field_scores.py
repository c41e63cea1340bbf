import numpy as np
import pandas as pd
import pytest

from bloodcells.errors import UserError
from bloodcells.field_scores import (
    count_truth,
    groups,
    score_field,
    score_fields,
    scores_by_group,
    truth_from_mask,
)
from bloodcells.fields import Field, list_fields

SETTINGS = {"cht": {}, "ccl": {}, "edt": {}, "tree": {}}


def disc(centre, radius, shape=(80, 100)):
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return np.hypot(rows - centre[0], columns - centre[1]) <= radius


def circle(centre, radius):
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    return np.stack([centre[0] + radius * np.sin(angles), centre[1] + radius * np.cos(angles)], axis=1)


@pytest.fixture
def field():
    centres = [(20, 20), (20, 60), (60, 40)]
    mask = np.any([disc(centre, 10) for centre in centres], axis=0)
    image = np.zeros((80, 100, 3), np.uint8)
    return Field("all-idb1", "a", image, {"rbc": mask}, [circle(c, 10) for c in centres], {"rbc": 3})


def test_perfect_probability_scores_perfectly(field):
    mask = field.masks["rbc"].astype(np.float32)
    probability = np.stack([mask, np.zeros_like(mask)], axis=-1)
    row = score_field(field, probability, 1.0, cell="rbc", cell_radius=10, settings=SETTINGS)
    assert (row["n_true"], row["truth"]) == (3, "count")
    assert (row["tp"], row["fp"], row["fn"]) == (mask.sum(), 0, 0)
    for method in ("ccl", "edt", "tree"):
        assert (row[f"n_{method}"], row[f"{method}_tp"], row[f"{method}_fp"]) == (3, 3, 0)
    assert row["edge_tp"] == 0  # no edge predicted: all missed
    assert row["edge_fn"] > 0


def test_a_missed_and_a_false_cell_do_not_cancel(field):
    mask = (disc((20, 20), 10) | disc((20, 60), 10) | disc((60, 80), 10)).astype(np.float32)
    row = score_field(
        field, mask[..., np.newaxis], 1.0, cell="rbc", cell_radius=10, settings=SETTINGS, methods=["ccl"]
    )
    assert row["n_ccl"] == 3
    assert (row["ccl_tp"], row["ccl_fp"], row["ccl_fn"]) == (2, 1, 1)


def test_platelets_without_a_count_are_the_components_of_the_mask():
    mask = disc((20, 20), 4) | disc((50, 50), 4)
    mask[70, 90] = True  # a speck: under a hundredth of the area of a cell of radius 10, 3.1 pixels
    field = Field("all-idb1", "a", np.zeros((80, 100, 3), np.uint8), {"plt": mask}, None, {})
    assert count_truth(field, "plt", own_radius=10) == (2, "mask")
    assert count_truth(field, "wbc", own_radius=10) == (None, "")
    assert truth_from_mask(mask, own_radius=10, smallest=0) == 3


def table(**columns):
    base = {"tp": 8, "fp": 2, "fn": 2, "tn": 88}
    return pd.DataFrame(base | columns)


def test_scores_by_hand():
    rows = table(n_true=[10, 20, 0], n_ccl=[9, 24, 1], ccl_tp=[8, 18, 0], ccl_fp=[1, 6, 1], ccl_fn=[2, 2, 0])
    scores = score_fields(rows, rng=np.random.default_rng(0), methods=["ccl"])
    assert (scores["n"], scores["n_counted"]) == (3, 2)
    assert scores["ccl_accuracy"] == pytest.approx((0.9 + 0.8) / 2)  # the field without a cell is left out
    assert scores["ccl_accuracy_low"] <= scores["ccl_accuracy"] <= scores["ccl_accuracy_high"]
    assert scores["ccl_mae"] == pytest.approx((1 + 4 + 1) / 3)
    assert scores["ccl_bias"] == pytest.approx((-1 + 4 + 1) / 3)
    assert scores["ccl_f1"] == pytest.approx(2 * 26 / (2 * 26 + 8 + 4))
    assert scores["mask_dice"] == pytest.approx(0.8)
    assert scores["mask_tversky"] == pytest.approx(8 / (8 + 0.3 * 2 + 0.7 * 2))
    assert np.isnan(scores["edge_dice"])


def test_unknown_truth_is_left_out():
    rows = table(n_true=[10, None], n_ccl=[10, 99])
    scores = score_fields(rows, rng=np.random.default_rng(0), methods=["ccl"])
    assert (scores["n_counted"], scores["ccl_accuracy"]) == (1, 1.0)
    assert np.isnan(scores["ccl_f1"])
    with pytest.raises(UserError, match="at least one field"):
        score_fields(rows.head(0), rng=np.random.default_rng(0))


def test_groups_of_fields():
    ids = list_fields("all-idb1", "rbc", "counted")
    found = groups("all-idb1", "rbc", ids)
    assert {name: len(members) for name, members in found.items()} == {"test": 3, "paper": 13, "counted": 13}
    assert groups("all-idb1", "rbc", ids[:1])["test"] == []


def test_groups_without_a_field_are_left_out():
    rows = table(
        dataset="all-idb1", image_id=["Im001_1"], n_true=[215], **{f"n_{m}": [215] for m in SETTINGS}
    )
    scores = scores_by_group(rows, "rbc", seed=0)
    assert set(scores["datasets"]) == {"all-idb1/paper", "all-idb1/counted"}

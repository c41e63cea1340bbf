"""Counts under set conditions, with a network whose answers are known."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from bloodcells.controlled_counts import (
    LEVELS,
    REFERENCE,
    breaking_points,
    breaking_table,
    choose_levels,
    count_condition,
    list_conditions,
    reference_table,
    summarise,
)
from bloodcells.drawn_conditions import Condition
from bloodcells.errors import UserError
from bloodcells.networks import WEIGHTS, Network, read_card


@pytest.fixture
def dark_pixels():
    """Return a network to which everything darker than the background is red cell, without edges."""

    def predict(tiles):
        green = tiles[:, 4:-4, 4:-4, 1].astype(np.float32)
        dark = (green < 205).astype(np.float32)
        return np.stack([dark, 0 * dark], axis=-1)

    card = read_card(WEIGHTS / "rbc.json")
    return Network("rbc", predict, 18.0, 4, card["counting"], card)


@pytest.mark.parametrize("factor", LEVELS)
def test_the_reference_is_a_level_of_every_factor(factor):
    assert getattr(REFERENCE, factor) in LEVELS[factor]
    for level in LEVELS[factor]:
        dataclasses.replace(REFERENCE, **{factor: level})  # is in range


def test_levels_by_hand():
    assert choose_levels("blur", 2) == [0.5, 1.0, 6.0]  # 1 is the reference's
    assert choose_levels("blur", 3) == [0.5, 1.0, 2.0, 6.0]
    assert choose_levels("overlap", 7) == list(LEVELS["overlap"])
    assert choose_levels("overlap", 99) == list(LEVELS["overlap"])
    with pytest.raises(UserError, match="one of overlap, density"):
        choose_levels("colour", 3)
    with pytest.raises(UserError, match="at least 2, got 1"):
        choose_levels("blur", 1)


def test_one_factor_at_a_time():
    conditions = list_conditions(["blur", "noise"], 2)
    assert conditions[0] == REFERENCE
    assert len(conditions) == len(set(conditions)) == 1 + 2 + 2
    for condition in conditions[1:]:
        changed = [f for f in dataclasses.asdict(REFERENCE) if getattr(condition, f) != getattr(REFERENCE, f)]
        assert len(changed) == 1


def test_true_masks_of_cells_apart_are_counted_exactly(dark_pixels):
    condition = Condition(overlap=0.0)
    truth, _ = count_condition(condition, (256, 320), seed=0, network=dark_pixels)
    assert truth["input"] == "truth"
    assert truth["overlap"] == 0.0
    assert truth["n_true"] == round(0.3 * 256 * 320 / (np.pi * 18**2))
    for method in ("ccl", "edt", "tree"):
        assert truth[f"n_{method}"] == truth["n_true"]
    # The mask is the truth itself.
    assert truth["fp"] == truth["fn"] == truth["edge_fp"] == truth["edge_fn"] == 0


def test_a_network_sees_the_photograph_and_not_the_truth(dark_pixels):
    """Dark pixels are the cells in a clean photograph, and anything in a noisy one."""
    clean, noisy = (
        count_condition(Condition(overlap=0.0, noise=n), (256, 320), seed=0, network=dark_pixels)
        for n in (0.0, 60.0)
    )
    assert clean[0]["n_ccl"] == noisy[0]["n_ccl"] == clean[1]["n_ccl"]
    assert noisy[1]["fp"] > 10 * clean[1]["fp"] + 100


def test_a_network_for_another_scale_is_refused(dark_pixels):
    other = dataclasses.replace(dark_pixels, cell_radius=9.0)
    with pytest.raises(UserError, match="radius of 18 pixels, as they are drawn; it takes 9"):
        count_condition(REFERENCE, (128, 128), seed=0, network=other)


def rows(error_by_level, factor="blur", n_true=100):
    """Return rows of two fields a level, the first a cell below and the second a cell above an error."""
    return pd.DataFrame(
        dataclasses.asdict(dataclasses.replace(REFERENCE, **{factor: level}))
        | {"seed": seed, "input": "truth", "n_true": n_true, "n_ccl": n_true + error + off}
        | {"ccl_tp": 8, "ccl_fp": 1, "ccl_fn": 3}
        for level, error in error_by_level.items()
        for seed, off in ((0, -1), (1, 1))
    )


def test_summary_by_hand():
    table = rows({0.5: -4, 1.0: 0, 6.0: 30})
    summary = summarise(table, ["blur", "noise"], seed=0, methods=("ccl",))
    # The reference belongs to both factors.
    assert summary["factor"].tolist() == ["blur", "blur", "blur", "noise"]
    assert summary["level"].tolist() == [0.5, 1.0, 6.0, 3.0]
    assert summary["error"].to_numpy() == pytest.approx([-0.04, 0, 0.3, 0])
    # Of two fields a resample holds both, or one of them twice.
    assert summary["low"].to_numpy() == pytest.approx([-0.05, -0.01, 0.29, -0.01])
    assert summary["high"].to_numpy() == pytest.approx([-0.03, 0.01, 0.31, 0.01])
    # Both fields have the same cells.
    for name in ("f1", "f1_low", "f1_high"):
        assert summary[name].to_numpy() == pytest.approx(16 / 20)
    assert (summary["n"] == 2).all()
    # One of the two rows of the reference.
    assert reference_table(summary).to_dict() == {"truth": {"connected components": "0.0 [-1.0, 1.0]"}}


def test_breaking_points_by_hand():
    """Closest to the reference, 1; at two steps the one behind it comes first."""
    table = rows({0.5: 20, 1.0: 0, 1.5: 10, 2.0: 11, 4.0: -50})
    summary = summarise(table, ["blur"], seed=0, methods=("ccl",))
    points = breaking_points(summary)
    assert points.loc[("blur", "truth"), "ccl"] == 0.5
    points = breaking_points(summary[summary["level"] > 0.5])
    assert points.loc[("blur", "truth"), "ccl"] == 2.0
    assert np.isnan(breaking_points(summary, most=0.6).loc[("blur", "truth"), "ccl"])


def test_interval_of_f1_by_hand():
    """Of two fields a resample holds both, 12 of 20 cells, or one of them twice, 8 or 4 of 10."""
    table = rows({1.0: 0}).assign(ccl_tp=[8, 4], ccl_fp=[2, 6], ccl_fn=[2, 6])
    (summary,) = summarise(table, ["blur"], seed=0, methods=("ccl",)).to_dict("records")
    assert (summary["f1"], summary["f1_low"], summary["f1_high"]) == pytest.approx((0.6, 0.4, 0.8))


@pytest.mark.parametrize(
    ("errors", "text"),
    [
        # Intervals reach a hundredth to either side: of 0.12 they leave out 0.105, of 0.11 they hold it.
        ({1.0: 0, 1.5: 8, 2.0: 12}, "2"),
        ({1.0: 0, 1.5: 8, 2.0: 11}, "2 ?"),
        ({1.0: 0, 1.5: 8, 2.0: -11}, "2 ?"),
        # A level nearer to the reference is borne by a hair.
        ({1.0: 0, 1.5: 10, 2.0: 12}, "2 ?"),
        # What comes beyond the level doesn't matter.
        ({1.0: 0, 1.5: 8, 2.0: 12, 3.0: 10}, "2"),
        ({1.0: 0, 1.5: 8}, "-"),
        ({1.0: 0, 1.5: 10}, "- ?"),
    ],
)
def test_levels_in_doubt_are_marked(errors, text):
    summary = summarise(rows(errors), ["blur"], seed=0, methods=("ccl",))
    table = breaking_table(summary, most=0.105)
    assert table.to_dict() == {"ccl": {("blur", "truth"): text}}

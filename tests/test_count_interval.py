"""Intervals of counts, from held-out fields."""

import dataclasses
import json

import numpy as np
import pytest

from bloodcells.count_interval import (
    CountInterval,
    calibration_table,
    count_interval,
    interval_table,
    read_calibration,
)
from bloodcells.errors import UserError
from bloodcells.networks import CELLS, load_network
from bloodcells.results import RECORD
from bloodcells.smear import count_image


def test_order_statistics_by_hand():
    """Of 39 ratios 0.81, 0.82, ..., 1.19 the second from either end hold 36 of 40."""
    pred = np.full(39, 100.0)
    true = np.arange(81.0, 120.0)
    interval = count_interval(200, true, pred, coverage=0.9)
    assert (interval.low, interval.high) == pytest.approx((164, 236))
    assert interval.coverage == pytest.approx(36 / 40)
    assert interval.n_fields == 39
    # The order of the fields doesn't matter.
    assert count_interval(200, true[::-1], pred, coverage=0.9) == interval


def test_too_few_fields_say_so():
    assert count_interval(10, [5], [10], coverage=0.9) == CountInterval(5.0, 5.0, 0.0, 1)
    assert count_interval(10, [5, 20], [10, 10], coverage=0.9).coverage == pytest.approx(1 / 3)


def test_coverage_is_what_it_says():
    """Counted in many draws: the truth is a noisy multiple of the count."""
    rng = np.random.default_rng(0)
    hits, n_draws = 0, 4000
    for _ in range(n_draws):
        pred = rng.integers(20, 200, 20)
        true = pred * rng.lognormal(0.1, 0.2, 20)
        interval = count_interval(pred[0], true[1:], pred[1:], coverage=0.8)
        hits += interval.low <= true[0] <= interval.high
    assert interval.coverage == pytest.approx(0.8)  # 19 fields: j = 2, 16 of 20
    assert hits / n_draws == pytest.approx(0.8, abs=4 * np.sqrt(0.8 * 0.2 / n_draws))


def test_no_interval_for_nothing():
    assert count_interval(0, [1, 2], [1, 2]) is None
    assert count_interval(3, [1, 2], [0, 0]) is None
    # A field without a count gives no ratio.
    assert count_interval(3, [1, 2], [0, 2]).n_fields == 1


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (([1, 2], [1]), r"got shapes \(2,\) and \(1,\)"),
        (([[1]], [[1]]), "as many true as counted"),
    ],
)
def test_wrong_calibration(arguments, match):
    with pytest.raises(UserError, match=match):
        count_interval(3, *arguments)


@pytest.mark.parametrize("coverage", [0, 1, 2])
def test_wrong_coverage(coverage):
    with pytest.raises(UserError, match=f"between 0 and 1, got {coverage}"):
        count_interval(3, [1], [1], coverage=coverage)


@pytest.mark.parametrize("cell", CELLS)
def test_the_record_has_the_shipped_networks(cell):
    """Their cards give the accuracy on the same fields."""
    network = load_network(cell)
    method = network.counting["method"]
    true, pred = read_calibration(network, method)
    assert len(true) <= network.card["metrics"]["n"]
    assert (true > 0).sum() == network.card["metrics"]["n_counted"]
    counted = true > 0
    accuracy = 1 - np.abs(pred - true)[counted] / true[counted]
    assert accuracy.mean() == pytest.approx(network.card["metrics"][f"{method}_accuracy"], abs=5e-4)


def test_without_a_record(tmp_path):
    network = load_network("plt")
    with pytest.raises(UserError, match=r"no run 'dounet-plt.*in a checkout of the book"):
        read_calibration(network, "ccl", record=tmp_path)
    assert json.loads((next(RECORD.glob(f"*/*/{network.card['run']}")) / "config.json").read_text())


def test_table_of_a_count_that_all_kinds_share():
    networks = {cell: load_network(cell) for cell in ("rbc", "wbc")}
    table = calibration_table(networks, n_pred=100)
    assert table["count"].to_dict() == {"rbc": 100, "wbc": 100}
    for cell, network in networks.items():
        expected = count_interval(100, *read_calibration(network, network.counting["method"]))
        assert table.loc[cell, ["low", "high"]].tolist() == [np.floor(expected.low), np.ceil(expected.high)]


def test_tables_hold_whole_numbers_with_and_without_intervals():
    networks = {"wbc": load_network("wbc")}
    for n_pred, n_missing in ((7, 0), (0, 4)):
        table = calibration_table(networks, n_pred=n_pred)
        assert list(table.columns) == ["method", "count", "low", "high", "coverage, %", "held-out fields"]
        of_interval = table.loc["wbc"].iloc[2:]
        assert of_interval.isna().sum() == n_missing
        assert not any("." in str(value) for value in of_interval)


def test_table_of_a_photograph(stand_in_networks, draw_discs):
    """Three red cells and a white one; the calibration is that of the shipped networks."""
    image = draw_discs((160, 160), [("rbc", 30, r, 18) for r in (30, 80, 130)] + [("wbc", 110, 80, 24)])
    networks = {
        cell: dataclasses.replace(
            network,
            counting=network.counting | {"method": "ccl"},
            card=network.card | {"run": load_network(cell).card["run"]},
        )
        for cell, network in stand_in_networks.items()
    }
    counted = count_image(image, cell_radius=18, networks=networks)
    table = interval_table(counted, networks, coverage=0.9)
    assert table["count"].to_dict() == {"rbc": 3, "wbc": 1, "plt": 0}
    assert table.loc["rbc", "coverage, %"] == 50  # three held-out fields
    for cell in ("rbc", "wbc"):
        expected = count_interval(counted.cells[cell].n, *read_calibration(networks[cell], "ccl"))
        assert table.loc[cell, "low"] == np.floor(expected.low)
        assert table.loc[cell, "high"] == np.ceil(expected.high)
    assert table.loc["plt", ["low", "high"]].isna().all()

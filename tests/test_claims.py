"""Claims and their verdicts, on runs made up so that the verdict is known."""

import numpy as np
import pandas as pd
import pytest
import yaml

from bloodcells import claims
from bloodcells.errors import UserError

VALUE = {
    "id": "v", "chapter": "05_x", "kind": "value", "where": "Table 1", "claim": "Dice", "target": "nucleus",
    "dataset": "d", "method": "b", "metric": "dice", "value": 0.90, "tolerance": 0.01,
}  # fmt: skip
BOUND = {key: value for key, value in VALUE.items() if key != "tolerance"} | {"kind": "bound", "id": "l"}
ORDER = {
    "id": "o", "chapter": "05_x", "kind": "order", "where": "text", "claim": "a < b < c", "target": "nucleus",
    "dataset": "d", "methods": ["a", "b", "c"], "metric": "dice",
}  # fmt: skip
RATIO = {
    "id": "r", "chapter": "05_x", "kind": "ratio", "where": "text", "claim": "epochs", "target": "nucleus",
    "methods": ["b", "a"], "metric": "plateau_epoch", "value": 0.3, "tolerance": 0.1,
}  # fmt: skip
SPREAD = {
    "id": "s", "chapter": "05_x", "kind": "spread", "where": "text", "claim": "alike", "target": "nucleus",
    "dataset": "d", "methods": ["a", "b"], "metric": "dice", "value": 0.02,
}  # fmt: skip

BEST = {
    "id": "e", "chapter": "05_x", "kind": "best", "where": "text", "claim": "c is best", "target": "nucleus",
    "dataset": "d", "method": "c", "methods": ["a", "b"], "metric": "dice",
}  # fmt: skip
FEWEST = BEST | {"id": "f", "kind": "fewest", "claim": "c needs the fewest", "metric": "epochs"}


def scores(**by_method):
    """One row a method and seed of dataset d, from lists of Dice."""
    return pd.DataFrame(
        [
            {"method": method, "target": "nucleus", "seed": seed, "dataset": "d", "dice": dice}
            for method, values in by_method.items()
            for seed, dice in enumerate(values)
        ]
    )


def images(**n_found):
    """Forty images of ten foreground pixels, of which the methods find so many."""
    return pd.DataFrame(
        [
            {"method": m, "target": "nucleus", "seed": 0, "dataset": "d", "image_id": str(i), "class": "any",
             "tp": found, "fp": 0, "fn": 10 - found, "tn": 5}
            for m, found in n_found.items()
            for i in range(40)
        ]
    )  # fmt: skip


def verdict(claim, scores, per_image=None):
    table = claims.judge([claim], scores, pd.DataFrame() if per_image is None else per_image)
    return table["verdict"].item()


@pytest.mark.parametrize(
    ("dice", "expected"),
    [
        ([0.905, 0.899], "reproduced"),
        ([0.909], "reproduced"),
        ([0.905, 0.950], "partly"),  # mean 0.9275 is out, one seed is in
        ([0.95, 0.96], "not reproduced"),  # better than the paper says isn't the same either
        ([0.80], "not reproduced"),
    ],
)
def test_value_claims(dice, expected):
    assert verdict(VALUE, scores(b=dice)) == expected


def test_whole_numbers_are_shown_with_few_decimals():
    claim = VALUE | {"metric": "epochs", "value": 13, "tolerance": 2}
    row = claims.judge([claim], scores(b=[14, 15]).rename(columns={"dice": "epochs"}), pd.DataFrame()).iloc[0]
    assert (row["paper"], row["ours"]) == ("13", "14.5 (14 to 15, 2 seeds)")
    assert (row["difference"], row["verdict"]) == ("+1.5", "reproduced")
    row = claims.judge([claim], scores(b=[12, 12]).rename(columns={"dice": "epochs"}), pd.DataFrame()).iloc[0]
    assert (row["ours"], row["difference"]) == ("12 (each of 2 seeds)", "-1")


def test_a_zero_has_no_sign_and_seeds_alike_have_no_range():
    # The mean is 0.00001 below the paper's.
    found = pd.DataFrame([VALUE, BOUND | {"value": 0.89999}]).to_dict("records")
    value, bound = claims.judge(found, scores(b=[0.90001, 0.89997]), pd.DataFrame()).to_dict("records")
    assert (value["ours"], value["difference"]) == ("0.9000 (each of 2 seeds)", "0.0000")
    assert bound["difference"] == "0.0000"
    order = ORDER | {"methods": ["a", "b"]}
    table = claims.judge([order], scores(a=[0.5], b=[0.5]), images(a=7, b=7))
    assert table["ours"].item() == "0.0000 [0.0000, 0.0000]"


def test_a_verdict_tells_where_its_claim_stands():
    assert claims.judge([VALUE, ORDER], scores(), pd.DataFrame())["where"].tolist() == ["Table 1", "text"]
    assert {c["where"] for c in claims.load() if "-bar-" in c["id"]} == {f"{claims.OWN} bar"}


def test_value_claims_tell_mean_range_and_direction():
    row = claims.judge([VALUE], scores(b=[0.94, 0.96]), pd.DataFrame()).iloc[0]
    assert row["ours"] == "0.9500 (0.9400 to 0.9600, 2 seeds)"
    assert row["difference"] == "+0.0500"


def test_one_seed_has_no_range():
    assert claims.judge([VALUE], scores(b=[0.94]), pd.DataFrame())["ours"].item() == "0.9400 (1 seed)"


def test_orders_hold_for_every_seed_or_make_no_difference():
    """Of ten pixels a finds 5; the seeds of b find 7 and 8, or else 7 and 4, so that a may be better."""
    order = ORDER | {"methods": ["a", "b"]}
    runs = scores(a=[0.5], b=[0.5, 0.5])
    for second, expected in ((8, "reproduced"), (4, "no difference")):
        found = pd.concat([images(a=5, b=7), images(b=second).assign(seed=1)])
        assert verdict(order, runs, found) == expected


@pytest.mark.parametrize(
    ("dice", "expected"),
    [([0.91, 0.95], "reproduced"), ([0.89, 0.95], "partly"), ([0.8, 0.91], "not reproduced")],
)
def test_bound_claims(dice, expected):
    assert verdict(BOUND, scores(b=dice)) == expected


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"a": 5, "b": 7, "c": 9}, "reproduced"),
        ({"a": 5, "b": 7, "c": 7}, "partly"),  # no gap between b and c
        ({"a": 5, "b": 9, "c": 7}, "partly"),
        ({"a": 9, "b": 7, "c": 5}, "not reproduced"),
        ({"a": 7, "b": 7, "c": 7}, "no difference"),
        ({"a": 7, "b": 7, "c": 5}, "not reproduced"),
    ],
)
def test_order_claims(found, expected):
    assert verdict(ORDER, scores(a=[0.5], b=[0.5], c=[0.5]), images(**found)) == expected


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        ({"a": [100, 100], "b": [30, 35]}, "reproduced"),
        ({"a": [100, 100], "b": [80, 90]}, "partly"),  # fewer, but not a third
        ({"a": [100, 100], "b": [80, 120]}, "not reproduced"),
    ],
)
def test_ratio_claims(epochs, expected):
    assert verdict(RATIO, scores(**epochs).rename(columns={"dice": "plateau_epoch"})) == expected


def test_a_ratio_needs_a_common_seed_and_one_side():
    table = scores(a=[100, 100], b=[35, 300]).rename(columns={"dice": "plateau_epoch"})
    assert verdict(RATIO, table) == "not reproduced"  # a third by one seed, three times by the other
    apart = table[(table["method"] == "a") == (table["seed"] == 0)]
    assert verdict(RATIO, apart) == "not tested"


def test_a_ratio_is_judged_on_the_dataset_it_names():
    """On e the method has a third, on d four fifths."""
    table = pd.concat([scores(a=[100], b=[80]), scores(a=[100], b=[30]).assign(dataset="e")])
    table = table.rename(columns={"dice": "plateau_epoch"})
    assert verdict(RATIO | {"dataset": "e"}, table) == "reproduced"
    assert verdict(RATIO | {"dataset": "d"}, table) == "partly"
    assert verdict(RATIO | {"dataset": "f"}, table) == "not tested"


@pytest.mark.parametrize(
    ("dice", "expected"),
    [
        ({"a": [0.80, 0.84], "b": [0.83, 0.83]}, "reproduced"),  # means 0.82 and 0.83, seeds wider apart
        ({"a": [0.80], "b": [0.83], "z": [0.82]}, "not reproduced"),
        ({"a": [0.80], "b": [0.81], "z": [0.1]}, "reproduced"),  # z is not claimed
    ],
)
def test_spread_claims(dice, expected):
    assert verdict(SPREAD, scores(**dice)) == expected


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"a": 5, "b": 7, "c": 9}, "reproduced"),
        ({"a": 5, "b": 7, "c": 7}, "no difference"),
        ({"a": 5, "b": 9, "c": 7}, "not reproduced"),
        ({"a": 5, "b": 7, "c": 9, "z": 10}, "reproduced"),  # z is not claimed
    ],
)
def test_best_claims(found, expected):
    assert verdict(BEST, scores(c=[0.5]), images(**found)) == expected


def test_best_claims_name_the_closest():
    row = claims.judge([BEST], scores(c=[0.5]), images(a=5, b=7, c=9)).iloc[0]
    # Of ten pixels each b finds 7 and c 9, without a false one: Dice 14 / 17 and 18 / 19.
    assert row["ours"].startswith(f"{18 / 19 - 14 / 17:+.4f} [")
    assert row["ours"].endswith(" to b")
    assert row["paper"] == "c > 2 others"
    alone = claims.judge([BEST | {"methods": ["a"]}], scores(c=[0.5]), images(a=5, c=9)).iloc[0]
    assert alone["paper"] == "c > a"


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        ({"a": [20, 30], "b": [15, 16], "c": [13, 14]}, "reproduced"),
        ({"a": [20, 30], "b": [15, 16], "c": [12, 17]}, "partly"),  # its mean is lowest, not all of its seeds
        ({"a": [20, 30], "b": [15, 16], "c": [16, 17]}, "not reproduced"),
    ],
)
def test_fewest_claims(epochs, expected):
    assert verdict(FEWEST, scores(**epochs).rename(columns={"dice": "epochs"})) == expected


@pytest.mark.parametrize(
    ("epochs", "expected", "ours"),
    [
        # Of 20 epochs allowed: who took them all, or (nan) never got there, may need more.
        ({"a": [20], "b": [15], "c": [13]}, "reproduced", "13; b 15"),
        ({"a": [20], "b": [20], "c": [13]}, "reproduced", "13; a at least 20"),
        ({"a": [20], "b": [15], "c": [20]}, "not reproduced", "at least 20; b 15"),
        ({"a": [20], "b": [20], "c": [20]}, "not tested", "at least 20; a at least 20"),
        ({"a": [np.nan], "b": [20], "c": [np.nan]}, "not tested", "at least 20; a at least 20"),
        ({"a": [20, 20], "b": [20, 20], "c": [12, 20]}, "not tested", None),
        ({"a": [20, 20], "b": [20, 20], "c": [12, 16]}, "reproduced", "14 (12 to 16); a at least 20"),
        ({"a": [20, 20], "b": [15, 20], "c": [12, 16]}, "partly", None),
    ],
)
def test_runs_that_were_cut_off_need_at_least_so_many(epochs, expected, ours):
    found = scores(**epochs).rename(columns={"dice": "epochs"}).assign(epochs_allowed=20)
    row = claims.judge([FEWEST | {"within": "epochs_allowed"}], found, pd.DataFrame()).iloc[0]
    assert row["verdict"] == expected
    if ours:
        assert row["ours"] == ours


def test_a_bar_of_the_best_method_takes_the_best_mean():
    bar = BOUND | {"method": "best"}
    row = claims.judge([bar], scores(a=[0.95, 0.80], b=[0.91, 0.92]), pd.DataFrame()).iloc[0]
    assert row["ours"] == "b: 0.9150 (0.9100 to 0.9200, 2 seeds)"
    assert row["verdict"] == "reproduced"


def test_datasets_are_taken_together():
    """Images of the same name in two datasets are two images."""
    found = images(a=5, b=7)
    both = pd.concat([found, found.assign(dataset="e")])
    claim = ORDER | {"methods": ["a", "b"], "dataset": "d+e"}
    row = claims.judge([claim], scores(a=[0.5], b=[0.5]), both).iloc[0]
    assert row["verdict"] == "reproduced"
    alone = claims.judge([claim | {"dataset": "d"}], scores(a=[0.5], b=[0.5]), both).iloc[0]
    assert row["ours"].split()[0] == alone["ours"].split()[0]


@pytest.mark.parametrize("claim", [VALUE, BOUND, ORDER, RATIO, SPREAD, BEST, FEWEST])
def test_nothing_is_judged_without_runs(claim):
    row = claims.judge([claim], pd.DataFrame(), pd.DataFrame()).iloc[0]
    assert (row["ours"], row["verdict"]) == ("no record", "not tested")
    only_z = scores(z=[0.9]).assign(plateau_epoch=3)
    assert verdict(claim, only_z, images(z=5)) == "not tested"


def test_another_target_is_shown_and_not_judged():
    whole_cell = VALUE | {"target": "cell", "paper_target": "nucleus"}
    row = claims.judge([whole_cell], scores(b=[0.9]).assign(target="cell"), pd.DataFrame()).iloc[0]
    assert row["ours"].startswith("0.9000")
    assert row["verdict"] == "not tested"


def write(tmp_path, *items):
    path = tmp_path / "claims.yml"
    path.write_text(yaml.safe_dump(list(items)), encoding="utf-8")
    return path


def test_load_selects_a_chapter(tmp_path):
    path = write(tmp_path, VALUE, ORDER | {"chapter": "06_y"})
    assert [claim["id"] for claim in claims.load("06_y", path=path)] == ["o"]
    assert claims.chapters(path=path) == ["05_x", "06_y"]


def test_load_refuses_damaged_claims(tmp_path):
    with pytest.raises(UserError, match="'v' occurs twice"):
        claims.load(path=write(tmp_path, VALUE, dict(VALUE)))
    with pytest.raises(UserError, match="check the fields tolerance"):
        claims.load(path=write(tmp_path, {k: v for k, v in VALUE.items() if k != "tolerance"}))
    with pytest.raises(UserError, match="kind 'guess'; expected value, bound"):
        claims.load(path=write(tmp_path, VALUE | {"kind": "guess"}))


def test_the_committed_claims_are_whole():
    found = claims.load("05_nasser2025_wcsegnet")
    values = [c for c in found if c["kind"] == "value"]
    # Tables 1 and 2: three datasets, three networks, four scores.
    assert len({(c["dataset"], c["method"], c["metric"]) for c in values}) == len(values) == 36
    assert all(0 < c["value"] < 1 for c in values)
    assert sum(c["kind"] == "order" for c in found) == 3
    assert len(claims.claim_table("05_nasser2025_wcsegnet")) == len(found) - 36


def test_the_value_table_is_laid_out_like_the_papers():
    table = claims.value_table("05_nasser2025_wcsegnet")
    assert list(table.columns) == ["accuracy", "precision", "dice", "mean_iou"]
    # Table 1, Jiangxi, "Our method"; Table 2, BCISC, "Unet (Relu)".
    assert table.loc[("jiangxi", "WCSegNet")].tolist() == [0.9805, 0.9790, 0.9653, 0.9599]
    assert table.loc[("bcisc", "U-Net (ReLU)")].tolist() == [0.9983, 0.9501, 0.9506, 0.9319]


def test_figures_of_one_dataset_keep_their_targets_apart():
    table = claims.value_table("02_gharbi2023_dounet")
    accuracy = table.loc[(slice(None), "all-idb1/test", "SegNet"), "mask_accuracy"]
    # gharbi2023, section IV-B.
    assert accuracy.droplevel([1, 2]).to_dict() == {"rbc": 0.9586, "wbc": 0.9972, "plt": 0.9989}


def test_scores_are_compared_as_numbers():
    whole = VALUE | {"id": "w", "metric": "epochs", "value": 13}
    shares = VALUE | {"id": "n", "metric": "share_a_as_b", "value": 0.1}
    other = VALUE | {"id": "t", "paper_target": "cell"}
    no_run = VALUE | {"id": "u", "method": "z"}
    table = claims.compare_scores([VALUE, ORDER, whole, shares, other, no_run], scores(b=[0.89, 0.92]))
    assert table["id"].tolist() == ["v", "t"]
    row = table.iloc[0]
    assert row[["paper", "ours", "low", "high"]].tolist() == pytest.approx([0.90, 0.905, 0.89, 0.92])
    assert table["verdict"].tolist() == ["reproduced", "not tested"]
    assert claims.compare_scores([VALUE], pd.DataFrame()).empty

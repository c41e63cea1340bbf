import numpy as np
import pandas as pd
import pytest

from bloodcells import field_reports, fields


@pytest.fixture
def scores():
    run = {"target": "rbc", "method": "dounet_b", "dataset": "all-idb1/test", "n_counted": 3}
    run |= {"mask_dice": 0.97, "mask_iou": 0.94, "mask_tversky": 0.96, "mask_accuracy": 0.98}
    run |= {f"edge_{name}": np.nan for name in ("dice", "iou", "tversky", "accuracy")}
    for method in ("cht", "ccl", "edt", "tree"):
        values = {"accuracy": 0.9, "accuracy_low": 0.85, "accuracy_high": 0.95, "mae": 5.25, "bias": -2.0}
        run |= {f"{method}_{name}": value for name, value in values.items()}
        run[f"{method}_f1"] = 0.8125 if method == "tree" else np.nan
    return pd.DataFrame([run])


def test_count_table_in_words(scores):
    table = field_reports.count_table(scores)
    row = table.loc[("rbc", "DO-U-Net, model B", "test")]
    assert row["n"] == 3
    assert row["tree"] == "90.0 [85,\u00a095]"


def test_what_rounds_to_zero_has_no_sign(scores):
    row = ("rbc", "DO-U-Net, model B", "test")
    for bias in (0.04, -0.04):
        errors = field_reports.error_table(scores.assign(tree_bias=bias, cht_bias=0.06))
        assert errors.loc[row, "tree"] == "5.2 (0.0)"
        assert errors.loc[row, "cht"] == "5.2 (+0.1)"
    counts = field_reports.count_table(scores.assign(tree_accuracy=-0.0004, tree_accuracy_high=-0.004))
    assert counts.loc[row, "tree"] == "0.0 [85,\u00a00]"


def test_error_table_in_words(scores):
    row = field_reports.error_table(scores).loc[("rbc", "DO-U-Net, model B", "test")]
    assert row["tree"] == "5.2 (-2.0)"


def test_f1_table_has_runs_with_outlines(scores):
    white = scores.assign(target="wbc", method="dounet", tree_f1="")
    table = field_reports.f1_table(pd.concat([white, scores]))
    assert table.index.tolist() == [("rbc", "DO-U-Net, model B", "test")]
    assert table.iloc[0].tolist() == ["", "", "", "0.812"]


def test_segmentation_table_leaves_out_what_was_not_scored(scores):
    table = field_reports.segmentation_table(scores)
    assert table.index.get_level_values("output").tolist() == ["mask"]
    assert table["dice"].tolist() == [0.97]


@pytest.mark.parametrize(
    "function",
    [
        field_reports.count_table,
        field_reports.error_table,
        field_reports.f1_table,
        field_reports.segmentation_table,
    ],
)
def test_no_run_gives_an_empty_table(function):
    assert function(pd.DataFrame()).empty


def test_two_sizes_side_by_side(scores):
    """White cells have no outlines, and platelets only one of the sizes."""
    white = scores.assign(target="wbc", method="dounet", tree_f1=np.nan)
    platelets = scores.assign(target="plt", method="dounet")
    small = pd.concat(
        [scores, white, platelets, scores.assign(dataset="all-idb1/counted", tree_accuracy=0.1)]
    )
    large = pd.concat([white.assign(tree_accuracy=share) for share in (0.92, 0.8, 0.89)])
    table = field_reports.size_table({"workstation": small, "full": pd.concat([large, scores])})
    assert table.index.tolist() == [
        ("rbc", "DO-U-Net, model B", "workstation"),
        ("rbc", "DO-U-Net, model B", "full"),
        ("wbc", "U-Net (single output)", "workstation"),
        ("wbc", "U-Net (single output)", "full"),
    ]
    assert table.loc[("rbc", "DO-U-Net, model B", "workstation")].tolist() == [1, "0.970", "0.812", "90.0"]
    # (0.92 + 0.8 + 0.89) / 3 = 0.87
    full = table.loc[("wbc", "U-Net (single output)", "full")].tolist()
    assert full == [3, "0.970 (0.970 to\u00a00.970)", "", "87.0 (80.0 to\u00a092.0)"]


def test_two_sizes_of_which_one_was_not_run(scores):
    assert field_reports.size_table({"workstation": scores, "full": pd.DataFrame()}).empty
    assert field_reports.size_table({}).empty


def test_published_counts_beside_ours():
    per_image = pd.DataFrame(
        {
            "method": ["dounet_b", "dounet_b", "segnet"],
            "target": "rbc",
            "image_id": "Im037_0",
            **{f"n_{name}": [100, 105, 7] for name in ("cht", "ccl", "edt", "tree")},
        }
    )
    table = field_reports.counts_beside_published(per_image, "dounet_b", "rbc")
    assert len(table) == 13
    # papers.csv of the dataset: 105 cells, and the authors counted 103, 75 and 88.
    row = table.loc["Im037_0"]
    assert (row["", "part"], row["", "true"]) == ("test", 105)
    assert row["authors, SegNet"].tolist() == [103, 75, 88]
    # The mean over the two runs of that network, 102.5, as a whole number (half to even).
    assert str(row["DO-U-Net, model B", "tree"]) == "102"
    assert pd.isna(table.loc["Im053_1", ("DO-U-Net, model B", "tree")])
    assert (table["", "part"] == "test").sum() == 3
    without = field_reports.counts_beside_published(pd.DataFrame(), "dounet_b", "rbc")
    assert without.shape == (13, 5)


def test_released_weights_by_group(tmp_path):
    path = tmp_path / "released.csv"
    rows = [("Im037_0", 105, 84, 20, 10), ("Im045_0", 601, 601, 30, 5), ("Im053_1", 802, 0, 1, 1)]
    columns = ["image_id", "n_true", "n_cht", "cht_tp", "cht_fp"]
    others = [
        one for one in fields.list_fields("all-idb1", "rbc", "paper") if one not in dict(r[:2] for r in rows)
    ]
    rows += [(one, 10, 0, 1, 1) for one in others]
    table = pd.DataFrame(rows, columns=columns).assign(cell="rbc", cht_fn=5, n_ccl=0, n_edt=0)
    table.to_csv(path, index=False)
    found = field_reports.released_table(path)
    row = found.loc[("rbc", "test", "cht")]
    assert row["n"] == 3
    assert row["accuracy, %"] == "60.0"  # (80 + 100 + 0) / 3
    assert row["F1"] == f"{2 * 51 / (2 * 51 + 16 + 15):.3f}"
    assert found.loc[("rbc", "paper", "ccl"), "accuracy, %"] == "0.0"


def test_released_weights_of_half_a_group_have_no_row(tmp_path):
    path = tmp_path / "released.csv"
    ids = fields.list_fields("all-idb1", "plt", "test")
    table = pd.DataFrame({"image_id": ids, "cell": "plt", "n_true": 4, "n_cht": 3, "n_ccl": 4, "n_edt": 0})
    table.assign(cht_tp=np.nan, cht_fp=np.nan, cht_fn=np.nan).to_csv(path, index=False)
    found = field_reports.released_table(path)
    assert set(found.index.get_level_values("fields")) == {"test"}  # though some are among the paper's 13
    assert found.loc[("plt", "test", "cht"), ["accuracy, %", "F1"]].tolist() == ["75.0", ""]
    table.iloc[1:].to_csv(path, index=False)
    assert field_reports.released_table(path).empty


def test_agreement_takes_fields_with_a_truth():
    per_image = pd.DataFrame(
        {
            "method": "dounet",
            "target": "rbc",
            "image_id": ["Im037_0", "Im045_0", "Im001_1"],
            "n_true": ["105", "", "215"],
            "n_tree": [100, 600, 200],
        }
    )
    true, found = field_reports.agreement_counts(per_image, "dounet", "rbc", "tree")
    assert (true.tolist(), found.tolist()) == ([105], [100])


def test_ceiling_of_platelets():
    table = pd.DataFrame({"count": [10, 4], "components": [9, 5]})
    assert field_reports.ceiling(table) == pytest.approx((90 + 75) / 2)


def test_three_counts_of_platelets_are_compared_pairwise(tmp_path):
    ids = fields.list_fields("all-idb1", "plt", "test")
    path = tmp_path / "released.csv"
    pd.DataFrame({"image_id": ids, "cell": "plt", "n_ccl": np.arange(len(ids)) + 5}).to_csv(path, index=False)
    ours = pd.DataFrame(
        {"image_id": ids, "n_true": np.arange(len(ids)) + 1, "n_ccl": np.arange(len(ids)) + 4}
    )
    ours = ours.assign(method="dounet", target="plt", seed=0)
    table = field_reports.platelet_agreement(ours, path=path)
    assert table["bias"].tolist() == [3, 4, -1]
    assert table["mean absolute error"].tolist() == [3, 4, 1]
    assert table["correlation"].tolist() == [1, 1, 1]
    # One platelet fewer than the released weights' 5, 6, ... in every field.
    expected = np.mean([100 * (1 - 1 / n) for n in range(5, 5 + len(ids))])
    assert table.loc[("released weights", "our network"), "accuracy, %"] == pytest.approx(expected, abs=0.05)
    assert field_reports.platelet_agreement(pd.DataFrame(), path=path).empty


def test_networks_are_compared_on_training_fields_alone():
    training = fields.list_fields("all-idb1", "rbc", "train")
    rows = [(one, 100, 90, 80, 10, 20) for one in training] + [("Im053_1", 802, 0, 0, 0, 802)]
    table = pd.DataFrame(rows, columns=["image_id", "n_true", "n_tree", "tree_tp", "tree_fp", "tree_fn"])
    table = table.assign(method="dounet_a", target="rbc")
    found = field_reports.compare_on_training(table, ["dounet_a", "dounet_b"])
    assert list(found.index) == ["DO-U-Net, model A"]  # there is no run of the other
    row = found.iloc[0]
    assert row["n"] == 10
    assert row["accuracy"] == 0.9
    assert row["F1"] == round(2 * 80 / (2 * 80 + 10 + 20), 4)
    assert row["sum"] == pytest.approx(0.9 + 160 / 190, abs=1e-4)
    assert field_reports.compare_on_training(pd.DataFrame(), ["dounet_a"]).empty


@pytest.mark.parametrize(
    ("theirs", "gap", "verdict"),
    [
        # Ours are 10 % off everywhere; theirs by the method that comes out best, never by the worst.
        ([50] * 30, "+40.0\u00a0[+40.0,\u00a0+40.0]", "better"),
        ([95] * 30, "-5.0\u00a0[-5.0,\u00a0-5.0]", "worse"),
        ([90] * 29 + [91], "-0.0\u00a0[-0.1,\u00a0+0.0]", "no difference"),
        ([50] * 3, "+40.0\u00a0[+40.0,\u00a0+40.0]", "too few fields"),
        ([70, 90, 110], "+6.7\u00a0[+0.0,\u00a0+20.0]", "no difference"),
    ],
)
def test_shipped_networks_are_held_against_the_released_ones(tmp_path, theirs, gap, verdict):
    cell = "rbc" if len(theirs) == 3 else "plt"
    test = fields.list_fields("all-idb1", cell, "test")
    ours = pd.DataFrame({"image_id": [*test, "Im001_1"], "n_true": 100, "n_tree": 90})
    (tmp_path / "workstation" / "a-run").mkdir(parents=True)
    ours.to_csv(tmp_path / "workstation" / "a-run" / "per_image.csv", index=False)
    released = pd.DataFrame({"image_id": test, "cell": cell, "n_cht": 0, "n_ccl": theirs, "n_edt": 1})
    released.to_csv(tmp_path / "released.csv", index=False)
    card = {"cell": cell, "run": "a-run", "counting": {"method": "tree"}}
    row = field_reports.compare_shipped_with_released([card], record=tmp_path).iloc[0]
    assert (row["fields"], row["shipped, %"]) == (len(theirs), "90.0")
    assert (row["difference"], row["verdict"]) == (gap, verdict)

import numpy as np
import pandas as pd
import pytest

from bloodcells import protocol_reports as reports
from bloodcells.errors import UserError
from bloodcells.protocol import count_class_pixels

KEYS = pd.DataFrame({"dataset": ["jiangxi", "jiangxi", "cellavision"], "image_id": ["1", "2", "1"]})


def maps(n_right):
    """Return truths of ten foreground pixels, and predictions of `n_right` of them and no others."""
    true = np.zeros((3, 1, 20), np.uint8)
    true[:, :, :10] = 1
    pred = np.zeros_like(true)
    for one, n in zip(pred, n_right, strict=True):
        one[:, :n] = 1
    return true, pred


def run(method, n_right, *, target="nucleus", seed=0, change=""):
    table = count_class_pixels(KEYS, *maps(n_right), ("background", target.split("_")[0]))
    return table.assign(method=method, target=target, seed=seed, change=change)


def dice(n_right, n_true):
    return 2 * n_right / (n_right + n_true)


def test_scores_are_pooled_by_dataset_and_over_all():
    scores = reports.score_task(run("unet", [10, 5, 6]), "nucleus", seed=0)["datasets"]
    assert list(scores) == ["jiangxi", "cellavision", "jiangxi+cellavision"]
    assert scores["jiangxi"]["score"] == pytest.approx(dice(15, 20))
    assert scores["cellavision"]["score"] == pytest.approx(dice(6, 10))
    # Image "1" of one dataset is not image "1" of the other.
    both = scores["jiangxi+cellavision"]
    assert (both["n"], both["score"]) == (3, pytest.approx(dice(21, 30)))
    assert dice(15, 30) <= both["score_low"] < both["score"] < both["score_high"] <= dice(30, 30)


def test_mean_iou_of_three_classes_by_hand():
    true = np.uint8([[[0, 0, 1, 1, 2, 2]]])
    pred = np.uint8([[[0, 0, 1, 1, 1, 2]]])
    table = count_class_pixels(KEYS[:1], true, pred, ("background", "rbc", "wbc"))
    score = reports.score_task(table, "classes", seed=0)["datasets"]["jiangxi"]["score"]
    assert score == pytest.approx((1 + 2 / 3 + 1 / 2) / 3)


def test_an_image_that_is_there_twice_is_refused():
    table = run("unet", [1, 2, 3])
    with pytest.raises(UserError, match="more than once"):
        reports.score_task(pd.concat([table, table]), "nucleus", seed=0)


def score_rows(method, values, *, target="nucleus", dataset="jiangxi", n=3):
    return [
        {
            "method": method,
            "target": target,
            "seed": seed,
            "dataset": dataset,
            "n": n,
            "score": value,
            "run": f"{method}-{target}-{seed}",
            "n_parameters": 1_500_000,
            "train_s": 90.0,
            "predict_s": 0.004,
        }
        for seed, value in enumerate(values)
    ]


def test_networks_are_ranked_with_their_costs():
    rows = [*score_rows("unet", [0.5, 0.7]), *score_rows("wcsegnet", [0.8, 0.8])]
    # Rows of single datasets, stained trainings, pairs and other tasks don't count.
    rows += score_rows("unet", [0.99, 0.99], n=1)
    rows += [*score_rows("unet_stain", [0.9]), *score_rows("unet+segnet", [0.9])]
    rows += score_rows("segnet", [0.9], target="classes")
    table = reports.network_table(pd.DataFrame(rows), "nucleus")
    assert list(table.index) == ["WCSegNet", "U-Net"]
    assert table.loc["U-Net"].tolist() == [5, "1.50", "1.5", "4.0", "0.600 (0.500\u00a0to\u00a00.700)", 2]
    assert table.columns[4] == "Dice"


def test_datasets_of_a_task_stand_side_by_side():
    rows = [*score_rows("unet", [0.5, 0.7], n=2), *score_rows("unet", [0.6, 0.6], dataset="cellavision", n=1)]
    rows += score_rows("unet", [0.5, 0.7], dataset="jiangxi+cellavision", n=3)
    rows += [*score_rows("wcsegnet", [0.8], n=2), *score_rows("wcsegnet_stain", [0.9], n=2)]
    rows += [*score_rows("unet", [0.1], target="classes"), *score_rows("unet+wcsegnet", [0.9], n=2)]
    table = reports.dataset_table(pd.DataFrame(rows), "nucleus")
    assert table.to_dict("index") == {
        "WCSegNet": {"jiangxi": "0.800", "cellavision": "missing"},
        "U-Net": {
            "jiangxi": "0.600 (0.500\u00a0to\u00a00.700)",
            "cellavision": "0.600 (0.600\u00a0to\u00a00.600)",
        },
    }
    assert list(table.index) == ["WCSegNet", "U-Net"]  # best first


def test_encoders_of_the_library_are_of_chapter_4():
    table = reports.network_table(pd.DataFrame(score_rows("unet_resnet18", [0.5])), "nucleus")
    assert table.loc["U-Net on ResNet-18", "chapter"] == 4


def test_networks_are_compared_with_the_best_image_by_image():
    tables = [run("unet", [10, 10, 10]), run("segnet", [9, 9, 9]), run("dounet", [10, 10, 10], seed=0)]
    table = reports.difference_table(pd.concat(tables), "nucleus")
    assert table.loc["U-Net", "verdict"] == "best"
    # As good on every image: the interval is [0, 0], which holds 0.
    assert table.loc["DO-U-Net"].tolist() == ["0.000", "[0.000,\u00a00.000]", "no difference"]
    gap = dice(27, 30) - 1
    assert table.loc["SegNet"].tolist() == [f"{gap:+.3f}", f"[{gap:+.3f},\u00a0{gap:+.3f}]", "worse"]


def test_changed_colours_stained_trainings_and_pairs_are_not_compared():
    tables = [
        run("unet", [8, 8, 8]),
        run("unet", [1, 1, 1], change="hue 40"),
        run("unet_stain", [10, 10, 10]),
        run("unet+segnet", [10, 10, 10]),
    ]
    assert list(reports.difference_table(pd.concat(tables), "nucleus").index) == ["U-Net"]


def test_transfer_from_each_dataset_to_each():
    rows = []
    for source, home in (("jiangxi", 0.9), ("cellavision", 0.8), ("bcisc", 0.7)):
        for name in ("jiangxi", "cellavision", "bcisc"):
            value = home if name == source else 0.5
            rows += score_rows("unet", [value, value], target=f"cell_{source}", dataset=name)
    scores = pd.DataFrame([*rows, *score_rows("segnet", [0.9], target="cell_bcisc", dataset="bcisc")])
    table = reports.transfer_table(scores, "unet")
    assert table.loc["jiangxi"].tolist() == [0.9, 0.5, 0.5]
    assert table.loc["bcisc"].tolist() == [0.5, 0.5, 0.7]
    means = reports.mean_transfer_table(scores)
    assert list(means.index) == ["U-Net"]  # SegNet has one run of three
    assert means.loc["U-Net"].tolist() == pytest.approx([0.8, 0.5, 0.3, 2])
    assert reports.transfer_table(scores, "segnet").notna().to_numpy().sum() == 1
    text = reports.transfer_interval_table(scores.assign(score_low=0.25, score_high=0.95), "segnet")
    assert text.loc["bcisc", "bcisc"] == "0.900\u00a0[0.250,\u00a00.950]"
    assert (text == "").to_numpy().sum() == 8
    # SegNet has learnt from one dataset only.
    overview = reports.transfer_overview(scores.assign(score_low=0.25, score_high=0.95))
    assert list(overview.index) == [*(("U-Net", name) for name in table.index), ("SegNet", "bcisc")]
    assert overview.loc[("SegNet", "bcisc")].tolist() == text.loc["bcisc"].tolist()
    assert overview.loc[("U-Net", "jiangxi"), "bcisc"] == "0.500\u00a0[0.250,\u00a00.950]"


def test_curves_of_colours_hold_the_unchanged_image_too():
    tables = [
        run("unet", [10, 10, 10]),
        run("unet", [10, 10, 10], seed=1),
        run("unet", [5, 5, 5], change="hue -20"),
        run("unet", [7, 7, 7], seed=1, change="hue -20"),
        run("unet_stain", [9, 9, 9]),
        run("unet_stain", [8, 8, 8], change="hue -20"),
        run("unet+segnet", [9, 9, 9]),
    ]
    curves = reports.colour_curves(pd.concat(tables), "nucleus")
    hue = curves[curves["property"] == "hue"]
    plain, stained = hue[~hue["stained"]], hue[hue["stained"]]
    assert set(curves["method"]) == {"unet"}
    assert plain["level"].tolist() == [-20, 0]
    expected = dice(15, 30), dice(21, 30)
    assert plain["score"].tolist() == pytest.approx([np.mean(expected), 1])
    assert plain.iloc[0][["low", "high"]].tolist() == pytest.approx(list(expected))
    assert stained["score"].tolist() == pytest.approx([dice(24, 30), dice(27, 30)])

    losses = reports.colour_loss_table(
        curves, slight={"hue": (-20, 20), "saturation": (0.5,), "brightness": ()}
    )
    plain = losses.loc["U-Net", "as they are"]
    assert plain["hue"] == pytest.approx(1 - np.mean(expected))
    assert plain[["saturation", "brightness"]].isna().all()
    assert losses.loc[("U-Net", "stains jittered"), "hue"] == pytest.approx(dice(27, 30) - dice(24, 30))


def test_pairs_stand_beside_their_members():
    rows = [
        *score_rows("segnet", [0.5, 0.6], target="classes"),
        *score_rows("dounet", [0.7], target="classes"),
        *score_rows("segnet+dounet", [0.75, 0.65], target="classes"),
    ]
    table = reports.pair_table(pd.DataFrame(rows), ["segnet+dounet", "dounet+dounet"])
    assert table.loc["SegNet + DO-U-Net"].tolist() == [
        "0.550 (0.500\u00a0to\u00a00.600)",
        "0.700",
        "0.700 (0.650\u00a0to\u00a00.750)",
    ]
    assert table.loc["DO-U-Net + DO-U-Net", "both"] == "missing"


def run_classes(method, n_right, *, seed=0, change=""):
    """Images of ten red cells' pixels and ten white ones', of which `n_right` and all are found."""
    true, pred = maps(n_right)
    true[:, :, 10:], pred[:, :, 10:] = 2, 2
    table = count_class_pixels(KEYS, true, pred, ("background", "rbc", "wbc"))
    return table.assign(method=method, target="classes", seed=seed, change=change)


def test_gains_by_stain_augmentation_by_hand():
    """Of ten pixels 8 are found without it and 9 with it; on two slight changes 5 and 7, and 8 and 8."""
    tables = [run("unet", [8] * 3), run("unet_stain", [9] * 3), run("segnet", [9] * 3)]
    for level, without, stained in ((-20, 5, 8), (10, 7, 8)):
        tables.append(run("unet", [without] * 3, change=f"hue {level}"))
        tables.append(run("unet_stain", [stained] * 3, change=f"hue {level}"))
    tables.append(run("unet_stain", [1] * 3, change="hue 40"))  # not slight
    slight = {"hue": (-20, 10), "brightness": (0.7,)}
    table = reports.stain_gain_table(pd.concat(tables), slight=slight, target="nucleus")
    assert list(table.columns) == ["unchanged", "hue", "brightness"]
    unchanged, hue = dice(9, 10) - dice(8, 10), dice(16, 20) - dice(12, 20)
    # All images are alike, so that the intervals have no width.
    expected = [f"{gap:+.3f} [{gap:+.3f},\u00a0{gap:+.3f}]" for gap in (unchanged, hue)]
    assert table.loc["U-Net"].tolist() == [*expected, "-"]
    assert list(table.index) == ["U-Net"]


def test_a_gain_rounded_to_zero_has_no_sign():
    """Of 10,000 pixels 5 are missed without stain augmentation and 6 with it: a loss of 5e-5 Dice."""
    counts = {"tp": 9995, "fp": 0, "fn": 5, "tn": 0}
    plain = run("unet", [8] * 3).assign(**counts)
    stained = run("unet_stain", [8] * 3).assign(**counts | {"tp": 9994, "fn": 6})
    table = reports.stain_gain_table(pd.concat([plain, stained]), slight={}, target="nucleus")
    assert table.loc["U-Net", "unchanged"] == "0.000 [0.000,\u00a00.000]"


def test_gains_of_pairs_by_hand():
    """Of ten red pixels a network finds 6 or 8, two trainings of one 8, and both networks 9."""
    n_right = {"segnet": 6, "dounet": 8, "segnet+segnet": 7, "dounet+dounet": 8, "segnet+dounet": 9}
    tables = [run_classes(method, [n] * 3) for method, n in n_right.items()]
    tables.append(run_classes("dounet", [10] * 3, change="hue 40"))
    table = reports.pair_gain_table(pd.concat(tables), ["segnet+dounet", "dounet+dounet", "unet+unet"])
    # The IoU of red pixels is n / 10, that of the background, which is only where red is missed, 0.
    assert table["mean IoU gained"].to_dict() == {
        ("SegNet + DO-U-Net", "DO-U-Net"): "+0.033",
        ("SegNet + DO-U-Net", "DO-U-Net + DO-U-Net"): "+0.033",
        ("DO-U-Net + DO-U-Net", "DO-U-Net"): "0.000",
    }


def test_without_runs_the_tables_are_empty():
    nothing = pd.DataFrame()
    assert reports.stain_gain_table(nothing, slight={}).empty
    assert reports.pair_gain_table(nothing, ["unet+unet"]).empty
    assert reports.network_table(nothing, "classes").empty
    assert reports.difference_table(nothing, "classes").empty
    assert reports.transfer_table(nothing, "unet").isna().all(axis=None)
    assert (reports.transfer_interval_table(nothing, "unet") == "").all(axis=None)
    assert reports.transfer_overview(nothing).empty
    assert reports.dataset_table(nothing, "nucleus").empty
    assert reports.mean_transfer_table(nothing).empty
    assert reports.colour_curves(nothing).empty
    assert reports.colour_loss_table(reports.colour_curves(nothing), slight={}).empty
    assert reports.pair_table(nothing, ["unet+unet"]).loc["U-Net + U-Net"].tolist() == ["missing"] * 3

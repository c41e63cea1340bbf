"""Counts, scores and tables of chapters that name every pixel."""

import numpy as np
import pandas as pd
import pytest

from bloodcells.class_labels import CLASSES
from bloodcells.class_metrics import tabulate_classes
from bloodcells.class_reports import (
    OVERALL,
    class_table,
    confusion_table,
    cost_table,
    count_crops,
    count_true_maps,
    crop_count_table,
    overall_table,
    score_crops,
    tolerance_table,
)
from bloodcells.crops import Crop
from bloodcells.errors import UserError

SHAPE = (120, 160)
RADIUS = 10


def disc(row, column, radius):
    rows, columns = np.indices(SHAPE)
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def make_crop(image_id="one", counts=None):
    """Make a crop of six red cells and one white cell that keep apart."""
    labels = np.zeros(SHAPE, np.uint8)
    for row in (25, 60, 95):
        for column in (25, 60):
            labels[disc(row, column, RADIUS)] = 1
    labels[disc(60, 115, 17)] = 2
    image = np.full((*SHAPE, 3), 200, np.uint8)
    return Crop(
        "drawn", image_id, image, labels, RADIUS, None, {"rbc": 6, "wbc": 1} if counts is None else counts
    )


def perfect(crop):
    return np.eye(3, dtype=np.float32)[crop.labels]


def tabulate(crops, probability):
    named = [one.argmax(axis=-1).astype(np.uint8) for one in probability]
    ids = [crop.image_id for crop in crops]
    table = tabulate_classes(ids, [crop.labels for crop in crops], named, CLASSES).assign(dataset="drawn")
    return table.merge(count_crops(crops, np.stack(probability)), how="left", on=["image_id", "class"])


def as_runs(scores, method="segnet_vgg16"):
    return pd.DataFrame([{"method": method, "seed": 0} | scores["datasets"]["drawn"]])


def test_cells_that_keep_apart_are_counted_rightly():
    crop = make_crop()
    table = count_crops([crop], perfect(crop)[np.newaxis]).set_index("class")
    for method in ("ccl", "edt", "tree"):
        assert table[f"n_{method}"].to_dict() == {"rbc": 6, "wbc": 1}


def test_unknown_counts_stay_out_of_the_accuracy():
    crops = [make_crop("a"), make_crop("b", {"rbc": 8}), make_crop("c", {"rbc": 0, "wbc": 2})]
    scores = score_crops(tabulate(crops, [perfect(crop) for crop in crops]), seed=0)["datasets"]["drawn"]
    # Six red cells found of 6 and of 8: 100 and 75 %; a crop without one has no accuracy.
    assert scores["n_counted_rbc"] == 2
    assert scores["count_rbc_ccl"] == pytest.approx(87.5)
    assert scores["bias_rbc_ccl"] == pytest.approx(-1)
    # One white cell found of 1 and of 2.
    assert scores["n_counted_wbc"] == 2
    assert scores["count_wbc_ccl"] == pytest.approx(75)
    assert scores["mae_wbc_ccl"] == pytest.approx(0.5)


def test_shares_are_those_of_the_true_class():
    crop = make_crop()
    probability = perfect(crop)
    white = crop.labels == 2
    upper = white & (np.indices(SHAPE)[0] < 60)
    probability[upper] = (0, 1, 0)
    scores = score_crops(tabulate([crop], [probability]), seed=0)["datasets"]["drawn"]
    assert scores["share_wbc_as_rbc"] == pytest.approx(upper.sum() / white.sum())
    assert scores["accuracy_wbc"] == pytest.approx(1 - upper.sum() / white.sum())
    assert scores["share_rbc_as_wbc"] == 0
    table = confusion_table(tabulate([crop], [probability]))
    assert table.loc["wbc", "rbc"] == pytest.approx(100 * upper.sum() / white.sum())
    assert table.sum(axis=1).to_numpy() == pytest.approx(100)


def test_tables_hold_every_run_class_and_kind_of_cell():
    crop = make_crop()
    scores = as_runs(score_crops(tabulate([crop], [perfect(crop)]), seed=0))
    assert list(overall_table(scores).columns) == list(OVERALL.values())
    assert (
        overall_table(scores).loc[("SegNet, VGG-16 encoder", 0), "mean IoU"].startswith("1.000\u00a0[1.000")
    )
    assert list(class_table(scores).index.get_level_values("class")) == list(CLASSES)
    assert (class_table(scores) == 1).all(axis=None)
    counts = crop_count_table(scores).loc["SegNet, VGG-16 encoder"]
    assert counts.loc["rbc", "n"] == 1
    assert counts.loc["rbc", "ccl"] == "100.0\u00a0(0.0,\u00a00.0)"


def test_a_bias_that_rounds_to_zero_has_no_sign():
    crop = make_crop()
    scores = as_runs(score_crops(tabulate([crop], [perfect(crop)]), seed=0))
    for bias, text in ((-0.04, "0.0"), (0.04, "0.0"), (-0.06, "-0.1"), (0.06, "+0.1")):
        table = crop_count_table(scores.assign(bias_rbc_ccl=bias))
        assert table.loc[("SegNet, VGG-16 encoder", "rbc"), "ccl"].endswith(f",\u00a0{text})")


def test_a_head_that_some_runs_have_is_a_column_of_its_own():
    crop = make_crop()
    plain = tabulate([crop], [perfect(crop)])
    with_head = plain.assign(n_head=[float("nan"), 9, 1])  # 9 red cells in place of 6, the white one right
    scores = pd.concat(
        [
            as_runs(score_crops(with_head, seed=0), "nodes_unet"),
            as_runs(score_crops(plain, seed=0), "unet"),
        ]
    )
    table = crop_count_table(scores)
    assert table.loc[("NODEs-UNet", "rbc"), "head"] == "50.0\u00a0(3.0,\u00a0+3.0)"
    assert table.loc[("NODEs-UNet", "wbc"), "head"].startswith("100.0")
    assert table.loc[("U-Net, half width", "rbc"), "head"] == "-"
    assert "head" not in crop_count_table(as_runs(score_crops(plain, seed=0)))


def test_true_maps_are_counted_one_row_a_crop():
    crops = [make_crop("a"), make_crop("b")]
    crops[1].labels[crops[1].labels == 2] = 255  # what has no label is no cell
    counts = count_true_maps(crops)
    assert counts.dtype == np.float32
    assert counts.tolist() == [[6, 1], [6, 0]]


def test_costs_are_multiples_of_the_baseline():
    crop = make_crop()
    quality = score_crops(tabulate([crop], [perfect(crop)]), seed=0)
    costs = {"predict_s": 3.0, "n_evaluations": 26.0, "parameter_mib": 12.0}
    scores = pd.concat(
        [
            as_runs(quality, "ode_unet1").assign(**costs),
            as_runs(quality, "ode_unet1").assign(**costs | {"predict_s": 5.0, "seed": 1}),
            as_runs(quality, "unet").assign(predict_s=0.5, n_evaluations=0.0, parameter_mib=10.0),
        ]
    )
    table = cost_table(scores)
    assert table["time"].to_dict() == {"ODE-UNet1": 8, "U-Net, half width": 1}
    assert table["mean IoU"].tolist() == [100, 100]
    assert table.loc["ODE-UNet1", ["evaluations", "MiB"]].tolist() == [26, 12]
    assert cost_table(scores, baseline="resnet")["time"].isna().all()


def test_tables_of_no_runs_are_empty():
    for table in (overall_table, class_table, crop_count_table, cost_table):
        assert table(pd.DataFrame()).empty


def test_every_crop_needs_a_prediction():
    with pytest.raises(UserError, match="got 1 crops and 2 predictions"):
        count_crops([make_crop()], np.zeros((2, *SHAPE, 3), np.float32))


def test_tolerances_are_listed_run_by_run():
    found = {"n_evaluations": 20.0, "predict_s": 0.5, "mean_iou": 0.9}
    scores = pd.DataFrame(
        [
            {"method": "unet", "seed": 0},
            {
                "method": "nodes_unet",
                "seed": 1,
                "tolerances": {"0.1": found, "1e-06": found | {"mean_iou": 0.8}},
            },
        ]
    )
    table = tolerance_table(scores)
    assert table.to_numpy().tolist() == [
        ["nodes_unet", 1, 1e-6, 20.0, 0.5, 0.8],
        ["nodes_unet", 1, 0.1, 20.0, 0.5, 0.9],
    ]
    assert tolerance_table(scores[:1]).empty

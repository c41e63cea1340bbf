"""The tables of encoders: what there is, what is missing, and the names taken apart."""

import pandas as pd
import pytest

from bloodcells.backbone_reports import (
    comparison_table,
    cost_table,
    detail_table,
    epochs_to_level,
    parse_method,
    printed_scores,
    score_binary,
    speed_table,
)
from bloodcells.errors import UserError

SCORES = pd.DataFrame(
    [
        ("unet_ce", "nucleus", 0, 0.90, 0.8, 0.99, 0.85, 0.74, 10, 100, 5.0, 0.1),
        ("unet_ce", "nucleus", 1, 0.92, 0.8, 0.99, 0.87, 0.74, 13, 100, 7.0, 0.3),
        ("resnet50_dice", "cytoplasm", 0, 0.70, 0.6, 0.98, 0.65, 0.48, 20, 900, 50.0, 0.9),
        ("resnet50", "types", 0, *[float("nan")] * 5, 4, 900, 9.0, 0.1),
    ],
    columns=[
        *("method", "target", "seed", "precision", "recall", "specificity", "dice", "iou"),
        *("epochs", "n_parameters", "train_s", "predict_s"),
    ],
)


def test_names_are_taken_apart():
    method = parse_method("resnet50_imagenet_dice")
    assert (method.encoder, method.source, method.loss) == ("resnet50", "imagenet", "dice")
    assert str(method) == "ResNet-50 (ImageNet)"
    assert parse_method("vgg16_ce", source="hed").source == "hed"
    assert str(parse_method("unet_ce")) == "U-Net"
    assert str(parse_method("efficientnetb0_none_ce")) == "efficientnetb0 (random)"


@pytest.mark.parametrize("name", ["resnet50", "resnet50_mse", "resnet50_paris_ce", "resnet50_none_blood_ce"])
def test_other_names_are_refused(name):
    with pytest.raises(UserError, match=f"got '{name}'"):
        parse_method(name)


def test_the_plain_unet_has_no_weights_to_start_from():
    assert parse_method("unet_ce").source == parse_method("unet_none_ce").source == "none"
    with pytest.raises(UserError, match="take 'unet_dice'"):
        parse_method("unet_blood_dice")


def test_epochs_to_a_level_of_the_loss():
    history = pd.DataFrame({"epoch": [1, 2, 3, 4], "val_loss": [0.5, 0.2, 0.3, 0.1]})
    assert epochs_to_level(history, 0.2) == 2
    assert epochs_to_level(history, 0.15) == 4
    assert epochs_to_level(history, 0.05) is None


def test_speed_says_where_the_level_was_not_reached():
    late = SCORES.assign(epochs_to_level=[3, 4, None, 1], epochs_allowed=12)
    table = speed_table(late, ["unet_ce", "resnet50_dice"])
    assert table.loc[("U-Net", "cross-entropy")].to_dict() == {"nucleus": "3.5", "cytoplasm": "missing"}
    other = table.loc[("ResNet-50 (white cells)", "Dice loss")]
    assert other.to_dict() == {"nucleus": "missing", "cytoplasm": "more than 12"}


def test_comparison_means_seeds_and_marks_what_is_missing():
    table = comparison_table(SCORES, ["unet_ce/nucleus", "unet_dice/nucleus", "resnet50_dice/cytoplasm"])
    row = table.loc["nucleus", "U-Net"]
    assert row["cross-entropy"].tolist() == ["0.9100", "0.8600 (0.850\xa0to\xa00.870)", "11.5"]
    assert row["Dice loss"].tolist() == ["missing"] * 3
    other = table.loc["cytoplasm", "ResNet-50 (white cells)"]
    assert other["Dice loss", "Dice"] == "0.6500"
    assert other["cross-entropy"].tolist() == [""] * 3


def test_losses_keep_their_order():
    table = comparison_table(SCORES, ["resnet50_dice/nucleus", "unet_ce/nucleus"])
    assert list(dict.fromkeys(table.columns.get_level_values("loss"))) == ["cross-entropy", "Dice loss"]
    assert table.index.get_level_values("network").tolist() == ["ResNet-50 (white cells)", "U-Net"]


def test_tables_of_no_run_at_all():
    table = comparison_table(pd.DataFrame(), ["unet_ce/nucleus"])
    assert table.to_numpy().tolist() == [["missing"] * 3]
    assert (detail_table(pd.DataFrame(), ["unet_ce"]) == "missing").all(axis=None)
    assert len(cost_table(pd.DataFrame())) == 0


def test_details_give_the_range_of_seeds():
    table = detail_table(SCORES, ["unet_ce"])
    assert table.loc["F-score/Dice", ("nucleus", "cross-entropy")] == "0.8600 (0.8500 to 0.8700)"
    assert table.loc["sensitivity", ("nucleus", "cross-entropy")] == "0.8000 (0.8000 to 0.8000)"
    assert table.loc["precision", ("cytoplasm", "cross-entropy")] == "missing"


def test_costs_stand_beside_dice_for_segmentation_only():
    table = cost_table(SCORES)
    assert table["network"].tolist() == ["U-Net", "ResNet-50 (white cells)"]
    assert table["train_s"].tolist() == [6.0, 50.0]
    assert table["predict_s"].tolist() == pytest.approx([0.2, 0.9])


def test_datasets_are_scored_alone_and_together():
    """Three of four and one of four found, no false one: Dice 6 / 7 and 2 / 5, and together 8 / 12."""
    per_image = pd.DataFrame(
        {"dataset": ["a", "b"], "image_id": ["1", "1"], "tp": [3, 1], "fp": 0, "fn": [1, 3], "tn": 9}
    )
    scores = score_binary(per_image, seed=0)["datasets"]
    assert list(scores) == ["a", "b", "a+b"]
    assert [one["dice"] for one in scores.values()] == pytest.approx([6 / 7, 2 / 5, 8 / 12])
    assert scores["a+b"]["n"] == 2
    assert list(score_binary(per_image[:1], seed=0)["datasets"]) == ["a"]


def test_printed_figures_are_laid_out_like_ours():
    figures = [("nucleus", "dice", 0.95), ("nucleus", "epochs", 53), ("cytoplasm", "dice", 0.92)]
    claims = [
        {"kind": "value", "method": "unet_ce", "target": target, "metric": metric, "value": value}
        for target, metric, value in figures
    ] + [{"kind": "best", "method": "unet_ce", "target": "nucleus", "metric": "dice"}]
    scores = printed_scores(claims)
    assert scores["target"].tolist() == ["nucleus", "cytoplasm"]
    assert scores["epochs"].tolist() == [53, 53]
    table = comparison_table(scores.assign(precision=0.9), ["unet_ce/cytoplasm"])
    assert table.loc["cytoplasm", "U-Net"].tolist() == ["0.9000", "0.9200", "53"]

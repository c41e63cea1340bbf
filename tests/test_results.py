import json
import subprocess

import numpy as np
import pandas as pd
import pytest

from bloodcells import (
    backbone_reports,
    class_reports,
    crops,
    datasets,
    field_scores,
    metrics,
    protocol_reports,
    results,
)
from bloodcells.errors import UserError

CHAPTER = "05_nasser2025_wcsegnet"
TYPES = ["neutrophil", "lymphocyte", "basophil"]


def images_of_test_part(dataset="jiangxi"):
    split = datasets.read_split(dataset)
    return split[(split["split"] == "test") & split["cell_type"].isin(TYPES)]


def test_a_run_comes_back_as_it_was_written(make_run, tmp_path):
    folder = make_run(tmp_path, seed=3)
    scores, per_image = results.load_runs(tmp_path)
    row = scores.iloc[0]
    assert (row["method"], row["target"], row["seed"], row["dataset"]) == (
        "wcsegnet",
        "nucleus",
        3,
        "jiangxi",
    )
    assert row["dice"] == row["cell_accuracy"] == 1.0
    assert row["n"] == len(images_of_test_part())
    assert len(per_image) == 4 * len(images_of_test_part())
    assert set(per_image["image_id"]) == set(images_of_test_part()["image_id"])  # "001" stays text
    assert list(results.load_history([folder][0])["seed"]) == [3]


def test_another_configuration_gets_another_folder_and_the_same_one_the_same(tmp_path):
    def folder(**config):
        run = results.start_run(CHAPTER, "reduced", "a/b", 0, config=config, output_dir=tmp_path)
        run.lock.release()
        return run.folder

    assert folder(epochs=1) == folder(epochs=1)
    assert folder(epochs=1) != folder(epochs=2)
    assert folder(epochs=1).parent == tmp_path / CHAPTER / "reduced"


def test_two_writers_do_not_share_a_folder(tmp_path):
    run = results.start_run(CHAPTER, "reduced", "a/b", 0, config={}, output_dir=tmp_path)
    with pytest.raises(UserError, match="Another process is writing"):
        results.start_run(CHAPTER, "reduced", "a/b", 0, config={}, output_dir=tmp_path)
    run.lock.release()


def test_provenance_names_code_versions_and_data(make_run, tmp_path):
    folder = make_run(tmp_path)
    found = json.loads((folder / "provenance.json").read_text())
    assert set(found["sha256"]) == {"registry/jiangxi.csv", "splits/jiangxi.csv"}
    assert found["versions"]["numpy"] == np.__version__
    assert found["wall_s"] >= 0
    assert found["peak_memory_mib"] > 10
    assert "CPU" in found["device"] or "GPU" in found["device"]


def test_git_state_is_that_of_the_checkout():
    commit, _ = results.git_state()
    described = subprocess.run(["git", "rev-parse", "HEAD"], cwd=results.ROOT, capture_output=True, text=True)
    assert commit == (described.stdout.strip() or None)


def test_promote_copies_the_small_files_only(make_run, tmp_path):
    folder = make_run(tmp_path / "runs")
    (folder / "best.weights.h5").write_bytes(b"large")
    (target,) = results.promote(folder, record=tmp_path / "record")
    assert sorted(path.name for path in target.iterdir()) == sorted(results.RECORD_FILES)
    assert results.best_record_mode(CHAPTER, record=tmp_path / "record") == "workstation"
    listed = results.list_records(record=tmp_path / "record")
    assert listed["minutes"].tolist() == [1.5]
    assert listed[["arm", "seed", "datasets"]].to_numpy().tolist() == [["wcsegnet/nucleus", 0, "jiangxi"]]


def test_a_run_on_crops_must_have_predicted_every_test_crop(tmp_path):
    ids = list(crops.list_crops("all-idb1", "test")["image_id"])

    def finish(predicted, **config):
        run = results.start_run(
            "01_x",
            "workstation",
            "m/classes",
            0,
            config={"datasets": ["all-idb1"]} | config,
            output_dir=tmp_path,
        )
        (run.folder / "history.csv").write_text("epoch,loss\n1,1.0\n")
        table = pd.DataFrame({"image_id": predicted, "dataset": "all-idb1"})
        folder = results.finish_run(
            run, per_image=table, metrics={"datasets": {"all-idb1": {}}}, datasets_used=["all-idb1"]
        )
        source = json.loads((folder / "provenance.json").read_text())
        assert "splits/all-idb1_crops.csv" in source["sha256"]
        (folder / "provenance.json").write_text(json.dumps(source | {"commit": "c" * 40, "dirty": False}))
        return folder

    with pytest.raises(UserError, match="lacks predictions of 1 test images of all-idb1"):
        results.promote(finish(ids[1:]), record=tmp_path / "record")
    assert results.promote(finish(ids, epochs=2), record=tmp_path / "record")


def test_promote_replaces_the_run_of_the_same_arm_and_seed(make_run, tmp_path):
    old = make_run(tmp_path / "runs", epochs=1)
    other = make_run(tmp_path / "runs", epochs=1, seed=1)
    record = tmp_path / "record"
    results.promote(tmp_path / "runs", record=record)
    new = make_run(tmp_path / "later", epochs=2)
    results.promote(new, record=record)
    kept = {path.parent.name for path in record.rglob("metrics.json")}
    assert kept == {new.name, other.name}
    assert old.name not in kept


@pytest.mark.parametrize("newest", [0, 1])
def test_of_two_runs_of_one_arm_and_seed_the_later_one_is_promoted(make_run, tmp_path, newest):
    folders = [make_run(tmp_path / "runs", epochs=epochs) for epochs in (1, 2)]
    for number, folder in enumerate(folders):
        source = json.loads((folder / "provenance.json").read_text())
        source["finished"] = f"2026-01-0{1 + (number == newest)}T00:00:00+00:00"
        (folder / "provenance.json").write_text(json.dumps(source))
    (target,) = results.promote(tmp_path / "runs", record=tmp_path / "record")
    assert target.name == folders[newest].name
    assert [path.parent for path in (tmp_path / "record").rglob("metrics.json")] == [target]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dirty": True}, "uncommitted changes"),
        ({"drop": 2}, "lacks predictions of 2 test images of jiangxi"),
        ({"dataset": "synthetic"}, "drawn smears"),
    ],
)
def test_promote_refuses_and_copies_nothing(make_run, tmp_path, options, message):
    make_run(tmp_path / "runs", seed=1)  # a good one beside it
    make_run(tmp_path / "runs", **options)
    with pytest.raises(UserError, match=message):
        results.promote(tmp_path / "runs", record=tmp_path / "record")
    assert not list((tmp_path / "record").rglob("*"))


def test_promote_refuses_unfinished_runs_and_empty_folders(make_run, tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        results.promote(tmp_path)
    folder = make_run(tmp_path / "runs")
    (folder / "metrics.json").unlink()
    with pytest.raises(UserError, match=r"lacks metrics\.json"):
        results.promote(folder, record=tmp_path / "record")


@pytest.mark.parametrize("name", ["config.json", "provenance.json", "metrics.json"])
@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_promote_refuses_damaged_runs(make_run, tmp_path, name, content):
    folder = make_run(tmp_path / "runs")
    if (name, content) == ("metrics.json", "{}"):
        content = ""
    (folder / name).write_text(content)
    with pytest.raises(UserError, match="is damaged"):
        results.promote(folder, record=tmp_path / "record")
    assert not (tmp_path / "record").exists()


def test_a_run_counts_as_finished_only_when_all_is_written(make_run, tmp_path, monkeypatch):
    """As where it is killed between two of its files."""
    written = results.write_json

    def write_json(path, content):
        if path.name == "provenance.json":
            raise KeyboardInterrupt
        written(path, content)

    monkeypatch.setattr(results, "write_json", write_json)
    with pytest.raises(KeyboardInterrupt):
        make_run(tmp_path)
    assert results.load_runs(tmp_path)[0].empty


def test_a_score_that_no_run_has_is_not_a_number(make_run, tmp_path):
    folder = make_run(tmp_path)
    scores = json.loads((folder / "metrics.json").read_text())
    scores["datasets"]["jiangxi"]["precision"] = None
    (folder / "metrics.json").write_text(json.dumps(scores))
    assert np.isnan(results.load_runs(tmp_path)[0]["precision"].to_numpy()).all()


def test_not_a_number_becomes_null_and_comes_back(make_run, tmp_path):
    folder = make_run(tmp_path)
    stored = json.loads((folder / "metrics.json").read_text())
    # Jiangxi's test part has no basophil: its Dice is undefined.
    assert stored["datasets"]["jiangxi"]["dice_basophil"] is None
    scores, _ = results.load_runs(tmp_path)
    assert scores["dice_basophil"].isna().all()


LATER_SCORES = {
    f"specificity{suffix}" for suffix in ("", "_low", "_high", "_mean", "_n_nan")
}  # since the record of chapter 5


def score_again(config, per_image):
    """Compute the scores of a run from its table of images, as its chapter does."""
    target, seed = config["arm"].split("/")[1], config["seed"]
    if config["chapter"].startswith(("01", "03")):
        return class_reports.score_crops(per_image, seed=seed)
    if config["chapter"].startswith("02"):
        return field_scores.scores_by_group(per_image, target, seed=seed)
    if config["chapter"].startswith("05"):
        return metrics.score_datasets(per_image, config["cell_types"], seed=seed)
    if config["chapter"].startswith("07"):
        return protocol_reports.score_task(per_image[per_image["change"].isna()], target, seed=seed)
    if target != "types":
        return backbone_reports.score_binary(per_image, seed=seed)
    tables = per_image.groupby("dataset")
    return {
        "datasets": {
            name: {"n": len(table), "cell_accuracy": metrics.cell_accuracy(table)} for name, table in tables
        }
    }


def list_recorded():
    """Chapters and folders of the runs in the record whose scores come from their tables of images."""
    return [
        pytest.param(folder, id=f"{folder.parent.parent.name[:2]}-{folder.parent.name}-{folder.name}")
        for folder in sorted(path.parent for path in results.RECORD.rglob("metrics.json"))
        # Chapter 6's scores are computed where they are shown.
        if not folder.parent.parent.name.startswith("06")
    ]


@pytest.mark.parametrize("folder", list_recorded())
def test_the_committed_record_is_what_its_images_say(folder):
    """Every committed metrics.json can be computed again from the per-image counts beside it."""
    stored = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["datasets"]
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    # Only what is empty is no number: "none" is a name.
    options = {"keep_default_na": False, "na_values": [""], "dtype": {"image_id": str}}
    per_image = pd.read_csv(folder / "per_image.csv", **options)
    again = score_again(config, per_image)["datasets"]
    assert set(again) == set(stored)
    for dataset, scores in again.items():
        # A score that came later than a record is not in it; whatever is in it must come out again.
        assert set(scores) - set(stored[dataset]) <= LATER_SCORES
        for name, kept in stored[dataset].items():
            assert scores[name] == pytest.approx(np.nan if kept is None else kept, nan_ok=True), (
                dataset,
                name,
            )


def test_a_run_on_square_crops_must_have_predicted_those():
    config = {"arm": "m/classes", "datasets": ["all-idb1"]}
    for kind, given in (("square", {"crops": "square"}), ("wide", {})):
        wanted = set(crops.list_crops("all-idb1", "test", kind)["image_id"])
        assert results._test_images("all-idb1", config | given) == wanted


def test_an_experiment_on_drawn_smears_enters_the_record_without_a_history(make_run, tmp_path):
    folder = make_run(tmp_path / "runs", controlled=True, dataset="synthetic")
    (folder / "history.csv").unlink()
    (target,) = results.promote(folder, record=tmp_path / "record")
    assert sorted(path.name for path in target.iterdir()) == sorted(
        set(results.RECORD_FILES) - {"history.csv"}
    )
    assert len(results.load_history(tmp_path / "record")) == 0
    trained = make_run(tmp_path / "other")
    (trained / "history.csv").unlink()
    with pytest.raises(UserError, match=r"lacks history\.csv"):
        results.promote(trained, record=tmp_path / "record")


def test_answers_put_together_enter_the_record_without_a_history_but_not_on_drawn_smears(make_run, tmp_path):
    folder = make_run(tmp_path / "runs", combined=["a-s0-1", "b-s0-2"])
    (folder / "history.csv").unlink()
    assert results.promote(folder, record=tmp_path / "record")
    drawn = make_run(tmp_path / "other", combined=["a-s0-1", "b-s0-2"], dataset="synthetic")
    with pytest.raises(UserError, match="only runs on real data"):
        results.promote(drawn, record=tmp_path / "record")

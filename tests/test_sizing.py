"""Estimates from records and benchmarks whose outcome is worked out by hand."""

import json

import nbformat
import numpy as np
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_notebook

from bloodcells import sizing
from bloodcells.paths import ROOT

SMALL = {"epochs": 2, "steps_per_epoch": 5, "batch_size": 4, "image_size": 10, "base_filters": 3}


@pytest.mark.parametrize(
    ("change", "factor"),
    [
        ({"epochs": 6}, 3),
        ({"steps_per_epoch": 10}, 2),
        ({"image_size": 20}, 4),
        ({"base_filters": 9}, 9),
        # A pass over 13 images in batches of 4 has 4 steps.
        ({"steps_per_epoch": 0}, 4 / 5),
        ({"epochs_cell": 8}, 4),
        ({"epochs_other": 8}, 1),
    ],
)
def test_work_grows_with_each_size(change, factor):
    before = sizing.training_work(SMALL, "unet/cell", n_images=13)
    assert sizing.training_work(SMALL | change, "unet/cell", n_images=13) == pytest.approx(factor * before)


def test_networks_with_a_width_of_their_own_take_no_notice_of_the_filters():
    values = SMALL | {"pretraining_epochs": 8}
    wide = values | {"base_filters": 9}
    for arm, factor in {"resnet18_ce/nucleus": 1, "unet_ce/nucleus": 9}.items():
        assert sizing.training_work(wide, arm, n_images=1) == factor * sizing.training_work(
            values, arm, n_images=1
        )
    # Chapter 7 and chapter 5.
    for arm, factor in {
        "unet_resnet50/classes": 1,
        "unet_resnet50_stain/classes": 1,
        "unet/classes": 9,
        "unet_relu/nucleus": 9,
    }.items():
        before, after = (
            sizing.training_work(v, arm, n_images=1) for v in (SMALL, SMALL | {"base_filters": 9})
        )
        assert after == factor * before
    schooling = sizing.training_work(values, "resnet18/types", n_images=1)
    assert schooling == 4 * sizing.training_work(values, "resnet18_ce/nucleus", n_images=1)


def test_tiles_of_one_size_take_no_notice_of_the_image_size():
    values = SMALL | {"segnet_filters": 2}
    for arm, factor in {"segnet/cell": 1, "dounet/cell": 4}.items():
        before, after = (
            sizing.training_work(v, arm, n_images=1) for v in (values, values | {"image_size": 20})
        )
        assert after == factor * before


@pytest.fixture
def chapter(tmp_path):
    """Make a chapter whose full mode has 3 times the epochs, twice the filters, two arms and 3 seeds."""
    folder = tmp_path / "notebooks"
    (folder / "params").mkdir(parents=True)
    values = {"mode": "reduced", "output_dir": "runs", "arms": ["a/cell"], "n_seeds": 1} | SMALL
    cell = new_code_cell("\n".join(f"{name} = {value!r}" for name, value in values.items()))
    cell.metadata["tags"] = ["parameters"]
    for name in ("01_measured", "02_unmeasured"):
        nbformat.write(new_notebook(cells=[cell]), folder / f"{name}.ipynb")
        for mode, sizes in {
            "workstation": {},
            "full": {"epochs": 6, "base_filters": 6, "arms": ["a/cell", "b/cell"], "n_seeds": 3},
        }.items():
            (folder / "params" / f"{name}.{mode}.yml").write_text(yaml.safe_dump({"mode": mode} | sizes))
    nbformat.write(new_notebook(cells=[cell]), folder / "03_without_modes.ipynb")
    for seed, seconds in ((0, 900.0), (1, 2700.0)):
        run = tmp_path / "record" / "01_measured" / "workstation" / f"a-cell-s{seed}-12345678"
        run.mkdir(parents=True)
        # Fields of no one cell type, in the words of single cells: of no account where steps are given.
        config = {"arm": "a/cell", "seed": seed, "datasets": ["all-idb1"], "cell_types": ["neutrophil"]}
        (run / "config.json").write_text(json.dumps(config))
        (run / "metrics.json").write_text(json.dumps({"train_s": seconds, "n_parameters": 1_000_000}))
        (run / "provenance.json").write_text(json.dumps({"device": "CPU"}))
    return {"record": tmp_path / "record", "notebooks": folder}


def test_the_grid_takes_what_its_record_took_times_the_work(chapter):
    measured, unmeasured = sizing.grid_hours(**chapter).to_dict("records")
    # Half an hour on average, times 3 for epochs and 4 for filters, for two arms and 3 seeds.
    assert measured == pytest.approx(
        {
            "chapter": "01_measured",
            "n_trainings": 6,
            "n_measured": 2,
            "measured": 1.0,
            "hours": 0.5 * 3 * 4 * 6,
            # 16 bytes for each of four million parameters, six times.
            "gigabytes": 6 * 4e6 * 16 / 1e9,
        }
    )
    assert unmeasured["n_trainings"] == 6
    assert np.isnan(unmeasured["hours"])


def test_the_tables_say_what_is_assumed_and_what_is_not_measured(chapter):
    table = sizing.grid_table(sizing.Assumptions(gpu_speedup=(2, 9), gpu_price=3), **chapter).splitlines()
    # 36 hours: 4 to 18 of a GPU, at 3 each.
    assert table[2].endswith("| 6 | 2, 1.0 | 36 | 4.0 to 18.0 | 12 to 54 | 0.4 |")
    assert "| 6 | 0, 0.0 | not measured yet |  |  |  |" in table[3]
    assert table[4].startswith("| all measured | 6 | 2, 1.0 | 36 |")


def test_slides_take_what_the_benchmark_took_for_each_pixel(tmp_path):
    assert "not measured yet" in sizing.slides_table(benchmark=tmp_path / "count.json")
    figures = {"cpu_seconds": {"median": 6.0}, "output_megabytes": {"median": 1.0}}
    rows = [{"side": "bloodcells count", "figures": figures}, {"side": "another", "figures": {}}]
    report = {"megapixels": 2.0, "rows": rows}
    assume = sizing.Assumptions(n_slides=600, slide_megapixels=4, core_price=0.5)
    # 3 seconds and half a megabyte for each of 2400 megapixels.
    assert sizing.slide_hours(report, assume) == {
        "seconds_megapixel": 3.0,
        "core_hours": 2.0,
        "price": 1.0,
        "gigabytes": 1.2,
    }
    (tmp_path / "count.json").write_text(json.dumps(report))
    row = sizing.slides_table(assume, benchmark=tmp_path / "count.json").splitlines()[2]
    assert row == "| 600 of 4 megapixels | 3.00 | 2 | 1 | 1.0 |"


def test_the_page_names_the_chapters_without_a_size():
    table = sizing.grid_hours()
    blank = table.loc[table["gigabytes"].isna(), "chapter"]
    numbers = [str(int(chapter.split("_")[0])) for chapter in blank]
    text = " ".join((ROOT / "book" / "scale.md").read_text(encoding="utf-8").split())
    assert f"The records of chapters {', '.join(numbers[:-1])} and {numbers[-1]} don't tell" in text


def test_the_book_has_hours_for_every_chapter_with_a_record():
    table = sizing.grid_hours().set_index("chapter")
    assert (
        table.loc[table["n_measured"] > 0, "hours"] > table.loc[table["n_measured"] > 0, "measured"]
    ).all()


def test_a_gpu_is_held_against_the_cores_that_trained_the_same_arm(chapter):
    """The arm took 1800 s in the mean; three times the epochs and twice the filters are 12 times as much."""
    assert sizing.gpu_speedups(**chapter).empty
    assert "No training" in sizing.gpu_text(**chapter)
    devices = {"a-s0": ("GPU (Some Card)", 540.0), "a-s1": ("GPU (Some Card)", 216.0), "a-s2": ("CPU", 9.0)}
    for name, (device, seconds) in [*devices.items(), ("b-s0", ("GPU (Some Card)", 1.0))]:
        run = chapter["record"] / "01_measured" / "full" / name
        run.mkdir(parents=True)
        arm, seed = name.split("-s")
        (run / "config.json").write_text(json.dumps({"arm": f"{arm}/cell", "seed": int(seed)}))
        (run / "metrics.json").write_text(json.dumps({"train_s": seconds}))
        (run / "provenance.json").write_text(json.dumps({"device": device}))
    found = sizing.gpu_speedups(**chapter)
    assert found["arm"].tolist() == ["a/cell", "a/cell"]  # of the other the record has nothing
    assert found["expected"].tolist() == [12 * 1800] * 2
    assert found["speedup"].tolist() == [40, 100]
    text = sizing.gpu_text(**chapter)
    assert "2 trainings" in text
    assert "GPU (Some Card)." in text
    assert "40 to 100 times" in text
    assert "at least 70 times" in text

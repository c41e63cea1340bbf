"""The part of the build graph that is for clusters: what is run, what is left out, what is tried again.

`bloodcells` itself is stood in for by a small script, which the graph takes from its configuration. It writes
down how it was called, and fails where a test says so.
"""

import csv
import importlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys

import nbformat
import numpy as np
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image

from bloodcells import cli, count_command, image_io
from bloodcells.errors import UserError
from bloodcells.paths import ROOT
from bloodcells.synthetic import draw_smear

PROFILES = ROOT / "workflow" / "profiles"
DOUBLE = """
import csv, json, pathlib, sys

def value(name):
    return sys.argv[sys.argv.index(name) + 1]

command, out = sys.argv[1], pathlib.Path(value("--out"))
with open("calls.jsonl", "a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
trouble = pathlib.Path("fails-once", out.name.split("-")[0])
said = None
if trouble.exists():
    said = trouble.read_text() or "Traceback (most recent call last): a fault that passes"
    trouble.unlink()
if command == "run":
    if said:
        sys.exit(said)
    pairs = {sys.argv[i + 1]: sys.argv[i + 2] for i, word in enumerate(sys.argv) if word == "-p"}
    first = int(pairs.get("seed", 0))
    for arm in json.loads(pairs.get("arms", '["counters/rbc"]')):
        for seed in range(first, first + int(pairs.get("n_seeds", 1))):
            folder = out / sys.argv[2] / value("--mode") / f"{arm.replace('/', '-')}-s{seed}-12345678"
            folder.mkdir(parents=True, exist_ok=True)
            config = {"chapter": sys.argv[2], "mode": value("--mode"), "arm": arm, "seed": seed}
            (folder / "config.json").write_text(json.dumps(config))
            (folder / "metrics.json").write_text(json.dumps({"datasets": {"drawn": {"dice": 0.5}}}))
            source = {"commit": "c", "device": "d", "wall_s": 1}
            (folder / "provenance.json").write_text(json.dumps(source))
            (folder / "per_image.csv").write_text("image_id\\n1\\n")
else:
    images = sys.argv[2 : sys.argv.index("--out")]
    sound = [image for image in images if "broken" not in image]
    # As the real one it goes on with what is there, and writes the table after each image.
    path, rows = out / "counts.csv", []
    if path.exists() and "--resume" in sys.argv:
        with path.open() as table:
            rows = list(csv.reader(table))[1:]
    missing = [image for image in sound if image not in [row[0] for row in rows]]
    for image in missing[:1] if said else missing:
        rows.append([image, len(image)])
        with path.open("w") as table:
            csv.writer(table).writerows([["image", "rbc"], *rows])
        with open("counted.txt", "a") as counted:
            counted.write(image + "\\n")
    if said:
        sys.exit(said)
    sys.exit(len(sound) < len(images))
"""


@pytest.fixture(scope="module")
def workflow():
    """Import the scripts of the workflow, which are no package."""
    sys.path.insert(0, str(ROOT / "workflow"))
    try:
        yield type("workflow", (), {name: importlib.import_module(name) for name in ("grid", "slides")})
    finally:
        sys.path.remove(str(ROOT / "workflow"))


def write_chapter(root, name, parameters, sizes=None):
    """Write a notebook that holds nothing but parameters, and their values for the workstation."""
    defaults = {"mode": "reduced", "output_dir": "runs"} | parameters
    cell = new_code_cell("\n".join(f"{key} = {value!r}" for key, value in defaults.items()))
    cell.metadata["tags"] = ["parameters"]
    nbformat.write(new_notebook(cells=[cell]), root / "notebooks" / f"{name}.ipynb")
    if sizes is not None:
        path = root / "notebooks" / "params" / f"{name}.workstation.yml"
        path.write_text(yaml.safe_dump({"mode": "workstation"} | sizes))


@pytest.fixture
def checkout(tmp_path):
    """Make a checkout with a chapter of each kind, and the stand-in for `bloodcells`."""
    shutil.copytree(ROOT / "workflow", tmp_path / "workflow", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "notebooks" / "params").mkdir(parents=True)
    (tmp_path / "fails-once").mkdir()
    (tmp_path / "requirements.txt").write_text("")
    (tmp_path / "double.py").write_text(DOUBLE)
    plain = {"arms": ["a/x"], "seed": 0, "n_seeds": 1}
    two = {"n_seeds": 2}
    write_chapter(tmp_path, "01_plain", plain, two | {"arms": ["a/x", "b/y"]})
    schooled = ["resnet18_ce/nucleus", "resnet18_dice/nucleus", "resnet18_none_ce/nucleus", "unet_ce/nucleus"]
    write_chapter(
        tmp_path,
        "02_schooled",
        plain | {"source": "blood", "pretraining_epochs": 1},
        two | {"arms": schooled},
    )
    paired = ["segnet/classes", "dounet/classes", "unet/classes", "segnet/nucleus"]
    write_chapter(tmp_path, "03_paired", plain | {"pairs": ["segnet+dounet"]}, {"arms": paired})
    write_chapter(tmp_path, "04_whole", {"seed": 0}, {})
    write_chapter(tmp_path, "05_reduced_only", plain)
    pages = [{"file": f"notebooks/{path.stem}"} for path in sorted((tmp_path / "notebooks").glob("*.ipynb"))]
    toc = {"root": "book/intro", "parts": [{"chapters": pages}]}
    (tmp_path / "_toc.yml").write_text(yaml.safe_dump(toc))
    return tmp_path


def record(checkout, chapter, *runs):
    for arm, seed in runs:
        folder = (
            checkout
            / "book"
            / "results"
            / chapter
            / "workstation"
            / f"{arm.replace('/', '-')}-s{seed}-12345678"
        )
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"arm": arm, "seed": seed}))
        (folder / "metrics.json").write_text("{}")


def parts_of(parts):
    return {part.name: (part.arms, part.seed, part.n_seeds) for part in parts}


EXPECTED = {
    "01_plain": {
        "a-x-s0": (("a/x",), 0, 1),
        "a-x-s1": (("a/x",), 1, 1),
        "b-y-s0": (("b/y",), 0, 1),
        "b-y-s1": (("b/y",), 1, 1),
    },
    "02_schooled": {
        "resnet18-schooled-s0": (("resnet18_ce/nucleus", "resnet18_dice/nucleus"), 0, 1),
        "resnet18-schooled-s1": (("resnet18_ce/nucleus", "resnet18_dice/nucleus"), 1, 1),
        "resnet18_none_ce-nucleus-s0": (("resnet18_none_ce/nucleus",), 0, 1),
        "resnet18_none_ce-nucleus-s1": (("resnet18_none_ce/nucleus",), 1, 1),
        "unet_ce-nucleus-s0": (("unet_ce/nucleus",), 0, 1),
        "unet_ce-nucleus-s1": (("unet_ce/nucleus",), 1, 1),
    },
    "03_paired": {
        "paired": (("segnet/classes", "dounet/classes"), 0, 1),
        "unet-classes-s0": (("unet/classes",), 0, 1),
        "segnet-nucleus-s0": (("segnet/nucleus",), 0, 1),
    },
    "04_whole": {"whole": ((), 0, 1)},
}


@pytest.mark.parametrize("chapter", EXPECTED)
def test_parts_are_arms_and_seeds_unless_trainings_meet(workflow, checkout, chapter):
    notebook = checkout / "notebooks" / f"{chapter}.ipynb"
    assert parts_of(workflow.grid.all_parts(notebook, "workstation")) == EXPECTED[chapter]
    assert (
        parts_of(workflow.grid.missing_parts(notebook, "workstation", checkout / "book" / "results"))
        == (EXPECTED[chapter])
    )


def test_only_what_the_record_lacks_is_missing(workflow, checkout):
    record(checkout, "01_plain", ("a/x", 1), ("b/y", 0))
    record(
        checkout,
        "02_schooled",
        ("resnet18_dice/nucleus", 0),
        ("resnet18_ce/nucleus", 0),
        ("resnet18_ce/nucleus", 1),
    )
    record(checkout, "03_paired", ("segnet/classes", 0), ("unet/classes", 0))
    record(checkout, "04_whole", ("counters/rbc", 0))

    def missing(chapter):
        notebook = checkout / "notebooks" / f"{chapter}.ipynb"
        return parts_of(workflow.grid.missing_parts(notebook, "workstation", checkout / "book" / "results"))

    assert list(missing("01_plain")) == ["a-x-s0", "b-y-s1"]
    # One arm of the second seed is missing: it is run, the other one isn't.
    schooled = {name: part for name, part in missing("02_schooled").items() if "schooled" in name}
    assert schooled == {"resnet18-schooled-s1": (("resnet18_dice/nucleus",), 1, 1)}
    # An average needs both networks, whichever is missing.
    assert missing("03_paired") == {
        "paired": EXPECTED["03_paired"]["paired"],
        "segnet-nucleus-s0": EXPECTED["03_paired"]["segnet-nucleus-s0"],
    }
    assert missing("04_whole") == {}


def test_every_arm_of_the_book_is_in_one_part_for_each_seed(workflow):
    for mode in ("workstation", "full"):
        for notebook in workflow.grid.choose_chapters(ROOT, mode).values():
            sizes = yaml.safe_load((notebook.parent / "params" / f"{notebook.stem}.{mode}.yml").read_text())
            parts = workflow.grid.all_parts(notebook, mode)
            found = [
                (arm, seed) for p in parts for arm in p.arms for seed in range(p.seed, p.seed + p.n_seeds)
            ]
            n_seeds = sizes.get("n_seeds", 1)
            assert sorted(found) == sorted((arm, s) for arm in sizes.get("arms", []) for s in range(n_seeds))
            assert len({part.name for part in parts}) == len(parts)


@pytest.mark.parametrize("wanted", [1, "1", "01", "01,04", ["01", 4]])
def test_chapters_are_chosen_as_configurations_write_them(workflow, checkout, wanted):
    found = list(workflow.grid.choose_chapters(checkout, "workstation", wanted))
    assert found == (["01_plain", "04_whole"] if "4" in str(wanted) else ["01_plain"])


def test_chapters_without_the_mode_are_left_out_or_refused(workflow, checkout):
    assert list(workflow.grid.choose_chapters(checkout, "workstation")) == list(EXPECTED)
    with pytest.raises(UserError, match="05_reduced_only has no workstation mode"):
        workflow.grid.choose_chapters(checkout, "workstation", "05")
    with pytest.raises(UserError, match="No chapter has a mode 'huge'"):
        workflow.grid.choose_chapters(checkout, "huge")


def test_a_training_goes_stale_by_its_sizes_and_not_by_the_record(workflow, checkout):
    notebook = checkout / "notebooks" / "01_plain.ipynb"
    before = workflow.grid.digest_inputs(notebook, checkout)
    record(checkout, "01_plain", ("a/x", 0))
    assert workflow.grid.digest_inputs(notebook, checkout) == before
    with (checkout / "notebooks" / "params" / "01_plain.workstation.yml").open("a") as file:
        file.write("seed: 5\n")
    assert workflow.grid.digest_inputs(notebook, checkout) != before


def snakemake(checkout, *words, config, profile="local", check=True):
    """Run the graph as a reader does, with the stand-in if not told otherwise, and return what was said."""
    settings = {"bloodcells": f"{sys.executable} double.py"} | config
    command = [sys.executable, "-m", "snakemake", "--snakefile", "workflow/Snakefile", *words]
    if profile:
        command += ["--profile", f"workflow/profiles/{profile}", "--cores", "4", "--resources", "gpu=4"]
    command += ["--config", *(f"{name}={value}" for name, value in settings.items())]
    environment = os.environ | {"XDG_CACHE_HOME": str(checkout / "cache")}
    done = subprocess.run(
        command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def calls(checkout):
    """Return how the stand-in was called since the last time of asking, sorted."""
    path = checkout / "calls.jsonl"
    found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    path.unlink(missing_ok=True)
    return sorted(found)


def read_table(path):
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def run_call(chapter, part, *pairs):
    words = [word for pair in pairs for word in ("-p", *pair)]
    return [
        "run",
        chapter,
        "--mode",
        "workstation",
        "--out",
        f"runs/grid/{chapter}/workstation/{part}",
        *words,
    ]


def test_missing_parts_are_run_once_and_tried_again_when_they_fail(checkout):
    record(checkout, "01_plain", ("a/x", 0), ("a/x", 1))
    (checkout / "fails-once" / "b").touch()
    config = {"mode": "workstation", "chapters": "01,04"}
    snakemake(checkout, "grid", config=config)
    whole = run_call("04_whole", "whole")
    one, two = (
        run_call("01_plain", f"b-y-s{seed}", ("arms", '["b/y"]'), ("seed", str(seed)), ("n_seeds", "1"))
        for seed in (0, 1)
    )
    # Whichever came first has failed and was called again.
    assert calls(checkout) in (sorted([one, one, two, whole]), sorted([one, two, two, whole]))
    rows = read_table(checkout / "runs" / "grid" / "workstation.csv")
    assert sorted((row["chapter"], row["method"], row["seed"], row["dice"]) for row in rows) == [
        ("01_plain", "b", "0", "0.5"),
        ("01_plain", "b", "1", "0.5"),
        ("04_whole", "counters", "0", "0.5"),
    ]

    assert "Nothing to be done" in snakemake(checkout, "grid", config=config)
    assert calls(checkout) == []


def test_fifty_jobs(checkout):
    """Four at a time, of which a few fail once."""
    sizes = {"mode": "workstation", "n_seeds": 25, "arms": ["a/x", "b/y"]}
    (checkout / "notebooks" / "params" / "01_plain.workstation.yml").write_text(yaml.safe_dump(sizes))
    for name in ("a", "b"):
        (checkout / "fails-once" / name).touch()
    words = ["--set-threads", "train_part=1"]
    snakemake(checkout, "grid", *words, config={"mode": "workstation", "chapters": "01"})
    outs = [call[call.index("--out") + 1] for call in calls(checkout)]
    assert len(set(outs)) == 50
    assert len(outs) >= 52
    rows = read_table(checkout / "runs" / "grid" / "workstation.csv")
    expected = {(method, str(seed)) for method in "ab" for seed in range(25)}
    assert {(row["method"], row["seed"]) for row in rows} == expected
    assert len(rows) == 50


# What the plugin for SLURM calls. `sbatch` keeps its words and refuses, so that the next attempt follows.
SLURM = {
    "sbatch": 'printf "%s\\n" "$*" >>"$(dirname "$0")/sbatch.txt"\nexit 1\n',
    "sacctmgr": "echo my_account\n",
    **dict.fromkeys(("sacct", "sinfo", "squeue", "scontrol", "sshare", "scancel"), "exit 0\n"),
}


def test_slurm_is_asked_for_one_gpu_a_training_with_memory_and_time(checkout, monkeypatch):
    pytest.importorskip(
        "snakemake_executor_plugin_slurm", reason="NOT TESTED: SLURM's plugin isn't installed"
    )
    (checkout / "slurm").mkdir()
    for name, script in SLURM.items():
        (checkout / "slurm" / name).write_text(f"#!/bin/sh\n{script}")
        (checkout / "slurm" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{checkout / 'slurm'}{os.pathsep}{os.environ['PATH']}")
    config = {"mode": "workstation", "chapters": "01,04"}
    words = ["--retries", "1", "--slurm-init-seconds-before-status-checks", "1"]
    said = snakemake(checkout, "grid", *words, config=config, profile="slurm", check=False)
    kept = checkout / "slurm" / "sbatch.txt"
    assert kept.exists(), said
    asked = {}
    for line in kept.read_text().splitlines():
        if line.startswith("--parsable"):
            words = line.split(" --wrap=")[0].split()
            values = {word: words[words.index(word) + 1] for word in ("-A", "-p", "-t", "--mem", "--comment")}
            values["gpus"] = [word for word in words if word.startswith("--gpus")]
            asked.setdefault(values.pop("--comment"), []).append(values)
    # Four trainings and a chapter that trains nothing, each tried twice, the second time with more memory.
    assert len(asked) == 5, said
    for job, attempts in asked.items():
        gpus = [] if "04_whole" in job else ["--gpus=1"]
        common = {"-A": "my_account", "-p": "gpu", "-t": "1440", "gpus": gpus}
        assert attempts == [common | {"--mem": memory} for memory in ("16000", "32000")], job


def test_a_cluster_that_takes_any_command_runs_the_whole_grid(checkout):
    # The queue is a shell: each job is a process of its own, which reads the graph anew.
    (checkout / "submit").write_text(
        '#!/bin/sh\necho "$1" >>gpus.log\nnohup sh "$2" >>jobs.log 2>&1 &\necho $!\n'
    )
    (checkout / "submit").chmod(0o755)
    words = ["--executor", "cluster-generic", "--cluster-generic-submit-cmd", "./submit gpus:{resources.gpu}"]
    words += ["--jobs", "3", "--retries", "1", "--seconds-between-status-checks", "1"]
    record(checkout, "03_paired", ("unet/classes", 0))
    (checkout / "fails-once" / "paired").touch()
    snakemake(checkout, "grid", *words, config={"mode": "workstation", "chapters": "03,04"}, profile=None)
    paired = run_call(
        "03_paired",
        "paired",
        ("arms", '["segnet/classes", "dounet/classes"]'),
        ("seed", "0"),
        ("n_seeds", "1"),
    )
    alone = run_call(
        "03_paired",
        "segnet-nucleus-s0",
        ("arms", '["segnet/nucleus"]'),
        ("seed", "0"),
        ("n_seeds", "1"),
    )
    assert calls(checkout) == sorted([paired, paired, alone, run_call("04_whole", "whole")])
    # A GPU for each training, tried twice or not, and none for a chapter without networks.
    assert sorted((checkout / "gpus.log").read_text().split()) == ["gpus:0", *["gpus:1"] * 3]


def make_slides(checkout, *names):
    (checkout / "slides").mkdir(exist_ok=True)
    for name in names:
        (checkout / "slides" / name).write_bytes(b"")


def test_slides_are_counted_in_chunks_and_those_that_fail_are_listed(checkout):
    make_slides(checkout, "a.png", "b one.png", "broken.png", "d.png", "e.png")
    (checkout / "fails-once" / "00000").touch()
    config = {"slides": "slides", "chunk": 2, "count_options": "--cells rbc"}
    snakemake(checkout, "slides", config=config)
    done = calls(checkout)
    groups = [call[1 : call.index("--out")] for call in done]
    first = ["slides/a.png", "slides/b one.png"]
    # The first chunk crashed once; an image that can't be counted is no reason to try again.
    assert groups == [first, first, ["slides/broken.png", "slides/d.png"], ["slides/e.png"]]
    assert all(call[-2:] == ["--cells", "rbc"] for call in done)
    folder = checkout / "runs" / "slides"
    rows = read_table(folder / "counts.csv")
    assert [(row["image"], row["rbc"]) for row in rows] == [
        ("slides/a.png", "12"),
        ("slides/b one.png", "16"),
        ("slides/d.png", "12"),
        ("slides/e.png", "12"),
    ]
    assert [row["folder"].split("/")[1] for row in rows] == ["a", "b one", "d", "e"]
    assert [row["image"] for row in read_table(folder / "uncounted.csv")] == ["slides/broken.png"]

    make_slides(checkout, "f.png")
    snakemake(checkout, "slides", config=config)
    assert [call[1 : call.index("--out")] for call in calls(checkout)] == [["slides/e.png", "slides/f.png"]]


def test_a_chunk_that_was_stopped_goes_on_but_not_with_other_images(checkout):
    """Each image is counted once; and once more where one of them has changed, though the first was there."""
    make_slides(checkout, "a.png", "b.png", "c.png")
    counted = checkout / "counted.txt"
    for content in (b"", b"changed"):
        (checkout / "slides" / "b.png").write_bytes(content)
        (checkout / "fails-once" / "00000").touch()
        snakemake(checkout, "slides", config={"slides": "slides"})
        assert len(calls(checkout)) == 2
        assert counted.read_text().split() == ["slides/a.png", "slides/b.png", "slides/c.png"]
        counted.unlink()
        rows = read_table(checkout / "runs" / "slides" / "counts.csv")
        assert [row["image"] for row in rows] == ["slides/a.png", "slides/b.png", "slides/c.png"]


def test_two_slides_are_counted_by_the_real_command(checkout):
    """Two drawn smears, a job each, by the shipped networks."""
    (checkout / "slides").mkdir()
    for name, n_rbc in (("few", 4), ("many", 20)):
        rng = np.random.default_rng(0)
        drawn = draw_smear((250, 250), rng=rng, n_rbc=n_rbc, n_wbc=0, n_platelets=0, rbc_radius=18)
        Image.fromarray(drawn.image).save(checkout / "slides" / f"{name}.png")
    config = {"slides": "slides", "chunk": 1, "count_options": "--cells rbc --cell-radius 18"}
    snakemake(checkout, "slides", config=config | {"bloodcells": f"{sys.executable} -m bloodcells"})
    folder = checkout / "runs" / "slides"
    rows = read_table(folder / "counts.csv")
    assert [row["image"] for row in rows] == ["slides/few.png", "slides/many.png"]
    few, many = (int(row["rbc"]) for row in rows)
    # How well it counts is no matter here.
    assert few < many
    assert many > 10
    assert read_table(folder / "uncounted.csv") == []
    for row in rows:
        assert {"objects.csv", "cells.geojson"} <= {path.name for path in (folder / row["folder"]).iterdir()}


def run_out_of_memory(*arguments, **options):
    raise MemoryError


@pytest.mark.parametrize("where", [(count_command, "read_image"), (image_io, "_decode")])
def test_a_chunk_for_which_memory_was_too_small_is_counted_again(
    checkout, stand_in_networks, tmp_path, monkeypatch, where
):
    """In the words of `bloodcells count` itself, while it decodes an image and later on."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    complaints = []
    with monkeypatch.context() as patch:
        patch.setattr(*where, run_out_of_memory)
        done = count_command.count_files(
            [tmp_path / "a.png"],
            cells=("rbc",),
            method="auto",
            cell_radius=18,
            pixel_size_um=None,
            output_dir=tmp_path / "out",
            exclude_border=False,
            overwrite=False,
            n_threads=1,
            complain=complaints.append,
            networks={"rbc": stand_in_networks["rbc"]},
        )
    assert not done
    make_slides(checkout, "a.png", "b.png")
    (checkout / "fails-once" / "00000").write_text(f"bloodcells: {complaints[0]}")
    snakemake(checkout, "slides", config={"slides": "slides", "chunk": 1})
    groups = [call[1 : call.index("--out")] for call in calls(checkout)]
    assert groups == [["slides/a.png"], ["slides/a.png"], ["slides/b.png"]]
    assert len(read_table(checkout / "runs" / "slides" / "counts.csv")) == 2


def test_a_count_that_had_no_memory_at_all_is_tried_again(checkout, monkeypatch, capsys):
    """In the words of the command line: nothing is counted, so that the next attempt must."""
    make_slides(checkout, "a.png")
    monkeypatch.setattr(count_command, "count_files", run_out_of_memory)
    with pytest.raises(SystemExit) as caught:
        cli.main(["count", str(checkout / "slides" / "a.png"), "--out", str(checkout / "out")])
    assert caught.value.code == 1
    (checkout / "fails-once" / "00000").write_text(capsys.readouterr().err)
    snakemake(checkout, "slides", config={"slides": "slides"})
    assert len(calls(checkout)) == 2


def test_folders_may_have_a_blank_in_their_names(checkout):
    config = {"mode": "workstation", "chapters": "04", "runs": "runs/my grid"}
    snakemake(checkout, "grid", config=config)
    out = "runs/my grid/04_whole/workstation/whole"
    assert calls(checkout) == [["run", "04_whole", "--mode", "workstation", "--out", out]]
    assert len(read_table(checkout / "runs" / "my grid" / "workstation.csv")) == 1


def test_chunks_change_their_name_with_their_images(workflow, checkout):
    make_slides(checkout, "a.png", "b.png", "c.png")
    chunks = workflow.slides.divide(checkout / "slides", 2)
    assert [[path.name for path in images] for images in chunks.values()] == [["a.png", "b.png"], ["c.png"]]
    make_slides(checkout, "d.png")
    more = workflow.slides.divide(checkout / "slides", 2)
    assert next(iter(more)) == next(iter(chunks))
    assert list(more)[1].startswith("00001-")
    assert list(more)[1] != list(chunks)[1]
    with pytest.raises(UserError, match="at least 1 image, got 0"):
        workflow.slides.divide(checkout / "slides", 0)


def test_unknown_settings_are_refused(checkout):
    assert "Unknown setting chapter; expected some of mode, chapters" in snakemake(
        checkout, "grid", "--dry-run", config={"chapter": "01"}, check=False
    )


def known_options(plugins):
    """Return the names of Snakemake's options, those of installed plugins included."""
    from snakemake.cli import get_argument_parser

    names = {
        option.lstrip("-") for action in get_argument_parser()._actions for option in action.option_strings
    }
    for kind, plugin in plugins:
        if importlib.util.find_spec(f"snakemake_{kind}_plugin_{plugin}") is None:
            pytest.skip(f"NOT TESTED: options of plugins. pip install snakemake-{kind}-plugin-{plugin}")
    return names


@pytest.mark.parametrize(
    ("profile", "plugins"),
    [
        ("local", []),
        ("slurm", [("executor", "slurm")]),
        ("kubernetes", [("executor", "kubernetes"), ("storage", "fs")]),
    ],
)
def test_profiles_name_options_rules_and_settings_that_there_are(profile, plugins):
    options = yaml.safe_load((PROFILES / profile / "config.yaml").read_text())
    rules = (ROOT / "workflow" / "grid.smk").read_text()
    assert options["executor"] == profile
    assert options["retries"] >= 1
    assert {rule for rule in options.get("set-resources", {}) if f"rule {rule}" not in rules} <= {
        "train_part"
    }
    assert "as train_part" in rules
    assert set(options) <= known_options(plugins)

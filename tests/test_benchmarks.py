"""The benchmark: that it measures what it says, and that the released tool's steps are the tool's."""

import ast
import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest

from bloodcells.paths import ROOT


def load(name):
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def count():
    return load("count")


@pytest.fixture(scope="module")
def released_tool():
    return load("released_tool")


def test_time_and_memory_are_those_of_the_process():
    """Measured from a process as small as the benchmark's; this one has TensorFlow in it."""
    large = "import time; a = bytearray(b'1') * 150_000_000; time.sleep(0.3)"
    code = (
        "import json, sys, count; "
        f"print(json.dumps([count.measure([sys.executable, '-c', c]) for c in ({large!r}, 'pass')]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "benchmarks", capture_output=True, text=True, check=True
    )
    large, small = json.loads(done.stdout)
    assert large["seconds"] > 0.3
    assert large["megabytes"] - small["megabytes"] == pytest.approx(150, abs=20)
    assert small["cpu_seconds"] > 0


def test_the_measuring_process_stays_small():
    """What it had in memory would be reported of the processes that it starts, too."""
    tree = ast.parse((ROOT / "benchmarks" / "count.py").read_text(encoding="utf-8"))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([a.name for a in node.names] if isinstance(node, ast.Import) else [node.module])
    }
    assert imported
    assert imported <= sys.stdlib_module_names


def test_a_side_that_fails_ends_the_benchmark_with_its_last_words(count):
    with pytest.raises(SystemExit, match=r"(?s)ended with status 3: it broke"):
        count.measure([sys.executable, "-c", "print('it broke', flush=True); raise SystemExit(3)"])


def test_ratio_is_of_the_medians(count, capsys):
    def side(seconds):
        runs = [
            {"seconds": s, "cpu_seconds": 2 * s, "megabytes": 100.0, "counts": {"rbc": 7}} for s in seconds
        ]
        return count.summarise(runs)

    sides = {count.OURS: side([2.0, 9.0, 4.0]), count.RELEASED: side([30.0, 10.0, 20.0])}
    assert sides[count.OURS]["seconds"] == {"median": 4.0, "low": 2.0, "high": 9.0}
    report = {"image": "a.png", "rows": 3, "columns": 4, "cells": ["rbc"], "sides": sides}
    count.print_table(report | {"machine": count.describe_machine()})
    lines = capsys.readouterr().out.splitlines()
    assert "a.png, 4 x 3 pixels" in lines
    (time,) = [line for line in lines if line.startswith("time, s")]
    assert time.split()[-1] == "5.0"  # 20 / 4
    assert "4.0 (2.0 to 9.0)" in time
    json.dumps(report)


def test_options(count, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["count.py", "--cells", "rbc,cat"])
    with pytest.raises(SystemExit):
        count.parse_options()
    assert "out of rbc, wbc and plt, got cat" in capsys.readouterr().err


@pytest.mark.parametrize(("shape", "grid"), [((1944, 2592), (21, 28)), ((652, 1226), (9, 14))])
def test_tiles_are_as_many_as_the_script_cuts(released_tool, shape, grid):
    """Centres from 150 in steps of 100, up to less than 94 from the far border of the padded image."""
    tiles, got = released_tool.cut_tiles(np.zeros((*shape, 1), np.uint8))
    assert got == grid == tuple(sum(1 for c in range(150, s + 400, 100) if c < s + 400 - 94) for s in shape)
    assert tiles.shape == (grid[0] * grid[1], 188, 188, 1)
    assert tiles.dtype == np.float32


def test_joined_tiles_are_the_image_within_its_padding(released_tool):
    image = np.random.default_rng(0).integers(0, 256, (130, 250, 1), dtype=np.uint8)
    tiles, grid = released_tool.cut_tiles(image)
    joined = released_tool.join_tiles(tiles[:, 44:-44, 44:-44, 0], grid)
    np.testing.assert_array_equal(joined[100:230, 100:350], image[..., 0])
    joined[100:230, 100:350] = 0
    assert not joined.any()


def test_training_steps_are_timed_on_all_sides(monkeypatch, tmp_path, capsys):
    training = load("training")
    small = {"size": 64, "filters": 2, "steps": 2, "batch": 2, "rounds": 1}
    options = [f"--{name}={value}" for name, value in small.items()]
    options += ["--networks=unet", f"--json={tmp_path / 'times.json'}"]
    monkeypatch.setattr(sys, "argv", ["training.py", *options])
    training.main()
    (row,) = json.loads((tmp_path / "times.json").read_text())["networks"]
    assert set(row["sides"]) == {training.PLAIN, training.OURS, training.OURS_XLA}
    assert all(side["step_s"] > 0 for side in row["sides"].values())
    ratio = row["sides"][training.OURS]["step_s"] / row["sides"][training.PLAIN]["step_s"]
    assert capsys.readouterr().out.splitlines()[-1].split()[-1] == f"{ratio:.2f}"


def test_medians_are_taken_of_each_figure():
    times = [(5.0, 0.2), (1.0, 0.9), (3.0, 0.1)]
    assert load("training").summarise(times) == {"start_s": 3.0, "step_s": 0.2}


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--networks", "cat"], "got 'cat'"), (["--rounds", "0"], "--rounds expects at least 1")],
)
def test_options_of_training(monkeypatch, capsys, options, words):
    monkeypatch.setattr(sys, "argv", ["training.py", *options])
    with pytest.raises(SystemExit):
        load("training").parse_options()
    assert words in capsys.readouterr().err

"""What goes wrong around the execution of a chapter: it is killed, the disk is full, another is at work."""

import json
import os
import tempfile
from pathlib import Path

import filelock
import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from bloodcells import chapters, cli, results
from bloodcells.errors import UserError

# `bloodcells run` with chapters of our own, where it and its kernel can write no file above a limit of bytes.
RUN = """
import pathlib, resource
import nbformat, papermill
from bloodcells import chapters, cli

def main(notebooks, words, limit=resource.RLIM_INFINITY):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    chapters.NOTEBOOKS = pathlib.Path(notebooks)
    cli.main(["run", "05", *words])
"""

PARAMETERS = """\
mode = "reduced"  # set by the runner
steps = 3  # of the work
printed = 0  # bytes
output_dir = "runs"  # set by the runner
"""

# Works as the chapters do: in a run's folder, which it holds, and what is there already is not done again.
WORK = """\
import time
from bloodcells import results
from bloodcells.files import write_text

run = results.start_run("05_tiny", mode, "unet/nucleus", 0, config={"steps": steps}, output_dir=output_dir)
for step in range(steps):
    if not (run.folder / f"{step}.txt").exists():
        time.sleep(0.05)
        write_text(run.folder / f"{step}.txt", f"{step} squared is {step**2}\\n" * 1000)
"""
SUM_UP = """\
texts = [(run.folder / f"{step}.txt").read_text() for step in range(steps)]
print(sum(int(text.split()[-1]) for text in texts), "." * printed)
"""


@pytest.fixture
def notebooks(tmp_path, monkeypatch):
    """Return a folder with a chapter that works in steps; IPython's own files are beside it."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    folder = tmp_path / "notebooks"
    folder.mkdir()
    cells = [
        new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
        new_code_cell(WORK),
        new_code_cell(SUM_UP),
    ]
    nbformat.write(new_notebook(cells=cells), folder / "05_tiny.ipynb")
    monkeypatch.setattr(chapters, "NOTEBOOKS", folder)
    return folder


def complaint(said):
    """Return the last line that a process said, which is to be the only one besides the progress bar."""
    assert "Traceback" not in said
    return said.splitlines()[-1]


def printed(notebook):
    """Return what the last cell printed."""
    return nbformat.read(notebook, as_version=4).cells[-1].outputs[0].text


def list_steps(out):
    """Return the files of the steps, without those half written."""
    return list(out.glob("05_tiny/reduced/unet-nucleus-*/[0-9]*.txt"))


def read_steps(out):
    """Return the texts of the steps that are done, by name."""
    return {path.stem: path.read_text() for path in list_steps(out)}


def check_kills(process, notebooks, out, n_kills, n_steps):
    """Kill executions at random moments and finish in the end: what was done is kept, the rest is right."""
    words = ["--out", str(out), "-p", "steps", str(n_steps)]
    rng = np.random.default_rng(0)
    final = out / "05_tiny" / "reduced" / "05_tiny.ipynb"
    final.parent.mkdir(parents=True)
    final.write_text("an earlier success")
    partial = final.with_suffix(".partial.ipynb")
    expected = {str(step): f"{step} squared is {step**2}\n" * 1000 for step in range(n_steps)}
    done = {}
    for number in range(n_kills):
        process.start(str(notebooks), words)
        n_done = len(done) + rng.integers(0, 3)
        # Every other time the kernel goes, too, in the middle of a step; else it ends when it misses its
        # parent.
        with_kernel = number % 2 == 1

        def is_time(n=n_done, with_kernel=with_kernel):
            there = partial.exists() and len(list_steps(out)) >= n
            return there and (not with_kernel or bool(process.list_children()))

        process.kill_when(is_time, rng.uniform(0, 0.1), children=with_kernel)
        left = read_steps(out)
        assert all(text == expected[step] for step, text in left.items())
        assert set(done) <= set(left)
        assert final.read_text() == "an earlier success"
        done = left
    assert len(done) < n_steps
    # The kernel of a killed run may be at work for another second, which must not harm the next.
    status, said = process.run(str(notebooks), words)
    assert status == 0, said
    assert read_steps(out) == expected
    assert printed(final).split() == [str(sum(step**2 for step in range(n_steps)))]
    names = {path.name for path in out.rglob("*") if path.is_file()}
    assert names == {".lock", "05_tiny.ipynb", "config.json", *(f"{step}.txt" for step in expected)}


def test_a_killed_execution_is_done_again_with_the_same_result(launch, notebooks, tmp_path):
    check_kills(launch(RUN), notebooks, tmp_path / "out", n_kills=2, n_steps=100)


@pytest.mark.long
def test_an_execution_killed_25_times(launch, notebooks, tmp_path):
    check_kills(launch(RUN), notebooks, tmp_path / "out", n_kills=25, n_steps=1000)


def test_a_full_disk_is_said_and_keeps_what_was_done(launch, notebooks, tmp_path):
    """A limit of the size of files stands in for the disk: the notebook is too large, or a result is."""
    process, out = launch(RUN), tmp_path / "out"
    folder = out / "05_tiny" / "reduced"
    words = ["--out", str(out)]
    status, said = process.run(str(notebooks), [*words, "-p", "printed", "200000"], 100_000)
    assert status == 2, said
    assert complaint(said) == (
        f"bloodcells: error: Can't write to {folder} (File too large); make room, or give another output "
        "folder (--out)."
    )
    assert len(read_steps(out)) == 3
    assert not (folder / "05_tiny.ipynb").exists()
    status, said = process.run(str(notebooks), [*words, "-p", "steps", "2"], 10_000)
    assert status == 1, said
    assert complaint(said).startswith(
        "bloodcells: error: 05_tiny failed in cell 2: OSError: [Errno 27] File too large"
    )
    # With room enough, both are done.
    assert process.run(str(notebooks), words)[0] == 0
    assert printed(folder / "05_tiny.ipynb").split() == ["5"]


def call(capsys, *words):
    with pytest.raises(SystemExit) as caught:
        cli.main(list(words))
    _, err = capsys.readouterr()
    return caught.value.code, err


@pytest.mark.parametrize("place", [".", "05_tiny/reduced"])
def test_an_output_folder_that_is_read_only(notebooks, capsys, place, ordinary_user):
    # Not in tmp_path, which is closed to the other user that root turns into.
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        out.chmod(0o755)
        (out / place).mkdir(parents=True, exist_ok=True)
        (out / place).chmod(0o555)
        with ordinary_user(), pytest.MonkeyPatch.context() as patch:
            # It is closed, too, and has been read when the output folder's turn comes.
            defaults = {"mode": "reduced", "output_dir": "runs"}
            patch.setattr(chapters, "find", lambda chapter, **options: notebooks / "05_tiny.ipynb")
            patch.setattr(chapters, "parameters", lambda path: defaults)
            status, err = call(capsys, "run", "05", "--out", str(out))
        (out / place).chmod(0o755)
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith(
        f"bloodcells: error: Expected an output folder that can be written to (--out), got {folder}: "
    )


def test_two_executions_into_one_folder(notebooks, tmp_path, capsys):
    folder = tmp_path / "out" / "05_tiny" / "reduced"
    folder.mkdir(parents=True)
    with filelock.FileLock(folder / ".lock"):
        status, err = call(capsys, "run", "05", "--out", str(tmp_path / "out"))
    assert status == 2
    assert err == (
        f"bloodcells: error: Another run is writing to {folder}; wait for it, or give another output folder "
        "(--out).\n"
    )


def test_a_run_folder_that_cannot_be_made_or_written(tmp_path):
    start = ("05_tiny", "reduced", "unet/nucleus", 0)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"Can't write to .*file.* \(Not a directory\)\. Make room"):
        results.start_run(*start, config={}, output_dir=tmp_path / "file")
    # What is in the way of the configuration stands in for a disk without room. The folder is not held after.
    for _ in range(2):
        run = results.start_run(*start, config={}, output_dir=tmp_path)
        run.lock.release()
        (run.folder / "config.json").unlink()
        (run.folder / "config.json").mkdir()
        with pytest.raises(UserError, match=r"Can't write to .* \(Is a directory\)\. Make room"):
            results.start_run(*start, config={}, output_dir=tmp_path)
        (run.folder / "config.json").rmdir()


# The clock is set as soon as a kernel is waited for.
CLOCK_IS_SET = RUN.replace(
    "def main(",
    """
import time, types
import jupyter_client.client

asked = []

def jumpy():
    asked.append(time.time())
    return asked[-1] + (SECONDS if len(asked) > 1 else 0)

jupyter_client.client.time = types.SimpleNamespace(time=jumpy, monotonic=time.monotonic, sleep=time.sleep)

def main(""",
)


@pytest.mark.parametrize("seconds", [600, -600])
def test_a_clock_that_is_set_while_a_kernel_starts_changes_nothing(launch, notebooks, tmp_path, seconds):
    process, out = launch(CLOCK_IS_SET.replace("SECONDS", str(seconds))), tmp_path / "out"
    status, said = process.run(str(notebooks), ["--out", str(out)])
    assert status == 0, said
    assert printed(out / "05_tiny" / "reduced" / "05_tiny.ipynb").split() == ["5"]


def test_a_kernel_that_takes_too_long_is_given_up(monkeypatch):
    calls, now = [], [0.0]

    def execute():
        calls.append(now[0])
        now[0] += 70
        raise RuntimeError("Kernel didn't respond in 120 seconds")

    monkeypatch.setattr(chapters.time, "monotonic", lambda: now[0])
    with pytest.raises(RuntimeError, match="didn't respond"):
        chapters._bear_clock_jumps(execute)
    assert calls == [0, 70]


def test_dates_of_files_do_not_count(launch, notebooks, tmp_path):
    """The clock was wrong for a while: a notebook seems to be old, what came of it of the future."""
    process, out = launch(RUN), tmp_path / "out"
    for n in (2, 3):
        status, said = process.run(str(notebooks), ["--out", str(out), "-p", "steps", str(n)])
        assert status == 0, said
        final = out / "05_tiny" / "reduced" / "05_tiny.ipynb"
        assert printed(final).split() == [str(sum(step**2 for step in range(n)))]
        assert json.loads(final.read_text())["metadata"]["papermill"]["parameters"]["steps"] == n
        for path in out.rglob("*"):
            os.utime(path, (2**32, 2**32))
        os.utime(notebooks / "05_tiny.ipynb", (0, 0))

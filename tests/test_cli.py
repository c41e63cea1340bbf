"""The command line: what it prints, where, and its exit status."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from typer.testing import CliRunner

import bloodcells
from bloodcells import chapters, cli, datasets, paths

PARAMETERS = """\
mode = "reduced"  # set by the runner
epochs = 2  # passes over the data
arms = ["unet"]  # networks
output_dir = "runs"  # set by the runner
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Give the chapters and runs a folder of their own, with a chapter that reports its parameters."""
    (tmp_path / "notebooks").mkdir()
    cells = [
        new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
        new_code_cell("print(mode, epochs, arms)"),
        new_code_cell("from pathlib import Path\nPath(output_dir, 'reached').touch()"),
        new_code_cell("if epochs < 0:\n    raise ValueError('a negative number of epochs')"),
        new_code_cell("import time\nif epochs > 100:\n    time.sleep(epochs)"),
    ]
    nbformat.write(new_notebook(cells=cells), tmp_path / "notebooks" / "05_tiny.ipynb")
    monkeypatch.setattr(chapters, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(chapters, "RUNS", tmp_path / "runs")
    return tmp_path


def call(capsys, *args):
    """Run the command line in this process; return its status, standard output and standard error."""
    with pytest.raises(SystemExit) as caught:
        cli.main(list(args))
    return caught.value.code, *capsys.readouterr()


def test_too_little_memory_is_told_in_one_line(capsys, monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr(cli.chapters, "run", fail)
    status, out, err = call(capsys, "run", "05")
    assert (status, out) == (1, "")
    assert "error: there is too little free memory" in err
    assert err.count("\n") == 1


def spawn(*args, code="from bloodcells.cli import main; main()", **keywords):
    """Start the command line in a process of its own."""
    command = [sys.executable, "-c", code, *args]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **keywords)


class TestHelp:
    @pytest.mark.parametrize(
        ("args", "words"),
        [
            ((), ["data", "run", "results", "--version"]),
            (("run",), ["CHAPTER", "--mode", "-p", "NAME VALUE", "--out", "workstation"]),
            (("data",), ["list", "fetch", "verify"]),
            (("data", "list"), ["datasets"]),
            (("data", "fetch"), ["NAME", "cache", "mirror"]),
            (("data", "verify"), ["NAME", "exit status is 1"]),
            (("results",), ["list", "promote", "table"]),
            (("results", "list"), ["record"]),
            (("results", "promote"), ["RUN_DIR"]),
            (("results", "table"), ["Markdown"]),
        ],
    )
    def test_help(self, args, words):
        result = CliRunner().invoke(cli.app, [*args, "--help"])
        assert result.exit_code == 0
        assert [word for word in words if word not in result.output] == []

    def test_version(self):
        result = CliRunner().invoke(cli.app, ["--version"])
        assert (result.exit_code, result.output) == (0, f"bloodcells {bloodcells.__version__}\n")

    def test_help_is_quick(self):
        # Each of these takes from a quarter of a second to ten seconds to import.
        heavy = ["keras", "tensorflow", "papermill", "pandas", "numpy", "matplotlib", "nbformat", "rich"]
        code = (
            "import sys\nfrom bloodcells.cli import main\n"
            "try:\n    main()\n"
            f"finally:\n    print([name for name in {heavy} if name in sys.modules], file=sys.stderr)"
        )
        process = spawn("run", "--help", code=code)
        out, err = process.communicate()
        assert process.returncode == 0
        assert "Usage: bloodcells run" in out
        assert err == "[]\n"


class TestMistakes:
    """One line on standard error, nothing on standard output, status 2."""

    @pytest.mark.parametrize(
        ("args", "message"),
        [
            ([], "Missing command. Try `bloodcells --help`."),
            (["dat"], "No such command 'dat'. Did you mean 'data'?. Try `bloodcells --help`."),
            (["data"], "Missing command. Try `bloodcells data --help`."),
            (["data", "fetch"], "Missing argument 'NAME'. Try `bloodcells data fetch --help`."),
            (["data", "fetch", "jiangxi", "nope"], "got 'nope'"),
            (["data", "verify", "nope"], "got 'nope'"),
            (["results", "promote"], "Missing argument 'RUN_DIR'"),
            (["results", "promote", "/no/such/run"], "/no/such/run holds no run"),
            (["run"], "Missing argument 'CHAPTER'"),
            (["run", "05", "06"], "unexpected extra argument"),
            (["run", "05", "--modes", "full"], "No such option: --modes (Possible options: --mode)"),
            (["run", "99"], "No chapter starts with '99'; choose from 05_tiny."),
            (["run", "05", "--mode", "fast"], "reduced, workstation, full, got 'fast'"),
            (["run", "05", "--mode", "full"], "no full mode"),
            (
                ["run", "05", "-p", "epoch", "1"],
                "Chapter 05_tiny has no parameter 'epoch'. Did you mean 'epochs'?"
                " Its parameters are mode, epochs, arms, output_dir.",
            ),
            (["run", "05", "-p", "epochs", "[1"], "value in YAML"),
            (["run", "05", "-p", "epochs", "many"], "expected a whole number"),
            (
                ["run", "05", "-p", "arms", "unet"],
                "expected a list such as [1, 2], as in its default ['unet'], got",
            ),
            (
                ["run", "05", "-p", "epochs"],
                "Expected -p NAME VALUE, such as `-p seed 1`, got 'epochs' alone.",
            ),
            (["run", "05", "-p"], "Expected -p NAME VALUE"),
            (["run", "05", "-p", "epochs", "1", "-p", "epochs", "2"], "given twice"),
            (["run", "05", "-p", "mode", "full"], "--mode"),
            (["run", "05", "-p", "output_dir", "x"], "--out"),
            (["run", "05", "--out", __file__], "Expected an output folder"),
        ],
    )
    def test_one_line(self, root, capsys, args, message):
        status, out, err = call(capsys, *args)
        assert (status, out) == (2, "")
        assert err.startswith("bloodcells: error: ")
        assert err.count("\n") == 1
        assert message in err
        assert not (root / "runs").exists()

    def test_as_a_module(self):
        process = subprocess.run(
            [sys.executable, "-m", "bloodcells", "run", "no-such-chapter"], capture_output=True, text=True
        )
        assert (process.returncode, process.stdout) == (2, "")
        assert process.stderr.startswith("bloodcells: error: ")
        assert process.stderr.count("\n") == 1

    def test_mistyped_parameter_of_a_real_chapter(self):
        # As a reader meets it: the real chapters, no kernel, at once.
        chapter = min((Path(__file__).parents[1] / "notebooks").glob("*.ipynb")).stem
        process = spawn("run", chapter, "-p", "epoch", "1")
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out) == (2, "")
        assert "Did you mean 'epochs'?" in err
        assert err.count("\n") == 1


class TestRun:
    def test_reduced(self, root, capfd):
        status, out, err = call(capfd, "run", "05", "-p", "epochs", "-0", "--parameter", "arms=[a, b]")
        path = root / "runs" / "05_tiny" / "reduced" / "05_tiny.ipynb"
        assert (status, out) == (0, f"{path}\n")
        assert "05_tiny: 100%" in err
        executed = nbformat.read(path, as_version=4)
        assert executed.cells[2].outputs[0].text == "reduced 0 ['a', 'b']\n"

    def test_failure_is_status_1(self, root, capfd):
        status, out, err = call(capfd, "run", "05", "-p", "epochs", "-1", "--out", str(root / "here"))
        assert (status, out) == (1, "")
        last = err.splitlines()[-1]
        assert last.startswith(
            "bloodcells: error: 05_tiny failed in cell 4: ValueError: a negative number of epochs."
        )
        assert last.endswith(str(root / "here" / "05_tiny" / "reduced" / "05_tiny.failed.ipynb"))

    def test_interrupt_is_status_130(self, root):
        code = (
            # A shell starts background jobs with interrupts ignored, and children inherit that.
            "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "from pathlib import Path\nfrom bloodcells import chapters, cli\n"
            f"chapters.NOTEBOOKS = Path({str(root / 'notebooks')!r})\ncli.main()"
        )
        process = spawn(
            *("run", "05", "-p", "epochs", "600", "--out", root / "runs"), code=code, start_new_session=True
        )
        reached = root / "runs" / "reached"
        deadline = time.monotonic() + 60
        while not reached.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        # Time to get from the cell that tells to the cell that sleeps.
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)
        try:
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
        assert (process.returncode, out) == (130, "")
        assert err.splitlines()[-1] == "bloodcells: error: interrupted"
        assert "Traceback" not in err
        folder = root / "runs" / "05_tiny" / "reduced"
        assert {file.name for file in folder.iterdir()} == {".lock", "05_tiny.failed.ipynb", "kernel.log"}


class TestData:
    @pytest.fixture
    def places(self, tmp_path, monkeypatch):
        """Return an empty cache and a mirror that holds one dataset as empty files."""
        cache, mirror = tmp_path / "cache", tmp_path / "mirror"
        for file in self.files():
            path = mirror / "bcisc" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        monkeypatch.setenv("BLOODCELLS_CACHE", str(cache))
        monkeypatch.setenv("BLOODCELLS_MIRROR", str(mirror))
        return cache, mirror

    @staticmethod
    def files():
        lines = (paths.data_dir() / "registry" / "bcisc.csv").read_text().splitlines()
        return [line.split(",")[lines[0].split(",").index("path")] for line in lines[1:]]

    @staticmethod
    def rows(out):
        return {line.split()[0]: line.strip() for line in out.splitlines() if line.strip()}

    def test_list(self, capsys, places):
        cache, mirror = places
        status, out, err = call(capsys, "data", "list")
        assert (status, err) == (0, "")
        rows = self.rows(out)
        assert set(datasets.DATASETS) < set(rows)
        assert rows["bcisc"].endswith("mirror")
        assert rows["jiangxi"].endswith("not here")
        facts = datasets.describe("jiangxi")
        for shown in (facts["title"], str(facts["n_files"]), facts["licence"]):
            assert shown in rows["jiangxi"]

        files = self.files()
        (cache / "bcisc" / files[0]).parent.mkdir(parents=True)
        (cache / "bcisc" / files[0]).touch()
        assert self.rows(call(capsys, "data", "list")[1])["bcisc"].endswith(
            f"mirror (cache has 1 of {len(files)})"
        )

        shutil.copytree(mirror / "bcisc", cache / "bcisc", dirs_exist_ok=True)
        assert self.rows(call(capsys, "data", "list")[1])["bcisc"].endswith("cache")

    def test_list_does_not_ask_a_url(self, capsys, places, monkeypatch):
        monkeypatch.setenv("BLOODCELLS_MIRROR", "http://127.0.0.1:9")
        rows = self.rows(call(capsys, "data", "list")[1])
        assert rows["bcisc"].endswith("mirror (a URL, not asked)")

    def test_list_into_a_closed_pipe(self, places):
        process = spawn("data", "list")
        process.stdout.close()
        assert process.stderr.read() == ""
        process.stderr.close()
        assert process.wait(timeout=60) == 1

    def test_verify_names_each_problem(self, capsys, places):
        status, out, err = call(capsys, "data", "verify", "bcisc")
        assert (status, err) == (1, "")
        assert out.splitlines() == [f"bcisc/{file}: missing" for file in self.files()]

    def test_fetch_refuses_a_damaged_mirror(self, capsys, places):
        status, out, err = call(capsys, "data", "fetch", "bcisc")
        assert status == 2
        assert str(places[0]) not in out
        assert "damaged" in err.splitlines()[-1]

    def test_unknown_name_is_found_before_any_work(self, capsys, places):
        status, out, err = call(capsys, "data", "fetch", "bcisc", "nope")
        assert (status, out) == (2, "")
        assert "'nope'" in err
        assert not places[0].exists()

    @pytest.mark.skipif(datasets.default_mirror() is None, reason="needs a mirror of the datasets")
    def test_fetch_then_verify(self, capsys, tmp_path, monkeypatch):
        monkeypatch.setenv("BLOODCELLS_CACHE", str(tmp_path / "cache"))
        status, out, _ = call(capsys, "data", "fetch", "bcisc")
        assert status == 0
        assert out.splitlines()[-1] == str(tmp_path / "cache" / "bcisc")
        status, out, err = call(capsys, "data", "verify", "bcisc")
        n_files = datasets.describe("bcisc")["n_files"]
        assert (status, out, err) == (0, f"bcisc: all {n_files} files are sound\n", "")


class TestResults:
    def test_list(self, capsys):
        status, out, err = call(capsys, "results", "list")
        assert (status, err) == (0, "")
        record = sorted((paths.ROOT / "book" / "results").rglob("metrics.json"))
        if not record:
            assert "no run in the record yet" in out
        # book/results/<chapter>/<mode>/<run>/metrics.json
        assert [file.parts[-4] for file in record if file.parts[-4] not in out] == []

    def test_table_is_markdown(self, capsys):
        status, out, err = call(capsys, "results", "table")
        assert (status, err) == (0, "")
        assert out.splitlines()[1].startswith("| ---")

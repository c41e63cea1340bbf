"""Chapters: which notebook, which parameters, and what a run leaves behind."""

import json
import logging
import sys
import threading
import time
from pathlib import Path

import filelock
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from bloodcells import chapters, paths
from bloodcells.errors import UserError

PARAMETERS = """\
mode = "reduced"  # set by the runner
dataset = "auto"  # a comment with = and #
arms = ["unet", "segnet"]  # list of text
epochs = 2  # whole number
image_size = (32, 32)  # rows, columns
learning_rate = 1e-3  # number
augment = True  # yes or no
limit = None  # no limit
colours = {"rbc": 1}  # mapping
tricky: str = "a = b # c"  # papermill's own reader gets this wrong
output_dir = "runs"  # set by the runner
"""


@pytest.fixture
def notebooks(tmp_path):
    """Return a folder whose name papermill would format: with a space, braces and quotes."""
    folder = tmp_path / "note books {mode} {} \"'ü"
    folder.mkdir()
    return folder


def write_chapter(folder, name, *sources, parameters=PARAMETERS):
    cells = [new_markdown_cell("# A chapter"), new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    cells += [new_code_cell(source) for source in sources]
    path = folder / f"{name}.ipynb"
    nbformat.write(new_notebook(cells=cells), path)
    return path


def write_parameters(path, mode, text):
    file = chapters.parameters_file(path, mode)
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


class TestFind:
    @pytest.mark.parametrize("chapter", ["05", "05_nas", "05_nasser"])
    def test_prefix(self, notebooks, chapter):
        path = write_chapter(notebooks, "05_nasser")
        write_chapter(notebooks, "06_other")
        assert chapters.find(chapter, notebooks=notebooks) == path

    def test_whole_name_wins_over_a_longer_one(self, notebooks):
        path = write_chapter(notebooks, "05_unet")
        write_chapter(notebooks, "05_unet_again")
        assert chapters.find("05_unet", notebooks=notebooks) == path

    def test_ambiguous(self, notebooks):
        write_chapter(notebooks, "05_a")
        write_chapter(notebooks, "05_b")
        write_chapter(notebooks, "06_c")
        with pytest.raises(UserError, match=r"More than one.*'05'; choose from 05_a, 05_b\."):
            chapters.find("05", notebooks=notebooks)

    @pytest.mark.parametrize("chapter", ["99", "", "nasser"])
    def test_unknown(self, notebooks, chapter):
        write_chapter(notebooks, "05_nasser")
        with pytest.raises(UserError, match=r"No chapter starts.*choose from 05_nasser"):
            chapters.find(chapter, notebooks=notebooks)

    def test_no_chapters(self, notebooks):
        with pytest.raises(UserError, match="no chapters"):
            chapters.find("05", notebooks=notebooks)


class TestParameters:
    def test_values_and_order(self, notebooks):
        found = chapters.parameters(write_chapter(notebooks, "05_a"))
        assert found == {
            "mode": "reduced",
            "dataset": "auto",
            "arms": ["unet", "segnet"],
            "epochs": 2,
            "image_size": (32, 32),
            "learning_rate": 0.001,
            "augment": True,
            "limit": None,
            "colours": {"rbc": 1},
            "tricky": "a = b # c",
            "output_dir": "runs",
        }
        assert list(found)[:2] == ["mode", "dataset"]

    @pytest.mark.parametrize(
        "source", ["n = int(3)", "a = b = 1", "a, b = 1, 2", "import os", "n =", "print(1)"]
    )
    def test_only_literals(self, notebooks, source):
        path = write_chapter(notebooks, "05_a", parameters=source)
        with pytest.raises(UserError, match="only lines `name = literal`"):
            chapters.parameters(path)

    def test_no_parameters_cell(self, notebooks):
        path = notebooks / "05_a.ipynb"
        nbformat.write(new_notebook(cells=[new_code_cell("n = 1")]), path)
        with pytest.raises(UserError, match=r"one code cell tagged 'parameters'.*found 0"):
            chapters.parameters(path)

    @pytest.mark.parametrize("text", ["", "{}", "[]", '{"cells": [1]}', "no json"])
    def test_not_a_notebook(self, notebooks, text):
        path = notebooks / "05_a.ipynb"
        path.write_text(text)
        with pytest.raises(UserError, match="Expected a notebook"):
            chapters.parameters(path)


class TestParseValue:
    @pytest.mark.parametrize(
        ("text", "default", "value"),
        [
            ("3", 1, 3),
            ("-1", 1, -1),
            ("0.5", 1.0, 0.5),
            ("true", False, True),
            ("null", None, None),
            ("[a, b]", [], ["a", "b"]),
            ("{a: 1}", {}, {"a": 1}),
            ("auto", "x", "auto"),
            # Text stays text, also where YAML sees something else.
            ("no", "auto", "no"),
            ("007", "auto", "007"),
            ("'quoted'", "auto", "quoted"),
        ],
    )
    def test_literals(self, text, default, value):
        parsed = chapters.parse_value(text, default)
        assert parsed == value
        assert type(parsed) is type(value)

    @pytest.mark.parametrize("text", ["[1, 2", "{a", "2020-99-99", "!!python/object:os.system x"])
    def test_not_yaml(self, text):
        with pytest.raises(UserError, match="value in YAML"):
            chapters.parse_value(text, 1)


class TestChooseParameters:
    @pytest.fixture
    def path(self, notebooks):
        return write_chapter(notebooks, "05_a")

    def test_reduced_changes_nothing(self, path):
        assert chapters.choose_parameters(path) == {"mode": "reduced"}

    def test_explicit_wins_over_file(self, path):
        write_parameters(path, "full", "mode: full\nepochs: 100\nlearning_rate: 1e-4\n")
        chosen = chapters.choose_parameters(path, mode="full", parameters={"epochs": 7})
        assert chosen == {"mode": "full", "epochs": 7, "learning_rate": 1e-4}

    @pytest.mark.parametrize(
        ("name", "value", "checked"),
        [
            ("epochs", 3, 3),
            ("learning_rate", 1, 1.0),
            ("learning_rate", "1e-3", 0.001),  # YAML 1.1 reads this number as text
            ("augment", False, False),
            ("arms", ("unet",), ["unet"]),
            ("arms", [], []),
            ("image_size", [64, 64], [64, 64]),
            ("limit", 5, 5),
            ("limit", None, None),
            ("limit", [1, (2, 3)], [1, [2, 3]]),
            ("colours", {"wbc": 2}, {"wbc": 2}),
        ],
    )
    def test_accepted(self, path, name, value, checked):
        chosen = chapters.choose_parameters(path, parameters={name: value})[name]
        assert chosen == checked
        assert type(chosen) is type(checked)

    @pytest.mark.parametrize(
        ("name", "value", "expected"),
        [
            ("epochs", 3.0, "a whole number"),
            ("epochs", "3", "a whole number"),
            ("epochs", True, "a whole number"),
            ("epochs", None, "a whole number"),
            ("epochs", [3], "a whole number"),
            ("learning_rate", True, "a number"),
            ("learning_rate", "fast", "a number"),
            ("learning_rate", None, "a number"),
            ("augment", 1, "true or false"),
            ("dataset", 5, "text"),
            ("dataset", Path("x"), "text"),
            ("arms", "unet", "a list"),
            ("arms", ["unet", 3], "text"),
            ("image_size", [64, 64.5], "a whole number"),
            ("colours", [1], "a mapping"),
            ("colours", {1: 2}, "a plain value"),
            ("limit", Path("x"), "a plain value"),
            ("limit", {"a": {1}}, "a plain value"),
        ],
    )
    def test_wrong_type(self, path, name, value, expected):
        with pytest.raises(UserError, match=f"{name!r} of chapter 05_a: expected {expected}.*got"):
            chapters.choose_parameters(path, parameters={name: value})

    def test_unknown_name(self, path):
        with pytest.raises(
            UserError, match=r"no parameter 'epoch'\. Did you mean 'epochs'\? Its parameters are mode, data"
        ):
            chapters.choose_parameters(path, parameters={"epoch": 1})

    def test_unknown_name_unlike_any(self, path):
        with pytest.raises(UserError, match=r"no parameter 'zzz'\. Its parameters are"):
            chapters.choose_parameters(path, parameters={"zzz": 1})

    @pytest.mark.parametrize(("name", "instead"), [("mode", "--mode"), ("output_dir", "--out")])
    def test_set_by_the_runner(self, path, name, instead):
        with pytest.raises(UserError, match=instead):
            chapters.choose_parameters(path, parameters={name: "full"})

    def test_unknown_mode(self, path):
        with pytest.raises(UserError, match="reduced, workstation, full, got 'fast'"):
            chapters.choose_parameters(path, mode="fast")

    def test_mode_without_file(self, path):
        with pytest.raises(UserError, match=r"no full mode.*05_a\.full\.yml"):
            chapters.choose_parameters(path, mode="full")

    @pytest.mark.parametrize("text", ["", "[1]", "epochs: 3", "mode: workstation", "mode: [full]"])
    def test_file_for_another_mode(self, path, text):
        write_parameters(path, "full", text)
        with pytest.raises(UserError, match="the line 'mode: full'"):
            chapters.choose_parameters(path, mode="full")

    def test_file_not_yaml(self, path):
        write_parameters(path, "full", "mode: [full")
        with pytest.raises(UserError, match=r"Expected a YAML mapping in .*, could not read it: [^\n]*$"):
            chapters.choose_parameters(path, mode="full")

    def test_file_with_unknown_name(self, path):
        write_parameters(path, "full", "mode: full\nepoch: 3\n")
        with pytest.raises(UserError, match="Did you mean 'epochs'"):
            chapters.choose_parameters(path, mode="full")

    @pytest.mark.parametrize("missing", ["mode", "output_dir"])
    def test_chapter_without_the_runners_parameters(self, notebooks, missing):
        lines = [line for line in PARAMETERS.splitlines() if not line.startswith(missing)]
        path = write_chapter(notebooks, "05_a", parameters="\n".join(lines))
        with pytest.raises(UserError, match=f"{missing!r}.*not there"):
            chapters.choose_parameters(path)


class TestRunRefuses:
    """Before a kernel starts, and without a trace in the output folder."""

    # The kernel would write this file.
    CELL = "from pathlib import Path; Path(output_dir, 'started').touch()"

    @pytest.mark.parametrize(
        ("keywords", "match"),
        [
            ({"parameters": {"epoch": 1}}, "Did you mean 'epochs'"),
            ({"parameters": {"epochs": "many"}}, "whole number"),
            ({"mode": "fast"}, "got 'fast'"),
            ({"mode": "full"}, "no full mode"),
        ],
    )
    def test_bad_choice(self, notebooks, tmp_path, keywords, match):
        write_chapter(notebooks, "05_a", self.CELL)
        with pytest.raises(UserError, match=match):
            chapters.run("05", notebooks=notebooks, output_dir=tmp_path / "out", progress=False, **keywords)
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("out", ["file", "file/below"])
    def test_output_dir_is_a_file(self, notebooks, tmp_path, out):
        write_chapter(notebooks, "05_a", self.CELL)
        (tmp_path / "file").write_text("mine")
        with pytest.raises(UserError, match=r"output folder that can be written to.*Not a directory"):
            chapters.run("05", notebooks=notebooks, output_dir=tmp_path / out, progress=False)
        assert (tmp_path / "file").read_text() == "mine"

    @pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder in which no one can write")
    def test_output_dir_not_writable(self, notebooks):
        write_chapter(notebooks, "05_a", self.CELL)
        with pytest.raises(UserError, match="output folder that can be written to"):
            chapters.run("05", notebooks=notebooks, output_dir="/proc/self/runs", progress=False)


class TestRun:
    def test_success(self, notebooks, tmp_path, monkeypatch, capfd):
        source = write_chapter(
            notebooks,
            "05_a",
            "import json, os, sys, logging, warnings",
            "print(json.dumps([sys.executable, os.getcwd(), mode, output_dir, epochs, tricky, image_size]))",
        )
        before = source.read_bytes()
        write_parameters(source, "full", "mode: full\nepochs: 9\n")
        # A kernel spec of the user's own, for another interpreter, must not be taken.
        other = tmp_path / "jupyter" / "kernels" / "python3"
        other.mkdir(parents=True)
        spec = {"argv": ["/bin/false", "{connection_file}"], "display_name": "x", "language": "python"}
        (other / "kernel.json").write_text(json.dumps(spec))
        monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
        # A relative folder is the caller's, not the kernel's.
        monkeypatch.chdir(tmp_path)
        out = tmp_path / "out {mode} {"
        folder = out / "05_a" / "full"
        folder.mkdir(parents=True)
        (folder / "05_a.failed.ipynb").write_text("an earlier failure")
        odd = 'a "b" \\ {c} ü\n'

        path = chapters.run(
            "05",
            mode="full",
            parameters={"tricky": odd},
            output_dir=out.name,
            notebooks=notebooks,
            progress=True,
        )

        assert path == folder / "05_a.ipynb"
        assert {file.name for file in folder.iterdir()} == {"05_a.ipynb", ".lock"}
        executed = nbformat.read(path, as_version=4)
        printed = json.loads(executed.cells[-1].outputs[0].text)
        assert printed == [sys.executable, str(paths.ROOT), "full", str(out), 9, odd, [32, 32]]
        assert executed.metadata.papermill.output_path == str(path)
        assert source.read_bytes() == before
        assert Path.cwd() == tmp_path
        assert logging.getLogger("papermill").level == logging.NOTSET
        captured = capfd.readouterr()
        assert captured.out == ""
        # Nothing but the progress bar.
        assert all("05_a:" in line for line in captured.err.replace("\r", "\n").splitlines() if line)
        assert "05_a: 100%" in captured.err

    def test_failure_keeps_the_last_success(self, notebooks, tmp_path, capfd):
        write_chapter(notebooks, "05_a", "n = 1", 'raise ValueError("first\\nsecond")', "n = 2")
        folder = tmp_path / "05_a" / "reduced"
        folder.mkdir(parents=True)
        (folder / "05_a.ipynb").write_text("an earlier success")
        with pytest.raises(chapters.ChapterFailedError) as caught:
            chapters.run("05", notebooks=notebooks, output_dir=tmp_path, progress=False)
        # Cell 1 is the title, 2 the parameters, 3 is `n = 1`.
        failed = folder / "05_a.failed.ipynb"
        assert str(caught.value) == (
            f"05_a failed in cell 4: ValueError: first second. The notebook as far as it got: {failed}"
        )
        assert (caught.value.cell, caught.value.notebook) == (4, failed)
        assert (folder / "05_a.ipynb").read_text() == "an earlier success"
        assert not (folder / "05_a.partial.ipynb").exists()
        assert nbformat.read(failed, as_version=4).cells[-1].execution_count is None
        # The error, with its traceback, is still held here, but the folder is free again.
        filelock.FileLock(folder / ".lock", timeout=0).acquire().lock.release()
        captured = capfd.readouterr()
        assert (captured.out, captured.err) == ("", "")

    def test_kernel_dies_while_another_run_waits(self, notebooks, tmp_path):
        started = tmp_path / "started"
        source = "from pathlib import Path\nimport os, signal, time\n"
        source += f"Path({str(started)!r}).touch()\n"
        source += f"while Path({str(started)!r}).exists():\n    time.sleep(0.05)\n"
        source += "os.kill(os.getpid(), signal.SIGKILL)"
        write_chapter(notebooks, "05_a", source)
        arguments = {"chapter": "05", "notebooks": notebooks, "output_dir": tmp_path, "progress": False}
        caught = []

        def second():
            for _ in range(600):
                if started.exists():
                    break
                time.sleep(0.05)
            try:
                chapters.run(**arguments)
            except UserError as error:
                caught.append(error)
            started.unlink()

        # Kernels are run from the main thread, as in the command line.
        thread = threading.Thread(target=second)
        thread.start()
        with pytest.raises(
            chapters.ChapterFailedError, match=r"failed in cell 3: its kernel died .*memory"
        ) as failure:
            chapters.run(**arguments)
        thread.join()
        assert failure.value.notebook == tmp_path / "05_a" / "reduced" / "05_a.failed.ipynb"
        assert failure.value.notebook.exists()
        assert len(caught) == 1
        assert "Another run is writing" in str(caught[0])

    def test_exit_is_no_success(self, notebooks, tmp_path):
        write_chapter(notebooks, "05_a", "import sys; sys.exit(0)", "n = 1")
        with pytest.raises(chapters.ChapterFailedError, match="cell 3: SystemExit"):
            chapters.run("05", notebooks=notebooks, output_dir=tmp_path, progress=False)
        assert not (tmp_path / "05_a" / "reduced" / "05_a.ipynb").exists()

"""The build graph: what a chapter depends on, what is staged, and what is executed again."""

import base64
import fcntl
import importlib.metadata
import io
import json
import os
import shutil
import subprocess
import sys
from collections import Counter

import nbformat
import numpy as np
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image, ImageDraw

from bloodcells.datasets import CELL_TYPES
from bloodcells.paths import ROOT

CHAPTER = "01_first"


@pytest.fixture(scope="module")
def workflow():
    """Import the scripts of the workflow, which are no package."""
    sys.path.insert(0, str(ROOT / "workflow"))
    try:
        names = ("build", "dependencies", "speed", "stage", "strip_outputs")
        yield type("workflow", (), {name: importlib.import_module(name) for name in names})
    finally:
        sys.path.remove(str(ROOT / "workflow"))


def write_notebook(path, *sources, tags=()):
    """Write a notebook of code cells; `tags` gives the tags of each cell from the first on."""
    cells = [new_code_cell(source) for source in sources]
    for cell, tag in zip(cells, tags, strict=False):
        cell.metadata["tags"] = [tag]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)


@pytest.fixture
def tree(tmp_path):
    """Make a checkout with a small package: plots needs colours, and nothing needs counting."""
    package = tmp_path / "src" / "bloodcells"
    (package / "models").mkdir(parents=True)
    for name, code in {
        "__init__": "",
        "chapters": "from bloodcells.errors import UserError\n",
        "errors": "class UserError(ValueError): ...\n",
        "plots": "def draw():\n    from .colours import RED\n    return RED\n",
        "colours": "RED = 1\n",
        "counting": "",
        "datasets": "",
        "claims": "",
        "results": "from bloodcells import claims, related_work",
        "related_work": "",
        "models/__init__": "from . import unet\n",
        "models/unet": "from ..errors import UserError\n",
        "models/segnet": "",
    }.items():
        (package / f"{name}.py").write_text(code)
    for name in ("jiangxi", "bcisc"):
        for folder in ("registry", "splits"):
            (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / "data" / folder / f"{name}.csv").write_text("")
    (tmp_path / "notebooks").mkdir()
    return tmp_path


def modules_of(workflow, tree, code):
    return set(workflow.dependencies.package_modules(code, tree / "src"))


def test_modules_are_followed_through_lazy_and_relative_imports(workflow, tree):
    assert modules_of(workflow, tree, "import numpy\nfrom bloodcells import plots") == {
        "bloodcells",
        "bloodcells.plots",
        "bloodcells.colours",
    }


def test_a_name_inside_a_module_counts_as_that_module(workflow, tree):
    found = modules_of(workflow, tree, "from bloodcells.models.segnet import build_segnet")
    # Python executes the __init__ of the models, which needs U-Net, which needs the errors.
    assert found == {
        "bloodcells",
        "bloodcells.models",
        "bloodcells.models.segnet",
        "bloodcells.models.unet",
        "bloodcells.errors",
    }


def test_foreign_package_with_a_similar_name_is_no_dependency(workflow, tree):
    assert modules_of(workflow, tree, "import bloodcells_extra") == set()


def test_chapter_inputs_hold_what_it_uses_and_no_more(workflow, tree):
    notebook = tree / "notebooks" / f"{CHAPTER}.ipynb"
    write_notebook(
        notebook, "%matplotlib inline\nfrom bloodcells import datasets", "datasets.fetch('jiangxi')"
    )
    assert workflow.dependencies.chapter_inputs(notebook, tree) == [
        "_build/data/jiangxi.txt",
        "data/registry.yml",
        "data/registry/jiangxi.csv",
        "data/splits/jiangxi.csv",
        "requirements.txt",
        "src/bloodcells/__init__.py",
        "src/bloodcells/chapters.py",
        "src/bloodcells/datasets.py",
        "src/bloodcells/errors.py",
    ]


def test_chapter_depends_on_its_own_record_only(workflow, tree):
    for chapter in (CHAPTER, "02_second"):
        write_notebook(tree / "notebooks" / f"{chapter}.ipynb", "from bloodcells import results")
        (tree / "book" / "results" / chapter).mkdir(parents=True)
        (tree / "book" / "results" / chapter / "metrics.json").write_text("{}")
    inputs = workflow.dependencies.chapter_inputs(tree / "notebooks" / f"{CHAPTER}.ipynb", tree)
    assert {"book/claims.yml", "book/related_work.csv"} <= set(inputs)
    assert [path for path in inputs if path.startswith("book/results")] == [
        f"book/results/{CHAPTER}/metrics.json"
    ]


def test_chapter_that_names_no_dataset_may_use_any(workflow, tree):
    notebook = tree / "notebooks" / f"{CHAPTER}.ipynb"
    write_notebook(notebook, "from bloodcells.datasets import DATASETS")
    assert workflow.dependencies.chapter_datasets(notebook, tree) == ["bcisc", "jiangxi"]
    write_notebook(notebook, "from bloodcells.datasets import DATASETS", "load('synthetic')")
    assert workflow.dependencies.chapter_datasets(notebook, tree) == []
    write_notebook(notebook, "from bloodcells.datasets import DATASETS", "load('synthetic', 'bcisc')")
    assert workflow.dependencies.chapter_datasets(notebook, tree) == ["bcisc"]
    write_notebook(notebook, "print('jiangxi')")
    assert workflow.dependencies.chapter_datasets(notebook, tree) == []


def test_table_of_contents_with_a_lost_notebook_is_an_error(workflow, tree):
    toc = {"root": "book/intro", "parts": [{"chapters": [{"file": "notebooks/09_lost"}]}]}
    (tree / "_toc.yml").write_text(yaml.safe_dump(toc))
    with pytest.raises(FileNotFoundError, match=r"09_lost\.ipynb"):
        workflow.dependencies.toc_notebooks(tree)


def test_every_real_chapter_depends_on_the_lock_and_its_runner(workflow):
    for notebook in workflow.dependencies.toc_notebooks(ROOT).values():
        inputs = workflow.dependencies.chapter_inputs(notebook, ROOT)
        assert {"requirements.txt", "src/bloodcells/chapters.py"} <= set(inputs)
        assert [
            path for path in inputs if not path.startswith("_build") and not (ROOT / path).is_file()
        ] == []


def test_markers_give_way_to_their_blocks(workflow):
    text = "# A\n\n<!-- generated: b -->\n\nend\n"
    assert workflow.stage.fill_markers(text, {"b": lambda: "made\n"}) == "# A\n\nmade\n\nend\n"
    with pytest.raises(ValueError, match="unknown marker 'b': expected one of c"):
        workflow.stage.fill_markers(text, {"c": str})


def test_split_table_adds_up(workflow):
    lines = workflow.stage.datasets_splits().splitlines()
    header = [cell.strip() for cell in lines[0].strip("|").split("|")]
    rows = [
        dict(zip(header, (cell.strip() for cell in line.strip("|").split("|")), strict=True))
        for line in lines[2:]
    ]
    assert [row["cell type"] for row in rows[:6]] == [*CELL_TYPES, "all"]
    for row in rows:
        assert int(row["all"]) == sum(int(row[split]) for split in ("train", "val", "test"))
    for first in range(0, len(rows), 6):
        *parts, total = rows[first : first + 6]
        assert int(total["all"]) == sum(int(row["all"]) for row in parts)


def test_dois_of_datasets_are_links(workflow):
    details = workflow.stage.datasets_details()
    assert "doi:[10.1002/jbio.201800488](https://doi.org/10.1002/jbio.201800488)" in details
    assert "doi:10." not in details


def test_tables_of_fields_and_crops(workflow):
    """Ten and three fields are of red cells in gharbi2023; tran2019, chapter 1, has 42 crops."""
    assert "| `all-idb1` | red cells | 10 | 3 |" in workflow.stage.datasets_fields()
    crops = workflow.stage.datasets_crops().splitlines()
    wide = next(line for line in crops if "| wide | 1 |" in line)
    assert sum(int(cell) for cell in wide.strip("| ").split(" | ")[3:]) == 42


@pytest.mark.parametrize(
    ("tag", "text", "drawn"),
    [
        ("run-card", "data: drawn smears", True),
        ("run-card", "data: jiangxi", False),
        ("other", "data: drawn smears", False),
    ],
)
@pytest.mark.parametrize("kind", ["stream", "display_data"])
def test_run_card_tells_drawn_from_real(workflow, tag, text, drawn, kind):
    output = (
        new_output("stream", text=text)
        if kind == "stream"
        else new_output("display_data", data={"text/html": f"<table>{text}</table>", "image/png": "x"})
    )
    cell = new_code_cell("card()", metadata={"tags": [tag]}, outputs=[output])
    notebook = new_notebook(cells=[new_markdown_cell("On drawn smears"), cell])
    assert workflow.stage.is_drawn(notebook) is drawn


@pytest.fixture
def staged_tree(tree):
    shutil.copytree(ROOT / "book", tree / "book", ignore=shutil.ignore_patterns("*.md"))
    (tree / "book" / "intro.md").write_text("# Intro\n\n<!-- generated: chapters -->\n")
    (tree / "workflow").mkdir()
    shutil.copy2(ROOT / "workflow" / "page_fixes.py", tree / "workflow")
    shutil.copy2(ROOT / "_config.yml", tree)
    toc = {"root": "book/intro", "parts": [{"chapters": [{"file": f"notebooks/{CHAPTER}"}]}]}
    (tree / "_toc.yml").write_text(yaml.safe_dump(toc))
    write_notebook(tree / "notebooks" / f"{CHAPTER}.ipynb", "")
    return tree


@pytest.mark.parametrize("card", ["drawn smears", "jiangxi"])
def test_staging_writes_pages_and_banner_and_leaves_the_source_alone(workflow, staged_tree, card):
    run = staged_tree / "run.ipynb"
    write_notebook(run, "output_dir = '/home/me'", "card()", tags=("injected-parameters", "run-card"))
    notebook = nbformat.read(run, as_version=4)
    data = {"text/plain": "a run", "application/vnd.bloodcells.run+json": {"folder": "/home/me"}}
    notebook.cells[1].outputs = [new_output("stream", text=card), new_output("display_data", data=data)]
    nbformat.write(notebook, run)
    before = {path: path.read_bytes() for path in staged_tree.rglob("*") if path.is_file()}

    out = staged_tree / "_build" / "stage"
    out.mkdir(parents=True)
    (out / "leftover.md").write_text("from a page that is gone")
    files = workflow.stage.stage(staged_tree, out, {CHAPTER: run})

    assert "leftover.md" not in files
    assert set(files) == {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert f"{{doc}}`/notebooks/{CHAPTER}`" in (out / "book" / "intro.md").read_text()
    assert "/home/me" not in (out / "notebooks" / f"{CHAPTER}.ipynb").read_text()
    banner = yaml.safe_load((out / "_config.yml").read_text())["html"].get("announcement", "")
    assert banner.startswith("Executed on drawn smears") == (card == "drawn smears")
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    ("tags", "record", "shown"),
    [
        ([], "workstation: 2 runs, 3 minutes", "This run: reduced mode, on jiangxi, bcisc"),
        (["record"], "none yet", "This run: reduced mode, on jiangxi, bcisc"),
        (
            ["record"],
            "full: 1 runs, 9 minutes; workstation: 2 runs, 3 minutes",
            "The record: full and workstation mode",
        ),
        (
            ["record-workstation"],
            "full: 1 runs, 9 minutes; workstation: 2 runs, 3 minutes",
            "The record: workstation mode",
        ),
    ],
)
def test_captions_tell_the_mode_and_the_data_of_the_run(workflow, tags, record, shown):
    facts = {"mode": "reduced", "data": "jiangxi, bcisc", "record": record}
    card = new_output("display_data", data={"text/plain": "", "application/vnd.bloodcells.run+json": facts})
    figure = {"tags": tags, "mystnb": {"figure": {"caption": "Cells.", "name": "fig"}}}
    cells = [new_code_cell("card()", outputs=[card]), new_code_cell("plot()", metadata=figure)]
    page = workflow.stage.page_of(new_notebook(cells=cells))
    caption = page.cells[1].metadata["mystnb"]["figure"]["caption"]
    assert caption == f"Cells. {shown}."


def test_photographs_become_jpeg_and_plots_stay_png(workflow):
    """Noise is heavy as PNG and lighter as JPEG; an even picture is light at once."""
    noise = np.random.default_rng(0).normal(128, 20, (500, 500, 3)).clip(0, 255).astype(np.uint8)
    outputs = []
    for pixels in (noise, np.full((500, 500, 3), 200, np.uint8)):
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG")
        picture = base64.b64encode(stream.getvalue()).decode()
        outputs.append(new_output("display_data", data={"image/png": picture, "text/plain": "<Figure>"}))
    page = workflow.stage.page_of(new_notebook(cells=[new_code_cell("plot()", outputs=outputs)]))
    heavy, light = page.cells[0].outputs
    assert set(heavy.data) == {"image/jpeg", "text/plain"}
    assert set(light.data) == {"image/png", "text/plain"}
    with Image.open(io.BytesIO(base64.b64decode(heavy.data["image/jpeg"]))) as picture:
        assert np.abs(np.asarray(picture, float) - noise).mean() < 10


def test_heavy_plots_get_a_palette(workflow):
    """Thin lines in every direction and shade, which JPEG would make heavier yet."""
    image = Image.new("RGB", (1400, 1000), "white")
    pen = ImageDraw.Draw(image)
    rng = np.random.default_rng(0)
    for _ in range(1500):
        pen.line(
            [tuple(point) for point in rng.integers(0, 1000, (2, 2))], fill=tuple(rng.integers(0, 256, 3))
        )
    stream = io.BytesIO()
    image.save(stream, "PNG")
    kind, content = workflow.stage.lighten(stream.getvalue())
    with Image.open(io.BytesIO(content)) as picture:
        assert (kind, picture.mode, picture.size) == ("image/png", "P", image.size)
        assert np.abs(np.asarray(picture.convert("RGB"), float) - np.asarray(image)).mean() < 10
    assert len(content) < len(stream.getvalue()) / 2


def test_stripping_keeps_only_the_outputs_that_are_checked(workflow):
    printed = [new_output("stream", text="1")]
    cells = [
        new_code_cell("print(1)", outputs=printed, execution_count=1, metadata={"papermill": {}}),
        new_code_cell(
            "print(1)", outputs=printed, execution_count=2, metadata={"tags": ["nbval-check-output"]}
        ),
    ]
    first, second = workflow.strip_outputs.strip_outputs(new_notebook(cells=cells)).cells
    assert (first.outputs, first.execution_count, first.metadata) == ([], None, {})
    assert (second.outputs, second.execution_count) == (printed, 2)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Execute a small chapter through the real build graph, in a checkout of its own."""
    root = tmp_path_factory.mktemp("checkout")
    for folder in ("workflow", "src", "data", "book"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("_config.yml", "requirements.txt", "pyproject.toml"):
        shutil.copy2(ROOT / name, root)
    toc = {"root": "book/intro", "parts": [{"chapters": [{"file": f"notebooks/{CHAPTER}"}]}]}
    (root / "_toc.yml").write_text(yaml.safe_dump(toc))
    write_notebook(
        root / "notebooks" / f"{CHAPTER}.ipynb",
        'mode = "reduced"\noutput_dir = "runs"',
        "from bloodcells import errors",
        tags=("parameters",),
    )
    return root


def build(root, *options, check=True):
    """Ask for the executed chapter and return what was said; without the pages, which take longer."""
    target = f"_build/runs/{CHAPTER}/reduced/{CHAPTER}.ipynb"
    command = [sys.executable, "workflow/build.py", "--cores", "1", "--", *options, target]
    environment = os.environ | {"PYTHONPATH": str(root / "src"), "XDG_CACHE_HOME": str(root / "cache")}
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_build_executes_what_changed_and_nothing_else(built):
    build(built)
    run = built / "_build" / "runs" / CHAPTER / "reduced" / f"{CHAPTER}.ipynb"
    cells = json.loads(run.read_text())["cells"]
    assert [cell["execution_count"] for cell in cells if cell["cell_type"] == "code"] == [1, 2, 3]

    # Touched but not changed, and changed but not used: nothing to do.
    (built / "src" / "bloodcells" / "errors.py").touch()
    with (built / "src" / "bloodcells" / "metrics.py").open("a") as file:
        file.write("# a change\n")
    # Nor is a lock that a killed build left an obstacle.
    (built / ".snakemake" / "locks").mkdir(parents=True, exist_ok=True)
    (built / ".snakemake" / "locks" / "0.output.lock").write_text(f"{run.relative_to(built)}\n")
    assert "Nothing to be done" in build(built)

    with (built / "src" / "bloodcells" / "errors.py").open("a") as file:
        file.write("# a change\n")
    assert f"Executing {CHAPTER}" in build(built, "--dry-run")
    # Changed while the clock was wrong.
    os.utime(built / "src" / "bloodcells" / "errors.py", (0, 0))
    assert f"Executing {CHAPTER}" in build(built, "--dry-run")


def test_second_build_at_the_same_time_is_refused(built):
    (built / "_build").mkdir(exist_ok=True)
    with (built / "_build" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "Another build of this checkout is running" in build(built, check=False)


def test_run_times_are_those_of_this_build(workflow, tmp_path):
    path = tmp_path / "run.ipynb"
    nbformat.write(new_notebook(metadata={"papermill": {"duration": 90.0}}), path)
    unknown = tmp_path / "other.ipynb"
    nbformat.write(new_notebook(), unknown)
    (tmp_path / "notebooks" / "params").mkdir(parents=True)
    (tmp_path / "notebooks" / "params" / "98_later.workstation.yml").touch()
    executed = {"05_nasser2025_wcsegnet": path, "98_later": unknown, "99_later": unknown}
    table = workflow.stage.run_times(tmp_path, executed)
    recorded, later, never = table.splitlines()[2:]
    assert recorded.startswith("| {doc}`5 </notebooks/05_nasser2025_wcsegnet>` | 1.5 min | workstation |")
    assert later == "| {doc}`98 </notebooks/98_later>` | not known | none yet |  |  |  |  |"
    assert never == "| {doc}`99 </notebooks/99_later>` | not known | needs none |  |  |  |  |"
    # Runs, seeds of an arm and the last day, straight from the files.
    folders = list((ROOT / "book" / "results" / "05_nasser2025_wcsegnet" / "workstation").iterdir())
    seeds = Counter(folder.name.split("-s")[0] for folder in folders)
    (n_seeds,) = set(seeds.values())
    finished = [json.loads((folder / "provenance.json").read_text())["finished"] for folder in folders]
    _, _, _, n_runs, shown, _, day = recorded.strip("| ").split(" | ")
    assert (n_runs, shown, day) == (str(len(folders)), str(n_seeds), max(finished)[:10])
    # The runs of chapter 2 are of several days.
    paths = (ROOT / "book" / "results" / "02_gharbi2023_dounet").glob("*/*/provenance.json")
    days = {json.loads(path.read_text())["finished"][:10] for path in paths}
    assert len(days) > 1
    table = workflow.stage.run_times(tmp_path, {"02_gharbi2023_dounet": path})
    assert table.strip().endswith(f"| {max(days)} |")


def test_versions_of_the_record_stand_beside_those_of_the_build(workflow, tmp_path):
    built = workflow.stage.package_versions(tmp_path)
    assert built.startswith("- this build: ")
    assert "record" not in built
    numpy = importlib.metadata.version("numpy")
    for folder, version in (("a", numpy), ("b", "1.2.3")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "provenance.json").write_text(json.dumps({"versions": {"numpy": version}}))
        said = workflow.stage.package_versions(tmp_path).splitlines()[-1]
        both = " and ".join(sorted({"1.2.3", numpy}))
        assert said == "- the record: " + ("the same" if folder == "a" else f"numpy {both}, else the same")


def test_citation_follows_its_file(workflow, tmp_path):
    facts = {"authors": [{"name": "A"}, {"name": "B"}], "title": "T", "version": "1.2.3"}
    facts |= {"date-released": "2031-05-06", "repository-code": "https://example.org/t"}
    (tmp_path / "CITATION.cff").write_text(yaml.safe_dump(facts))
    text = workflow.stage.citation(tmp_path)
    assert text.startswith("A and B. *T*, version 1.2.3, 2031. <https://example.org/t>")
    assert "author = {{A and B}}," in text


def test_a_benchmark_becomes_a_picture_and_a_table(workflow, tmp_path):
    report = {
        "title": "A race",
        "command": "python benchmarks/race.py",
        "commit": "abc1234",
        "rounds": 3,
        "machine": {"processor": "A processor", "cores": 2, "peak_gflops": {"float32": 213.4}},
        "labels": {"seconds": "time, s"},
        "digits": {"seconds": 1},
        "ratio_to": "ours",
        "rows": [
            {
                "group": "",
                "side": side,
                "figures": {"seconds": {"median": m, "low": 1.0, "high": 90.0}},
                "note": "",
            }
            for side, m in (("ours", 2.0), ("theirs", 80.0))
        ],
    }
    (tmp_path / "race.json").write_text(json.dumps(report))
    text = workflow.speed.speed_section("race", tmp_path / "out", results=tmp_path)
    lines = text.splitlines()
    assert lines[0] == (
        "A race; A processor, 2 cores; medians of 3 (lowest to highest); "
        "largest matrix product in float32: 213 GFLOP/s; commit `abc1234`."
    )
    assert "| side | time, s | ratio |" in lines
    assert "| theirs | 80.0 (1.0 to 90.0) | 40.00 |" in lines
    assert (tmp_path / "out" / "_static" / "speed_race.png").stat().st_size > 1000


def test_a_benchmark_that_was_not_run_is_said(workflow, tmp_path):
    text = workflow.speed.speed_section("count", tmp_path, results=tmp_path)
    assert text == "Not measured yet: `python benchmarks/run_all.py --only count`."


def test_every_benchmark_has_a_place_on_the_page(workflow):
    page = (ROOT / "book" / "speed.md").read_text(encoding="utf-8")
    blocks = workflow.stage.MARKER.findall(page)
    shown = [name.removeprefix("speed-") for name in blocks if name.startswith("speed-")]
    assert shown == list(workflow.speed.BENCHMARKS)
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        assert list(importlib.import_module("run_all").BENCHMARKS) == shown
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))

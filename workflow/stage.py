"""Lay out the source of the book in a folder of its own, with the pages that are made from data.

The checkout holds prose with markers, the build writes nothing into it. A marker is a line of its own,
``<!-- generated: NAME -->``; it gives way to a table or a command made from the data registry, the records
or the book's configuration.
"""

import argparse
import base64
import hashlib
import io
import json
import re
import shutil
from pathlib import Path

import nbformat
import pandas as pd
import yaml
from dependencies import toc_notebooks
from PIL import Image
from speed import BENCHMARKS, speed_section

ROOT = Path(__file__).resolve().parents[1]
MARKER = re.compile(r"^<!-- generated: (\S+) -->$", re.MULTILINE)
DRAWN = "drawn smears"
_DOI = re.compile(r"doi:(10\.[^\s,;]+)")
_DOI_LINK = r"doi:[\1](https://doi.org/\1)"
# Outputs of this kind are for programs; the book has no way to show them.
PRIVATE = "application/vnd.bloodcells"


def fill_markers(text, blocks):
    """Put generated blocks where a page asks for them.

    Parameters
    ----------
    text : str
        A Markdown page.
    blocks : dict of str to callable
        Marker name to a function without arguments that returns Markdown. Only those asked for are called.

    Returns
    -------
    str
    """

    def block(match):
        name = match.group(1)
        if name not in blocks:
            raise ValueError(f"unknown marker {name!r}: expected one of {', '.join(sorted(blocks))}")
        return blocks[name]().strip()

    return MARKER.sub(block, text)


def datasets_overview():
    """Tabulate the datasets of the registry: name, size, licence.

    Returns
    -------
    str
        Markdown.
    """
    from bloodcells.datasets import DATASETS, describe, read_split
    from bloodcells.reports import markdown_table

    rows = []
    for name in DATASETS:
        facts = describe(name)
        rows.append(
            {
                "name": f"`{name}`",
                "dataset": facts["title"],
                "images": len(read_split(name)),
                "files": f"{facts['n_files']:,}",
                "size in MB": f"{facts['n_bytes'] / 1e6:.1f}",
                "licence": facts["licence"],
            }
        )
    return markdown_table(pd.DataFrame(rows))


def datasets_splits():
    """Tabulate the splits: images of each part per dataset and cell type.

    Returns
    -------
    str
        Markdown.
    """
    from bloodcells.datasets import CELL_DATASETS, CELL_TYPES, read_split
    from bloodcells.reports import markdown_table

    rows = []
    for name in CELL_DATASETS:
        table = read_split(name)
        # Five long words as heads of columns would make the table wider than the page.
        for cell_type in (*CELL_TYPES, "all"):
            of_type = table if cell_type == "all" else table[table["cell_type"] == cell_type]
            counts = {split: int((of_type["split"] == split).sum()) for split in ("train", "val", "test")}
            rows.append({"dataset": f"`{name}`", "cell type": cell_type, **counts, "all": len(of_type)})
    return markdown_table(pd.DataFrame(rows))


def datasets_fields():
    """Tabulate the parts of the fields: images of each kind of cell.

    Returns
    -------
    str
        Markdown.
    """
    from bloodcells.cell_outlines import PLURALS
    from bloodcells.datasets import FIELD_DATASETS
    from bloodcells.fields import list_fields
    from bloodcells.reports import markdown_table

    titles = {
        "train": "published training part",
        "test": "test part",
        "phase1": "we may train on",
        "masked": "with a mask",
        "counted": "with a true count",
    }
    rows = [
        {"dataset": f"`{name}`", "cells": plural}
        | {title: len(list_fields(name, cell, part)) for part, title in titles.items()}
        for name in FIELD_DATASETS
        for cell, plural in PLURALS.items()
    ]
    return markdown_table(pd.DataFrame(rows))


def datasets_crops():
    """Tabulate the crops of fields that chapters take.

    Returns
    -------
    str
        Markdown.
    """
    from bloodcells.datasets import FIELD_DATASETS
    from bloodcells.registry import read_crops
    from bloodcells.reports import markdown_table

    chapters = {"wide": "1", "square": "3 and 7"}
    rows = []
    for name in FIELD_DATASETS:
        counts = read_crops(name).groupby(["kind", "split"]).size()
        for kind, chapter in chapters.items():
            rows.append(
                {"dataset": f"`{name}`", "crops": kind, "chapters": chapter}
                | {split: counts[kind, split] for split in ("train", "val", "test")}
            )
    return markdown_table(pd.DataFrame(rows))


def datasets_details():
    """Write one section per dataset: home, citation, pinned source, known defects.

    Returns
    -------
    str
        Markdown.
    """
    from bloodcells.datasets import DATASETS, describe

    sections = []
    for name in DATASETS:
        facts = describe(name)
        lines = [
            f"### {name}",
            "",
            facts["description"],
            "",
            f"- Home: <{facts['homepage']}>",
            *(
                f"- Source: `{repo}` at commit `{commit[:12]}`"
                for repo, commit in facts.get("sources", {facts["repo"]: facts["commit"]}).items()
            ),
            f"- Licence: {facts['licence']}. {facts['licence_note']}",
            f"- To cite: {_DOI.sub(_DOI_LINK, facts['citation'])}",
        ]
        defects = facts.get("defects") or []
        if defects:
            lines += ["", "Known defects:", "", *(f"- {defect}" for defect in defects)]
        sections.append("\n".join(lines))
    return "\n\n".join(sections)


def chapter_titles(root):
    """List the chapters with links.

    Parameters
    ----------
    root : pathlib.Path
        The checkout.

    Returns
    -------
    str
        A Markdown list, seen from a page in ``book/``.
    """
    return "\n".join(
        f"- {{doc}}`/notebooks/{chapter}` (command line: `{chapter[:2]}`)" for chapter in toc_notebooks(root)
    )


def clone_command(config):
    """Write the commands that copy the repository.

    Parameters
    ----------
    config : dict
        The book's configuration, which holds the repository's address.

    Returns
    -------
    str
        A fenced code block.
    """
    url = config["repository"]["url"]
    return f"```bash\ngit clone {url}\ncd {url.rstrip('/').rsplit('/', 1)[-1]}\n```"


def colab_cell(config):
    """Write the cell that installs the project on Colab.

    Parameters
    ----------
    config : dict
        The book's configuration, which holds the repository's address.

    Returns
    -------
    str
        A fenced code block.
    """
    url = config["repository"]["url"]
    return f"```text\n!git clone --depth 1 {url} book\n%pip install --quiet --editable ./book\n```"


def result_picture(out):
    """Draw the picture of the landing page: every printed score that the record bears on, against ours.

    Parameters
    ----------
    out : pathlib.Path
        The folder of the staged book.

    Returns
    -------
    str
        A figure directive; of a record without any such score, a sentence.
    """
    import matplotlib.pyplot as plt

    from bloodcells import plots, reports

    table = reports.printed_and_ours()
    if table.empty:
        return "No score of a paper has a record beside it yet."
    plots.use_book_style()
    lowest = 0.3
    figure = plots.plot_printed_and_ours(table, lowest=lowest)
    figure.savefig(out / "_static" / "printed_and_ours.png", dpi=200)
    plt.close(figure)
    tested = table[table["verdict"] != "not tested"]
    agree = tested["verdict"].isin(["reproduced", "partly"])
    n_higher = (~agree & (tested["ours"] > tested["paper"])).sum()
    n_outside = (table[["paper", "ours"]] < lowest).any(axis=1).sum()
    triangles = f" Triangles on the edge: a score below {lowest} ({n_outside} times)." if n_outside else ""
    return "\n".join(
        [
            "```{figure} /_static/printed_and_ours.png",
            ":name: fig-printed-and-ours",
            ":width: 560px",
            ":alt: Points around a diagonal, one for each score that a paper prints, a colour for each "
            f"chapter, on axes from {lowest} to 1; many lie near the diagonal, some far above or below it.",
            "",
            f"{len(table)} scores as the papers print them and as our record has them, means over seeds with "
            f"their range. {len(tested)} of them can be tested on public data: {agree.sum()} agree within "
            f"their tolerance, {n_higher} of ours are higher and {(~agree).sum() - n_higher} lower."
            f"{triangles} What is behind each point is on the {{doc}}`results page <results>`.",
            "```",
        ]
    )


def shipped_and_released_table():
    """Tabulate how well the shipped networks count beside the authors' larger ones.

    Returns
    -------
    str
        Markdown.
    """
    from bloodcells.counting.settings import CELLS
    from bloodcells.field_reports import compare_shipped_with_released
    from bloodcells.networks import WEIGHTS, read_card
    from bloodcells.reports import markdown_table

    table = compare_shipped_with_released([read_card(WEIGHTS / f"{cell}.json") for cell in CELLS])
    return markdown_table(table.reset_index()) + (
        "\nCounting accuracy, mean over the fields: the shipped networks as `bloodcells count` counts, the "
        "released ones by that of the authors' three methods that comes out best here. Differences in "
        "percentage points, with the 95 % interval of a paired bootstrap over fields; three fields are few.\n"
    )


def run_times(root, executed):
    """Tabulate how long each chapter took in this build, and what its record is and took.

    Parameters
    ----------
    root : pathlib.Path
        The checkout.
    executed : dict of str to pathlib.Path
        Chapter id to executed notebook.

    Returns
    -------
    str
        Markdown.
    """
    from bloodcells.reports import chapter_link, markdown_table
    from bloodcells.results import RECORD, list_records, record_modes

    records = list_records()
    rows = []
    for chapter, path in executed.items():
        seconds = nbformat.read(path, as_version=4).metadata.get("papermill", {}).get("duration")
        modes = record_modes(chapter)
        runs = records[(records["chapter"] == chapter) & records["mode"].isin(modes)]
        # A chapter without larger sizes has nothing to record.
        has_sizes = (root / "notebooks" / "params" / f"{chapter}.workstation.yml").exists()
        n_seeds = runs.groupby(["mode", "arm"])["seed"].nunique()
        days = [
            json.loads(path.read_text(encoding="utf-8"))["finished"][:10]
            for mode in modes
            for path in (RECORD / chapter / mode).glob("*/provenance.json")
        ]
        rows.append(
            {
                "chapter": chapter_link(chapter),
                "reduced mode, this build": "not known" if seconds is None else f"{seconds / 60:.1f} min",
                "record": ", ".join(modes) or ("none yet" if has_sizes else "needs none"),
                "runs": len(runs) or "",
                "seeds": " to ".join(map(str, sorted({n_seeds.min(), n_seeds.max()}))) if len(runs) else "",
                "minutes of training": f"{runs['minutes'].sum():.0f}" if len(runs) else "",
                "last run": max(days, default=""),
            }
        )
    return markdown_table(pd.DataFrame(rows))


def package_versions(record=None):
    """List the versions of the packages that decide numbers, those of this build and of the record.

    Parameters
    ----------
    record : pathlib.Path, optional
        By default that of the checkout.

    Returns
    -------
    str
        Markdown.
    """
    from bloodcells.results import RECORD, versions

    built = versions()
    recorded = {}
    for path in sorted((record or RECORD).rglob("provenance.json")):
        for name, version in json.loads(path.read_text(encoding="utf-8"))["versions"].items():
            recorded.setdefault(name, set()).add(version)
    others = [
        f"{name} {' and '.join(sorted(found))}"
        for name, found in recorded.items()
        if found != {built.get(name)}
    ]
    lines = [f"- this build: {', '.join(f'{name} {version}' for name, version in built.items())}"]
    if recorded:
        lines.append(
            f"- the record: {', '.join(others) or 'the same'}" + (", else the same" if others else "")
        )
    return "\n".join(lines)


def citation(root):
    """Write how to cite the book, from its citation file.

    Parameters
    ----------
    root : pathlib.Path
        The checkout.

    Returns
    -------
    str
        Markdown: a sentence, and an entry for BibTeX.
    """
    facts = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    authors = " and ".join(author["name"] for author in facts["authors"])
    year, url = str(facts["date-released"])[:4], facts["repository-code"]
    return "\n".join(
        [
            f"{authors}. *{facts['title']}*, version {facts['version']}, {year}. <{url}>",
            "",
            "```bibtex",
            f"@software{{bloodcells{year},",
            f"  author = {{{{{authors}}}}},",
            f"  title = {{{facts['title']}}},",
            f"  version = {{{facts['version']}}},",
            f"  year = {{{year}}},",
            f"  url = {{{url}}}",
            "}",
            "```",
        ]
    )


def blocks_for(root, config, out, executed):
    """Return the marker names of the pages with the functions that fill them.

    Parameters
    ----------
    root : pathlib.Path
        The checkout.
    config : dict
        The book's configuration.
    out : pathlib.Path
        The folder of the staged book.
    executed : dict of str to pathlib.Path
        Chapter id to executed notebook.

    Returns
    -------
    dict of str to callable
    """

    def results():
        from bloodcells.reports import results_page

        return results_page()

    def sizing(name):
        from bloodcells import sizing

        return getattr(sizing, name)()

    return {
        "sizing-grid": lambda: sizing("grid_table"),
        "sizing-slides": lambda: sizing("slides_table"),
        "sizing-gpu": lambda: sizing("gpu_text"),
        "sizing-assumptions": lambda: sizing("assumptions_text"),
        "chapters": lambda: chapter_titles(root),
        "clone": lambda: clone_command(config),
        "colab": lambda: colab_cell(config),
        "datasets-overview": datasets_overview,
        "datasets-splits": datasets_splits,
        "datasets-fields": datasets_fields,
        "datasets-crops": datasets_crops,
        "datasets-details": datasets_details,
        "results": results,
        "result-picture": lambda: result_picture(out),
        "run-times": lambda: run_times(root, executed),
        "versions": package_versions,
        "citation": lambda: citation(root),
        "shipped-and-released": shipped_and_released_table,
        **{f"speed-{name}": lambda name=name: speed_section(name, out) for name in BENCHMARKS},
    }


def _output_text(cell):
    """Join what a code cell printed or displayed as text."""
    texts = []
    for output in cell.get("outputs", []):
        texts.append(output.get("text", ""))
        texts += [text for kind, text in output.get("data", {}).items() if kind.startswith("text/")]
    return "\n".join(texts)


def is_drawn(notebook):
    """Say whether a chapter ran on drawn smears: its run card says so.

    Parameters
    ----------
    notebook : nbformat.NotebookNode
        An executed chapter.

    Returns
    -------
    bool
        True when a cell tagged ``run-card`` has the words "drawn smears" in its output.
    """
    return any(
        "run-card" in cell.metadata.get("tags", []) and DRAWN in _output_text(cell)
        for cell in notebook.cells
        if cell.cell_type == "code"
    )


_NO_RECORD = "none yet"
_HEAVY = 300_000
"""Bytes of a picture that is tried as JPEG: photographs are, plots are not."""


def lighten(png):
    """Make a heavy picture lighter, if that makes much of a difference.

    Parameters
    ----------
    png : bytes

    Returns
    -------
    tuple of (str, bytes) or None
        Kind and content: of a photograph JPEG, of a plot PNG with 256 colours, in which lines and letters
        stay sharp; None where the picture is light, or hardly lighter so.
    """
    if len(png) < _HEAVY:
        return None
    with Image.open(io.BytesIO(png)) as picture:
        rgb = picture.convert("RGB")
    jpeg, palette = io.BytesIO(), io.BytesIO()
    # Full resolution of colours too: thin outlines are drawn in them.
    rgb.save(jpeg, "JPEG", quality=85, subsampling=0, optimize=True)
    if jpeg.tell() < len(png) / 2:
        return "image/jpeg", jpeg.getvalue()
    rgb.quantize(256).save(palette, "PNG", optimize=True)
    return ("image/png", palette.getvalue()) if palette.tell() < len(png) / 2 else None


def page_of(notebook):
    """Make the page of an executed chapter: without what is of this build, or for programs, only.

    Every figure's caption gets the mode and the data of the run, which the chapter's run card tells. A figure
    that shows the record where there is one is tagged ``record``, or ``record-workstation`` if it shows the
    runs of that mode only; its caption gets the modes.
    Heavy photographs become JPEG, heavy plots get a palette.

    Parameters
    ----------
    notebook : nbformat.NotebookNode
        An executed chapter; changed in place.

    Returns
    -------
    nbformat.NotebookNode
    """
    # Papermill's cell holds but the mode and a folder of this machine; the values are in the cell above it.
    notebook.cells = [
        cell for cell in notebook.cells if "injected-parameters" not in cell.metadata.get("tags", [])
    ]
    facts = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            png = output.get("data", {}).get("image/png")
            if png and (lighter := lighten(base64.b64decode(png))):
                kind, content = lighter
                del output["data"]["image/png"]
                output["data"][kind] = base64.b64encode(content).decode()
            for kind in [kind for kind in output.get("data", {}) if kind.startswith(PRIVATE)]:
                facts |= output["data"].pop(kind)
    # A caption is written before it is known what the chapter will run on.
    for cell in notebook.cells:
        figure = cell.metadata.get("mystnb", {}).get("figure")
        if facts and figure:
            kept, tags = facts.get("record", _NO_RECORD), cell.metadata.get("tags", [])
            modes = [part.split(":")[0] for part in kept.split("; ")] if kept != _NO_RECORD else []
            # A figure of the runs of one mode names it in its tag.
            shown = [mode for mode in modes if "record" in tags or f"record-{mode}" in tags]
            if shown:
                figure["caption"] += f" The record: {' and '.join(shown)} mode."
            else:
                figure["caption"] += f" This run: {facts['mode']} mode, on {facts['data']}."
    return notebook


def stage(root, out, executed):
    """Write the whole source of the book into a folder.

    Parameters
    ----------
    root : pathlib.Path
        The checkout.
    out : pathlib.Path
        The folder; whatever else it holds is removed.
    executed : dict of str to pathlib.Path
        Chapter id to executed notebook.

    Returns
    -------
    dict of str to str
        SHA-256 of every file written, by path within `out`.
    """
    shutil.rmtree(out, ignore_errors=True)
    (out / "notebooks").mkdir(parents=True)
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    shutil.copy2(root / "_toc.yml", out)
    shutil.copytree(root / "book", out / "book", ignore=shutil.ignore_patterns("results", "_static", "*.yml"))
    shutil.copytree(root / "book" / "_static", out / "_static")

    (out / "_ext").mkdir()
    shutil.copy2(root / "workflow" / "page_fixes.py", out / "_ext")

    blocks = blocks_for(root, config, out, executed)
    for page in sorted((out / "book").glob("*.md")):
        try:
            text = fill_markers(page.read_text(encoding="utf-8"), blocks)
        except ValueError as error:
            raise ValueError(f"book/{page.name}: {error}") from error
        page.write_text(text, encoding="utf-8")

    drawn = []
    for chapter, path in executed.items():
        notebook = nbformat.read(path, as_version=4)
        if is_drawn(notebook):
            drawn.append(chapter)
        nbformat.write(page_of(notebook), out / "notebooks" / f"{chapter}.ipynb")
    if drawn:
        which = "" if len(drawn) == len(executed) else f" ({', '.join(drawn)})"
        config.setdefault("html", {})["announcement"] = (
            f"Executed on {DRAWN}{which}: no real dataset could be had when this book was built."
        )
    (out / "_config.yml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


def main():
    """Stage the book of this checkout."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", type=Path, required=True, help="file for the list of staged files")
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    runs = ROOT / "_build" / "runs"
    executed = {name: runs / name / "reduced" / f"{name}.ipynb" for name in toc_notebooks(ROOT)}
    files = stage(ROOT, arguments.out, executed)
    arguments.record.write_text(json.dumps(files, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

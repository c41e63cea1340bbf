"""The command line: counting cells, and data, chapters and results of the book.

Modules with heavy imports are imported inside the commands, so that ``--help`` and a mistyped option answer
at once.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperCommand
from typer.exceptions import TyperException

import bloodcells
from bloodcells import chapters
from bloodcells.errors import UserError


class _PairsCommand(TyperCommand):
    """A command whose option ``-p`` takes two words, NAME VALUE, and may be given again.

    typer has no type for that, so each pair is joined to NAME=VALUE before the words are parsed. A reader may
    type NAME=VALUE as well.
    """

    def parse_args(self, ctx, args):
        return super().parse_args(ctx, _join_pairs(args))


def _join_pairs(args):
    words, joined = iter(args), []
    for word in words:
        if word in ("-p", "--parameter"):
            pair = next(words, "")
            if "=" not in pair:
                pair = f"{pair}={next(words, '')}"
            # All as one word, so that a negative value is not taken for an option.
            word = f"--parameter={pair}"
        joined.append(word)
    return joined


app = typer.Typer(
    help="Segment and count blood cells as five papers do: data, chapters and results of the book.",
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
data = typer.Typer(help="Fetch and check the datasets.", rich_markup_mode=None)
results = typer.Typer(help="Look at the record of results, and add to it.", rich_markup_mode=None)
app.add_typer(data, name="data")
app.add_typer(results, name="results")

Names = Annotated[list[str], typer.Argument(metavar="NAME", help="Datasets; see `bloodcells data list`.")]


def _show_version(value: bool):
    if value:
        typer.echo(f"bloodcells {bloodcells.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
):
    pass


@data.command("list")
def list_data():
    """Show the datasets, and which are here."""
    from bloodcells import datasets

    rows = []
    for name in datasets.DATASETS:
        facts = datasets.describe(name)
        size = f"{facts['n_bytes'] / 1e6:.1f}"
        rows.append((name, facts["title"], str(facts["n_files"]), size, facts["licence"], _locate(name)))
    _print_table(("name", "title", "files", "MB", "licence", "where"), rows)


@data.command("fetch")
def fetch_data(names: Names):
    """Put verified copies of datasets into the cache.

    They come from the mirror if there is one, else from upstream. The folders are printed.
    """
    from bloodcells import datasets

    _check_names(names)
    for name in names:
        typer.echo(datasets.fetch(name, progress=True))


@data.command("verify")
def verify_data(names: Names):
    """Check every file of datasets in the cache.

    The exit status is 1 if any file is missing or damaged.
    """
    from bloodcells import datasets

    _check_names(names)
    sound = True
    for name in names:
        problems = datasets.verify(name)
        for problem in problems or [f"{name}: all {datasets.describe(name)['n_files']} files are sound"]:
            typer.echo(problem)
        sound = sound and not problems
    if not sound:
        raise typer.Exit(1)


@app.command("run", cls=_PairsCommand)
def run_chapter(
    chapter: Annotated[
        str, typer.Argument(metavar="CHAPTER", help="Chapter, or the start of its name, such as 05.")
    ],
    mode: Annotated[
        str, typer.Option(help=f"Sizes to run with: {', '.join(chapters.MODES)}.", metavar="MODE")
    ] = "reduced",
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "--parameter",
            "-p",
            metavar="NAME VALUE",
            help="Value of a parameter, a YAML literal; wins over the mode. May be given again.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for the results.  [default: runs/ of the checkout]"),
    ] = None,
):
    """Execute a chapter and print where its notebook is.

    The results are put into DIR/CHAPTER/MODE.
    """
    typed = {}
    for pair in parameter or []:
        name, _, text = pair.partition("=")
        if not (name and text):
            raise UserError(f"Expected -p NAME VALUE, such as `-p seed 1`, got {pair.strip('=')!r} alone.")
        if name in typed:
            raise UserError(f"Parameter {name!r} is given twice; give it once.")
        typed[name] = text
    defaults = chapters.parameters(chapters.find(chapter))
    typed = {name: chapters.parse_value(text, defaults.get(name)) for name, text in typed.items()}
    typer.echo(chapters.run(chapter, mode=mode, parameters=typed, output_dir=out))


@app.command("count")
def count_cells(
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE|DIR", help="Photographs of smears, or folders of them.")
    ],
    cells: Annotated[
        str, typer.Option(metavar="NAMES", help="What to count: red cells, white cells, platelets.")
    ] = "rbc,wbc,plt",
    method: Annotated[
        str,
        typer.Option(
            metavar="auto|cht|ccl|edt|tree",
            help="How cells are told apart: best for each kind, circles, components, distances, or a tree.",
        ),
    ] = "auto",
    pixel_size: Annotated[
        float | None,
        typer.Option(
            metavar="UM",
            help="Micrometres a pixel. Gives the size of red cells, a scale bar and sizes in micrometres.",
        ),
    ] = None,
    cell_radius: Annotated[
        float | None,
        typer.Option(metavar="PX", help="Radius of a red cell in pixels.  [default: estimated]"),
    ] = None,
    exclude_border: Annotated[
        bool, typer.Option("--exclude-border", help="Leave out cells that touch the border of the image.")
    ] = False,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the results.")] = Path("counts"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace earlier results.")] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with a count that was stopped: same images, same settings."),
    ] = False,
    threads: Annotated[
        int | None,
        typer.Option(metavar="N", help="Processor cores for the networks.  [default: all, at most 16]"),
    ] = None,
):
    """Count red cells, white cells and platelets in photographs of blood smears.

    Images are JPEG, PNG, BMP or TIFF, of any size and magnification. The counts are put into DIR/counts.csv;
    outlines, label images, a table of all cells and a picture to check them into a folder for each image.
    A warning says where a photograph is unlike those that the networks know; DIR/counts.csv names it, too.
    DIR/counts.json holds the settings. The exit status is 1 if an image can't be read or counted; the others
    are counted all the same.
    """
    from bloodcells import count_command
    from bloodcells.counting.find import METHODS

    if method not in ("auto", *METHODS):
        raise UserError(f"--method expects auto, {', '.join(METHODS)}; got {method!r}.")
    for name, value in {
        "--pixel-size": pixel_size,
        "--cell-radius": cell_radius,
        "--threads": threads,
    }.items():
        if value is not None and not 0 < value < float("inf"):
            raise UserError(f"{name} expects a number above 0, got {value}.")
    sound = count_command.count_files(
        images,
        cells=count_command.parse_cells(cells),
        method=method,
        cell_radius=cell_radius,
        pixel_size_um=pixel_size,
        output_dir=out,
        exclude_border=exclude_border,
        overwrite=overwrite,
        resume=resume,
        n_threads=threads,
        say=typer.echo,
        complain=_print_line,
    )
    if not sound:
        raise typer.Exit(1)


@results.command("list")
def list_results():
    """Show the runs in the record."""
    from bloodcells import results as records

    table = records.list_records()
    if table.empty:
        typer.echo("There is no run in the record yet; `bloodcells results promote` adds one.")
        return
    # Two networks whose answers are averaged had no training of their own.
    table = table.astype(object).where(table.notna(), "")
    _print_table(table.columns, ([str(cell) for cell in row] for row in table.itertuples(index=False)))


@results.command("promote")
def promote_run(
    run_dir: Annotated[
        Path, typer.Argument(metavar="RUN_DIR", help="Folder of a finished run, or of several.")
    ],
):
    """Copy the small files of finished runs to the record, book/results."""
    from bloodcells import results as records

    for folder in records.promote(run_dir):
        typer.echo(folder)


@results.command("table")
def show_table(
    write: Annotated[
        bool, typer.Option("--write", help="Put it into README.md instead of printing it.")
    ] = False,
):
    """Print the README's table of results, as Markdown."""
    from bloodcells import reports

    if write:
        typer.echo(reports.write_readme_table())
    else:
        typer.echo(reports.readme_table(), nl=False)


def main(args=None):
    """Run the command line and end the process.

    Parameters
    ----------
    args : list of str, optional
        Arguments without the program's name. Default: those of the process.

    Raises
    ------
    SystemExit
        Always. Status 0: done. 1: a check found problems, a chapter failed, or memory ran out. 2: a mistake
        in the input, told in one line on standard error. 130: interrupted.
    """
    command = typer.main.get_command(app)
    try:
        # typer returns the status of `typer.Exit` here, and 130 for an interrupt.
        status = command.main(args, prog_name="bloodcells", standalone_mode=False) or 0
        if status == 130:
            _complain("interrupted", status)
        # Flushed here, since a reader that is gone shows only on writing.
        sys.stdout.flush()
    except UserError as error:
        status = _complain(str(error), 2)
    except chapters.ChapterFailedError as error:
        status = _complain(str(error), 1)
    except TyperException as error:
        context = getattr(error, "ctx", None)
        hint = f" Try `{context.command_path} --help`." if context else ""
        status = _complain(f"{error.format_message().rstrip('.')}.{hint}", error.exit_code)
    except MemoryError:
        status = _complain("there is too little free memory; end other programs, or take a smaller image.", 1)
    except BrokenPipeError:
        # `bloodcells data list | head` is no fault. Python would flush into the closed pipe once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except OSError as error:
        # A folder that may not be read, say, or a name that is too long.
        place = f"{error.filename}: " if error.filename else ""
        status = _complain(f"{place}{error.strerror or error}; check the path.", 2)
    sys.exit(status)


def _complain(message, status):
    """Print one line on standard error and return the status."""
    _print_line(f"error: {message}")
    return status


def _print_line(message):
    print(f"bloodcells: {' '.join(message.split())}", file=sys.stderr)


def _check_names(names):
    """Refuse a name that is no dataset before any work is done."""
    from bloodcells import datasets

    for name in names:
        datasets.describe(name)


def _locate(name):
    """Say in words where the files of a dataset are; they are looked for, not verified."""
    from bloodcells import datasets
    from bloodcells.registry import read_files

    files = read_files(name)
    n_cached = sum(
        any((datasets.default_cache() / name / form.path).is_file() for form in file.forms) for file in files
    )
    mirror = datasets.default_mirror()
    if n_cached == len(files):
        return "cache"
    if mirror is not None and mirror.startswith(("http://", "https://")):
        here = "mirror (a URL, not asked)"
    elif mirror is not None and all(
        (Path(mirror).expanduser() / name / file.path).is_file() for file in files
    ):
        here = "mirror"
    else:
        here = "not here"
    return f"{here} (cache has {n_cached} of {len(files)})" if n_cached else here


def _print_table(columns, rows):
    """Print a table: as wide as the terminal, or one line a row when the output goes elsewhere."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=box.SIMPLE_HEAD)
    for row in rows:
        # As Text, since a title may hold what rich takes for markup.
        table.add_row(*(Text(cell) for cell in row))
    Console(width=None if sys.stdout.isatty() else 200, highlight=False).print(table)

"""Time and memory of `bloodcells count` beside the tool that gharbi2023 released, and a plain pipeline.

Each counts one image in a process of its own, by turns, on the same machine. What is measured is the whole
process, from its start to its end; see README.md.

    python benchmarks/count.py [IMAGE] [--runs 5] [--json FILE]
"""

import argparse
import csv
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from side_by_side import by_turns, describe_machine, finish, list_rows, make_report, measure

HERE = Path(__file__).resolve().parent
OURS, PLAIN, RELEASED = "bloodcells count", "plain scikit-image", "released tool"
SCRIPTS = {PLAIN: "plain_pipeline.py", RELEASED: "released_tool.py"}


def main():
    """Run all sides by turns and print a table."""
    options = parse_options()
    machine = describe_machine()
    with tempfile.TemporaryDirectory(prefix="bloodcells-benchmark-") as temporary:
        work = Path(temporary)
        image, shape = prepare(options, work)
        counts = {}

        def run(side):
            figures, counts[side] = run_side(side, image, options.cells, work)
            return figures | {"per_megapixel": figures["seconds"] / (shape[0] * shape[1] / 1e6)}

        measured = by_turns({side: lambda side=side: run(side) for side in options.sides}, options.runs)
    notes = {side: ", ".join(f"{n} {cell}" for cell, n in found.items()) for side, found in counts.items()}
    report = make_report(
        f"{image.name}, {shape[1]} x {shape[0]} pixels: {', '.join(options.cells)}",
        list_rows(measured, notes=notes),
        rounds=options.runs,
        labels={
            "seconds": "time, s",
            "per_megapixel": "s a megapixel",
            "cpu_seconds": "time of all cores, s",
            "megabytes": "memory, MB",
            "output_megabytes": "results, MB",
        },
        digits={"seconds": 1, "per_megapixel": 2, "cpu_seconds": 1, "megabytes": 0, "output_megabytes": 1},
        ratio_to=OURS,
        machine=machine,
    )
    finish(report | {"megapixels": shape[0] * shape[1] / 1e6}, options.json)


def run_side(side, image, cells, work):
    """Count the image once.

    Parameters
    ----------
    side : str
    image : pathlib.Path
    cells : list of str
    work : pathlib.Path
        Folder for the results; each side has its own in there, which is empty whenever the side begins.

    Returns
    -------
    figures : dict of str to float
        As `measure` gives them, and "output_megabytes".
    counts : dict of str to int
    """
    out = work / side.replace(" ", "-")
    shutil.rmtree(out, ignore_errors=True)
    command = ["-m", "bloodcells", "count", str(image)]
    if side in SCRIPTS:
        command = [str(HERE / SCRIPTS[side]), str(image)]
    # A plain threshold knows no kinds of cells.
    cells = cells if side != PLAIN else ["rbc"]
    options_of_side = ["--cells", ",".join(cells)] if side != PLAIN else []
    figures = measure([sys.executable, *command, *options_of_side, "--out", str(out)])
    written = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    return figures | {"output_megabytes": written / 1e6}, read_counts(out / "counts.csv", cells)


def parse_options():
    """Read the command line.

    Returns
    -------
    argparse.Namespace
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", nargs="?", help="a photograph of a smear [default: see README.md]")
    parser.add_argument("--cells", default="rbc,wbc,plt", help="what to count [default: %(default)s]")
    parser.add_argument("--runs", type=int, default=5, help="runs of each side [default: %(default)s]")
    parser.add_argument(
        "--only", choices=(OURS, PLAIN, RELEASED), action="append", help="leave other sides out"
    )
    parser.add_argument("--json", metavar="FILE", help="write what was measured")
    options = parser.parse_args()
    options.cells = options.cells.split(",")
    if options.runs < 1:
        parser.error("--runs expects at least 1")
    if unknown := set(options.cells) - {"rbc", "wbc", "plt"}:
        parser.error(f"--cells expects names out of rbc, wbc and plt, got {', '.join(sorted(unknown))}")
    if options.image and not Path(options.image).is_file():
        parser.error(f"{options.image} is no file")
    options.sides = [side for side in (OURS, PLAIN, RELEASED) if side in (options.only or [side])]
    return options


def prepare(options, work):
    """See that image and weights are there before anything is timed.

    Parameters
    ----------
    options : argparse.Namespace
    work : pathlib.Path
        Folder for the default image.

    Returns
    -------
    image : pathlib.Path
    shape : list of int
        Rows and columns, pixels.
    """
    command = [sys.executable, str(HERE / "prepare.py"), "--out", str(work)]
    if options.image:
        command += ["--image", str(Path(options.image).resolve())]
    if RELEASED in options.sides:
        command.append("--released")
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{command[1]} failed, see above")
    answer = json.loads(done.stdout)
    return Path(answer["image"]), answer["shape"]


def read_counts(path, cells):
    """Read the counts of the only image in a ``counts.csv``.

    Parameters
    ----------
    path : pathlib.Path
    cells : list of str

    Returns
    -------
    dict of str to int
    """
    with path.open(encoding="utf-8", newline="") as stream:
        (row,) = csv.DictReader(stream)
    return {cell: int(row[cell]) for cell in cells}


if __name__ == "__main__":
    main()

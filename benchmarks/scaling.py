"""Time and memory of `bloodcells count` by the size of the image, up to 100 megapixels.

One smear is laid out beside and below its mirror images, so that every size shows the same cells.

    python benchmarks/scaling.py [IMAGE] [--megapixels 5,10,20,50,100] [--rounds 5] [--json FILE]
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from side_by_side import by_turns, describe_machine, finish, list_rows, make_report, measure

HERE = Path(__file__).resolve().parent


def main():
    """Count images of all sizes by turns and print a table."""
    options = parse_options()
    machine = describe_machine()
    with tempfile.TemporaryDirectory(prefix="bloodcells-benchmark-") as temporary:
        work = Path(temporary)
        command = [sys.executable, str(HERE / "prepare.py"), "--out", str(work), "--megapixels"]
        command += [",".join(map(str, options.megapixels))]
        command += ["--image", str(Path(options.image).resolve())] if options.image else []
        if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
            sys.exit("prepare.py failed, see above")

        def run(size):
            out = work / "out"
            # To replace the results of the round before would be more than to write them.
            shutil.rmtree(out, ignore_errors=True)
            count = [sys.executable, "-m", "bloodcells", "count", str(work / f"{size}.png")]
            figures = measure([*count, "--out", str(out)])
            return figures | {"per_megapixel": figures["seconds"] / size}

        sides = {f"{size} megapixels": lambda size=size: run(size) for size in options.megapixels}
        measured = by_turns(sides, options.rounds)
    report = make_report(
        "bloodcells count by the size of the image",
        list_rows(measured),
        rounds=options.rounds,
        labels={
            "per_megapixel": "s a megapixel",
            "seconds": "time, s",
            "cpu_seconds": "time of all cores, s",
            "megabytes": "memory, MB",
        },
        digits={"per_megapixel": 2, "seconds": 1, "cpu_seconds": 1, "megabytes": 0},
        ratio_to=next(iter(sides)),
        machine=machine,
    )
    finish(report, options.json)


def parse_options():
    """Read the command line.

    Returns
    -------
    argparse.Namespace
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", nargs="?", help="a photograph of a smear [default: see README.md]")
    parser.add_argument("--megapixels", default="5,10,20,50,100", help="[default: %(default)s]")
    parser.add_argument("--rounds", type=int, default=5, help="[default: %(default)s]")
    parser.add_argument("--json", metavar="FILE", help="write what was measured")
    options = parser.parse_args()
    try:
        options.megapixels = [int(text) for text in options.megapixels.split(",")]
    except ValueError:
        parser.error(f"--megapixels expects whole numbers, got {options.megapixels}")
    if min(options.megapixels) < 1 or options.rounds < 1:
        parser.error("--megapixels and --rounds expect at least 1")
    return options


if __name__ == "__main__":
    main()

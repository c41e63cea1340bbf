"""Time of `make book`: from nothing, with nothing changed, and after one file was touched.

In a clone of its own, which shares the cache of the datasets and of the packages; see README.md.

    python benchmarks/book.py [--rounds 5] [--cold-rounds 1] [--json FILE]
"""

import argparse
import os
import subprocess
import tempfile
from pathlib import Path

from side_by_side import ROOT, by_turns, describe_machine, finish, list_rows, make_report, measure

TOUCHED = {
    "after a page was changed": "book/glossary.md",
    "after a chapter was changed": "notebooks/06_controlled_counting.ipynb",
}


def main():
    """Build a book again and again and print a table."""
    options = parse_options()
    machine = describe_machine()
    with tempfile.TemporaryDirectory(prefix="bloodcells-benchmark-") as temporary:
        clone = Path(temporary) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        environment = os.environ | find_mirror()

        def build():
            return measure(["make", "--silent", "book"], cwd=clone, env=environment)

        def cold():
            subprocess.run(["make", "--silent", "clean"], cwd=clone, check=True)
            return build()

        def touched(name):
            with (clone / name).open("a", encoding="utf-8") as stream:
                stream.write("\n")
            return build()

        subprocess.run(["make", "--silent", "install"], cwd=clone, env=environment, check=True)
        measured = by_turns({"from nothing": cold}, options.cold_rounds)
        if options.rounds:
            warm = {"nothing changed": build}
            warm |= {side: lambda name=name: touched(name) for side, name in TOUCHED.items()}
            measured |= by_turns(warm, options.rounds)
    rounds = "1 round" if options.cold_rounds == 1 else f"{options.cold_rounds} rounds"
    notes = {"from nothing": f"{rounds}, packages installed"}
    notes |= {side: f"`{name}`" for side, name in TOUCHED.items()}
    report = make_report(
        "make book",
        list_rows(measured, notes=notes),
        rounds=options.rounds,
        labels={"seconds": "time, s", "cpu_seconds": "time of all cores, s", "megabytes": "memory, MB"},
        digits={"seconds": 0, "cpu_seconds": 0, "megabytes": 0},
        machine=machine,
    )
    finish(report, options.json)


def find_mirror():
    """Find a mirror of the datasets where the Makefile looks for one.

    Returns
    -------
    dict of str to str
        For the environment; the clone lies elsewhere.
    """
    beside = ROOT.parent / "shared" / "datasets"
    return {"BLOODCELLS_MIRROR": str(beside)} if beside.is_dir() else {}


def parse_options():
    """Read the command line.

    Returns
    -------
    argparse.Namespace
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="of the short builds [default: %(default)s]")
    parser.add_argument("--cold-rounds", type=int, default=1, help="from nothing [default: %(default)s]")
    parser.add_argument("--json", metavar="FILE", help="write what was measured")
    options = parser.parse_args()
    if options.rounds < 0 or options.cold_rounds < 1:
        parser.error("--rounds expects at least 0, --cold-rounds at least 1")
    return options


if __name__ == "__main__":
    main()

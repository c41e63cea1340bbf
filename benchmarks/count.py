"""Time and memory of `bloodcells count` beside the tool that the authors of gharbi2023 released.

Both count red cells, white cells and platelets of one image, each in a process of its own, by turns, on the
same machine. What is measured is the whole process, from its start to its end; see README.md.

    python benchmarks/count.py [IMAGE] [--runs 3] [--json FILE]
"""

# Only what Python brings along is imported here: Linux hands the largest memory of this process on to the
# processes that it starts, so it must be smaller than what is measured.
import argparse
import csv
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
OURS, RELEASED = "bloodcells count", "released tool"


def main():
    """Run both sides by turns and print a table."""
    options = parse_options()
    with tempfile.TemporaryDirectory(prefix="bloodcells-benchmark-") as temporary:
        work = Path(temporary)
        image, shape = prepare(options, work)
        cells = ",".join(options.cells)
        commands = {
            OURS: lambda out: [
                *(sys.executable, "-m", "bloodcells", "count", str(image)),
                *("--cells", cells, "--out", str(out)),
            ],
            RELEASED: lambda out: [
                *(sys.executable, str(HERE / "released_tool.py"), str(image)),
                *("--cells", cells, "--out", str(out)),
            ],
        }
        sides = [side for side in commands if options.only in (None, side)]
        measured = {side: [] for side in sides}
        for run in range(options.runs):
            # By turns, so that a slow spell of the machine hits both.
            for side in sides:
                out = work / f"{side.split()[0]}-{run}"
                one = measure(commands[side](out))
                one["counts"] = read_counts(out / "counts.csv", options.cells)
                measured[side].append(one)
                print(f"run {run + 1}, {side}: {one['seconds']:.1f} s, {one['megabytes']:.0f} MB", flush=True)
    report = {
        "image": image.name,
        "rows": shape[0],
        "columns": shape[1],
        "cells": options.cells,
        "machine": describe_machine(),
        "sides": {side: summarise(runs) for side, runs in measured.items()},
    }
    print_table(report)
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=2) + "\n")


def parse_options():
    """Read the command line.

    Returns
    -------
    argparse.Namespace
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", nargs="?", help="a photograph of a smear [default: see README.md]")
    parser.add_argument("--cells", default="rbc,wbc,plt", help="what to count [default: %(default)s]")
    parser.add_argument("--runs", type=int, default=3, help="runs of each side [default: %(default)s]")
    parser.add_argument("--only", choices=(OURS, RELEASED), help="leave the other side out")
    parser.add_argument("--json", metavar="FILE", help="write what was measured")
    options = parser.parse_args()
    options.cells = options.cells.split(",")
    if options.runs < 1:
        parser.error("--runs expects at least 1")
    if unknown := set(options.cells) - {"rbc", "wbc", "plt"}:
        parser.error(f"--cells expects names out of rbc, wbc and plt, got {', '.join(sorted(unknown))}")
    if options.image and not Path(options.image).is_file():
        parser.error(f"{options.image} is no file")
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
    if options.only != OURS:
        command.append("--released")
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{command[1]} failed, see above")
    answer = json.loads(done.stdout)
    return Path(answer["image"]), answer["shape"]


def measure(command):
    """Run a command to its end.

    Parameters
    ----------
    command : list of str

    Returns
    -------
    dict
        "seconds" by the clock, "cpu_seconds" of all cores together, "megabytes" of memory (1,000,000 bytes)
        at the highest.
    """
    with tempfile.TemporaryFile() as output:
        start = time.perf_counter()
        # One process is waited for in place of all, so that its own memory is told.
        process = subprocess.Popen(command, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            lines = output.read().decode(errors="replace").strip().splitlines() or ["no output"]
            sys.exit(f"{' '.join(command)}\nended with status {process.returncode}: {lines[-1]}")
    # Linux counts in units of 1024 bytes, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "megabytes": usage.ru_maxrss * unit / 1e6,
    }


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


def summarise(runs):
    """Take the median, the lowest and the highest of some runs.

    Parameters
    ----------
    runs : list of dict
        From `measure`, with "counts".

    Returns
    -------
    dict
    """
    summary = {"runs": runs, "counts": runs[-1]["counts"]}
    for name in ("seconds", "cpu_seconds", "megabytes"):
        values = [run[name] for run in runs]
        summary[name] = {"median": statistics.median(values), "low": min(values), "high": max(values)}
    return summary


def describe_machine():
    """Name what was measured on.

    Returns
    -------
    dict
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    processor = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:
            processor = next(
                line.split(":", 1)[1].strip() for line in stream if line.startswith("model name")
            )
    except (OSError, StopIteration):
        pass
    return {
        "processor": processor,
        "cores": cores,
        "system": platform.platform(),
        "python": platform.python_version(),
        # Above the number of cores, other work has taken its share of the time.
        "load_average": os.getloadavg()[0],
    }


def print_table(report):
    """Print what was measured, and how many times less the first side needs.

    Parameters
    ----------
    report : dict
    """
    machine = report["machine"]
    print(f"\n{report['image']}, {report['columns']} x {report['rows']} pixels")
    print(f"{machine['processor']}, {machine['cores']} cores, load average {machine['load_average']:.1f}\n")
    sides = report["sides"]
    header = f"{'median (low to high)':24}" + "".join(f"{side:>28}" for side in sides)
    print(header + f"{'ratio':>10}" if len(sides) == 2 else header)
    for name, label, digits in (
        ("seconds", "time, s", 1),
        ("cpu_seconds", "time of all cores, s", 1),
        ("megabytes", "memory, MB", 0),
    ):
        texts = [
            f"{s[name]['median']:.{digits}f} ({s[name]['low']:.{digits}f} to {s[name]['high']:.{digits}f})"
            for s in sides.values()
        ]
        line = f"{label:24}" + "".join(f"{text:>28}" for text in texts)
        if len(sides) == 2:
            line += f"{sides[RELEASED][name]['median'] / sides[OURS][name]['median']:>10.1f}"
        print(line)
    for cell in report["cells"]:
        print(f"{'counted ' + cell:24}" + "".join(f"{s['counts'][cell]:>28}" for s in sides.values()))


if __name__ == "__main__":
    main()

"""What all benchmarks share: whole processes measured, sides by turns, reports in one form.

A report is a dict that goes into a JSON file:

- "title", "command": str; "rounds": int; "machine": dict, see `describe_machine`; "commit", "date": str.
  Of the machine "peak_gflops" is there if it was measured, see `measure_peaks`.
- "labels": dict of str to str, what tables call the figures; the first one is what the sides are compared by.
- "digits": dict of str to int, digits behind the point.
- "ratio_to": str, the side that the others are divided by, within a group; "" for none.
- "rows": list of dict with "group", "side", "figures" (dict of str to dict, see `spread`) and "note".

Only what Python brings along is imported here: Linux hands the largest memory of a process on to those that
it starts, so the one that measures must be smaller than what is measured.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HANDED_ON = "BLOODCELLS_BENCHMARK_MACHINE"
"""Environment variable with what `run_all.py` found out about the machine before it put load on it, JSON."""


def measure(command, **options):
    """Run a command to its end.

    Parameters
    ----------
    command : list of str
    **options
        Of `subprocess.Popen`.

    Returns
    -------
    dict
        "seconds" by the clock, "cpu_seconds" of all cores together, "megabytes" of memory (1,000,000 bytes)
        at the highest.
    """
    with tempfile.TemporaryFile() as output:
        start = time.perf_counter()
        # One process is waited for in place of all, so that its own memory is told.
        process = subprocess.Popen(command, stdout=output, stderr=output, **options)
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


def reset_memory_mark():
    """Set the mark of this process's highest resident memory to what it has now.

    Returns
    -------
    bool
        False where the system can't do that.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return read_memory_mark() is not None


def read_memory_mark():
    """Read the highest resident memory that this process has had since `reset_memory_mark`.

    Returns
    -------
    float or None
        Megabytes (1,000,000 bytes); None where the system doesn't tell.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    # "kB" there are 1024 bytes.
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM:")), None)


def measure_memory_alone(script, *options):
    """Run a script in a process of its own that prints the highest memory it had, as its last line.

    Parameters
    ----------
    script : path-like
        Of Python; prints what `read_memory_mark` returns.
    *options : str
        Of the script.

    Returns
    -------
    float or None
        Megabytes, with those of Python and its libraries; None where the system doesn't tell.
    """
    command = [sys.executable, str(script), *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def add_memory(measured, measure):
    """Add to each side the memory that it takes in a process of its own, where the system tells.

    Parameters
    ----------
    measured : dict of str to dict of str to dict
        From `by_turns`; each side gets "megabytes".
    measure : callable
        Takes the side; returns what `measure_memory_alone` does.
    """
    for side, figures in measured.items():
        if (megabytes := measure(side)) is not None:
            figures["megabytes"] = spread([megabytes])


def by_turns(sides, rounds, *, memory=False, show=print):
    """Call all sides in turn, round after round, so that a slow spell of the machine hits all of them.

    Parameters
    ----------
    sides : dict of str to callable
        Each returns a dict of str to float.
    rounds : int
    memory : bool
        For sides that work in this process: add "megabytes", the highest that its resident memory was during
        the call, if the system tells. What other sides keep loaded is in it.
    show : callable
        Takes a line after each call.

    Returns
    -------
    dict of str to dict of str to dict
        Of each side the `spread` of each figure.
    """
    found = {side: [] for side in sides}
    for number in range(rounds):
        for side, call in sides.items():
            is_marked = memory and reset_memory_mark()
            figures = call()
            found[side].append(figures | ({"megabytes": read_memory_mark()} if is_marked else {}))
            first, value = next(iter(found[side][-1].items()))
            show(f"round {number + 1}, {side}: {value:.3g} {first}", flush=True)
    return {
        side: {name: spread([one[name] for one in calls]) for name in calls[0]}
        for side, calls in found.items()
    }


def spread(values):
    """Return the median, the lowest and the highest of some values.

    Parameters
    ----------
    values : sequence of float

    Returns
    -------
    dict of str to float
        "median", "low" and "high".
    """
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def describe_machine():
    """Name what was measured on.

    Returns
    -------
    dict
        What `run_all.py` handed on stands in place of what holds now, which its benchmarks have made.
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
        "load_average": round(os.getloadavg()[0], 2),
        **json.loads(os.environ.get(HANDED_ON, "{}")),
    }


def measure_peaks():
    """Measure the machine's fastest matrix product, in a process of its own.

    Returns
    -------
    dict of str to float
        GFLOP/s by kind of number, see ``matrix_peak.py``.
    """
    command = [sys.executable, str(ROOT / "benchmarks" / "matrix_peak.py")]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def list_rows(measured, *, group="", notes=None):
    """List the rows of a report.

    Parameters
    ----------
    measured : dict of str to dict
        From `by_turns`.
    group : str
        What the sides have in common, for a table of several groups.
    notes : dict of str to str, optional
        By side.

    Returns
    -------
    list of dict
    """
    notes = notes or {}
    return [
        {"group": group, "side": side, "figures": figures, "note": notes.get(side, "")}
        for side, figures in measured.items()
    ]


def make_report(title, rows, *, rounds, labels, digits, ratio_to="", machine=None):
    """Put together what was measured.

    Parameters
    ----------
    title : str
    rows : list of dict
    rounds : int
    labels, digits, ratio_to
        See the head of this file.
    machine : dict, optional
        As `describe_machine` gave it before the measurement.

    Returns
    -------
    dict
    """
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "title": title,
        "command": " ".join(["python", *sys.argv]),
        "commit": commit or "not known",
        "date": time.strftime("%Y-%m-%d"),
        "rounds": rounds,
        "machine": machine or describe_machine(),
        # What no side has was not to be had on this machine.
        "labels": {
            name: label for name, label in labels.items() if any(name in row["figures"] for row in rows)
        },
        "digits": digits,
        "ratio_to": ratio_to,
        "rows": rows,
    }


def tabulate(report):
    """Turn a report into text, row by row.

    Parameters
    ----------
    report : dict

    Returns
    -------
    list of dict of str to str
        All with the same keys: "" for the group where there is any, "side", the labels of the figures (median
        and range), "ratio" where the report has one, and "note" where a row has one.
    """
    first = next(iter(report["labels"]))
    base = {
        row["group"]: row["figures"][first]["median"]
        for row in report["rows"]
        if row["side"] == report["ratio_to"]
    }
    table = []
    for row in report["rows"]:
        cells = {"group": row["group"], "side": row["side"]}
        for name, label in report["labels"].items():
            cells[label] = _format(row["figures"].get(name), report["digits"][name])
        if base:
            cells["ratio"] = f"{row['figures'][first]['median'] / base[row['group']]:.2f}"
        table.append(cells | {"note": row["note"]})
    unused = [key for key in ("group", "note") if not any(cells[key] for cells in table)]
    return [{key: text for key, text in cells.items() if key not in unused} for cells in table]


def _format(figure, digits):
    """Write a median with its range."""
    if figure is None:
        return ""
    texts = [f"{figure[key]:,.{digits}f}" for key in ("median", "low", "high")]
    return texts[0] if texts[1] == texts[2] else f"{texts[0]} ({texts[1]} to {texts[2]})"


def finish(report, path=None):
    """Print a report, and write it to a file.

    Parameters
    ----------
    report : dict
    path : path-like, optional
        Of a JSON file; its folder is made.
    """
    machine = report["machine"]
    print(f"\n{report['title']}\n{machine['processor']}, {machine['cores']} cores, ", end="")
    print(f"load average {machine['load_average']:.1f}; medians of {report['rounds']} (lowest to highest)")
    for kind, peak in machine.get("peak_gflops", {}).items():
        print(f"largest matrix product in {kind}: {peak:.0f} GFLOP/s")
    print()
    table = tabulate(report)
    widths = {key: max(len(key), *(len(cells[key]) for cells in table)) for key in table[0]}
    for cells in ({key: key for key in widths}, *table):
        print("  ".join(cells[key].ljust(width) for key, width in widths.items()).rstrip())
    if path:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".partial-{path.name}")
        temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        temporary.replace(path)

"""Run all benchmarks, one after the other, keep their reports in ``benchmarks/results``, and draw them.

python benchmarks/run_all.py [--only count,scaling] [--rounds 5]
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from side_by_side import HANDED_ON, measure_peaks

HERE = Path(__file__).resolve().parent
BENCHMARKS = {
    "count": "--runs",
    "scaling": "--rounds",
    "inference": "--rounds",
    "counters": "--rounds",
    "training": "--rounds",
    "ode": "--rounds",
    "book": "--rounds",
}
"""Scripts, in the order of the page, and what each calls its rounds."""


def main():
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(BENCHMARKS), help="[default: %(default)s]")
    parser.add_argument("--rounds", type=int, default=5, help="of each side [default: %(default)s]")
    options = parser.parse_args()
    names = options.only.split(",")
    if unknown := [name for name in names if name not in BENCHMARKS]:
        parser.error(f"--only expects names out of {', '.join(BENCHMARKS)}, got {', '.join(unknown)}")
    if options.rounds < 1:
        parser.error("--rounds expects at least 1")
    # Before anything is run: later on the load is that of the benchmarks themselves.
    load = os.getloadavg()[0]
    machine = {"load_average": round(load, 2)}
    if load > 0.5:
        print(f"Load average {load:.1f}: other work will spoil the times.", file=sys.stderr)
    print("\nThe machine's peak", flush=True)
    try:
        machine["peak_gflops"] = measure_peaks()
    except subprocess.CalledProcessError:
        print("could not be measured, see above; the reports do without it.", file=sys.stderr)
    environment = os.environ | {HANDED_ON: json.dumps(machine)}
    failed = []
    for number, name in enumerate(names, start=1):
        print(f"\n[{number}/{len(names)}] {name}", flush=True)
        command = [sys.executable, f"benchmarks/{name}.py", BENCHMARKS[name], str(options.rounds)]
        command += ["--json", f"benchmarks/results/{name}.json"]
        # One that fails must not keep the others from being measured.
        if subprocess.run(command, cwd=HERE.parent, env=environment, check=False).returncode:
            failed.append(name)
    # In a process of its own, as all that takes memory: this one stays small.
    measured = [name for name in names if name not in failed]
    command = [sys.executable, "workflow/speed.py", *measured]
    if measured and subprocess.run(command, cwd=HERE.parent, check=False).returncode:
        failed.append("the plots")
    if failed:
        sys.exit(f"failed, see above: {', '.join(failed)}")


if __name__ == "__main__":
    main()

"""Peak memory of training steps through an ODE block, measured in a process of its own.

Usage: python -m bloodcells.ode.peak_memory SOLVER:N [SOLVER:N ...]

SOLVER is "dormand_prince", with N the tolerance, or "euler" or "rk4", with N the number of steps. For each
case prints how often f was evaluated on the way there, and by how many mebibytes the process's peak memory
has grown since before the first of them. A peak never falls: give the cases in the order of their needs.
Linux only.
"""

import re
import subprocess
import sys
from pathlib import Path

from bloodcells.errors import UserError

SHAPE = (8, 96, 96, 32)
"""Batch, rows, columns and channels of the feature maps: 9 MiB each."""


def measure_peaks(cases):
    """Run this module in a fresh process, whose peak no earlier work has raised.

    Parameters
    ----------
    cases : sequence of (str, float or int)
        Solvers, with tolerance or number of steps; see the top of this module.

    Returns
    -------
    list of (int, float)
        For each case the evaluations of f, and the growth of the peak so far, in mebibytes.

    Raises
    ------
    UserError
        If the process fails.
    """
    words = [f"{solver}:{number}" for solver, number in cases]
    done = subprocess.run(
        [sys.executable, "-m", __name__, *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UserError(f"The measurement of {' '.join(words)} failed: {done.stderr.strip()[-500:]}")
    lines = [line.split() for line in done.stdout.splitlines()[-len(words) :]]
    return [(int(n_evaluations), float(peak_mib)) for n_evaluations, peak_mib in lines]


def main(cases):
    """Train one step on small maps, which loads the code, then for each case one on maps of `SHAPE`."""
    import numpy as np

    maps = np.random.default_rng(0).normal(size=SHAPE).astype("float32")
    first = None
    for case in cases:
        block, model = _build(*case.split(":"))
        if first is None:
            model.train_on_batch(maps[:1, :8, :8], maps[:1, :8, :8])
            first = _peak_mib()
        n_evaluations = int(block.count_evaluations(maps[:1]))
        model.train_on_batch(maps, maps)
        print(n_evaluations, _peak_mib() - first)


def _build(solver, number):
    """Return an ODE block and a compiled network of it alone."""
    import keras

    from bloodcells.models.ode_block import ODEBlock

    keras.utils.set_random_seed(0)
    own = {"tolerance": float(number)} if solver == "dormand_prince" else {"n_steps": int(number)}
    block = ODEBlock(solver=solver, **own)
    inputs = keras.Input((None, None, SHAPE[-1]))
    model = keras.Model(inputs, block(inputs))
    block.set_weights([0.3 * weight for weight in block.get_weights()])  # a gentle flow
    model.compile(keras.optimizers.SGD(1e-3), "mse")
    return block, model


def _peak_mib():
    """Peak resident memory of this process; `resource` would give the parent's, where that is larger."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


if __name__ == "__main__":
    main(sys.argv[1:])

"""Peak memory of a training step through an ODE block, measured in a process of its own.

Usage: python -m bloodcells.ode.peak_memory SOLVER N

SOLVER is "dormand_prince", with N the tolerance, or "euler" or "rk4", with N the number of steps. Prints how
often f was evaluated on the way there, and the growth of the process's peak memory, in mebibytes. Linux only.
"""

import re
import subprocess
import sys
from pathlib import Path

from bloodcells.errors import UserError

SHAPE = (8, 96, 96, 32)
"""Batch, rows, columns and channels of the feature maps: 9 MiB each."""


def measure(solver, number):
    """Run this module in a fresh process, whose peak no earlier work has raised.

    Parameters
    ----------
    solver : str
        See the top of this module.
    number : float or int
        Tolerance or number of steps.

    Returns
    -------
    n_evaluations : int
    peak_mib : float

    Raises
    ------
    UserError
        If the process fails.
    """
    done = subprocess.run(
        [sys.executable, "-m", __name__, solver, str(number)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UserError(f"The measurement of {solver} {number} failed: {done.stderr.strip()[-500:]}")
    n_evaluations, peak_mib = done.stdout.split()[-2:]
    return int(n_evaluations), float(peak_mib)


def main(solver, number):
    """Take one training step on small feature maps to load all code, then one on those of `SHAPE`."""
    import keras
    import numpy as np

    from bloodcells.models.ode_block import ODEBlock

    keras.utils.set_random_seed(0)
    own = {"tolerance": float(number)} if solver == "dormand_prince" else {"n_steps": int(number)}
    block = ODEBlock(solver=solver, **own)
    inputs = keras.Input((None, None, SHAPE[-1]))
    model = keras.Model(inputs, block(inputs))
    model.compile(keras.optimizers.SGD(1e-3), "mse")
    block.set_weights([0.3 * weight for weight in block.get_weights()])  # a gentle flow
    small = np.zeros((1, 8, 8, SHAPE[-1]), "float32")
    model.train_on_batch(small, small)
    before = _peak_mib()
    h = np.random.default_rng(0).normal(size=SHAPE).astype("float32")
    n_evaluations = int(block.count_evaluations(h[:1]))
    model.train_on_batch(h, np.zeros_like(h))
    print(n_evaluations, _peak_mib() - before)


def _peak_mib():
    """Peak resident memory of this process; `resource` would give the parent's, where that is larger."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


if __name__ == "__main__":
    main(*sys.argv[1:])

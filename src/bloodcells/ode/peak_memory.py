"""Peak memory of a training step through an ODE block, measured in a process of its own.

Usage: python -m bloodcells.ode.peak_memory SOLVER N

SOLVER is "dormand_prince", with N the tolerance, or "euler" or "rk4", with N the number of steps. Prints how
often f was evaluated on the way there, and the growth of the process's peak memory, in mebibytes. Linux only.
"""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bloodcells.errors import UserError

SHAPE = (4, 96, 96, 32)
"""Batch, rows, columns and channels of the feature maps: 4.5 MiB each."""


def measure_peaks(cases):
    """Run this module in a fresh process for each case: a process that has freed memory may keep it.

    Parameters
    ----------
    cases : sequence of (str, float or int)
        Solvers, with tolerance or number of steps; see the top of this module. Two run at a time.

    Returns
    -------
    list of (int, float)
        For each case the evaluations of f, and the growth of the peak, in mebibytes.

    Raises
    ------
    UserError
        If a process fails.
    """
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(_measure, cases))


def _measure(case):
    words = [str(word) for word in case]
    done = subprocess.run(
        [sys.executable, "-m", __name__, *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UserError(f"The measurement of {' '.join(words)} failed: {done.stderr.strip()[-500:]}")
    n_evaluations, peak_mib = done.stdout.split()[-2:]
    return int(n_evaluations), float(peak_mib)


def main(solver, number):
    """Train one step on small maps, which loads the code, then one on maps of `SHAPE`."""
    import keras
    import numpy as np

    from bloodcells.models.ode_block import ODEBlock

    keras.utils.set_random_seed(0)
    own = {"tolerance": float(number)} if solver == "dormand_prince" else {"n_steps": int(number)}
    block = ODEBlock(solver=solver, **own)
    inputs = keras.Input((None, None, SHAPE[-1]))
    model = keras.Model(inputs, block(inputs))
    # A flow that a strict tolerance makes many steps of: 0.3 of He's deviation in both convolutions, the
    # second of which a block starts with a tenth.
    scales = (0.3, 0.3, 0.3, 3.0, 3.0, 3.0)
    block.set_weights([scale * w for scale, w in zip(scales, block.get_weights(), strict=True)])
    model.compile(keras.optimizers.SGD(1e-3), "mse")
    maps = np.random.default_rng(0).normal(size=SHAPE).astype("float32")
    model.train_on_batch(maps[:1, :8, :8], maps[:1, :8, :8])
    before = _peak_mib()
    n_evaluations = int(block.count_evaluations(maps[:1]))
    model.train_on_batch(maps, maps)
    print(n_evaluations, _peak_mib() - before)


def _peak_mib():
    """Peak resident memory of this process; `resource` would give the parent's, where that is larger."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


if __name__ == "__main__":
    main(*sys.argv[1:])

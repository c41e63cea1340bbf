"""Time of the ODE block's solver beside JAX's own, `jax.experimental.ode.odeint`, there and back.

Both solve the same equation, that of an ODE block, by Dormand and Prince's method, with the adjoint method
for the gradients, on the JAX backend, compiled; see README.md.

    python benchmarks/ode.py [--tolerances 1e-2,1e-3,1e-4] [--rounds 5] [--json FILE]
"""

import argparse
import os
import time

os.environ["KERAS_BACKEND"] = "jax"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
import numpy as np
from jax.experimental.ode import odeint
from side_by_side import by_turns, describe_machine, finish, list_rows, make_report

from bloodcells.models.ode_block import ODEBlock
from bloodcells.ode.adjoint import solve

OURS, REFERENCE = "ours", "JAX's odeint"
SHAPE = 4, 24, 24, 16
"""Images, rows, columns and channels of the state: half a batch of chapter 3, one level down."""


def main():
    """Time all sides by turns and print a table."""
    options = parse_options()
    machine = describe_machine()
    rows = []
    for tolerance in options.tolerances:
        sides, state, parameters = build_sides(tolerance, tuple(options.shape))
        for direction in ("there", "there and back"):
            calls = {side: functions[direction] for side, functions in sides.items()}
            results = {side: call(state, parameters) for side, call in calls.items()}  # compiles
            note = describe_difference(results[OURS], results[REFERENCE])

            def run(call, state=state, parameters=parameters):
                start = time.perf_counter()
                jax.block_until_ready(call(state, parameters))
                return {"seconds": time.perf_counter() - start}

            measured = by_turns(
                {side: lambda call=call: run(call) for side, call in calls.items()},
                options.rounds,
                memory=True,
            )
            group = f"tolerance {tolerance:g}, {direction}"
            rows += list_rows(measured, group=group, notes={REFERENCE: note})
    report = make_report(
        f"An ODE block, state of {' x '.join(map(str, options.shape))}",
        rows,
        rounds=options.rounds,
        labels={"seconds": "time, s", "megabytes": "memory, MB"},
        digits={"seconds": 3, "megabytes": 0},
        ratio_to=REFERENCE,
        machine=machine,
    )
    finish(report, options.json)


def describe_difference(ours, theirs):
    """Say how far two results lie apart.

    Parameters
    ----------
    ours, theirs : tuple
        The state, or its gradient; where there is a second item, gradients of the parameters, some arrays.

    Returns
    -------
    str
        The largest difference of an array as a share of the largest value in it, of the first array, and of
        those of the parameters that whose share is largest.
    """
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    first, *others = (float(abs(mine - other).max() / abs(other).max()) for mine, other in pairs)
    more = f", of the parameters {max(others):.1e}" if others else ""
    return f"apart by {first:.1e} of the largest value{more}"


def build_sides(tolerance, shape):
    """Build the functions that are timed.

    Parameters
    ----------
    tolerance : float
        Of ours; the other takes it as the relative and the absolute one, which is the same.
    shape : tuple of int

    Returns
    -------
    sides : dict of str to dict of str to callable
        For each side, "there" returns the state at the end as the only one of a tuple, "there and back" the
        gradients of its sum of squares by state and parameters.
    state : ndarray of float32
    parameters : tuple of ndarray of float32
    """
    rng = np.random.default_rng(0)
    block = ODEBlock()
    block.build(shape)
    state = rng.standard_normal(shape).astype("float32")
    # As large as after some training: the equation takes a few steps.
    parameters = tuple(
        (0.05 * rng.standard_normal(weight.shape)).astype("float32") for weight in block.parameters
    )

    def ours(state, parameters):
        return solve(block.rate, state, parameters, 0.0, 1.0, tolerance=tolerance)

    def reference(state, parameters):
        def rate(h, t, *parameters):
            return block.rate(t, h, *parameters)

        times = np.array([0.0, 1.0], "float32")
        return odeint(rate, state, times, *parameters, rtol=tolerance, atol=tolerance)[-1]

    sides = {}
    for side, function in ((OURS, ours), (REFERENCE, reference)):
        back = jax.grad(lambda *arguments, f=function: (f(*arguments) ** 2).sum(), argnums=(0, 1))
        there = jax.jit(lambda *arguments, f=function: (f(*arguments),))
        sides[side] = {"there": there, "there and back": jax.jit(back)}
    return sides, state, parameters


def parse_options():
    """Read the command line.

    Returns
    -------
    argparse.Namespace
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tolerances", default="1e-2,1e-3,1e-4", help="[default: %(default)s]")
    parser.add_argument("--shape", type=int, nargs=4, default=SHAPE, help="of the state")
    parser.add_argument("--rounds", type=int, default=5, help="[default: %(default)s]")
    parser.add_argument("--json", metavar="FILE", help="write what was measured")
    options = parser.parse_args()
    try:
        options.tolerances = [float(text) for text in options.tolerances.split(",")]
    except ValueError:
        parser.error(f"--tolerances expects numbers, got {options.tolerances}")
    if min(options.tolerances) <= 0 or options.rounds < 1:
        parser.error("--tolerances expects numbers above 0, --rounds at least 1")
    return options


if __name__ == "__main__":
    main()

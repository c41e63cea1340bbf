"""Dormand and Prince's pair of Runge-Kutta methods, with steps as long as a tolerance allows.

It is written here, and not taken from the libraries that have it, because each of these (diffrax,
torchdiffeq, TensorFlow Probability) serves one backend: chapter 3 would run three solvers with three ways to
choose a step, and its counts of evaluations would not compare. The tests hold it against SciPy's.

References
----------
.. [1] J. R. Dormand, P. J. Prince, "A family of embedded Runge-Kutta formulae", Journal of Computational and
   Applied Mathematics 6(1), 1980, pp. 19-26, doi:10.1016/0771-050X(80)90013-3, table 2
.. [2] E. Hairer, S. P. Norsett, G. Wanner, "Solving Ordinary Differential Equations I", 2nd edition,
   Springer, 1993, section II.4 (error, step size, first step)
"""

from keras import ops

from bloodcells.errors import UserError

NODES = (0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1)
STAGES = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
"""The last row is the fifth-order solution: the seventh stage of a step is the first of the next."""
ERROR = (71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
"""Fifth-order weights less fourth-order ones."""

SAFETY, SHRINK, GROW = 0.9, 0.2, 10.0  # [2], section II.4: of the best step; at least, at most of the last
MAX_STEPS = 1000


def integrate(rates, states, start, end, *, tolerance, max_steps=MAX_STEPS):
    """Solve dy/dt = f(t, y) for some tensors at once, and integrate others along the way.

    Parameters
    ----------
    rates : callable
        ``rates(t, *states)``, with the time as a scalar tensor, returns the derivatives of the states, and
        after them any number of further tensors that are only to be integrated.
    states : sequence of tensor of float, shape (N, ...)
        Values at `start`. The first axis counts the images of a batch.
    start, end : float
        Times; `end` may be the earlier one.
    tolerance : float
        Above 0. The estimated error of a step may be `tolerance` times (1 + the state), as the root mean
        square over all states of an image, for each image of the batch. Integrals are not controlled.
    max_steps : int
        Accepted and rejected ones.

    Returns
    -------
    states : list of tensor
        At `end`; not-a-number where `max_steps` did not suffice.
    integrals : list of tensor
        From `start` to `end`, of the further tensors.
    n_evaluations : tensor of int32, scalar
        Calls of `rates`.

    Notes
    -----
    The batch shares its steps, and takes the smallest that one of its images needs. Nothing is stored but the
    stages of one step, so memory does not grow with the number of steps; that is also why no backend can
    differentiate through this loop by itself: see `bloodcells.ode.adjoint`.
    """
    if not tolerance > 0:
        raise UserError(f"`tolerance` must be above 0, got {tolerance!r}.")
    states = [ops.convert_to_tensor(state) for state in states]
    n_states, direction, length = len(states), (1.0 if end >= start else -1.0), abs(end - start)

    def slopes(elapsed, values):
        """Return derivatives by the time that has elapsed, whichever way it runs."""
        return [direction * rate for rate in rates(start + direction * elapsed, *values)]

    def attempt(elapsed, step, values, first):
        """Return new states, increments of the integrals, last stage, and error over tolerance."""
        stages, new = [first], values
        for node, weights in zip(NODES[1:], STAGES[1:], strict=True):
            new = [
                value + step * _combine(weights, [stage[i] for stage in stages])
                for i, value in enumerate(values)
            ]
            stages.append(slopes(elapsed + node * step, new))
        increments = [
            step * _combine(STAGES[-1], [stage[i] for stage in stages[:-1]])
            for i in range(n_states, len(first))
        ]
        errors = [step * _combine(ERROR, [stage[i] for stage in stages]) for i in range(n_states)]
        scales = [ops.maximum(ops.abs(a), ops.abs(b)) for a, b in zip(values, new, strict=True)]
        return new, increments, stages[-1], _norm(errors, scales, tolerance)

    def advance(elapsed, step, n_steps, values, integrals, first):
        step = ops.minimum(step, length - elapsed)
        new, increments, last, error = attempt(elapsed, step, values, first)
        accepted = error <= 1  # false for not-a-number, too
        # What remains is often a rounding error away from the step.
        arrived = elapsed + step >= length * (1 - 1e-6)
        factor = SAFETY * ops.power(ops.maximum(error, 1e-10), -0.2)
        factor = ops.clip(factor, SHRINK, ops.where(accepted, GROW, 1.0))
        factor = ops.where(ops.isfinite(error), factor, SHRINK)

        def choose(after, before):
            return [ops.where(accepted, a, b) for a, b in zip(after, before, strict=True)]

        return (
            ops.where(accepted, ops.where(arrived, length, elapsed + step), elapsed),
            step * factor,
            n_steps + 1,
            choose(new, values),
            choose([a + b for a, b in zip(integrals, increments, strict=True)], integrals),
            choose(last, first),
        )

    zero = ops.convert_to_tensor(0.0, dtype="float32")
    first = slopes(zero, states)
    integrals = [ops.zeros_like(rate) for rate in first[n_states:]]
    step = _first_step(slopes, states, first, tolerance, length)
    elapsed, _, n_steps, states, integrals, _ = ops.while_loop(
        lambda elapsed, *_: elapsed < length,
        advance,
        (zero, step, ops.convert_to_tensor(0, dtype="int32"), states, integrals, first),
        maximum_iterations=max_steps,
    )
    states = [ops.where(elapsed < length, float("nan"), state) for state in states]
    return states, integrals, 2 + (len(NODES) - 1) * n_steps


def _combine(weights, tensors):
    """Weighted sum, without the terms whose weight is 0."""
    return sum(weight * tensor for weight, tensor in zip(weights, tensors, strict=True) if weight)


def _norm(values, scales, tolerance):
    """Root mean square over the states of each image, in units of the tolerance; the largest of the batch."""
    squares, size = 0.0, 0
    for value, scale in zip(values, scales, strict=True):
        ratio = ops.reshape(value / (tolerance * (1 + scale)), (ops.shape(value)[0], -1))
        squares = squares + ops.sum(ops.square(ratio), axis=1)
        size = size + ops.shape(ratio)[1]
    return ops.sqrt(ops.max(squares / ops.cast(size, squares.dtype)))


def _first_step(slopes, states, first, tolerance, length):
    """Guess a first step from the sizes of state, slope and curvature ([2]_, section II.4, algorithm)."""
    n_states = len(states)
    scales = [ops.abs(state) for state in states]
    size = _norm(states, scales, tolerance)
    slope = _norm(first[:n_states], scales, tolerance)
    small = ops.minimum(size, slope) < 1e-5
    trial = ops.minimum(ops.where(small, 1e-6, 0.01 * size / ops.maximum(slope, 1e-5)), length)
    moved = [state + trial * rate for state, rate in zip(states, first, strict=False)]
    second = slopes(trial, moved)[:n_states]
    change = [b - a for a, b in zip(first, second, strict=False)]
    largest = ops.maximum(slope, _norm(change, scales, tolerance) / trial)
    guess = ops.where(
        largest <= 1e-15, ops.maximum(1e-6, 1e-3 * trial), ops.power(0.01 / ops.maximum(largest, 1e-15), 0.2)
    )
    return ops.minimum(ops.minimum(100 * trial, guess), length)

"""Runge-Kutta methods with a given number of equal steps.

References
----------
.. [1] E. Hairer, S. P. Norsett, G. Wanner, "Solving Ordinary Differential Equations I", 2nd edition,
   Springer, 1993, sections I.7 (Euler's method) and II.1 (the classical method of order 4)
"""

from bloodcells.errors import UserError

METHODS = ("euler", "rk4")


def integrate_steps(rate, state, start, end, *, n_steps, method="rk4"):
    """Solve dy/dt = f(t, y) with equal steps; every backend can differentiate through it.

    Parameters
    ----------
    rate : callable
        ``rate(t, state)``.
    state : tensor of float
        At `start`.
    start, end : float
        Times; `end` may be the earlier one.
    n_steps : int
        At least 1. `rate` is called once a step by "euler", four times by "rk4".
    method : {"euler", "rk4"}
        Of order 1 or 4.

    Returns
    -------
    tensor
        At `end`.

    Notes
    -----
    One step of Euler's method, y + (end - start) f(start, y), is a residual block.

    Examples
    --------
    >>> integrate_steps(lambda t, y: 2 * t, 0.0, 0.0, 1.0, n_steps=1, method="rk4")
    1.0
    >>> integrate_steps(lambda t, y: 2 * t, 0.0, 0.0, 1.0, n_steps=4, method="euler")  # t at 0, 1/4, 2/4, 3/4
    0.75
    """
    if method not in METHODS:
        raise UserError(f"`method` must be one of {', '.join(METHODS)}, got {method!r}.")
    if n_steps < 1:
        raise UserError(f"`n_steps` must be at least 1, got {n_steps!r}.")
    step = (end - start) / n_steps
    for i in range(n_steps):
        t = start + i * step
        k1 = rate(t, state)
        if method == "euler":
            state = state + step * k1
            continue
        k2 = rate(t + step / 2, state + step / 2 * k1)
        k3 = rate(t + step / 2, state + step / 2 * k2)
        k4 = rate(t + step, state + step * k3)
        state = state + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return state

"""Times of several calls, measured side by side so that their ratios mean something."""

import gc
import time

import numpy as np

from bloodcells.errors import UserError


def time_in_turn(calls, *, n_repeats=5):
    """Time calls in turn, round after round, and return the median of each.

    Parameters
    ----------
    calls : dict of str to callable
        Without arguments. Each is called once before any is timed.
    n_repeats : int
        Rounds, at least 1. A machine's other work slows a round as a whole, and ratios within it hardly.

    Returns
    -------
    dict of str to float
        Seconds.

    Notes
    -----
    The garbage collector is off meanwhile, as in `timeit`. With many networks in memory it takes as long as a
    prediction, and every round allocates alike: it would fall on the same call each time.
    """
    if n_repeats < 1:
        raise UserError(f"`n_repeats` must be at least 1, got {n_repeats!r}.")
    for call in calls.values():
        call()
    seconds = {name: [] for name in calls}
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for _ in range(n_repeats):
            for name, call in calls.items():
                started = time.perf_counter()
                call()
                seconds[name].append(time.perf_counter() - started)
    finally:
        if was_enabled:
            gc.enable()
    return {name: float(np.median(times)) for name, times in seconds.items()}

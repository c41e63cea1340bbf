"""The adjoint method's memory does not grow with the number of steps; that of back-propagation does."""

import pytest

from bloodcells.errors import UserError
from bloodcells.ode.peak_memory import SHAPE, measure_peaks


def test_memory_against_depth():
    """What is kept for gradients is at least one set of maps an evaluation; an allocator's whims are less."""
    short, loose, tight, long = measure_peaks(
        [("euler", 2), ("dormand_prince", 1e-2), ("dormand_prince", 1e-6), ("euler", 32)]
    )
    maps_mib = 4 * SHAPE[0] * SHAPE[1] * SHAPE[2] * SHAPE[3] / 2**20
    assert (short[0], long[0]) == (2, 32)
    assert long[1] - short[1] > 30 * maps_mib
    assert tight[0] > 3 * loose[0]
    assert abs(tight[1] - loose[1]) < 0.5 * (tight[0] - loose[0]) * maps_mib


def test_a_failed_measurement_says_why():
    with pytest.raises(UserError, match="must be one of dormand_prince, euler, rk4, got 'heun'"):
        measure_peaks([("heun", 3)])

"""The adjoint method's memory does not grow with the number of steps; that of back-propagation does."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from bloodcells.errors import UserError
from bloodcells.ode.peak_memory import SHAPE, measure

CASES = [("euler", 4), ("euler", 28), ("dormand_prince", 1e-2), ("dormand_prince", 1e-6)]


def test_memory_against_depth():
    """Each of Euler's steps keeps at least the maps inside f, after its first convolution."""
    with ThreadPoolExecutor(2) as pool:
        short, long, loose, tight = pool.map(lambda case: measure(*case), CASES)
    assert (short[0], long[0]) == (4, 28)
    maps_mib = 4 * SHAPE[0] * SHAPE[1] * SHAPE[2] * SHAPE[3] / 2**20
    assert long[1] - short[1] > 24 * maps_mib
    assert tight[0] > 3 * loose[0]
    assert abs(tight[1] - loose[1]) < 5 * maps_mib


def test_a_failed_measurement_says_why():
    with pytest.raises(UserError, match="must be one of dormand_prince, euler, rk4, got 'heun'"):
        measure("heun", 3)

"""Equal steps: by hand, and by the order of their convergence."""

import numpy as np
import pytest
from scipy.linalg import expm

from bloodcells.errors import UserError
from bloodcells.ode.fixed_steps import integrate_steps


def test_euler_by_hand():
    """With y' = y + t, two steps of 1/2 from 1 are 1 + 1/2 = 3/2 and 3/2 + (3/2 + 1/2) / 2 = 5/2."""
    assert integrate_steps(lambda t, y: y + t, 1.0, 0.0, 1.0, n_steps=2, method="euler") == 2.5


def test_one_step_of_rk4_by_hand():
    """For y' = y it is the exponential series up to the fourth power: 1 + 1 + 1/2 + 1/6 + 1/24."""
    assert integrate_steps(lambda t, y: y, 1.0, 0.0, 1.0, n_steps=1) == pytest.approx(65 / 24)


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("rk4", 4)])
def test_half_the_step_divides_the_error_by_two_to_the_order(method, order):
    matrix = np.random.default_rng(0).normal(size=(3, 3))
    start = np.array([1.0, -2.0, 0.5])
    exact = expm(matrix) @ start
    errors = [
        np.abs(integrate_steps(lambda t, y: matrix @ y, start, 0, 1, n_steps=n, method=method) - exact).max()
        for n in (64, 128)
    ]
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.1)


def test_backwards_undoes_forwards():
    end = integrate_steps(lambda t, y: -y * t, 2.0, 0.0, 1.0, n_steps=50)
    assert end == pytest.approx(2 * np.exp(-0.5), abs=1e-8)
    assert integrate_steps(lambda t, y: -y * t, end, 1.0, 0.0, n_steps=50) == pytest.approx(2, abs=1e-8)


@pytest.mark.parametrize(("wrong", "message"), [({"n_steps": 0}, "n_steps"), ({"method": "heun"}, "euler")])
def test_refused(wrong, message):
    with pytest.raises(UserError, match=message):
        integrate_steps(lambda t, y: y, 1.0, 0.0, 1.0, **({"n_steps": 1} | wrong))

"""The adaptive solver: its coefficients, known solutions, SciPy's count of evaluations, and its failures."""

import numpy as np
import pytest
from keras import ops
from scipy.integrate import solve_ivp
from scipy.linalg import expm

from bloodcells.errors import UserError
from bloodcells.ode.dormand_prince import ERROR, NODES, STAGES, integrate

RNG = np.random.default_rng(7)
MATRIX = RNG.normal(size=(4, 4)).astype("float32")
START = RNG.normal(size=(3, 4)).astype("float32")


def linear(t, y):
    return [ops.matmul(y, MATRIX.T)]


def test_coefficients_obey_the_conditions_of_order_five():
    """Each row sums to its node; the weights integrate t^0 to t^4 exactly; errors of constants vanish."""
    for node, row in zip(NODES, STAGES, strict=True):
        assert sum(row) == pytest.approx(node, abs=1e-14)
    for power in range(5):
        quadrature = sum(b * c**power for b, c in zip(STAGES[-1], NODES, strict=False))
        assert quadrature == pytest.approx(1 / (power + 1), abs=1e-14)
    for power in range(4):
        difference = sum(e * c**power for e, c in zip(ERROR, NODES, strict=True))
        assert difference == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-3, 1e-4, 1e-5])
def test_a_linear_system_ends_at_the_matrix_exponential(tolerance):
    (end,), _, _ = integrate(linear, [START], 0.0, 1.0, tolerance=tolerance)
    exact = START @ expm(MATRIX).T
    assert np.abs(ops.convert_to_numpy(end) - exact).max() < tolerance * (1 + np.abs(exact).max())


def test_the_error_falls_and_the_work_grows_with_the_tolerance():
    fast = 4 * MATRIX  # so that steps are limited by the error, not by the first guess
    exact, errors, counts = START @ expm(fast).T, [], []
    for tolerance in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5):
        (end,), _, n_evaluations = integrate(
            lambda t, y: [ops.matmul(y, fast.T)], [START], 0.0, 1.0, tolerance=tolerance
        )
        errors.append(np.abs(ops.convert_to_numpy(end) - exact).max())
        counts.append(int(n_evaluations))
    assert errors == sorted(errors, reverse=True)
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


@pytest.mark.parametrize("tolerance", [1e-2, 1e-3, 1e-4, 1e-5])
def test_as_many_evaluations_as_scipys_solver_of_this_method(tolerance):
    """One image, so that the norms agree; the scales differ a little, as do the roundings."""
    start = START[:1]
    (end,), _, n_evaluations = integrate(linear, [start], 0.0, 1.0, tolerance=tolerance)
    scipys = solve_ivp(lambda t, y: MATRIX @ y, (0, 1), start[0], "RK45", rtol=tolerance, atol=tolerance)
    assert abs(int(n_evaluations) - scipys.nfev) <= 6  # one step
    assert ops.convert_to_numpy(end)[0] == pytest.approx(scipys.y[:, -1], abs=5 * tolerance)


def test_back_in_time_is_where_it_started():
    (end,), _, _ = integrate(linear, [START], 0.0, 1.0, tolerance=1e-6)
    (start,), _, _ = integrate(linear, [end], 1.0, 0.0, tolerance=1e-6)
    assert ops.convert_to_numpy(start) == pytest.approx(START, abs=1e-4)
    assert np.abs(ops.convert_to_numpy(end) - START).max() > 0.1


def test_time_reaches_the_rates():
    """dy/dt = 3 t^2 from 2 at t = 1 gives 2 + 27 - 1 at t = 3."""
    (end,), _, _ = integrate(
        lambda t, y: [3 * t**2 * ops.ones_like(y)], [np.full((1, 1), 2, "float32")], 1.0, 3.0, tolerance=1e-3
    )
    assert float(end[0, 0]) == pytest.approx(28, abs=1e-4)


def test_further_tensors_are_integrated_along_the_way():
    """From 0 to 1 the integral of e^t is e - 1, and that of 2t is 1; back again they are negative."""
    one = np.ones((1, 1), "float32")

    def rates(t, y):
        return [y, ops.sum(y), 2 * t]

    (end,), integrals, _ = integrate(rates, [one], 0.0, 1.0, tolerance=1e-5)
    assert [float(value) for value in integrals] == pytest.approx([np.e - 1, 1], abs=1e-4)
    (start,), integrals, _ = integrate(rates, [end], 1.0, 0.0, tolerance=1e-5)
    assert [float(value) for value in integrals] == pytest.approx([1 - np.e, -1], abs=1e-4)
    assert float(start[0, 0]) == pytest.approx(1, abs=1e-4)


def test_two_states_of_different_shapes_are_solved_together():
    """The system y' = z, z' = -y is a turn by one radian, z with an axis more."""

    def turn(t, y, z):
        return [z[:, 0], -y[:, None]]

    y, z = np.ones((2, 3), "float32"), np.zeros((2, 1, 3), "float32")
    (y, z), _, _ = integrate(turn, [y, z], 0.0, 1.0, tolerance=1e-5)
    assert ops.convert_to_numpy(y) == pytest.approx(np.full((2, 3), np.cos(1)), abs=1e-4)
    assert ops.convert_to_numpy(z) == pytest.approx(np.full((2, 1, 3), -np.sin(1)), abs=1e-4)


def test_one_difficult_image_makes_the_batch_take_its_steps():
    """The others stand still; a mean over the batch would forget the one."""
    rates = np.zeros((64, 1), "float32")
    rates[3] = 20.0

    def decay(t, y):
        return [-rates * y]

    (end,), _, n_evaluations = integrate(decay, [np.ones((64, 1), "float32")], 0.0, 1.0, tolerance=1e-3)
    (_,), _, alone = integrate(lambda t, y: [-20 * y], [np.ones((1, 1), "float32")], 0.0, 1.0, tolerance=1e-3)
    assert int(n_evaluations) == int(alone)
    end = ops.convert_to_numpy(end)[:, 0]
    assert end[3] == pytest.approx(np.exp(-20), abs=1e-3)
    assert (np.delete(end, 3) == 1).all()


@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered")
def test_a_solution_that_cannot_be_had_is_no_number():
    one = np.ones((1, 1), "float32")
    (end,), _, n_evaluations = integrate(lambda t, y: [-50 * y], [one], 0.0, 1.0, tolerance=1e-5, max_steps=3)
    assert np.isnan(float(end[0, 0]))
    assert int(n_evaluations) == 2 + 6 * 3
    (end,), _, _ = integrate(lambda t, y: [y / 0.0], [one], 0.0, 1.0, tolerance=1e-3, max_steps=5)
    assert np.isnan(float(end[0, 0]))


def test_no_way_to_go_is_no_change():
    (end,), _, _ = integrate(linear, [START], 0.5, 0.5, tolerance=1e-3)
    assert np.array_equal(ops.convert_to_numpy(end), START)


@pytest.mark.parametrize("tolerance", [0, -1e-3, float("nan")])
def test_a_tolerance_must_be_above_zero(tolerance):
    with pytest.raises(UserError, match="tolerance"):
        integrate(linear, [START], 0.0, 1.0, tolerance=tolerance)

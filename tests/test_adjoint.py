"""Gradients by the adjoint equation: against a solution in closed form, differences, and back-propagation."""

import numpy as np
import pytest
from keras import ops
from scipy.linalg import expm

from bloodcells.errors import UserError
from bloodcells.ode import vjp
from bloodcells.ode.adjoint import solve
from bloodcells.ode.fixed_steps import integrate_steps
from bloodcells.ode.vjp import vector_jacobian

RNG = np.random.default_rng(3)
STATE = RNG.normal(size=(2, 3)).astype("float32")
MATRIX, BIAS = RNG.normal(size=(3, 3)).astype("float32"), RNG.normal(size=3).astype("float32")
VECTOR = RNG.normal(size=(2, 3)).astype("float32")


def rate(t, y, matrix, bias):
    """Smooth, and neither linear nor the same at all times."""
    return ops.tanh(ops.matmul(y, matrix) + t * bias)


def final(state, matrix, bias, tolerance=1e-5):
    return solve(rate, state, (matrix, bias), 0.0, 1.0, tolerance=tolerance)


def tensors(*arrays):
    return [ops.convert_to_tensor(array) for array in arrays]


def gradients(function, *arrays):
    value, products = vector_jacobian(function, tensors(*arrays), ops.convert_to_tensor(VECTOR))
    return ops.convert_to_numpy(value), [ops.convert_to_numpy(product) for product in products]


def test_the_gradient_of_a_linear_system_is_the_transposed_exponential():
    _, (by_state, _) = gradients(
        lambda y, a: solve(lambda t, y, a: ops.matmul(y, a), y, (a,), 0.0, 1.0, tolerance=1e-6), STATE, MATRIX
    )
    assert by_state == pytest.approx(VECTOR @ expm(MATRIX).T, abs=1e-4)


def test_the_gradient_of_a_scalar_equation_by_hand():
    """Of y' = a y the solution is e^a y, with slopes e^a by y and e^a y by a; backwards e^-a and -e^-a y."""
    y, a = np.full((1, 1), 2, "float32"), np.float32(0.7)
    for start, end, sign in ((0.0, 1.0, 1), (1.0, 0.0, -1)):
        value, (by_y, by_a) = vector_jacobian(
            lambda y, a, start=start, end=end: solve(
                lambda t, y, a: a * y, y, (a,), start, end, tolerance=1e-6
            ),
            tensors(y, a),
            ops.ones((1, 1)),
        )
        factor = np.exp(sign * 0.7)
        assert [float(value[0, 0]), float(by_y[0, 0]), float(by_a)] == pytest.approx(
            [2 * factor, factor, sign * 2 * factor], abs=1e-4
        )


def test_gradients_are_those_of_finite_differences():
    arrays, step = (STATE, MATRIX, BIAS), 1e-2
    _, products = gradients(final, *arrays)
    for which, product in enumerate(products):
        direction = RNG.normal(size=product.shape).astype("float32")
        ends = []
        for sign in (1, -1):
            moved = [*arrays]
            moved[which] = moved[which] + sign * step * direction
            ends.append(ops.convert_to_numpy(final(*tensors(*moved), tolerance=1e-6)))
        slope = (VECTOR * (ends[0] - ends[1])).sum() / (2 * step)
        assert (product * direction).sum() == pytest.approx(slope, rel=2e-3, abs=2e-3)


def test_gradients_are_those_of_back_propagation_through_many_small_steps():
    arrays = (STATE, MATRIX, BIAS)
    value, adjoint = gradients(final, *arrays)
    exact, direct = gradients(
        lambda y, a, b: integrate_steps(lambda t, y: rate(t, y, a, b), y, 0.0, 1.0, n_steps=30), *arrays
    )
    assert value == pytest.approx(exact, abs=1e-4)
    for one, other in zip(adjoint, direct, strict=True):
        assert one == pytest.approx(other, abs=1e-4)


def test_gradients_improve_with_the_tolerance():
    arrays = (3 * STATE, 3 * MATRIX, BIAS)
    exact = gradients(lambda *arrays: final(*arrays, tolerance=1e-6), *arrays)[1]
    errors = []
    for tolerance in (1e-1, 1e-3, 1e-5):
        found = gradients(lambda *arrays, tolerance=tolerance: final(*arrays, tolerance=tolerance), *arrays)[
            1
        ]
        errors.append(max(np.abs(a - b).max() for a, b in zip(found, exact, strict=True)))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.01 * errors[0]


def test_vector_jacobian_by_hand():
    """Of (x^2 y, z apart) at x = 3, y = 5: 2 x y and x^2, times the vector; z has no part in it."""
    x, y, z = (np.full(2, value, "float32") for value in (3, 5, 7))
    value, products = vector_jacobian(
        lambda x, y, z: x * x * y, tensors(x, y, z), ops.convert_to_tensor(np.array([1, 2], "float32"))
    )
    assert ops.convert_to_numpy(value).tolist() == [45, 45]
    assert [ops.convert_to_numpy(p).tolist() for p in products] == [[30, 60], [9, 18], [0, 0]]


def test_a_backend_without_gradients_is_refused(monkeypatch):
    monkeypatch.setattr(vjp.keras.backend, "backend", lambda: "numpy")
    with pytest.raises(UserError, match="numpy"):
        vector_jacobian(lambda x: x, tensors(STATE), STATE)

"""The ODE block as a layer: what it solves, what it saves, and that two backends agree."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops
from scipy.ndimage import correlate

from bloodcells.errors import UserError
from bloodcells.models.ode_block import ODEBlock, count_evaluations, set_tolerance

H = np.random.default_rng(0).normal(size=(2, 6, 5, 3)).astype("float32")


def make(scale=0.15, *, smooth=False, **arguments):
    """Make a block whose weights are small enough for a gentle flow; the same for all solvers.

    A smooth one has a first bias so large that its ReLUs stay in their linear half: where a ReLU switches,
    the Jacobian jumps, and gradients are exact only as far as a solver's steps happen to meet that moment.
    """
    block = ODEBlock(**arguments)
    block.build(H.shape)
    rng = np.random.default_rng(1)
    weights = [scale * rng.normal(size=weight.shape) for weight in block.get_weights()]
    weights[2] += 8 * smooth
    block.set_weights(weights)
    return block


def as_model(block):
    inputs = keras.Input(H.shape[1:])
    return keras.Model(inputs, block(inputs))


def test_rate_by_hand():
    """Two of SciPy's convolutions; the time is a fourth channel, t in the image and 0 around it."""
    block = make()
    kernel1, time1, bias1, kernel2, time2, bias2 = block.get_weights()

    def convolve(x, kernel, bias):
        planes = [
            sum(correlate(x[..., i], kernel[..., i, j], mode="constant") for i in range(x.shape[-1]))
            + bias[j]
            for j in range(kernel.shape[-1])
        ]
        return np.stack(planes, axis=-1)

    t = 0.6
    channel = np.full((6, 5, 1), t)
    x = convolve(np.concatenate([H[0], channel], -1), np.concatenate([kernel1, time1], 2), bias1)
    x = convolve(np.concatenate([np.maximum(x, 0), channel], -1), np.concatenate([kernel2, time2], 2), bias2)
    assert ops.convert_to_numpy(block.rate(t, H, *block.parameters))[0] == pytest.approx(x, abs=1e-4)


def test_the_solution_is_that_of_many_small_steps():
    exact = make(solver="rk4", n_steps=64)(H)
    adaptive = make(tolerance=1e-5)(H)
    assert ops.convert_to_numpy(adaptive) == pytest.approx(ops.convert_to_numpy(exact), abs=1e-3)
    euler = make(solver="euler", n_steps=1)(H)
    assert np.abs(ops.convert_to_numpy(euler) - ops.convert_to_numpy(exact)).max() > 0.01


def test_one_step_of_euler_is_a_residual_block():
    """The same weights in two convolutions with a shortcut; at time 0 nothing comes from the time."""
    block = make(solver="euler", n_steps=1)
    inputs = keras.Input(H.shape[1:])
    x = keras.layers.Conv2D(3, 3, padding="same", activation="relu", name="one")(inputs)
    x = keras.layers.Conv2D(3, 3, padding="same", name="two")(x)
    residual = keras.Model(inputs, keras.layers.Add()([inputs, x]))
    kernel1, _, bias1, kernel2, _, bias2 = block.get_weights()
    residual.get_layer("one").set_weights([kernel1, bias1])
    residual.get_layer("two").set_weights([kernel2, bias2])
    assert ops.convert_to_numpy(block(H)) == pytest.approx(ops.convert_to_numpy(residual(H)), abs=1e-5)


def test_all_weights_learn():
    model = as_model(make(tolerance=1e-3))
    before = model.get_weights()
    model.compile(keras.optimizers.SGD(0.01), "mse")
    losses = model.fit(H, np.zeros_like(H), epochs=4, verbose=0).history["loss"]
    assert losses == sorted(losses, reverse=True)
    for old, new in zip(before, model.get_weights(), strict=True):
        assert (old != new).all()


def test_gradients_of_both_kinds_train_alike():
    """One large step of gradient descent from equal weights, by the adjoint and through equal steps."""
    ends = []
    for arguments in ({"tolerance": 1e-5}, {"solver": "rk4", "n_steps": 8}):
        model = as_model(make(smooth=True, **arguments))
        model.compile(keras.optimizers.SGD(0.1), "mse")
        model.fit(H, np.zeros_like(H), verbose=0)
        ends.append(model.get_weights())
    for one, other in zip(*ends, strict=True):
        assert one == pytest.approx(other, abs=1e-3)


def test_a_looser_tolerance_after_training_needs_no_more_evaluations():
    block = make(scale=0.2, tolerance=1e-6)
    strict, n_strict = ops.convert_to_numpy(block(H)), int(block.count_evaluations(H))
    block.tolerance = 1e-1
    loose, n_loose = ops.convert_to_numpy(block(H)), int(block.count_evaluations(H))
    assert n_loose < n_strict
    assert 0 < np.abs(loose - strict).max() < 1


def test_another_tolerance_reaches_a_network_that_has_predicted_already():
    model = as_model(make(scale=0.2, tolerance=1e-6))
    before, n_before = model.predict(H, verbose=0), count_evaluations(model, H)
    set_tolerance(model, 1e-1)
    after, n_after = model.predict(H, verbose=0), count_evaluations(model, H)
    assert (n_after < n_before).all(axis=None)
    assert 0 < np.abs(after - before).max() < 1
    with pytest.raises(UserError, match="tolerance"):
        set_tolerance(model, 0)


@pytest.mark.parametrize(("solver", "n"), [("euler", 5), ("rk4", 20)])
def test_evaluations_of_equal_steps(solver, n):
    assert int(make(solver=solver, n_steps=5).count_evaluations(H)) == n


def test_evaluations_of_a_network_by_block():
    inputs = keras.Input(H.shape[1:])
    x = ODEBlock(solver="rk4", n_steps=2, name="first")(inputs)
    x = ODEBlock(tolerance=1e-3, name="second")(keras.layers.ReLU()(x))
    model = keras.Model(inputs, x)
    weights = len(model.weights)
    counts = count_evaluations(model, H)
    assert list(counts.columns) == ["first", "second"]
    assert counts["first"].tolist() == [8, 8]
    assert ((counts["second"] - 2) % 6 == 0).all()
    assert len(model.weights) == weights
    assert count_evaluations(keras.Model(inputs, keras.layers.ReLU()(inputs)), H).shape == (2, 0)


def test_evaluations_are_those_of_each_image_alone():
    """Small maps hardly leave the neighbourhood of 0, where the error counts absolutely."""
    model = as_model(make(scale=0.3, tolerance=1e-5))
    block = model.layers[-1]
    both = np.stack([0.1 * H[0], 20 * H[0]])
    counts = count_evaluations(model, both)[block.name]
    alone = [int(block.count_evaluations(one[None])) for one in both]
    assert (np.abs(counts - alone) <= 6).all()  # compiled, roundings differ, and may cost a step
    assert counts[0] + 12 < counts[1]


def test_saved_and_loaded(tmp_path):
    model = as_model(make(tolerance=1e-4))
    model.save(tmp_path / "block.keras")
    loaded = keras.models.load_model(tmp_path / "block.keras")
    assert np.array_equal(loaded.predict(H, verbose=0), model.predict(H, verbose=0))
    again = ODEBlock.from_config(make(solver="rk4", n_steps=3, tolerance=1e-2).get_config())
    assert (again.solver, again.n_steps, again.tolerance) == ("rk4", 3, 1e-2)


def test_float32_whatever_the_policy():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        block = ODEBlock(tolerance=1e-3)
        assert block(H.astype("float16")).dtype == "float32"
    finally:
        keras.config.set_dtype_policy(before)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"tolerance": 0}, "tolerance"), ({"solver": "heun"}, "rk4"), ({"n_steps": 0}, "n_st")],
)
def test_refused(wrong, message):
    with pytest.raises(UserError, match=message):
        ODEBlock(**wrong)


OTHER_BACKEND = """
import json, sys, keras, numpy as np
from keras import ops
from bloodcells.models.ode_block import ODEBlock
from bloodcells.ode.vjp import vector_jacobian
from bloodcells.ode.adjoint import solve
given = np.load(sys.argv[1])
h, vector, parameters = given["h"], given["vector"], [given[f"p{i}"] for i in range(6)]
block = ODEBlock(tolerance=1e-5)
block.build(h.shape)
block.set_weights(parameters)
tensors = [ops.convert_to_tensor(array) for array in (h, *parameters)]
value, products = vector_jacobian(
    lambda h, *p: solve(ODEBlock.rate, h, p, 0.0, 1.0, tolerance=1e-5), tensors, ops.convert_to_tensor(vector)
)
print(json.dumps({
    "backend": keras.backend.backend(),
    "value": ops.convert_to_numpy(block(h)).tolist(),
    "n": int(block.count_evaluations(tensors[0])),
    "gradients": [ops.convert_to_numpy(product).tolist() for product in products],
}))
"""


def test_the_same_on_two_backends(tmp_path):
    arrays = {f"p{i}": weight for i, weight in enumerate(make(smooth=True).get_weights())}
    vector = np.random.default_rng(2).normal(size=H.shape).astype("float32")
    np.savez(tmp_path / "given.npz", h=H, vector=vector, **arrays)
    found = []
    for backend in ("tensorflow", "jax"):
        done = subprocess.run(
            [sys.executable, "-c", OTHER_BACKEND, str(tmp_path / "given.npz")],
            env=os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout.splitlines()[-1]))
    one, other = found
    assert [one["backend"], other["backend"]] == ["tensorflow", "jax"]
    assert one["n"] == other["n"]
    assert np.array(one["value"]) == pytest.approx(np.array(other["value"]), abs=1e-3)
    for a, b in zip(one["gradients"], other["gradients"], strict=True):
        assert np.array(a) == pytest.approx(np.array(b), rel=1e-3, abs=1e-3)

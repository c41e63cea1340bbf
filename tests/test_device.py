import keras
import pytest

from bloodcells import device
from bloodcells.errors import UserError


def test_the_precision_reaches_the_layers():
    try:
        device.prepare_device("mixed_bfloat16")
        assert keras.layers.Dense(1).compute_dtype == "bfloat16"
    finally:
        device.prepare_device("float32")
    assert keras.layers.Dense(1).compute_dtype == "float32"


def test_the_device_is_named():
    name = device.prepare_device()
    assert name == device.describe_device()
    assert name.startswith(("CPU (", "GPU ("))
    assert not name.endswith("()")


def test_unknown_precisions_are_refused():
    with pytest.raises(UserError, match="mixed_float16, got 'half'"):
        device.prepare_device("half")


@pytest.mark.parametrize(
    ("backend", "name", "chosen"),
    [
        ("tensorflow", "CPU (some, 2 threads)", False),
        ("tensorflow", "GPU (some)", "auto"),
        ("jax", "CPU (some, 2 threads)", "auto"),
    ],
)
def test_steps_are_compiled_where_it_pays(monkeypatch, backend, name, chosen):
    monkeypatch.setattr(device.keras.backend, "backend", lambda: backend)
    monkeypatch.setattr(device, "describe_device", lambda: name)
    assert device.choose_compilation("auto") == chosen
    assert device.choose_compilation("on") is True
    assert device.choose_compilation("off") is False


def test_unknown_ways_of_compiling_are_refused():
    with pytest.raises(UserError, match="auto, on, off, got True"):
        device.choose_compilation(True)

"""One training on several devices. JAX makes several out of one processor, in processes of their own."""

import json
import os
import subprocess
import sys

import keras
import pytest

from bloodcells import device, distribution
from bloodcells.errors import UserError

# Ten validation images and batches of eight: the last batch, of two, can't be shared by four devices.
TRAINING = """
import json, sys
import keras, numpy as np
from bloodcells import device
from bloodcells.augment import AffineRanges
from bloodcells.errors import UserError
from bloodcells.training import AugmentedBatches, train

name = device.prepare_device()
rng = np.random.default_rng(0)
images = rng.integers(0, 256, (10, 8, 8, 3)).astype("uint8")
masks = (images[..., 0] > 127).astype("uint8")
keras.utils.set_random_seed(0)
model = keras.Sequential([
    keras.layers.Input((8, 8, 3)),
    keras.layers.Rescaling(1 / 255),
    # What follows would cancel a bias: its gradient is but rounding, and Adam makes large steps of that.
    keras.layers.Conv2D(4, 3, padding="same", use_bias=False),
    # This ties the images of a batch together: it must see all of them, not a device's share.
    keras.layers.BatchNormalization(),
    keras.layers.ReLU(),
    keras.layers.Conv2D(2, 1, activation="softmax"),
])
batches = AugmentedBatches(
    images, masks, ranges=AffineRanges(), batch_size=int(sys.argv[1]), steps_per_epoch=3, seed=0
)
try:
    history = train(
        model, batches, (images, masks), epochs=2, optimizer=keras.optimizers.Adam(0.01), seed=0,
        run_dir=sys.argv[2], progress=False,
    )
except UserError as error:
    print(json.dumps({"error": str(error)}))
    sys.exit()
kernel = model.trainable_variables[0].value
print(json.dumps({
    "device": name,
    "shared by": len(kernel.sharding.device_set),
    "loss": history["loss"].tolist(),
    "val_loss": history["val_loss"].tolist(),
    "predicted": model.predict(images, batch_size=8, verbose=0)[..., 1].mean(axis=(1, 2)).tolist(),
}))
"""


def train_on(n_devices, folder, *, batch_size=8, n_logical=4):
    environment = os.environ | {
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={n_logical}",
        "BLOODCELLS_DEVICES": str(n_devices),
    }
    command = [sys.executable, "-c", TRAINING, str(batch_size), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_four_devices_train_as_one_does(tmp_path):
    pytest.importorskip("jax")
    one, four = train_on(1, tmp_path / "one"), train_on(4, tmp_path / "four")
    assert (one["shared by"], four["shared by"]) == (1, 4)
    assert four["device"] == f"4 x {one['device']}"
    for name in ("loss", "val_loss", "predicted"):
        assert four[name] == pytest.approx(one[name], rel=1e-4)
    assert one["loss"][1] < one["loss"][0]


def test_batches_that_do_not_divide_are_refused(tmp_path):
    pytest.importorskip("jax")
    found = train_on(4, tmp_path, batch_size=6)
    assert "A batch of 6 images can't be shared evenly by 4 devices" in found["error"]


def test_more_devices_than_there_are_and_other_backends_are_refused():
    assert keras.backend.backend() == "tensorflow"
    with pytest.raises(UserError, match=r"needs Keras on JAX \(KERAS_BACKEND=jax\), got tensorflow"):
        distribution.spread(2)
    with pytest.raises(UserError, match="at least 1, got 0"):
        distribution.spread(0)
    distribution.spread(1)
    assert distribution.count_devices() == 1


def test_more_devices_than_there_are_is_an_error(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: ["gpu:0", "gpu:1"])
    with pytest.raises(UserError, match="Expected 3 devices, found 2: gpu:0, gpu:1"):
        distribution.spread(3)


def test_the_environment_names_a_number(monkeypatch):
    monkeypatch.setenv("BLOODCELLS_DEVICES", "all")
    with pytest.raises(
        UserError, match="BLOODCELLS_DEVICES expects a number of devices, such as 4, got 'all'"
    ):
        device.prepare_device()

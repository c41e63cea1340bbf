"""What goes wrong around a training: it is killed, the disk is full, another trains in the same folder."""

import os
import shutil
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from bloodcells import training
from bloodcells.augment import AffineRanges
from bloodcells.errors import UserError
from bloodcells.files import hold_folder
from bloodcells.weights_io import load_weights

# The tiny training of below, in a process that can write no file above a limit of bytes.
TRAIN = """
import resource
import keras
sys.path.insert(0, {tests!r})
from bloodcells.errors import UserError
from test_faults_training import train

def main(folder, epochs, limit=resource.RLIM_INFINITY):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        train(folder, epochs)
    except UserError as error:
        print(error)
        sys.exit(2)
"""


def squares(n, seed):
    """Draw n images of 16 x 16 with one bright square, and their masks."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 60, (n, 16, 16, 3), dtype=np.uint8)
    masks = np.zeros((n, 16, 16), dtype=np.uint8)
    for i in range(n):
        row, column = rng.integers(1, 9, size=2)
        masks[i, row : row + 6, column : column + 6] = 1
    images[masks == 1] += 150
    return images, masks


def build_network():
    """Build a network that has all that must be restored: weights, means, dropout."""
    return keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            keras.layers.Conv2D(4, 3, padding="same"),
            keras.layers.BatchNormalization(momentum=0.9),
            keras.layers.Dropout(0.3),
            keras.layers.Conv2D(2, 1, activation="softmax"),
        ]
    )


def train(folder, epochs, **options):
    """Train the network of `build_network`, a step an epoch."""
    keras.utils.set_random_seed(0)
    model = build_network()
    batches = training.AugmentedBatches(
        *squares(6, 0), ranges=AffineRanges(flip_columns=True), batch_size=4, steps_per_epoch=1, seed=0
    )
    history = training.train(
        model,
        batches,
        squares(2, 1),
        epochs=epochs,
        optimizer=keras.optimizers.Adam(0.003),
        seed=0,
        run_dir=folder,
        **({"progress": False} | options),
    )
    if folder is not None:
        np.savez(Path(folder) / "trained.npz", *model.get_weights())
    return model, history


@pytest.fixture
def process(launch, request):
    """Return what runs trainings in processes of their own."""
    return launch(TRAIN.format(tests=str(request.path.parent)))


def read_history(folder):
    return pd.read_csv(folder / "history.csv").drop(columns="seconds")


def check_same(folder, whole):
    """Check that a training came out as another one, to the last bit."""
    pd.testing.assert_frame_equal(read_history(folder), read_history(whole), check_exact=True)
    with np.load(folder / "trained.npz") as found, np.load(whole / "trained.npz") as expected:
        assert found.files == expected.files
        for name in found.files:
            np.testing.assert_array_equal(found[name], expected[name])
    names = [{path.name for path in place.iterdir()} - {".lock"} for place in (folder, whole)]
    assert names[0] == names[1]


def list_checkpoints(folder):
    return sorted(folder.glob("checkpoint-*"))


def count_epochs(folder):
    """Return how many epochs the last checkpoint has."""
    checkpoints = list_checkpoints(folder)
    return int(checkpoints[-1].name.split("-")[1].split(".")[0]) if checkpoints else 0


def check_kills(process, tmp_path, n_kills, epochs):
    """Kill trainings at random moments and finish in the end; compare with a training that nobody kills."""
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    status, said = process.run(str(whole), epochs)
    assert status == 0, said
    expected = read_history(whole)
    rng = np.random.default_rng(0)
    n_done = 0
    for _ in range(n_kills):
        process.start(str(folder), epochs)
        n_wanted = n_done + rng.integers(0, 3)
        process.kill_when(lambda n=n_wanted: count_epochs(folder) >= n, rng.uniform(0, 0.1))
        n_left = count_epochs(folder)
        assert n_done <= n_left < epochs
        n_done = n_left
        if (folder / "training.json").exists():
            assert (folder / "training.json").read_text() == (whole / "training.json").read_text()
        if n_done:
            # The history is written first.
            history = read_history(folder)
            assert n_done <= len(history) <= n_done + 1
            pd.testing.assert_frame_equal(history, expected.head(len(history)), check_exact=True)
        for path in folder.glob("[!.]*.weights.h5"):
            load_weights(build_network(), path, cure="")  # refuses a damaged file
    assert n_done > 0
    status, said = process.run(str(folder), epochs)
    assert status == 0, said
    check_same(folder, whole)


def test_a_killed_training_ends_as_one_that_nobody_kills(process, tmp_path):
    check_kills(process, tmp_path, n_kills=3, epochs=60)


@pytest.mark.long
def test_a_training_killed_25_times(process, tmp_path):
    check_kills(process, tmp_path, n_kills=25, epochs=400)


def test_a_full_disk_is_said_and_keeps_what_was_trained(process, tmp_path):
    """A limit of the size of files stands in for the disk: once there is room for no checkpoint."""
    whole, folder = tmp_path / "whole", tmp_path / "out"
    assert process.run(str(whole), 3)[0] == 0
    complaint = f"Can't write to {folder} (File too large); make room, or choose another folder.\n"
    for epochs in (1, 3):
        assert process.run(str(folder), epochs, 5000) == (2, complaint)
        left = list_checkpoints(folder)
        assert len(left) == epochs // 2
        assert not list(folder.glob(".partial-*"))
        status, said = process.run(str(folder), epochs)
        assert status == 0, said
    check_same(folder, whole)


def test_two_trainings_in_one_folder(tmp_path):
    with (
        hold_folder(tmp_path),
        pytest.raises(UserError, match=r"Another process is writing to .*; wait for it, or choose another"),
    ):
        train(tmp_path, 1)
    # It ends with the training, however that ends.
    train(tmp_path, 1)
    with pytest.raises(UserError, match="another training"):
        train(tmp_path, 1, loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    train(tmp_path, 2)


def test_a_folder_that_is_read_only(tmp_path, ordinary_user):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"Can't write to .*below \(Not a directory\); make room"):
        train(tmp_path / "file" / "below", 1)
    # Not in tmp_path, which is closed to the other user that root turns into.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        with (
            ordinary_user(),
            pytest.raises(UserError, match=r"Can't write to .* \(Permission denied\); make room"),
        ):
            train(folder, 1)
        folder.chmod(0o755)
        assert list(folder.iterdir()) == []


def test_a_clock_that_jumps_changes_nothing(tmp_path, monkeypatch):
    """Neither the time of day nor the dates of files count, backwards or forwards."""
    train(tmp_path / "whole", 4)
    jumps, real = iter(range(10**6)), time.time
    jumpy = lambda: real() + (-1) ** next(jumps) * 10**7  # noqa: E731
    monkeypatch.setattr(time, "time", jumpy)
    monkeypatch.setattr("tqdm.std.time", jumpy)  # the progress bar has its own name for it
    folder = tmp_path / "out"
    for epochs, year in ((1, 2**32), (2, 0), (4, 0)):
        train(folder, epochs, progress=True)
        old = folder / "checkpoint-00000.weights.h5"
        if epochs == 2:
            # As if killed before it was removed: older by its name, newer by its date.
            shutil.copy(list_checkpoints(folder)[0], old)
        for path in folder.iterdir():
            os.utime(path, (year, year))
        if old.exists():
            os.utime(old, (2**32, 2**32))
    check_same(folder, tmp_path / "whole")
    assert next(jumps) > 0
    seconds = pd.read_csv(folder / "history.csv")["seconds"]
    assert seconds.between(0, 10**6).all()


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """Return a training of two epochs, and one of three, as they lie in their folders."""
    folders = [tmp_path_factory.mktemp("begun") / name for name in ("two", "three")]
    for folder, epochs in zip(folders, (2, 3), strict=True):
        train(folder, epochs)
    return folders


@pytest.mark.parametrize(
    "name", ["training.json", "history.csv", "best.weights.h5", "checkpoint-00002.weights.h5"]
)
def test_a_file_that_is_lost(begun, tmp_path, name):
    """What can be done without is; what can't be is named."""
    two, three = begun
    folder = shutil.copytree(two, tmp_path / "out")
    (folder / name).unlink()
    if name in ("history.csv", "best.weights.h5"):
        with pytest.raises(UserError, match=rf"{name} .*; remove {folder} to train again from the start\."):
            train(folder, 3)
        shutil.rmtree(folder)
    train(folder, 3)
    check_same(folder, three)

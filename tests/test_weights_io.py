"""Sealed files of weights: they come back, and nothing else does."""

import os

import keras
import numpy as np
import pytest

from bloodcells.errors import UserError
from bloodcells.weights_io import NO_NOTE, load_weights, save_weights

CURE = "save the network again"


def network(n=3, *, optimizer="adam"):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(n)])
    if optimizer:
        model.compile(optimizer=optimizer, loss="mse")
    return model


def weights_of(model):
    return [variable.numpy() for variable in (*model.variables, *model.optimizer.variables)]


@pytest.mark.parametrize("note", [NO_NOTE, "0123456789abcdef" * 4])
def test_weights_optimizer_and_note_come_back(tmp_path, note):
    path = tmp_path / "a.weights.h5"
    saved, read, plain = network(), network(), network(optimizer=None)
    saved.fit(np.ones((2, 4)), np.ones((2, 3)), verbose=0)
    save_weights(saved, path, note=note)
    read.optimizer.build(read.trainable_variables)
    assert load_weights(read, path, cure=CURE) == note
    for mine, theirs in zip(weights_of(read), weights_of(saved), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    # It is a file of Keras all the same.
    plain.load_weights(path)
    np.testing.assert_array_equal(plain.get_weights()[0], saved.get_weights()[0])
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_such_file_is_refused(tmp_path):
    path = tmp_path / "a.weights.h5"
    with pytest.raises(
        UserError, match=r"a\.weights\.h5 can't be read \(No such file or directory\); save the"
    ):
        load_weights(network(), path, cure=CURE)
    save_weights(network(), path)
    with pytest.raises(UserError, match=r"a\.weights\.h5 has the weights of another network; save the"):
        load_weights(network(4), path, cure=CURE)
    # Without a seal nobody knows whether it is whole.
    network().save_weights(path)
    with pytest.raises(UserError, match=r"a\.weights\.h5 is damaged; save the"):
        load_weights(network(), path, cure=CURE)


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.weights.h5"
    model = network()
    save_weights(model, path)
    before = path.read_bytes()
    # The kernel answers each write with "no space left".
    monkeypatch.setattr("tempfile.mkstemp", lambda **options: full_file(tmp_path))
    with pytest.raises(OSError, match="No space left on device"):
        save_weights(model, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def full_file(folder):
    name = folder / ".partial-full"
    name.symlink_to("/dev/full")
    return os.open(name, os.O_RDWR), str(name)

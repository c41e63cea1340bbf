"""Training: the batches, the best weights, and a run that is killed and continued."""

import signal
import subprocess
import sys
import textwrap
import time

import keras
import numpy as np
import pandas as pd
import pytest

from bloodcells import training
from bloodcells.augment import AffineRanges
from bloodcells.errors import UserError

RANGES = AffineRanges(rotation_degrees=40, shift_rows=0.1, shift_columns=0.1, zoom=0.1, flip_columns=True)


def squares(n, seed=0):
    """Images of 16 x 16 with one bright square, and its mask."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 60, (n, 16, 16, 3), dtype=np.uint8)
    masks = np.zeros((n, 16, 16), dtype=np.uint8)
    for i in range(n):
        row, column = rng.integers(1, 9, size=2)
        masks[i, row : row + 6, column : column + 6] = 1
    images[masks == 1] += 150
    return images, masks


def batches(*, seed=0, n=10, ranges=RANGES, steps_per_epoch=3):
    return training.AugmentedBatches(
        *squares(n), ranges=ranges, batch_size=4, steps_per_epoch=steps_per_epoch, seed=seed
    )


def tiny_network():
    """As small as can be with all that a resumed run must restore: weights, running means, dropout."""
    return keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(8, 3, padding="same", use_bias=False),
            keras.layers.BatchNormalization(momentum=0.9),
            keras.layers.ReLU(),
            keras.layers.Dropout(0.3),
            keras.layers.Conv2D(2, 1, activation="softmax"),
        ]
    )


def fit(run_dir=None, *, epochs=3, seed=0, validation=None, **options):
    keras.utils.set_random_seed(seed)
    model = tiny_network()
    history = training.train(
        model,
        batches(seed=seed),
        validation or squares(4, seed=1),
        epochs=epochs,
        optimizer=keras.optimizers.Adam(0.01),
        seed=seed,
        run_dir=run_dir,
        progress=False,
        **options,
    )
    return model, history


def test_batches_depend_on_seed_epoch_and_step_only():
    one, other = batches(), batches()
    one[2]
    for epoch in (1, 0):
        one.epoch = other.epoch = epoch
        for a, b in zip(one[1], other[1], strict=True):
            np.testing.assert_array_equal(a, b)
    first = one[1][0]
    assert (batches(seed=1)[1][0] != first).any()
    one.epoch = 1
    assert (one[1][0] != first).any()
    one.epoch = 0
    assert (one[0][0] != first).any()


def test_every_image_comes_once_before_any_comes_again():
    images = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    plain = training.AugmentedBatches(
        images, images[..., 0], ranges=AffineRanges(), batch_size=4, steps_per_epoch=5, seed=0
    )
    stream = np.concatenate([plain[step][1][:, 0, 0] for step in range(5)])
    assert sorted(stream[:10]) == sorted(stream[10:]) == list(range(10))
    assert (stream[:10] != stream[10:]).any()


def test_images_and_masks_stay_together():
    bright, mask = batches()[0]
    inside = bright[mask == 1].mean()
    outside = bright[mask == 0].mean()
    assert inside > 120 > 60 > outside


def test_the_loss_falls_and_the_best_weights_are_kept():
    model, history = fit(epochs=8)
    assert list(history["epoch"]) == list(range(1, 9))
    assert history["loss"].iloc[-1] < 0.7 * history["loss"].iloc[0]
    loss = keras.losses.SparseCategoricalCrossentropy()
    images, masks = squares(4, seed=1)
    assert float(loss(masks, model.predict(images, verbose=0))) == pytest.approx(
        history["val_loss"].min(), rel=1e-4
    )


@pytest.mark.parametrize("is_slow", [False, True], ids=["quick to save", "slow to save"])
@pytest.mark.parametrize("inverted", [False, True], ids=["the last is best", "the first is best"])
def test_a_continued_run_is_the_same_as_one_never_stopped(tmp_path, inverted, is_slow):
    """With masks inverted for validation, what is learned makes it worse: the first epoch stays best."""
    images, masks = squares(4, seed=1)
    validation = images, 1 - masks if inverted else masks
    whole_model, whole = fit(tmp_path / "whole", epochs=4, validation=validation)
    assert whole["val_loss"].idxmin() == (0 if inverted else 3)

    class KilledError(Exception):
        pass

    # Stop in the middle of the third epoch, the way a killed process stops: no tidying up.
    def fail_in_third_epoch(self, batch, logs=None):
        if len(self.rows) == 2 and batch == 1:
            raise KilledError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training._Epochs, "on_train_batch_end", fail_in_third_epoch)
        if is_slow:
            patch.setattr(training._Store, "is_due", lambda store: False)
        with pytest.raises(KilledError):
            fit(tmp_path / "parts", epochs=4, validation=validation)
    # The best epoch is saved at any rate: its weights are nowhere else.
    n_saved = 1 if is_slow and inverted else 2
    assert len(pd.read_csv(tmp_path / "parts" / "history.csv")) == n_saved

    model, history = fit(tmp_path / "parts", epochs=4, validation=validation)
    pd.testing.assert_frame_equal(history.drop(columns="seconds"), whole.drop(columns="seconds"))
    for a, b in zip(model.get_weights(), whole_model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_where_saving_takes_longer_than_a_second_it_takes_a_tenth_of_the_time(tmp_path, monkeypatch):
    class Clock:
        now = 0.0

        def perf_counter(self):
            return self.now

    clock, saved = Clock(), []
    begin, save = training._Epochs.on_epoch_begin, training.save_weights

    def last_8_seconds(self, epoch, logs=None):
        begin(self, epoch, logs)
        clock.now += 8

    def take_2_seconds(model, *paths, note):
        save(model, *paths, note=note)
        clock.now += 2
        saved.append(paths[-1].name)

    monkeypatch.setattr(training, "time", clock)
    monkeypatch.setattr(training._Epochs, "on_epoch_begin", last_8_seconds)
    monkeypatch.setattr(training, "save_weights", take_2_seconds)
    keras.utils.set_random_seed(0)
    model = tiny_network()
    options = {"optimizer": keras.optimizers.Adam(0.01), "seed": 0, "run_dir": tmp_path, "progress": False}
    history = training.train(model, batches(), epochs=6, **options)
    # The first ends at 10 s; 18 s later ends the third after it; the last is saved at any rate.
    assert saved == [f"checkpoint-{n:05d}.weights.h5" for n in (1, 4, 6)]
    assert list(history["seconds"]) == [8] * 6
    assert len(pd.read_csv(tmp_path / "history.csv")) == 6


@pytest.mark.parametrize(("n_cores", "n_workers"), [(1, 1), (2, 1), (4, 3), (64, 4)])
def test_one_core_is_left_to_the_training_loop(monkeypatch, n_cores, n_workers):
    monkeypatch.setattr(training, "count_threads", lambda: n_cores)
    assert training.count_workers() == n_workers


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import test_training
_, history = test_training.fit({folder!r}, epochs=12)
history.drop(columns="seconds").to_csv({folder!r} + "/final.csv")
"""


def test_kill_9_at_any_moment_loses_nothing_but_the_epoch_under_way(tmp_path, request):
    tests = str(request.path.parent)

    def start(folder):
        script = textwrap.dedent(SCRIPT.format(tests=tests, folder=str(folder)))
        return subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)

    killed = tmp_path / "killed"
    process = start(killed)
    # As soon as a first checkpoint exists: wherever the training is then.
    deadline = time.monotonic() + 120
    while not list(killed.glob("checkpoint-*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(pd.read_csv(killed / "history.csv"))
    assert 1 <= done < 12, "the process ended before it could be killed"
    assert not (killed / "final.csv").exists()

    assert start(killed).wait() == 0
    _, whole = fit(tmp_path / "whole", epochs=12)
    found = pd.read_csv(killed / "final.csv", index_col=0)
    pd.testing.assert_frame_equal(found, whole.drop(columns="seconds"), rtol=1e-6)
    assert [path.name for path in killed.glob("checkpoint-*")] == ["checkpoint-00012.weights.h5"]
    assert list(killed.glob(".partial-*")) == []


def test_a_finished_run_is_read_and_not_repeated(tmp_path):
    model, history = fit(tmp_path)
    checkpoint = next(tmp_path.glob("checkpoint-*"))
    before = checkpoint.stat().st_mtime_ns
    again, same = fit(tmp_path)
    assert checkpoint.stat().st_mtime_ns == before
    pd.testing.assert_frame_equal(history, same)
    for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_folder_of_another_training_is_refused(tmp_path):
    fit(tmp_path, epochs=1)
    with pytest.raises(UserError, match=r"another training .*seed"):
        fit(tmp_path, epochs=1, seed=1)


def test_more_epochs_than_asked_for_are_refused(tmp_path):
    fit(tmp_path, epochs=2)
    with pytest.raises(UserError, match="holds 2 epochs"):
        fit(tmp_path, epochs=1)


def test_a_loss_that_is_not_a_number_stops_the_run(tmp_path):
    keras.utils.set_random_seed(0)
    model = tiny_network()
    with pytest.raises(UserError, match="loss became nan"):
        training.train(
            model,
            batches(),
            squares(4),
            epochs=2,
            optimizer=keras.optimizers.SGD(float("inf")),
            seed=0,
            run_dir=tmp_path,
            progress=False,
        )
    assert not list(tmp_path.glob("checkpoint-*"))


def test_a_validation_loss_that_is_not_a_number_stops_the_run(tmp_path, monkeypatch):
    """The best epoch is the one of the lowest validation loss, and of nan there is none."""
    evaluate = keras.Model.evaluate
    monkeypatch.setattr(
        keras.Model, "evaluate", lambda *args, **kwargs: evaluate(*args, **kwargs) | {"loss": float("nan")}
    )
    with pytest.raises(UserError, match="loss of the validation images became nan in epoch 1"):
        fit(tmp_path, epochs=2)
    assert not list(tmp_path.glob("checkpoint-*"))


def test_bad_arrays_are_refused():
    images, masks = squares(3)
    options = {"ranges": RANGES, "batch_size": 2, "steps_per_epoch": 1, "seed": 0}
    with pytest.raises(UserError, match="uint8 of shape"):
        training.AugmentedBatches(images / 255, masks, **options)
    with pytest.raises(UserError, match=r"\(3, 16, 16\), got uint8 of shape \(2, 16, 16\)"):
        training.AugmentedBatches(images, masks[:2], **options)
    with pytest.raises(UserError, match="at least one image"):
        training.AugmentedBatches(images[:0], masks[:0], **options)
    with pytest.raises(UserError, match="at least 1, got 0 and 1"):
        training.AugmentedBatches(images, masks, **(options | {"batch_size": 0}))
    with pytest.raises(UserError, match="AffineRanges, got dict"):
        training.AugmentedBatches(images, masks, **(options | {"ranges": {}}))
    with pytest.raises(UserError, match="`epochs` must be at least 1"):
        fit(epochs=0)


@pytest.mark.parametrize(
    ("loss", "epoch"),
    [
        ([1.0], 1),
        ([1.0, 1.0, 1.0], 1),  # a curve that never falls is on its plateau from the start
        ([1.0, 0.5, 0.0], 3),
        ([1.0, 0.04, 0.0], 2),  # within 5 % of the fall
        ([1.0, 0.0, 0.2, 0.0], 4),  # left the plateau once more
    ],
)
def test_plateau_epoch_by_hand(loss, epoch):
    assert training.plateau_epoch(loss) == epoch


def test_plateau_epoch_needs_numbers():
    with pytest.raises(UserError, match="finite"):
        training.plateau_epoch([1.0, float("nan")])


def fit_standstill(run_dir=None, *, epochs=9, patience=2):
    """Train without learning anything: the first epoch is the best."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(2, 1, activation="softmax")])
    return training.train(
        model,
        batches(),
        squares(4, seed=1),
        epochs=epochs,
        optimizer=keras.optimizers.SGD(0.0),
        seed=0,
        patience=patience,
        run_dir=run_dir,
        progress=False,
    )


def test_training_stops_when_patience_is_over():
    assert list(fit_standstill(patience=2)["epoch"]) == [1, 2, 3]
    assert len(fit_standstill(patience=2, epochs=2)) == 2


def test_a_training_that_stopped_early_is_not_continued(tmp_path):
    first = fit_standstill(tmp_path)
    pd.testing.assert_frame_equal(fit_standstill(tmp_path), first, check_exact=False)
    assert len(fit_standstill(tmp_path, patience=3)) == 4


@pytest.mark.parametrize(("patience", "validation"), [(0, True), (2, False)])
def test_patience_needs_epochs_and_validation(patience, validation):
    with pytest.raises(UserError, match="`patience` must be at least 1 and needs validation images"):
        training.train(
            tiny_network(),
            batches(),
            squares(4) if validation else None,
            epochs=1,
            optimizer=keras.optimizers.Adam(),
            seed=0,
            patience=patience,
        )


def test_brightness_changes_images_as_wholes_and_masks_never():
    none = AffineRanges(rotation_degrees=0)
    options = {"ranges": none, "batch_size": 4, "steps_per_epoch": 3, "seed": 0}
    images, masks = squares(10)
    plain, lit = (
        training.AugmentedBatches(images, masks, brightness=value, **options)[1] for value in (0.0, 0.3)
    )
    np.testing.assert_array_equal(plain[1], lit[1])
    factors = []
    for before, after in zip(*(one[0].astype(float) for one in (plain, lit)), strict=True):
        clear = (before > 20) & (after < 255)
        factors.append(np.median(after[clear] / before[clear]))
        np.testing.assert_allclose(after[clear], factors[-1] * before[clear], atol=1)
    assert len(set(np.round(factors, 3))) == 4
    assert 0.7 <= min(factors) < max(factors) <= 1.3


def test_brightness_is_part_of_what_identifies_a_training():
    images, masks = squares(10)
    options = {"ranges": RANGES, "batch_size": 4, "steps_per_epoch": 3, "seed": 0}
    hashes = {
        training.AugmentedBatches(images, masks, brightness=value, **options).fingerprint()
        for value in (0.0, 0.1, 0.2)
    }
    assert len(hashes) == 3
    with pytest.raises(UserError, match="`brightness` must be at least 0 and below 1, got 1"):
        training.AugmentedBatches(images, masks, brightness=1, **options)

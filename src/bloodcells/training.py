"""Training that can be stopped at any moment and continued with the same result."""

import contextlib
import hashlib
import inspect
import io
import json
import re
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from tqdm import tqdm

from bloodcells.augment import AffineRanges, apply_affine, random_affine
from bloodcells.device import count_threads
from bloodcells.distribution import check_batch_size
from bloodcells.errors import UserError
from bloodcells.files import hold_folder, read_json_object, write_json, write_text
from bloodcells.weights_io import load_weights, save_weights

BEST_WEIGHTS = "best.weights.h5"
HISTORY = "history.csv"


def count_workers():
    """Return how many threads prepare a training's batches.

    Returns
    -------
    int
        One less than the cores that this process may use, as the training loop has one; from 1 to 4. More of
        them would stand in each other's and the loop's way, since Python runs one thread at a time.
    """
    return min(max(count_threads() - 1, 1), 4)


class AugmentedBatches(keras.utils.PyDataset):
    """Batches of randomly distorted images, the same for the same seed, epoch and step.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, rows, columns, 3)
    masks : ndarray of uint8, shape (N, rows, columns)
        Class of each pixel.
    ranges : AffineRanges
        The distortions.
    batch_size, steps_per_epoch : int
    seed : int
    brightness : float
        Share, in [0, 1), by which an image may become darker or brighter.
    workers : int, optional
        Threads that prepare batches while the network trains. Default: `count_workers`, at least 2.

    Notes
    -----
    Images are taken in shuffled order, each once before any comes again. Nothing is remembered between
    batches: an epoch is rebuilt from its number alone, which is what makes resuming exact.
    """

    def __init__(
        self, images, masks, *, ranges, batch_size, steps_per_epoch, seed, brightness=0.0, workers=None
    ):
        workers = workers or max(count_workers(), 2)
        super().__init__(workers=workers, use_multiprocessing=False, max_queue_size=8)
        _check_images_and_masks(images, masks)
        if batch_size < 1 or steps_per_epoch < 1:
            raise UserError(
                "`batch_size` and `steps_per_epoch` must be at least 1, "
                f"got {batch_size} and {steps_per_epoch}."
            )
        if not isinstance(ranges, AffineRanges):
            raise UserError(f"`ranges` must be AffineRanges, got {type(ranges).__name__}.")
        if not 0 <= brightness < 1:
            raise UserError(f"`brightness` must be at least 0 and below 1, got {brightness}.")
        self.images, self.masks, self.ranges, self.brightness = images, masks, ranges, brightness
        self.batch_size, self.steps_per_epoch, self.seed = batch_size, steps_per_epoch, seed
        self.epoch = 0

    def __len__(self):
        return self.steps_per_epoch

    def __getitem__(self, step):
        pairs = []
        for slot, index in enumerate(self.images_of(step)):
            rng = np.random.default_rng([self.seed, 1, self.epoch, step, slot])
            matrix = random_affine(self.ranges, self.masks.shape[1:], rng)
            image, mask = apply_affine(self.images[index], self.masks[index], matrix)
            if self.brightness:
                factor = 1 + rng.uniform(-self.brightness, self.brightness)
                image = np.clip(np.rint(image * factor), 0, 255).astype(np.uint8)
            pairs.append((image, mask))
        images, masks = zip(*pairs, strict=True)
        return np.stack(images), np.stack(masks)

    def images_of(self, step):
        """List the images that a batch of this epoch is made from.

        Parameters
        ----------
        step : int

        Returns
        -------
        list of int
            Positions in `images`.
        """
        start = (self.epoch * self.steps_per_epoch + step) * self.batch_size
        return [self._image_at(position) for position in range(start, start + self.batch_size)]

    def _image_at(self, position):
        """Index of the image at a position of the endless stream of shuffled passes over the images."""
        n_images = len(self.images)
        order = np.random.default_rng([self.seed, 0, position // n_images]).permutation(n_images)
        return order[position % n_images]

    def fingerprint(self):
        """Return a hash of all that decides the batches.

        Returns
        -------
        str
        """
        digest = hashlib.sha256(np.ascontiguousarray(self.images))
        digest.update(np.ascontiguousarray(self.masks))
        settings = (self.ranges, self.batch_size, self.steps_per_epoch, self.seed)
        # Named only where it is used, so that trainings without it keep the hash that they began with.
        digest.update(repr(settings + ((self.brightness,) if self.brightness else ())).encode())
        return digest.hexdigest()


def train(
    model,
    batches,
    validation=None,
    *,
    epochs,
    optimizer,
    seed,
    loss=None,
    patience=None,
    run_dir=None,
    jit_compile="auto",
    progress=True,
):
    """Train a network, keeping the best weights, or without validation images the last.

    Parameters
    ----------
    model : keras.Model
        Images to class probabilities over the last axis (or, with a loss of your own, to what that takes).
        Ends with the weights of the epoch whose validation loss was lowest.
    batches : AugmentedBatches or bloodcells.tile_batches.TileBatches
        Training data.
    validation : tuple of ndarray, optional
        Images, uint8, shape (N, rows, columns, 3), and masks, uint8, shape (N, rows, columns); or, with
        `bloodcells.label_batches.LabelledBatches`, classes, shape (N,).
    epochs : int
        Number of epochs, at least 1.
    optimizer : keras.optimizers.Optimizer
    seed : int
        Decides the dropout masks, epoch by epoch.
    loss : keras.losses.Loss, optional
        Categorical cross-entropy of whole-number classes by default.
    patience : int, optional
        Stop early when the validation loss has had no new lowest value for this many epochs.
    run_dir : path-like, optional
        Folder for the checkpoint, the best weights and ``history.csv``. When it holds the checkpoint
        of the same training, training goes on from there; of another one, or a damaged one, `UserError`.
        So it is when the folder can't be written, or another process trains in it. The checkpoint is written
        after each epoch; where writing takes longer than a second, after as many as keep it under a tenth of
        the time, after the last one, and whenever the validation loss has a new lowest value.
    jit_compile : bool or "auto"
        Whether the backend's compiler fuses the training step; ``"auto"`` leaves it to Keras.
    progress : bool
        Show a progress bar.

    Returns
    -------
    pandas.DataFrame
        One row an epoch: ``epoch`` (from 1), ``loss``, ``seconds``; with validation ``val_loss``; with the
        default loss ``mean_iou`` and with validation ``val_mean_iou`` (mean over classes, background
        included; means over pixels of all images).

    Notes
    -----
    The initial weights are the caller's: call `keras.utils.set_random_seed` before building the model.
    A resumed run repeats the stopped one exactly on the same machine, backend and thread count: the
    batches and dropout masks depend on (seed, epoch) only, weights and optimizer state come from the
    checkpoint.
    """
    if epochs < 1:
        raise UserError(f"`epochs` must be at least 1, got {epochs}.")
    if hasattr(batches, "batch_size"):
        # Keras would find out with its threads running, and these can end the process badly.
        check_batch_size(batches.batch_size)
    if validation is not None:
        images, masks = validation
        # Where whole images have classes there are no masks to check.
        _check_images_and_masks(images, masks if masks.ndim > 1 else np.zeros(images.shape[:3], np.uint8))
    if patience is not None and (patience < 1 or validation is None):
        raise UserError(
            f"`patience` must be at least 1 and needs validation images, got {patience}"
            f"{' and no images' if validation is None else ''}."
        )
    metrics = []
    if loss is None:
        loss, n_classes = keras.losses.SparseCategoricalCrossentropy(), model.output_shape[-1]
        metrics = [keras.metrics.MeanIoU(num_classes=n_classes, sparse_y_pred=False, name="mean_iou")]
    model.compile(optimizer=optimizer, loss=loss, metrics=metrics, jit_compile=jit_compile)
    optimizer.build(model.trainable_variables)

    with hold_folder(run_dir) if run_dir is not None else contextlib.nullcontext():
        store = None
        if run_dir is not None:
            store = _Store(run_dir, _fingerprint(model, batches, validation, seed))
        rows, best_weights = store.resume(model) if store else ([], None)
        if len(rows) > epochs:
            raise UserError(f"{run_dir} holds {len(rows)} epochs already, more than the {epochs} asked for.")
        best = _Best(model, rows)
        if rows:
            best.weights = best_weights

        bar = tqdm(
            total=epochs * len(batches), initial=len(rows) * len(batches), unit="step", disable=not progress
        )
        callback = _Epochs(model, batches, seed, rows, best, store, bar, patience)
        if len(rows) < epochs and not _is_stuck(rows, patience):
            model.fit(
                batches,
                initial_epoch=len(rows),
                epochs=epochs,
                validation_data=validation,
                validation_batch_size=batches.batch_size,
                shuffle=False,
                verbose=0,
                callbacks=[callback],
            )
        bar.close()
    model.set_weights(best.weights)
    return pd.DataFrame(rows)


def plateau_epoch(loss, *, tolerance=0.05):
    """Return the epoch from which a loss stays near its lowest value.

    Parameters
    ----------
    loss : sequence of float
        One value an epoch.
    tolerance : float
        Share of the whole fall, from the first value to the lowest, that counts as near.

    Returns
    -------
    int
        Epoch, counted from 1.

    Examples
    --------
    >>> plateau_epoch([1.0, 0.5, 0.04, 0.3, 0.03, 0.0, 0.01])
    5
    """
    loss = np.asarray(loss, dtype=float)
    if loss.ndim != 1 or loss.size == 0 or not np.isfinite(loss).all():
        raise UserError(f"`loss` must be a non-empty list of finite numbers, got {loss!r}.")
    above = np.flatnonzero(loss - loss.min() > tolerance * (loss[0] - loss.min()))
    return int(above[-1]) + 2 if above.size else 1


def _is_stuck(rows, patience):
    """Whether the last `patience` epochs brought no lowest validation loss."""
    if patience is None or not rows:
        return False
    return len(rows) - 1 - int(np.argmin([row["val_loss"] for row in rows])) >= patience


class _Best:
    """The weights of the best epoch so far, in memory."""

    def __init__(self, model, rows):
        self.model = model
        self.loss = min((row["val_loss"] for row in rows if "val_loss" in row), default=np.inf)
        self.weights = model.get_weights()

    def update(self, val_loss):
        if val_loss is None or val_loss < self.loss:  # without validation the latest counts as the best
            self.loss, self.weights = val_loss, self.model.get_weights()
            return True
        return False


class _Epochs(keras.callbacks.Callback):
    """Reseed at each epoch's start; record, save and report at its end."""

    def __init__(self, model, batches, seed, rows, best, store, bar, patience):
        super().__init__()
        self.batches, self.seed, self.patience = batches, seed, patience
        self.rows, self.best, self.store, self.bar = rows, best, store, bar
        batches.epoch = len(rows)
        self._reseed(model, len(rows))

    @staticmethod
    def _generators(model):
        # Nested models are walked too; dropout layers hold their generator under this name.
        return [layer.seed_generator for layer in model._flatten_layers() if hasattr(layer, "seed_generator")]

    def _reseed(self, model, epoch):
        for i, generator in enumerate(self._generators(model)):
            state = np.random.default_rng([self.seed, 2, epoch, i]).integers(2**31, size=2)
            generator.state.assign(state.astype("uint32"))

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.bar.update()

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch + 1}
        row |= {name: float(value) for name, value in logs.items()}
        for name in ("loss", "val_loss"):
            if not np.isfinite(row.get(name, 0)):
                where = " of the validation images" if name == "val_loss" else ""
                raise UserError(
                    f"The loss{where} became {row[name]} in epoch {epoch + 1}. "
                    "Lower the learning rate, or check the masks."
                )
        row["seconds"] = time.perf_counter() - self.started
        self.rows.append(row)
        val_loss = row.get("val_loss")
        improved = self.best.update(val_loss)
        # The batches of the next epoch are requested only after this callback.
        self.batches.epoch = epoch + 1
        self._reseed(self.model, epoch + 1)
        stuck = _is_stuck(self.rows, self.patience)
        # Of validation's best epoch nothing else is kept; without validation the next checkpoint is as good.
        must_save = (improved and val_loss is not None) or stuck or len(self.rows) == self.params["epochs"]
        if self.store and (must_save or self.store.is_due()):
            self.store.save(self.model, self.rows, improved=improved)
        losses = {name: f"{row[name]:.3f}" for name in ("loss", "val_loss") if name in row}
        self.bar.set_postfix(epoch=epoch + 1, **losses)
        if stuck:
            self.model.stop_training = True


class _Store:
    """Checkpoint, best weights and history of one training, in one folder.

    The history is written first and the checkpoint last. Whatever is killed in between leaves the
    previous checkpoint in charge: longer histories are cut to it, and a newer best file is written
    again with the same content when its epoch is repeated. A checkpoint knows the history it goes with.
    """

    def __init__(self, run_dir, fingerprint):
        self.folder = Path(run_dir)
        self.fingerprint = fingerprint
        self._cure = f"remove {self.folder} to train again from the start"
        self._ended = self._cost = 0.0  # of the last save: when, on the clock, and its seconds

    def is_due(self):
        """Whether to save again: where a GPU has epochs shorter than the disk needs, not after each."""
        return self._cost < 1 or time.perf_counter() - self._ended >= 9 * self._cost

    def _checkpoints(self):
        return sorted(self.folder.glob("checkpoint-*.weights.h5"))

    def resume(self, model):
        """Load the last checkpoint into `model`; return the rows of its epochs and the best weights."""
        identity = self.folder / "training.json"
        if identity.exists():
            try:
                found = read_json_object(identity)
            except ValueError as error:
                raise UserError(f"{identity} is damaged; {self._cure}.") from error
            if found != self.fingerprint:
                named = sorted(self.fingerprint | found)
                parts = ", ".join(k for k in named if found.get(k) != self.fingerprint.get(k))
                raise UserError(
                    f"{self.folder} belongs to another training (they differ in: {parts}). "
                    "Give another folder, or remove this one."
                )
        else:
            write_json(identity, self.fingerprint)
        checkpoints = self._checkpoints()
        if not checkpoints:
            return [], None
        n_epochs = int(re.fullmatch(r"checkpoint-(\d+)\.weights\.h5", checkpoints[-1].name)[1])
        # Loading brings the optimizer along: that of the checkpoint must be the last.
        load_weights(model, self.folder / BEST_WEIGHTS, cure=self._cure)
        best = model.get_weights()
        note = load_weights(model, checkpoints[-1], cure=self._cure)
        history = self.folder / HISTORY
        text = history.read_text(encoding="utf-8", errors="replace") if history.exists() else ""
        text = "".join(text.splitlines(keepends=True)[: n_epochs + 1])
        if _hash_text(text) != note:
            raise UserError(f"{history} is damaged, or not of {checkpoints[-1].name}; {self._cure}.")
        return pd.read_csv(io.StringIO(text)).to_dict("records"), best

    def save(self, model, rows, *, improved):
        began = time.perf_counter()
        history = pd.DataFrame(rows).to_csv(index=False)
        write_text(self.folder / HISTORY, history)
        old = self._checkpoints()
        paths = [self.folder / f"checkpoint-{len(rows):05d}.weights.h5"]
        if improved:
            paths.insert(0, self.folder / BEST_WEIGHTS)
        save_weights(model, *paths, note=_hash_text(history))
        for path in old:
            path.unlink()
        self._ended = time.perf_counter()
        self._cost = self._ended - began


def _hash_text(text):
    return hashlib.sha256(text.encode()).hexdigest()


def _fingerprint(model, batches, validation, seed):
    """Hashes of all that decides a training, by part, so that a mismatch can name the part."""

    def digest(*parts):
        value = hashlib.sha256()
        for part in parts:
            value.update(part if isinstance(part, bytes) else np.ascontiguousarray(part))
        return value.hexdigest()

    # Keras numbers the names it makes up ("adam_3") by what the process built before: number them anew.
    network = model.to_json()
    for i, name in enumerate(dict.fromkeys(re.findall(r'"name": ("[^"]*")', network))):
        network = network.replace(name, f'"name {i}"')
    optimizer = keras.optimizers.serialize(model.optimizer)
    optimizer["config"].pop("name")
    # The configuration of a layer of our own says nothing of what it does.
    own = {type(layer) for layer in model.layers if type(layer).__module__.startswith("bloodcells.")}
    code = "".join(sorted(inspect.getsource(layer) for layer in own))
    return {
        "model": digest((network + code).encode()),
        "optimizer": digest(json.dumps(optimizer, sort_keys=True, default=str).encode()),
        "training data": batches.fingerprint(),
        "loss": json.dumps(keras.losses.serialize(model.loss), sort_keys=True, default=str),
        "validation data": digest(*(validation or ())),
        "seed": str(seed),
        "backend": keras.backend.backend(),
    }


def _check_images_and_masks(images, masks):
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise UserError(
            "`images` must be uint8 of shape (N, rows, columns, 3), "
            f"got {images.dtype} of shape {images.shape}."
        )
    if masks.shape != images.shape[:3] or masks.dtype != np.uint8:
        raise UserError(
            f"`masks` must be uint8 of shape {images.shape[:3]}, got {masks.dtype} of shape {masks.shape}."
        )
    if len(images) == 0:
        raise UserError("`images` must hold at least one image, got none.")

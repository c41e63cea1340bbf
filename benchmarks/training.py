"""Seconds a training step takes: ours, with and without XLA, beside a plain Keras loop on the same network.

All by turns in one process, on drawn images made beforehand, but for their memory; see README.md.

    python benchmarks/training.py [--networks unet,segnet] [--rounds 5] [--json FILE]
"""

import argparse
import json
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from side_by_side import (
    add_memory,
    by_turns,
    describe_machine,
    finish,
    list_rows,
    make_report,
    measure_memory_alone,
    read_memory_mark,
)

from bloodcells import device, training
from bloodcells.augment import AffineRanges
from bloodcells.errors import UserError
from bloodcells.models.catalogue import NETWORKS, build_network, name_network
from bloodcells.models.dounet import MARGIN, build_dounet
from bloodcells.synthetic import draw_cell, draw_smear
from bloodcells.tile_batches import TileBatches, TileRanges

PLAIN, OURS, OURS_XLA = "plain Keras loop", "ours", "ours with XLA"
N_CLASSES = 2
TILES = "tiles"
"""In place of the name of a network: chapter 2's, on its tiles, whose distortions are the costliest."""


def main():
    """Time all sides by turns and print a table."""
    options = parse_options()
    if options.side:
        (name,) = options.networks
        make = make_tiles if name == TILES else make_images
        time_side(options.side, *make(name, options), options)
        print(json.dumps(read_memory_mark()))
        return
    machine = describe_machine()
    rows = []
    for name in options.networks:
        make = make_tiles if name == TILES else make_images
        sides = {
            side: lambda side=side, make=make, name=name: time_side(side, *make(name, options), options)
            for side in (PLAIN, OURS, OURS_XLA)
        }
        group = "DO-U-Net on tiles (chapter 2)" if name == TILES else name_network(name)
        measured = by_turns(sides, options.rounds)
        add_memory(measured, lambda side, name=name: measure_memory(name, side, options))
        rows += list_rows(measured, group=group)
    report = make_report(
        f"A training step: {options.size} pixels, {options.filters} filters, batches of {options.batch}",
        rows,
        rounds=options.rounds,
        labels={
            "step_s": "a step, s",
            "waiting": "waiting for images, %",
            "first_wait_s": "for the first of an epoch, s",
            "start_s": "first epoch beyond the second, s",
            "megabytes": "memory, MB",
        },
        digits={"step_s": 3, "waiting": 1, "first_wait_s": 2, "start_s": 1, "megabytes": 0},
        ratio_to=PLAIN,
        machine=machine,
    )
    finish(report, options.json)


def measure_memory(name, side, options):
    """Measure the memory of a training in a process of its own: TensorFlow keeps something of earlier ones.

    Parameters
    ----------
    name : str
        Of the network.
    side : str
    options : argparse.Namespace

    Returns
    -------
    float or None
        Megabytes, with those of Python and Keras; None where the system doesn't tell.
    """
    sizes = [f"--{word}={getattr(options, word)}" for word in ("size", "filters", "batch", "steps")]
    return measure_memory_alone(__file__, f"--side={side}", f"--networks={name}", *sizes)


def parse_options():
    """Read the command line.

    Returns
    -------
    argparse.Namespace
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--networks", default=",".join([*NETWORKS, TILES]), help="of chapters 7 and 2 [default: %(default)s]"
    )
    for name, default, help_ in (
        ("size", 96, "rows and columns, pixels"),
        ("filters", 8, "of the first level"),
        ("batch", 8, "images a step"),
        ("steps", 10, "steps that are timed, each round"),
        ("rounds", 5, "rounds, of which the median is taken"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{help_} [default: %(default)s]")
    parser.add_argument("--json", metavar="FILE", help="write what was measured")
    parser.add_argument("--side", help=argparse.SUPPRESS)  # trained once, for its memory
    options = parser.parse_args()
    options.networks = options.networks.split(",")
    for name in ("filters", "batch", "steps", "rounds"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} expects at least 1")
    try:
        for name in set(options.networks) - {TILES}:
            build_network(name, (options.size, options.size, 3), N_CLASSES, base_filters=options.filters)
    except UserError as error:
        parser.error(str(error))
    return options


def draw_images(n, size):
    """Draw single cells.

    Parameters
    ----------
    n, size : int

    Returns
    -------
    images : ndarray of uint8, shape (n, size, size, 3)
    masks : ndarray of uint8, shape (n, size, size)
        1 in the nucleus.
    """
    rng = np.random.default_rng(0)
    cells = [draw_cell("neutrophil", rng=rng, shape=(size, size)) for _ in range(n)]
    return np.stack([cell.image for cell in cells]), np.stack([cell.nucleus for cell in cells]).astype(
        "uint8"
    )


def make_images(name, options):
    """Build a network of chapter 7, and batches as the chapter makes them, of drawn cells.

    Parameters
    ----------
    name : str
        Of the network.
    options : argparse.Namespace

    Returns
    -------
    model : keras.Model
    batches : keras.utils.PyDataset
    loss : keras.losses.Loss
    """
    model = build_network(name, (options.size, options.size, 3), N_CLASSES, base_filters=options.filters)
    batches = training.AugmentedBatches(
        *draw_images(32, options.size),
        ranges=AffineRanges(rotation_degrees=90, zoom=0.1, flip_columns=True),
        batch_size=options.batch,
        steps_per_epoch=options.steps,
        seed=0,
    )
    return model, batches, keras.losses.SparseCategoricalCrossentropy()


def make_tiles(name, options):
    """Build chapter 2's network for red cells, and batches of distorted tiles of a drawn smear.

    Parameters
    ----------
    name : str
        Not looked at.
    options : argparse.Namespace
        Tiles keep their own size, 188 pixels of which 100 are predicted.

    Returns
    -------
    model, batches, loss
        As from `make_images`.
    """
    rng = np.random.default_rng(0)
    smear = draw_smear((600, 800), rng=rng, n_rbc=120, n_wbc=2, n_platelets=5, rbc_radius=18)
    targets = np.stack([smear.masks["rbc"], smear.edges], axis=-1).astype(np.uint8)
    batches = TileBatches(
        *([smear.image], [targets]),
        output_size=100,
        margin=MARGIN,
        ranges=TileRanges(),
        batch_size=options.batch,
        steps_per_epoch=options.steps,
        seed=0,
    )
    model = build_dounet((188, 188, 3), base_filters=options.filters)
    return model, batches, keras.losses.BinaryCrossentropy()


class EpochTimes(keras.callbacks.Callback):
    """Take the time of each epoch."""

    def on_train_begin(self, logs=None):
        """Forget those of an earlier training."""
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        """Start the clock."""
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        """Stop the clock."""
        self.seconds.append(time.perf_counter() - self.start)


def time_waits(model):
    """Have a network's training take the time that each step waits for its batch.

    Parameters
    ----------
    model : keras.Model
        From then on its step takes the batch out of the pipeline first, and then learns from it. In Keras's
        own step TensorFlow does both in one, and no callback sees the moment between them.

    Returns
    -------
    list of float
        Seconds, one more with each step.
    """
    import tensorflow as tf

    waits = []

    def make_train_function(force=False):
        learn = tf.function(model.train_step, jit_compile=model.jit_compile, reduce_retracing=True)

        def take_and_learn(iterator):
            start = time.perf_counter()
            batch = next(iterator)
            waits.append(time.perf_counter() - start)
            return learn(batch)

        model.train_function = take_and_learn

    model.make_train_function = make_train_function
    return waits


def time_side(side, model, batches, loss, options):
    """Train a fresh network for two epochs.

    Parameters
    ----------
    side : str
    model, batches, loss
        From `make_images` or `make_tiles`.
    options : argparse.Namespace

    Returns
    -------
    dict of str to float
        "step_s", seconds a step of the second epoch; "start_s", seconds of the first epoch beyond those of
        the second, which is what building the step takes. On TensorFlow "waiting", per cent of the second
        epoch that the network waited for batches but the first one, for which nothing is ready yet, and
        "first_wait_s", seconds that it waited for that.
    """
    keras.utils.set_random_seed(0)
    waits = time_waits(model) if keras.backend.backend() == "tensorflow" else []
    optimizer = keras.optimizers.Adam(1e-3)
    if side == PLAIN:
        inputs, targets = (
            np.concatenate(parts) for parts in zip(*(batches[i] for i in range(len(batches))), strict=True)
        )
        model.compile(optimizer=optimizer, loss=loss, jit_compile=device.choose_compilation("auto"))
        times = EpochTimes()
        model.fit(inputs, targets, batch_size=options.batch, epochs=2, verbose=0, callbacks=[times])
        first, second = times.seconds
    else:
        history = training.train(
            model,
            batches,
            epochs=2,
            optimizer=optimizer,
            loss=loss,
            seed=0,
            jit_compile=device.choose_compilation("on" if side == OURS_XLA else "auto"),
            progress=False,
        )
        first, second = history["seconds"]
    figures = {"step_s": second / options.steps, "start_s": first - second}
    if waits:
        first_wait, *others = waits[-options.steps :]
        figures |= {"waiting": 100 * sum(others) / second, "first_wait_s": first_wait}
    keras.utils.clear_session(free_memory=True)
    return figures


if __name__ == "__main__":
    main()

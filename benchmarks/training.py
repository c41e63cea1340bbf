"""Seconds a training step takes: ours, with and without XLA, beside a plain Keras loop on the same network.

All by turns in one process, on drawn images made beforehand; see README.md.

    python benchmarks/training.py [--networks unet,segnet] [--rounds 5] [--json FILE]
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from side_by_side import by_turns, describe_machine, finish, list_rows, make_report

from bloodcells import device, training
from bloodcells.augment import AffineRanges
from bloodcells.errors import UserError
from bloodcells.models.catalogue import NETWORKS, build_network, name_network
from bloodcells.synthetic import draw_cell

PLAIN, OURS, OURS_XLA = "plain Keras loop", "ours", "ours with XLA"
N_CLASSES = 2


def main():
    """Time all sides by turns and print a table."""
    options = parse_options()
    machine = describe_machine()
    images, masks = draw_images(32, options.size)
    rows = []
    for name in options.networks:
        sides = {
            side: lambda side=side, name=name: time_side(side, name, images, masks, options)
            for side in (PLAIN, OURS, OURS_XLA)
        }
        rows += list_rows(by_turns(sides, options.rounds, memory=True), group=name_network(name))
    report = make_report(
        f"A training step: {options.size} pixels, {options.filters} filters, batches of {options.batch}",
        rows,
        rounds=options.rounds,
        labels={
            "step_s": "a step, s",
            "waiting": "waiting for images, %",
            "start_s": "until the first step, s",
            "megabytes": "memory, MB",
        },
        digits={"step_s": 3, "waiting": 1, "start_s": 1, "megabytes": 0},
        ratio_to=PLAIN,
        machine=machine,
    )
    finish(report, options.json)


def parse_options():
    """Read the command line.

    Returns
    -------
    argparse.Namespace
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", default=",".join(NETWORKS), help="of chapter 7 [default: %(default)s]")
    for name, default, help_ in (
        ("size", 96, "rows and columns, pixels"),
        ("filters", 8, "of the first level"),
        ("batch", 8, "images a step"),
        ("steps", 10, "steps that are timed, each round"),
        ("rounds", 5, "rounds, of which the median is taken"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{help_} [default: %(default)s]")
    parser.add_argument("--json", metavar="FILE", help="write what was measured")
    options = parser.parse_args()
    options.networks = options.networks.split(",")
    for name in ("filters", "batch", "steps", "rounds"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} expects at least 1")
    try:
        for name in options.networks:
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


def time_side(side, name, images, masks, options):
    """Train a fresh network for two epochs.

    Parameters
    ----------
    side : str
    name : str
        Of the network.
    images, masks : ndarray
    options : argparse.Namespace

    Returns
    -------
    dict of str to float
        "step_s", seconds a step of the second epoch; on TensorFlow "waiting", per cent of that epoch that the
        network waited for batches, the first one included, for which nothing is ready yet; "start_s",
        seconds of the first epoch beyond those of the second, which is what building the step takes.
    """
    keras.utils.clear_session(free_memory=True)
    keras.utils.set_random_seed(0)
    model = build_network(name, (options.size, options.size, 3), N_CLASSES, base_filters=options.filters)
    waits = time_waits(model) if keras.backend.backend() == "tensorflow" else []
    optimizer, loss = keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy()
    if side == PLAIN:
        batch = np.arange(options.batch * options.steps) % len(images)
        model.compile(optimizer=optimizer, loss=loss, jit_compile=device.choose_compilation("auto"))
        times = EpochTimes()
        model.fit(
            *(images[batch], masks[batch]),
            batch_size=options.batch,
            epochs=2,
            verbose=0,
            callbacks=[times],
        )
        first, second = times.seconds
    else:
        ranges = AffineRanges(rotation_degrees=90, zoom=0.1, flip_columns=True)
        history = training.train(
            model,
            training.AugmentedBatches(
                *(images, masks),
                ranges=ranges,
                batch_size=options.batch,
                steps_per_epoch=options.steps,
                seed=0,
            ),
            epochs=2,
            optimizer=optimizer,
            loss=loss,
            seed=0,
            jit_compile=device.choose_compilation("on" if side == OURS_XLA else "auto"),
            progress=False,
        )
        first, second = history["seconds"]
    figures = {"step_s": second / options.steps, "start_s": first - second}
    return figures | ({"waiting": 100 * sum(waits[-options.steps :]) / second} if waits else {})


if __name__ == "__main__":
    main()

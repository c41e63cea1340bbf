"""Seconds a training step takes: ours, with and without XLA, beside a plain Keras loop on the same network.

All by turns in one process, on drawn images made beforehand; see README.md.

    python benchmarks/training.py [--networks unet,segnet] [--rounds 5] [--json FILE]
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from bloodcells import device, training
from bloodcells.augment import AffineRanges
from bloodcells.errors import UserError
from bloodcells.models.catalogue import NETWORKS, build_network
from bloodcells.synthetic import draw_cell

PLAIN, OURS, OURS_XLA = "plain Keras loop", "ours", "ours with XLA"
N_CLASSES = 2


def main():
    """Time all sides by turns and print a table."""
    options = parse_options()
    images, masks = draw_images(32, options.size)
    rows = []
    for name in options.networks:
        measured = {side: [] for side in (PLAIN, OURS, OURS_XLA)}
        for run in range(options.rounds):
            # By turns, so that a slow spell of the machine hits all of them.
            for side, times in measured.items():
                times.append(time_side(side, name, images, masks, options))
            steps = ", ".join(f"{side} {times[-1][1]:.3f} s" for side, times in measured.items())
            print(f"{name}, round {run + 1}: {steps}", flush=True)
        rows.append({"network": name, "sides": {side: summarise(t) for side, t in measured.items()}})
    report = {"machine": device.describe_device(), "rounds": options.rounds, "networks": rows}
    report |= {name: getattr(options, name) for name in ("size", "filters", "batch", "steps")}
    print_table(report)
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


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
    start, step : float
        Seconds of the first epoch beyond those of the second, which is what building the step takes; seconds
        a step of the second epoch.
    """
    keras.utils.clear_session(free_memory=True)
    keras.utils.set_random_seed(0)
    model = build_network(name, (options.size, options.size, 3), N_CLASSES, base_filters=options.filters)
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
    return first - second, second / options.steps


def summarise(times):
    """Return the medians over rounds.

    Parameters
    ----------
    times : list of tuple of float
        From `time_side`.

    Returns
    -------
    dict
        "start_s" and "step_s".
    """
    starts, steps = zip(*times, strict=True)
    return {"start_s": statistics.median(starts), "step_s": statistics.median(steps)}


def print_table(report):
    """Print what was measured.

    Parameters
    ----------
    report : dict
    """
    print(
        f"\n{report['machine']}; {report['size']} pixels square, {report['filters']} filters, "
        f"batches of {report['batch']}"
    )
    print(f"medians of {report['rounds']} rounds: seconds a step, seconds until the first step\n")
    print(
        f"{'network':16}"
        + "".join(f"{side:>24}" for side in (PLAIN, OURS, OURS_XLA))
        + f"{'ours / plain':>14}"
    )
    for row in report["networks"]:
        sides = row["sides"]
        cells = [f"{sides[side]['step_s']:.3f}, {sides[side]['start_s']:.1f}" for side in sides]
        ratio = sides[OURS]["step_s"] / sides[PLAIN]["step_s"]
        print(f"{row['network']:16}" + "".join(f"{cell:>24}" for cell in cells) + f"{ratio:>14.2f}")


if __name__ == "__main__":
    main()

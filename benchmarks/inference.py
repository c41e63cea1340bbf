"""Time of a network by runtime, precision and tiles, held against the machine's peak.

The shipped network of red cells, and the same in Keras, over one image of the size that it gets to see of a
photograph of five megapixels; see README.md. OpenVINO takes part where it is installed.

    python benchmarks/inference.py [--rounds 5] [--tile 324] [--json FILE]
"""

import argparse
import functools
import importlib.util
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
    measure_peaks,
    read_memory_mark,
)

from bloodcells.models.dounet import MARGIN, build_dounet
from bloodcells.networks import WEIGHTS, open_onnx
from bloodcells.smear import TILE_SIZE
from bloodcells.tiling import choose_output_size, predict_tiled

SHAPE = 972, 1296
"""Rows and columns: 2592 x 1944 pixels with red cells of 36 pixels' radius, brought to 18."""

TILES = (100, 324, 656, 1300)
BATCHES = (4, 16)


def main():
    """Time all sides by turns and print a table."""
    options = parse_options()
    image = np.random.default_rng(0).integers(0, 256, (*options.shape, 3), np.uint8)
    sides = list_sides(options)
    if options.side:
        get_network, tile, batch, _ = sides[options.side]
        predict_tiled(get_network(), image, output_size=tile, margin=MARGIN, batch_size=batch)
        print(json.dumps(read_memory_mark()))
        return
    machine = describe_machine()
    peaks = machine.get("peak_gflops") or measure_peaks()
    work = {}  # GFLOP of the network over all tiles

    def run(side):
        get_network, tile, batch, _ = sides[side]
        predict = get_network()
        start = time.perf_counter()
        predict_tiled(predict, image, output_size=tile, margin=MARGIN, batch_size=batch)
        seconds = time.perf_counter() - start
        rate = work[side] / seconds
        return {
            "per_megapixel": seconds / (image.shape[0] * image.shape[1] / 1e6),
            "rate": rate,
            "share": 100 * rate / peaks["float32"],
        }

    for side, (get_network, tile, batch, n_filters) in sides.items():
        n_tiles = -(-image.shape[0] // tile[0]) * -(-image.shape[1] // tile[1])
        work[side] = n_tiles * count_operations(tile, n_filters) / 1e9
        # Once before anything is timed: the first call traces, compiles and allocates.
        predict_tiled(get_network(), image, output_size=tile, margin=MARGIN, batch_size=batch)
    measured = by_turns({side: lambda side=side: run(side) for side in sides}, options.rounds)
    add_memory(measured, lambda side: measure_memory(side, options))
    report = make_report(
        f"A DO-U-Net of {FILTERS} filters over {image.shape[1]} x {image.shape[0]} pixels",
        list_rows(measured, notes={side: f"{gflop:.0f} GFLOP" for side, gflop in work.items()}),
        rounds=options.rounds,
        labels={
            "per_megapixel": "s a megapixel",
            "rate": "GFLOP/s",
            "share": "% of the float32 peak",
            "megabytes": "memory, MB",
        },
        digits={"per_megapixel": 2, "rate": 0, "share": 0, "megabytes": 0},
        ratio_to=next(iter(sides)),
        machine=machine | {"peak_gflops": peaks},
    )
    finish(report, options.json)


FILTERS = 16
"""Of the first level of the shipped networks."""

PAPER_FILTERS = 32
"""Of the networks that gharbi2023 released."""

PAPER_SIDE = f"Keras, the paper's {PAPER_FILTERS} filters"


def measure_memory(side, options):
    """Measure the memory of a side in a process of its own: in one with others their networks would count.

    Parameters
    ----------
    side : str
        Of `list_sides`.
    options : argparse.Namespace

    Returns
    -------
    float or None
        Megabytes, with those of Python and Keras; None where the system doesn't tell.
    """
    return measure_memory_alone(
        __file__, f"--side={side}", f"--rows={options.rows}", f"--tile={options.tile}"
    )


def list_sides(options):
    """List what is compared: one thing changed at a time, from how `bloodcells count` does it.

    Parameters
    ----------
    options : argparse.Namespace

    Returns
    -------
    dict of str to tuple
        What gives the network, always the same one; rows and columns that a tile predicts, tiles at a time,
        filters of the first level.
    """
    content = (WEIGHTS / "rbc.onnx").read_bytes()
    networks = {
        "ONNX Runtime": lambda: open_onnx(content),
        "Keras": lambda: keras_network("float32"),
        "Keras, bfloat16": lambda: keras_network("mixed_bfloat16"),
        PAPER_SIDE: lambda: keras_network("float32", PAPER_FILTERS),
    }
    if importlib.util.find_spec("openvino"):
        networks["OpenVINO"] = lambda: openvino_network(content, "f32")
        networks["OpenVINO, bfloat16"] = lambda: openvino_network(content, "bf16")
    else:
        print("OpenVINO isn't installed and takes no part: pip install openvino")
    networks = {name: functools.cache(get_network) for name, get_network in networks.items()}
    first, small = next(iter(networks)), min(TILES)
    asked = [(first, options.tile, 1)]
    asked += [(first, target, 1) for target in TILES if target != options.tile]
    asked += [(first, small, batch) for batch in BATCHES]
    asked += [(name, options.tile, 1) for name in networks if name != first]
    sides = {}
    for name, target, batch in asked:
        tile = choose_output_size(options.shape, target=target)
        words = f"{name}, tiles of {tile[0]} x {tile[1]}" + f", {batch} at a time" * (batch > 1)
        sides[words] = (networks[name], tile, batch, PAPER_FILTERS if name == PAPER_SIDE else FILTERS)
    return sides


def keras_network(policy, n_filters=FILTERS):
    """Build the network in Keras; its weights are random, which takes the same time.

    Parameters
    ----------
    policy : str
        Keras's name of the precision.
    n_filters : int
        Of the first level.

    Returns
    -------
    callable
    """
    keras.config.set_dtype_policy(policy)
    model = build_dounet((None, None, 3), base_filters=n_filters)
    keras.config.set_dtype_policy("float32")

    def predict(tiles):
        return keras.ops.convert_to_numpy(model.predict_on_batch(tiles))

    return predict


def openvino_network(content, precision):
    """Load the network into OpenVINO.

    Parameters
    ----------
    content : bytes
        ONNX.
    precision : {"f32", "bf16"}

    Returns
    -------
    callable
    """
    import openvino

    network = openvino.Core().compile_model(
        openvino.Core().read_model(content), "CPU", {"INFERENCE_PRECISION_HINT": precision}
    )
    return lambda tiles: network(tiles.astype(np.float32))[0]


def count_operations(tile, n_filters):
    """Count what the convolutions of a tile take, a multiplication and an addition as two.

    Parameters
    ----------
    tile : tuple of int
        Rows and columns that it predicts, pixels.
    n_filters : int
        Of the first level.

    Returns
    -------
    int
    """
    total = 0
    shape = tuple(length + 2 * MARGIN for length in tile)
    for layer in build_dounet((*shape, 3), base_filters=n_filters).layers:
        if isinstance(layer, keras.layers.Conv2DTranspose):
            # Every pixel that comes in is multiplied with the whole kernel.
            rows, columns = layer.input.shape[1:3]
        elif isinstance(layer, keras.layers.Conv2D):
            rows, columns = layer.output.shape[1:3]
        else:
            continue
        total += 2 * rows * columns * int(np.prod(layer.kernel.shape))
    return total


def parse_options():
    """Read the command line.

    Returns
    -------
    argparse.Namespace
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--tile", type=int, default=TILE_SIZE, help="as `bloodcells count` has it [%(default)s]"
    )
    parser.add_argument("--rounds", type=int, default=5, help="[default: %(default)s]")
    parser.add_argument("--rows", type=int, default=SHAPE[0], help="of the image [default: %(default)s]")
    parser.add_argument("--json", metavar="FILE", help="write what was measured")
    parser.add_argument("--side", help=argparse.SUPPRESS)  # run once, for its memory
    options = parser.parse_args()
    options.shape = options.rows, options.rows * SHAPE[1] // SHAPE[0]
    if options.rounds < 1 or options.rows < 100:
        parser.error("--rounds expects at least 1, --rows at least 100")
    if options.tile < 12:
        parser.error(f"--tile expects at least 12, got {options.tile}")
    return options


if __name__ == "__main__":
    main()

"""The machine's peak: the fastest product of two large matrices, in float32 and in bfloat16.

What a network reaches is held against it. Prints GFLOP/s as JSON.

    python benchmarks/matrix_peak.py [--size 4096] [--rounds 7]
"""

import argparse
import json
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf


def time_product(dtype, size, rounds):
    """Time products of square matrices in TensorFlow.

    Parameters
    ----------
    dtype : str
    size : int
        Rows and columns.
    rounds : int

    Returns
    -------
    float
        The fewest seconds of all rounds: a peak is what the machine can do, not what it does.
    """
    rng = np.random.default_rng(0)
    a, b = (tf.cast(tf.constant(rng.random((size, size), np.float32)), dtype) for _ in range(2))
    product = tf.function(lambda: tf.reduce_sum(tf.matmul(a, b)))
    float(product())
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        float(product())
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def main():
    """Print the peak of both kinds of numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=4096, help="rows and columns [default: %(default)s]")
    parser.add_argument("--rounds", type=int, default=7, help="[default: %(default)s]")
    options = parser.parse_args()
    flop = 2 * options.size**3
    peaks = {
        dtype: flop / time_product(dtype, options.size, options.rounds) / 1e9
        for dtype in ("float32", "bfloat16")
    }
    print(json.dumps(peaks))


if __name__ == "__main__":
    main()

"""The device that trains: named, and set up. The one place that speaks to a backend's own library."""

import os
import platform

import keras

from bloodcells.errors import UserError

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
COMPILATION = ("auto", "on", "off")


def prepare_device(precision="float32"):
    """Set the numeric precision and let a GPU's memory grow as needed.

    Parameters
    ----------
    precision : {"float32", "mixed_bfloat16", "mixed_float16"}
        Keras's policy: what layers compute in; weights stay in float32.

    Returns
    -------
    str
        `describe_device`.
    """
    if precision not in PRECISIONS:
        raise UserError(f"`precision` must be one of {', '.join(PRECISIONS)}, got {precision!r}.")
    keras.config.set_dtype_policy(precision)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        for gpu in tf.config.list_physical_devices("GPU"):
            try:
                tf.config.experimental.set_memory_growth(gpu, True)
            except RuntimeError:
                # TensorFlow decides this at its first operation; a second call in one process is too late
                # to change anything, and harmless.
                break
    return describe_device()


def choose_compilation(setting):
    """Decide whether XLA compiles a network's steps.

    Parameters
    ----------
    setting : {"auto", "on", "off"}
        "auto" compiles, except with TensorFlow on a CPU: its own kernels start sooner there and are no slower
        (`benchmarks/training.py`).

    Returns
    -------
    bool or "auto"
        What `keras.Model.compile` takes as ``jit_compile``.
    """
    if setting not in COMPILATION:
        raise UserError(f"`jit_compile` must be one of {', '.join(COMPILATION)}, got {setting!r}.")
    if setting == "auto" and keras.backend.backend() == "tensorflow" and describe_device().startswith("CPU"):
        return False
    return {"on": True, "off": False, "auto": "auto"}[setting]


def describe_device():
    """Name the device that Keras computes on.

    Returns
    -------
    str
        Such as ``"CPU (AMD EPYC, 2 threads)"`` or ``"GPU (NVIDIA H200)"``.
    """
    backend = keras.backend.backend()
    name = None
    if backend == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU") if gpus else None
    elif backend == "jax":
        import jax

        device = jax.devices()[0]
        name = device.device_kind if device.platform != "cpu" else None
    elif backend == "torch":
        import torch

        name = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    if name:
        return f"GPU ({name})"
    return f"CPU ({_processor()}, {_n_threads()} threads)"


def _processor():
    """Return the processor's name, which Linux tells only in this file."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:
            return next(line.split(":", 1)[1].strip() for line in stream if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def _n_threads():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()

"""The device that trains: named, and set up. The one place that speaks to a backend's own library."""

import os
import platform

import keras

from bloodcells.distribution import count_devices, spread
from bloodcells.errors import UserError

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
COMPILATION = ("auto", "on", "off")


def prepare_device(precision="float32", n_devices=None):
    """Set the numeric precision, let a GPU's memory grow as needed, and spread trainings over devices.

    Parameters
    ----------
    precision : {"float32", "mixed_bfloat16", "mixed_float16"}
        Keras's policy: what layers compute in; weights stay in float32.
    n_devices : int, optional
        Devices that share each training, see `bloodcells.distribution.spread`. Default: the environment's
        ``BLOODCELLS_DEVICES``, else 1.

    Returns
    -------
    str
        `describe_device`.

    Raises
    ------
    UserError
        If the precision is unknown, or that many devices can't be used.
    """
    if precision not in PRECISIONS:
        raise UserError(f"`precision` must be one of {', '.join(PRECISIONS)}, got {precision!r}.")
    keras.config.set_dtype_policy(precision)
    spread(_devices_asked_for() if n_devices is None else n_devices)
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
        Such as ``"CPU (AMD EPYC, 2 threads)"`` or ``"GPU (NVIDIA H200)"``; ``"4 x GPU (NVIDIA H200)"`` where
        trainings are spread.
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
    name = f"GPU ({name})" if name else f"CPU ({_processor()}, {count_threads()} threads)"
    return name if count_devices() == 1 else f"{count_devices()} x {name}"


def _devices_asked_for():
    text = os.environ.get("BLOODCELLS_DEVICES") or "1"
    if not text.isdecimal():
        raise UserError(f"BLOODCELLS_DEVICES expects a number of devices, such as 4, got {text!r}.")
    return int(text)


def _processor():
    """Return the processor's name, which Linux tells only in this file."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:
            return next(line.split(":", 1)[1].strip() for line in stream if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def count_threads():
    """Return the threads that this process may run at once.

    Returns
    -------
    int
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()

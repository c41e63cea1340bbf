"""Trained networks as they are shipped: an ONNX file and a card that says what it is, for each kind of cell.

They run in ONNX Runtime: counting needs neither Keras nor TensorFlow.
"""

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bloodcells.counting.find import METHODS
from bloodcells.counting.settings import CELLS
from bloodcells.errors import UserError

WEIGHTS = Path(__file__).resolve().parent / "weights"
"""Folder of the shipped networks."""

# What a card must hold, and of which type.
_FIELDS = {
    "name": str,
    "cell": str,
    "heads": list,
    "cell_radius": int | float,
    "margin": int,
    "sha256": str,
    "counting": dict,
}
# More threads than this gain nothing with tiles of this size.
_MOST_THREADS = 16


@dataclass(frozen=True, eq=False)
class Network:
    """A network that finds one kind of cell, and what is needed to use it.

    Attributes
    ----------
    cell : {"rbc", "wbc", "plt"}
    predict : callable
        uint8 RGB tiles, shape (n, rows + 2 margin, columns + 2 margin, 3), to float32 probabilities, shape
        (n, rows, columns, K): K is 1 for the mask alone, 2 for mask and edge.
    cell_radius : float
        Radius of red cells in the images that it takes, pixels.
    margin : int
        Context that it needs on each side of a tile, pixels.
    counting : dict
        "method", one of `bloodcells.counting.find.METHODS`, and for each method a dict of keyword
        arguments of its function.
    card : dict
        All that the card says: data, split, metrics, limits, licence and terms among it.
    """

    cell: str
    predict: Callable
    cell_radius: float
    margin: int
    counting: dict
    card: dict


def read_card(path):
    """Read and check the card of a network.

    Parameters
    ----------
    path : path-like
        A JSON file.

    Returns
    -------
    dict

    Raises
    ------
    UserError
        If the card is missing, damaged or lacks something.
    """
    path = Path(path)
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"The card {path.name} of a network is missing from {path.parent}; install bloodcells again."
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no card of a network: {error}; install bloodcells again.") from error
    for name, kind in _FIELDS.items():
        if not isinstance(card, dict) or not isinstance(card.get(name), kind):
            got = card.get(name) if isinstance(card, dict) else card
            raise UserError(f"{path} must hold {name!r}, got {got!r}; install bloodcells again.")
    if card["cell"] not in CELLS or card["counting"].get("method") not in METHODS:
        raise UserError(
            f"{path} must name a cell of {', '.join(CELLS)} and a method of {', '.join(METHODS)}, "
            f"got {card['cell']!r} and {card['counting'].get('method')!r}."
        )
    return card


def load_network(cell, *, folder=WEIGHTS, n_threads=None):
    """Load a shipped network, after checking that its file is the one its card describes.

    Parameters
    ----------
    cell : {"rbc", "wbc", "plt"}
    folder : path-like
        Where ``<cell>.onnx`` and ``<cell>.json`` are.
    n_threads : int, optional
        Processor cores to use. Default: those that this process may use, at most 16.

    Returns
    -------
    Network

    Raises
    ------
    UserError
        If there is no such cell, or its files are missing or damaged.
    """
    if cell not in CELLS:
        raise UserError(f"`cell` must be one of {', '.join(CELLS)}, got {cell!r}.")
    if n_threads is not None and n_threads < 1:
        raise UserError(f"`n_threads` must be at least 1, got {n_threads}.")
    folder = Path(folder)
    card = read_card(folder / f"{cell}.json")
    path = folder / f"{cell}.onnx"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"The weights {path} are missing; install bloodcells again.") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != card["sha256"]:
        raise UserError(
            f"The weights {path} are damaged: expected SHA-256 {card['sha256'][:12]}..., got {digest[:12]}"
            "...; install bloodcells again."
        )
    return Network(
        cell=cell,
        predict=open_onnx(content, n_threads=n_threads),
        cell_radius=float(card["cell_radius"]),
        margin=card["margin"],
        counting=card["counting"],
        card=card,
    )


def open_onnx(content, *, n_threads=None):
    """Make a callable of a network in ONNX.

    Parameters
    ----------
    content : bytes
        An ONNX model of one float32 input, RGB tiles in [0, 255] with the channels last, and one output.
    n_threads : int, optional
        As in `load_network`.

    Returns
    -------
    callable
        Tiles of any dtype, shape (n, rows, columns, 3), to float32 probabilities.

    Raises
    ------
    UserError
        If `content` is no network that ONNX Runtime can run; the callable raises it, too.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads or min(_count_cores(), _MOST_THREADS)
    options.log_severity_level = 3  # errors only
    _share_memory()
    options.add_session_config_entry("session.use_env_allocators", "1")
    with _in_words():
        session = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
        name = session.get_inputs()[0].name

    def predict(tiles):
        with _in_words():
            return session.run(None, {name: np.asarray(tiles, np.float32)})[0]

    return predict


@functools.cache
def _share_memory():
    """Let the networks of this process take turns with one pool of memory.

    Without a pool every layer of every tile waits for fresh pages; with one each, pools add up.
    """
    import onnxruntime

    onnxruntime.create_and_register_allocator(
        onnxruntime.OrtMemoryInfo(
            "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
        ),
        # 1: grow by what is asked for, not to the next power of two; 0 and -1: no limit, and as usual.
        onnxruntime.OrtArenaCfg(
            {
                "max_mem": 0,
                "arena_extend_strategy": 1,
                "initial_chunk_size_bytes": -1,
                "max_dead_bytes_per_chunk": -1,
            }
        ),
    )


@contextlib.contextmanager
def _in_words():
    """Say what ONNX Runtime can't do; its errors have nothing in common but that they are exceptions."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        # Whole: what matters stands at the end, after the names of templates.
        reason = " ".join(str(error).split())
        if "bad_alloc" in reason or "allocate" in reason.lower():
            raise MemoryError(reason[-200:]) from error
        raise UserError(
            f"ONNX Runtime can't run the network ({reason[:200]}); install bloodcells again."
        ) from error


def _count_cores():
    # The affinity knows of limits that the number of processors doesn't; macOS and Windows have none.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

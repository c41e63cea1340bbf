"""Export a trained network to ONNX, with the card that `bloodcells count` reads.

Usage: ``python workflow/export_weights.py MODEL CARD [FOLDER]``: a model that Keras saved, and a JSON file
with all that a card holds but the hash. ``<cell>.onnx``, ``<cell>.json`` and README.md are written to FOLDER,
by default the weights of the package.
"""

import argparse
import hashlib
import json
import tempfile
from pathlib import Path

import keras
import numpy as np

from bloodcells.errors import UserError, told_in_one_line
from bloodcells.files import atomic_path, write_json, write_text
from bloodcells.networks import CELLS, WEIGHTS, open_onnx, read_card

MAX_BYTES = 8_000_000
TOLERANCE = 1e-5
"""Largest difference of a probability between Keras and ONNX Runtime that is let pass."""

_OPSET = 17


def to_onnx(model):
    """Export a network so that it takes any number of tiles of any size it can.

    Parameters
    ----------
    model : keras.Model
        Functional, without layers that depend on the size of their input.

    Returns
    -------
    bytes
        Float32 input "image", shape (n, rows, columns, 3), and one output, "probability".
    """
    # Here, since only this function needs them: TensorFlow traces the graph.
    import onnx
    import tensorflow as tf
    import tf2onnx

    inputs = keras.Input((None, None, 3), name="image")
    flexible = keras.models.clone_model(model, input_tensors=inputs)
    flexible.set_weights(model.get_weights())
    signature = [tf.TensorSpec((None, None, None, 3), tf.float32, name="image")]
    function = tf.function(lambda image: flexible(image, training=False), input_signature=signature)
    proto, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=_OPSET)
    _rename_output(proto.graph, "probability")
    onnx.checker.check_model(proto)
    return proto.SerializeToString()


def _rename_output(graph, name):
    old = graph.output[0].name
    graph.output[0].name = name
    for node in graph.node:
        node.output[:] = [name if output == old else output for output in node.output]
        node.input[:] = [name if value == old else value for value in node.input]


def compare(model, content, *, margin, seed=0):
    """Find the largest difference between Keras and ONNX Runtime on random tiles.

    Parameters
    ----------
    model : keras.Model
    content : bytes
        Its ONNX export.
    margin : int
        Pixels that the network takes off each side.
    seed : int

    Returns
    -------
    float
        Of a probability.
    """
    rng = np.random.default_rng(seed)
    size = model.input_shape[1] or 188
    tiles = rng.integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    of_keras = np.asarray(model(tiles.astype(np.float32), training=False))
    of_onnx = open_onnx(content)(tiles)
    expected = (2, size - 2 * margin, size - 2 * margin)
    if of_onnx.shape != of_keras.shape or of_onnx.shape[:3] != expected:
        raise UserError(
            f"Expected probabilities of shape {expected}, got {of_keras.shape} by Keras and {of_onnx.shape} "
            "by ONNX Runtime; check the card's margin."
        )
    return float(np.abs(of_onnx - of_keras).max())


def export(model, card, folder=WEIGHTS):
    """Write a network and its card, after checking that the export predicts the same.

    Parameters
    ----------
    model : keras.Model
    card : dict
        As `bloodcells.networks.read_card` wants it; "sha256" and "max_difference" are added.
    folder : path-like

    Returns
    -------
    dict
        The card that was written.

    Raises
    ------
    UserError
        If the card is wrong, the export predicts something else, or it is larger than 8 MB.
    """
    folder = Path(folder)
    content = to_onnx(model)
    if len(content) > MAX_BYTES:
        raise UserError(f"The export may have {MAX_BYTES:,} bytes at most, got {len(content):,}.")
    difference = compare(model, content, margin=card["margin"])
    if difference > TOLERANCE:
        raise UserError(f"The export may differ by {TOLERANCE:g} at most, got {difference:.2g}.")
    if model.output_shape[-1] != len(card["heads"]):
        raise UserError(f"The card names {len(card['heads'])} heads, the model has {model.output_shape[-1]}.")
    card = card | {
        "sha256": hashlib.sha256(content).hexdigest(),
        "max_difference": difference,
        "n_parameters": model.count_params(),
    }
    with tempfile.TemporaryDirectory() as scratch:  # a card that can't be read must not replace one that can
        write_json(Path(scratch) / "card.json", card)
        read_card(Path(scratch) / "card.json")
    with atomic_path(folder / f"{card['cell']}.onnx") as temporary:
        temporary.write_bytes(content)
    write_json(folder / f"{card['cell']}.json", card)
    write_text(folder / "README.md", describe(folder))
    return card


def describe(folder=WEIGHTS):
    """Make the model cards for people from those for machines.

    Parameters
    ----------
    folder : path-like

    Returns
    -------
    str
        Markdown.
    """
    folder = Path(folder)
    lines = [
        "# Weights of `bloodcells count`",
        "",
        "Made by `workflow/export_weights.py` from the JSON files beside it; change those.",
    ]
    for cell in CELLS:
        path = folder / f"{cell}.json"
        if not path.exists():
            continue
        card = read_card(path)
        lines += ["", f"## {cell}.onnx: {card.pop('name')}", ""]
        lines += _list(card)
    return "\n".join(lines) + "\n"


def _list(values, indent=""):
    lines = []
    for name, value in values.items():
        label = name.replace("_", " ")
        if isinstance(value, dict):
            lines += [f"{indent}- {label}:", *_list(value, indent + "  ")]
        elif isinstance(value, list):
            lines.append(f"{indent}- {label}: {', '.join(map(str, value))}")
        else:
            lines.append(f"{indent}- {label}: {value}")
    return lines


def main(args=None):
    """Export the model named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="network as Keras saves it, .keras")
    parser.add_argument("card", type=Path, help="JSON file with the card, without the hash")
    parser.add_argument("folder", type=Path, nargs="?", default=WEIGHTS, help="where the export goes")
    options = parser.parse_args(args)
    model = keras.models.load_model(options.model, compile=False, safe_mode=True)
    card = export(model, json.loads(options.card.read_text(encoding="utf-8")), options.folder)
    print(f"{options.folder / card['cell']}.onnx is {card['max_difference']:.1e} from Keras at most")


if __name__ == "__main__":
    with told_in_one_line():
        main()

"""Files of a network's weights, with a seal: damage is found before it does harm.

The files are those of Keras, HDF5, and Keras reads them. After the end of the HDF5 data, where no reader
looks, stand a note and the sha256 of all before it, 64 hexadecimal digits each.

The library of HDF5 never meets a full disk or a damaged file here: the first makes it end the whole process,
and of the second it may make anything.
"""

import hashlib
import io
from pathlib import Path

from bloodcells.errors import UserError
from bloodcells.files import atomic_path

_DIGITS = 64
NO_NOTE = "0" * _DIGITS
"""The note of a file that goes with no other."""


class _Memory(io.BytesIO):
    """A file in memory, with a name, since Keras asks for the suffix."""

    def __str__(self):
        return "memory.weights.h5"


def save_weights(model, *paths, note=NO_NOTE):
    """Save a network's weights, and the state of its optimizer if it has one, each file atomically.

    Parameters
    ----------
    model : keras.Model
    *paths : path-like
        One or more, written in this order with the same content; they end in ``.weights.h5``.
    note : str
        64 hexadecimal digits to keep with the weights: the sha256 of what goes with them, say.

    Raises
    ------
    OSError
        If the disk is full, or the file can't be written for another reason. What was there stays.
    """
    memory = _Memory()
    model.save_weights(memory)
    digest = hashlib.sha256(memory.getbuffer())
    digest.update(note.encode())
    for path in paths:
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            stream.write(memory.getbuffer())
            stream.write((note + digest.hexdigest()).encode())


def load_weights(model, path, *, cure):
    """Load what `save_weights` saved.

    Parameters
    ----------
    model : keras.Model
        Changed in place.
    path : path-like
    cure : str
        What to do where the file is no good, for the message: "save the network again".

    Returns
    -------
    str
        The note.

    Raises
    ------
    UserError
        If the file is missing or damaged, or has weights of another network.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror}); {cure}.") from error
    sealed, seal = memoryview(content)[:-_DIGITS], content[-_DIGITS:]
    if hashlib.sha256(sealed).hexdigest().encode() != seal:
        raise UserError(f"{path} is damaged; {cure}.")
    try:
        model.load_weights(path)
    except (ValueError, KeyError) as error:
        raise UserError(f"{path} has the weights of another network; {cure}.") from error
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} can't be read as weights ({reason}); {cure}.") from error
    return bytes(sealed[-_DIGITS:]).decode()

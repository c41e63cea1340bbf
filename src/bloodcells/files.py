"""Writing files so that a reader never meets half of one."""

import contextlib
import json
import os
import shutil
import tempfile
from pathlib import Path

from bloodcells.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

# Reading the umask means setting it, for all threads: do it once, when the module is loaded.
_UMASK = os.umask(0)
os.umask(_UMASK)


@contextlib.contextmanager
def atomic_path(path):
    """Give a temporary path beside `path` to write to, and move it there when the block ends well.

    Parameters
    ----------
    path : path-like
        Final place; its folder is made if need be. A file that is already there is replaced whole.

    Yields
    ------
    pathlib.Path
        Has the same suffixes as `path`, which some writers insist on.

    Notes
    -----
    On an error the temporary file is removed and `path` stays as it was. The data are flushed to the
    disk before the move, so that a power cut leaves the old file or the new one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".partial-", suffix="-" + path.name)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        # mkstemp makes files private; the result should be as readable as any other new file.
        temporary.chmod(0o666 & ~_UMASK)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path, text):
    """Write a text file atomically, as UTF-8.

    Parameters
    ----------
    path : path-like
    text : str
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, value):
    """Write a JSON file atomically, indented and with sorted keys, so that versions can be compared.

    Parameters
    ----------
    path : path-like
    value : object
        Anything that the json module takes; not-a-number is refused, since JSON has none.
    """
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json_object(path):
    """Read a JSON file that holds an object.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    dict of str to object

    Raises
    ------
    ValueError
        If it is no JSON, nests too deeply, or holds anything but an object.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("it nests too deeply") from error
    if not isinstance(found, dict):
        raise ValueError(f"expected an object, got {type(found).__name__}")
    return found


@contextlib.contextmanager
def hold_folder(folder):
    """Keep other processes from writing to a folder while the block runs, and clear what a killed one left.

    Parameters
    ----------
    folder : path-like
        Made if need be, and removed again if it is still empty in the end.

    Raises
    ------
    UserError
        If another process holds the folder, or the block meets an error of the disk: a folder that can't be
        written, say, or one that is full.

    Notes
    -----
    The lock is the folder's own and ends with the process, however that ends. Where the system or the file
    system has no such locks (Windows, some network drives) nothing keeps others out.
    """
    folder = Path(folder)
    try:
        made = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY) if fcntl else None
        try:
            _lock(folder, handle)
            clear_leftovers(folder)
            # A folder that can be read can be locked, too: find out now whether it can be written.
            tempfile.TemporaryFile(dir=folder).close()
            yield
        finally:
            if handle is not None:
                os.close(handle)
            if made and not any(folder.iterdir()):
                folder.rmdir()
    except BrokenPipeError:
        raise  # whoever reads our output is gone; the disk is well
    except OSError as error:
        reason = error.strerror or str(error)
        # Not a file that was to be made: its name is made up, or says no more than the folder's.
        if error.filename not in (None, str(folder)) and os.path.exists(error.filename):
            reason = f"{error.filename}: {reason}"
        raise UserError(
            f"Can't write to {folder} ({reason}); make room, or choose another folder."
        ) from error


@contextlib.contextmanager
def share_folder(folder):
    """Write to a folder as others may do meanwhile, and clear what killed ones left, at any depth.

    Parameters
    ----------
    folder : path-like
        Made if need be; in the end, folders that were made and are still empty are removed again. If it
        can't be made, the block runs all the same, and its own writing meets the reason.

    Notes
    -----
    As long as another process shares the folder nothing is cleared: what looks left over may be its own.
    Nor is anything cleared where there are no locks, see `hold_folder`.
    """
    folder = Path(folder)
    made = [path for path in (folder, *folder.parents) if not os.path.exists(path)]
    handle = None
    try:
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder, os.O_RDONLY) if fcntl else None
            if handle is not None:
                # Only one that is alone gets this; the other lock is for those that are not.
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                clear_leftovers(folder, "**/.partial-*")
        with contextlib.suppress(OSError):
            if handle is not None:
                fcntl.flock(handle, fcntl.LOCK_SH)
        yield
    finally:
        if handle is not None:
            os.close(handle)
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()


def clear_leftovers(folder, pattern=".partial-*"):
    """Remove what killed processes left half written in a folder that no other process writes to.

    Parameters
    ----------
    folder : pathlib.Path
    pattern : str
        Names of the leftovers, as `pathlib.Path.glob` takes them.
    """
    for leftover in list(folder.glob(pattern)):
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink(missing_ok=True)


def _lock(folder, handle):
    if handle is None:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(
            f"Another process is writing to {folder}; wait for it, or choose another folder."
        ) from None
    except OSError:
        pass  # a file system without locks

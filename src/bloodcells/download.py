"""Getting files whose sha256 is known: from a mirror, else from upstream, into the cache."""

import hashlib
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import requests
import urllib3

from bloodcells.errors import DataUnavailableError, UserError
from bloodcells.files import atomic_path, share_folder

_THREADS = 8
_ATTEMPTS = 2
_CHUNK = 1 << 16
_MAX_BYTES = 1 << 26  # read of a file whose size isn't known
# A server that is not there must be found out quickly, however patient the caller is with a slow one.
_CONTACT_SECONDS = 4.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class File:
    """What is known of a file before it is there.

    Attributes
    ----------
    path : str
        Place below ``<cache>/<dataset>`` and ``<mirror>/<dataset>``.
    upstream_path : str
        Place below the upstream URL.
    sha256 : str
    n_bytes : int or None
        None when the size isn't known beforehand.
    role, image_id : str
        What the file is for; not needed to get it.
    original : File or None
        What upstream has where this file was converted from it: a file of another format and so of another
        path, which a mirror does not have. None where upstream has this very file.
    """

    path: str
    upstream_path: str
    sha256: str
    n_bytes: int | None
    role: str = ""
    image_id: str = ""
    original: "File | None" = None

    @property
    def forms(self):
        """The file itself and, if it was converted, the original, which serves as well."""
        return (self,) if self.original is None else (self, self.original)

    def size_problem(self, n_bytes):
        """Say what is wrong with the number of bytes of this file.

        Parameters
        ----------
        n_bytes : int

        Returns
        -------
        str or None
            None when all is well, or the right size is not known.
        """
        if self.n_bytes is None or n_bytes == self.n_bytes:
            return None
        return f"expected {self.n_bytes} bytes, got {n_bytes}"

    def problem(self, content):
        """Say what is wrong with the content of this file.

        Parameters
        ----------
        content : bytes or None
            None when there is no file.

        Returns
        -------
        str or None
            None when all is well.
        """
        if content is None:
            return "missing"
        if problem := self.size_problem(len(content)):
            return problem
        digest = hashlib.sha256(content).hexdigest()
        if digest != self.sha256:
            return f"expected sha256 {self.sha256[:12]}..., got {digest[:12]}..."
        return None


def read_bytes(path):
    """Read a file.

    Parameters
    ----------
    path : pathlib.Path

    Returns
    -------
    bytes or None
        None when there is no such file.

    Raises
    ------
    UserError
        If the file or a folder on the way to it can't be read.
    """
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(
            f"Can't read {path} ({error.strerror}); check the file and its permissions."
        ) from error


def download_files(name, files, *, cache, mirror, upstream, timeout, progress=False):
    """Put verified copies of files into the cache, from the mirror or else from upstream.

    Of a converted file upstream has the original only. It is stored as it is, under its own path, and
    converted by whoever reads it: its hash tells whether it is sound, whatever decoder or encoder is at hand.

    Parameters
    ----------
    name : str
        The dataset: its folder in the cache and in the mirror.
    files : sequence of File
        All are got, whether the cache has them or not.
    cache : pathlib.Path
    mirror : pathlib.Path, str or None
        A folder, or a URL without a slash at the end.
    upstream : str
        URL without a slash at the end.
    timeout : float
        Seconds to wait for each answer, see `bloodcells.datasets.fetch`.
    progress : bool
        Whether to draw a progress bar.

    Raises
    ------
    DataUnavailableError
        If neither place has all of the files, or can be reached.
    UserError
        If a place gives a damaged file, the mirror folder is missing, or the cache can't be written.
    """
    if not files:
        return
    from rich.progress import Progress

    reasons = []  # why a place did not give all that it was asked for
    left = files
    with share_folder(cache / name), Progress(disable=not progress) as bar:
        task = bar.add_task(name, total=len(files))

        def store(file, content):
            _store(cache / name / file.path, content)
            bar.advance(task)

        if isinstance(mirror, Path):
            left = _take_from_folder(mirror / name, left, store, reasons)
        elif mirror is not None:
            urls = {file: f"{mirror}/{name}/{quote(file.path)}" for file in left}
            left = _take_from_server(urls, timeout, store, reasons)
        if left:
            originals = [file.original or file for file in left]
            urls = {file: f"{upstream}/{quote(file.upstream_path)}" for file in originals}
            left = _take_from_server(urls, timeout, store, reasons)
    if left:
        cure = "Connect to the network, or set BLOODCELLS_MIRROR to a folder or URL that has the data."
        raise DataUnavailableError(f"{len(left)} files of {name} can't be had: {'; '.join(reasons)}. {cure}")


def _store(path, content):
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        cure = "make room, or name another folder in BLOODCELLS_CACHE"
        raise UserError(f"Can't write {path} ({error.strerror}); {cure}.") from error


def _take_from_folder(folder, files, store, reasons):
    """Store the files that a mirror folder has; return the others."""
    if not folder.parent.is_dir():
        cure = "correct or unset BLOODCELLS_MIRROR"
        raise UserError(f"Expected a mirror folder at {folder.parent}, there is none; {cure}.")
    left = []
    for file in files:
        path = folder / file.path
        content = read_bytes(path)
        if content is None:
            left.append(file)
            continue
        if problem := file.problem(content):
            raise UserError(f"{path} is damaged ({problem}); replace it.")
        store(file, content)
    if left:
        reasons.append(f"{folder / left[0].path} is not there")
    return left


def _take_from_server(urls, timeout, store, reasons):
    """Store the files that a server has, `urls` maps file to URL; return the others."""
    first = next(iter(urls.values()))
    if not _answers(first, min(timeout, _CONTACT_SECONDS)):
        reasons.append(f"no answer from {first}")
        return list(urls)
    left = dict(urls)
    pool = ThreadPoolExecutor(_THREADS)
    try:
        futures = {pool.submit(_get_verified, url, file, timeout): file for file, url in urls.items()}
        for future in as_completed(tuple(futures)):
            file = futures.pop(future)  # lets go of the content once it is stored
            content = future.result()
            if content is not None:
                store(file, content)
                del left[file]
        if left:
            reasons.append(f"{next(iter(left.values()))} is not there")
    except DataUnavailableError as error:
        reasons.append(str(error))
    finally:
        pool.shutdown(cancel_futures=True)
    return list(left)


def _answers(url, seconds):
    """Say whether a server gives any answer at all in time."""
    answered = threading.Event()

    def ask():
        try:
            requests.head(url, timeout=seconds).close()
            answered.set()
        except requests.RequestException as error:
            _log.info("%s: %s", url, error)

    # The look-up of a host name heeds no time limit, so it goes on in a thread that no one waits for.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return answered.is_set()


def _get_verified(url, file, timeout):
    """Return the verified bytes of one file, or None when the server does not have it."""
    for _ in range(_ATTEMPTS):
        try:
            content = _get(url, file.n_bytes, timeout)
        except requests.HTTPError as error:
            status = error.response.status_code
            if status in (404, 410):
                return None
            failure = DataUnavailableError(f"{url} answers with status {status}")
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            failure = DataUnavailableError(f"{url} failed ({type(error).__name__})")
        else:
            problem = file.problem(content)
            if problem is None:
                return content
            failure = UserError(f"{url} gave a damaged file ({problem}); try again, or use another mirror.")
    raise failure


def _get(url, n_bytes, timeout):
    """Return what a server sends, less when the connection breaks, little more than `n_bytes` in any case."""
    n_bytes = _MAX_BYTES if n_bytes is None else n_bytes
    end = time.monotonic() + 10 * timeout
    content = bytearray()
    with requests.get(url, timeout=timeout, stream=True) as response:
        response.raise_for_status()
        while len(content) <= n_bytes:
            try:
                # Returns as soon as anything is there. Reading on until a chunk is full, as `iter_content`
                # does, would let a server that sends a byte now and then keep us for hours.
                chunk = response.raw.read1(_CHUNK, decode_content=True)
            except urllib3.exceptions.ProtocolError:
                break  # the size will tell
            if not chunk:
                break
            content += chunk
            if time.monotonic() > end:
                raise requests.Timeout("the download takes too long")
    return bytes(content)

"""The real datasets: fetch them once, verify every file, read a split as images with truth.

What is known of each file (its sha256, its place upstream) is committed in ``data/``; the files themselves
never are. A file comes from the cache, else from the mirror, else from upstream.
"""

import csv
import hashlib
import io
import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
import pooch
import requests
import yaml
from PIL import Image

from bloodcells.errors import DataUnavailableError, UserError
from bloodcells.files import atomic_path
from bloodcells.paths import data_dir

UPSTREAM = "https://raw.githubusercontent.com"
CELL_TYPES = ("neutrophil", "lymphocyte", "basophil", "eosinophil", "monocyte")
SPLITS = ("train", "val", "test")
# Grey levels by role: background, cytoplasm (if told apart), and nucleus or whole cell.
_MASK_VALUES = {"mask-nucleus-cytoplasm": (0, 128, 255), "mask-wbc": (0, 255)}
_THREADS = 8
_ATTEMPTS = 2
# A server that is not there must be found out quickly, however patient the caller is with a slow one.
_CONTACT_SECONDS = 4.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Sample:
    """One image of a single white cell, with its truth.

    Attributes
    ----------
    dataset, image_id, cell_type : str
    image : ndarray of uint8, shape (M, N, 3)
        RGB.
    nucleus : ndarray of bool, shape (M, N), or None
        None where the dataset has no nucleus truth.
    cell : ndarray of bool, shape (M, N)
        The whole white cell, nucleus and cytoplasm.
    """

    dataset: str
    image_id: str
    cell_type: str
    image: np.ndarray
    nucleus: np.ndarray | None
    cell: np.ndarray


@dataclass(frozen=True)
class _File:
    """One row of ``registry/<dataset>.csv``."""

    path: str
    role: str
    image_id: str
    sha256: str
    n_bytes: int
    upstream_path: str

    def problem(self, content):
        """Return what is wrong with the bytes of this file, or None."""
        if len(content) != self.n_bytes:
            return f"expected {self.n_bytes} bytes, got {len(content)}"
        digest = hashlib.sha256(content).hexdigest()
        return (
            None if digest == self.sha256 else f"expected sha256 {self.sha256[:12]}..., got {digest[:12]}..."
        )


def default_cache():
    """Return the folder of fetched files: ``BLOODCELLS_CACHE``, else the user's cache folder, as a Path."""
    return Path(os.environ.get("BLOODCELLS_CACHE") or pooch.os_cache("bloodcells")).expanduser()


def default_mirror():
    """Return the folder or http(s) URL in ``BLOODCELLS_MIRROR`` as a str, or None if it is unset or empty."""
    return os.environ.get("BLOODCELLS_MIRROR") or None


def _root(registry):
    return data_dir() if registry is None else Path(registry)


def _facts(registry):
    return yaml.safe_load((_root(registry) / "registry.yml").read_text(encoding="utf-8"))


def _files(name, registry):
    with (_root(registry) / "registry" / f"{name}.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    keys = ("path", "role", "image_id", "sha256", "upstream_path")
    return [_File(n_bytes=int(row["bytes"]), **{key: row[key] for key in keys}) for row in rows]


DATASETS = tuple(_facts(None))
"""Names of the real datasets, in the order of the registry."""


def describe(name, *, registry=None):
    """Return what is known of a dataset.

    Parameters
    ----------
    name : str
        One of `DATASETS`.
    registry : path-like, optional
        Folder with ``registry.yml``, ``registry/`` and ``splits/``; the package's own by default.

    Returns
    -------
    dict
        ``title``, ``description``, ``homepage``, ``licence``, ``licence_note``, ``citation``, ``repo``,
        ``commit``, ``upstream`` (URL), ``defects`` (list of str), ``stray_masks`` (ids of the masks that are
        known to hold other values than they should), ``n_files``, ``n_images`` and ``n_bytes``.

    Raises
    ------
    UserError
        If there is no dataset of that name.

    Examples
    --------
    >>> describe("bcisc")["licence"]
    'Apache-2.0'
    """
    facts = _facts(registry)
    if name not in facts:
        raise UserError(f"Expected a dataset, one of {', '.join(facts)}; got {name!r}.")
    files = _files(name, registry)
    return facts[name] | {
        "upstream": f"{UPSTREAM}/{facts[name]['repo']}/{facts[name]['commit']}",
        "n_files": len(files),
        "n_images": sum(file.role == "image" for file in files),
        "n_bytes": sum(file.n_bytes for file in files),
    }


def read_split(name, *, registry=None):
    """Read the committed split of a dataset; no image is needed.

    Parameters
    ----------
    name, registry
        As in `describe`.

    Returns
    -------
    pandas.DataFrame
        Columns ``image_id``, ``split`` ("train", "val" or "test"), ``cell_type`` and ``group``, all str.
        Images of one group show one cell or picture. Within a split the rows cycle through the cell types.
    """
    describe(name, registry=registry)
    return pd.read_csv(_root(registry) / "splits" / f"{name}.csv", dtype=str)


def fetch(name, *, cache=None, mirror=None, upstream=None, progress=False, timeout=15.0, registry=None):
    """Put a verified copy of every file of a dataset into the cache.

    Sound files stay as they are, so an interrupted fetch goes on where it stopped. A damaged file is fetched
    again, with a warning in the log. Several processes may fetch at once.

    Parameters
    ----------
    name : str
        One of `DATASETS`.
    cache : path-like, optional
        Where to put the files, as ``<cache>/<name>/<path>``; `default_cache` by default.
    mirror : path-like or str, optional
        Folder or http(s) URL with the same layout, asked first; `default_mirror` by default, "" for none.
    upstream : str, optional
        Stands for https://raw.githubusercontent.com, asked for what the mirror lacks.
    progress : bool
        Whether to draw a progress bar.
    timeout : float
        Seconds to wait for each answer of a slow server; a whole file may take ten times as long. A server
        that gives no answer at all is given up after four seconds at most.
    registry : path-like, optional
        As in `describe`.

    Returns
    -------
    pathlib.Path
        ``<cache>/<name>``.

    Raises
    ------
    DataUnavailableError
        If a file is in no place that can be reached. After one failed contact no other file is tried.
    UserError
        If a place gives a damaged file, the mirror folder is missing, or the cache can't be written.
    """
    facts = describe(name, registry=registry)
    cache = default_cache() if cache is None else Path(cache)
    problems = _problems(name, cache, registry)
    for file, problem in problems.items():
        if problem != "missing":
            _log.warning("%s is damaged (%s) and is fetched again.", cache / name / file.path, problem)
    _bring(name, list(problems), facts, cache, _mirror(mirror), upstream, timeout, progress)
    return cache / name


def verify(name, *, cache=None, registry=None):
    """Check every file of a dataset in the cache.

    Parameters
    ----------
    name, cache, registry
        As in `fetch`.

    Returns
    -------
    list of str
        One line per missing or damaged file; empty when all is well.
    """
    describe(name, registry=registry)
    cache = default_cache() if cache is None else Path(cache)
    return [f"{name}/{file.path}: {problem}" for file, problem in _problems(name, cache, registry).items()]


def load_split(
    name,
    split,
    *,
    cell_types=None,
    limit=None,
    cache=None,
    mirror=None,
    upstream=None,
    timeout=15.0,
    registry=None,
):
    """Read the samples of a split, fetching into the cache what is not at hand.

    Each file is verified as it is read. A mirror that is a folder is read in place, without a copy.

    Parameters
    ----------
    name : str
        One of `DATASETS`, or "synthetic" for drawn cells.
    split : {"train", "val", "test"}
    cell_types : iterable of str, optional
        Keep these cell types only; all by default.
    limit : int, optional
        Then keep the first `limit` rows only. The first few rows of a split hold every cell type it has.
    cache, mirror, upstream, timeout, registry
        As in `fetch`.

    Returns
    -------
    list of Sample
        In the order of the committed split; empty when the split has none of the cell types.

    Raises
    ------
    DataUnavailableError
        If a file is in no place that can be reached.
    UserError
        If an argument is wrong, a file is damaged, or a mask holds values that it should not.
    """
    if split not in SPLITS:
        raise UserError(f"Expected a split, one of {', '.join(SPLITS)}; got {split!r}.")
    if limit is not None and (not isinstance(limit, int | np.integer) or limit < 1):
        raise UserError(f"Expected a limit of 1 or more images, or None for all; got {limit!r}.")
    if cell_types is not None:
        cell_types = (cell_types,) if isinstance(cell_types, str) else tuple(cell_types)
        if unknown := [repr(cell_type) for cell_type in cell_types if cell_type not in CELL_TYPES]:
            raise UserError(f"Expected cell types out of {', '.join(CELL_TYPES)}; got {', '.join(unknown)}.")
    if name == "synthetic":
        from bloodcells import synthetic

        return synthetic.load_split(split, cell_types=cell_types, limit=limit)

    facts = describe(name, registry=registry)
    rows = read_split(name, registry=registry).query("split == @split")
    if cell_types is not None:
        rows = rows[rows["cell_type"].isin(cell_types)]
    rows = rows.head(limit) if limit is not None else rows
    wanted = set(rows["image_id"])
    files = [file for file in _files(name, registry) if file.image_id in wanted]
    folders = _bring_absent(name, files, facts, cache, mirror, upstream, timeout)

    images = {file.image_id: file for file in files if file.role == "image"}
    masks = {file.image_id: file for file in files if file.role in _MASK_VALUES}
    samples = []
    for row in rows.itertuples():
        image = _decode(name, images[row.image_id], folders, "RGB")
        nucleus, cell = _read_mask(name, masks[row.image_id], folders, row.image_id in facts["stray_masks"])
        if image.shape[:2] != cell.shape:
            sizes = f"{image.shape[:2]} and {cell.shape}"
            raise UserError(
                f"Expected image and mask of {name} {row.image_id} to be of one size; got {sizes}."
            )
        samples.append(Sample(name, row.image_id, row.cell_type, image, nucleus, cell))
    return samples


def resolve(dataset, names, *, cache=None, mirror=None, upstream=None, timeout=15.0, registry=None):
    """Turn a chapter's ``dataset`` parameter into the datasets to load.

    Parameters
    ----------
    dataset : str
        "auto" for `names` if all of them can be had, and for drawn cells if not; "real" for `names` or an
        error; "synthetic" for drawn cells; one of `names` for itself.
    names : sequence of str
        The real datasets of the chapter.
    cache, mirror, upstream, timeout, registry
        As in `fetch`. With "auto" and "real", what is not at hand is fetched.

    Returns
    -------
    tuple of str

    Raises
    ------
    DataUnavailableError
        If `dataset` is "real" and a file is in no place that can be reached.
    UserError
        If `dataset` is none of the above, or as in `fetch`: a fault is an error even with "auto".

    Examples
    --------
    >>> resolve("synthetic", ("jiangxi", "bcisc"))
    ('synthetic',)
    >>> resolve("bcisc", ("jiangxi", "bcisc"))
    ('bcisc',)
    """
    names = tuple(names)
    facts = {name: describe(name, registry=registry) for name in names}
    if dataset == "synthetic" or dataset in names:
        return (dataset,)
    if dataset not in ("auto", "real"):
        choices = ", ".join(("auto", "real", "synthetic", *names))
        raise UserError(f"Expected dataset to be one of {choices}; got {dataset!r}.")
    try:
        for name in names:
            _bring_absent(name, _files(name, registry), facts[name], cache, mirror, upstream, timeout)
    except DataUnavailableError as error:
        if dataset == "real":
            raise
        _log.warning("Drawn cells stand in for the real data: %s", error)
        return ("synthetic",)
    return names


def _mirror(mirror):
    """Return a mirror as a Path, as a URL without a slash at the end, or None."""
    mirror = default_mirror() if mirror is None else mirror
    if not mirror:
        return None
    is_url = str(mirror).startswith(("http://", "https://"))
    return mirror.rstrip("/") if is_url else Path(mirror).expanduser()


def _problems(name, cache, registry):
    """Return what is wrong with each file of a dataset that is missing or damaged in the cache."""
    problems = {}
    for file in _files(name, registry):
        path = cache / name / file.path
        problem = file.problem(_read_bytes(path)) if path.exists() else "missing"
        if problem:
            problems[file] = problem
    return problems


def _read_bytes(path):
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"Can't read {path} ({error.strerror}); check the file and its permissions."
        ) from error


def _decode(name, file, folders, mode):
    """Read, verify and decode a file from the first of the folders that has it."""
    path = next((path for folder in folders if (path := folder / file.path).exists()), folders[0] / file.path)
    content = _read_bytes(path)
    if problem := file.problem(content):
        cure = (
            f"run `bloodcells data fetch {name}` to repair" if path.is_relative_to(folders[0]) else "replace"
        )
        raise UserError(f"{path} is damaged ({problem}); {cure} it.")
    try:
        with Image.open(io.BytesIO(content)) as image:
            return np.array(image.convert(mode))
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path} can't be read as an image ({error}); check the registry.") from error


def _read_mask(name, file, folders, is_stray):
    """Return nucleus (or None) and whole cell of one mask, both bool of shape (M, N)."""
    mask = _decode(name, file, folders, "L")
    levels = np.array(_MASK_VALUES[file.role])
    values = np.unique(mask)
    if not is_stray and (stray := values[~np.isin(values, levels)]).size:
        expected, got = (", ".join(map(str, numbers)) for numbers in (levels, stray))
        raise UserError(f"Expected only the values {expected} in mask {name}/{file.path}; got {got} too.")
    nearest = levels[np.abs(values[:, np.newaxis].astype(int) - levels).argmin(axis=1)]
    settled = nearest[np.searchsorted(values, mask)]
    return (settled == 255 if 128 in levels else None), settled > 0


def _bring_absent(name, files, facts, cache, mirror, upstream, timeout):
    """Fetch those files that are not at hand; return the folders to read from, the cache first."""
    cache = default_cache() if cache is None else Path(cache)
    mirror = _mirror(mirror)
    folders = [root / name for root in (cache, mirror) if isinstance(root, Path)]
    absent = [file for file in files if not any((folder / file.path).exists() for folder in folders)]
    _bring(name, absent, facts, cache, mirror, upstream, timeout, progress=False)
    return folders


def _bring(name, files, facts, cache, mirror, upstream, timeout, progress):
    """Put verified copies of files into the cache, from the mirror or else from upstream."""
    if not files:
        return
    from rich.progress import Progress

    reasons = []
    with Progress(disable=not progress) as bar:
        task = bar.add_task(name, total=len(files))

        # Called from this thread only: `atomic_path` sets the umask of the whole process for a moment.
        def store(file, content):
            target = cache / name / file.path
            try:
                with atomic_path(target) as temporary:
                    temporary.write_bytes(content)
            except OSError as error:
                cure = "make room, or name another folder in BLOODCELLS_CACHE"
                raise UserError(f"Can't write {target} ({error.strerror}); {cure}.") from error
            bar.advance(task)

        left = files
        if isinstance(mirror, Path):
            left = _take_from_folder(mirror / name, left, store, reasons)
        elif mirror is not None:
            urls = {file: f"{mirror}/{name}/{quote(file.path)}" for file in left}
            left = _take_from_server(urls, timeout, store, reasons)
        if left:
            base = f"{(upstream or UPSTREAM).rstrip('/')}/{facts['repo']}/{facts['commit']}"
            urls = {file: f"{base}/{quote(file.upstream_path)}" for file in left}
            left = _take_from_server(urls, timeout, store, reasons)
    if left:
        cure = "Connect to the network, or set BLOODCELLS_MIRROR to a folder or URL that has the data."
        raise DataUnavailableError(f"{len(left)} files of {name} can't be had: {'; '.join(reasons)}. {cure}")


def _take_from_folder(folder, files, store, reasons):
    """Store the files that a mirror folder has; return the others."""
    if not folder.parent.is_dir():
        cure = "correct or unset BLOODCELLS_MIRROR"
        raise UserError(f"Expected a mirror folder at {folder.parent}, there is none; {cure}.")
    left = []
    for file in files:
        path = folder / file.path
        if not path.exists():
            left.append(file)
            continue
        content = _read_bytes(path)
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
        futures = {pool.submit(_download, url, file, timeout): file for file, url in urls.items()}
        for future in as_completed(tuple(futures)):
            file = futures.pop(future)
            if (content := future.result()) is not None:
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


class _Body(io.BytesIO):
    """A download in memory that gives up when it gets too long, in bytes or in seconds."""

    def __init__(self, n_bytes, seconds):
        super().__init__()
        self.n_bytes, self.end = n_bytes, time.monotonic() + seconds

    def write(self, chunk):
        n = super().write(chunk)
        if time.monotonic() > self.end:
            raise requests.Timeout("the download takes too long")
        if self.tell() > self.n_bytes:
            raise requests.exceptions.ChunkedEncodingError("the download is too long")
        return n


def _download(url, file, timeout):
    """Return the verified bytes of one file, or None when the server does not have it."""
    for _ in range(_ATTEMPTS):
        body = _Body(file.n_bytes, 10 * timeout)
        try:
            pooch.HTTPDownloader(timeout=timeout)(url, body, None)
        except requests.exceptions.ChunkedEncodingError:
            pass  # broken off, or too long: the size tells
        except requests.HTTPError as error:
            status = error.response.status_code
            error.response.close()
            if status in (404, 410):
                return None
            failure = DataUnavailableError(f"{url} answers with status {status}")
            continue
        except requests.RequestException as error:
            failure = DataUnavailableError(f"{url} failed ({type(error).__name__})")
            continue
        problem = file.problem(body.getvalue())
        if problem is None:
            return body.getvalue()
        failure = UserError(f"{url} gave a damaged file ({problem}); try again, or use another mirror.")
    raise failure

"""The real datasets: fetch them once, verify every file, read a split as images with truth.

What is known of each file (its sha256, its place upstream) is committed in ``data/``; the files themselves
never are. A file comes from the cache, else from the mirror, else from upstream.
"""

import io
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pooch
from PIL import Image

from bloodcells.download import download_files, read_bytes
from bloodcells.errors import DataUnavailableError, UserError
from bloodcells.registry import (
    CELL_DATASETS,
    DATASETS,
    FIELD_DATASETS,
    UPSTREAM,
    describe,
    read_files,
    read_split,
)

__all__ = [
    "CELL_DATASETS",
    "CELL_TYPES",
    "DATASETS",
    "FIELD_DATASETS",
    "SPLITS",
    "UPSTREAM",
    "Sample",
    "default_cache",
    "default_mirror",
    "describe",
    "fetch",
    "fetch_absent",
    "load_split",
    "read_file",
    "read_image",
    "read_split",
    "resolve",
    "verify",
]

CELL_TYPES = ("neutrophil", "lymphocyte", "basophil", "eosinophil", "monocyte")
SPLITS = ("train", "val", "test")
# Grey levels by role: background, cytoplasm (if told apart), and nucleus or whole cell.
_MASK_VALUES = {"mask-nucleus-cytoplasm": (0, 128, 255), "mask-wbc": (0, 255)}
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


def default_cache():
    """Return the folder of fetched files: ``BLOODCELLS_CACHE``, else the user's cache folder, as a Path."""
    return Path(os.environ.get("BLOODCELLS_CACHE") or pooch.os_cache("bloodcells")).expanduser()


def default_mirror():
    """Return the folder or http(s) URL in ``BLOODCELLS_MIRROR`` as a str, or None if it is unset or empty."""
    return os.environ.get("BLOODCELLS_MIRROR") or None


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
    describe(name, registry=registry)
    cache = _cache(cache)
    problems = _problems(name, cache, registry)
    for form, problem in problems.values():
        if problem != "missing":
            _log.warning("%s is damaged (%s) and is fetched again.", cache / name / form.path, problem)
    download_files(
        name,
        list(problems),
        cache=cache,
        mirror=_mirror(mirror),
        upstream=_upstream(upstream),
        timeout=timeout,
        progress=progress,
    )
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
    problems = _problems(name, _cache(cache), registry)
    return [f"{name}/{form.path}: {problem}" for form, problem in problems.values()]


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
        One of `CELL_DATASETS`, or "synthetic" for drawn cells.
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
    check_limit(limit, "images")
    if cell_types is not None:
        cell_types = (cell_types,) if isinstance(cell_types, str) else tuple(cell_types)
        if unknown := [repr(cell_type) for cell_type in cell_types if cell_type not in CELL_TYPES]:
            raise UserError(f"Expected cell types out of {', '.join(CELL_TYPES)}; got {', '.join(unknown)}.")
    if name == "synthetic":
        from bloodcells import synthetic

        return synthetic.load_split(split, cell_types=cell_types, limit=limit)
    if name in FIELD_DATASETS:
        raise UserError(
            f"Expected a dataset of single cells, one of {', '.join(CELL_DATASETS)}; {name} holds whole "
            "smear fields: use `bloodcells.fields.list_fields` and `load_field`."
        )

    facts = describe(name, registry=registry)
    rows = read_split(name, registry=registry).query("split == @split")
    if cell_types is not None:
        rows = rows[rows["cell_type"].isin(cell_types)]
    rows = rows.head(limit) if limit is not None else rows
    wanted = set(rows["image_id"])
    files = [file for file in read_files(name, registry=registry) if file.image_id in wanted]
    folders = fetch_absent(name, files, cache=cache, mirror=mirror, upstream=upstream, timeout=timeout)

    images = {file.image_id: file for file in files if file.role == "image"}
    masks = {file.image_id: file for file in files if file.role in _MASK_VALUES}
    samples = []
    for row in rows.itertuples():
        image = read_image(name, images[row.image_id], folders, "RGB")
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
    for name in names:
        describe(name, registry=registry)  # refuses an unknown name
    if dataset == "synthetic" or dataset in names:
        return (dataset,)
    if dataset not in ("auto", "real"):
        choices = ", ".join(("auto", "real", "synthetic", *names))
        raise UserError(f"Expected dataset to be one of {choices}; got {dataset!r}.")
    try:
        for name in names:
            files = read_files(name, registry=registry)
            fetch_absent(name, files, cache=cache, mirror=mirror, upstream=upstream, timeout=timeout)
    except DataUnavailableError as error:
        if dataset == "real":
            raise
        _log.warning("Drawn cells stand in for the real data: %s", error)
        return ("synthetic",)
    return names


def check_limit(limit, what):
    """Raise unless a limit of how many to read is None, for all, or a whole number from 1.

    Parameters
    ----------
    limit : int or None
    what : str
        What is read, for the message: "images".

    Raises
    ------
    UserError
    """
    if limit is not None and (not isinstance(limit, int | np.integer) or limit < 1):
        raise UserError(f"Expected a limit of 1 or more {what}, or None for all; got {limit!r}.")


def _cache(cache):
    return default_cache() if cache is None else Path(cache).expanduser()


def _mirror(mirror):
    """Return a mirror as a Path, as a URL without a slash at the end, or None."""
    mirror = default_mirror() if mirror is None else mirror
    if not mirror:
        return None
    is_url = str(mirror).startswith(("http://", "https://"))
    return mirror.rstrip("/") if is_url else Path(mirror).expanduser()


def _upstream(upstream):
    return (upstream or UPSTREAM).rstrip("/")


def _problems(name, cache, registry):
    """Return what is wrong with each file of a dataset that is missing or damaged in the cache."""
    looked = {file: _look(file, cache / name) for file in read_files(name, registry=registry)}
    return {file: (form, problem) for file, (form, _, problem) in looked.items() if problem}


def fetch_absent(name, files, *, cache=None, mirror=None, upstream=None, timeout=15.0):
    """Fetch into the cache those files of a dataset that are neither there nor in a mirror folder.

    Parameters
    ----------
    name : str
    files : list of bloodcells.download.File
        As from `bloodcells.registry.read_files`, all or some of them.
    cache, mirror, upstream, timeout
        As in `fetch`.

    Returns
    -------
    list of pathlib.Path
        The folders to read from, the cache's first: see `read_file`.

    Raises
    ------
    DataUnavailableError, UserError
        As in `fetch`.
    """
    cache, mirror = _cache(cache), _mirror(mirror)
    folders = [root / name for root in (cache, mirror) if isinstance(root, Path)]
    absent = [file for file in files if _find(file, folders) is None]
    download_files(name, absent, cache=cache, mirror=mirror, upstream=_upstream(upstream), timeout=timeout)
    return folders


def _find(file, folders):
    """Return the first of the folders that has a file or its original, or None."""
    # `Path.exists` of some versions of Python raises an error where a folder is closed to us.
    forms = file.forms
    return next((f for f in folders if any(os.path.exists(f / form.path) for form in forms)), None)


def _look(file, folder):
    """Look for a file or else its original in a folder; return the form it has, its content and its problem.

    A damaged form counts for nothing while the other one is sound.
    """
    looked = []
    for form in file.forms:
        content = read_bytes(folder / form.path)
        problem = form.problem(content)
        if problem is None:
            return form, content, None
        looked.append((content is None, form, content, problem))
    return min(looked, key=lambda look: look[0])[1:]  # damage, sooner than absence


def read_file(name, file, folders):
    """Read and verify a file from the first of the folders that has it.

    Parameters
    ----------
    name : str
        The dataset.
    file : bloodcells.download.File
    folders : list of pathlib.Path
        As from `fetch_absent`.

    Returns
    -------
    form : bloodcells.download.File
        The file, or its original.
    content : bytes

    Raises
    ------
    UserError
        If the file is damaged, or in none of the folders.
    """
    folder = _find(file, folders) or folders[0]
    form, content, problem = _look(file, folder)
    if problem:
        cure = f"run `bloodcells data fetch {name}` to repair" if folder == folders[0] else "replace"
        raise UserError(f"{folder / form.path} is damaged ({problem}); {cure} it.")
    return form, content


def read_image(name, file, folders, mode):
    """Read, verify and decode an image.

    Parameters
    ----------
    name, file, folders
        As in `read_file`.
    mode : {"RGB", "L"}

    Returns
    -------
    ndarray of uint8, shape (M, N, 3) or (M, N)

    Raises
    ------
    UserError
        As `read_file`, or if the file is no image.
    """
    form, content = read_file(name, file, folders)
    try:
        with Image.open(io.BytesIO(content)) as image:
            return np.array(image.convert(mode))
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(
            f"{name}/{form.path} can't be read as an image ({error}); check the registry."
        ) from error


def _read_mask(name, file, folders, is_stray):
    """Return nucleus (or None) and whole cell of one mask, both bool of shape (M, N)."""
    mask = read_image(name, file, folders, "L")
    levels = np.array(_MASK_VALUES[file.role])
    values = np.unique(mask)
    if not is_stray and (stray := values[~np.isin(values, levels)]).size:
        expected, got = (", ".join(map(str, numbers)) for numbers in (levels, stray))
        raise UserError(f"Expected only the values {expected} in mask {name}/{file.path}; got {got} too.")
    nearest = levels[np.abs(values[:, np.newaxis].astype(int) - levels).argmin(axis=1)]
    settled = nearest[np.searchsorted(values, mask)]
    return (settled == 255 if 128 in levels else None), settled > 0

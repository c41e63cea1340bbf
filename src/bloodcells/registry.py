"""What is committed of the real datasets: facts, the list of their files, and their splits."""

import csv
from pathlib import Path

import pandas as pd
import yaml

from bloodcells.download import File
from bloodcells.errors import UserError
from bloodcells.paths import data_dir

UPSTREAM = "https://raw.githubusercontent.com"


def _root(registry):
    return data_dir() if registry is None else Path(registry)


def _all_facts(registry):
    return yaml.safe_load((_root(registry) / "registry.yml").read_text(encoding="utf-8"))


def _facts(name, registry):
    facts = _all_facts(registry)
    if name not in facts:
        raise UserError(f"Expected a dataset, one of {', '.join(facts)}; got {name!r}.")
    return facts[name]


DATASETS = tuple(_all_facts(None))
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
    facts = _facts(name, registry)
    files = read_files(name, registry=registry)
    return facts | {
        "upstream": upstream_url(facts),
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
    _facts(name, registry)  # refuses an unknown name
    return pd.read_csv(_root(registry) / "splits" / f"{name}.csv", dtype=str)


def read_files(name, *, registry=None):
    """Read which files a dataset has.

    Parameters
    ----------
    name, registry
        As in `describe`.

    Returns
    -------
    list of bloodcells.download.File

    Raises
    ------
    UserError
        If there is no dataset of that name.
    """
    _facts(name, registry)  # refuses an unknown name
    with (_root(registry) / "registry" / f"{name}.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    keys = ("path", "upstream_path", "sha256", "role", "image_id")
    return [File(n_bytes=int(row["bytes"]), **{key: row[key] for key in keys}) for row in rows]


def upstream_url(facts, upstream=None):
    """Return the URL of a dataset's repository at its commit.

    Parameters
    ----------
    facts : dict
        With ``repo`` and ``commit``, as from `describe`.
    upstream : str, optional
        Stands for `UPSTREAM`.

    Returns
    -------
    str
        Without a slash at the end.
    """
    return f"{(upstream or UPSTREAM).rstrip('/')}/{facts['repo']}/{facts['commit']}"

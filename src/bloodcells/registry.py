"""What is committed of the real datasets: facts, the list of their files, and their splits."""

import csv
from pathlib import Path, PurePosixPath

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

FIELD_DATASETS = ("all-idb1",)
"""Those of `DATASETS` that hold whole smear fields: see `bloodcells.fields`."""

CELL_DATASETS = tuple(name for name in DATASETS if name not in FIELD_DATASETS)
"""Those of `DATASETS` that hold images of single white cells: see `bloodcells.datasets.load_split`."""


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
        ``commit``, ``sources`` (dict of repository to commit, for the files of other repositories too),
        ``upstream`` (URL), ``defects`` (list of str), ``stray_masks`` (ids of the masks that are known to
        hold other values than they should), ``n_files``, ``n_images`` and ``n_bytes``.

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
    return (
        {"sources": {facts["repo"]: facts["commit"]}}
        | facts
        | {
            "upstream": f"{UPSTREAM}/{facts['repo']}/{facts['commit']}",
            "n_files": len(files),
            "n_images": sum(file.role == "image" for file in files),
            "n_bytes": sum(file.n_bytes for file in files),
        }
    )


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
        Of `FIELD_DATASETS` the columns are ``image_id``, a part ("train", "test" or "") for each of ``rbc``,
        ``wbc`` and ``plt``, and ``group``, whose images are duplicates or overlap.
    """
    _facts(name, registry)  # refuses an unknown name
    return pd.read_csv(_root(registry) / "splits" / f"{name}.csv", dtype=str, keep_default_na=False)


def read_counts_file(name, *, registry=None):
    """Read a committed table of cell counts.

    Parameters
    ----------
    name : str
        Its name in ``counts/``, without the suffix.
    registry : path-like, optional
        As in `describe`.

    Returns
    -------
    pandas.DataFrame
    """
    return pd.read_csv(_root(registry) / "counts" / f"{name}.csv", dtype={"image_id": str})


def read_crops(name, *, registry=None):
    """Read the committed windows of chapters 1 and 3; no image is needed.

    Parameters
    ----------
    name, registry
        As in `describe`; one of `FIELD_DATASETS`.

    Returns
    -------
    pandas.DataFrame
        Columns ``kind`` ("wide" or "square"), ``image_id`` and ``split`` ("train", "val" or "test"), all str,
        and ``row``, ``column``, ``rows`` and ``columns`` of the window, pixels of the field.

    Raises
    ------
    UserError
        If the dataset has no such windows.
    """
    _facts(name, registry)  # refuses an unknown name
    path = _root(registry) / "splits" / f"{name}_crops.csv"
    if not path.exists():
        raise UserError(f"Expected a dataset with crops, one of {', '.join(FIELD_DATASETS)}; got {name!r}.")
    return pd.read_csv(path, dtype={"image_id": str})


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
    facts = _facts(name, registry)
    sources = {facts["repo"]: facts["commit"]} | facts.get("sources", {})
    with (_root(registry) / "registry" / f"{name}.csv").open(newline="", encoding="utf-8") as stream:
        return [_file(row, facts["repo"], sources) for row in csv.DictReader(stream)]


def _file(row, main_repo, sources):
    """Return the file of one row; some datasets have no columns for repository and original."""
    repo = row.get("upstream_repo") or main_repo
    upstream_path = f"{repo}/{sources[repo]}/{row['upstream_path']}"
    original = None
    if (sha256 := row.get("upstream_sha256") or row["sha256"]) != row["sha256"]:
        path = PurePosixPath(row["path"]).with_suffix(PurePosixPath(upstream_path).suffix).as_posix()
        original = File(path, upstream_path, sha256, None, row["role"], row["image_id"])
    return File(
        row["path"],
        upstream_path,
        row["sha256"],
        int(row["bytes"]),
        row["role"],
        row["image_id"],
        original,
    )

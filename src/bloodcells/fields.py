"""Whole microscope fields with their truth: masks, red cell outlines and counts, one field at a time."""

import json
from dataclasses import dataclass

import numpy as np

from bloodcells import datasets
from bloodcells.counting.settings import CELLS
from bloodcells.errors import UserError
from bloodcells.registry import FIELD_DATASETS, read_counts_file, read_files
from bloodcells.working_scale import make_target, to_working_scale

PARTS = ("train", "test", "paper", "counted", "masked", "phase1")
NAMES = (*FIELD_DATASETS, "synthetic")
# Masks that upstream has as JPEG; the rule is that of the code that comes with them.
_MASK_THRESHOLD = 127


@dataclass(frozen=True, eq=False)
class Field:
    """One field of a smear with its truth.

    Attributes
    ----------
    dataset, image_id : str
    image : ndarray of uint8, shape (M, N, 3)
        RGB.
    masks : dict of str to ndarray of bool, shape (M, N)
        Pixels of each kind of `CELLS`. A kind without a key has no such truth: it may still be in the image.
    outlines : list of ndarray of float64, shape (K, 2), or None
        The outline of each red cell: its vertices as (row, column), the last one joined to the first. Whole
        numbers are pixel centres. Outlines may overlap, cross themselves, repeat vertices, or leave the image
        by a pixel. None where there is no such truth.
    counts : dict of str to int
        True number of cells of each kind. A kind without a key is not known.
    """

    dataset: str
    image_id: str
    image: np.ndarray
    masks: dict
    outlines: list | None
    counts: dict


def list_fields(name, cell, part, *, limit=None, registry=None):
    """List the fields of a part of a dataset; no image is needed.

    Parameters
    ----------
    name : str
        "all-idb1", or "synthetic" for drawn fields.
    cell : {"rbc", "wbc", "plt"}
        Whose part: each kind of cell has its own published split.
    part : str
        "train" or "test": the published split. "paper": the 13 fields with counts of all three kinds, most
        of which are training images. "counted": every field with a true count of that kind. "masked": every
        field with a mask of that kind. "phase1": "masked" without the test fields of that kind and without
        those of one group with them (duplicates, or photographs that overlap). So it has no cell in common
        with the test part, while the published "train" has for "wbc" and "plt", by two images. Of drawn
        fields "phase1" is "train", and "paper", "counted" and "masked" are all of them.
    limit : int, optional
        Keep the first `limit` fields only; all by default.
    registry : path-like, optional
        As in `bloodcells.datasets.describe`.

    Returns
    -------
    list of str
        Image ids, in an order that does not change.

    Raises
    ------
    UserError
        If an argument is wrong.

    Examples
    --------
    >>> list_fields("all-idb1", "rbc", "test")
    ['Im037_0', 'Im045_0', 'Im053_1']
    >>> len(list_fields("all-idb1", "rbc", "phase1"))
    104
    """
    _check("a dataset of fields", name, NAMES)
    _check("a kind of cell", cell, CELLS)
    _check("a part", part, PARTS)
    datasets.check_limit(limit, "fields")
    if name == "synthetic":
        from bloodcells import drawn_fields

        return drawn_fields.list_fields(part)[:limit]

    split = datasets.read_split(name, registry=registry)
    if part in ("train", "test"):
        chosen = split[cell] == part
    elif part in ("masked", "phase1"):
        masked = {
            file.image_id for file in read_files(name, registry=registry) if file.role == f"mask-{cell}"
        }
        chosen = split["image_id"].isin(masked)
        if part == "phase1":
            chosen &= ~split["group"].isin(split.loc[split[cell] == "test", "group"])
    else:
        counts = read_counts(name, registry=registry).set_index("image_id")
        counts = counts[[cell] if part == "counted" else list(CELLS)].dropna()
        chosen = split["image_id"].isin(counts.index)
    return split.loc[chosen, "image_id"].tolist()[:limit]


def load_field(name, image_id, *, cache=None, mirror=None, upstream=None, timeout=15.0, registry=None):
    """Read one field with its truth, fetching into the cache what is not at hand.

    Every file is verified as it is read. A mirror that is a folder is read in place, without a copy.

    Parameters
    ----------
    name : str
        "all-idb1", or "synthetic" for drawn fields.
    image_id : str
        As from `list_fields`.
    cache, mirror, upstream, timeout, registry
        As in `bloodcells.datasets.fetch`.

    Returns
    -------
    Field

    Raises
    ------
    DataUnavailableError
        If a file is in no place that can be reached.
    UserError
        If there is no such field, or a file is damaged.

    Notes
    -----
    Upstream the masks of all-idb1 are JPEG and the outlines annotation files; in a mirror they are 1-bit PNG
    and GeoJSON, converted from these. Both forms are read. In a mask, grey levels above 127 are the cells. As
    JPEG decoders differ by a grey level or so, a mask from upstream may differ from the mirror's in a few
    pixels.
    """
    _check("a dataset of fields", name, NAMES)
    if name == "synthetic":
        from bloodcells import drawn_fields

        return drawn_fields.load_field(image_id)

    # The edges are the outlines drawn as lines, so they are not needed.
    files = {
        file.role: file
        for file in read_files(name, registry=registry)
        if file.image_id == image_id and file.role != "edge-rbc"
    }
    if "image" not in files:
        raise UserError(f"Expected a field of {name}, as `list_fields` gives them; got {image_id!r}.")
    folders = datasets.fetch_absent(
        name, list(files.values()), cache=cache, mirror=mirror, upstream=upstream, timeout=timeout
    )
    image = datasets.read_image(name, files["image"], folders, "RGB")
    masks = {
        cell: datasets.read_image(name, files[f"mask-{cell}"], folders, "L") > _MASK_THRESHOLD
        for cell in CELLS
        if f"mask-{cell}" in files
    }
    for cell, mask in masks.items():
        if mask.shape != image.shape[:2]:
            sizes = f"{image.shape[:2]} and {mask.shape}"
            raise UserError(f"Expected {name} {image_id} and its {cell} mask to be of one size; got {sizes}.")
    outlines = None
    if "polygons-rbc" in files:
        outlines = _parse_outlines(name, *datasets.read_file(name, files["polygons-rbc"], folders))
    counts = read_counts(name, registry=registry).set_index("image_id").loc[image_id].dropna()
    return Field(name, image_id, image, masks, outlines, {cell: int(n) for cell, n in counts.items()})


def load_working_fields(name, cell, part, *, heads, cell_radius, limit=None):
    """Read the fields of a part at the working scale, with the targets of a network.

    Parameters
    ----------
    name, cell, part, limit
        As in `list_fields`.
    heads : sequence of {"mask", "edge"}
        What each output of the network shall show.
    cell_radius : float
        Radius that red cells shall have, pixels.

    Returns
    -------
    images : list of ndarray of uint8, shape (M, N, 3)
    targets : list of ndarray of uint8, shape (M, N, len(heads))
        0 or 1; see `bloodcells.working_scale.make_target`.

    Raises
    ------
    DataUnavailableError, UserError
        As in `load_field`, and if a field lacks the truth that is asked for.
    """
    images, targets = [], []
    for image_id in list_fields(name, cell, part, limit=limit):
        field = load_field(name, image_id)
        image, scale = to_working_scale(field.image, cell_radius=cell_radius)
        images.append(image)
        targets.append(make_target(field, image.shape[:2], scale, cell=cell, heads=heads))
    return images, targets


def read_counts(name, *, registry=None):
    """Read the true counts of a dataset; no image is needed.

    Parameters
    ----------
    name : str
        "all-idb1", or "synthetic" for drawn fields.
    registry : path-like, optional
        As in `bloodcells.datasets.describe`.

    Returns
    -------
    pandas.DataFrame
        Columns ``image_id`` (str) and ``rbc``, ``wbc``, ``plt`` (Int64, missing where unknown), a row for
        each field. In all-idb1 white cells were counted by hand in all 108 fields, and in 13 of them red
        cells (their outlines) and platelets (components of the mask).

    Raises
    ------
    UserError
        If there is no such dataset.
    """
    _check("a dataset of fields", name, NAMES)
    if name == "synthetic":
        from bloodcells import drawn_fields

        return drawn_fields.read_counts()
    table = read_counts_file(name, registry=registry)[["image_id", *CELLS]]
    return table.astype(dict.fromkeys(CELLS, "Int64"))


def read_sizes(name, *, registry=None):
    """Read how large the fields of a dataset are; no image is needed.

    Parameters
    ----------
    name : str
        "all-idb1".
    registry : path-like, optional
        As in `bloodcells.datasets.describe`.

    Returns
    -------
    dict of str to tuple of int
        Image id to rows and columns, pixels.

    Raises
    ------
    UserError
        If there is no such dataset.
    """
    _check("a real dataset of fields", name, FIELD_DATASETS)
    table = read_counts_file(name, registry=registry)
    return {row.image_id: (row.rows, row.columns) for row in table.itertuples()}


def read_published_counts(name, *, registry=None):
    """Read the counts that a dataset's authors obtained, image by image.

    Parameters
    ----------
    name : str
        "all-idb1".
    registry : path-like, optional
        As in `bloodcells.datasets.describe`.

    Returns
    -------
    pandas.DataFrame
        Columns ``image_id``, ``cell`` (one of `CELLS`), ``n_true``, the counts ``cht`` (circle Hough
        transform), ``ccl`` (connected components) and ``edt`` (distance transform and watershed), and
        ``cht_accuracy``, ``ccl_accuracy`` and ``edt_accuracy`` in per cent. A row for each of the 13 fields
        and each kind of cell. Gharbi et al. (2023) counted in masks predicted by SegNet; the means over the
        13 fields are those that they print.

    Raises
    ------
    UserError
        If the dataset has no such counts.
    """
    _check("a dataset with published counts", name, FIELD_DATASETS)
    return read_counts_file(f"{name}_gharbi2023", registry=registry)


def _check(what, value, choices):
    if value not in choices:
        raise UserError(f"Expected {what}, one of {', '.join(choices)}; got {value!r}.")


def _parse_outlines(name, form, content):
    """Return the outlines in a GeoJSON file, or in the annotation file that upstream has instead."""
    try:
        tree = json.loads(content)
        if "markup" in tree:  # upstream: vertices {"x": ..., "y": ...} of shapes, which it leaves open
            rings = [[(point["x"], point["y"]) for point in cell["vertices"]] for cell in tree["markup"]]
        else:
            rings = [feature["geometry"]["coordinates"][0][:-1] for feature in tree["features"]]
        return [np.array(ring, float).reshape(-1, 2)[:, ::-1].copy() for ring in rings]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise UserError(
            f"{name}/{form.path} can't be read as outlines ({error!r}); check the registry."
        ) from error

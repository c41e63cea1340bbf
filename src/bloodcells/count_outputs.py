"""Write what was counted: a table of counts, and a folder for each image."""

import contextlib
import csv
import io
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from bloodcells.cell_outlines import cell_outlines
from bloodcells.errors import UserError
from bloodcells.files import read_json_object, write_text
from bloodcells.geojson import write_geojson
from bloodcells.label_tiff import write_label_tiff
from bloodcells.networks import CELLS
from bloodcells.overlay import draw_overlay

COUNTS_FILE = "counts.csv"
SETTINGS_FILE = "counts.json"
"""What the counts beside it were made with."""

OBJECT_COLUMNS = (
    "cell",
    "id",
    "centroid_row",
    "centroid_column",
    "area",
    "equivalent_diameter",
    "eccentricity",
    "touches_border",
    "score",
)
"""Columns of ``objects.csv``; lengths are in pixels."""

# Decimals that mean something; others are written as they are.
_DECIMALS = {
    "centroid_row": 2,
    "centroid_column": 2,
    "area": 2,
    "equivalent_diameter": 2,
    "eccentricity": 4,
    "score": 4,
}
_TABLES = (COUNTS_FILE, SETTINGS_FILE)
_OUTPUTS = {"objects.csv", "cells.geojson", "overlay.png", *(f"labels-{cell}.tif" for cell in CELLS)}


def name_folders(paths):
    """Name the folder for each image: its stem without dots before it, with a number where stems are equal.

    Parameters
    ----------
    paths : list of path-like

    Returns
    -------
    list of str
        All different, also where capitals don't matter. The same for the same paths in the same order.

    Examples
    --------
    >>> name_folders(["a/smear.jpg", "b/smear.png", "b/other.tif"])
    ['smear', 'smear-2', 'other']
    >>> name_folders(["..png", ".partial-1.png"])
    ['image', 'partial-1']
    """
    taken, names = {COUNTS_FILE, SETTINGS_FILE}, []
    for path in paths:
        # A dot alone is the output folder itself, and hidden folders may be leftovers of a killed count.
        stem = Path(path).stem.lstrip(".") or "image"
        name, number = stem, 1
        while name.casefold() in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.casefold())
        names.append(name)
    return names


def check_outputs(output_dir, names, *, overwrite=False):
    """Refuse outputs that would destroy something; to be called before any counting.

    Parameters
    ----------
    output_dir : path-like
    names : list of str
        Of the folders to be written in it.
    overwrite : bool
        Allow outputs of an earlier count to be there.

    Raises
    ------
    UserError
        If `output_dir` is a file, or holds an earlier count and `overwrite` is false, or if a folder to be
        replaced holds anything but outputs.
    """
    output_dir = Path(output_dir)
    if output_dir.exists() and not output_dir.is_dir():
        raise UserError(f"Expected an output folder, got the file {output_dir}; give another --out.")
    existing = [output_dir / name for name in (*_TABLES, *names) if (output_dir / name).exists()]
    if existing and not overwrite:
        others = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise UserError(
            f"{existing[0]}{others} exists; give another --out, --overwrite to replace it, or --resume to go "
            "on."
        )
    for path in existing:
        if path.name in _TABLES:
            strange = [] if path.is_file() else [path]
        else:
            strange = (
                [path] if not path.is_dir() else [file for file in path.iterdir() if not _is_output(file)]
            )
        if strange:
            raise UserError(f"{strange[0]} was not written by an earlier count; give another --out.")


def _is_output(path):
    return path.name in _OUTPUTS and path.is_file()


@contextlib.contextmanager
def replaced_folder(path):
    """Give a temporary folder beside `path`, and move it there when the block ends well.

    Parameters
    ----------
    path : path-like
        Final place. A folder that is already there is replaced whole; the folder around it is made.

    Yields
    ------
    pathlib.Path
        On an error, or an interrupt, it is removed and `path` stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=path.parent, prefix=".partial-"))
    try:
        new, old = work / "new", work / "old"
        new.mkdir()
        yield new
        if path.exists():
            path.rename(old)
        try:
            new.rename(path)
        except BaseException:
            if old.exists():
                old.rename(path)
            raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def write_results(folder, image, result):
    """Write all that was found in one image.

    Parameters
    ----------
    folder : path-like
        Must exist. It gets ``objects.csv``, ``cells.geojson``, ``overlay.png`` and ``labels-<cell>.tif``.
    image : ndarray of uint8, shape (M, N, 3)
    result : bloodcells.smear.SmearCount
    """
    folder = Path(folder)
    outlines = {cell: cell_outlines(found) for cell, found in result.cells.items()}
    with ThreadPoolExecutor(max_workers=1) as pool:
        # It takes as long as all others together.
        overlay = pool.submit(_write_overlay, folder / "overlay.png", image, result, outlines)
        (folder / "objects.csv").write_text(objects_to_csv(result), encoding="utf-8", newline="")
        for cell, found in result.cells.items():
            write_label_tiff(
                folder / f"labels-{cell}.tif", found.labels, result.shape, pixel_size_um=result.pixel_size_um
            )
        write_geojson(folder / "cells.geojson", result, outlines)
        overlay.result()


def _write_overlay(path, image, result, outlines):
    """Write the picture with the outlines as a PNG.

    OpenCV's encoder, looking for runs only, takes half the time of Pillow's at level 3 for a smaller file.
    Python writes it, since OpenCV doesn't say why it could not.
    """
    picture = cv2.cvtColor(draw_overlay(image, result, outlines), cv2.COLOR_RGB2BGR)
    options = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
    path.write_bytes(cv2.imencode(".png", picture, options)[1])


def objects_to_csv(result):
    """Make the text of ``objects.csv``: a row for each cell.

    Parameters
    ----------
    result : bloodcells.smear.SmearCount

    Returns
    -------
    str
        Columns `OBJECT_COLUMNS`, and ``area_um2`` and ``equivalent_diameter_um`` if the size of a pixel is
        known.
    """
    size = result.pixel_size_um
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*OBJECT_COLUMNS, *(["area_um2", "equivalent_diameter_um"] if size is not None else [])])
    for cell, found in result.cells.items():
        columns = [[cell] * found.n]
        for name in OBJECT_COLUMNS[1:]:
            columns.append(_format(found.objects[name], _DECIMALS.get(name)))
        if size is not None:
            columns.append(_format(found.objects["area"] * size**2, 3))
            columns.append(_format(found.objects["equivalent_diameter"] * size, 3))
        writer.writerows(zip(*columns, strict=True))
    return stream.getvalue()


def _format(values, decimals):
    if values.dtype == bool:
        return np.where(values, "true", "false").tolist()
    return values.tolist() if decimals is None else [f"{value:.{decimals}f}" for value in values]


def write_counts(path, rows):
    """Write ``counts.csv``: a row for each image.

    Parameters
    ----------
    path : path-like
        Replaced whole, or not at all.
    rows : list of tuple
        (image, counts, unusual): its name; number of cells of each kind that was counted, others stay empty;
        and names of the measures, see `bloodcells.smear_quality`, that tell not to trust them.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["image", *CELLS, "unusual"])
    for name, counts, unusual in rows:
        # Python up to 3.12 doesn't see that a carriage return needs quotes.
        quoting = csv.QUOTE_ALL if "\r" in name else csv.QUOTE_MINIMAL
        csv.writer(stream, lineterminator="\n", quoting=quoting).writerow(
            [name, *(counts.get(cell, "") for cell in CELLS), " ".join(unusual)]
        )
    write_text(path, stream.getvalue())


def read_counts(path):
    """Read what `write_counts` wrote.

    Parameters
    ----------
    path : path-like
        There need be no such file.

    Returns
    -------
    dict of str to tuple
        (image, counts, unusual) by image, as `write_counts` takes them; names only of what is unusual.

    Raises
    ------
    UserError
        If it is no such table.
    """
    path = Path(path)
    if not path.exists():
        return {}
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream, strict=True))
        return {
            row["image"]: (
                row["image"],
                {cell: int(row[cell]) for cell in CELLS if row[cell]},
                row["unusual"].split(),
            )
            for row in rows
        }
    except (ValueError, LookupError, AttributeError, TypeError, csv.Error) as error:
        raise UserError(f"{path} is no table of counts; give another --out, or --overwrite.") from error


def check_settings(path, settings):
    """Refuse to go on with a count that was begun with other settings.

    Parameters
    ----------
    path : path-like
        `SETTINGS_FILE` of the earlier count.
    settings : dict
        Of this one; JSON values.

    Raises
    ------
    UserError
        If it is missing, can't be read, or differs.
    """
    path = Path(path)
    try:
        found = read_json_object(path)
    except FileNotFoundError as error:
        raise UserError(
            f"{path} is missing, so nobody knows how the images were counted; give another --out, or "
            "--overwrite."
        ) from error
    except ValueError as error:
        raise UserError(f"{path} is damaged; give another --out, or --overwrite.") from error
    if found != settings:
        names = ", ".join(name for name in sorted(found | settings) if found.get(name) != settings.get(name))
        raise UserError(
            f"{path.parent} was counted with other settings (they differ in: {names}); give the same, "
            "another --out, or --overwrite."
        )


def printable(path):
    """Turn a path into text that every UTF-8 file and terminal takes.

    Parameters
    ----------
    path : pathlib.Path

    Returns
    -------
    str
        With slashes. Bytes of a name that are no UTF-8, which Linux allows, become the replacement character.

    Examples
    --------
    >>> printable(Path("smears/a.png"))
    'smears/a.png'
    """
    return path.as_posix().encode("utf-8", "surrogateescape").decode("utf-8", "replace")

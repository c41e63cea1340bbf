"""What `bloodcells count` does once its words are parsed: find the images, count each, write the results."""

import sys
import warnings
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import cv2
from tqdm import tqdm

from bloodcells.cell_outlines import PLURALS
from bloodcells.count_outputs import (
    COUNTS_FILE,
    SETTINGS_FILE,
    check_outputs,
    check_settings,
    name_folders,
    printable,
    read_counts,
    replaced_folder,
    write_counts,
    write_results,
)
from bloodcells.errors import UserError
from bloodcells.files import hold_folder, write_json
from bloodcells.image_io import SUFFIXES, read_image
from bloodcells.networks import CELLS, load_network
from bloodcells.smear import count_image, find_cell_radius
from bloodcells.smear_quality import check_quality, measure_quality

_BAR = "{desc}{percentage:3.0f}%|{bar}| {elapsed}<{remaining}"


def find_images(paths):
    """Find the images to count: files as they are given, of folders the images in them.

    Parameters
    ----------
    paths : list of path-like

    Returns
    -------
    list of pathlib.Path
        In the order given, those of a folder by name. A file that comes twice is counted once.

    Raises
    ------
    UserError
        If a path doesn't exist or a folder holds no image. Folders in it and hidden files don't count.
    """
    images = {}
    for path in map(Path, paths):
        if path.is_dir():
            found = sorted(
                file
                for file in path.iterdir()
                if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
            )
            if not found:
                raise UserError(
                    f"The folder {path} holds no image; expected files that end in {', '.join(SUFFIXES)}."
                )
        elif path.exists():
            found = [path]
        else:
            raise UserError(f"Expected an image or a folder of images, {path} doesn't exist; check the path.")
        for file in found:
            images.setdefault(file.resolve(), file)
    return list(images.values())


def parse_cells(text):
    """Parse names of cells, separated by commas.

    Parameters
    ----------
    text : str

    Returns
    -------
    tuple of str
        In the order of the tables.

    Raises
    ------
    UserError
        If a name is unknown or there is none.

    Examples
    --------
    >>> parse_cells("plt,rbc")
    ('rbc', 'plt')
    """
    names = {name.strip().lower() for name in text.split(",")}
    if not names <= set(CELLS):
        raise UserError(f"--cells expects some of {','.join(CELLS)}, separated by commas, got {text!r}.")
    return tuple(cell for cell in CELLS if cell in names)


def list_unusual(image, cell_radius):
    """Name what is unusual about a photograph, so that its counts shouldn't be trusted unseen.

    Parameters
    ----------
    image : ndarray of uint8, shape (M, N, 3)
    cell_radius : float
        Typical radius of its red cells, pixels.

    Returns
    -------
    dict of str to str
        See `bloodcells.smear_quality.check_quality`; an image of one grey level has the measure "blank".
    """
    try:
        measured = measure_quality(image, cell_radius=cell_radius)
    except UserError as error:
        return {"blank": str(error).rstrip(".")}
    return check_quality(measured)


def count_files(
    paths,
    *,
    cells,
    method,
    cell_radius,
    pixel_size_um,
    output_dir,
    exclude_border,
    overwrite,
    n_threads,
    say=print,
    complain=lambda message: print(message, file=sys.stderr),
    networks=None,
    resume=False,
):
    """Count the cells of image files, and write the results of each as soon as it is counted.

    Parameters
    ----------
    paths : list of path-like
        Images and folders of images.
    cells, method, cell_radius, pixel_size_um, exclude_border
        As in `bloodcells.smear.count_image`.
    output_dir : path-like
    overwrite : bool
        Replace an earlier count.
    n_threads : int or None
        As in `bloodcells.networks.load_network`.
    say, complain : callable
        Take a line for standard output, and for standard error, which begins with "error: " or "warning: ".
    networks : dict of str to bloodcells.networks.Network, optional
        Default: the shipped ones.
    resume : bool
        Leave alone what an earlier count with the same settings has counted.

    Returns
    -------
    bool
        False if an image could not be counted; the others are.

    Raises
    ------
    UserError
        If the arguments are wrong, an output exists that is neither replaced nor gone on with, or another
        process writes to the folder: before anything is counted or written. If the disk is full: what was
        counted before is there.
    """
    images = find_images(paths)
    names = name_folders(images)
    output_dir = Path(output_dir)
    if resume and overwrite:
        raise UserError(
            "Give --resume to go on with an earlier count, or --overwrite to replace it, not both."
        )
    check_outputs(output_dir, names, overwrite=overwrite or resume)
    if networks is None:
        networks = {cell: load_network(cell, n_threads=n_threads) for cell in cells}
    settings = {
        "method": method,
        "cell_radius": cell_radius,
        "pixel_size_um": pixel_size_um,
        "exclude_border": exclude_border,
        "networks": {cell: networks[cell].card.get("sha256") for cell in cells},
        # With an image more or less, the same name could mean another's folder.
        "images": {printable(path): name for path, name in zip(images, names, strict=True)},
    }
    n_failed = 0
    with (
        hold_folder(output_dir),
        ThreadPoolExecutor(max_workers=1) as pool,
        # None: a bar on a terminal only.
        tqdm(total=len(images), desc="counting", bar_format=_BAR, leave=False, disable=None) as bar,
    ):
        # Again, since another count may have ended here before the folder was ours.
        check_outputs(output_dir, names, overwrite=overwrite or resume)
        rows = _read_earlier(output_dir, images, names, settings) if resume else {}
        if rows:
            say(f"Counted before: {len(rows)} of {len(images)} images")
        elif (output_dir / COUNTS_FILE).exists():
            # Before anything can fail, or an image that can't be counted now would keep its old row.
            write_counts(output_dir / COUNTS_FILE, [])
        for number, (path, name) in enumerate(zip(images, names, strict=True)):
            bar.set_description(path.name)
            if path in rows:
                _show(bar, number + 1)
                continue
            try:
                image, result, unusual, warned = _count_file(
                    path,
                    pool,
                    cells=cells,
                    method=method,
                    cell_radius=cell_radius,
                    pixel_size_um=pixel_size_um,
                    networks=networks,
                    exclude_border=exclude_border,
                    progress=lambda share, number=number: _show(bar, number + share),
                )
                if not rows:
                    # Earlier counts go before the settings that they were made with.
                    write_counts(output_dir / COUNTS_FILE, [])
                    write_json(output_dir / SETTINGS_FILE, settings)
                folder = output_dir / name
                with replaced_folder(folder) as temporary:
                    write_results(temporary, image, result)
            except (UserError, MemoryError, cv2.error) as error:
                if isinstance(error, cv2.error) and error.code != cv2.Error.StsNoMem:
                    raise
                n_failed += 1
                message = str(error) if isinstance(error, UserError) else "too large for the free memory."
                with bar.external_write_mode(file=sys.stderr):
                    complain(f"error: {message if str(path) in message else f'{path}: {message}'}")
                continue
            finally:
                _show(bar, number + 1)
            rows[path] = printable(path), result.counts, unusual
            # After every image, so that an interrupt loses none.
            write_counts(output_dir / COUNTS_FILE, [rows[image] for image in images if image in rows])
            with bar.external_write_mode():
                for warning in warned:
                    complain(f"warning: {warning}")
                if unusual:
                    complain(
                        f"warning: {path}: look at the picture before you trust the counts; this photograph "
                        f"isn't like those that the networks know: {'; '.join(unusual.values())}."
                    )
                say(f"{printable(path)}: {_in_words(result.counts)} ({printable(folder)})")
    return n_failed == 0


def _count_file(path, pool, *, cell_radius, pixel_size_um, **options):
    """Count an image while a thread measures its quality.

    Returns the image, the result, what is unusual about the image, and the warnings.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        image = read_image(path)
        radius = find_cell_radius(image, cell_radius, pixel_size_um)
        quality = pool.submit(list_unusual, image, radius)
        try:
            result = count_image(image, cell_radius=radius, pixel_size_um=pixel_size_um, **options)
        finally:
            # Left alone it would hold the image while the next one is read.
            wait([quality])
        messages = [str(one.message) for one in caught if issubclass(one.category, UserWarning)]
        return image, result, quality.result(), messages


def _in_words(counts):
    return ", ".join(
        f"{n} {PLURALS[cell] if n != 1 else PLURALS[cell].removesuffix('s')}" for cell, n in counts.items()
    )


def _read_earlier(output_dir, images, names, settings):
    """Return the rows of what an earlier count with these settings has finished, by image."""
    earlier = read_counts(output_dir / COUNTS_FILE)
    if not earlier:
        return {}
    others = sorted(set(earlier) - {printable(path) for path in images})
    if others:
        raise UserError(
            f"{output_dir / COUNTS_FILE} has images that are not among those given ({others[0]}"
            f"{', ...' if len(others) > 1 else ''}); give the same, another --out, or --overwrite."
        )
    check_settings(output_dir / SETTINGS_FILE, settings)
    return {
        path: earlier[printable(path)]
        for path, name in zip(images, names, strict=True)
        if printable(path) in earlier and (output_dir / name).is_dir()
    }


def _show(bar, done):
    """Move the bar to a number of images, fractions included."""
    bar.update(done - bar.n)

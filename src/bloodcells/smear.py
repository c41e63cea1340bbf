"""Count the cells of a whole smear: red cells, white cells and platelets of one photograph.

Everything from the pixels to three numbers and the objects behind them, without Keras.
"""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from bloodcells.cell_size import RED_CELL_DIAMETER_UM, estimate_cell_radius
from bloodcells.checks import check_rgb
from bloodcells.counting.circle_hough import circles_to_labels
from bloodcells.counting.find import METHODS, find_cells
from bloodcells.errors import UserError
from bloodcells.networks import CELLS, load_network
from bloodcells.object_measures import measure_objects, touching_border
from bloodcells.tiling import choose_output_size, predict_tiled
from bloodcells.working_scale import to_working_scale

LEAST_CELL_RADIUS = 3.0
"""Smallest red cells that are counted, pixels: fewer show no cell."""

TILE_SIZE = 324
"""Rows and columns that a network predicts at once, pixels of the scaled image, about.

Larger tiles lose less to their context, smaller ones stay in the processor's caches: the fastest of those
that ``benchmarks/inference.py`` compares.
"""

# Rows and columns that are counted at once, pixels of the scaled image.
_BLOCK_SIZE = 2048
# How far a cell may reach from its centre, red cell radii.
_REACH = {"rbc": 3.0, "wbc": 6.0, "plt": 3.0}


@dataclass(frozen=True, eq=False)
class CellCount:
    """The cells of one kind.

    Attributes
    ----------
    cell : {"rbc", "wbc", "plt"}
    method : str
        How they were counted, one of `bloodcells.counting.find.METHODS`.
    labels : ndarray of int32, shape (rows, columns)
        0 is background; each other label is the "id" of an object. Usually of another size than the image:
        see `scale`.
    scale : tuple of float
        Rows and columns of `labels` for one of the image.
    objects : dict of str to ndarray, shape (n,)
        What was counted, in pixels of the image: "id" from 1, "centroid_row" and "centroid_column" (whole
        numbers are pixel centres), "area", "equivalent_diameter", "eccentricity", "touches_border" (bool) and
        "score", the mean probability inside, in [0, 1]. ``pandas.DataFrame(objects)`` makes a table of it.
    """

    cell: str
    method: str
    labels: np.ndarray
    scale: tuple
    objects: dict

    @property
    def n(self):
        """Number of cells."""
        return len(self.objects["id"])


@dataclass(frozen=True, eq=False)
class SmearCount:
    """The cells of a photograph.

    Attributes
    ----------
    shape : tuple of int
        Rows and columns of the image.
    cell_radius : float
        Typical radius of its red cells that was used, pixels of the image.
    pixel_size_um : float or None
        Micrometres a pixel; None if not known.
    cells : dict of str to CellCount
        Of those kinds that were counted.
    """

    shape: tuple
    cell_radius: float
    pixel_size_um: float | None
    cells: dict

    @property
    def counts(self):
        """Number of cells of each kind that was counted."""
        return {cell: result.n for cell, result in self.cells.items()}


def count_image(
    image,
    *,
    cells=CELLS,
    method="auto",
    cell_radius=None,
    pixel_size_um=None,
    networks=None,
    exclude_border=False,
    block_size=_BLOCK_SIZE,
    progress=None,
):
    """Count the cells of a photograph of a smear.

    Parameters
    ----------
    image : ndarray of uint8, shape (M, N, 3)
        RGB, cells darker than the background. Of any size and magnification.
    cells : sequence of {"rbc", "wbc", "plt"}
        Kinds to count.
    method : {"auto", "cht", "ccl", "edt", "tree"}
        How to get from probabilities to cells. "auto" is for each kind what its card says is best.
    cell_radius : float, optional
        Typical radius of the red cells, pixels of `image`. Default: from `pixel_size_um`, else estimated by
        `bloodcells.cell_size.estimate_cell_radius`.
    pixel_size_um : float, optional
        Micrometres a pixel. Red cells on a smear are then taken to be 7.2 µm wide.
    networks : dict of str to bloodcells.networks.Network, optional
        For each kind to count. Default: the shipped ones.
    exclude_border : bool
        Leave out cells that touch the border of the image, of which only a part can be seen.
    block_size : int
        Rows and columns that are counted at once, in pixels of the scaled image that networks see. It bounds
        the memory beside the image and its labels, and has no other effect beyond rare single cells.
    progress : callable, optional
        Called with the share that is done, 0 to 1.

    Returns
    -------
    SmearCount

    Raises
    ------
    UserError
        If an argument is wrong, there are no weights, or the cell size can't be found.

    Notes
    -----
    The image is scaled to the cell size that a network was trained at, predicted tile by tile, and cells are
    separated in blocks that overlap; a cell belongs to the block that its centroid lies in. Networks of one
    scale share the scaled image. When it would be larger than the image itself, it is made block by block,
    and labels are kept at the scale of the image. While the cells of one block are separated, a thread
    predicts the next.
    """
    check_rgb(image)
    _check_options(cells, method, block_size)
    cell_radius = find_cell_radius(image, cell_radius, pixel_size_um)
    networks = {cell: load_network(cell) for cell in cells} if networks is None else networks
    readers, plans, results = {}, {}, {}
    for cell in cells:
        if cell not in networks:
            raise UserError(f"`networks` has none for {cell!r}; it has {', '.join(networks) or 'nothing'}.")
        network = networks[cell]
        if network.cell_radius not in readers:
            readers[network.cell_radius] = _ScaledImage(image, network.cell_radius, cell_radius, block_size)
        scaled = readers[network.cell_radius]
        halo = int(np.ceil(network.margin + _REACH[cell] * network.cell_radius))
        plans[cell] = network, scaled, _split(scaled.shape, block_size, halo)
    windows = [
        (network, scaled, window) for network, scaled, blocks in plans.values() for _, window in blocks
    ]
    with contextlib.closing(_compute_ahead(_predict, windows)) as predictions:
        for number, (cell, (network, scaled, blocks)) in enumerate(plans.items()):

            def report(share, number=number):
                if progress is not None:
                    progress((number + share) / len(cells))

            results[cell] = _count_cells(
                scaled,
                network,
                blocks,
                predictions,
                method=network.counting["method"] if method == "auto" else method,
                exclude_border=exclude_border,
                report=report,
            )
    return SmearCount(image.shape[:2], float(cell_radius), pixel_size_um, results)


def label_cells(mask, edge, *, method, cell_radius, parameters):
    """Separate cells by one of the methods.

    Parameters
    ----------
    mask : ndarray of float32, shape (M, N)
        Probability of being part of a cell.
    edge : ndarray of float32, shape (M, N), or None
        Probability of being part of a cell's edge.
    method : {"cht", "ccl", "edt", "tree"}
    cell_radius : float
        Typical radius of red cells, pixels.
    parameters : dict
        Further keyword arguments of the method's function.

    Returns
    -------
    ndarray of int32, shape (M, N)
    """
    found = find_cells(method, mask, edge, cell_radius=cell_radius, **parameters)
    return circles_to_labels(found, mask.shape) if method == "cht" else found


class _ScaledImage:
    """An image at the scale of a network, held whole if it isn't larger than the image or one block."""

    def __init__(self, image, network_radius, cell_radius, block_size):
        self.image = image
        scale = network_radius / cell_radius
        self.shape = tuple(max(round(length * scale), 1) for length in image.shape[:2])
        n_pixels = self.shape[0] * self.shape[1]
        self.is_whole = n_pixels <= max(image.shape[0] * image.shape[1], block_size**2)
        if self.is_whole:
            self.scaled, _ = to_working_scale(image, cell_radius=network_radius, own_radius=cell_radius)
        # Of label images, which needn't have more pixels than the image has.
        self.label_shape = self.shape if self.is_whole else image.shape[:2]

    def read(self, window):
        """Cut a window, two slices, out of the scaled image."""
        if self.is_whole:
            return self.scaled[window]
        matrix, sources, size = np.zeros((2, 3)), [], []
        for axis, part in enumerate(window):
            length = self.image.shape[axis]
            step = length / self.shape[axis]
            # Pixel centres: scaled pixel i lies at (i + 1/2) step - 1/2 of the image.
            first = (part.start + 0.5) * step - 0.5
            start = int(np.clip(np.floor(first), 0, length - 1))
            stop = int(np.clip(np.ceil((part.stop - 0.5) * step - 0.5) + 1, start + 1, length))
            sources.append(slice(start, stop))
            size.append(part.stop - part.start)
            # OpenCV takes columns first.
            matrix[1 - axis, 1 - axis] = step
            matrix[1 - axis, 2] = first - start
        return cv2.warpAffine(
            np.ascontiguousarray(self.image[tuple(sources)]),
            matrix,
            tuple(size[::-1]),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )


def _compute_ahead(function, arguments):
    """Yield ``function(*one)`` for each of `arguments`, in order; a thread computes the next one meanwhile.

    What the next one needs, in memory too, comes on top; never more than one waits.
    """
    with ThreadPoolExecutor(max_workers=1) as pool:
        current = None
        for one in arguments:
            following = pool.submit(function, *one)
            if current is not None:
                yield current.result()
            current = following
        if current is not None:
            yield current.result()


def _count_cells(scaled, network, blocks, predictions, *, method, exclude_border, report):
    """Count one kind of cell, block by block; of the iterator `predictions` it takes one for each."""
    labels = np.zeros(scaled.label_shape, np.int32)
    tables, n_cells = [], 0
    for done, (core, window) in enumerate(blocks, start=1):
        mask, edge = next(predictions)
        block_labels = label_cells(
            mask,
            edge,
            method=method,
            cell_radius=network.cell_radius,
            parameters=network.counting.get(method, {}),
        )
        objects = measure_objects(block_labels, mask)
        objects["row"] += window[0].start
        objects["column"] += window[1].start
        objects["touches_border"] = np.isin(
            objects["label"], _touching_image_border(block_labels, window, scaled.shape)
        )
        target, indices = _label_window(window, scaled.shape, scaled.label_shape)
        stored, block_labels = labels[target], block_labels[np.ix_(*indices)]
        kept = _lies_in(objects, core, scaled.shape, tolerance=network.cell_radius / 2)
        kept &= ~_is_known(objects["label"], block_labels, stored)
        if exclude_border:
            kept &= ~objects["touches_border"]
        objects = {name: values[kept] for name, values in objects.items()}
        n_new = int(kept.sum())
        ids = np.zeros(int(block_labels.max(initial=0)) + 1, np.int32)
        # A label without a pixel at the scale of the labels has an id, and a row in the table, all the same.
        fits = objects["label"] < ids.size
        ids[objects["label"][fits]] = np.arange(n_cells + 1, n_cells + n_new + 1)[fits]
        np.copyto(stored, ids[block_labels], where=stored == 0)
        tables.append(objects)
        n_cells += n_new
        report(done / len(blocks))
    objects = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    return CellCount(
        cell=network.cell,
        method=method,
        labels=labels,
        scale=tuple(
            of_labels / of_image
            for of_labels, of_image in zip(labels.shape, scaled.image.shape[:2], strict=True)
        ),
        objects=_to_image_pixels(objects, scaled),
    )


def _predict(network, scaled, window):
    """Predict a window; return its mask and its edge, or None where the network has none."""
    image = scaled.read(window)
    probability = predict_tiled(
        network.predict,
        image,
        output_size=choose_output_size(image.shape[:2], target=TILE_SIZE),
        margin=network.margin,
        padding_mode=network.card.get("padding_mode", "constant"),
        batch_size=1,
    )
    # OpenCV and the methods want each map in one piece.
    maps = [np.ascontiguousarray(probability[..., index]) for index in range(probability.shape[2])]
    return maps[0], maps[1] if len(maps) > 1 else None


def _split(shape, block_size, halo):
    """Split an image into blocks; return pairs of (core, window): slices without and with the halo."""
    axes = []
    for length in shape:
        edges = np.linspace(0, length, -(-length // block_size) + 1).round().astype(int).tolist()
        axes.append(
            [
                (slice(start, stop), slice(max(start - halo, 0), min(stop + halo, length)))
                for start, stop in pairwise(edges)
            ]
        )
    return [tuple(zip(rows, columns, strict=True)) for rows in axes[0] for columns in axes[1]]


def _touching_image_border(labels, window, shape):
    """Labels at the image's border; other borders of the window don't count."""
    inner = [
        (int(part.start > 0), int(part.stop < length)) for part, length in zip(window, shape, strict=True)
    ]
    return touching_border(np.pad(labels, inner))


def _label_window(window, shape, label_shape):
    """Find the part of the label image that a window covers, and the window's pixel under each of its."""
    target, indices = [], []
    for part, length, label_length in zip(window, shape, label_shape, strict=True):
        nearest = ((np.arange(label_length) + 0.5) * length / label_length).astype(int)
        start, stop = np.searchsorted(nearest, [part.start, part.stop])
        target.append(slice(int(start), int(stop)))
        indices.append(nearest[start:stop] - part.start)
    return tuple(target), indices


def _lies_in(objects, core, shape, *, tolerance):
    """Tell which objects have their centroid in the core of a block, or nearly so.

    Two blocks may see one cell a little differently: with a tolerance neither leaves it to the other, and the
    second to come finds it known.
    """
    inside = np.ones(objects["row"].size, bool)
    for name, part, length in zip(("row", "column"), core, shape, strict=True):
        low = part.start - tolerance if part.start > 0 else -np.inf
        high = part.stop + tolerance if part.stop < length else np.inf
        inside &= (objects[name] >= low) & (objects[name] < high)
    return inside


def _is_known(values, labels, stored):
    """Tell which objects lie for more than half on cells that are stored already."""
    n_pixels = np.bincount(labels.ravel(), minlength=values.max(initial=0) + 1)
    n_taken = np.bincount(labels[stored > 0], minlength=n_pixels.size)
    return 2 * n_taken[values] > n_pixels[values]


def _to_image_pixels(objects, scaled):
    steps = [of_image / length for of_image, length in zip(scaled.image.shape[:2], scaled.shape, strict=True)]
    area = objects["area"] * steps[0] * steps[1]
    return {
        "id": np.arange(1, area.size + 1),
        "centroid_row": (objects["row"] + 0.5) * steps[0] - 0.5,
        "centroid_column": (objects["column"] + 0.5) * steps[1] - 0.5,
        "area": area,
        "equivalent_diameter": np.sqrt(4 * area / np.pi),
        "eccentricity": objects["eccentricity"],
        "touches_border": objects["touches_border"],
        "score": objects["score"],
    }


def find_cell_radius(image, cell_radius=None, pixel_size_um=None):
    """Return the typical radius of red cells that a photograph is counted with.

    Parameters
    ----------
    image, cell_radius, pixel_size_um
        As in `count_image`.

    Returns
    -------
    float
        Pixels of `image`.

    Raises
    ------
    UserError
        If it is out of range, or can't be found.
    """
    for name, value in {"cell_radius": cell_radius, "pixel_size_um": pixel_size_um}.items():
        if value is not None and not 0 < value < np.inf:
            raise UserError(f"`{name}` must be above 0, got {value}.")
    given = cell_radius is not None or pixel_size_um is not None
    if cell_radius is None and given:
        cell_radius = RED_CELL_DIAMETER_UM / 2 / pixel_size_um
    if not given:
        cell_radius = estimate_cell_radius(image)
    if not LEAST_CELL_RADIUS <= cell_radius <= max(image.shape[:2]):
        source = "that is given" if given else "that was estimated; give the size if it is wrong"
        raise UserError(
            f"Expected red cells with a radius between {LEAST_CELL_RADIUS:g} pixels and the length of the "
            f"image, got {cell_radius:.3g} pixels ({source})."
        )
    return cell_radius


def _check_options(cells, method, block_size):
    if isinstance(cells, str) or not cells or len(set(cells)) < len(cells) or not set(cells) <= set(CELLS):
        raise UserError(f"`cells` must be different ones of {', '.join(CELLS)}, got {cells!r}.")
    if method not in ("auto", *METHODS):
        raise UserError(f"`method` must be one of auto, {', '.join(METHODS)}, got {method!r}.")
    if block_size < 1:
        raise UserError(f"`block_size` must be at least 1, got {block_size}.")

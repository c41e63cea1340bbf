"""Bring fields and their truth to one cell size, the size that networks see."""

import cv2
import numpy as np

from bloodcells.cell_size import estimate_cell_radius
from bloodcells.errors import UserError

EDGE_THICKNESS = 2
"""Thickness of outlines drawn as edges, pixels: that of the published edges, here at the working scale."""


def to_working_scale(image, *, cell_radius, own_radius=None):
    """Resize a field so that its red cells get a given radius.

    Parameters
    ----------
    image : ndarray of uint8, shape (M, N, 3)
        RGB.
    cell_radius : float
        Radius that its red cells shall have, pixels.
    own_radius : float, optional
        Radius that they have in `image`, pixels; by default `bloodcells.cell_size.estimate_cell_radius`.

    Returns
    -------
    working_image : ndarray of uint8, shape (rows, columns, 3)
    scale : float
        Pixels of the working image for one of `image`.
    """
    own_radius = estimate_cell_radius(image) if own_radius is None else own_radius
    if cell_radius <= 0 or own_radius <= 0:
        raise UserError(
            f"`cell_radius` and `own_radius` must be above 0 pixels, got {cell_radius} and {own_radius}."
        )
    scale = cell_radius / own_radius
    size = tuple(max(round(length * scale), 1) for length in image.shape[1::-1])
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(image), size, interpolation=interpolation), scale


def resize_truth(mask, shape):
    """Resize a mask to the shape of a working image; a pixel is foreground if most of it is.

    Parameters
    ----------
    mask : ndarray of bool, shape (M, N)
    shape : tuple of int
        Rows and columns.

    Returns
    -------
    ndarray of bool, shape `shape`
    """
    grey = mask.astype(np.uint8) * np.uint8(255)
    return cv2.resize(grey, shape[1::-1], interpolation=cv2.INTER_AREA) > 127


def resize_probability(probability, shape):
    """Resize probabilities, by linear interpolation.

    Parameters
    ----------
    probability : ndarray of float32, shape (M, N)
    shape : tuple of int
        Rows and columns.

    Returns
    -------
    ndarray of float32, shape `shape`
    """
    return cv2.resize(probability, shape[1::-1], interpolation=cv2.INTER_LINEAR)


def scale_outlines(outlines, scale):
    """Scale outlines as `to_working_scale` scales their field.

    Parameters
    ----------
    outlines : list of ndarray of float, shape (K, 2)
        Vertices (row, column); whole numbers are pixel centres.
    scale : float

    Returns
    -------
    list of ndarray of float64, shape (K, 2)
    """
    # The image's corner, half a pixel outside of the first pixel's centre, stays where it is.
    return [(np.asarray(outline, float) + 0.5) * scale - 0.5 for outline in outlines]


def draw_edges(outlines, shape, *, thickness=EDGE_THICKNESS):
    """Draw outlines as closed lines.

    Parameters
    ----------
    outlines : list of ndarray of float, shape (K, 2)
        Vertices (row, column).
    shape : tuple of int
        Rows and columns.
    thickness : int
        Thickness of OpenCV's lines, pixels.

    Returns
    -------
    ndarray of bool, shape `shape`

    Notes
    -----
    The published edges of ALL-IDB1 are its outlines drawn in this way, pixel for pixel.
    """
    edges = np.zeros(shape, np.uint8)
    for outline in outlines:
        points = np.rint(np.asarray(outline)[:, ::-1]).astype(np.int32)
        cv2.polylines(edges, [points], isClosed=True, color=1, thickness=thickness)
    return edges.astype(bool)


def make_target(field, shape, scale, *, cell, heads):
    """Make the target of a network at the working scale.

    Parameters
    ----------
    field : bloodcells.fields.Field
    shape : tuple of int
        Rows and columns of the working image.
    scale : float
        From `to_working_scale`.
    cell : {"rbc", "wbc", "plt"}
    heads : sequence of {"mask", "edge"}
        What each output shall show. In the first phase of gharbi2023's model B that is ("mask", "mask").

    Returns
    -------
    ndarray of uint8, shape (rows, columns, len(heads))
        0 or 1.
    """
    layers = []
    for head in heads:
        if head == "mask":
            if cell not in field.masks:
                raise UserError(f"{field.image_id} has no mask of {cell}; list fields of the part 'masked'.")
            layers.append(resize_truth(field.masks[cell], shape))
        elif head == "edge":
            if field.outlines is None:
                raise UserError(f"{field.image_id} has no outlines; list fields of the part 'paper'.")
            layers.append(draw_edges(scale_outlines(field.outlines, scale), shape))
        else:
            raise UserError(f"`heads` must be 'mask' or 'edge', got {head!r}.")
    return np.stack(layers, axis=-1).astype(np.uint8)

"""Outlines of counted cells in pixels of their image, and how the kinds are named and coloured."""

import numpy as np

from bloodcells.object_measures import trace_outlines

NAMES = {"rbc": "Red cell", "wbc": "White cell", "plt": "Platelet"}
PLURALS = {"rbc": "red cells", "wbc": "white cells", "plt": "platelets"}

COLOURS = {"rbc": "#d55e00", "wbc": "#0072b2", "plt": "#000000"}
"""From the palette of Okabe and Ito, told apart with every common colour vision."""


def cell_outlines(result):
    """Outline every counted cell of one kind.

    Parameters
    ----------
    result : bloodcells.smear.CellCount

    Returns
    -------
    list of ndarray of float64, shape (K, 2)
        In the order of ``result.objects``: vertices (row, column) in pixels of the image, whole numbers are
        pixel centres, the last equal to the first. A cell too small for a pixel of the labels gets a circle.
    """
    scale = np.array(result.scale)
    traced = {label: (outline + 0.5) / scale - 0.5 for label, outline in trace_outlines(result.labels)}
    objects, outlines = result.objects, []
    for index, label in enumerate(objects["id"].tolist()):
        if label not in traced:
            angles = np.linspace(0, 2 * np.pi, 17)
            circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
            circle[-1] = circle[0]
            centre = [objects["centroid_row"][index], objects["centroid_column"][index]]
            traced[label] = centre + circle * objects["equivalent_diameter"][index] / 2
        outlines.append(traced[label])
    return outlines


def hex_to_rgb(colour):
    """Turn "#rrggbb" into three whole numbers.

    Examples
    --------
    >>> hex_to_rgb("#d55e00")
    (213, 94, 0)
    """
    return tuple(bytes.fromhex(colour.removeprefix("#")))

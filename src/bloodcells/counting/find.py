"""Find cells by the name of a method, with the parameters that were chosen for each kind of cell."""

import numpy as np

from bloodcells.counting.circle_hough import find_circles
from bloodcells.counting.component_tree import label_component_tree
from bloodcells.counting.connected_components import label_components
from bloodcells.counting.distance_transform import label_distance_peaks
from bloodcells.counting.regions import count_cells
from bloodcells.errors import UserError

METHODS = {
    "cht": "circle Hough transform",
    "ccl": "connected components",
    "edt": "distance transform and watershed",
    "tree": "component tree",
}
"""The paper's three methods, by its own short names, and ours."""


def find_cells(method, mask, edge=None, *, cell_radius, size=1.0, **settings):
    """Find cells by one of `METHODS`.

    Parameters
    ----------
    method : str
    mask, edge : ndarray of float, shape (M, N)
        Probabilities in [0, 1]; `edge` is None for networks without it.
    cell_radius : float
        Typical radius of the field's red cells, pixels.
    size : float
        Typical radius of the cells to find, in radii of red cells: the unit of all other settings.
    **settings
        Passed on to the method.

    Returns
    -------
    ndarray
        For "cht" circles, float64, shape (n, 3): row, column and radius. For the others labels, int32, shape
        (M, N), 0 is background.
    """
    if method not in METHODS:
        raise UserError(f"Expected a method, one of {', '.join(METHODS)}; got {method!r}.")
    cell_radius = cell_radius * size
    if method == "cht":
        # OpenCV takes the gradient itself: of a mask that is its outline.
        return find_circles(mask if edge is None else edge, cell_radius=cell_radius, **settings)
    label = {"ccl": label_components, "edt": label_distance_peaks, "tree": label_component_tree}[method]
    return label(mask, edge, cell_radius=cell_radius, **settings)


def count_objects(cells):
    """Count what `find_cells` found.

    Parameters
    ----------
    cells : ndarray
        Circles or labels.

    Returns
    -------
    int
    """
    return len(cells) if np.issubdtype(cells.dtype, np.floating) else count_cells(cells)

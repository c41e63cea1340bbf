"""Connected component labelling (CCL) of mask minus edge: gharbi2023, section IV."""

from bloodcells.counting.regions import check_size, grow_labels, label_core, threshold_core


def label_components(
    mask,
    edge=None,
    *,
    cell_radius,
    mask_threshold=0.5,
    edge_threshold=0.3,
    min_area=0.1,
    max_hole=0.3,
    grow=True,
    max_growth=0.4,
):
    """Label the pieces into which the edges cut the mask.

    Parameters
    ----------
    mask : ndarray of float, shape (M, N)
        Probability of lying in a cell, in [0, 1].
    edge : ndarray of float, shape (M, N), optional
        Probability of lying on the outline of a cell, in [0, 1]. Without it touching cells stay one piece.
    cell_radius : float
        Typical radius of a cell in pixels, above 0.
    mask_threshold, edge_threshold : float
        The core of the cells is where `mask` is above and `edge` below its threshold; both in [0, 1].
    min_area : float
        Smallest core kept, holes included, in discs of the cell radius.
    max_hole : float
        Largest hole filled, in discs of the cell radius; 0 fills none.
    grow : bool
        Let each core grow back over the edge that was cut off, so that labels cover whole cells.
    max_growth : float
        How far, in cell radii.

    Returns
    -------
    ndarray of int32, shape (M, N)
        Labels from 1 on, 0 is background.

    Raises
    ------
    UserError
        If an array or a number is out of range, or the shapes differ.

    Notes
    -----
    gharbi2023 labels a grey picture of the mask, cut at 127 of 255; it has neither a smallest area nor holes,
    and counts the background as a cell (from the released program).

    Examples
    --------
    >>> import numpy as np
    >>> mask = np.ones((3, 7))
    >>> edge = np.zeros((3, 7))
    >>> edge[:, 3] = 1
    >>> label_components(mask, edge, cell_radius=2, grow=False)
    array([[1, 1, 1, 0, 2, 2, 2],
           [1, 1, 1, 0, 2, 2, 2],
           [1, 1, 1, 0, 2, 2, 2]], dtype=int32)
    """
    check_size("cell_radius", cell_radius, strict=True)
    for name, value in {"min_area": min_area, "max_hole": max_hole, "max_growth": max_growth}.items():
        check_size(name, value)
    foreground, core = threshold_core(
        mask, edge, mask_threshold=mask_threshold, edge_threshold=edge_threshold
    )
    labels = label_core(core, cell_radius=cell_radius, min_area=min_area, max_hole=max_hole)
    return grow_labels(labels, foreground, max_distance=max_growth * cell_radius) if grow else labels

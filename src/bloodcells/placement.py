"""Where the cells of a drawn smear lie, so that each stays visible and none overlaps more than it may."""

import numpy as np
from scipy import ndimage as ndi

from bloodcells.errors import UserError

_TRIES = 3000  # places tried for each cell
_MIN_VISIBLE = 0.25  # share of each cell that the image border and the cells above leave to be seen


def place(rng, cells, shape, *, pad, overlap, whole):
    """Give every cell a place in a field.

    White cells and platelets share no pixel, and their labels own all of theirs. Red cells lie below them,
    and a later red cell lies above an earlier one.

    Parameters
    ----------
    rng : numpy.random.Generator
    cells : list of bloodcells.drawn_cells.Cell
        White cells and platelets first. Their `row` and `column` are set; a cell that has them stays there.
    shape : tuple of int
        Rows and columns of the field.
    pad : int
        Extra pixels on each side of the labels, at least half the width of the largest patch.
    overlap, whole
        As in `bloodcells.synthetic.draw_smear`.

    Returns
    -------
    ndarray of int32, shape (M + 2 pad, N + 2 pad)
        Label n, from 1 on, marks the visible pixels of the nth cell; 0 is background, and so is the padding.

    Raises
    ------
    UserError
        If a cell finds no place.
    """
    n_upper = sum(cell.cell_class != "rbc" for cell in cells)
    frame = np.pad(np.ones(shape, bool), pad)
    labels = np.zeros(frame.shape, np.int32)
    # Pixels of each label: those the cell has, and those it owns so far. The first entry is the background.
    area = np.array([0, *(cell.mask.sum() for cell in cells)])
    visible = np.zeros(len(area))
    for label, cell in enumerate(cells, start=1):
        limit, entire = (0, True) if label <= n_upper else (overlap, whole)
        # Without overlap a gap of two pixels keeps neighbours apart, also as 8-connected components.
        reach = cell.mask if limit else ndi.binary_dilation(cell.mask, np.ones((3, 3)), iterations=2)
        margin = int(0.8 * cell.radius) if entire else 0  # no outline comes closer to its centre
        earlier = cells[n_upper : label - 1]
        for spot in _spots(rng, cell, shape, margin, earlier, clumping=2 * limit):
            cell.row, cell.column = spot
            own = cell.mask & frame[cell.window(pad)]
            under = labels[cell.window(pad)]
            if (under[reach] > 0).sum() > limit * own.sum() or (entire and own.sum() < area[label]):
                continue
            taken = own & ((under == 0) | (under > n_upper))
            left = visible - np.bincount(under[taken], minlength=len(visible))
            left[label] = taken.sum()
            if (left >= _MIN_VISIBLE * area)[1 : label + 1].all():
                under[taken] = label  # a view: this writes to `labels`
                visible = left
                break
        else:
            raise UserError(
                f"Could place only {label - 1} of {len(cells)} cells in {shape[0]} x {shape[1]} pixels. "
                "Ask for fewer cells, a larger `shape`, a smaller `rbc_radius` or more `overlap`."
            )
    return labels


def _spots(rng, cell, shape, margin, earlier, clumping):
    """Yield centres to try: at random or, as red cells clump, at times beside an earlier one."""
    spots = rng.integers(margin, np.subtract(shape, margin), size=(_TRIES, 2))
    if cell.row is not None:
        yield cell.row, cell.column
        return
    for row, column in spots:
        if earlier and rng.random() < clumping:
            other, angle = earlier[rng.integers(len(earlier))], rng.uniform(0, 2 * np.pi)
            distance = cell.radius * rng.uniform(1.2, 2)
            row = np.clip(other.row + distance * np.sin(angle), 0, shape[0] - 1)
            column = np.clip(other.column + distance * np.cos(angle), 0, shape[1] - 1)
        yield int(row), int(column)

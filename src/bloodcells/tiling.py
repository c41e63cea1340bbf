"""Predict images of any size tile by tile, every output pixel once.

A network with unpadded convolutions needs `margin` pixels of context on each side of what it predicts: tiles
overlap in their context, and their predictions lie side by side.
"""

import numpy as np

from bloodcells.errors import UserError

PADDING_MODES = ("constant", "symmetric")


def tile_corners(shape, output_size):
    """Corners of the tiles that cover an image once.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the image, pixels.
    output_size : int or tuple of int
        Rows and columns that one tile predicts, pixels.

    Returns
    -------
    list of tuple of int
        (row, column) of each tile's first predicted pixel, row by row. Tiles at the far borders reach over
        them.

    Examples
    --------
    >>> tile_corners((150, 100), 100)
    [(0, 0), (100, 0)]
    """
    rows, columns = _pair(output_size)
    return [(row, column) for row in range(0, shape[0], rows) for column in range(0, shape[1], columns)]


def cut_tile(image, corner, output_size, margin, *, padding_mode="constant"):
    """Cut one tile with its context out of an image.

    Parameters
    ----------
    image : ndarray, shape (M, N) or (M, N, C)
    corner : tuple of int
        (row, column) of the first predicted pixel; the tile may reach over any border.
    output_size : int or tuple of int
        Rows and columns that the tile predicts, pixels.
    margin : int
        Context on each side, pixels.
    padding_mode : {"constant", "symmetric"}
        What lies outside of the image: zeros, as gharbi2023 pads, or the image's mirror image.

    Returns
    -------
    ndarray, shape (rows + 2 margin, columns + 2 margin[, C])
    """
    if padding_mode not in PADDING_MODES:
        raise UserError(f"`padding_mode` must be one of {', '.join(PADDING_MODES)}, got {padding_mode!r}.")
    sources, inside = [], []
    for first, size, length in zip(corner, _pair(output_size), image.shape[:2], strict=True):
        index = np.arange(first - margin, first + size + margin)
        inside.append((index >= 0) & (index < length))
        # Mirroring repeats every 2 lengths, so that images smaller than the context work too.
        folded = index % (2 * length)
        sources.append(np.minimum(folded, 2 * length - 1 - folded))
    tile = image[np.ix_(*sources)]
    if padding_mode == "constant":
        tile[~inside[0]] = 0
        tile[:, ~inside[1]] = 0
    return tile


def choose_output_size(shape, *, target, step=8, offset=4):
    """Size of tiles near a target size that cover an image with little to spare.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the image, pixels.
    target : int
        Wanted rows and columns of what a tile predicts, pixels; not exceeded by more than `step`.
    step, offset : int
        Sizes the network can give are `step` k + `offset` (8 k + 4 for a DO-U-Net, from 12 on).

    Returns
    -------
    tuple of int
        Rows and columns.

    Examples
    --------
    >>> choose_output_size((972, 1296), target=400)  # 3 x 4 tiles
    (324, 324)
    """
    sizes = []
    for length in shape:
        share = -(-length // -(-length // target))
        sizes.append(max(-(-(share - offset) // step), 1) * step + offset)
    return tuple(sizes)


def predict_tiled(predict, image, *, output_size, margin, padding_mode="constant", batch_size=8):
    """Predict an image of any size tile by tile.

    Parameters
    ----------
    predict : callable
        Tiles, shape (n, rows + 2 margin, columns + 2 margin, C) and dtype of the image, to float arrays of
        shape (n, rows, columns, K).
    image : ndarray, shape (M, N, C)
    output_size : int or tuple of int
        Rows and columns that one tile predicts, pixels.
    margin : int
        Context on each side, pixels: 44 for a DO-U-Net.
    padding_mode : {"constant", "symmetric"}
        As in `cut_tile`.
    batch_size : int
        Tiles predicted at once; what is held in memory beside the result.

    Returns
    -------
    ndarray of float32, shape (M, N, K)

    Raises
    ------
    UserError
        If the image isn't of three dimensions or is empty, or `predict` gives another size than said.

    Examples
    --------
    >>> image = np.arange(30 * 20 * 3).reshape(30, 20, 3)
    >>> identity = lambda tiles: tiles[:, 4:-4, 4:-4]
    >>> bool((predict_tiled(identity, image, output_size=12, margin=4) == image).all())
    True
    """
    if image.ndim != 3 or 0 in image.shape:
        raise UserError(f"`image` must be of shape (M, N, C) and not empty, got shape {image.shape}.")
    n_rows, n_columns = _pair(output_size)
    if min(n_rows, n_columns, batch_size) < 1 or margin < 0:
        raise UserError(
            "`output_size` and `batch_size` must be at least 1 and `margin` at least 0, "
            f"got {output_size}, {batch_size} and {margin}."
        )
    corners = tile_corners(image.shape, output_size)
    result = None
    for start in range(0, len(corners), batch_size):
        batch = corners[start : start + batch_size]
        tiles = [cut_tile(image, corner, output_size, margin, padding_mode=padding_mode) for corner in batch]
        predictions = np.asarray(predict(np.stack(tiles)))
        if predictions.ndim != 4 or predictions.shape[:3] != (len(batch), n_rows, n_columns):
            raise UserError(
                f"`predict` must give shape ({len(batch)}, {n_rows}, {n_columns}, K), "
                f"got {predictions.shape}: check `output_size` and `margin`."
            )
        if result is None:
            result = np.empty((*image.shape[:2], predictions.shape[3]), np.float32)
        for (row, column), prediction in zip(batch, predictions, strict=True):
            window = result[row : row + n_rows, column : column + n_columns]
            window[...] = prediction[: window.shape[0], : window.shape[1]]
    return result


def count_released_tiles(shape, *, output_size=100, padding=100, input_size=188):
    """Tiles that the authors' released slicing cuts out of an image.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the image, pixels.
    output_size, padding, input_size : int
        Their values, pixels.

    Returns
    -------
    int

    Notes
    -----
    Tile centres go from ``padding + output_size / 2`` in steps of `output_size` and stay more than half an
    input away from the padded border. So with 1944 rows the last 44 are in no tile, where `tile_corners`
    adds a row of tiles. Summed over the published splits this gives gharbi2023's Table I exactly.

    Examples
    --------
    >>> count_released_tiles((1944, 2592)), len(tile_corners((1944, 2592), 100))
    (494, 520)
    """
    n_rows, n_columns = (
        len(np.arange(padding + output_size / 2, length + 2 * padding - input_size / 2, output_size))
        for length in shape[:2]
    )
    return n_rows * n_columns


def _pair(size):
    return (size, size) if isinstance(size, int | np.integer) else tuple(size)

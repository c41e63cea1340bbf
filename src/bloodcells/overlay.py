"""Draw counted cells on their image, so that a person can check the counts at a glance."""

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bloodcells.cell_outlines import COLOURS, PLURALS, hex_to_rgb

LONG_SIDE = 4000
"""Rows or columns, the larger, that a picture has at most."""


def draw_overlay(image, result, outlines, *, long_side=LONG_SIDE):
    """Draw the outlines of cells on their image, and a caption with the counts below it.

    Parameters
    ----------
    image : ndarray of uint8, shape (M, N, 3)
    result : bloodcells.smear.SmearCount
    outlines : dict of str to list of ndarray of float, shape (K, 2)
        For each kind of cell, as from `bloodcells.cell_outlines.cell_outlines`.
    long_side : int
        A larger image is drawn smaller, with this many rows or columns.

    Returns
    -------
    ndarray of uint8, shape (rows, columns, 3)
        With a scale bar in the caption if the size of a pixel is known. A narrow picture gets as many
        lines of caption as it takes.
    """
    scale = min(1.0, long_side / max(image.shape[:2]))
    size = [max(round(length * scale), 1) for length in image.shape[1::-1]]
    picture = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image.copy()
    # Thin against the cells, but at least a pixel.
    thickness = max(round(0.08 * result.cell_radius * scale), 1)
    # Eight bits of fraction: OpenCV takes whole numbers.
    fraction = 8
    for cell, polygons in outlines.items():
        points = [
            np.rint(((polygon + 0.5) * scale - 0.5)[:, ::-1] * 2**fraction).astype(np.int32)
            for polygon in polygons
        ]
        cv2.polylines(
            picture, points, True, hex_to_rgb(COLOURS[cell]), thickness, cv2.LINE_AA, shift=fraction
        )
    return np.concatenate([picture, _draw_caption(picture.shape[1], result, scale)])


def choose_bar_length(width_um):
    """Choose the length of a scale bar: 1, 2 or 5 times a power of ten, at most a fifth of the width.

    Parameters
    ----------
    width_um : float
        Width of the picture, micrometres.

    Returns
    -------
    float
        Micrometres.

    Examples
    --------
    >>> choose_bar_length(140.0)  # a fifth is 28
    20.0
    """
    most = width_um / 5
    power = 10.0 ** np.floor(np.log10(most))
    return float(max(step * power for step in (1, 2, 5) if step * power <= most))


def _draw_caption(width, result, scale):
    """Draw a white strip: a mark and the count of each kind, and the scale bar."""
    size = int(np.clip(width / 45, 12, 60))
    font = ImageFont.load_default(size=size)
    entries = [
        (COLOURS[cell], f"{found.n:,} {PLURALS[cell] if found.n != 1 else PLURALS[cell].removesuffix('s')}")
        for cell, found in result.cells.items()
    ]
    bar = None
    if result.pixel_size_um is not None:
        length_um = choose_bar_length(width * result.pixel_size_um / scale)
        bar = length_um / result.pixel_size_um * scale
        entries.append((None, f"{length_um:g} um"))  # the font has no Greek letters
    # Lines first, since their number gives the height.
    places, x, line = [], size, 0
    for colour, text in entries:
        mark = size if colour else bar
        needed = mark + 0.5 * size + font.getlength(text)
        if x > size and x + needed > width - size:
            x, line = size, line + 1
        places.append((x, line, mark, colour, text))
        x += needed + 1.5 * size
    strip = Image.new("RGB", (width, int((line + 1) * 1.6 * size + 0.6 * size)), "white")
    draw = ImageDraw.Draw(strip)
    for x, line, mark, colour, text in places:
        top = 0.5 * size + line * 1.6 * size
        half = size / 2 if colour else max(size / 10, 1)
        middle = top + 0.6 * size
        draw.rectangle((x, middle - half, x + mark, middle + half), fill=colour or "black")
        draw.text((x + mark + 0.5 * size, top), text, fill="black", font=font)
    return np.asarray(strip)

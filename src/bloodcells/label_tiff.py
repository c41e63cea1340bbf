"""Write label images as TIFF that Fiji, napari and CellProfiler open, strip by strip."""

import zlib

import numpy as np
import tifffile

_ROWS_PER_STRIP = 64


def write_label_tiff(path, labels, shape, *, pixel_size_um=None):
    """Write a label image at the size of the image it belongs to.

    Parameters
    ----------
    path : path-like
    labels : ndarray of int, shape (rows, columns)
        0 is background; of any size.
    shape : tuple of int
        Rows and columns of the file. Each pixel gets the nearest label.
    pixel_size_um : float, optional
        Micrometres a pixel of the file, noted in it.

    Notes
    -----
    One grey page in deflated strips, which ImageJ reads without a plug-in: 16 bits, or 32 where there are
    more than 65,535 labels. Only one strip is held in memory at the full size.
    """
    dtype = np.dtype("<u2" if labels.max(initial=0) < 2**16 else "<u4")
    rows, columns = (
        ((np.arange(length) + 0.5) * n / length).astype(int)
        for length, n in zip(shape, labels.shape, strict=True)
    )
    strips = (
        zlib.compress(labels[np.ix_(rows[start : start + _ROWS_PER_STRIP], columns)].astype(dtype).tobytes())
        for start in range(0, shape[0], _ROWS_PER_STRIP)
    )
    resolution = {}
    if pixel_size_um is not None:
        per_centimetre = 1e4 / pixel_size_um
        resolution = {"resolution": (per_centimetre, per_centimetre), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path, byteorder="<") as file:
        file.write(
            strips,
            shape=shape,
            dtype=dtype,
            rowsperstrip=_ROWS_PER_STRIP,
            compression="zlib",
            photometric="minisblack",
            metadata=None,
            **resolution,
        )

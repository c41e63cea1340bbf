"""Read photographs of smears as people have them: JPEG, PNG, BMP and TIFF, 8 or 16 bits, colour or grey."""

import contextlib
import os
import struct
import sys
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from bloodcells.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".tif", ".tiff")
"""Endings of the names of files that are taken for images when a folder is searched."""

MAX_PIXELS = 400_000_000
"""Largest image that is decoded, pixels: 20,000 x 20,000. More is taken for a mistake or an attack."""

# "DIB" is a BMP without its file header. JPEG includes MPO, what some cameras call one with a second picture.
_FORMATS = ("JPEG", "PNG", "BMP", "DIB", "TIFF")
_EIGHT_BIT_MODES = ("L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# What Pillow, tifffile and OpenCV raise where a file does not follow its format.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    LookupError,
    TypeError,
    EOFError,
    struct.error,
    zlib.error,
    cv2.error,
)
# Numbers of TIFF's tags.
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLES_PER_PIXEL = 258, 262, 277
_PLANAR_CONFIGURATION, _SAMPLE_FORMAT = 284, 339
# Numbers of TIFF's compressions that need no further library: none, deflate, and its older number.
_PLANAR_COMPRESSIONS = (1, 8, 32946)
# Bits a camera may fill of the 16 that a file has.
_BIT_DEPTHS = (8, 10, 12, 14, 16)


def read_image(path):
    """Read a photograph as 8-bit RGB.

    Parameters
    ----------
    path : path-like
        A JPEG, PNG, BMP or TIFF of 8 or 16 bits a channel: RGB, grey, or colours of a palette, with or
        without transparency. What a file is decides its content, not its name.

    Returns
    -------
    ndarray of uint8, shape (M, N, 3)
        RGB as it is stored: an orientation in the EXIF data is not applied, so that rows and columns are
        those of programs that read the pixels. Grey images get three equal channels, transparent pixels a
        white background.

    Raises
    ------
    UserError
        If there is no such file, or it is empty, damaged, cut short, too large or no image of these kinds.

    Warns
    -----
    UserWarning
        If a TIFF holds further pages: only the first is read.

    Notes
    -----
    Cameras fill 10, 12, 14 or 16 bits of a 16-bit file. The fewest bits that hold the brightest value are
    taken to be the camera's, and their full range becomes 0 to 255. So the scaling is the same for all three
    colours and is one of a few, whatever the image shows.
    """
    path = Path(path)
    _check_file(path)
    try:
        # Readers warn of odd but harmless metadata, and libraries in C print why they fail: here the
        # error is what says so.
        with warnings.catch_warnings(action="ignore"), _silent(), _open(path) as picture:
            n_pages = _count_pages(picture)
            _check_picture(path, picture)
            bits = _bits(picture)
            image = _decode_deep(path, picture) if bits == 16 else _decode(picture)
    except UserError:
        raise
    except MemoryError as error:
        raise UserError(f"{path} is too large for the memory that is free here; crop it.") from error
    except UnidentifiedImageError as error:
        raise UserError(_say_unknown(path)) from error
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno:
            raise UserError(f"{path} can't be read: {error.strerror}.") from error
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise UserError(f"{path} is damaged or cut short ({reason}); get a sound copy.") from error
    if n_pages > 1:
        warnings.warn(f"{path} holds {n_pages} pages; only the first is read.", UserWarning, stacklevel=2)
    return image


def scale_to_8_bits(image):
    """Scale 16-bit values to 8 bits, by the bits that the camera seems to have filled.

    Parameters
    ----------
    image : ndarray of uint16

    Returns
    -------
    ndarray of uint8, of the same shape

    Examples
    --------
    >>> scale_to_8_bits(np.array([0, 2047, 4095], np.uint16))  # 12 bits
    array([  0, 127, 255], dtype=uint8)
    """
    brightest = int(image.max())
    full = next(2**bits - 1 for bits in _BIT_DEPTHS if brightest < 2**bits)
    # As a table: no copy of the image in floating point is made.
    values = np.arange(2**16, dtype=np.float64) * 255 / full
    table = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return table[image]


def _check_file(path):
    if path.is_dir():
        raise UserError(f"Expected an image file, got the folder {path}.")
    try:
        size = path.stat().st_size
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}; check the path.") from error
    if size == 0:
        raise UserError(f"{path} is empty (0 bytes); get a sound copy.")


def _say_unknown(path):
    with path.open("rb") as stream:
        start = stream.read(8)
    if start.startswith(_BEGINNINGS):
        return (
            f"{path} is damaged or cut short, or has pixels of another kind than grey or RGB of 8 or 16 "
            "bits; get a sound copy or convert it."
        )
    return f"{path} is no JPEG, PNG, BMP or TIFF image; convert it."


@contextlib.contextmanager
def _silent():
    """Send what libraries in C write to standard error nowhere."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextlib.contextmanager
def _open(path):
    limit = Image.MAX_IMAGE_PIXELS
    # Pillow's own limit, a global, is below 10,000 x 10,000; `_check_picture` applies ours before decoding.
    Image.MAX_IMAGE_PIXELS = None
    try:
        with Image.open(path, formats=_FORMATS) as picture:
            yield picture
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _count_pages(picture):
    if picture.format != "TIFF":
        return 1
    n_pages = picture.n_frames
    # Counting leaves the reader at the last page.
    picture.seek(0)
    return n_pages


def _check_picture(path, picture):
    columns, rows = picture.size
    if rows * columns > MAX_PIXELS:
        raise UserError(
            f"{path} says that it has {columns} x {rows} pixels, more than the {MAX_PIXELS:,} that are "
            "taken; crop it or cut it into parts."
        )
    if picture.mode == "1":
        raise UserError(f"{path} is black and white (1 bit a pixel); expected a photograph of 8 or 16 bits.")
    if picture.mode not in _EIGHT_BIT_MODES and _bits(picture) != 16:
        raise UserError(
            f"{path} has pixels of the kind {picture.mode!r}; expected grey or RGB of 8 or 16 bits; "
            "convert it."
        )


def _bits(picture):
    """Bits of one value in the file: 8, 16, or 0 where they are of another kind."""
    if picture.format == "TIFF":
        bits = set(picture.tag_v2.get(_BITS_PER_SAMPLE, (1,)))
        formats = set(picture.tag_v2.get(_SAMPLE_FORMAT, (1,)))  # 1: unsigned
        return bits.pop() if len(bits) == 1 and formats == {1} else 0
    if picture.format == "PNG" and picture.tile:
        rawmode = picture.tile[0].args
        return 16 if "16" in (rawmode if isinstance(rawmode, str) else rawmode[0]) else 8
    return 8


def _decode(picture):
    picture.load()
    if picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        white.alpha_composite(picture)
        picture = white
    if picture.mode != "RGB":
        picture = picture.convert("RGB")
    return np.asarray(picture)


def _decode_planar(path, picture):
    """Decode a TIFF of 16 bits whose colours lie one after the other, as it is stored or deflated."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        if page.ndim != 3 or page.shape[0] > 4 or page.shape[1:] != picture.size[::-1]:
            raise OSError("its header contradicts itself")
        if page.compression not in _PLANAR_COMPRESSIONS:
            raise OSError("its compression isn't read where colours lie one after the other")
        if page.compression != 1:
            # tifffile inflates whatever is there, however large it gets.
            for offset, n_bytes in zip(page.dataoffsets, page.databytecounts, strict=True):
                file.filehandle.seek(offset)
                packed = file.filehandle.read(n_bytes)
                if len(zlib.decompressobj().decompress(packed, page.nbytes + 1)) > page.nbytes:
                    raise OSError("it holds more pixels than its header says")
        return np.moveaxis(page.asarray(), 0, -1)


def _decode_deep(path, picture):
    """Decode 16 bits a channel, over white; Pillow would drop the lower eight."""
    tags = picture.tag_v2 if picture.format == "TIFF" else {}
    # One colour after the other, which OpenCV misreads.
    if tags.get(_PLANAR_CONFIGURATION) == 2 and tags.get(_SAMPLES_PER_PIXEL, 1) > 1:
        image = _decode_planar(path, picture)
    else:
        # Unchanged: neither cut to 8 bits nor turned by the EXIF orientation.
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
        if image is None or image.dtype != np.uint16:
            raise OSError("its 16-bit pixels can't be decoded")
        if image.ndim == 3:
            image[..., :3] = image[..., 2::-1]
    if image.ndim == 2:
        image = image[..., np.newaxis]
    if image.shape[2] == 4:
        # Row by row in 32 bits, which hold the product of two 16-bit numbers.
        for row in image:
            alpha = row[:, 3:].astype(np.uint32)
            row[:, :3] = (row[:, :3] * alpha + 65535 * (65535 - alpha)) // 65535
    image = scale_to_8_bits(image[..., :3] if image.shape[2] >= 3 else image[..., :1])
    if tags.get(_PHOTOMETRIC) == 0:  # white is zero
        image = 255 - image
    return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)))

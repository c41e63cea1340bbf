"""Random tiles of whole fields, distorted in the eight steps of gharbi2023, section III-D."""

import hashlib
from dataclasses import dataclass

import cv2
import keras
import numpy as np

from bloodcells.errors import UserError
from bloodcells.training import count_workers

_ATTEMPTS = 8


@dataclass(frozen=True)
class TileRanges:
    """How far tiles are distorted; the steps of `draw_tile` that use a value are in brackets.

    Attributes
    ----------
    quality : tuple of float
        The tile is reduced to a share of its size drawn from this range, then enlarged again (3).
    scale : tuple of float
        Magnification of the tile (6).
    rotation : bool
        Turn by any angle; otherwise by quarter turns (7).
    luminosity : float
        Brightness changes by a factor of up to 1 plus or minus this (8).
    saturation : float
        Likewise for the saturation of colours (8).
    stain : float
        Likewise for each of red, green and blue alone. Not in the paper.
    blur : float
        Largest standard deviation of a Gaussian blur, pixels. Not in the paper.
    noise : float
        Largest standard deviation of noise, grey levels. Not in the paper.
    compression : float
        Share of tiles that are saved as JPEG, quality 30 to 90, and read again. Not in the paper.
    """

    quality: tuple = (0.5, 1.0)
    scale: tuple = (0.75, 1.3)
    rotation: bool = True
    luminosity: float = 0.3
    saturation: float = 0.4
    stain: float = 0.2
    blur: float = 1.0
    noise: float = 4.0
    compression: float = 0.25


class TileBatches(keras.utils.PyDataset):
    """Batches of random tiles, the same for the same seed, epoch and step.

    Parameters
    ----------
    images : list of ndarray of uint8, shape (M, N, 3)
        Fields; their sizes may differ.
    targets : list of ndarray of uint8, shape (M, N, K)
        0 or 1 for each pixel and output of the network.
    output_size : int
        Rows and columns of what the network predicts, pixels.
    margin : int
        Context that it sees on each side, pixels.
    ranges : TileRanges
    batch_size, steps_per_epoch, seed : int
    workers : int, optional
        Threads that prepare batches while the network trains. Default: `bloodcells.training.count_workers`.
    """

    def __init__(
        self,
        images,
        targets,
        *,
        output_size,
        margin,
        ranges,
        batch_size,
        steps_per_epoch,
        seed,
        workers=None,
    ):
        super().__init__(workers=workers or count_workers(), use_multiprocessing=False, max_queue_size=8)
        _check(images, targets)
        if min(batch_size, steps_per_epoch, output_size) < 1 or margin < 0:
            raise UserError(
                "`batch_size`, `steps_per_epoch` and `output_size` must be at least 1, `margin` at least 0, "
                f"got {batch_size}, {steps_per_epoch}, {output_size} and {margin}."
            )
        self.images, self.targets = images, targets
        self.output_size, self.margin, self.ranges = output_size, margin, ranges
        self.batch_size, self.steps_per_epoch, self.seed = batch_size, steps_per_epoch, seed
        self.epoch = 0

    def __len__(self):
        return self.steps_per_epoch

    def __getitem__(self, step):
        tiles = []
        for slot in range(self.batch_size):
            rng = np.random.default_rng([self.seed, 3, self.epoch, step, slot])
            tiles.append(
                draw_tile(
                    self.images,
                    self.targets,
                    output_size=self.output_size,
                    margin=self.margin,
                    ranges=self.ranges,
                    rng=rng,
                )
            )
        images, targets = zip(*tiles, strict=True)
        return np.stack(images), np.stack(targets)

    def fingerprint(self):
        """Return a hash of all that decides the batches.

        Returns
        -------
        str
        """
        digest = hashlib.sha256()
        for array in [*self.images, *self.targets]:
            digest.update(np.ascontiguousarray(array))
        sizes = (self.output_size, self.margin, self.batch_size, self.steps_per_epoch, self.seed)
        digest.update(repr((sizes, self.ranges)).encode())
        return digest.hexdigest()


def draw_tile(images, targets, *, output_size, margin, ranges, rng):
    """Draw one distorted tile, and the target of its middle.

    Parameters
    ----------
    images : list of ndarray of uint8, shape (M, N, 3)
    targets : list of ndarray of uint8, shape (M, N, K)
        0 or 1.
    output_size, margin : int
        As in `TileBatches`, pixels.
    ranges : TileRanges
    rng : numpy.random.Generator

    Returns
    -------
    image : ndarray of uint8, shape (output_size + 2 margin, the same, 3)
    target : ndarray of uint8, shape (output_size, output_size, K)

    Notes
    -----
    The paper's steps: (1) pick an image, (2) pick a place, (3) reduce and enlarge, (4) slice, (5) skip what
    shows no cell, (6) resize, (7) turn and flip, (8) change luminosity and saturation. Here slicing,
    resizing, turning and flipping are one affine map, so that pixels are interpolated once. Outside of
    the field lie zeros, as when it is predicted. A tile without a cell is drawn again up to eight times, then
    taken: some empty tiles teach what no cell looks like.
    """
    for _ in range(_ATTEMPTS):
        index = rng.integers(len(images))
        shape = targets[index].shape
        matrix = _random_matrix(shape, output_size, ranges, rng)
        target = _warp(targets[index] * np.uint8(255), matrix, output_size) > 127
        if target.any():
            break
    # The same map for the image, whose tile starts `margin` pixels earlier.
    matrix[:, 2] -= matrix[:, :2] @ (margin, margin)
    image = _warp(images[index], matrix, output_size + 2 * margin)
    return _recolour(_degrade(image, ranges, rng), ranges, rng), target.astype(np.uint8)


def _random_matrix(shape, output_size, ranges, rng):
    """Affine map, 2 x 3, from (column, row) of a tile to those of the field."""
    angle = rng.uniform(0, 2 * np.pi) if ranges.rotation else rng.integers(4) * np.pi / 2
    zoom = 1 / np.exp(rng.uniform(*np.log(ranges.scale)))
    cos, sin = np.cos(angle) * zoom, np.sin(angle) * zoom
    turn = np.array([[cos, -sin], [sin, cos]])
    if rng.random() < 0.5:
        turn[:, 0] *= -1
    centre = np.array([rng.uniform(0, shape[1]), rng.uniform(0, shape[0])])
    return np.hstack([turn, (centre - turn @ np.full(2, (output_size - 1) / 2))[:, np.newaxis]])


def _warp(array, matrix, size):
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(np.ascontiguousarray(array), matrix, (size, size), flags=flags)
    return warped.reshape(size, size, -1)


def _degrade(image, ranges, rng):
    """Lose quality as cameras, lenses and files do."""
    size = image.shape[0]
    reduced = max(round(size * rng.uniform(*ranges.quality)), 1)
    if reduced < size:
        small = cv2.resize(image, (reduced, reduced), interpolation=cv2.INTER_AREA)
        image = cv2.resize(small, (size, size), interpolation=cv2.INTER_LINEAR)
    if (blur := rng.uniform(0, ranges.blur)) > 0.3:
        image = cv2.GaussianBlur(image, (0, 0), blur)
    if rng.random() < ranges.compression:
        quality = int(rng.integers(30, 91))
        _, encoded = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, quality))
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    return image


def _recolour(image, ranges, rng):
    """Change brightness, saturation and the balance of colours, and add noise."""
    gains = (1 + rng.uniform(-ranges.luminosity, ranges.luminosity)) * (
        1 + rng.uniform(-ranges.stain, ranges.stain, 3)
    )
    saturation = 1 + rng.uniform(-ranges.saturation, ranges.saturation)
    # Saturation is the distance from grey: one 3 x 3 matrix does all of it.
    mix = saturation * np.eye(3) + (1 - saturation) * np.full((3, 3), 1 / 3)
    changed = cv2.transform(image.astype(np.float32), (mix * gains[:, np.newaxis]).astype(np.float32))
    if (noise := rng.uniform(0, ranges.noise)) > 0.5:
        changed += noise * rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(np.rint(changed), 0, 255).astype(np.uint8)


def _check(images, targets):
    if len(images) == 0 or len(images) != len(targets):
        raise UserError(
            "`images` and `targets` must be lists of one length, at least 1, "
            f"got {len(images)} and {len(targets)}."
        )
    for image, target in zip(images, targets, strict=True):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise UserError(
                f"`images` must be uint8 of shape (M, N, 3), got {image.dtype} of shape {image.shape}."
            )
        if target.ndim != 3 or target.shape[:2] != image.shape[:2] or target.dtype != np.uint8:
            raise UserError(
                f"`targets` must be uint8 of shape ({image.shape[0]}, {image.shape[1]}, K), "
                f"got {target.dtype} of shape {target.shape}."
            )

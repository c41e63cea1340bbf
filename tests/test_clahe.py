"""Brightness is spread within tiles, and colour stays."""

import cv2
import numpy as np
import pytest

from bloodcells.clahe import equalize_brightness
from bloodcells.errors import UserError


def smear(seed=0):
    """Draw two faint tones of one colour, in checks of 4 pixels, with a little noise."""
    rows, columns = np.indices((64, 64))
    tone = 150 + 12 * ((rows // 4 + columns // 4) % 2)
    noise = np.random.default_rng(seed).integers(-3, 4, (64, 64))
    return ((tone + noise)[..., np.newaxis] * np.array([1.0, 0.8, 0.9])).astype(np.uint8)


def test_contrast_grows_and_colour_stays():
    before = smear()
    after = equalize_brightness(before)
    yuv = [cv2.cvtColor(image, cv2.COLOR_RGB2YUV).astype(int) for image in (before, after)]
    y, u, v = ([one[..., i] for one in yuv] for i in range(3))
    assert y[1].std() > 2 * y[0].std()
    for one, other in (u, v):
        assert np.abs(one - other).max() <= 2  # roundings to and fro


def test_tiles_are_equalised_each_for_itself():
    """A gradient across the image, large against the checks, is taken out of it."""
    image = np.clip(smear().astype(int) + np.linspace(-90, 60, 64).astype(int)[None, :, None], 0, 255)
    before = image.astype(np.uint8)
    after = equalize_brightness(before)
    halves = [[part[:, :16].mean(), part[:, 48:].mean()] for part in (before, after)]
    assert abs(halves[1][1] - halves[1][0]) < abs(halves[0][1] - halves[0][0])


def test_a_higher_limit_means_more_contrast():
    contrasts = [equalize_brightness(smear(), clip_limit=limit).std() for limit in (1.0, 2.0, 8.0)]
    assert contrasts == sorted(contrasts)
    assert contrasts[0] < contrasts[-1]


def test_the_image_given_is_left_alone():
    image = smear()
    equalize_brightness(image)
    assert np.array_equal(image, smear())


@pytest.mark.parametrize(
    ("image", "arguments", "message"),
    [
        (np.zeros((8, 8), np.uint8), {}, "shape \\(8, 8\\)"),
        (np.zeros((8, 8, 3)), {}, "float64"),
        (smear(), {"clip_limit": 0}, "clip_limit"),
        (smear(), {"n_tiles": 0}, "n_tiles"),
    ],
)
def test_refused(image, arguments, message):
    with pytest.raises(UserError, match=message):
        equalize_brightness(image, **arguments)

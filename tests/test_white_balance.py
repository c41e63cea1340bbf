"""The light of a photograph goes, what the smear itself shows stays."""

import numpy as np
import pytest

from bloodcells.errors import UserError
from bloodcells.white_balance import balance_white


def smear(light=(1.0, 1.0, 1.0)):
    """Photograph cells of half and of a fifth of the background's 240, in the light given."""
    tone = np.full((20, 20), 240.0)
    tone[5:15, 5:15] = 120
    tone[8:12, 8:12] = 48
    return np.rint(tone[..., np.newaxis] * light).astype(np.uint8)


@pytest.mark.parametrize("light", [(1, 1, 1), (0.5, 0.5, 0.5), (0.9, 0.7, 1.0), (0.3, 0.4, 0.2)])
def test_all_lights_give_one_image(light):
    balanced = balance_white(smear(light)).astype(int)
    assert (balanced[0, 0] == 200).all()
    # By hand: 200 / 2 and 200 / 5; half a grey level of the dim photograph, 48 of 240, is 2 here at most.
    assert np.abs(balanced[6, 6] - 100).max() <= 2
    assert np.abs(balanced[9, 9] - 40).max() <= 2


def test_twice_is_once():
    once = balance_white(smear((0.9, 0.7, 1.0)))
    assert np.array_equal(balance_white(once), once)


def test_what_is_brighter_than_the_background_is_kept_or_cut():
    image = np.full((10, 10, 3), 160, np.uint8)
    image[0, 0], image[0, 1] = 180, 250
    balanced = balance_white(image, percentile=50)
    assert balanced[0, 0].tolist() == [225] * 3  # 180 * 200 / 160
    assert balanced[0, 1].tolist() == [255] * 3  # 312.5 has no place in a byte


def test_the_percentile_is_taken_of_each_channel():
    """Of 1 to 100 the median is 50.5, of 2 to 200 it is 101."""
    ramp = np.arange(1, 101).reshape(10, 10)
    image = np.stack([ramp, 2 * ramp, ramp], axis=-1).astype(np.uint8)
    balanced = balance_white(image, level=101, percentile=50)
    assert np.array_equal(balanced[..., 0], 2 * ramp)
    assert np.array_equal(balanced[..., 1], 2 * ramp)


def test_the_image_given_is_left_alone():
    image = smear()
    balance_white(image)
    assert np.array_equal(image, smear())


@pytest.mark.parametrize(
    ("image", "arguments", "message"),
    [
        (np.zeros((8, 8), np.uint8), {}, "shape \\(8, 8\\)"),
        (np.zeros((0, 8, 3), np.uint8), {}, "shape \\(0, 8, 3\\)"),
        (np.zeros((8, 8, 3)), {}, "float64"),
        (np.zeros((8, 8, 3), np.uint8), {}, "must be above 0"),
        (smear(), {"level": 0}, "level"),
        (smear(), {"level": 256}, "level"),
        (smear(), {"percentile": 0}, "percentile"),
        (smear(), {"percentile": 101}, "percentile"),
    ],
)
def test_refused(image, arguments, message):
    with pytest.raises(UserError, match=message):
        balance_white(image, **arguments)

import numpy as np
import pytest

from bloodcells.colours import LEVELS, PROPERTIES, ColourChange, change_colours, list_changes, turn_hue
from bloodcells.errors import UserError


def test_hue_by_hand():
    image = np.uint8([[[200, 10, 10], [90, 90, 90]]])
    assert turn_hue(image, 240).tolist() == [[[10, 10, 200], [90, 90, 90]]]
    assert turn_hue(image, -120).tolist() == turn_hue(image, 240).tolist()
    assert turn_hue(image, 0) is image


def test_saturation_and_brightness_by_hand():
    image = np.uint8([[[200, 100, 150], [90, 90, 90]]])
    # Half the saturation halves each channel's distance from the largest one.
    assert change_colours(image, ColourChange(saturation=0.5)).tolist() == [[[200, 150, 175], [90, 90, 90]]]
    assert change_colours(image, ColourChange(saturation=0.0)).tolist() == [[[200] * 3, [90] * 3]]
    assert change_colours(image, ColourChange(brightness=0.5)).tolist() == [[[100, 50, 75], [45] * 3]]
    assert change_colours(image, ColourChange(brightness=2.0)).tolist() == [[[255, 200, 255], [180] * 3]]


def test_many_images_are_changed_as_one_by_one():
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 9, 3), dtype=np.uint8)
    change = ColourChange(hue=30, saturation=1.4, brightness=0.8)
    together = change_colours(images, change)
    assert together.dtype == np.uint8
    for image, changed in zip(images, together, strict=True):
        np.testing.assert_array_equal(change_colours(image, change), changed)


def test_no_change_returns_the_image_itself():
    image = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    assert change_colours(image, ColourChange()) is image


def test_every_level_is_allowed_and_none_is_the_image_as_it_is():
    assert set(LEVELS) == set(PROPERTIES)
    for name, levels in LEVELS.items():
        assert all(ColourChange(**{name: level}) != ColourChange() for level in levels)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hue": 181}, "`hue` must be from -180 to 180, got 181"),
        ({"saturation": -1}, "`saturation` must be from 0 to 5, got -1"),
        ({"brightness": float("nan")}, "`brightness` must be from 0 to 5, got nan"),
    ],
)
def test_impossible_changes_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        ColourChange(**values)


def test_fewer_levels_leave_out_the_smallest_changes():
    assert len(list_changes(6)) == 18
    assert list(list_changes(4))[:4] == ["hue -40", "hue -20", "hue 20", "hue 40"]
    assert list_changes(2)["saturation 0.25"] == ColourChange(saturation=0.25)
    with pytest.raises(UserError, match="`n_levels` must be 2, 4 or 6, got 3"):
        list_changes(3)

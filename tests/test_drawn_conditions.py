"""Drawn fields under set conditions: what changes, and what stays."""

import numpy as np
import pytest
from scipy import ndimage as ndi

from bloodcells.drawn_conditions import GEOMETRY, RADIUS, Condition, compress, draw_condition
from bloodcells.errors import UserError
from bloodcells.object_metrics import fill_outline

SHAPE = (160, 200)


def draw(seed=0, **values):
    return draw_condition(Condition(**values), SHAPE, seed=seed)


@pytest.mark.parametrize("density", [0.1, 0.4])
def test_density_is_the_area_of_the_cells(density):
    field = draw(density=density)
    assert field.counts == {"rbc": round(density * 160 * 200 / (np.pi * 18**2)), "wbc": 0, "plt": 0}
    assert len(field.outlines) == field.counts["rbc"]
    # Their radii are 0.88 to 1.1 of the typical one.
    areas = [np.count_nonzero(fill_outline(outline)[2]) for outline in field.outlines]
    assert 0.5 * RADIUS**2 < np.median(areas) / np.pi < 1.2 * RADIUS**2


def test_without_overlap_no_cell_touches_another():
    field = draw(overlap=0.0, density=0.35)
    _, n = ndi.label(field.masks["rbc"], np.ones((3, 3)))
    assert n == field.counts["rbc"]


def test_overlap_makes_cells_touch():
    parts = [ndi.label(draw(overlap=o, density=0.5).masks["rbc"], np.ones((3, 3)))[1] for o in (0.0, 0.5)]
    assert parts[1] < parts[0] - 4


def test_spread_makes_sizes_differ():
    def relative(field):
        areas = [np.count_nonzero(fill_outline(outline)[2]) for outline in field.outlines]
        return np.std(np.log(areas)) / 2

    whole = [relative(draw_condition(Condition(spread=s), (500, 500), seed=1)) for s in (0.0, 0.3)]
    assert whole[0] < 0.25 < whole[1]


def test_others_lie_above():
    field = draw_condition(Condition(others=2, density=0.2), (300, 300), seed=0)
    assert (field.counts["wbc"], field.counts["plt"]) == (2, 4)


@pytest.mark.parametrize(
    "values", [{"blur": 4.0}, {"noise": 40.0}, {"hue": 60.0}, {"quality": 10}], ids=lambda values: str(values)
)
def test_the_photograph_leaves_the_cells_as_they_are(values):
    plain, changed = draw(), draw(**values)
    assert set(values).isdisjoint(GEOMETRY)
    assert plain.counts == changed.counts
    assert np.array_equal(plain.masks["rbc"], changed.masks["rbc"])
    for one, other in zip(plain.outlines, changed.outlines, strict=True):
        assert np.array_equal(one, other)
    assert (plain.image != changed.image).any()
    assert changed.image.dtype == np.uint8
    assert changed.image.shape == (*SHAPE, 3)


def test_the_seed_decides():
    assert np.array_equal(draw(3).image, draw(3).image)
    assert (draw(3).image != draw(4).image).any()
    assert draw(3).image_id != draw(4).image_id


def test_blur_removes_detail_and_noise_adds_it():
    def detail(**values):
        image = draw(**values).image.astype(float).mean(axis=-1)
        return np.abs(np.diff(image, axis=0)).mean()

    assert detail(blur=4.0) < detail() < detail(noise=20.0)


def test_compression_keeps_less_the_lower_its_quality():
    image = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    assert compress(image, 100) is image
    gaps = [np.abs(compress(image, quality).astype(int) - image).mean() for quality in (90, 50, 5)]
    assert gaps == sorted(gaps)
    # Channels stay in their places.
    red = np.full((16, 16, 3), [200, 20, 20], np.uint8)
    assert np.abs(compress(red, 90).astype(int) - red).max() < 8


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"density": 1.0}, "`density` must be from 0 to 0.9, got 1.0"),
        ({"overlap": -0.1}, "`overlap`"),
        ({"quality": 0}, "`quality` must be from 1 to 100, got 0"),
        ({"hue": 181}, "`hue`"),
    ],
)
def test_wrong_values(values, match):
    with pytest.raises(UserError, match=match):
        Condition(**values)


def test_too_many_cells():
    with pytest.raises(UserError, match="Could place only"):
        draw(density=0.9, overlap=0.0)

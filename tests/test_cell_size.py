import contextlib

import cv2
import numpy as np
import pytest

from bloodcells import cell_size
from bloodcells.cell_size import estimate_cell_radius
from bloodcells.errors import UserError
from bloodcells.synthetic import draw_smear


def drawn(radius, *, stain="giemsa", n_wbc=2):
    shape = (int(22 * radius), int(28 * radius))
    rng = np.random.default_rng(int(radius))
    return draw_smear(
        shape, rng=rng, n_rbc=60, n_wbc=n_wbc, n_platelets=6, stain=stain, rbc_radius=radius, overlap=0.3
    )


@pytest.mark.parametrize("radius", [8, 18, 36])
def test_radius_of_drawn_cells_within_an_eighth(radius):
    smear = drawn(radius)
    cells = smear.cells
    true = cells.loc[cells["cell_class"] == "rbc", "radius"].median()
    assert estimate_cell_radius(smear.image) == pytest.approx(true, rel=0.125)


def test_no_white_cells_needed():
    smear = drawn(18, n_wbc=0)
    assert estimate_cell_radius(smear.image) == pytest.approx(smear.cells["radius"].quantile(0.6), rel=0.125)


def test_magnification_scales_the_estimate():
    image = drawn(18).image
    twice = cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
    assert estimate_cell_radius(twice) == pytest.approx(2 * estimate_cell_radius(image), rel=0.06)


def test_flips_and_turns_hardly_change_it():
    image = drawn(18).image
    radius = estimate_cell_radius(image)
    for other in (image[::-1], image[:, ::-1], np.rot90(image)):
        assert estimate_cell_radius(other) == pytest.approx(radius, rel=0.03)


def test_cells_too_small_for_the_reduced_image_are_looked_at_again(monkeypatch):
    # 5 x 5 copies of a field, seen at a long side of 200 pixels: cells of 2.5 pixels, under the least radius.
    image = np.tile(drawn(18).image, (5, 5, 1))
    monkeypatch.setattr(cell_size, "_LONG_SIDE", 400)
    assert 18 * 400 / max(image.shape) < cell_size._LEAST_RADIUS
    assert estimate_cell_radius(image) == pytest.approx(18, rel=0.2)


@pytest.mark.parametrize("shape", [(256, 256, 3), (20, 20_000, 3), (3, 5000, 3)])
def test_images_full_of_cells_and_strips_have_a_radius_or_an_error(shape):
    """No background is left when holes are filled; a strip has no quarters to look into."""
    rows, columns = np.indices(shape[:2])
    discs = np.hypot(rows % 28 - 13.5, columns % 28 - 13.5) < 15
    image = np.where(discs[..., np.newaxis], np.uint8(120), np.uint8(230)) * np.ones(3, np.uint8)
    for one in (image, np.full(shape, 200, np.uint8)):
        with contextlib.suppress(UserError):
            assert np.isfinite(estimate_cell_radius(one))


def test_an_image_without_cells():
    with pytest.raises(UserError, match="No cells were found"):
        estimate_cell_radius(np.full((100, 120, 3), 230, np.uint8))


def test_wrong_images():
    with pytest.raises(UserError, match=r"uint8 of shape \(M, N, 3\), got float64"):
        estimate_cell_radius(np.zeros((10, 10, 3)))
    with pytest.raises(UserError, match=r"shape \(10, 10\)"):
        estimate_cell_radius(np.zeros((10, 10), np.uint8))

import numpy as np
import pytest

from bloodcells.counting.find import METHODS, count_objects, find_cells
from bloodcells.counting.settings import SETTINGS
from bloodcells.errors import UserError
from bloodcells.synthetic import draw_smear


@pytest.fixture(scope="module")
def smear():
    rng = np.random.default_rng(3)
    return draw_smear((300, 400), rng=rng, n_rbc=24, n_wbc=0, n_platelets=0, overlap=0, rbc_radius=18)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_separate_drawn_cells(smear, method):
    mask, edge = smear.masks["rbc"].astype(np.float32), smear.edges.astype(np.float32)
    cells = find_cells(method, mask, edge, cell_radius=18, **SETTINGS["rbc"][method])
    assert count_objects(cells) == 24


@pytest.mark.parametrize("method", METHODS)
def test_size_is_the_unit_of_all_settings(smear, method):
    # Cells of radius 18 beside red cells of radius 12: one and a half times as large.
    mask = smear.masks["rbc"].astype(np.float32)
    by_size = find_cells(method, mask, cell_radius=12, size=1.5)
    np.testing.assert_array_equal(by_size, find_cells(method, mask, cell_radius=18))


def test_settings_name_every_cell_and_method():
    assert set(SETTINGS) == {"rbc", "wbc", "plt"}
    for settings in SETTINGS.values():
        assert set(settings) == set(METHODS)


def test_count_of_labels_and_circles():
    assert count_objects(np.array([[0, 7, 7], [2, 0, 0]], np.int32)) == 2
    assert count_objects(np.zeros((0, 3))) == 0
    assert count_objects(np.ones((5, 3))) == 5


def test_unknown_method():
    with pytest.raises(UserError, match="one of cht, ccl, edt, tree; got 'watershed'"):
        find_cells("watershed", np.zeros((4, 4)), cell_radius=3)

"""Counting a whole smear, with networks that find drawn cells by their colour."""

import subprocess
import sys

import numpy as np
import pytest

from bloodcells.counting.find import METHODS
from bloodcells.errors import UserError
from bloodcells.smear import count_image, label_cells

# Whole and apart: eight red cells of radius 30, two white cells and three platelets. One red cell is cut in
# two by the border, and so is a platelet.
DISCS = [
    *(("rbc", 60 + 100 * i, 60 + 110 * j, 30) for i in range(2) for j in range(4)),
    *(("wbc", 290, 80 + 150 * j, 50) for j in range(2)),
    *(("plt", 300, 350 + 40 * j, 9) for j in range(3)),
    ("rbc", 359, 440, 30),
    ("plt", 5, 500, 9),
]
SHAPE = (360, 520)
COUNTS = {"rbc": 9, "wbc": 2, "plt": 4}


@pytest.fixture
def image(draw_discs):
    return draw_discs(SHAPE, DISCS)


def test_counts_and_measures(image, stand_in_networks):
    result = count_image(image, networks=stand_in_networks, cell_radius=30)
    assert result.counts == COUNTS
    assert (result.shape, result.cell_radius, result.pixel_size_um) == (SHAPE, 30, None)
    found = result.cells["rbc"]
    assert found.method == "ccl"
    assert found.scale == (0.6, 0.6)
    np.testing.assert_array_equal(np.unique(found.labels), np.arange(10))
    true = np.array([(row, column) for cell, row, column, _ in DISCS if cell == "rbc"][:8])
    objects = {name: values[~found.objects["touches_border"]] for name, values in found.objects.items()}
    order = np.lexsort([objects["centroid_column"].round(-1), objects["centroid_row"].round(-1)])
    np.testing.assert_allclose(objects["centroid_row"][order], true[:, 0], atol=0.5)
    np.testing.assert_allclose(objects["centroid_column"][order], true[:, 1], atol=0.5)
    np.testing.assert_allclose(objects["area"], np.pi * 30**2, rtol=0.05)
    np.testing.assert_allclose(objects["equivalent_diameter"], 60, rtol=0.025)
    assert (objects["eccentricity"] < 0.2).all()
    assert (objects["score"] > 0.9).all()
    # An id is the label of its object.
    for index, label in enumerate(found.objects["id"]):
        place = [int(found.objects[name][index] * 0.6) for name in ("centroid_row", "centroid_column")]
        assert found.labels[tuple(place)] == label


def test_cells_at_the_border_are_counted_and_marked(image, stand_in_networks):
    result = count_image(image, networks=stand_in_networks, cell_radius=30)
    marked = {cell: int(found.objects["touches_border"].sum()) for cell, found in result.cells.items()}
    assert marked == {"rbc": 1, "wbc": 0, "plt": 1}
    without = count_image(image, networks=stand_in_networks, cell_radius=30, exclude_border=True)
    assert without.counts == {"rbc": 8, "wbc": 2, "plt": 3}
    for found in without.cells.values():
        assert not found.objects["touches_border"].any()
        np.testing.assert_array_equal(np.unique(found.labels), np.arange(found.n + 1))


@pytest.mark.parametrize("method", ["cht", "ccl", "edt"])
def test_every_method(image, stand_in_networks, method):
    # White cells and platelets are of other sizes than circles are looked for with these settings.
    result = count_image(image, networks=stand_in_networks, cell_radius=30, cells=["rbc"], method=method)
    assert result.cells["rbc"].method == method
    assert 8 <= result.counts["rbc"] <= 9  # circles may miss the half cell


def test_touching_cells_are_told_apart_by_distance(draw_discs, stand_in_networks):
    image = draw_discs((200, 260), [("rbc", 100, 80, 40), ("rbc", 100, 156, 40)])
    settings = {"networks": stand_in_networks, "cells": ["rbc"], "cell_radius": 40}
    assert count_image(image, method="edt", **settings).counts == {"rbc": 2}
    assert count_image(image, method="ccl", **settings).counts == {"rbc": 1}


def test_an_edge_tells_cells_apart():
    mask = np.zeros((60, 90), np.float32)
    mask[20:50, 10:80] = 1
    edge = np.zeros_like(mask)
    edge[:, 44:46] = 1
    settings = {"method": "ccl", "cell_radius": 15, "parameters": {}}
    assert label_cells(mask, None, **settings).max() == 1
    assert label_cells(mask, edge, **settings).max() == 2


@pytest.mark.parametrize("zoom", [0.5, 2])
def test_magnification_does_not_matter(draw_discs, stand_in_networks, zoom):
    discs = [(cell, row * zoom, column * zoom, radius * zoom) for cell, row, column, radius in DISCS]
    image = draw_discs([int(length * zoom) for length in SHAPE], discs)
    result = count_image(image, networks=stand_in_networks, cell_radius=30 * zoom)
    assert result.counts == COUNTS
    assert np.median(result.cells["rbc"].objects["area"]) == pytest.approx(np.pi * (30 * zoom) ** 2, rel=0.05)


def test_cell_size_is_estimated_or_taken_from_the_pixel_size(image, stand_in_networks):
    estimated = count_image(image, networks=stand_in_networks, cells=["rbc"])
    assert estimated.cell_radius == pytest.approx(30, rel=0.15)
    assert estimated.counts == {"rbc": 9}
    given = count_image(image, networks=stand_in_networks, cells=["rbc"], pixel_size_um=0.12)
    assert given.cell_radius == pytest.approx(3.6 / 0.12)
    assert given.pixel_size_um == 0.12
    both = count_image(image, networks=stand_in_networks, cells=["rbc"], pixel_size_um=0.5, cell_radius=31)
    assert (both.cell_radius, both.pixel_size_um) == (31, 0.5)


@pytest.mark.parametrize("cell_radius", [30, 10])
def test_blocks_do_not_show(draw_discs, stand_in_networks, cell_radius):
    # With a radius of 10 the image is enlarged 1.8 times and scaled block by block.
    discs = [
        ("rbc", row, column, cell_radius)
        for row in range(0, 400, 3 * cell_radius)
        for column in range(5, 420, 3 * cell_radius)
    ]
    image = draw_discs((400, 420), discs)
    settings = {"networks": stand_in_networks, "cells": ["rbc"], "cell_radius": cell_radius}
    whole = count_image(image, **settings).cells["rbc"]
    in_blocks = count_image(image, block_size=97, **settings).cells["rbc"]
    assert whole.n == len(discs)
    assert in_blocks.n == len(discs)
    order = [np.lexsort([found.objects["centroid_column"].round(-1), found.objects["centroid_row"].round(-1)])
             for found in (whole, in_blocks)]  # fmt: skip
    for name in ("centroid_row", "centroid_column", "area", "touches_border"):
        np.testing.assert_allclose(
            whole.objects[name][order[0]].astype(float),
            in_blocks.objects[name][order[1]].astype(float),
            rtol=0.02,
            atol=0.2,
        )
    # Labels have no more pixels than the image, and are in place.
    assert in_blocks.labels.size <= 400 * 420
    rows, columns = (
        ((in_blocks.objects[name] + 0.5) * scale).astype(int).clip(0)
        for name, scale in zip(("centroid_row", "centroid_column"), in_blocks.scale, strict=True)
    )
    np.testing.assert_array_equal(in_blocks.labels[rows, columns], in_blocks.objects["id"])


def test_an_empty_field_counts_nothing(stand_in_networks):
    image = np.full((120, 150, 3), 240, np.uint8)
    result = count_image(image, networks=stand_in_networks, cell_radius=30)
    assert result.counts == {"rbc": 0, "wbc": 0, "plt": 0}
    assert result.cells["rbc"].objects["area"].shape == (0,)
    assert not result.cells["rbc"].labels.any()


def test_a_field_of_one_pixel(stand_in_networks):
    image = np.full((1, 9, 3), 240, np.uint8)
    assert count_image(image, networks=stand_in_networks, cell_radius=5).counts["rbc"] == 0


def test_progress_rises_to_1(image, stand_in_networks):
    shares = []
    count_image(image, networks=stand_in_networks, cell_radius=30, block_size=100, progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert len(shares) > 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cells": "rbc"}, "`cells` must be different ones of rbc, wbc, plt, got 'rbc'"),
        ({"cells": []}, "`cells` must be"),
        ({"cells": ["rbc", "rbc"]}, "`cells` must be"),
        ({"method": "count"}, f"auto, {', '.join(METHODS)}, got 'count'"),
        ({"cell_radius": 0}, "`cell_radius` must be above 0, got 0"),
        ({"pixel_size_um": float("nan")}, "`pixel_size_um` must be above 0, got nan"),
        ({"cell_radius": 2}, "between 3 pixels and the length of the image, got 2 pixels"),
        ({"pixel_size_um": 1e-4}, r"got 3.6e\+04 pixels \(that is given\)"),
        ({"networks": {}, "cell_radius": 30}, "`networks` has none for 'rbc'; it has nothing"),
        ({"block_size": 0}, "`block_size` must be at least 1"),
    ],
)
def test_mistakes(image, stand_in_networks, options, message):
    with pytest.raises(UserError, match=message):
        count_image(image, **{"networks": stand_in_networks} | options)


@pytest.mark.parametrize(
    "bad", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3)), np.zeros((0, 9, 3), np.uint8)]
)
def test_no_image(stand_in_networks, bad):
    with pytest.raises(UserError, match="`image` must be uint8 of shape"):
        count_image(bad, networks=stand_in_networks, cell_radius=5)


def test_counting_needs_neither_keras_nor_tensorflow():
    code = (
        "import sys\nimport bloodcells.count_command, bloodcells.smear\n"
        "print([name for name in ('keras', 'tensorflow', 'torch', 'jax', 'pandas') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"

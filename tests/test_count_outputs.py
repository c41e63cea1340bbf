"""What is written of a count, read back with other readers where there are any."""

import csv
import io
import json

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from bloodcells.count_outputs import (
    OBJECT_COLUMNS,
    check_outputs,
    name_folders,
    objects_to_csv,
    replaced_folder,
    write_counts,
    write_results,
)
from bloodcells.errors import UserError
from bloodcells.label_tiff import write_label_tiff
from bloodcells.overlay import choose_bar_length, draw_overlay
from bloodcells.smear import count_image

DISCS = [
    ("rbc", 50, 60, 30),
    ("rbc", 100, 0, 30),
    ("rbc", 60, 190, 30),
    ("wbc", 150, 120, 45),
    ("plt", 200, 30, 8),
]


@pytest.fixture
def image(draw_discs):
    return draw_discs((220, 240), DISCS)


@pytest.fixture
def result(image, stand_in_networks):
    return count_image(image, networks=stand_in_networks, cell_radius=30, pixel_size_um=0.12)


@pytest.fixture
def folder(tmp_path, image, result):
    write_results(tmp_path, image, result)
    return tmp_path


class TestFolder:
    def test_files(self, folder):
        assert {path.name for path in folder.iterdir()} == {
            *("objects.csv", "cells.geojson", "overlay.png"),
            *("labels-rbc.tif", "labels-wbc.tif", "labels-plt.tif"),
        }

    def test_objects(self, folder):
        rows = list(csv.DictReader(io.StringIO((folder / "objects.csv").read_text())))
        assert tuple(rows[0]) == (*OBJECT_COLUMNS, "area_um2", "equivalent_diameter_um")
        assert [(row["cell"], row["id"]) for row in rows] == [
            *(("rbc", "1"), ("rbc", "2"), ("rbc", "3"), ("wbc", "1"), ("plt", "1"))
        ]
        white = rows[3]
        assert float(white["centroid_row"]) == pytest.approx(150, abs=1)
        assert float(white["centroid_column"]) == pytest.approx(120, abs=1)
        assert float(white["equivalent_diameter"]) == pytest.approx(90, abs=3)
        assert float(white["equivalent_diameter_um"]) == pytest.approx(90 * 0.12, abs=0.4)
        assert float(white["area_um2"]) == pytest.approx(float(white["area"]) * 0.12**2, abs=0.01)
        assert [row["touches_border"] for row in rows] == ["false", "false", "true", "false", "false"]
        assert all(0 <= float(row[name]) <= 1 for row in rows for name in ("eccentricity", "score"))

    def test_without_a_pixel_size_all_is_in_pixels(self, image, stand_in_networks):
        result = count_image(image, networks=stand_in_networks, cell_radius=30)
        assert objects_to_csv(result).splitlines()[0] == ",".join(OBJECT_COLUMNS)

    @pytest.mark.parametrize("cell", ["rbc", "wbc", "plt"])
    def test_labels_lie_on_the_image(self, folder, image, result, cell):
        readers = {
            "tifffile": lambda path: tifffile.imread(path),
            "Pillow": lambda path: np.asarray(Image.open(path)),
            "OpenCV": lambda path: cv2.imread(str(path), cv2.IMREAD_UNCHANGED),
        }
        rows, columns = np.ogrid[:220, :240]
        true = np.zeros((220, 240), bool)
        for kind, row, column, radius in DISCS:
            true[np.hypot(rows - row, columns - column) <= radius] = kind == cell
        for name, read in readers.items():
            labels = read(folder / f"labels-{cell}.tif")
            assert (labels.shape, labels.dtype) == ((220, 240), np.uint16), name
            assert set(np.unique(labels)) == set(range(result.counts[cell] + 1)), name
            # Up to the coarser pixels of the labels along the outline.
            assert (labels.astype(bool) & true).sum() / (labels.astype(bool) | true).sum() > 0.85, name

    def test_geojson(self, folder, result):
        content = json.loads((folder / "cells.geojson").read_text())
        assert content["type"] == "FeatureCollection"
        features = content["features"]
        assert [feature["properties"]["classification"]["name"] for feature in features] == [
            *(["Red cell"] * 3),
            *("White cell", "Platelet"),
        ]
        for feature in features:
            assert feature["type"] == "Feature"
            assert feature["properties"]["objectType"] == "detection"
            assert feature["geometry"]["type"] == "Polygon"
            (ring,) = feature["geometry"]["coordinates"]
            assert ring[0] == ring[-1]
            assert len(ring) >= 4
            x, y = np.array(ring[:-1]).T
            assert 0 <= x.min() < x.max() <= 240
            assert 0 <= y.min() < y.max() <= 220
            # Its area is that in the table; corners cut pixels off.
            area = abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2
            assert area == pytest.approx(feature["properties"]["measurements"]["Area px^2"], rel=0.15)
        # The white cell's centre, from the corner of the first pixel: column, then row.
        x, y = np.array(features[3]["geometry"]["coordinates"][0]).T
        assert (x.min() + x.max()) / 2 == pytest.approx(120.5, abs=1.5)
        assert (y.min() + y.max()) / 2 == pytest.approx(150.5, abs=1.5)
        measured = features[3]["properties"]["measurements"]
        assert measured["Equivalent diameter um"] == pytest.approx(90 * 0.12, abs=0.4)
        assert all(isinstance(value, int | float) for value in measured.values())

    def test_overlay(self, folder, image):
        picture = np.asarray(Image.open(folder / "overlay.png"))
        assert picture.shape[1:] == (240, 3)
        assert picture.shape[0] > 220
        changed = (picture[:220] != image).any(axis=2)
        rows, columns = np.ogrid[:220, :240]
        # All along the outline of the white cell, not in its middle.
        distance = np.hypot(rows - 150, columns - 120)
        sector = (np.arctan2(rows - 150, columns - 120) / np.pi * 20).astype(int)
        near = np.abs(distance - 45) < 3
        assert set(sector[near & changed]) == set(sector[near])
        assert not changed[distance < 35].any()

    def test_nothing_found(self, tmp_path, stand_in_networks):
        image = np.full((50, 60, 3), 240, np.uint8)
        write_results(tmp_path, image, count_image(image, networks=stand_in_networks, cell_radius=20))
        assert (tmp_path / "objects.csv").read_text() == ",".join(OBJECT_COLUMNS) + "\n"
        assert json.loads((tmp_path / "cells.geojson").read_text())["features"] == []
        assert not tifffile.imread(tmp_path / "labels-wbc.tif").any()


class TestOverlay:
    def test_a_large_image_is_drawn_smaller(self, image, result):
        outlines = {"rbc": [np.array([[20.0, 30], [20, 90], [80, 90], [80, 30], [20, 30]])]}
        picture = draw_overlay(image, result, outlines, long_side=120)
        assert picture.shape[1] == 120
        # The square's right side, half as far from the corner: (50, 90) becomes (25, 45).
        assert (picture[25, 45] != picture[25, 41]).any()

    def test_scale_bar(self, image, result, stand_in_networks):
        without = draw_overlay(image, count_image(image, networks=stand_in_networks, cell_radius=30), {})
        picture = draw_overlay(image, result, {})
        # 240 px of 0.12 um are 28.8 um, so the bar stands for 5 um: 41.7 px, black, in the caption.
        longest = {
            name: max(_longest_run(row) for row in (caption[220:] == 0).all(axis=2))
            for name, caption in {"with": picture, "without": without}.items()
        }
        assert longest["with"] in (41, 42, 43)
        assert longest["without"] < 20

    @pytest.mark.parametrize(
        ("width_um", "length"), [(5, 1), (9.9, 1), (10, 2), (24, 2), (25, 5), (0.7, 0.1)]
    )
    def test_bar_length(self, width_um, length):
        assert choose_bar_length(width_um) == pytest.approx(length)

    def test_counts_are_told_apart_without_colour_vision(self):
        from bloodcells.cell_outlines import COLOURS, hex_to_rgb

        # Brightness alone parts them: weights of ITU-R BT.601.
        brightness = sorted(np.dot(hex_to_rgb(colour), (0.299, 0.587, 0.114)) for colour in COLOURS.values())
        assert (np.diff(brightness) > 20).all()


def _longest_run(values):
    return max((len(run) for run in "".join("x" if value else " " for value in values).split()), default=0)


class TestLabelTiff:
    def test_nearest_pixels(self, tmp_path):
        write_label_tiff(tmp_path / "a.tif", np.array([[1, 2], [0, 3]], np.int32), (4, 6))
        expected = [[1, 1, 1, 2, 2, 2]] * 2 + [[0, 0, 0, 3, 3, 3]] * 2
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), expected)

    def test_many_labels_take_32_bits(self, tmp_path):
        labels = np.arange(300 * 300, dtype=np.int32).reshape(300, 300)
        write_label_tiff(tmp_path / "a.tif", labels, labels.shape)
        found = tifffile.imread(tmp_path / "a.tif")
        assert found.dtype == np.uint32
        np.testing.assert_array_equal(found, labels)

    def test_pixel_size_is_noted(self, tmp_path):
        write_label_tiff(tmp_path / "a.tif", np.zeros((5, 5), np.int32), (5, 5), pixel_size_um=0.25)
        with tifffile.TiffFile(tmp_path / "a.tif") as file:
            tags = file.pages[0].tags
            assert tags["ResolutionUnit"].value == 3  # centimetres
            top, bottom = tags["XResolution"].value
            assert top / bottom == pytest.approx(1e4 / 0.25)


class TestNames:
    def test_equal_stems_get_distinct_folders(self):
        paths = ["a/x.png", "b/x.tif", "x-2.jpg", "X.bmp", "counts.csv.png", "y"]
        names = name_folders(paths)
        assert names == ["x", "x-2", "x-2-2", "X-3", "counts.csv-2", "y"]
        assert name_folders(paths) == names


class TestExistingOutput:
    @pytest.mark.parametrize("name", ["counts.csv", "smear"])
    def test_is_not_overwritten(self, tmp_path, name):
        (tmp_path / name).touch() if name == "counts.csv" else (tmp_path / name).mkdir()
        check_outputs(tmp_path, ["other"] if name == "smear" else [], overwrite=True)
        with pytest.raises(UserError, match=rf"{name} exists; give another --out, --overwrite to"):
            check_outputs(tmp_path, ["smear"])
        check_outputs(tmp_path, ["smear"], overwrite=True)

    def test_only_outputs_are_replaced(self, tmp_path):
        (tmp_path / "smear").mkdir()
        (tmp_path / "smear" / "overlay.png").touch()
        check_outputs(tmp_path, ["smear"], overwrite=True)
        (tmp_path / "smear" / "thesis.docx").touch()
        with pytest.raises(UserError, match=r"thesis\.docx was not written by an earlier count"):
            check_outputs(tmp_path, ["smear"], overwrite=True)

    def test_a_file_is_no_folder(self, tmp_path):
        (tmp_path / "out").touch()
        with pytest.raises(UserError, match="Expected an output folder, got the file"):
            check_outputs(tmp_path / "out", ["smear"])
        with pytest.raises(UserError, match="was not written by an earlier count"):
            check_outputs(tmp_path, ["out"], overwrite=True)

    def test_replaced_whole(self, tmp_path):
        for text in ("first", "second"):
            with replaced_folder(tmp_path / "out" / "smear") as folder:
                (folder / text).write_text(text)
        assert [path.name for path in tmp_path.rglob("*")] == ["out", "smear", "second"]

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
    def test_half_a_folder_is_never_left(self, tmp_path, error):
        with replaced_folder(tmp_path / "smear") as folder:
            (folder / "first").touch()

        def write_half():
            with replaced_folder(tmp_path / "smear") as folder:
                (folder / "second").touch()
                raise error

        with pytest.raises(error):
            write_half()
        assert sorted(path.name for path in tmp_path.rglob("*")) == ["first", "smear"]


def test_counts(tmp_path):
    write_counts(
        tmp_path / "counts.csv",
        [
            ("a, b.png", {"rbc": 3, "wbc": 0, "plt": 12}, {}),
            ("c.png", {"wbc": 1}, {"noise": "", "cells_a": ""}),
        ],
    )
    assert (tmp_path / "counts.csv").read_bytes() == (
        b'image,rbc,wbc,plt,unusual\n"a, b.png",3,0,12,\nc.png,,1,,noise cells_a\n'
    )

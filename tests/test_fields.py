"""Whole fields with truth: which there are, and reading one from a mirror or as upstream has it."""

import csv
import hashlib
import io
import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from bloodcells import datasets, fields
from bloodcells.datasets import fetch, verify
from bloodcells.drawn_fields import PART_SIZES, draw_field
from bloodcells.errors import DataUnavailableError, UserError
from bloodcells.fields import CELLS, list_fields, load_field, read_counts, read_published_counts

# Taken before the fixture below hides them, for the tests on the real data.
REAL_CACHE, REAL_MIRROR = datasets.default_cache(), datasets.default_mirror()
MAIN, OTHER = "someone/fields", "someone/outlines"
SOURCES = {MAIN: "0123abcd", OTHER: "4567cdef"}
RED = np.zeros((6, 8), bool)
RED[1:4, 2:7] = True
WHITE = np.zeros((6, 8), bool)
WHITE[4:, :3] = True
# (column, row), as annotation programs have it.
RINGS = [[(2, 1), (6, 1), (6, 3), (2, 3)], [(0, 0), (0, 0), (8, 5)]]


@pytest.fixture(autouse=True)
def _hermetic(monkeypatch, tmp_path):
    monkeypatch.setenv("BLOODCELLS_CACHE", str(tmp_path / "default-cache"))
    monkeypatch.delenv("BLOODCELLS_MIRROR", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def encode(array, suffix, **options):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format={"jpg": "JPEG", "png": "PNG"}[suffix], **options)
    return buffer.getvalue()


def geojson(rings):
    """Return outlines as the mirror has them: closed rings."""
    features = [{"geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}} for ring in rings]
    return json.dumps({"type": "FeatureCollection", "features": features}).encode()


def markup(rings):
    """Return outlines in the layout of the annotation files upstream."""
    cells = [
        {"shape": 5, "vertices": [{"x": x, "y": y} for x, y in ring], "object_label": "Truck"}
        for ring in rings
    ]
    return json.dumps({"version": "v0.0.1", "markup": cells, "completed_chips": "[]"}).encode()


def jpeg_mask(mask):
    """Return a mask as a JPEG whose grey levels stray by some from black and white, as upstream's do."""
    return encode(np.where(mask, 243, 9).astype(np.uint8), "jpg", quality=95)


class Small:
    """A registry of two small fields under `root`, with all files as mirror and upstream have them.

    Field a has red cell and white cell masks and outlines, field b the image only.
    """

    def __init__(self, root):
        self.registry, self.mirrored, self.upstream, rows = root / "registry", {}, {}, []
        image = np.full((6, 8, 3), (200, 90, 40), np.uint8)
        png = {"rbc": encode(RED, "png"), "wbc": encode(WHITE, "png")}
        for path, role, here, original, repo in (
            ("images/a.jpg", "image", encode(image, "jpg", quality=95), None, MAIN),
            ("images/b.jpg", "image", encode(image[:3], "jpg", quality=95), None, MAIN),
            ("masks-rbc/a.png", "mask-rbc", png["rbc"], jpeg_mask(RED), OTHER),
            ("masks-wbc/a.png", "mask-wbc", png["wbc"], jpeg_mask(WHITE), MAIN),
            ("edges-rbc/a.png", "edge-rbc", png["wbc"], jpeg_mask(WHITE), MAIN),
            ("polygons-rbc/a.geojson", "polygons-rbc", geojson(RINGS), markup(RINGS), OTHER),
        ):
            suffix = {"polygons-rbc": "json"}.get(role, "jpg")
            upstream_path = f"Data {role}/{Path(path).stem}.{suffix}"  # a blank, to be quoted
            self.mirrored[f"all-idb1/{path}"] = here
            self.upstream[f"/{repo}/{SOURCES[repo]}/{upstream_path}"] = original or here
            digests = [hashlib.sha256(content).hexdigest() for content in (here, original or here)]
            image_id = Path(path).stem
            rows.append((path, role, image_id, "", digests[0], len(here), upstream_path, repo, digests[1]))
        header = "path,role,image_id,class_label,sha256,bytes,upstream_path,upstream_repo,upstream_sha256"
        self.write_csv("registry", header, rows)
        self.write_csv("splits", "image_id,rbc,wbc,plt,group", [("a", "train", "", "", "a"), ("b", *"   b")])
        self.write_csv("counts", "image_id,rbc,wbc,plt", [("a", 2, 1, 0), ("b", "", 4, "")])
        facts = {"title": "Fields", "repo": MAIN, "commit": SOURCES[MAIN], "sources": SOURCES}
        (self.registry / "registry.yml").write_text(yaml.safe_dump({"all-idb1": facts}), encoding="utf-8")

    def write_csv(self, folder, header, rows):
        (self.registry / folder).mkdir(parents=True)
        with (self.registry / folder / "all-idb1.csv").open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([header.split(","), *rows])

    def write(self, root):
        for path, content in self.mirrored.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)
        return root


@pytest.fixture
def small(tmp_path):
    return Small(tmp_path)


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def check_field_a(field):
    assert (field.dataset, field.image_id, field.image.shape) == ("all-idb1", "a", (6, 8, 3))
    assert np.abs(field.image.astype(int) - (200, 90, 40)).max() < 5  # red first
    assert list(field.masks) == ["rbc", "wbc"]
    assert field.masks["rbc"].dtype == bool
    np.testing.assert_array_equal(field.masks["rbc"], RED)
    np.testing.assert_array_equal(field.masks["wbc"], WHITE)
    assert field.counts == {"rbc": 2, "wbc": 1, "plt": 0}
    # Row before column; the vertex that closes a ring is left out, others that repeat are not.
    np.testing.assert_array_equal(field.outlines[0], [[1, 2], [1, 6], [3, 6], [3, 2]])
    np.testing.assert_array_equal(field.outlines[1], [[0, 0], [0, 0], [5, 8]])
    assert [outline.dtype for outline in field.outlines] == [np.float64] * 2


# --- reading ---------------------------------------------------------------------------------------------


def test_a_field_is_read_in_place_from_a_mirror_folder(small, cache, tmp_path, file_server):
    where = {"mirror": small.write(tmp_path / "mirror"), "upstream": file_server.url}
    check_field_a(load_field("all-idb1", "a", cache=cache, registry=small.registry, **where))
    assert not cache.exists()
    assert file_server.gets == []


def test_a_field_is_read_as_upstream_has_it(small, cache, file_server):
    file_server.files |= small.upstream
    where = {"cache": cache, "upstream": file_server.url, "registry": small.registry}
    check_field_a(load_field("all-idb1", "a", **where))
    # The files of this field alone, of two repositories, and no edges.
    assert sorted(file_server.gets) == sorted(
        path for path in small.upstream if "/a." in path and "edge" not in path
    )
    check_field_a(load_field("all-idb1", "a", **where))
    assert len(file_server.gets) == 4


def test_upstream_originals_satisfy_fetch_and_verify(small, cache, file_server):
    file_server.files |= small.upstream
    where = {"cache": cache, "upstream": file_server.url, "registry": small.registry}
    fetch("all-idb1", **where)
    stored = {path.name: path for path in (cache / "all-idb1").rglob("*") if path.is_file()}
    assert sorted(path.parent.name + "/" + name for name, path in stored.items() if name == "a.json") == [
        "polygons-rbc/a.json"
    ]
    assert verify("all-idb1", cache=cache, registry=small.registry) == []
    file_server.gets.clear()
    fetch("all-idb1", **where)
    assert file_server.gets == []


def test_resolve_takes_fields_in_either_form(small, cache, tmp_path, file_server):
    where = {"cache": cache, "upstream": file_server.url, "registry": small.registry}
    names = ("all-idb1",)
    assert datasets.resolve("auto", names, **where) == ("synthetic",)
    mirror = small.write(tmp_path / "mirror")
    assert datasets.resolve("auto", names, mirror=mirror, **where) == names
    assert not cache.exists()
    file_server.files |= small.upstream
    assert datasets.resolve("real", names, **where) == names
    file_server.files.clear()
    assert datasets.resolve("real", names, **where) == names


def test_what_neither_mirror_nor_upstream_has_is_unavailable(small, cache, file_server):
    file_server.files |= {path: file for path, file in small.upstream.items() if "polygons" not in path}
    where = {"cache": cache, "upstream": file_server.url, "registry": small.registry}
    with pytest.raises(DataUnavailableError, match=r"1 files of all-idb1 .*/4567cdef/.*a\.json is not there"):
        fetch("all-idb1", **where)
    assert verify("all-idb1", cache=cache, registry=small.registry) == [
        "all-idb1/polygons-rbc/a.geojson: missing"
    ]
    # A field without outlines can be read all the same.
    assert load_field("all-idb1", "b", **where).counts == {"wbc": 4}


def test_a_damaged_original_is_told_and_mended(small, cache, file_server, caplog):
    file_server.files |= small.upstream
    where = {"cache": cache, "upstream": file_server.url, "registry": small.registry}
    fetch("all-idb1", **where)
    damaged = cache / "all-idb1/masks-rbc/a.jpg"
    damaged.write_bytes(damaged.read_bytes() + b"!")
    (problem,) = verify("all-idb1", cache=cache, registry=small.registry)
    assert problem.startswith("all-idb1/masks-rbc/a.jpg: expected sha256")
    with pytest.raises(UserError, match=r"a\.jpg is damaged .*run `bloodcells data fetch all-idb1`"):
        load_field("all-idb1", "a", **where)
    with caplog.at_level(logging.WARNING):
        fetch("all-idb1", **where)
    assert "masks-rbc/a.jpg is damaged" in caplog.text
    check_field_a(load_field("all-idb1", "a", **where))


def test_a_sound_original_serves_beside_a_damaged_copy(small, cache, file_server):
    small.write(cache)
    damaged = cache / "all-idb1/masks-rbc/a.png"
    damaged.write_bytes(b"not it")
    file_server.files |= small.upstream
    where = {"cache": cache, "upstream": file_server.url, "registry": small.registry}
    with pytest.raises(UserError, match=r"a\.png is damaged"):
        load_field("all-idb1", "a", **where)
    fetch("all-idb1", **where)  # from upstream, which has the original only
    assert verify("all-idb1", cache=cache, registry=small.registry) == []
    check_field_a(load_field("all-idb1", "a", **where))


def test_damaged_upstream_original_is_an_error(small, cache, file_server):
    file_server.files |= small.upstream
    file_server.faults[next(path for path in small.upstream if "mask-wbc" in path)] = b"not it"
    with pytest.raises(UserError, match=r"a\.jpg gave a damaged file \(expected sha256") as caught:
        load_field("all-idb1", "a", cache=cache, upstream=file_server.url, registry=small.registry)
    assert type(caught.value) is UserError


def test_truth_that_is_not_there_has_no_key(small, cache, tmp_path):
    mirror = small.write(tmp_path / "mirror")
    field = load_field("all-idb1", "b", cache=cache, mirror=mirror, registry=small.registry)
    assert (field.masks, field.outlines, field.counts) == ({}, None, {"wbc": 4})


@pytest.mark.parametrize("content", [b"not json", b"[]", b"{}", b'{"features": [{}]}', b'{"markup": [1]}'])
def test_outlines_of_another_form_are_an_error(content):
    file = datasets.read_files("all-idb1")[0]
    with pytest.raises(UserError, match=r"all-idb1/.* can't be read as outlines"):
        fields._parse_outlines("all-idb1", file, content)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: load_field("jiangxi", "001"), "of fields, one of all-idb1, synthetic; got 'jiangxi'"),
        (lambda: load_field("all-idb1", "Im999_0"), "Expected a field of all-idb1, .*; got 'Im999_0'"),
        (lambda: load_field("synthetic", "Im001_1"), "a drawn field, one of synthetic-field-train-0, "),
        (lambda: list_fields("all-idb1", "platelet", "test"), "one of rbc, wbc, plt; got 'platelet'"),
        (lambda: list_fields("all-idb1", "rbc", "val"), "one of train, test, paper, .*; got 'val'"),
        (lambda: list_fields("all-idb1", "rbc", "test", limit=0), "limit of 1 or more fields, .*; got 0"),
        (lambda: read_counts("bcisc"), "one of all-idb1, synthetic; got 'bcisc'"),
        (lambda: read_published_counts("synthetic"), "one of all-idb1; got 'synthetic'"),
        (lambda: draw_field("test", 3), "train 0 to 7, test 0 to 2; got test 3"),
        (lambda: draw_field("val", 0), "got val 0"),
        (lambda: datasets.load_split("all-idb1", "train"), "use `bloodcells.fields.list_fields`"),
    ],
)
def test_wrong_arguments_are_told(call, message):
    with pytest.raises(UserError, match=message):
        call()


# --- which fields there are ------------------------------------------------------------------------------


# Images in the published training and test parts, from the description of the dataset.
SIZES = {"rbc": (10, 3), "wbc": (73, 33), "plt": (71, 30)}
WITHOUT_MASK = {"rbc": 1, "wbc": 2, "plt": 7}
PAPER = "001_1 004_1 015_1 022_1 037_0 045_0 050_1 053_1 069_0 079_0 095_0 099_0 108_0"


@pytest.mark.parametrize("cell", CELLS)
def test_parts_have_the_published_sizes(cell):
    assert tuple(len(list_fields("all-idb1", cell, part)) for part in ("train", "test")) == SIZES[cell]
    assert len(list_fields("all-idb1", cell, "masked")) == 108 - WITHOUT_MASK[cell]
    assert len(list_fields("all-idb1", cell, "counted")) == (108 if cell == "wbc" else 13)
    assert list_fields("all-idb1", cell, "paper") == [f"Im{number}" for number in PAPER.split()]


@pytest.mark.parametrize("cell", CELLS)
def test_no_picture_of_a_test_field_is_in_phase_one(cell):
    split = datasets.read_split("all-idb1").set_index("image_id")["group"]
    train, test = (split[list_fields("all-idb1", cell, part)] for part in ("phase1", "test"))
    assert not set(train) & set(test)
    masked = set(list_fields("all-idb1", cell, "masked"))
    assert set(train.index) == {i for i in masked if split[i] not in set(test)}
    # Of the published training fields two overlap with a test field.
    lost = set(list_fields("all-idb1", cell, "train")) - set(train.index)
    assert lost == (set() if cell == "rbc" else {"Im036_0", "Im078_0"})


def test_limit_keeps_the_first_fields():
    assert list_fields("all-idb1", "wbc", "test", limit=3) == list_fields("all-idb1", "wbc", "test")[:3]
    assert len(list_fields("all-idb1", "rbc", "test", limit=99)) == 3


def test_counts_are_those_of_the_sources():
    counts = read_counts("all-idb1").set_index("image_id")
    assert [str(counts[cell].dtype) for cell in CELLS] == ["Int64"] * 3
    assert counts.notna().sum().to_dict() == {"rbc": 13, "wbc": 108, "plt": 13}
    assert counts["rbc"].sum() == 5341  # outlines in all
    assert counts.loc["Im053_1"].to_dict() == {"rbc": 802, "wbc": 45, "plt": 12}
    assert counts.loc["Im001_1", "plt"] == 0
    assert pd.isna(counts.loc["Im002_1", "rbc"])


def test_published_counts_have_the_means_that_the_paper_prints():
    published = read_published_counts("all-idb1")
    means = published.groupby("cell")[["cht_accuracy", "ccl_accuracy", "edt_accuracy"]].mean()
    printed = {"rbc": (94.03, 76.49, 84.64), "wbc": (79.9, 82.89, 96.43), "plt": (65.65, 71.56, 65.65)}
    for cell, values in printed.items():
        assert tuple(means.loc[cell]) == pytest.approx(values, abs=0.006)
    true = read_counts("all-idb1").set_index("image_id")
    assert all(row.n_true == true.loc[row.image_id, row.cell] for row in published.itertuples())


# --- drawn fields ----------------------------------------------------------------------------------------


DRAWN = [(part, index) for part, n in PART_SIZES.items() for index in range(n)]


@pytest.fixture(scope="module")
def drawn():
    return [draw_field(part, index) for part, index in DRAWN]


def area(outline):
    """Return the area of an outline, by Gauss's formula."""
    rows, columns = outline.T
    return abs(rows @ np.roll(columns, 1) - columns @ np.roll(rows, 1)) / 2


def test_drawn_fields_have_what_is_promised(drawn):
    assert [field.image_id for field in drawn] == list_fields("synthetic", "rbc", "counted")
    for field in drawn:
        assert (field.image.shape, field.image.dtype) == ((512, 640, 3), np.uint8)
        assert {cell: (m.shape, m.dtype) for cell, m in field.masks.items()} == dict.fromkeys(
            CELLS, ((512, 640), np.dtype(bool))
        )
        assert 2 <= field.counts["wbc"] <= 5
        assert 3 <= field.counts["plt"] <= 10
        assert len(field.outlines) == field.counts["rbc"]
        assert all(outline.dtype == np.float64 and len(outline) >= 3 for outline in field.outlines)


def test_drawn_cells_differ_in_size_between_fields(drawn):
    def radius(field):
        return np.median([np.sqrt(area(outline) / np.pi) for outline in field.outlines])

    radii = [radius(field) for field in drawn]
    assert 18 < min(radii) < 22
    assert 31 < max(radii) < 37
    assert np.ptp(radii[:2]) > 5  # a run on two fields sees two sizes


def test_filled_outlines_are_the_mask(drawn):
    """A pixel is in the mask just when its centre is inside an outline, also where a white cell hides it."""
    from skimage.draw import polygon2mask

    for field in drawn[:3]:
        filled = np.any([polygon2mask((512, 640), outline) for outline in field.outlines], axis=0)
        # Pixel centres on an outline may go either way.
        assert (filled != field.masks["rbc"]).sum() <= 3


def test_drawn_red_cells_overlap_each_other_and_lie_below_white_cells(drawn):
    overlaps = [sum(map(area, field.outlines)) / field.masks["rbc"].sum() for field in drawn]
    assert all(1.01 < overlap < 1.2 for overlap in overlaps)
    assert any((field.masks["rbc"] & field.masks["wbc"]).any() for field in drawn)


def test_white_cells_and_platelets_are_separate_components(drawn):
    from scipy import ndimage as ndi

    for field in drawn:
        for cell in ("wbc", "plt"):
            assert ndi.label(field.masks[cell], np.ones((3, 3)))[1] == field.counts[cell]


def test_drawn_outlines_end_at_the_border(drawn):
    vertices = np.concatenate([outline for field in drawn for outline in field.outlines])
    assert (vertices > -1).all()
    assert (vertices < (512, 640)).all()
    assert (vertices < 0).any()  # some red cells are cut


def test_drawn_fields_come_by_the_same_door_and_again_the_same(drawn):
    assert list_fields("synthetic", "wbc", "test") == [f"synthetic-field-test-{i}" for i in range(3)]
    assert list_fields("synthetic", "plt", "phase1") == list_fields("synthetic", "plt", "train")
    assert list_fields("synthetic", "plt", "train", limit=2) == [f"synthetic-field-train-{i}" for i in (0, 1)]
    again = load_field("synthetic", "synthetic-field-train-1")
    np.testing.assert_array_equal(again.image, drawn[1].image)
    assert (again.image != drawn[2].image).any()
    counts = read_counts("synthetic").set_index("image_id")
    assert [str(counts[cell].dtype) for cell in CELLS] == ["Int64"] * 3
    assert counts.loc[again.image_id].to_dict() == again.counts


# --- the real data, where they are at hand ---------------------------------------------------------------


def real_fields(image_ids):
    roots = [REAL_CACHE] + ([Path(REAL_MIRROR)] if REAL_MIRROR and "://" not in REAL_MIRROR else [])
    if not any((root / "all-idb1" / "images" / "Im001_1.jpg").exists() for root in roots):
        pytest.skip(f"REAL DATA NOT CHECKED: all-idb1 is neither in {REAL_CACHE} nor in a mirror folder")
    where = {"cache": REAL_CACHE, "mirror": REAL_MIRROR, "upstream": "http://127.0.0.1:1"}
    return [load_field("all-idb1", image_id, **where) for image_id in image_ids]


def test_real_fields_are_sound():
    cropped, dense, plain = real_fields(["Im037_0", "Im004_1", "Im024_1"])
    assert [field.image.shape for field in (cropped, dense, plain)] == [
        (652, 1226, 3),
        (1368, 1712, 3),
        (1368, 1712, 3),
    ]
    assert list(cropped.masks) == list(dense.masks) == list(CELLS)
    assert plain.masks == {}
    assert plain.outlines is None
    assert list(plain.counts) == ["wbc"]
    # As upstream's annotation file of this field begins.
    np.testing.assert_array_equal(cropped.outlines[0][:3], [[101, 71], [110, 72], [120, 74]])
    for field in (cropped, dense):
        assert len(field.outlines) == field.counts["rbc"]
        # Red cells are where the outlines are: rows and columns are not swapped. They take most from blue.
        centres = np.array([outline.mean(axis=0) for outline in field.outlines]).round().astype(int)
        assert field.masks["rbc"][tuple(centres.T)].mean() > 0.9
        red, _, blue = field.image[field.masks["rbc"]].mean(axis=0)
        assert red > blue


def test_real_outlines_read_alike_from_both_forms():
    """The layout that upstream has gives the same vertices as the mirror's files."""
    (field,) = real_fields(["Im037_0"])
    rings = [[(column, row) for row, column in outline] for outline in field.outlines]
    file = next(f for f in datasets.read_files("all-idb1") if f.path == "polygons-rbc/Im037_0.geojson")
    again = fields._parse_outlines("all-idb1", file, markup(rings))
    assert all((one == other).all() for one, other in zip(again, field.outlines, strict=True))

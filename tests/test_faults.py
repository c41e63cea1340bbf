"""What goes wrong around a program: it is killed, the disk is full, another one works in the same place."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bloodcells.errors import UserError
from bloodcells.files import hold_folder, write_text

# Counts for real, with a network that takes its time, so that there are moments to be killed at.
COUNT = """
import signal, time
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from bloodcells import cli, count_command
from bloodcells.networks import Network

def predict(tiles):
    time.sleep(0.02)
    return (tiles[:, :, :, 1:2] < 200).astype("float32")

count_command.load_network = lambda cell, n_threads: Network(cell, predict, 18.0, 0, {"method": "ccl"}, {})
cli.main()
"""


@pytest.fixture
def smears(tmp_path, draw_discs):
    """Return a folder with six images of one to six red cells."""
    folder = tmp_path / "smears"
    folder.mkdir()
    for n in range(1, 7):
        discs = [("rbc", 30, 30 + 50 * i, 20) for i in range(n)]
        Image.fromarray(draw_discs((60, 330), discs)).save(folder / f"{n}.png")
    return folder


def count_command(smears, out, script=COUNT):
    command = [sys.executable, "-c", script, "count", smears, "--out", out, "--cells", "rbc"]
    return [*map(str, command), "--cell-radius", "20"]


def start_count(smears, out, *options, limit=None, script=COUNT):
    """Start `bloodcells count` in a process of its own, which can write no file above a limit of bytes."""

    def set_limit():
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.Popen(
        [*count_command(smears, out, script), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=set_limit,
    )


def read_all(folder):
    """Return the content of every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


TABLES = ["counts.csv", "counts.json"]


def check_kills(smears, out, n_kills):
    """Kill counts at random moments, go on, and compare with a count that nobody kills."""
    whole = out.with_name("whole")
    process = start_count(smears, whole)
    words = process.communicate(timeout=120)
    assert process.returncode == 0, words
    expected = read_all(whole)
    rng = np.random.default_rng(0)
    lines, n_kept, n_killed, number = [], 0, 0, 0
    while n_killed < n_kills:
        # Go on with half of them, begin the others anew.
        process = start_count(smears, out, "--resume" if number % 2 else "--overwrite")
        n_lines = int(rng.integers(0, 5))
        # A line comes after each image, and one tells how many there were before.
        while n_lines and process.stdout.readline():
            n_lines -= 1
        time.sleep(rng.uniform(0, 0.06))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        # Only one that goes on may have been quicker; then it was no kill, and another round follows.
        assert process.returncode == -signal.SIGKILL or (process.returncode == 0 and number % 2)
        n_killed += process.returncode == -signal.SIGKILL
        left = read_all(out) if out.exists() else {}
        # What has its final name is whole; counts.csv may still lack images.
        for name, content in left.items():
            if not name.startswith(".partial-") and name != "counts.csv":
                assert content == expected[name], name
        before, lines = lines, left.get("counts.csv", b"").splitlines()
        assert lines == expected["counts.csv"].splitlines()[: len(lines)]
        assert len(lines) >= len(before) or not number % 2, "what was counted is lost"
        n_kept += len(lines) > 1
        number += 1
    assert n_kept, "every kill came before the first result"
    process = start_count(smears, out, "--resume")
    words = process.communicate(timeout=120)
    assert process.returncode == 0, words
    assert (f"Counted before: {len(lines) - 1} of 6" in words[0]) == (len(lines) > 1)
    assert read_all(out) == expected


def test_a_clock_that_jumps_changes_nothing(smears, tmp_path):
    """Neither the time of day nor the dates of files count, backwards or forwards."""
    jumpy = COUNT.replace(
        "cli.main()",
        """
import tqdm.std

jumps, real = iter(range(10**6)), time.time
time.time = tqdm.std.time = lambda: real() + (-1) ** next(jumps) * 10**7
cli.main()
""",
    )
    whole, out = tmp_path / "whole", tmp_path / "out"
    process = start_count(smears, whole)
    words = process.communicate(timeout=120)
    assert process.returncode == 0, words
    process = start_count(smears, out, script=jumpy)
    for _ in range(3):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    for path in out.rglob("*"):
        os.utime(path, (0, 0))
    for path in smears.iterdir():
        os.utime(path, (2**32, 2**32))
    process = start_count(smears, out, "--resume", script=jumpy)
    words = process.communicate(timeout=120)
    assert process.returncode == 0, words
    assert words[0].startswith("Counted before: ")
    assert read_all(out) == read_all(whole)


def test_a_killed_count_leaves_nothing_half_written(smears, tmp_path):
    check_kills(smears, tmp_path / "out", n_kills=4)


@pytest.mark.long
def test_a_count_killed_25_times(smears, tmp_path):
    check_kills(smears, tmp_path / "out", n_kills=25)


def test_a_full_disk_is_said_and_keeps_what_was_counted(smears, tmp_path):
    """A limit of the size of files stands in for the disk: the picture of the largest image doesn't fit."""
    noisy = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    Image.fromarray(noisy).save(smears / "7.png")
    process = start_count(smears, tmp_path / "out", limit=100_000)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 2, err
    assert err.splitlines()[-1].startswith(
        f"bloodcells: error: Can't write to {tmp_path / 'out'} (File too large"
    )
    assert len(out.splitlines()) == 6
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [*"123456", *TABLES]
    assert len((tmp_path / "out" / "counts.csv").read_text().splitlines()) == 7


# Runs a command with a small disk at a folder, which nobody else sees, and lists what is on it in the end.
ON_SMALL_DISK = """
disk=$1
shift
mount -t tmpfs -o size=400k tmpfs "$disk" || exit
"$@"
status=$?
ls -A "$disk/out" 2>/dev/null
exit $status
"""


def test_a_disk_without_room_is_said_and_keeps_what_was_counted(smears, tmp_path):
    """A real disk, of 400 kB, that only the count sees: the picture of the largest image doesn't fit."""
    noisy = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    Image.fromarray(noisy).save(smears / "7.png")
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["unshare", "-rm", "sh", "-c", ON_SMALL_DISK, "sh", str(disk)]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], check=False).returncode:
        pytest.skip("THIS SYSTEM lets nobody mount a disk of his own")
    done = subprocess.run(
        [*command, *count_command(smears, disk / "out")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1] == (
        f"bloodcells: error: Can't write to {disk / 'out'} (No space left on device); make room, or choose "
        "another folder."
    )
    # A line for each image that was counted, and then the names.
    assert done.stdout.splitlines()[6:] == [*"123456", *TABLES]


def test_an_output_folder_that_is_read_only_is_said_before_anything_is_counted(ordinary_user):
    # Not in tmp_path, which is closed to the other user that root turns into.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        with (
            ordinary_user(),
            pytest.raises(UserError, match=r"Can't write to .* \(Permission denied\); make room"),
            hold_folder(folder),
        ):
            pytest.fail("the folder was given out")
        folder.chmod(0o755)


def test_two_counts_into_one_folder(smears, tmp_path):
    out = tmp_path / "out"
    with hold_folder(out):
        process = start_count(smears, out)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert err == (
        f"bloodcells: error: Another process is writing to {out}; wait for it, or choose another folder.\n"
    )


def test_a_held_folder_is_cleared_of_leftovers(tmp_path):
    folder = tmp_path / "a" / "b"
    with hold_folder(folder):
        (folder / ".partial-x").mkdir()
        write_text(folder / ".partial-x" / "new", "half")
        write_text(folder / ".partial-y", "half")
        write_text(folder / "whole", "whole")
    with hold_folder(folder):
        assert [path.name for path in folder.iterdir()] == ["whole"]
    # Nothing stays of a folder that nothing was written to.
    with hold_folder(tmp_path / "c"):
        pass
    assert not (tmp_path / "c").exists()


def test_a_folder_that_cannot_be_made_or_written(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match=r"Can't write to .*below \(Not a directory\)"),
        hold_folder(tmp_path / "file" / "below"),
    ):
        pass
    with (
        pytest.raises(UserError, match=r"No space left on device\); make room"),
        hold_folder(tmp_path / "d"),
        open("/dev/full", "w") as stream,
    ):
        stream.write("x")
    assert not (tmp_path / "d").exists()

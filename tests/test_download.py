"""Getting files from folders and servers that work, fail, lie or stay silent."""

import contextlib
import hashlib
import socket
import time

import pytest
import requests

from bloodcells import download
from bloodcells.download import File, download_files, read_bytes
from bloodcells.errors import DataUnavailableError, UserError

UPSTREAM = "/someone/cells/0123abcd"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def make_contents(n):
    """Return the bytes of n files, by `File`."""
    contents = {}
    for i in range(1, n + 1):
        content = f"{i:03d}, drawn up at random. ".encode() * 40
        digest = hashlib.sha256(content).hexdigest()
        # A blank in the upstream path, as the real ones have.
        contents[File(f"images/{i:03d}.bmp", f"Data set/{i:03d}.bmp", digest, len(content))] = content
    return contents


@pytest.fixture
def contents():
    return make_contents(8)


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def upstream(contents, file_server):
    """Serve all files upstream, and return the URL."""
    file_server.files |= {f"{UPSTREAM}/{file.upstream_path}": content for file, content in contents.items()}
    return file_server.url + UPSTREAM


# A port that is closed everywhere; one that was free a moment ago another test may have taken.
NOBODY = "http://127.0.0.1:1"


def get(contents, cache, *, mirror=None, upstream=NOBODY, timeout=15.0):
    download_files("cells", list(contents), cache=cache, mirror=mirror, upstream=upstream, timeout=timeout)


def stored(cache):
    """Return the bytes of all files in the cache, by path."""
    paths = [path for path in cache.rglob("*") if path.is_file() or path.is_symlink()]
    return {path.relative_to(cache).as_posix(): path.read_bytes() for path in paths}


def by_path(contents):
    return {f"cells/{file.path}": content for file, content in contents.items()}


def write(contents, root):
    for path, content in by_path(contents).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root


# --- one file --------------------------------------------------------------------------------------------


def test_problem_names_what_differs():
    # sha256 of "abc", from FIPS 180-2.
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    file = File("a", "a", digest, 3)
    assert file.problem(b"abc") is None
    assert file.problem(None) == "missing"
    assert file.problem(b"abcd") == "expected 3 bytes, got 4"
    assert file.problem(b"abd").startswith("expected sha256 ba7816bf8f01..., got ")


def test_size_may_be_unknown():
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    file = File("a", "a", digest, None)
    assert file.problem(b"abc") is None
    assert file.problem(b"abcd").startswith("expected sha256 ba7816bf8f01..., got ")


def test_file_of_unknown_size_is_read_whole_but_not_without_end(cache, file_server, monkeypatch):
    content = b"original" * 50_000
    digest = hashlib.sha256(content).hexdigest()
    file = File("a.png", "a.png", "0" * 64, 1, original=File("a.jpg", "some/a.jpg", digest, None))
    file_server.files["/some/a.jpg"] = content
    download_files("cells", [file], cache=cache, mirror=None, upstream=file_server.url, timeout=15.0)
    assert stored(cache) == {"cells/a.jpg": content}
    monkeypatch.setattr(download, "_MAX_BYTES", 1000)
    with pytest.raises(UserError, match="gave a damaged file"):
        download_files("cells", [file], cache=cache, mirror=None, upstream=file_server.url, timeout=15.0)


def test_mirror_gives_the_converted_file_and_upstream_the_original(cache, tmp_path, file_server):
    digests = [hashlib.sha256(content).hexdigest() for content in (b"here", b"there")]
    original = File("a.jpg", "some/a.jpg", digests[1], None)
    file = File("a.png", "some/a.jpg", digests[0], 4, original=original)
    assert file.forms == (file, original)
    file_server.files |= {"/some/a.jpg": b"there", "/mirror/cells/a.jpg": b"there"}
    # A mirror is not asked for the original, even if it should have it.
    where = {"cache": cache, "upstream": file_server.url, "timeout": 15.0}
    download_files("cells", [file], mirror=file_server.url + "/mirror", **where)
    assert stored(cache) == {"cells/a.jpg": b"there"}
    assert file_server.gets == ["/mirror/cells/a.png", "/some/a.jpg"]
    (tmp_path / "mirror" / "cells").mkdir(parents=True)
    (tmp_path / "mirror" / "cells" / "a.png").write_bytes(b"here")
    download_files("cells", [file], mirror=tmp_path / "mirror", **where)
    assert stored(cache) == {"cells/a.jpg": b"there", "cells/a.png": b"here"}
    assert len(file_server.gets) == 2


def test_read_bytes_tells_absent_from_unreadable(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert read_bytes(tmp_path / "file") == b"abc"
    assert read_bytes(tmp_path / "nowhere") is None
    assert read_bytes(tmp_path / "file" / "below") is None
    with pytest.raises(UserError, match=r"Can't read .* \(Is a directory\); check the file"):
        read_bytes(tmp_path)


# --- mirrors ---------------------------------------------------------------------------------------------


def test_nothing_to_get_asks_no_one(cache, tmp_path):
    get({}, cache, mirror=tmp_path / "nowhere")
    assert not cache.exists()


def test_mirror_url_comes_first_and_upstream_gives_the_rest(contents, cache, file_server, upstream):
    file_server.files |= {f"/mirror/{path}": content for path, content in by_path(contents).items()}
    del file_server.files["/mirror/cells/images/002.bmp"]
    get(contents, cache, mirror=file_server.url + "/mirror", upstream=upstream)
    assert stored(cache) == by_path(contents)
    asked = [path for path in file_server.gets if not path.startswith("/mirror/")]
    assert asked == [f"{UPSTREAM}/Data set/002.bmp"]


def test_mirror_url_that_does_not_answer_is_passed_over(contents, cache, upstream):
    get(contents, cache, mirror=NOBODY, upstream=upstream)
    assert stored(cache) == by_path(contents)


def test_missing_mirror_folder_is_an_error(contents, cache, tmp_path):
    with pytest.raises(UserError, match=r"Expected a mirror folder at .*nowhere, there is none") as caught:
        get(contents, cache, mirror=tmp_path / "nowhere")
    assert type(caught.value) is UserError


def test_damaged_mirror_folder_is_an_error(contents, cache, tmp_path):
    mirror = write(contents, tmp_path / "mirror")
    (mirror / "cells/images/001.bmp").write_bytes(b"not it")
    with pytest.raises(UserError, match=r"mirror/cells/images/001\.bmp is damaged .*; replace it") as caught:
        get(contents, cache, mirror=mirror)
    assert type(caught.value) is UserError


# --- servers with faults ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("truncated", r"expected \d+ bytes, got \d+"),
        (b"short", r"expected \d+ bytes, got 5"),
        (b"x" * 5000, r"expected \d+ bytes, got \d+"),
        ("flipped", r"expected sha256 [0-9a-f]{12}\.\.\., got [0-9a-f]{12}"),
    ],
)
def test_damaged_download_is_an_error_and_leaves_nothing(
    contents, cache, file_server, upstream, fault, message
):
    if fault == "flipped":
        fault = bytes(255 - byte for byte in by_path(contents)["cells/images/001.bmp"])
    file_server.faults[f"{UPSTREAM}/Data set/001.bmp"] = fault
    with pytest.raises(UserError, match=rf"001\.bmp gave a damaged file \({message}") as caught:
        get(contents, cache, upstream=upstream)
    assert type(caught.value) is UserError
    assert set(stored(cache)) <= set(by_path(contents)) - {"cells/images/001.bmp"}


def test_one_broken_off_download_is_tried_again(contents, cache, file_server, upstream):
    class Once(dict):
        def get(self, path, default=None):
            return self.pop(path, default)

    file_server.faults = Once({f"{UPSTREAM}/Data set/001.bmp": "truncated"})
    get(contents, cache, upstream=upstream)
    assert len(file_server.gets) == 9
    assert stored(cache) == by_path(contents)


@pytest.mark.parametrize(
    ("fault", "message"),
    [(404, "is not there"), (500, "status 500"), ("dropped", "failed"), ("slow", "failed")],
)
def test_what_upstream_does_not_give_is_unavailable(contents, cache, file_server, upstream, fault, message):
    file_server.faults["*"] = fault
    start = time.monotonic()
    with pytest.raises(DataUnavailableError, match=f"{message}.*Connect to the network"):
        # Only silence is waited for; the first contact has this time, too.
        get(contents, cache, upstream=upstream, timeout=1.0 if fault == "slow" else 15.0)
    assert time.monotonic() - start < 10
    assert not cache.exists()


def test_trickle_is_given_up(contents, file_server, upstream):
    # 1,000 bytes at 50 a second would take 20 seconds; ten times the time limit is 2.
    file_server.faults["*"] = "trickle"
    start = time.monotonic()
    with pytest.raises(requests.Timeout, match="takes too long"):
        download._get(f"{upstream}/Data%20set/001.bmp", 1000, 0.2)
    assert time.monotonic() - start < 10


def test_refused_connection_is_found_out_at_once(contents, cache):
    start = time.monotonic()
    with pytest.raises(DataUnavailableError, match=r"no answer from http://127\.0\.0\.1"):
        get(contents, cache, upstream=NOBODY)
    # Less than a contact may take, with time to spare for what is imported on the way.
    assert time.monotonic() - start < 3.5


def test_server_that_never_answers_is_given_up_after_one_contact(contents, cache):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the connection, reads nothing
        start = time.monotonic()
        with pytest.raises(DataUnavailableError, match="no answer from"):
            get(contents, cache, upstream=f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.3)
        assert time.monotonic() - start < 3.5


def test_first_lost_connection_ends_the_download(cache, file_server):
    file_server.faults["*"] = "dropped"
    with pytest.raises(DataUnavailableError, match="300 files of cells can't be had"):
        get(make_contents(300), cache, upstream=file_server.url)
    # 8 threads with 2 tries each, and what they took up before the first failure was seen.
    assert len(file_server.gets) < 100


# --- a cache that can't be written -----------------------------------------------------------------------


def test_full_disk_is_an_error_and_leaves_nothing(contents, cache, tmp_path, monkeypatch):
    mirror = write(contents, tmp_path / "mirror")
    real = download.atomic_path

    @contextlib.contextmanager
    def on_full_disk(path):
        with real(path) as temporary:
            temporary.unlink()
            temporary.symlink_to("/dev/full")  # the kernel answers each write with "no space left"
            yield temporary

    monkeypatch.setattr(download, "atomic_path", on_full_disk)
    with pytest.raises(UserError, match=r"Can't write .*001\.bmp \(No space left on device\); make room"):
        get(contents, cache, mirror=mirror)
    assert not any(path.is_file() or path.is_symlink() for path in cache.rglob("*"))


def test_cache_below_a_file_is_an_error(contents, tmp_path):
    mirror = write(contents, tmp_path / "mirror")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"Can't write .* \(Not a directory\)"):
        get(contents, tmp_path / "file", mirror=mirror)

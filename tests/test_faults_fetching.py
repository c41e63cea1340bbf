"""What goes wrong around a fetch: it is killed, the disk is full, the network or a mirror is broken."""

import csv
import functools
import hashlib
import os
import socket
import time

import numpy as np
import pytest
import yaml

from bloodcells import cli, datasets
from bloodcells.files import share_folder

REPO, COMMIT = "someone/cells", "0123abcd"

# The command line, with a registry and an upstream of our own, and no file above a limit of bytes.
FETCH = """
import functools, resource
from bloodcells import cli, datasets
import rich.progress

def main(registry, upstream, limit=resource.RLIM_INFINITY):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    datasets.describe = functools.partial(datasets.describe, registry=registry)
    datasets.fetch = functools.partial(datasets.fetch, registry=registry, upstream=upstream)
    cli.main(["data", "fetch", "cells"])
"""


@pytest.fixture(autouse=True)
def _places(monkeypatch, tmp_path):
    monkeypatch.setenv("BLOODCELLS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BLOODCELLS_MIRROR", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def make_registry(tmp_path, file_server):
    """Return a function that registers a dataset of n files; it and a server upstream have them."""

    def make(n, n_bytes=2000):
        registry = tmp_path / "registry"
        (registry / "registry").mkdir(parents=True)
        facts = {"cells": {"title": "cells", "repo": REPO, "commit": COMMIT}}
        (registry / "registry.yml").write_text(yaml.safe_dump(facts))
        rng, contents = np.random.default_rng(0), {}
        with (registry / "registry" / "cells.csv").open("w", newline="") as stream:
            table = csv.writer(stream)
            table.writerow(("path", "role", "image_id", "class_label", "sha256", "bytes", "upstream_path"))
            for i in range(n):
                path, content = f"images/{i:03d}.png", rng.bytes(n_bytes)
                digest = hashlib.sha256(content).hexdigest()
                table.writerow((path, "image", f"{i:03d}", "", digest, n_bytes, path))
                contents[path] = content
                file_server.files[f"/{REPO}/{COMMIT}/{path}"] = content
        return registry, contents

    return make


def read_cache(folder):
    """Return the content of every file in a dataset's folder, by path, those half written too."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def check_kills(process, made, server, cache, n_kills):
    """Kill fetches at random moments and finish in the end: what was there is kept, and the rest is whole."""
    registry, contents = made
    rng = np.random.default_rng(0)
    whole = {}

    def read_whole():
        return {path: content for path, content in read_cache(cache).items() if "/.partial-" not in path}

    for _ in range(n_kills):
        process.start(str(registry), server.url)
        # A few more files, so that there is something to lose and enough is left for the others.
        n_files = len(whole) + rng.integers(0, 6)
        server.gets.clear()
        process.kill_when(lambda n=n_files: server.gets and len(read_whole()) >= n, rng.uniform(0, 0.02))
        left = read_whole()
        assert all(content == contents[path] for path, content in left.items())
        assert set(whole) <= set(left)
        whole = left
    assert 0 < len(whole) < len(contents)
    server.gets.clear()
    status, said = process.run(str(registry), server.url)
    assert status == 0, said
    assert read_cache(cache) == contents
    asked = {path.removeprefix(f"/{REPO}/{COMMIT}/") for path in server.gets}
    assert asked == set(contents) - set(whole)


def test_a_killed_fetch_leaves_nothing_half_written(launch, make_registry, file_server, tmp_path):
    check_kills(launch(FETCH), make_registry(150), file_server, tmp_path / "cache" / "cells", n_kills=4)


@pytest.mark.long
def test_a_fetch_killed_25_times(launch, make_registry, file_server, tmp_path):
    check_kills(launch(FETCH), make_registry(900), file_server, tmp_path / "cache" / "cells", n_kills=25)


def test_leftovers_are_cleared_by_one_that_is_alone(tmp_path):
    folder = tmp_path / "a" / "b"

    def leave():
        (folder / "images").mkdir(exist_ok=True)
        (folder / "images" / ".partial-x.png").write_text("half")
        (folder / ".partial-y").mkdir(exist_ok=True)
        (folder / "whole").write_text("whole")

    with share_folder(folder):
        leave()
        # It may be that one's own, which is still at work.
        with share_folder(folder):
            assert (folder / "images" / ".partial-x.png").exists()
    leave()
    with share_folder(folder):
        assert sorted(path.name for path in folder.rglob("*")) == ["images", "whole"]
    with share_folder(tmp_path / "c" / "d"):
        pass
    assert not (tmp_path / "c").exists()


def test_a_full_disk_is_said_and_keeps_what_was_fetched(launch, make_registry, file_server, tmp_path):
    """A limit of the size of files stands in for the disk: one file does not fit."""
    registry, contents = make_registry(20, n_bytes=5000)
    large = file_server.files[f"/{REPO}/{COMMIT}/images/019.png"] = bytes(50_000)
    table = registry / "registry" / "cells.csv"
    *lines, _ = table.read_text().splitlines()
    digest = hashlib.sha256(large).hexdigest()
    lines.append(f"images/019.png,image,019,,{digest},{len(large)},images/019.png")
    table.write_text("\n".join(lines))
    status, said = launch(FETCH).run(str(registry), file_server.url, 20_000)
    cache = tmp_path / "cache" / "cells"
    assert status == 2, said
    assert said.splitlines()[-1] == (
        f"bloodcells: error: Can't write {cache / 'images' / '019.png'} (File too large); make room, or name "
        "another folder in BLOODCELLS_CACHE."
    )
    assert "Traceback" not in said
    left = read_cache(cache)
    assert all(content == contents[path] for path, content in left.items())
    assert "images/019.png" not in left


@pytest.fixture
def fetch_cells(make_registry, file_server, monkeypatch, capsys):
    """Return a function that fetches by the command line; it returns status, output and complaints."""
    registry, _ = make_registry(3)

    def fetch(upstream, timeout=15.0):
        options = {"registry": registry, "upstream": upstream, "timeout": timeout}
        monkeypatch.setattr(datasets, "fetch", functools.partial(fetch_as_it_is, **options))
        with pytest.raises(SystemExit) as caught:
            cli.main(["data", "fetch", "cells"])
        return caught.value.code, *capsys.readouterr()

    fetch_as_it_is = datasets.fetch
    monkeypatch.setattr(datasets, "describe", functools.partial(datasets.describe, registry=registry))
    return fetch


CURE = "Connect to the network, or set BLOODCELLS_MIRROR to a folder or URL that has the data."
PAGE = b"<!DOCTYPE html><title>Log in to this network</title>"


def test_no_network_is_said(fetch_cells, tmp_path, monkeypatch):
    url = "http://127.0.0.1:1"  # a port that is closed everywhere

    def look_up(*arguments, **options):
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    # Neither a server nor, in the second place, anyone who knows the names of servers.
    for place in (url, "http://cells.example"):
        status, _, err = fetch_cells(place)
        assert status == 2
        assert err == (
            f"bloodcells: error: 3 files of cells can't be had: no answer from {place}/{REPO}/{COMMIT}/"
            f"images/000.png. {CURE}\n"
        )
        assert not (tmp_path / "cache").exists()
        monkeypatch.setattr(socket, "getaddrinfo", look_up)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (500, "answers with status 500. Connect"),
        (403, "answers with status 403. Connect"),
        ("slow", "failed (ReadTimeout"),
        ("dropped", "failed (ConnectionError). Connect"),
        ("circle", "failed (TooManyRedirects). Connect"),
        (
            "truncated",
            "gave a damaged file (expected 2000 bytes, got 1000); try again, or use another mirror.",
        ),
        (PAGE, f"gave a damaged file (expected 2000 bytes, got {len(PAGE)}); try again"),
        (PAGE * 1000, "gave a damaged file (expected 2000 bytes, got "),
    ],
)
def test_a_broken_server_is_named_in_one_line(fetch_cells, file_server, tmp_path, fault, words):
    file_server.faults["*"] = fault
    # Only silence is waited for.
    begin = time.monotonic()
    status, _, err = fetch_cells(file_server.url, timeout=1.0 if fault == "slow" else 15.0)
    assert status == 2
    assert err.startswith("bloodcells: error: ")
    assert err.count("\n") == 1
    assert file_server.url in err
    assert words in err
    assert time.monotonic() - begin < 10
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "mirror", ["http://", "http://[", "http://127.0.0.1:port", "https://127.0.0.1:{port}"]
)
def test_a_mirror_that_is_no_server_is_passed_over(fetch_cells, file_server, tmp_path, monkeypatch, mirror):
    monkeypatch.setenv("BLOODCELLS_MIRROR", mirror.format(port=file_server.server_port))
    status, _, err = fetch_cells(file_server.url)
    assert (status, err) == (0, "")
    assert len(read_cache(tmp_path / "cache" / "cells")) == 3


@pytest.mark.parametrize("fault", [500, "slow", "dropped", "circle"])
def test_upstream_stands_in_for_a_mirror_that_breaks_down(
    fetch_cells, file_server, tmp_path, monkeypatch, fault
):
    monkeypatch.setenv("BLOODCELLS_MIRROR", f"{file_server.url}/mirror")
    for i in range(3):
        file_server.files[f"/mirror/cells/images/{i:03d}.png"] = bytes(2000)
        file_server.faults[f"/mirror/cells/images/{i:03d}.png"] = fault
    timeout = 1.0 if fault == "slow" else 15.0
    status, _, err = fetch_cells(file_server.url, timeout)
    assert (status, err) == (0, "")
    assert len(read_cache(tmp_path / "cache" / "cells")) == 3
    # Where neither works, both are named.
    for path in (tmp_path / "cache").rglob("*.png"):
        path.unlink()
    file_server.faults = {"*": 503}
    status, _, err = fetch_cells(file_server.url)
    assert status == 2
    assert f"{file_server.url}/mirror/cells/images/" in err
    assert f"{file_server.url}/{REPO}" in err
    assert err.count("\n") == 1


def test_a_clock_that_jumps_changes_nothing(fetch_cells, file_server, tmp_path, monkeypatch):
    """A fetch measures its patience by a clock that no one sets, and trusts content, not dates."""
    jumps = iter(range(10**6))
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + (-1) ** next(jumps) * 10**7)
    assert fetch_cells(file_server.url)[0] == 0
    kept, changed = sorted((tmp_path / "cache").rglob("*.png"))[:2]
    for path, year in ((kept, 0), (changed, 2**32)):
        os.utime(path, (year, year))
    before = changed.stat().st_size
    changed.write_bytes(bytes(before))
    file_server.gets.clear()
    assert fetch_cells(file_server.url)[0] == 0
    assert [path.rsplit("/", 1)[1] for path in file_server.gets] == [changed.name]

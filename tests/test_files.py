import json

import pytest

from bloodcells import files


def test_atomic_path_replaces_whole_and_leaves_nothing_else(tmp_path):
    target = tmp_path / "deep" / "a.txt"
    files.write_text(target, "first")
    files.write_text(target, "second")
    assert target.read_text() == "second"
    assert list(target.parent.iterdir()) == [target]


def test_atomic_path_keeps_the_old_file_on_an_error(tmp_path):
    target = tmp_path / "a.txt"
    files.write_text(target, "old")

    def write_half():
        with files.atomic_path(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        write_half()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_atomic_path_keeps_the_suffixes(tmp_path):
    with files.atomic_path(tmp_path / "best.weights.h5") as temporary:
        assert temporary.name.endswith(".weights.h5")
        temporary.write_bytes(b"")


def test_write_json_refuses_not_a_number(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "a.json", {"x": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_write_json_sorts_its_keys(tmp_path):
    files.write_json(tmp_path / "a.json", {"b": 1, "a": [None, "µm"]})
    assert list(json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))) == ["a", "b"]

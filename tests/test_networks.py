"""Shipped networks: cards, hashes, and a real one of every kind if they are there."""

import hashlib
import json

import numpy as np
import pytest

from bloodcells import networks
from bloodcells.errors import UserError
from bloodcells.networks import CELLS, WEIGHTS, load_network, read_card

CARD = {
    "name": "tiny",
    "cell": "rbc",
    "heads": ["mask", "edge"],
    "cell_radius": 18,
    "margin": 44,
    "sha256": hashlib.sha256(b"weights").hexdigest(),
    "counting": {"method": "edt", "edt": {}},
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "rbc.json").write_text(json.dumps(CARD))
    (tmp_path / "rbc.onnx").write_bytes(b"weights")
    return tmp_path


class TestMistakes:
    def test_missing_card(self, tmp_path):
        with pytest.raises(UserError, match=r"card wbc\.json of a network is missing.*install bloodcells"):
            load_network("wbc", folder=tmp_path)

    def test_missing_weights(self, folder):
        (folder / "rbc.onnx").unlink()
        with pytest.raises(UserError, match=r"rbc\.onnx are missing"):
            load_network("rbc", folder=folder)

    def test_damaged_weights(self, folder):
        (folder / "rbc.onnx").write_bytes(b"weightz")
        with pytest.raises(
            UserError, match=rf"rbc\.onnx are damaged: expected SHA-256 {CARD['sha256'][:12]}"
        ):
            load_network("rbc", folder=folder)

    @pytest.mark.parametrize("text", ["", "{", "[]", "7"])
    def test_damaged_card(self, folder, text):
        (folder / "rbc.json").write_text(text)
        with pytest.raises(UserError, match=r"rbc\.json (is no card|must hold)"):
            read_card(folder / "rbc.json")

    @pytest.mark.parametrize("name", sorted(CARD))
    def test_lacking_card(self, folder, name):
        card = {key: value for key, value in CARD.items() if key != name}
        (folder / "rbc.json").write_text(json.dumps(card))
        with pytest.raises(UserError, match=f"must hold '{name}', got None"):
            read_card(folder / "rbc.json")

    @pytest.mark.parametrize(
        "change", [{"cell": "platelet"}, {"counting": {"method": "guess"}}, {"counting": {}}]
    )
    def test_unknown_names(self, folder, change):
        (folder / "rbc.json").write_text(json.dumps(CARD | change))
        with pytest.raises(UserError, match="must name a cell of rbc, wbc, plt and a method of"):
            read_card(folder / "rbc.json")

    @pytest.mark.parametrize(
        ("cell", "options", "message"),
        [
            ("platelet", {}, "`cell` must be one of"),
            ("rbc", {"n_threads": 0}, "`n_threads` must be at least 1"),
        ],
    )
    def test_arguments(self, folder, cell, options, message):
        with pytest.raises(UserError, match=message):
            load_network(cell, folder=folder, **options)


@pytest.mark.parametrize(
    "words", ["Failed to allocate memory for buffer", "AllocateRawInternal", "bad_alloc"]
)
def test_too_little_memory_is_told_from_a_broken_installation(words):
    """Also where ONNX Runtime says so at the end of a long line."""
    with pytest.raises(MemoryError, match=words), networks._in_words():
        raise RuntimeError("onnxruntime::BFCArena " * 20 + words)
    with pytest.raises(UserError, match="install bloodcells again"), networks._in_words():
        raise RuntimeError("Unknown operator")


@pytest.mark.parametrize("cell", CELLS)
def test_shipped(cell):
    network = load_network(cell, n_threads=1)
    assert (WEIGHTS / f"{cell}.onnx").stat().st_size <= 8e6
    assert network.cell == cell
    for name in ("data", "split", "metrics", "limits", "licence"):
        assert network.card[name], name
    size = 12 + 2 * network.margin
    probability = network.predict(np.full((1, size, size, 3), 230, np.uint8))
    assert probability.shape == (1, 12, 12, len(network.card["heads"]))
    assert probability.dtype == np.float32
    assert 0 <= probability.min() <= probability.max() <= 1

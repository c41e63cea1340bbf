"""Export to ONNX: what Keras predicts, ONNX Runtime predicts, whatever the number and size of tiles."""

import importlib
import json
import sys

import keras
import numpy as np
import pytest

from bloodcells.errors import UserError
from bloodcells.models.dounet import MARGIN, build_dounet
from bloodcells.networks import load_network, open_onnx
from bloodcells.paths import ROOT

CARD = {
    "name": "untrained",
    "cell": "rbc",
    "heads": ["mask", "edge"],
    "cell_radius": 18,
    "margin": MARGIN,
    "counting": {"method": "edt", "edt": {"min_height": 0.3}},
    "licence": "MIT",
}


@pytest.fixture(scope="module")
def export_weights():
    """Import the script, which is in no package."""
    sys.path.insert(0, str(ROOT / "workflow"))
    try:
        yield importlib.import_module("export_weights")
    finally:
        sys.path.remove(str(ROOT / "workflow"))


@pytest.fixture(scope="module")
def model():
    """Build an untrained network whose normalisation isn't that of the start: a wrong export shows."""
    keras.utils.set_random_seed(0)
    model = build_dounet(base_filters=4)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    return model


@pytest.fixture(scope="module")
def content(export_weights, model):
    return export_weights.to_onnx(model)


@pytest.mark.parametrize("shape", [(1, 100, 100), (3, 108, 140), (1, 188, 124)])
def test_predicts_as_keras_does(content, model, shape):
    tiles = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    flexible = build_dounet((None, None, 3), base_filters=4)
    flexible.set_weights(model.get_weights())
    expected = np.asarray(flexible(tiles.astype(np.float32), training=False))
    found = open_onnx(content, n_threads=1)(tiles)
    assert found.dtype == np.float32
    assert np.ptp(expected) > 0.05  # else all would agree
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_export_writes_what_load_reads(export_weights, model, content, tmp_path, monkeypatch):
    monkeypatch.setattr(export_weights, "to_onnx", lambda model: content)  # once is enough
    card = export_weights.export(model, CARD, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"rbc.onnx", "rbc.json", "README.md"}
    assert json.loads((tmp_path / "rbc.json").read_text()) == card
    assert card["n_parameters"] == model.count_params()
    assert card["max_difference"] < 1e-5
    network = load_network("rbc", folder=tmp_path, n_threads=1)
    assert (network.cell_radius, network.margin) == (18.0, MARGIN)
    assert network.counting == CARD["counting"]
    readme = (tmp_path / "README.md").read_text()
    for shown in ("## rbc.onnx: untrained", card["sha256"], "min height: 0.3", "licence: MIT"):
        assert shown in readme


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"margin": 40}, "check the card's margin"),
        ({"heads": ["mask"]}, "The card names 1 heads, the model has 2"),
        ({"cell": "platelet"}, "must name a cell"),
    ],
)
def test_a_wrong_card_writes_nothing(export_weights, model, content, tmp_path, monkeypatch, change, message):
    monkeypatch.setattr(export_weights, "to_onnx", lambda model: content)
    with pytest.raises(UserError, match=message):
        export_weights.export(model, CARD | change, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_another_network_is_found_out(export_weights, model, content, tmp_path, monkeypatch):
    monkeypatch.setattr(export_weights, "to_onnx", lambda model: content)
    keras.utils.set_random_seed(1)
    with pytest.raises(UserError, match="The export may differ by 1e-05 at most"):
        export_weights.export(build_dounet(base_filters=4), CARD, tmp_path)


def test_too_large(export_weights, model, content, tmp_path, monkeypatch):
    monkeypatch.setattr(export_weights, "to_onnx", lambda model: content)
    monkeypatch.setattr(export_weights, "MAX_BYTES", len(content) - 1)
    with pytest.raises(UserError, match="bytes at most"):
        export_weights.export(model, CARD, tmp_path)

"""Two runs of one configuration: alike to the last digit on one machine, nearly so on another."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__
from PIL import Image

from bloodcells.paths import ROOT
from bloodcells.synthetic import draw_smear

# A network with dropout and batch normalisation, distorted images, and what the chapters make of it.
RUN = """
import sys
import keras, numpy as np
from bloodcells import inference, metrics, training
from bloodcells.augment import AffineRanges
from bloodcells.models.unet import build_unet
from bloodcells.synthetic import draw_cell

rng = np.random.default_rng(0)
cells = [draw_cell("neutrophil", rng=rng, shape=(64, 64)) for _ in range(8)]
images = np.stack([cell.image for cell in cells])
masks = np.stack([cell.nucleus for cell in cells]).astype("uint8")
keras.utils.set_random_seed(int(sys.argv[3]))
model = build_unet((64, 64, 3), n_classes=2, base_filters=4, batch_norm=True, dropout=0.2)
# What one step is made of, before steps add up.
model.compile(
    keras.optimizers.SGD(1.0), keras.losses.SparseCategoricalCrossentropy(), jit_compile=sys.argv[2] == "xla"
)
start, untrained = model.get_weights(), model.predict(images, verbose=0)
model.train_on_batch(images[:4], masks[:4])
gradients = {f"gradient {i}": a - b for i, (a, b) in enumerate(zip(start, model.get_weights()))}
model.set_weights(start)
ranges = AffineRanges(rotation_degrees=180, zoom=0.2)
batches = training.AugmentedBatches(
    images, masks, ranges=ranges, brightness=0.2, batch_size=4, steps_per_epoch=4, seed=0
)
history = training.train(
    model, batches, (images, masks), epochs=3, optimizer=keras.optimizers.Adam(0.005), seed=0, progress=False,
    jit_compile=sys.argv[2] == "xla",
)
probability = inference.predict_probability(model, images)
found = (probability[..., 1] >= 0.5).astype("uint8")
table = metrics.count_pixels([str(i) for i in range(8)], masks, found, ())
np.savez(
    sys.argv[1],
    loss=history["loss"],
    val_loss=history["val_loss"],
    probability=probability,
    counts=table.select_dtypes("number").to_numpy(),
    untrained=untrained,
    **gradients,
    **{f"weights {i}": weights for i, weights in enumerate(model.get_weights())},
)
"""


def train(path, *, backend, compiler, seed=0, **environment):
    """Train in a process of its own and return what came out."""
    environment = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"} | environment
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RUN, path, compiler, str(seed)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with np.load(path) as found:
        return dict(found)


def avx2():
    """Return an environment in which NumPy, OpenBLAS, oneDNN, XLA and OpenCV keep to AVX2.

    ONNX Runtime looks at the processor only, so that counts by the shipped networks are compared on one
    processor alone, see `test_counts_agree`.
    """
    is_newer = {name: "AVX512" in name or "V4" in name for name in __cpu_dispatch__}
    newer = [name for name, newer in is_newer.items() if newer and __cpu_features__[name]]
    if not newer:
        pytest.skip("THIS PROCESSOR HAS NO AVX-512: nothing to compare AVX2 with")
    return {
        "NPY_DISABLE_CPU_FEATURES": " ".join(newer),
        "OPENBLAS_CORETYPE": "Haswell",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
        "OPENCV_CPU_DISABLE": ",".join(opencv_features("AVX512")),
        "OPENCV_IPP": "avx2",
    }


def opencv_features(word):
    """List what OpenCV can switch off of the instructions with a word in their names."""
    # A star: chosen when it runs, not when it was built; a question mark: switched off, or not there.
    features = cv2.getCPUFeaturesLine().split()
    return [name.strip("*?") for name in features if name.startswith("*") and word in name]


def test_opencv_keeps_to_avx2():
    code = "import cv2; print(cv2.getCPUFeaturesLine(), cv2.ipp.getIppVersion() if cv2.ipp.useIPP() else '')"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | avx2(), capture_output=True, text=True, check=True
    )
    assert "unknown" not in done.stdout + done.stderr
    newer = [word for word in done.stdout.split() if "AVX512" in word or "AVX-512" in word]
    assert all(word.endswith("?") for word in newer), done.stdout


QUICK = ("test_metrics.py", "test_class_metrics.py", "test_object_metrics.py", "test_counting.py")


CHAPTERS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.long
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_scores_counts_and_notebooks_are_right_without_avx512(tmp_path, chapter):
    """What tests and stored outputs say holds on older processors, too."""
    notebook = tmp_path / f"{chapter}.ipynb"
    text = (ROOT / "notebooks" / notebook.name).read_text(encoding="utf-8")
    # Of chapter 8 nothing is stored: it counts without an error, and that is all.
    assert '"nbval-check-output"' in text or chapter.startswith("08")
    # Its results in a folder of this test's own.
    before, after = 'output_dir = \\"runs\\"', f'output_dir = \\"{(tmp_path / "runs").as_posix()}\\"'
    assert text.count(before) == 1
    notebook.write_text(text.replace(before, after), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not long"]
    command += ["-c", ROOT / "pyproject.toml", "--rootdir", ROOT, "--basetemp", tmp_path / "base"]
    command += ["--nbval-lax", "--nbval-current-env"]
    command += ["--nbval-sanitize-with", ROOT / "tests" / "nbval_sanitize.cfg"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [*command, *(ROOT / "tests" / name for name in QUICK if chapter.startswith("08")), notebook],
        cwd=ROOT,
        env=environment | avx2(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert list((tmp_path / "runs" / chapter / "reduced").glob("*/*.csv"))


BACKENDS = pytest.mark.parametrize(
    ("backend", "compiler"),
    [
        ("tensorflow", "plain"),
        pytest.param("tensorflow", "xla", marks=pytest.mark.long),
        pytest.param("jax", "xla", marks=pytest.mark.long),
    ],
)


def test_counts_agree(tmp_path):
    """By the shipped networks, in two processes: tables, label images, outlines and pictures."""
    drawn = draw_smear(
        (300, 400), rng=np.random.default_rng(0), n_rbc=25, n_wbc=1, n_platelets=3, rbc_radius=18
    )
    Image.fromarray(drawn.image).save(tmp_path / "smear.png")
    command = [sys.executable, "-m", "bloodcells", "count", "smear.png", "--cell-radius", "18", "--out"]
    first, again = (tmp_path / name for name in ("first", "again"))
    for out in (first, again):
        subprocess.run([*command, out], cwd=tmp_path, capture_output=True, check=True)
    files = {path.relative_to(first): path.read_bytes() for path in first.rglob("*") if path.is_file()}
    assert {"counts.csv", "objects.csv", "cells.geojson", "labels-rbc.tif"} <= {path.name for path in files}
    counts = files[Path("counts.csv")].decode().splitlines()[1].split(",")
    assert int(counts[1]) > 15, "nothing was counted, so nothing was compared"
    for path, content in files.items():
        assert (again / path).read_bytes() == content, path


@BACKENDS
def test_runs_agree(tmp_path, backend, compiler):
    how = {"backend": backend, "compiler": compiler}
    first = train(tmp_path / "1.npz", **how)
    again = train(tmp_path / "2.npz", **how)
    for name, values in first.items():
        np.testing.assert_array_equal(again[name], values, err_msg=name)


@BACKENDS
def test_processors_agree(tmp_path, backend, compiler):
    how = {"backend": backend, "compiler": compiler}
    first = train(tmp_path / "1.npz", **how)
    other = train(tmp_path / "2.npz", **how, **avx2())
    # The instructions are others, and so are the last digits: else nothing was compared.
    assert any((other[name] != values).any() for name, values in first.items())
    # One step differs by rounding.
    np.testing.assert_allclose(other["untrained"], first["untrained"], atol=5e-6)
    apart = [
        np.abs(other[k] - g).max() / np.abs(g).max() for k, g in first.items() if k.startswith("gradient")
    ]
    assert max(apart) < 1e-3
    assert np.median(apart) < 1e-5
    if compiler == "xla":
        # It sums in another order where vectors are shorter, oneDNN hardly does. Adam's first steps are as
        # long for a gradient of nearly 0 as for any other, so that twelve make much of it: of a seed more.
        reseeded = train(tmp_path / "3.npz", seed=1, **how)
        for name in ("loss", "val_loss", "probability"):
            by_seed = np.abs(reseeded[name] - first[name]).max()
            assert np.abs(other[name] - first[name]).max() < by_seed / 10, name
        return
    np.testing.assert_allclose(other["loss"], first["loss"], rtol=1e-4)
    np.testing.assert_allclose(other["val_loss"], first["val_loss"], rtol=1e-3)
    assert np.abs(other["probability"] - first["probability"]).max() < 1e-3
    # One pixel in a thousand of eight images of 64 x 64; what is gained by one class is lost by another.
    assert np.abs(other["counts"] - first["counts"]).sum() <= 2 * 33

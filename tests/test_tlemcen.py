"""The reader's own bone marrow images: read if they are there, and if not, it is said what is missing."""

import numpy as np
import pytest
from PIL import Image

from bloodcells import tlemcen
from bloodcells.errors import DataUnavailableError, UserError

COLOURS = {"nucleus": (0, 128, 0), "cytoplasm": (255, 255, 0), "red cell": (255, 0, 0), "plasma": (0, 0, 0)}


def paint():
    """Paint a mask of 12 x 16 pixels: a nucleus of 2 x 2 in a cell of 4 x 4, and a red cell of 3 x 3."""
    mask = np.full((12, 16, 3), COLOURS["plasma"], np.uint8)
    mask[1:5, 1:5] = COLOURS["cytoplasm"]
    mask[2:4, 2:4] = COLOURS["nucleus"]
    mask[7:10, 8:11] = COLOURS["red cell"]
    return mask


@pytest.fixture
def folder(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    lines = [f"{region},{','.join(map(str, colour))}" for region, colour in COLOURS.items()]
    (tmp_path / "regions.csv").write_text("\n".join(["region,red,green,blue", *lines]) + "\n")
    for i in range(30):
        Image.fromarray(np.full((12, 16, 3), i, np.uint8)).save(tmp_path / "images" / f"{i:02}.bmp")
        Image.fromarray(paint()).save(tmp_path / "masks" / f"{i:02}.png")
    return tmp_path


def load_all(folder):
    return [
        sample for split in ("train", "val", "test") for sample in tlemcen.load_split(split, folder=folder)
    ]


def test_nucleus_and_cell_are_those_of_the_mask(folder):
    sample = tlemcen.load_split("train", folder=folder, limit=1)[0]
    assert sample.image.shape == (12, 16, 3)
    assert (sample.dataset, sample.cell_type) == ("tlemcen", "white cell")
    assert (int(sample.nucleus.sum()), int(sample.cell.sum())) == (4, 16)
    assert sample.cell[1:5, 1:5].all()
    assert int(sample.image[0, 0, 0]) == int(sample.image_id)


def test_every_image_is_in_one_split_and_stays_there(folder):
    splits = {
        split: [sample.image_id for sample in tlemcen.load_split(split, folder=folder)]
        for split in ("train", "val", "test")
    }
    assert sorted(name for names in splits.values() for name in names) == [f"{i:02}" for i in range(30)]
    assert all(splits.values())
    (folder / "images" / "00.bmp").unlink()
    kept = [sample.image_id for sample in tlemcen.load_split("test", folder=folder)]
    assert kept == [name for name in splits["test"] if name != "00"]


def test_the_environment_tells_the_folder(folder, monkeypatch):
    monkeypatch.setenv("BLOODCELLS_TLEMCEN", str(folder))
    assert len(tlemcen.load_split("train", limit=2)) == 2


def test_absent_images_are_said_to_be_absent(tmp_path, folder):
    with pytest.raises(DataUnavailableError, match=r"not public, and .*nowhere does not exist"):
        tlemcen.load_split("train", folder=tmp_path / "nowhere")
    (folder / "masks" / "05.png").unlink()
    with pytest.raises(DataUnavailableError, match=r"05\.png is missing, the mask of 05\.bmp"):
        load_all(folder)
    for path in (folder / "images").iterdir():
        path.unlink()
    with pytest.raises(DataUnavailableError, match="holds no image"):
        tlemcen.load_split("train", folder=folder)
    (folder / "regions.csv").unlink()
    with pytest.raises(DataUnavailableError, match=r"regions\.csv is missing"):
        tlemcen.load_split("train", folder=folder)


def test_a_mask_of_another_size_is_refused(folder):
    Image.fromarray(paint()[:-1]).save(folder / "masks" / "07.png")
    with pytest.raises(UserError, match=r"as large as 07\.bmp, \(12, 16\); got \(11, 16\)"):
        load_all(folder)


def test_a_smoothed_mask_is_refused(folder):
    mask = paint()
    mask[3, 4] = (40, 100, 0)
    Image.fromarray(mask).save(folder / "masks" / "07.png")
    with pytest.raises(UserError, match=r"07\.png: the colour \(40, 100, 0\) at row 3, column 4"):
        load_all(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("region,red\nnucleus,1\n", "expected the columns"),
        ("region,red,green,blue\nnucleus,1,2,3\n", "a colour of its own"),
        ("region,red,green,blue\nnucleus,1,2,many\n", "expected the columns"),
        ("region,red,green,blue\nnucleus,1,2,300\n", "not 0 to 255"),
    ],
)
def test_a_wrong_list_of_colours_is_refused(folder, text, message):
    (folder / "regions.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        tlemcen.load_split("train", folder=folder)


def test_other_arguments_are_refused(folder):
    with pytest.raises(UserError, match="one of train, val, test; got 'all'"):
        tlemcen.load_split("all", folder=folder)
    with pytest.raises(UserError, match="limit"):
        tlemcen.load_split("train", folder=folder, limit=0)

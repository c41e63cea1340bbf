import numpy as np
import pandas as pd
import pytest

from bloodcells.class_labels import CLASSES
from bloodcells.errors import UserError
from bloodcells.protocol import class_names, count_class_pixels, read_task, task_datasets

ALL = ("all-idb1", "jiangxi", "cellavision", "bcisc")


def test_each_task_takes_its_datasets():
    assert task_datasets("classes", "train", ALL) == ("all-idb1",)
    assert task_datasets("nucleus", "test", ALL) == ("jiangxi", "cellavision")
    assert task_datasets("cell_bcisc", "train", ALL) == ("bcisc",)
    assert task_datasets("cell_bcisc", "val", ALL) == ("bcisc",)
    assert task_datasets("cell_bcisc", "test", ALL) == ("jiangxi", "cellavision", "bcisc")
    assert task_datasets("cell_bcisc", "test", ("synthetic",)) == ("synthetic",)
    assert task_datasets("nucleus", "test", ("all-idb1",)) == ()


@pytest.mark.parametrize("target", ["cells", "cell_all-idb1", "nucleus_jiangxi"])
def test_an_unknown_task_is_refused(target):
    with pytest.raises(UserError, match=f"Expected a task, one of classes, nucleus.*got '{target}'"):
        task_datasets(target, "train", ALL)


def test_a_task_without_its_datasets_is_refused():
    with pytest.raises(UserError, match="'classes' needs other datasets than bcisc"):
        read_task("classes", "train", ("bcisc",), image_size=64)


@pytest.mark.parametrize("target", ["classes", "nucleus", "cell_jiangxi"])
def test_images_and_labels_belong_together(target):
    task = read_task(target, "test", ("synthetic",), image_size=64, limit=2)
    assert task.images.shape == (2, 64, 64, 3)
    assert task.labels.shape == (2, 64, 64)
    assert task.images.dtype == task.labels.dtype == np.uint8
    assert list(task.keys["dataset"]) == ["synthetic"] * 2
    assert task.keys["image_id"].is_unique
    found = set(np.unique(task.labels)) - {255}
    assert found == set(range(len(class_names(target))))


def test_a_cell_is_larger_than_its_nucleus():
    nucleus, cell = (
        read_task(target, "test", ("synthetic",), image_size=64, limit=2).labels
        for target in ("nucleus", "cell_bcisc")
    )
    assert not (nucleus > cell).any()
    assert nucleus.sum() < cell.sum()


def test_pixels_by_hand():
    keys = pd.DataFrame({"dataset": "a", "image_id": ["1", "2"]})
    true = np.uint8([[[0, 1, 2, 255]], [[1, 1, 1, 1]]])
    pred = np.uint8([[[0, 1, 1, 2]], [[1, 1, 0, 0]]])
    table = count_class_pixels(keys, true, pred, CLASSES)
    assert list(table["image_id"]) == ["1"] * 3 + ["2"] * 3
    assert list(table["class"]) == list(CLASSES) * 2
    # The unlabelled pixel counts nowhere.
    assert table[["tp", "fp", "fn", "tn"]].to_numpy().tolist() == [
        [1, 0, 0, 2],
        [1, 1, 0, 1],
        [0, 0, 1, 2],
        [0, 2, 0, 2],
        [2, 0, 2, 0],
        [0, 0, 0, 4],
    ]


def test_every_image_needs_a_prediction():
    keys = pd.DataFrame({"dataset": "a", "image_id": ["1", "2"]})
    maps = np.zeros((2, 4, 4), np.uint8)
    with pytest.raises(UserError, match="got 2, 2 and 1"):
        count_class_pixels(keys, maps, maps[:1], CLASSES)

"""The tasks of chapter 7: the same images, classes and split for every network.

A task is named by the target of an arm: "classes" are red and white cells on crops of fields, "nucleus" is
that of single white cells, and "cell_NAME" is the whole white cell, learnt from the dataset NAME alone and
tested on all others as well.
"""

import dataclasses

import numpy as np
import pandas as pd

from bloodcells import crops, datasets, resizing
from bloodcells.class_labels import CLASSES
from bloodcells.class_metrics import UNLABELLED
from bloodcells.datasets import CELL_DATASETS
from bloodcells.errors import UserError
from bloodcells.metrics import binary_counts, check_one_an_image


@dataclasses.dataclass(frozen=True, eq=False)
class TaskImages:
    """Images of a task with their truth.

    Attributes
    ----------
    keys : pandas.DataFrame
        One row an image: ``dataset`` and ``image_id``.
    images : ndarray of uint8, shape (N, size, size, 3)
    labels : ndarray of uint8, shape (N, size, size)
        Class of each pixel, see `class_names`; 255 where it has none.
    """

    keys: pd.DataFrame
    images: np.ndarray
    labels: np.ndarray


def class_names(target):
    """Return the names of a task's classes, of which the first is the background.

    Parameters
    ----------
    target : str

    Returns
    -------
    tuple of str

    Examples
    --------
    >>> class_names("classes"), class_names("cell_bcisc")
    (('background', 'rbc', 'wbc'), ('background', 'cell'))
    """
    return CLASSES if target == "classes" else ("background", target.split("_")[0])


def task_datasets(target, split, used):
    """List the datasets whose images a task takes.

    Parameters
    ----------
    target : str
    split : {"train", "val", "test"}
    used : sequence of str
        What there is, from `bloodcells.datasets.resolve`; ("synthetic",) for drawn smears.

    Returns
    -------
    tuple of str
        Empty where there is none of them.

    Raises
    ------
    UserError
        If there is no such task.

    Examples
    --------
    >>> task_datasets("cell_bcisc", "test", ("all-idb1", "jiangxi", "cellavision", "bcisc"))
    ('jiangxi', 'cellavision', 'bcisc')
    """
    known = {
        "classes": ("all-idb1",),
        "nucleus": ("jiangxi", "cellavision"),  # bcisc has no outlines of nuclei
        **{f"cell_{name}": CELL_DATASETS if split == "test" else (name,) for name in CELL_DATASETS},
    }
    if target not in known:
        raise UserError(f"Expected a task, one of {', '.join(known)}; got {target!r}.")
    if tuple(used) == ("synthetic",):
        return ("synthetic",)
    return tuple(name for name in known[target] if name in used)


def read_task(target, split, used, *, image_size, limit=None):
    """Read the images of a task.

    Parameters
    ----------
    target : str
    split : {"train", "val", "test"}
    used : sequence of str
        As in `task_datasets`.
    image_size : int
        Rows and columns that images are resized to.
    limit : int, optional
        Take the first `limit` images of each dataset only.

    Returns
    -------
    TaskImages

    Raises
    ------
    DataUnavailableError, UserError
        As in `bloodcells.crops.load_crops` and `bloodcells.datasets.load_split`; and if none of the task's
        datasets is used.
    """
    names = task_datasets(target, split, used)
    if not names:
        raise UserError(f"The task {target!r} needs other datasets than {', '.join(used)}.")
    if target == "classes":
        size = (image_size, image_size)
        found = crops.load_crops(names[0], split, "square", shape=size, limit=limit)
        images, labels = crops.stack_crops(found)
    else:
        found = [one for name in names for one in datasets.load_split(name, split, limit=limit)]
        part = target.split("_")[0]
        images, labels = resizing.stack_cells(
            found, target=part, cell_types=datasets.CELL_TYPES, image_size=image_size
        )
        labels = (labels > 0).astype(np.uint8)
    keys = pd.DataFrame(
        {"dataset": [one.dataset for one in found], "image_id": [one.image_id for one in found]}
    )
    return TaskImages(keys, images, labels)


def count_class_pixels(keys, true, pred, names):
    """Count the pixels behind the scores, image by image and class by class.

    Parameters
    ----------
    keys : pandas.DataFrame
        One row an image.
    true, pred : ndarray of uint8, shape (N, rows, columns)
        Class i is ``names[i]``; `true` may be 255, unlabelled, in places.
    names : sequence of str

    Returns
    -------
    pandas.DataFrame
        The rows of `keys`, one for each image and class: ``class``, ``tp``, ``fp``, ``fn`` and ``tn``, of the
        class against all others, in labelled pixels.
    """
    check_one_an_image(keys, true, pred)
    rows = []
    for key, one_true, one_pred in zip(keys.to_dict("records"), true, pred, strict=True):
        labelled = one_true != UNLABELLED
        one_true, one_pred = one_true[labelled], one_pred[labelled]
        rows += [
            key | {"class": name} | binary_counts(one_true == value, one_pred == value)
            for value, name in enumerate(names)
        ]
    return pd.DataFrame(rows)

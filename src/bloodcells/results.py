"""Runs and the record kept of them.

A run is one training of one arm (method, target and seed) of a chapter. It lives in
``<output_dir>/<chapter>/<mode>/<run-id>/``. The record is the promoted small files of runs, in
``book/results/<chapter>/<mode>/<run-id>/``.
"""

import ast
import dataclasses
import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import filelock
import pandas as pd

from bloodcells import crops, datasets, fields
from bloodcells.errors import UserError
from bloodcells.files import clear_leftovers, read_json_object, write_json, write_text
from bloodcells.paths import ROOT, data_dir

RECORD = ROOT / "book" / "results"
RECORD_FILES = ("config.json", "provenance.json", "history.csv", "per_image.csv", "metrics.json")
_TRAINING_CODE = (
    "augment.py",
    "class_weights.py",
    "label_batches.py",
    "losses.py",
    "stain_jitter.py",
    "tile_batches.py",
    "training.py",
)
_VERSIONED = (
    "keras",
    "tensorflow",
    "jax",
    "torch",
    "numpy",
    "scipy",
    "pandas",
    "scikit-image",
    "opencv-python-headless",
    "onnxruntime",
)


@dataclasses.dataclass(frozen=True)
class Run:
    """A run under way.

    Attributes
    ----------
    folder : pathlib.Path
    config : dict
        What decides the result; its hash is part of the folder's name.
    started : float
        Clock reading in seconds, for the wall time.
    lock : filelock.FileLock
        Held until `finish_run`, so that two processes never write to one folder.
    """

    folder: Path
    config: dict
    started: float
    lock: filelock.FileLock


def source_hash():
    """Hash of the code that a training runs through, so that it is never continued with other code.

    Returns
    -------
    str
        64 hexadecimal digits.

    Notes
    -----
    Data, network, loss, optimizer and their settings have fingerprints of their own in
    `bloodcells.training`, and scores are computed anew whenever a chapter runs. What is left are the loop,
    the distortions and the losses. Comments and docstrings don't count.
    """
    digest = hashlib.sha256()
    package = Path(__file__).resolve().parent
    for name in _TRAINING_CODE:
        if (path := package / name).exists():
            digest.update(name.encode())
            digest.update(_without_docstrings(path.read_text(encoding="utf-8")).encode())
    return digest.hexdigest()


def _without_docstrings(source):
    """Return Python code without comments and docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def start_run(chapter, mode, arm, seed, *, config, output_dir="runs"):
    """Open the folder of a run, a new one or one to continue.

    Parameters
    ----------
    chapter, mode : str
    arm : str
        Method and target, such as ``"wcsegnet/nucleus"``.
    seed : int
    config : dict
        Everything else that decides the result; JSON values. With ``"controlled": True`` the run is an
        experiment that is meant for drawn smears and trains nothing: it may enter the record all the same. So
        may one with ``"combined"``, the folders' names of the runs whose answers it puts together.
    output_dir : path-like
        A relative path counts from the root of the checkout.

    Returns
    -------
    Run
        Its folder's name ends in a hash of all the arguments and of `source_hash`: another configuration
        always gets another folder.
    """
    config = {
        "chapter": chapter,
        "mode": mode,
        "arm": arm,
        "seed": seed,
        **config,
        "source_sha256": source_hash(),
    }
    text = json.dumps(config, sort_keys=True)
    run_id = f"{re.sub('[^a-z0-9_]+', '-', arm)}-s{seed}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    folder = ROOT / output_dir / chapter / mode / run_id
    lock = filelock.FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # The kernel of a run that was killed notices within a second, and lets go.
        lock.acquire(timeout=3)
        clear_leftovers(folder)
        write_json(folder / "config.json", config)
    except filelock.Timeout:
        raise UserError(
            f"Another process is writing to {folder}. Wait for it to end, or give another `output_dir`."
        ) from None
    except OSError as error:
        lock.release()
        raise UserError(
            f"Can't write to {folder} ({error.strerror}). Make room, or give another `output_dir`."
        ) from error
    return Run(folder, config, time.perf_counter(), lock)


def finish_run(run, *, per_image, metrics, datasets_used):
    """Write the results of a run and release its folder.

    Parameters
    ----------
    run : Run
    per_image : pandas.DataFrame
        The counts behind the scores, at least one row an image.
    metrics : dict
        Scores computed from `per_image`. Not-a-number becomes null.
    datasets_used : sequence of str

    Returns
    -------
    pathlib.Path
        The run's folder.
    """
    write_text(run.folder / "per_image.csv", per_image.to_csv(index=False))
    write_json(run.folder / "provenance.json", provenance(run, datasets_used))
    # Last, since a run counts as finished by it.
    write_json(run.folder / "metrics.json", _null_nan(metrics))
    run.lock.release()
    return run.folder


def provenance(run, datasets_used):
    """Collect what a reader needs to trace a result: code, versions, device, data, cost.

    Parameters
    ----------
    run : Run
    datasets_used : sequence of str

    Returns
    -------
    dict
        ``wall_s`` is the time from opening the run to its results, in seconds, whatever else the process
        did meanwhile (a chapter trains all its arms before it scores any); the time of the training
        alone is the sum of ``seconds`` in the history.
        ``peak_memory_mib`` that of the whole process so far, in mebibytes.
    """
    import keras  # seconds, which the command line does not have to spend

    from bloodcells.device import describe_device

    commit, dirty = git_state()
    files = [
        data_dir() / f"{stem.format(name)}.csv"
        for name in datasets_used
        for stem in ("registry/{}", "splits/{}", "splits/{}_crops", "counts/{}")
    ]
    return {
        "commit": commit,
        "dirty": dirty,
        "backend": keras.backend.backend(),
        "device": describe_device(),
        "platform": platform.platform(terse=True),
        "python": platform.python_version(),
        "versions": versions(),
        "sha256": {
            path.relative_to(data_dir()).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in files
            if path.exists()  # drawn smears have none of them, single cells no crops and no counts
        },
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "wall_s": round(time.perf_counter() - run.started, 1),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def versions():
    """Return the versions of the packages that decide numbers.

    Returns
    -------
    dict of str to str
    """
    found = {}
    for name in _VERSIONED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_state():
    """Return the commit that is checked out and whether the tree differs from it.

    Returns
    -------
    commit : str or None
        None outside a git checkout.
    dirty : bool
        Whether tracked files differ or untracked ones exist; True outside a checkout.
    """

    def git(*arguments):
        return subprocess.run(
            ["git", "-C", ROOT, *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain"))
    except (OSError, subprocess.CalledProcessError):
        return None, True


def promote(run_dir, *, record=RECORD):
    """Copy the small files of a finished run, or of all finished runs below a folder, to the record.

    Parameters
    ----------
    run_dir : path-like
        A run's folder, or one that holds runs.
    record : path-like
        Root of the record.

    Returns
    -------
    list of pathlib.Path
        Folders in the record. An older run of the same arm and seed is replaced, and of several in `run_dir`
        only the one that was finished last is copied.

    Raises
    ------
    UserError
        Before anything is copied: if a run isn't finished, is damaged, was made from a dirty tree or on drawn
        smears, or lacks the prediction of an image of the test split.
    """
    run_dir = Path(run_dir)
    folders = sorted(path.parent for path in run_dir.rglob("config.json"))
    if not folders:
        raise UserError(
            f"{run_dir} holds no run: expected a folder with config.json, as `bloodcells run` writes."
        )
    found = []
    for folder in folders:
        try:
            found.append((*_check_promotable(folder), folder))
        except UserError:
            raise
        except (ValueError, LookupError, TypeError) as error:
            raise UserError(
                f"{folder} is damaged ({error!r}); run the chapter again, or remove it."
            ) from error
    latest = {run: folder for _, run, folder in sorted(found)}
    return [_copy_to_record(folder, Path(record)) for folder in sorted(latest.values())]


def _check_promotable(folder):
    """Return when a run was finished, and which it is, or raise."""
    config = _read_object(folder / "config.json")
    controlled = config.get("controlled", False)
    is_trained = not controlled and "combined" not in config
    needed = set(RECORD_FILES) - (set() if is_trained else {"history.csv"})
    missing = sorted(name for name in needed if not (folder / name).exists())
    if missing:
        raise UserError(
            f"{folder} is not finished: it lacks {', '.join(missing)}. Run the chapter again to end it."
        )
    source = _read_object(folder / "provenance.json")
    _read_object(folder / "metrics.json")
    if source["dirty"] or not source["commit"]:
        raise UserError(f"{folder} was made from a tree with uncommitted changes. Commit, then run it again.")
    per_image = pd.read_csv(folder / "per_image.csv", keep_default_na=False, dtype={"image_id": str})
    for name in [] if controlled else config["datasets"]:
        if name == "synthetic":
            raise UserError(f"{folder} was made on drawn smears; only runs on real data enter the record.")
        wanted = _test_images(name, config)
        absent = sorted(wanted - set(per_image.loc[per_image["dataset"] == name, "image_id"]))
        if absent:
            raise UserError(
                f"{folder} lacks predictions of {len(absent)} test images of {name} ({absent[0]}, ...). "
                "Run it again with n_test at its full value."
            )
    return source["finished"], tuple(config[name] for name in ("chapter", "mode", "arm", "seed"))


def _read_object(path):
    try:
        return read_json_object(path)
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); restore it, or run the chapter again.") from error


def _test_images(name, config):
    """Ids of the test images that a run must have predicted."""
    if name in datasets.FIELD_DATASETS:
        target = config["arm"].split("/")[1]
        if target == "classes":
            # Runs of chapter 1 don't name the kind of their crops.
            return set(crops.list_crops(name, "test", config.get("crops", "wide"))["image_id"])
        return set(fields.list_fields(name, target, "test"))
    split = datasets.read_split(name)
    chosen = (split["split"] == "test") & split["cell_type"].isin(config["cell_types"])
    return set(split.loc[chosen, "image_id"])


def _copy_to_record(folder, record):
    config = _read_object(folder / "config.json")
    target = record / config["chapter"] / config["mode"] / folder.name
    target.parent.mkdir(parents=True, exist_ok=True)
    stem = folder.name.rsplit("-", 1)[0]
    older = [path for path in target.parent.glob(f"{stem}-*") if path.name.rsplit("-", 1)[0] == stem]
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".partial-") as temporary:
        copy = Path(temporary) / target.name
        copy.mkdir()
        for name in RECORD_FILES:
            if (folder / name).exists():
                shutil.copyfile(folder / name, copy / name)
        for path in older:
            shutil.rmtree(path)
        copy.rename(target)
    return target


def load_runs(root):
    """Read finished runs.

    Parameters
    ----------
    root : path-like or list of path-like
        Folders that are or hold run folders, at any depth; they may be absent.

    Returns
    -------
    scores : pandas.DataFrame
        One row a run and dataset: ``chapter``, ``mode``, ``method``, ``target``, ``seed``,
        ``dataset``, the scores of metrics.json, and ``commit``, ``device``, ``wall_s``, ``run``.
    per_image : pandas.DataFrame
        The runs' per-image tables, with ``method``, ``target`` and ``seed``.
    """
    rows, tables = [], []
    roots = [root] if isinstance(root, str | os.PathLike) else root
    for path in [path for one in roots for path in sorted(Path(one).rglob("metrics.json"))]:
        folder = path.parent
        config, arm = _read_config(folder)
        metrics = _read_object(path)
        source = _read_object(folder / "provenance.json")
        run = {k: v for k, v in metrics.items() if k != "datasets"}
        run |= {
            "commit": source["commit"],
            "device": source["device"],
            "wall_s": source["wall_s"],
            "run": folder.name,
        }
        for dataset, scores in metrics["datasets"].items():
            identity = {"chapter": config["chapter"], "mode": config["mode"], **arm, "dataset": dataset}
            rows.append(identity | _nan_null(scores | run))
        table = pd.read_csv(folder / "per_image.csv", keep_default_na=False, dtype={"image_id": str})
        tables.append(table.assign(**arm))
    scores = pd.DataFrame(rows)
    per_image = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    return scores, per_image


def _nan_null(scores):
    """Undo what `_null_nan` did to the scores of a dataset."""
    return {name: float("nan") if value is None else value for name, value in scores.items()}


def load_history(root):
    """Read the training curves of finished runs.

    Parameters
    ----------
    root : path-like
        A folder that holds run folders, at any depth.

    Returns
    -------
    pandas.DataFrame
        The rows of every ``history.csv``, with ``method``, ``target`` and ``seed``.
    """
    tables = []
    for path in sorted(Path(root).rglob("history.csv")):
        _, arm = _read_config(path.parent)
        tables.append(pd.read_csv(path).assign(**arm))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _read_config(folder):
    """Read a run's configuration, and from it what tells the run from its chapter's others."""
    config = _read_object(folder / "config.json")
    method, target = config["arm"].split("/")
    return config, {"method": method, "target": target, "seed": config["seed"]}


def best_record_mode(chapter, *, record=RECORD):
    """Return the largest mode that a chapter has a record of.

    Parameters
    ----------
    chapter : str
    record : path-like

    Returns
    -------
    {"full", "workstation", None}
    """
    return next(iter(record_modes(chapter, record=record)), None)


def record_modes(chapter, *, record=RECORD):
    """List the modes that a chapter has a record of, the largest first.

    Parameters
    ----------
    chapter : str
    record : path-like

    Returns
    -------
    list of str
        Out of "full" and "workstation".
    """
    folder = Path(record) / chapter
    return [mode for mode in ("full", "workstation") if any((folder / mode).rglob("metrics.json"))]


def list_records(*, record=RECORD):
    """List the runs in the record.

    Parameters
    ----------
    record : path-like

    Returns
    -------
    pandas.DataFrame
        One row a run: ``chapter``, ``mode``, ``arm``, ``seed``, ``datasets``, ``minutes`` of training,
        ``device``, ``commit``.
    """
    scores, _ = load_runs(record)
    columns = ["chapter", "mode", "arm", "seed", "datasets", "minutes", "device", "commit"]
    if scores.empty:
        return pd.DataFrame(columns=columns)
    scores["arm"] = scores["method"] + "/" + scores["target"]
    grouped = scores.groupby(["chapter", "mode", "arm", "seed"], as_index=False).agg(
        datasets=("dataset", ", ".join),
        train_s=("train_s", "first"),
        device=("device", "first"),
        commit=("commit", "first"),
    )
    grouped["minutes"] = (grouped["train_s"] / 60).round(1)
    grouped["commit"] = grouped["commit"].str[:8]
    return grouped[columns]


def _null_nan(value):
    if isinstance(value, dict):
        return {key: _null_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and value != value else value

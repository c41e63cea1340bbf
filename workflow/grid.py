"""The trainings of the book as parts that can run alone: which are missing, and how to ask for one."""

import argparse
import dataclasses
import json
import re
import shlex
from pathlib import Path

from dependencies import chapter_inputs, digest_files, toc_notebooks

from bloodcells import chapters
from bloodcells.errors import UserError, told_in_one_line

PAIRED = "paired"
"""The part of chapter 7 with all networks whose answers are averaged."""


@dataclasses.dataclass(frozen=True)
class Part:
    """What one job runs of a chapter.

    Attributes
    ----------
    name : str
        Tells the part from the others of its chapter and mode; a name for files.
    arms : tuple of str
        None: a chapter without arms, which trains nothing.
    seed, n_seeds : int
        The first seed, and how many.
    """

    name: str
    arms: tuple = ()
    seed: int = 0
    n_seeds: int = 1

    def options(self):
        """Return the words for the command line of ``bloodcells run``.

        Returns
        -------
        str
            Quoted for a shell.

        Examples
        --------
        >>> print(Part("unet-cell-s1", ("unet/cell",), seed=1).options())
        -p arms '["unet/cell"]' -p seed 1 -p n_seeds 1
        """
        if not self.arms:
            return ""
        values = {"arms": json.dumps(self.arms), "seed": str(self.seed), "n_seeds": str(self.n_seeds)}
        return shlex.join(word for pair in values.items() for word in ("-p", *pair))


def choose_chapters(root, mode, wanted=None):
    """Choose the chapters of a grid.

    Parameters
    ----------
    root : pathlib.Path
        The checkout.
    mode : str
    wanted : object, optional
        Starts of chapters' names, as a configuration has them: ``"01,05"``, ``["01", "05"]`` or the number 5.
        Default: all chapters of the book that have this mode.

    Returns
    -------
    dict of str to pathlib.Path
        Chapter id to notebook.

    Raises
    ------
    UserError
        If a chapter isn't there or doesn't have the mode.
    """
    found = toc_notebooks(root)
    if wanted is None:
        chosen = {name: path for name, path in found.items() if chapters.parameters_file(path, mode).exists()}
        if not chosen:
            raise UserError(f"No chapter has a mode {mode!r}; expected workstation or full.")
        return chosen
    words = wanted if isinstance(wanted, list) else str(wanted).split(",")
    # YAML and Snakemake take 05 for the number 5.
    names = [str(word).strip().zfill(2) for word in words]
    chosen = {
        path.stem: path for path in (chapters.find(name, notebooks=root / "notebooks") for name in names)
    }
    for path in chosen.values():
        chapters.choose_parameters(path, mode=mode)
    return chosen


def all_parts(notebook, mode):
    """Divide a chapter into parts that can run alone.

    That is one arm and one seed, except where trainings meet in one process: an encoder of chapter 4 is
    schooled once for all its arms of a seed, and the networks whose answers chapter 7 averages are needed
    together, with all their seeds.

    Parameters
    ----------
    notebook : pathlib.Path
    mode : {"workstation", "full"}

    Returns
    -------
    list of Part

    Raises
    ------
    UserError
        If the chapter doesn't have the mode.
    """
    values = chapters.parameters(notebook) | chapters.choose_parameters(notebook, mode=mode)
    if "arms" not in values:
        return [Part("whole")]
    trainings = {}
    for arm in values["arms"]:
        for seed in range(values["seed"], values["seed"] + values["n_seeds"]):
            trainings.setdefault(_part_name(arm, seed, values), []).append((arm, seed))
    parts = []
    for name, found in trainings.items():
        arms, seeds = (tuple(dict.fromkeys(of)) for of in zip(*found, strict=True))
        parts.append(Part(name, arms, seeds[0], len(seeds)))
    return parts


def _part_name(arm, seed, values):
    """Name the part that a training belongs to."""
    method, target = arm.split("/")
    if "pretraining_epochs" in values:
        from bloodcells.backbone_reports import parse_method

        parsed = parse_method(method, source=values["source"])
        if parsed.source == "blood":
            return f"{parsed.encoder}-schooled-s{seed}"
    averaged = {name for pair in values.get("pairs", []) for name in pair.split("+")}
    if target == "classes" and method in averaged:
        return PAIRED
    return f"{_slug(arm)}-s{seed}"


def _slug(arm):
    return re.sub("[^a-z0-9_]+", "-", arm)


def missing_parts(notebook, mode, record):
    """List the parts of a chapter that the record lacks.

    Parameters
    ----------
    notebook : pathlib.Path
    mode : {"workstation", "full"}
    record : pathlib.Path
        Root of the record. A run in it counts by its chapter, mode, arm and seed.

    Returns
    -------
    list of Part
        Of a schooled encoder only the arms that are missing.
    """
    recorded = _recorded(record / notebook.stem / mode)
    missing = []
    for part in all_parts(notebook, mode):
        if not part.arms:
            missing += [] if recorded else [part]
            continue
        seeds = range(part.seed, part.seed + part.n_seeds)
        lacking = tuple(arm for arm in part.arms if any((arm, seed) not in recorded for seed in seeds))
        if lacking:
            missing.append(part if part.name == PAIRED else dataclasses.replace(part, arms=lacking))
    return missing


def _recorded(folder):
    """Return the (arm, seed) of the finished runs in a folder."""
    configs = [path.with_name("config.json") for path in folder.glob("*/metrics.json")]
    found = [json.loads(path.read_text(encoding="utf-8")) for path in configs]
    return {(config["arm"], config["seed"]) for config in found}


def digest_inputs(notebook, root):
    """Hash what decides a training: the chapter, the code and the lists of data that it uses.

    The record and the claims, which a chapter only shows, are left out, or every promoted run would make the
    others stale.

    Parameters
    ----------
    notebook : pathlib.Path
    root : pathlib.Path
        The checkout.

    Returns
    -------
    str
        Hexadecimal digits. A parameter of the jobs: unlike input files it needs no shared file system.
    """
    used = [path for path in chapter_inputs(notebook, root) if not path.startswith(("book/", "_build/"))]
    files = [notebook, *sorted((notebook.parent / "params").glob(f"{notebook.stem}.*"))]
    return digest_files([*(path.relative_to(root) for path in files), *used], root)


def gather(folder):
    """Put the scores of all finished runs below a folder into one table.

    Parameters
    ----------
    folder : path-like

    Returns
    -------
    pandas.DataFrame
        One row a run and dataset, see `bloodcells.results.load_runs`.
    """
    from bloodcells.results import load_runs

    return load_runs(folder)[0]


def main():
    """Write the table of a folder of runs."""
    from bloodcells.files import write_text

    parser = argparse.ArgumentParser(description=gather.__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("table", type=Path)
    arguments = parser.parse_args()
    table = gather(arguments.folder)
    write_text(arguments.table, table.to_csv(index=False))
    n_runs = table["run"].nunique() if len(table) else 0
    print(f"{n_runs} runs; into the record with: bloodcells results promote {arguments.folder}")


if __name__ == "__main__":
    with told_in_one_line():
        main()

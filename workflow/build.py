"""Build the book: see which data can be had, then hand over to Snakemake."""

import argparse
import fcntl
import os
import sys
from pathlib import Path

from dependencies import chapter_datasets, toc_notebooks

ROOT = Path(__file__).resolve().parents[1]


def write_if_changed(path, text):
    """Write a small text file unless it says so already, so that time stamps mean a change.

    Parameters
    ----------
    path : pathlib.Path
        The file; its folder is made.
    text : str
        What it shall say.
    """
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def probe_data(root):
    """Fetch the datasets the chapters read and note which of them could be had.

    The notes are inputs of the chapters in the build graph: a chapter that was executed on drawn smears
    is executed again once its data is there.

    Parameters
    ----------
    root : pathlib.Path
        The checkout; writes ``_build/data/<name>.txt``, which holds ``real`` or ``drawn``.

    Returns
    -------
    list of str
        The datasets that could not be had.
    """
    missing = []
    names = {name for path in toc_notebooks(root).values() for name in chapter_datasets(path, root)}
    if not names:
        return missing

    # Imported late: pandas and its friends take a second that a book without data need not wait for.
    from bloodcells.datasets import fetch
    from bloodcells.errors import DataUnavailableError

    for name in sorted(names):
        state = "real"
        try:
            fetch(name, progress=sys.stderr.isatty())
        except DataUnavailableError as error:
            print(f"data: {name}: {error}", flush=True)
            state = "drawn"
            missing.append(name)
        write_if_changed(root / "_build" / "data" / f"{name}.txt", f"{state}\n")
    return missing


def main():
    """Take the build lock, probe the data, and become Snakemake."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cores", default="2")
    parser.add_argument("rest", nargs="*", help="more arguments for Snakemake, after --")
    arguments = parser.parse_args()

    os.chdir(ROOT)
    (ROOT / "_build").mkdir(exist_ok=True)
    # The lock belongs to this process, which becomes Snakemake: however a build ends, its lock ends with it.
    lock = os.open(ROOT / "_build" / ".lock", os.O_CREAT | os.O_WRONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit("Another build of this checkout is running: wait for it, or end it.")
    os.set_inheritable(lock, True)

    from bloodcells.errors import UserError

    try:
        missing = probe_data(ROOT)
    except UserError as error:
        sys.exit(f"data: {error}")
    if missing:
        print(f"data: drawn smears stand in where a chapter needs {', '.join(missing)}.", flush=True)

    snakemake = [sys.executable, "-m", "snakemake", "--snakefile", "workflow/Snakefile"]
    # Snakemake's own lock would outlive a build that is killed; ours does not, and serves the same end.
    options = ["--quiet", "host", "reason", "progress", "--rerun-incomplete", "--keep-going", "--nolock"]
    options += ["--cores", arguments.cores]
    os.execv(sys.executable, [*snakemake, *options, *arguments.rest])


if __name__ == "__main__":
    main()

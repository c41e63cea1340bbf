"""Clear the outputs of notebooks, except in cells whose output nbval checks."""

import sys
from pathlib import Path

import nbformat

from bloodcells.files import write_text

KEEP = "nbval-check-output"


def strip_outputs(notebook):
    """Clear what executing a notebook left in it.

    Parameters
    ----------
    notebook : nbformat.NotebookNode
        Changed in place. Cells tagged ``nbval-check-output`` keep their outputs.

    Returns
    -------
    nbformat.NotebookNode
    """
    for name in ("papermill", "widgets"):
        notebook.metadata.pop(name, None)
    for cell in notebook.cells:
        for name in ("papermill", "execution", "collapsed", "scrolled"):
            cell.metadata.pop(name, None)
        if cell.cell_type == "code" and KEEP not in cell.metadata.get("tags", []):
            cell.outputs = []
            cell.execution_count = None
    return notebook


def main():
    """Strip the notebooks named on the command line; status 1 when one of them changed."""
    changed = False
    for path in map(Path, sys.argv[1:]):
        before = path.read_text(encoding="utf-8")
        after = nbformat.writes(strip_outputs(nbformat.reads(before, as_version=4))) + "\n"
        if after != before:
            write_text(path, after)
            print(f"stripped {path}")
            changed = True
    return int(changed)


if __name__ == "__main__":
    sys.exit(main())

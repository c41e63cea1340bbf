"""Copy into the chapters the outputs that nbval compares, from their last execution (`make outputs`)."""

import sys
from pathlib import Path

import nbformat
from strip_outputs import strip_outputs

from bloodcells.errors import UserError
from bloodcells.files import write_text


def store_outputs(source, executed):
    """Return a chapter with the outputs of its checked cells as executed, and no others.

    Parameters
    ----------
    source, executed : nbformat.NotebookNode
        The chapter, and the same after execution; papermill may have put in a cell of parameters.

    Returns
    -------
    nbformat.NotebookNode

    Raises
    ------
    UserError
        If the execution was of another version of the chapter.
    """
    done = {cell["id"]: cell for cell in executed.cells}
    for cell in source.cells:
        if cell.cell_type != "code":
            continue
        found = done.get(cell["id"])
        if found is None or found.source != cell.source:
            raise UserError(
                f"Cell {cell['id']} changed since the chapter was executed; run `make book` first."
            )
        cell.outputs = _join_streams([output for output in found.outputs if not _is_stderr(output)])
        cell.execution_count = found.execution_count
    return strip_outputs(source)


def _is_stderr(output):
    return output.output_type == "stream" and output.name == "stderr"


def _join_streams(outputs):
    """Join what was printed in one go; the kernel cuts it at random, which would be noise in a diff."""
    joined = []
    for output in outputs:
        if joined and output.output_type == joined[-1].output_type == "stream":
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def main():
    """Store the outputs of every chapter under ``notebooks/``."""
    root = Path(__file__).resolve().parents[1]
    for path in sorted(root.glob("notebooks/*.ipynb")):
        executed = root / "_build" / "runs" / path.stem / "reduced" / path.name
        if not executed.exists():
            sys.exit(f"store_outputs: there is no {executed}; run `make book` first.")
        chapter = store_outputs(nbformat.read(path, as_version=4), nbformat.read(executed, as_version=4))
        nbformat.validate(chapter)
        write_text(path, nbformat.writes(chapter) + "\n")
        print(f"stored the outputs of {path.name}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"store_outputs: {error}")

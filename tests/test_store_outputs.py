import importlib

import nbformat
import pytest

from bloodcells.errors import UserError
from bloodcells.paths import ROOT


@pytest.fixture(scope="module")
def store_outputs():
    """Import the script, which finds its neighbour `strip_outputs` in its own folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "workflow")
        yield importlib.import_module("store_outputs")


def chapter(*, executed):
    """Make a chapter of two code cells, one of them checked, after execution with papermill's cell."""
    v4 = nbformat.v4
    checked = v4.new_code_cell("print(1)", id="checked", metadata={"tags": ["nbval-check-output"]})
    live = v4.new_code_cell("print(2)", id="live")
    cells = [checked, live]
    if executed:
        for count, cell in enumerate(cells, start=2):
            cell.execution_count = count
            cell.outputs = [
                v4.new_output("stream", name="stderr", text="chatter"),
                v4.new_output("stream", name="stdout", text=cell.source[6]),
            ]
        cells = [v4.new_code_cell("mode = 'reduced'", id="injected"), *cells]
    return v4.new_notebook(cells=cells)


def test_only_checked_cells_keep_outputs_and_no_chatter(store_outputs):
    stored = store_outputs.store_outputs(chapter(executed=False), chapter(executed=True))
    checked, live = stored.cells
    assert [output.text for output in checked.outputs] == ["1"]
    assert checked.execution_count == 2
    assert live.outputs == []
    assert live.execution_count is None


def test_text_that_the_kernel_cut_is_joined_up_to_the_next_picture(store_outputs):
    executed, v4 = chapter(executed=True), nbformat.v4
    executed.cells[1].outputs = [
        v4.new_output("stream", name="stdout", text="a\n"),
        v4.new_output("stream", name="stderr", text="chatter"),
        v4.new_output("stream", name="stdout", text="b\n"),
        v4.new_output("display_data", data={"text/plain": "a picture"}),
        v4.new_output("stream", name="stdout", text="c\n"),
    ]
    checked = store_outputs.store_outputs(chapter(executed=False), executed).cells[0]
    assert [output.get("text") for output in checked.outputs] == ["a\nb\n", None, "c\n"]


def test_an_execution_of_another_version_is_refused(store_outputs):
    source = chapter(executed=False)
    source.cells[0].source = "print(3)"
    with pytest.raises(UserError, match="Cell checked changed"):
        store_outputs.store_outputs(source, chapter(executed=True))

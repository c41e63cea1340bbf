"""Chapter 8 on photographs of one's own, by the commands that it prints."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from bloodcells import chapters
from bloodcells.paths import ROOT
from bloodcells.synthetic import draw_smear


def printed_commands(chapter, language):
    """Return the blocks of code of a language in a chapter's prose."""
    cells = json.loads(chapters.find(chapter).read_text(encoding="utf-8"))["cells"]
    prose = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return re.findall(rf"^```{language}\n(.*?)^```$", prose, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.long
def test_a_folder_is_counted_by_the_loop_that_the_chapter_prints(tmp_path):
    (tmp_path / "smears").mkdir()
    n_red = {"few.jpg": 4, "more ones.jpg": 12}
    for seed, (name, n) in enumerate(n_red.items()):
        smear = draw_smear(
            (240, 320), rng=np.random.default_rng(seed), n_rbc=n, n_wbc=1, n_platelets=2, rbc_radius=24.0
        )
        cv2.imwrite(str(tmp_path / "smears" / name), smear.image[..., ::-1])
    (loop,) = (text for text in printed_commands("08", "bash") if "for file in" in text)
    # The chapter runs at the root of the checkout; its folders are elsewhere here.
    loop = loop.replace("counted", f"{tmp_path}/counted").replace("smears/", f"{tmp_path}/smears/")
    paths = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
    }
    done = subprocess.run(
        ["bash", "-e", "-c", loop], cwd=ROOT, env=os.environ | paths, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    notebooks = {path.name for path in (tmp_path / "counted").glob("*.ipynb")}
    assert notebooks == {f"{name}.ipynb" for name in n_red}
    # And the table that the chapter makes of them.
    (code,) = printed_commands("08", "python")
    *lines, table = code.replace('"counted"', repr(str(tmp_path / "counted"))).strip().splitlines()
    scope = {}
    exec("\n".join([*lines, f"table = {table}"]), scope)
    counts = scope["table"].set_index("image")
    assert set(counts.index) == set(n_red)
    assert counts.loc["few.jpg", "rbc"] < counts.loc["more ones.jpg", "rbc"]

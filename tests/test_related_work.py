import pytest

from bloodcells import claims
from bloodcells.errors import UserError
from bloodcells.related_work import related_work_table

HEAD = "chapter,where,work,method,target,metric,value\n"


def write(tmp_path, text):
    path = tmp_path / "related_work.csv"
    path.write_text(text)
    return path


def test_figures_are_laid_out_in_the_order_of_the_file(tmp_path):
    rows = ["z,Table 3,B,snake,nucleus,dice,0.5", "z,Table 3,A,tree,nucleus,dice,0.25"]
    rows += ["z,Table 3,A,tree,nucleus,precision,1", "y,Table 1,C,x,nucleus,dice,0.1"]
    table = related_work_table("z", path=write(tmp_path, HEAD + "\n".join(rows)))
    assert table.index.tolist() == [("B", "snake"), ("A", "tree")]
    assert table.columns.tolist() == [("nucleus", "dice"), ("nucleus", "precision")]
    assert table.to_numpy().tolist() == [["0.5000", "-"], ["0.2500", "1.0000"]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "can't be read as CSV"),
        ("chapter,value\n", "expected the columns chapter, where"),
        (HEAD, "nothing of chapter 'z'"),
        (HEAD + "z,T,A,x,nucleus,dice,95.3\n", "one fraction .* 'value': 95.3"),
        (HEAD + "z,T,A,x,nucleus,dice,0.9\nz,T,A,x,nucleus,dice,0.8\n", "one fraction .* 'value': 0.8"),
    ],
)
def test_damaged_files_are_refused(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        related_work_table("z", path=write(tmp_path, text))


def test_the_papers_own_row_is_that_of_its_first_table():
    """bendiabdallah2021 repeats in Table 3 what Table 1 has of ResNet-50 with cross-entropy."""
    chapter = "04_bendiabdallah2021_backbones"
    table = related_work_table(chapter)
    assert len(table) == 7
    own = table.loc[("the paper", "U-Net on ResNet-50")]
    printed = {
        (claim["target"], claim["metric"]): f"{claim['value']:.4f}"
        for claim in claims.load(chapter)
        if claim["kind"] == "value" and claim["method"] == "resnet50_ce" and claim["where"] == "Table 1"
    }
    assert own.to_dict() == {key: printed[key] for key in own.index}

"""Tables made from runs whose scores are known, and the README's from the committed record."""

import pandas as pd
import pytest

from bloodcells import claims, reports, results
from bloodcells.errors import UserError

CHAPTER = "05_nasser2025_wcsegnet"


def test_side_by_side_puts_paper_record_and_run_together(make_run, tmp_path):
    results.promote(make_run(tmp_path / "runs"), record=tmp_path / "record")
    live, _ = results.load_runs(tmp_path / "runs")
    table = reports.side_by_side(CHAPTER, live.assign(dice=0.5), record=tmp_path / "record")
    row = table.loc[("nucleus", "jiangxi", "dice")]
    assert row["WCSegNet"].to_dict() == {"paper": 0.9653, "record": 1.0, "this run": 0.5}
    assert row["U-Net (ReLU)"]["paper"] == 0.8991
    assert set(table.index.unique("metric")) == {"accuracy", "precision", "dice", "mean IoU", "cell accuracy"}


def test_the_score_table_shows_intervals(make_run, tmp_path):
    make_run(tmp_path)
    table = reports.score_table(results.load_runs(tmp_path)[0])
    row = table.loc[("nucleus", "jiangxi", "WCSegNet", 0)]
    assert row["n"] == 46  # Jiangxi's test part less its eosinophils and monocytes
    assert row["dice"] == row["cell accuracy"] == "1.000\u00a0[1.000,\u00a01.000]"
    assert reports.score_table(pd.DataFrame()).empty


def test_drawn_data_is_named_and_real_data_is_not_called_drawn():
    assert "drawn smears" in reports.caption("T", "reduced", ("synthetic",))
    card = reports.run_card(CHAPTER, "reduced", ("jiangxi", "bcisc"), "CPU")
    assert card.facts["data"] == "jiangxi, bcisc"
    assert "drawn smears" not in card._repr_mimebundle_()["text/plain"]


def test_the_run_card_tells_what_is_recorded(make_run, tmp_path):
    def record(chapter):
        card = reports.run_card(chapter, "reduced", ("jiangxi",), "CPU", record=tmp_path / "record")
        return card.facts["record"]

    assert record(CHAPTER) == "none yet"
    # Without larger sizes there is nothing to record.
    assert record("08_count_your_own") == "needs none"
    for seed, words in enumerate(("workstation: 1 run, ", "workstation: 2 runs, ")):
        results.promote(make_run(tmp_path / f"runs{seed}", seed=seed), record=tmp_path / "record")
        assert record(CHAPTER).startswith(words)


def test_writing_the_readme_table_leaves_the_rest(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- results: begin -->\nold\n<!-- results: end -->\nafter\n")
    reports.write_readme_table(readme=readme)
    first = readme.read_text()
    assert first.startswith("before\n<!-- results: begin -->\n| chapter |")
    assert first.endswith("|\n<!-- results: end -->\nafter\n")
    assert "old" not in first
    reports.write_readme_table(readme=readme)
    assert readme.read_text() == first
    readme.write_text("no marks")
    with pytest.raises(UserError, match="once each"):
        reports.write_readme_table(readme=readme)
    assert readme.read_text() == "no marks"


def test_the_readme_shows_the_table_of_the_record():
    readme = (results.ROOT / "README.md").read_text(encoding="utf-8")
    shown = readme.split("<!-- results: begin -->")[1].split("<!-- results: end -->")[0].strip()
    assert shown == reports.readme_table().strip()


def test_claims_are_judged_by_the_largest_mode_that_has_their_runs(make_run, tmp_path):
    for arm, mode in (("wcsegnet", "full"), ("wcsegnet", "workstation"), ("unet_relu", "workstation")):
        run = make_run(tmp_path / "runs", arm=f"{arm}/nucleus", mode=mode)
        results.promote(run, record=tmp_path / "record")
    assert results.record_modes(CHAPTER, record=tmp_path / "record") == ["full", "workstation"]
    found = {claim["id"]: claim for claim in claims.load(CHAPTER)}
    table = reports.chapter_verdicts(CHAPTER, record=tmp_path / "record").set_index("id")
    assert list(table.index) == list(found)
    needs = {i: {claim.get("method"), *claim.get("methods", [])} - {None} for i, claim in found.items()}
    judged = table[~table["ours"].isin(claims.UNTESTED)]["ours"]
    one = [i for i in judged.index if needs[i] == {"wcsegnet"}]
    other = [i for i in judged.index if "unet_relu" in needs[i]]
    assert one
    assert other
    assert judged[one].str.endswith("; full").all()
    assert judged[other].str.endswith("; workstation").all()
    # Beside the paper's figures stands each network's largest run alone.
    shown = reports._load_record(CHAPTER, tmp_path / "record")
    assert dict(zip(shown["method"], shown["mode"], strict=True)) == {
        "wcsegnet": "full",
        "unet_relu": "workstation",
    }


def test_the_results_page_begins_with_the_verdicts_of_every_chapter(make_run, tmp_path):
    results.promote(make_run(tmp_path / "runs"), record=tmp_path / "record")
    page = reports.results_page(record=tmp_path / "record")
    table = [row.split(" | ") for row in page.split("\n\n")[0].splitlines()]
    assert table[0] == ["| chapter", "record", *claims.VERDICTS, "our own, reproduced |"]
    rows = {row[0]: row[1:] for row in table[2:]}
    assert list(rows) == [f"| {{doc}}`{int(c[:2])} </notebooks/{c}>`" for c in claims.chapters()]
    for chapter in claims.chapters():
        mode, *counts, own = rows[f"| {{doc}}`{int(chapter[:2])} </notebooks/{chapter}>`"]
        assert mode == ("workstation" if chapter == CHAPTER else "none yet")
        is_own = [claim["where"].startswith(claims.OWN) for claim in claims.load(chapter)]
        assert sum(int(n) for n in counts) == is_own.count(False)
        # Without runs nothing is reproduced.
        assert own == (f"0 of {sum(is_own)} |" if any(is_own) else " |")
    # Without a record nothing is tested.
    assert rows["| {doc}`1 </notebooks/01_tran2019_segnet>`"][1:-2] == ["0"] * 4


def test_the_results_page_tells_our_own_claims_from_the_papers(tmp_path):
    page = reports.results_page(record=tmp_path / "record")
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    assert ["claim", "target", "where", "claimed", "ours", "difference", "verdict"] in rows
    (bar,) = (row for row in rows if row[0] == "SegNet on a VGG-16 encoder, test crops: mean IoU")
    assert bar[2:4] == ["our own bar", "at least 0.85"]


def test_the_results_page_folds_away_all_but_the_main_claims(tmp_path):
    page = reports.results_page(record=tmp_path / "record")
    for chapter in claims.chapters():
        number = int(chapter[:2])
        part = page.split(f"## Chapter {number}: claims")[1].split("\n## ")[0]
        assert part.startswith(f"\n\n{{doc}}`/notebooks/{chapter}`\n\n|")
        shown, *folded = part.split("```{dropdown} ")
        n_main = sum(claim.get("headline", False) for claim in claims.load(chapter))
        # A head and a line below it.
        assert shown.count("\n| ") == n_main + 2
        (folded,) = folded
        n_others = len(claims.load(chapter)) - n_main
        assert folded.startswith(f"{n_others} further claims\n| ")
        assert folded.count("\n| ") == n_others + 2
        assert folded.rstrip().endswith("```")

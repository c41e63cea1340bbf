"""Tables made from runs and from the record: for chapters, the README and the results page."""

import dataclasses
from pathlib import Path

import pandas as pd

from bloodcells import claims
from bloodcells.errors import UserError
from bloodcells.files import write_text
from bloodcells.paths import ROOT
from bloodcells.results import (
    RECORD,
    git_state,
    list_records,
    load_runs,
    record_modes,
    versions,
)

_README_MARKS = ("<!-- results: begin -->", "<!-- results: end -->")


def readme_table(*, record=RECORD):
    """Return the results table of the README: the papers' main claims, with their verdicts.

    Parameters
    ----------
    record : path-like

    Returns
    -------
    str
        Markdown.
    """
    lines = ["| chapter | claim | paper | ours (seeds) | verdict |", "| --- | --- | ---: | ---: | --- |"]
    for chapter in claims.chapters():
        table = chapter_verdicts(chapter, record=record)
        for row in table[table["headline"]].itertuples():
            lines.append(f"| {chapter[:2]} | {row.claim} | {row.paper} | {row.ours} | {row.verdict} |")
    return "\n".join(lines) + "\n"


def write_readme_table(*, readme=ROOT / "README.md", record=RECORD):
    """Put the results table between the two marks of the README.

    Parameters
    ----------
    readme : path-like
    record : path-like

    Returns
    -------
    pathlib.Path
        The README.
    """
    readme = Path(readme)
    parts = readme.read_text(encoding="utf-8").split(_README_MARKS[0])
    if len(parts) != 2 or parts[1].count(_README_MARKS[1]) != 1:
        raise UserError(
            f"{readme} must hold {_README_MARKS[0]} and {_README_MARKS[1]} once each, in this order."
        )
    after = parts[1].split(_README_MARKS[1])[1]
    table = readme_table(record=record)
    write_text(readme, f"{parts[0]}{_README_MARKS[0]}\n{table}{_README_MARKS[1]}{after}")
    return readme


def chapter_verdicts(chapter, *, record=RECORD):
    """Judge a chapter's claims by its record.

    Parameters
    ----------
    chapter : str
    record : path-like

    Returns
    -------
    pandas.DataFrame
        See `bloodcells.claims.judge`. A claim is judged by the largest mode that has all the runs it needs;
        where the chapter has a record of several modes, "ours" names it.
    """
    found = claims.load(chapter)
    modes = record_modes(chapter, record=record)
    # The smallest mode last: what has no run there either has none.
    tables = [claims.judge(found, *load_runs(Path(record) / chapter / mode)) for mode in modes]
    if len(tables) < 2:
        return tables[0] if tables else claims.judge(found, *load_runs([]))
    rows = []
    for judged in zip(*(table.to_dict("records") for table in tables), strict=True):
        judged = [row | {"mode": mode} for row, mode in zip(judged, modes, strict=True)]
        row = next((row for row in judged if row["ours"] not in claims.UNTESTED), judged[-1])
        mode = row.pop("mode")
        rows.append(row if row["ours"] in claims.UNTESTED else row | {"ours": f"{row['ours']}; {mode}"})
    return pd.DataFrame(rows)


def _load_record(chapter, record):
    """Read the scores of a chapter's record: each arm's of the largest mode that it was run in."""
    tables = [load_runs(Path(record) / chapter / mode)[0] for mode in record_modes(chapter, record=record)]
    if not tables:
        return load_runs([])[0]
    scores = pd.concat(tables, ignore_index=True)
    return scores[scores["mode"] == scores.groupby(["method", "target"])["mode"].transform("first")]


def printed_and_ours(*, record=RECORD):
    """Put every score that a paper prints beside that of the record.

    Parameters
    ----------
    record : path-like

    Returns
    -------
    pandas.DataFrame
        See `bloodcells.claims.compare_scores`.
    """
    tables = [
        claims.compare_scores(claims.load(chapter), _load_record(chapter, record))
        for chapter in claims.chapters()
    ]
    found = [table for table in tables if len(table)]
    return pd.concat(found, ignore_index=True) if found else tables[0]


def score_table(scores):
    """Lay out the pooled scores of runs for people.

    Parameters
    ----------
    scores : pandas.DataFrame
        From `bloodcells.results.load_runs`; may be empty.

    Returns
    -------
    pandas.DataFrame
        Indexed by target, dataset, method and seed; text, with 95 % intervals where there are some.
    """
    keys = ["target", "dataset", "method", "seed"]
    if scores.empty:
        return pd.DataFrame(columns=keys).set_index(keys)
    named = scores.replace({"method": claims.METHOD_NAMES}).sort_values(
        keys, ascending=[False, True, True, True]
    )

    def interval(name):
        return [
            # No-break spaces: in a narrow table an interval would fall apart into three lines.
            f"{row[name]:.3f}\u00a0[{row[f'{name}_low']:.3f},\u00a0{row[f'{name}_high']:.3f}]"
            for _, row in named.iterrows()
        ]

    table = named[[*keys, "n"]].copy()
    for name in ("dice", "mean_iou", "precision", "accuracy", "cell_accuracy"):
        table[_name_metric(name)] = interval(name)
    return table.set_index(keys)


def side_by_side(chapter, live, *, record=RECORD):
    """Put a chapter's figures beside each other: paper, record and this run.

    Parameters
    ----------
    chapter : str
    live : pandas.DataFrame
        Scores of this run, from `bloodcells.results.load_runs`.
    record : path-like

    Returns
    -------
    pandas.DataFrame
        Rows are target, dataset, metric; columns are method, then source ("paper", "record", "this
        run"); means over seeds.
    """
    keys = ["target", "dataset", "metric", "method"]
    recorded = _load_record(chapter, record)
    found = [claim for claim in claims.load(chapter) if claim["kind"] == "value"]
    metrics_shown = [*dict.fromkeys(claim["metric"] for claim in found), "cell_accuracy"]
    parts = [pd.DataFrame(found)[[*keys, "value"]].assign(source="paper")]
    for source, scores in (("record", recorded), ("this run", live)):
        if len(scores):
            long = scores.melt(["target", "dataset", "method"], metrics_shown, var_name="metric")
            parts.append(long.assign(source=source, value=pd.to_numeric(long["value"])))
    table = pd.concat(parts).pivot_table(
        index=["target", "dataset", "metric"], columns=["method", "source"], values="value", sort=False
    )
    methods = list(dict.fromkeys(claim["method"] for claim in found))
    columns = [(m, s) for m in methods for s in ("paper", "record", "this run") if (m, s) in table.columns]
    table = table[columns].rename(columns=claims.METHOD_NAMES, level="method")
    return table.rename(index=_name_metric, level="metric")


def _name_metric(key):
    return key.replace("_", " ").replace("iou", "IoU")


@dataclasses.dataclass(frozen=True)
class RunCard:
    """What a reader must know of a run before believing a page; displays as a table."""

    facts: dict

    def _repr_mimebundle_(self, **kwargs):
        table = pd.DataFrame({"": self.facts.values()}, index=list(self.facts))
        return {
            "text/html": table.to_html(header=False, border=0),
            "text/plain": table.to_string(header=False),
            # For the book's build, which puts mode and data into every figure's caption.
            "application/vnd.bloodcells.run+json": self.facts,
        }


def describe_data(used):
    """Say in words what a chapter was run on.

    Parameters
    ----------
    used : sequence of str
        Names of datasets.

    Returns
    -------
    str
    """
    return "drawn smears (no real image)" if tuple(used) == ("synthetic",) else ", ".join(used)


def caption(text, mode, used):
    """Return a table's caption that says which run and which data it shows.

    Parameters
    ----------
    text, mode : str
    used : sequence of str
        Names of datasets.

    Returns
    -------
    str
    """
    return f"{text}. Mode: {mode}; data: {describe_data(used)}."


def run_card(chapter, mode, used, device, *, record=RECORD):
    """Describe a run at the top of its chapter.

    Parameters
    ----------
    chapter, mode : str
    used : sequence of str
        Names of datasets.
    device : str
    record : path-like

    Returns
    -------
    RunCard
    """
    import keras  # seconds, which the command line does not have to spend

    commit, dirty = git_state()
    listed = list_records(record=record)
    listed = listed[listed["chapter"] == chapter]
    kept = [
        f"{kept}: {len(runs)} run{'s' if len(runs) > 1 else ''}, {runs['minutes'].sum():.0f} minutes"
        for kept in record_modes(chapter, record=record)
        if len(runs := listed[listed["mode"] == kept])
    ]
    # A chapter without larger sizes has nothing to record.
    has_sizes = (ROOT / "notebooks" / "params" / f"{chapter}.workstation.yml").exists()
    return RunCard(
        {
            "chapter": chapter,
            "mode": mode,
            "data": describe_data(used),
            "device": device,
            "backend": keras.backend.backend(),
            "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
            "commit": "none"
            if commit is None
            else commit[:8] + (", with uncommitted changes" if dirty else ""),
            "record": "; ".join(kept) or ("none yet" if has_sizes else "needs none"),
        }
    )


def results_page(*, record=RECORD):
    """Return the body of the book's results page, all of it computed from the record.

    Parameters
    ----------
    record : path-like

    Returns
    -------
    str
        Markdown, seen from a page of the book: each chapter has a link. Claims of our own are counted
        apart from those of the papers.
    """
    overview, parts = [], []
    for chapter in claims.chapters():
        modes = record_modes(chapter, record=record)
        table = chapter_verdicts(chapter, record=record)
        is_own = table["where"].str.startswith(claims.OWN)
        counts = table.loc[~is_own, "verdict"].value_counts()
        row = {"chapter": chapter_link(chapter), "record": ", ".join(modes) or "none yet"}
        row |= {verdict: counts.get(verdict, 0) for verdict in claims.VERDICTS}
        n_met = (table.loc[is_own, "verdict"] == "reproduced").sum()
        overview.append(row | {"our own, reproduced": f"{n_met} of {is_own.sum()}" if is_own.any() else ""})
        parts.append(f"## Chapter {int(chapter[:2])}: claims\n\n{{doc}}`/notebooks/{chapter}`\n")
        is_main = table["headline"]
        # Not all that is claimed here stands in a paper.
        table = table.rename(columns={"paper": "claimed"})
        table = table[["claim", "target", "where", "claimed", "ours", "difference", "verdict"]]
        parts.append(markdown_table(table[is_main]))
        if not is_main.all():
            parts.append(_folded(f"{(~is_main).sum()} further claims", table[~is_main]))
    parts.insert(0, markdown_table(pd.DataFrame(overview)))
    records = list_records(record=record)
    # Answers that are put together of others' take no training.
    records["minutes"] = records["minutes"].map(lambda minutes: "" if pd.isna(minutes) else f"{minutes:.1f}")
    parts.append("## Runs in the record\n")
    parts.append(_folded(f"All {len(records)} runs", records))
    return "\n".join(parts)


def chapter_link(chapter):
    """Return a link to a chapter, seen from a page of the book.

    Parameters
    ----------
    chapter : str

    Returns
    -------
    str
        Its number, in the words of Sphinx.

    Examples
    --------
    >>> chapter_link("05_nasser2025_wcsegnet")
    '{doc}`5 </notebooks/05_nasser2025_wcsegnet>`'
    """
    return f"{{doc}}`{int(chapter[:2])} </notebooks/{chapter}>`"


def _folded(title, table):
    """Return a table that opens at a click: a page of hundreds of rows hides its point."""
    return f"```{{dropdown}} {title}\n{markdown_table(table)}```\n"


def markdown_table(table):
    """Return a table as Markdown, values as they print.

    Parameters
    ----------
    table : pandas.DataFrame

    Returns
    -------
    str
    """
    lines = ["| " + " | ".join(map(str, table.columns)) + " |", "|" + " --- |" * len(table.columns)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in table.itertuples(index=False)]
    return "\n".join(lines) + "\n"

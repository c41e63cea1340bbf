"""Figures that a paper quotes from other works, shown as quoted and never judged."""

from pathlib import Path

import pandas as pd

from bloodcells.errors import UserError
from bloodcells.paths import ROOT

RELATED_WORK = ROOT / "book" / "related_work.csv"

_COLUMNS = ["chapter", "where", "work", "method", "target", "metric", "value"]


def related_work_table(chapter, *, path=RELATED_WORK):
    """Lay out what a paper quotes, like its own table.

    Parameters
    ----------
    chapter : str
    path : path-like
        A CSV file with one figure a row, a fraction of one: ``chapter``, ``where`` in the paper, ``work``,
        ``method``, ``target``, ``metric`` and ``value``.

    Returns
    -------
    pandas.DataFrame
        Indexed by work and method, columns by target and metric, in the order of the file; text, "-" where
        the paper has no figure.

    Raises
    ------
    UserError
        If the file can't be read or has other columns, a figure occurs twice or is no fraction, or the
        chapter quotes nothing.
    """
    path = Path(path)
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path.name} can't be read as CSV: {' '.join(str(error).split())}.") from error
    if list(table.columns) != _COLUMNS:
        raise UserError(
            f"{path.name}: expected the columns {', '.join(_COLUMNS)}, got {', '.join(table.columns)}."
        )
    table = table[table["chapter"] == chapter]
    if table.empty:
        raise UserError(f"{path.name} has nothing of chapter {chapter!r}.")
    keys = ["work", "method", "target", "metric"]
    wrong = table[table.duplicated(keys) | ~table["value"].between(0, 1)]
    if len(wrong):
        raise UserError(
            f"{path.name}: expected one fraction for each of {', '.join(keys)}, check"
            f" {wrong.iloc[0].to_dict()}."
        )
    laid_out = table.pivot(index=keys[:2], columns=keys[2:], values="value")
    rows, columns = (
        pd.MultiIndex.from_frame(table[names].drop_duplicates()) for names in (keys[:2], keys[2:])
    )
    return laid_out.loc[rows, columns].map(lambda value: "-" if pd.isna(value) else f"{value:.4f}")

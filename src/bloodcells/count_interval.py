"""How far a count may be off, by what happened to the counts of held-out fields.

References
----------
.. [1] S. S. Wilks, "Determination of sample sizes for setting tolerance limits", Annals of Mathematical
   Statistics 12(1), 1941, pp. 91-96, doi:10.1214/aoms/1177731788
"""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd

from bloodcells.counting.find import METHODS
from bloodcells.errors import UserError
from bloodcells.field_reports import agreement_counts
from bloodcells.results import RECORD, load_runs


@dataclasses.dataclass(frozen=True)
class CountInterval:
    """An interval for the true number of cells.

    Attributes
    ----------
    low, high : float
        Cells.
    coverage : float
        Share of fields like the held-out ones whose truth lies in an interval made in this way.
    n_fields : int
        Held-out fields behind it.
    """

    low: float
    high: float
    coverage: float
    n_fields: int


def read_calibration(network, method, *, record=RECORD):
    """Read what a shipped network counted on the held-out fields, from the record of the run it came from.

    Parameters
    ----------
    network : bloodcells.networks.Network
    method : str
        One of `bloodcells.counting.find.METHODS`.
    record : path-like

    Returns
    -------
    n_true, n_pred : ndarray of float, shape (n,)

    Raises
    ------
    UserError
        If the record has no such run.
    """
    found = list(Path(record).glob(f"*/*/{network.card['run']}"))
    if not found:
        raise UserError(
            f"The record has no run {network.card['run']!r}, of which the network for {network.cell} is; the "
            "interval of a count can only be had in a checkout of the book."
        )
    _, per_image = load_runs(found[0])
    # A run is of one network; the record has fields that it learned from, too.
    return agreement_counts(per_image, per_image["method"].iloc[0], network.cell, method)


def count_interval(n_pred, calibration_true, calibration_pred, *, coverage=0.9):
    """Return an interval for the true number of cells behind a count.

    Parameters
    ----------
    n_pred : int
        What was counted.
    calibration_true, calibration_pred : array_like of float, shape (n,)
        True and counted numbers of held-out fields.
    coverage : float
        Wanted, in (0, 1).

    Returns
    -------
    CountInterval or None
        None for a count of 0, or where no held-out field has a count above 0.

    Notes
    -----
    If a new field is exchangeable with the k held-out ones, the ratio of its truth to its count falls
    between the j-th smallest and the j-th largest of theirs with the probability (k + 1 - 2 j) / (k + 1)
    ([1]_), whatever the distribution. The largest j that reaches the wanted coverage is taken; with too few
    fields for it j is 1, and the coverage that is returned is lower than the wanted one.

    Examples
    --------
    >>> count_interval(50, [90, 100, 120], [100, 100, 100], coverage=0.9)  # the ratios are 0.9, 1 and 1.2
    CountInterval(low=45.0, high=60.0, coverage=0.5, n_fields=3)
    """
    if not 0 < coverage < 1:
        raise UserError(f"`coverage` must lie between 0 and 1, got {coverage!r}.")
    true, pred = np.asarray(calibration_true, float), np.asarray(calibration_pred, float)
    if true.shape != pred.shape or true.ndim != 1:
        raise UserError(
            f"Expected as many true as counted numbers, got shapes {true.shape} and {pred.shape}."
        )
    ratios = np.sort(true[pred > 0] / pred[pred > 0])
    k = len(ratios)
    if n_pred == 0 or k == 0:
        return None
    # A little more than the quotient, which may be a rounding error below a whole number.
    j = max(int((k + 1) * (1 - coverage) / 2 + 1e-9), 1)
    return CountInterval(
        low=float(n_pred * ratios[j - 1]),
        high=float(n_pred * ratios[k - j]),
        coverage=(k + 1 - 2 * j) / (k + 1),
        n_fields=k,
    )


def interval_table(counted, networks, *, coverage=0.9, record=RECORD):
    """Tabulate the counts of a photograph with their intervals.

    Parameters
    ----------
    counted : bloodcells.smear.SmearCount
    networks : dict of str to bloodcells.networks.Network
        Those that it was counted with.
    coverage : float
        Wanted, in (0, 1).
    record : path-like

    Returns
    -------
    pandas.DataFrame
        A row for each kind of cell: "method", "count", "low" and "high" (rounded outwards), "coverage, %" and
        "held-out fields" behind it; whole numbers, missing without an interval.
    """
    counts = {cell: (found.method, found.n) for cell, found in counted.cells.items()}
    return _tabulate(counts, networks, coverage, record)


def calibration_table(networks, *, n_pred=100, coverage=0.9, record=RECORD):
    """Tabulate the intervals of one count for all kinds of cells, each counted by its network's own method.

    Parameters
    ----------
    networks : dict of str to bloodcells.networks.Network
    n_pred : int
    coverage, record
        As in `interval_table`.

    Returns
    -------
    pandas.DataFrame
        As from `interval_table`.
    """
    counts = {cell: (network.counting["method"], n_pred) for cell, network in networks.items()}
    return _tabulate(counts, networks, coverage, record)


def _tabulate(counts, networks, coverage, record):
    """Tabulate the intervals of counts, (method, count) by kind of cell."""
    rows = {}
    for cell, (method, n_pred) in counts.items():
        calibration = read_calibration(networks[cell], method, record=record)
        interval = count_interval(n_pred, *calibration, coverage=coverage)
        rows[cell] = {"method": METHODS[method], "count": n_pred}
        if interval is not None:
            rows[cell] |= {
                "low": int(np.floor(interval.low)),
                "high": int(np.ceil(interval.high)),
                "coverage, %": round(100 * interval.coverage),
                "held-out fields": interval.n_fields,
            }
    of_interval = ["low", "high", "coverage, %", "held-out fields"]
    table = pd.DataFrame.from_dict(rows, orient="index").reindex(columns=["method", "count", *of_interval])
    # Whole numbers also where a kind without an interval leaves a gap.
    return table.astype(dict.fromkeys(of_interval, "Int64"))

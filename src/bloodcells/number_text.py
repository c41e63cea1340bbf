"""Numbers as text for tables."""

import pandas as pd


def mean_with_range(values, digits=3, *, range_digits=None, space=" "):
    """Write the mean of the runs of one network, and their range where there are several.

    Parameters
    ----------
    values : sequence of float
        One a run.
    digits : int
        After the point, of the mean.
    range_digits : int, optional
        Of the range, by default as many.
    space : str
        Within the range; a no-break space keeps it in one line of a narrow column.

    Returns
    -------
    str
        "missing" of no value.

    Examples
    --------
    >>> mean_with_range([0.5, 0.75], 2)
    '0.62 (0.50 to 0.75)'
    """
    values = pd.Series(values, dtype=float)
    if values.empty:
        return "missing"
    text = f"{values.mean():.{digits}f}"
    if len(values) == 1:
        return text
    of_range = digits if range_digits is None else range_digits
    low, high = (f"{value:.{of_range}f}" for value in (values.min(), values.max()))
    return f"{text} ({low}{space}to{space}{high})"


def with_sign(value, digits):
    """Write a difference with its sign, but zero, and what rounds to it, without one.

    Parameters
    ----------
    value : float
    digits : int
        After the point.

    Returns
    -------
    str

    Examples
    --------
    >>> with_sign(0.26, 1), with_sign(-0.04, 1)
    ('+0.3', '0.0')
    """
    text = f"{value:+.{digits}f}"
    return text if float(text) else text[1:]

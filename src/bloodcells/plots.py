"""Figures that several chapters draw."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import to_rgb
from matplotlib.ticker import LogLocator, MaxNLocator
from scipy import ndimage as ndi
from skimage.segmentation import find_boundaries

from bloodcells.claims import METHOD_NAMES
from bloodcells.counting.find import METHODS

PAPER_COLOURS = {"neutrophil": "#ff0000", "lymphocyte": "#0000ff", "basophil": "#00ff00"}
"""nasser2025, section 2.5."""

SAFE_COLOURS = {"neutrophil": "#d55e00", "lymphocyte": "#0072b2", "basophil": "#f0e442"}
"""From the palette of Okabe and Ito, told apart with every common colour vision."""


def use_book_style():
    """Set fonts, sizes and resolution of a chapter's figures, and let its tables show every row whole."""
    pd.set_option("display.max_colwidth", None, "display.max_rows", None, "display.width", None)
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind")
    plt.rcParams |= {"figure.dpi": 200, "savefig.dpi": 200, "figure.constrained_layout.use": True}


def paint_classes(classes, colours):
    """Paint a map of classes.

    Parameters
    ----------
    classes : ndarray of int, shape (M, N)
        0 is background, i the i-th key of `colours`.
    colours : dict of str to str
        Type to colour.

    Returns
    -------
    ndarray of float, shape (M, N, 3)
        In [0, 1]; the background is black.
    """
    palette = np.array([(0.0, 0.0, 0.0)] + [to_rgb(colour) for colour in colours.values()])
    return palette[classes]


def outline_classes(image, classes, colours):
    """Draw the outline of each class on an image.

    Parameters
    ----------
    image : ndarray of uint8, shape (M, N, 3)
    classes : ndarray of int, shape (M, N)
        0 is background, i the i-th key of `colours`.
    colours : dict of str to str

    Returns
    -------
    ndarray of float, shape (M, N, 3)
        In [0, 1].
    """
    drawn = image / 255
    edge = find_boundaries(classes, mode="thick")
    # The boundary lies on both sides: give its outer pixels the class they enclose.
    cross = ndi.generate_binary_structure(2, 1)
    inside = ndi.maximum_filter(classes, footprint=cross, mode="nearest")
    drawn[edge] = paint_classes(inside, colours)[edge]
    return drawn


def overlay_classes(image, labels, classes, colours, *, opacity=0.45):
    """Lay the colour of its class over each pixel of an image; pixels without a label keep their own.

    Parameters
    ----------
    image : ndarray of uint8, shape (M, N, 3)
    labels : ndarray of uint8, shape (M, N)
        Class i is ``classes[i]``; anything else is no label.
    classes : sequence of str
    colours : dict of str to str
        Class to colour.
    opacity : float
        Of the colour, in [0, 1].

    Returns
    -------
    ndarray of float, shape (M, N, 3)
        In [0, 1].
    """
    palette = np.array([to_rgb(colours[name]) for name in classes])
    drawn, labelled = image / 255, labels < len(classes)
    drawn[labelled] = (1 - opacity) * drawn[labelled] + opacity * palette[labels[labelled]]
    return drawn


def plot_confusion(axis, table, *, title=None):
    """Show a confusion matrix in per cent of the true classes.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    table : pandas.DataFrame of float
        From `bloodcells.class_reports.confusion_table`.
    title : str, optional
    """
    sns.heatmap(
        table, annot=True, fmt=".1f", vmin=0, vmax=100, cmap="Blues", cbar=False, square=True, ax=axis
    )
    axis.set(title=title)


def plot_cells(samples, *, n_columns=3):
    """Show images of single cells over their truth.

    Parameters
    ----------
    samples : list of bloodcells.datasets.Sample
        One column each.
    n_columns : int
        How many of them to show.

    Returns
    -------
    matplotlib.figure.Figure
    """
    samples = samples[:n_columns]
    figure, axes = plt.subplots(2, len(samples), figsize=(2.6 * len(samples), 5.4), squeeze=False)
    for column, sample in enumerate(samples):
        truth = sample.cell.astype(float) * 0.5
        if sample.nucleus is not None:
            truth[sample.nucleus] = 1
        axes[0, column].imshow(sample.image)
        axes[0, column].set_title(f"{sample.dataset} {sample.image_id}\n{sample.cell_type}", fontsize=10)
        axes[1, column].imshow(truth, cmap="gray", vmin=0, vmax=1)
    for axis in axes.flat:
        axis.set_axis_off()
    return figure


def plot_histories(histories, *, columns=("loss", "val_loss"), titles=("training loss", "validation loss")):
    """Show training curves, a line a method and seed.

    Parameters
    ----------
    histories : dict of str to pandas.DataFrame
        Panel title to curves, as from `bloodcells.results.load_history`; an empty table leaves its
        panel out.
    columns, titles : sequence of str
        Curves to show, and what to call them.

    Returns
    -------
    matplotlib.figure.Figure
    """
    # A name that isn't known is shown as it is: seaborn would leave its curve out without a word.
    tables = {
        name: table.replace({"method": METHOD_NAMES}) for name, table in histories.items() if len(table)
    }
    # One colour and one line a method in all panels, whichever methods a panel has.
    methods = list(dict.fromkeys(method for table in tables.values() for method in table["method"]))
    figure, axes = plt.subplots(
        len(tables), len(columns), figsize=(4.6 * len(columns), 3.2 * len(tables)), squeeze=False
    )
    for row, (name, table) in zip(axes, tables.items(), strict=True):
        for axis, column, title in zip(row, columns, titles, strict=True):
            sns.lineplot(
                table,
                x="epoch",
                y=column,
                hue="method",
                hue_order=methods,
                style="method",
                style_order=methods,
                units="seed",
                estimator=None,
                ax=axis,
            )
            axis.set(title=f"{name}: {title}", ylabel="loss", yscale="log")
            axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axis.yaxis.set_major_locator(_choose_log_ticks(*axis.get_ylim()))
            axis.yaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_minor_formatter("")
            handles, labels = axis.get_legend_handles_labels()
            axis.legend().remove()
    # Below the panels, where it hides no curve.
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 3), fontsize=10)
    return figure


def _choose_log_ticks(low, high):
    """Choose ticks of a logarithmic axis that neither touch nor are missing."""
    if high < 3 * low:
        return MaxNLocator(4)
    return LogLocator(subs=(1, 2, 5) if high < 50 * low else (1, 3))


def plot_predictions(rows, colours=SAFE_COLOURS):
    """Show image, truth and prediction, in painted classes and as outlines.

    Parameters
    ----------
    rows : list of tuple
        (title, image, true, pred): str, uint8 (M, N, 3) and two class maps (M, N).
    colours : dict of str to str
        For the outlines; the painted maps use the paper's colours.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes = plt.subplots(len(rows), 5, figsize=(10.5, 2.35 * len(rows)), squeeze=False)
    titles = ("image", "truth", "prediction", "truth, outlined", "prediction, outlined")
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=10)
    for line, (title, image, true, pred) in zip(axes, rows, strict=True):
        panels = [image, paint_classes(true, PAPER_COLOURS), paint_classes(pred, PAPER_COLOURS)]
        panels += [outline_classes(image, true, colours), outline_classes(image, pred, colours)]
        for axis, panel in zip(line, panels, strict=True):
            axis.imshow(panel)
            axis.set(xticks=[], yticks=[])
            axis.grid(visible=False)
        line[0].set_ylabel(title, fontsize=11)
    return figure


def plot_type_tables(tables, *, n_columns=2):
    """Show confusion matrices of cell types, row by row.

    Parameters
    ----------
    tables : dict of str to pandas.DataFrame
        Title to a table from `bloodcells.metrics.type_table`; may be empty.
    n_columns : int

    Returns
    -------
    matplotlib.figure.Figure
    """
    n_rows = max(1, -(-len(tables) // n_columns))
    figure, axes = plt.subplots(n_rows, n_columns, figsize=(3.9 * n_columns, 3.4 * n_rows), squeeze=False)
    for axis in axes.flat[len(tables) :]:
        axis.set_axis_off()
    for axis, (title, table) in zip(axes.flat, tables.items(), strict=False):
        sns.heatmap(table, annot=True, fmt="d", cmap="Blues", cbar=False, linewidths=0.5, ax=axis)
        axis.set_title(title, fontsize=10)
        axis.tick_params(axis="x", rotation=30)
        axis.tick_params(axis="y", rotation=0)
    return figure


TRUE_COLOUR, FOUND_COLOUR = "#0072b2", "#d55e00"


def plot_counted_field(axis, image, found, outlines=None, *, window=None):
    """Draw what was counted on a field, and its true outlines.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    image : ndarray of uint8, shape (M, N, 3)
    found : ndarray
        Labels, int, shape (M, N), or circles, float, shape (n, 3): row, column, radius.
    outlines : list of ndarray of float, shape (K, 2), optional
        True outlines, vertices (row, column).
    window : tuple of slice, optional
        Rows and columns to show; all by default.
    """
    axis.imshow(image)
    for outline in outlines or []:
        closed = np.vstack([outline, outline[:1]])
        axis.plot(closed[:, 1], closed[:, 0], color=TRUE_COLOUR, linewidth=1.2)
    if np.issubdtype(found.dtype, np.floating):
        for row, column, radius in found:
            axis.add_patch(plt.Circle((column, row), radius, fill=False, color=FOUND_COLOUR, linewidth=1.2))
    elif found.any():
        axis.contour(_relief(found), levels=[0.5], colors=[FOUND_COLOUR], linewidths=1.2)
    if window is not None:
        axis.set_ylim(window[0].stop - 0.5, window[0].start - 0.5)
        axis.set_xlim(window[1].start - 0.5, window[1].stop - 0.5)
    axis.set_axis_off()


def _relief(labels):
    """Take the borders off the labels, so that one contour shows them all."""
    return (labels > 0) & ~find_boundaries(labels, mode="inner")


def plot_agreement(axis, n_true, n_pred, *, label=None):
    """Plot the error of each count against the true count, with bias and limits of agreement.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    n_true, n_pred : array-like of int, shape (n,)
        Cells counted by hand and by a method.
    label : str, optional
        Title of the panel.

    Notes
    -----
    Like the plot of Bland and Altman (1986), but against the truth rather than the mean of the two: one of
    them is taken to be right.
    """
    error = np.asarray(n_pred, float) - np.asarray(n_true, float)
    axis.scatter(n_true, error, s=18, color=FOUND_COLOUR)
    bias, spread = error.mean(), 1.96 * error.std(ddof=1) if len(error) > 1 else 0.0
    axis.axhline(bias, color=TRUE_COLOUR)
    for limit in (bias - spread, bias + spread):
        axis.axhline(limit, color=TRUE_COLOUR, linestyle="--", linewidth=1)
    axis.axhline(0, color="0.5", linewidth=0.8)
    axis.set(xlabel="true count", ylabel="counted - true", title=label)


def plot_count_errors(summary, titles, *, n_columns=4, highest=0.6):
    """Show how counts err, a panel a factor: lines a method, dashed from the truth, solid from a network.

    Parameters
    ----------
    summary : pandas.DataFrame
        From `bloodcells.controlled_counts.summarise`.
    titles : dict of str to str
        Factor to what its axis is called, in the order of the panels.
    n_columns : int
    highest : float
        Upper end of the axis of errors, whose lower end is -1, a fraction of the true count: everything
        missed. What lies above is cut off.

    Returns
    -------
    matplotlib.figure.Figure
    """
    n_rows = -(-len(titles) // n_columns)
    figure, axes = plt.subplots(n_rows, n_columns, figsize=(10.5, 2.7 * n_rows), sharey=True, squeeze=False)
    for axis in axes.flat[len(titles) :]:
        axis.set_axis_off()
    colours = dict(zip(METHODS, sns.color_palette("colorblind"), strict=False))
    for axis, (factor, title) in zip(axes.flat, titles.items(), strict=False):
        of_factor = summary[summary["factor"] == factor]
        for (name, method), lines in of_factor.groupby(["input", "method"], sort=False):
            lines = lines.sort_values("level")
            shown = {"color": colours[method], "linestyle": "--" if name == "truth" else "-"}
            label = METHODS[method] if name == "network" else None
            axis.plot(lines["level"], 100 * lines["error"], marker=".", label=label, **shown)
            axis.fill_between(
                lines["level"],
                100 * lines["low"],
                100 * lines["high"],
                color=colours[method],
                alpha=0.15,
                lw=0,
            )
        axis.set(xlabel=title, ylim=(-105, 100 * highest))
    for axis in axes[:, 0]:
        axis.set_ylabel("error of the count, %")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=9)
    return figure


def plot_printed_and_ours(table, *, lowest=0.3):
    """Show scores that papers print against ours.

    Parameters
    ----------
    table : pandas.DataFrame
        From `bloodcells.reports.printed_and_ours`.
    lowest : float
        Where both axes begin; scores below it, printed or ours, are put on the edge, as triangles.

    Returns
    -------
    matplotlib.figure.Figure
        Colours tell the chapter. Filled: measured on the same kind of data and target; hollow: on a stand-in.
    """
    figure, axis = plt.subplots(figsize=(6.2, 5.4))
    axis.plot([lowest, 1], [lowest, 1], color="0.5", linewidth=1)
    for i, (chapter, rows) in enumerate(table.groupby("chapter")):
        colour, label = f"C{i}", f"chapter {int(chapter[:2])}"
        x, y = (rows[name].clip(lower=lowest) for name in ("paper", "ours"))
        spread = np.abs(rows[["low", "high"]].clip(lower=lowest).sub(y, axis=0)).T
        axis.errorbar(x, y, yerr=spread, fmt="none", ecolor=colour, alpha=0.5)
        faces = np.where(rows["verdict"] == "not tested", "none", colour)
        outside = (rows[["paper", "ours"]] < lowest).any(axis=1).to_numpy()
        for part, marker in ((~outside, "o"), (outside, "v")):
            axis.scatter(x[part], y[part], s=34, marker=marker, facecolors=faces[part], edgecolors=colour)
        axis.scatter([], [], s=34, color=colour, label=label)
    axis.set(xlabel="score printed in the paper", ylabel="our score", aspect="equal")
    axis.set(xlim=(lowest - 0.02, 1.01), ylim=(lowest - 0.02, 1.01))
    place = lowest + 0.16 * (1 - lowest)
    axis.text(
        place,
        place,
        "as printed",
        rotation=45,
        color="0.35",
        ha="center",
        va="bottom",
        rotation_mode="anchor",
    )
    axis.legend(title="filled: tested\nhollow: other data", loc="lower right")
    return figure

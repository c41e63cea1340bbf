import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from bloodcells import plots, synthetic

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_paint_classes_uses_the_papers_colours():
    painted = plots.paint_classes(np.array([[0, 1], [2, 3]]), plots.PAPER_COLOURS)
    # Background black, neutrophil red, lymphocyte blue, basophil green (nasser2025, section 2.5).
    np.testing.assert_array_equal(painted, [[[0, 0, 0], [1, 0, 0]], [[0, 0, 1], [0, 1, 0]]])


def test_overlay_mixes_the_colours_of_labelled_pixels_only():
    image = np.full((1, 3, 3), 51, np.uint8)  # 0.2 of 255
    labels = np.array([[0, 1, 255]], np.uint8)
    colours = {"a": "#ffffff", "b": "#000000"}
    drawn = plots.overlay_classes(image, labels, ("a", "b"), colours, opacity=0.5)
    np.testing.assert_allclose(drawn[0, :, 0], [0.6, 0.1, 0.2])


def test_confusion_shows_every_share():
    table = pd.DataFrame([[90.0, 10.0], [25.0, 75.0]], index=["a", "b"], columns=["a", "b"])
    axis = plt.figure().add_subplot()
    plots.plot_confusion(axis, table, title="record")
    assert [text.get_text() for text in axis.texts] == ["90.0", "10.0", "25.0", "75.0"]
    assert axis.get_title() == "record"


def test_outlines_leave_the_inside_and_the_outside():
    classes = np.zeros((20, 20), dtype=int)
    classes[5:15, 5:15] = 1
    image = np.full((20, 20, 3), 128, np.uint8)
    drawn = plots.outline_classes(image, classes, plots.SAFE_COLOURS)
    changed = (drawn != 128 / 255).any(axis=-1)
    assert not changed[7:13, 7:13].any()
    assert not changed[:4].any()
    assert changed[5, 5:15].all()
    assert len(np.unique(drawn[changed], axis=0)) == 1
    assert (image == 128).all()  # the image itself stays as it was


def test_an_outline_does_not_reach_round_the_image():
    """Class 1 lies at the left border, class 3 at the right: neither colours the other's rim."""
    classes = np.zeros((9, 9), np.uint8)
    classes[3:6, :2], classes[3:6, 7:] = 1, 3
    colours = {"a": "#ff0000", "b": "#00ff00", "c": "#0000ff"}
    drawn = plots.outline_classes(np.zeros((9, 9, 3), np.uint8), classes, colours)
    assert not drawn[:, :4, 2].any()
    assert not drawn[:, 5:, 0].any()
    assert drawn[:, :4, 0].any()
    assert drawn[:, 5:, 2].any()


def test_figures_have_a_panel_for_everything():
    samples = synthetic.load_split("train", limit=3)
    assert len(plots.plot_cells(samples).axes) == 6
    history = pd.DataFrame(
        {"epoch": [1, 2], "loss": [1.0, 0.5], "val_loss": [1.0, 0.6], "seed": 0, "method": "wcsegnet"}
    )
    assert len(plots.plot_histories({"this run": history, "record": pd.DataFrame()}).axes) == 2
    renamed = history.replace("wcsegnet", "my_network")
    figure = plots.plot_histories({"": renamed, "more": pd.concat([history, renamed])})
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["my_network", "WCSegNet"]
    # A method has one colour, also in a panel with others.
    first, second = (
        {line.get_color() for line in axis.lines if len(line.get_xdata())}
        for axis in (figure.axes[0], figure.axes[2])
    )
    assert len(first) == 1
    assert len(second) == 2
    assert first < second
    sample = samples[0]
    row = ("best", sample.image, sample.nucleus.astype(int), sample.nucleus.astype(int))
    figure = plots.plot_predictions([row, row])
    assert len(figure.axes) == 10
    figure.canvas.draw()
    table = pd.DataFrame([[3, 1], [0, 2]], index=["x", "y"], columns=["x", "none"])
    texts = [text.get_text() for text in plots.plot_type_tables({"a": table}).axes[0].texts]
    assert texts == ["3", "1", "0", "2"]


def test_counted_field_draws_every_outline_and_circle():
    image = np.zeros((40, 50, 3), np.uint8)
    outline = np.array([[10.0, 10.0], [10.0, 20.0], [20.0, 20.0]])
    figure, axis = plt.subplots()
    circles = np.array([[12.0, 14.0, 5.0], [30.0, 40.0, 6.0]])
    window = (slice(0, 30), slice(10, 50))
    plots.plot_counted_field(axis, image, circles, [outline], window=window)
    assert len(axis.patches) == 2
    assert axis.patches[0].center == (14.0, 12.0)  # columns first
    np.testing.assert_array_equal(axis.lines[0].get_ydata(), [10, 10, 20, 10])
    assert axis.get_xlim() == (9.5, 49.5)
    assert axis.get_ylim() == (29.5, -0.5)
    plt.close(figure)


def test_counted_field_keeps_touching_labels_apart():
    labels = np.zeros((20, 30), np.int32)
    labels[5:15, 5:15], labels[5:15, 15:25] = 1, 2
    figure, axis = plt.subplots()
    plots.plot_counted_field(axis, np.zeros((20, 30, 3), np.uint8), labels)
    assert len(axis.collections[0].get_paths()[0].to_polygons()) == 2
    plots.plot_counted_field(axis, np.zeros((20, 30, 3), np.uint8), np.zeros((20, 30), np.int32))
    assert len(axis.collections) == 1  # nothing found, nothing drawn
    plt.close(figure)


def test_agreement_lines_by_hand():
    figure, axis = plt.subplots()
    plots.plot_agreement(axis, [10, 20, 30], [11, 20, 32], label="three fields")
    heights = [line.get_ydata()[0] for line in axis.lines]
    # Errors 1, 0 and 2: bias 1, standard deviation 1.
    np.testing.assert_allclose(heights, [1, 1 - 1.96, 1 + 1.96, 0])
    assert axis.get_title() == "three fields"
    plt.close(figure)


def test_every_error_of_a_count_has_its_line():
    """Two factors, two inputs and two methods; the dashed lines are the truth's."""
    rows = [
        {"factor": f, "level": level, "input": i, "method": m, "error": e, "low": e - 0.1, "high": e + 0.1}
        for f in ("blur", "noise")
        for i, e in (("truth", 0.0), ("network", -0.5))
        for m in ("cht", "tree")
        for level in (2, 1)
    ]
    figure = plots.plot_count_errors(pd.DataFrame(rows), {"noise": "noise, grey levels", "blur": "blur"})
    first, second, *empty = figure.axes
    assert [axis.axison for axis in empty] == [False, False]
    assert (first.get_xlabel(), second.get_xlabel()) == ("noise, grey levels", "blur")
    for axis in (first, second):
        lines = axis.get_lines()
        assert sorted(line.get_linestyle() for line in lines) == ["-", "-", "--", "--"]
        for line in lines:
            assert line.get_xdata().tolist() == [1, 2]
            np.testing.assert_allclose(line.get_ydata(), 0 if line.get_linestyle() == "--" else -50)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "circle Hough transform",
        "component tree",
    ]


def test_printed_scores_are_filled_where_they_are_tested():
    table = pd.DataFrame(
        {
            "chapter": ["01_a", "02_b", "02_b"],
            "paper": [0.9, 0.8, 0.65],
            "ours": [0.95, 0.4, -0.4],
            "low": [0.94, 0.2, -0.4],
            "high": [0.96, 0.5, -0.4],
            "verdict": ["not tested", "reproduced", "not reproduced"],
        }
    )
    figure = plots.plot_printed_and_ours(table)
    (axis,) = figure.axes
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert labels == ["chapter 1", "chapter 2"]
    hollow, _, _, filled, below, _ = [
        one for one in axis.collections if hasattr(one, "get_sizes") and one.get_sizes().size
    ]
    assert hollow.get_facecolors()[:, 3].tolist() == [0]
    assert filled.get_facecolors()[:, 3].tolist() == [1]
    np.testing.assert_allclose(filled.get_offsets(), [[0.8, 0.4]])
    # What is below the axes stands on their edge.
    np.testing.assert_allclose(below.get_offsets(), [[0.65, 0.3]])
    assert len(below.get_paths()[0]) < len(filled.get_paths()[0])  # a triangle, not a circle
    plt.close(figure)

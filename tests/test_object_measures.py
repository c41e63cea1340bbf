import numpy as np
import pytest
from skimage.measure import regionprops

from bloodcells.errors import UserError
from bloodcells.object_measures import measure_objects, touching_border, trace_outlines


@pytest.fixture
def labels():
    """Three objects with gaps in their labels: an ellipse that is turned, a disc, and a single pixel."""
    rows, columns = np.ogrid[:60, :80]
    labels = np.zeros((60, 80), np.int32)
    along, across = (rows - 25) + (columns - 25), (rows - 25) - (columns - 25)
    labels[(along / 28) ** 2 + (across / 10) ** 2 <= 1] = 3
    labels[np.hypot(rows - 40, columns - 65) <= 9] = 7
    labels[0, 79] = 9
    return labels


def test_measures_are_those_of_scikit_image(labels):
    probability = np.random.default_rng(0).random(labels.shape)
    found = measure_objects(labels, probability)
    for index, true in enumerate(regionprops(labels, probability)):
        assert found["label"][index] == true.label
        assert found["area"][index] == true.area
        for name, value in {
            "row": true.centroid[0],
            "column": true.centroid[1],
            "equivalent_diameter": true.equivalent_diameter_area,
            "eccentricity": true.eccentricity,
            "score": true.intensity_mean,
        }.items():
            assert found[name][index] == pytest.approx(value, abs=1e-6), name
    assert index == 2


def test_a_turned_image_has_the_same_shapes(labels):
    probability = np.random.default_rng(0).random(labels.shape)
    found = measure_objects(labels, probability)
    turned = measure_objects(labels.T, probability.T)
    np.testing.assert_array_equal(turned["row"], found["column"])
    np.testing.assert_allclose(turned["eccentricity"], found["eccentricity"])


def test_no_object():
    found = measure_objects(np.zeros((5, 6), np.int32), np.zeros((5, 6)))
    assert {name: values.size for name, values in found.items()} == dict.fromkeys(found, 0)
    assert list(trace_outlines(np.zeros((5, 6), np.int32))) == []


@pytest.mark.parametrize(
    ("labels", "probability", "message"),
    [
        (np.zeros((3, 3)), np.zeros((3, 3)), "2-D integer array, got float64"),
        (np.zeros((3, 3), int), np.zeros((3, 4)), r"one shape, got \(3, 3\) and \(3, 4\)"),
    ],
)
def test_mistakes(labels, probability, message):
    with pytest.raises(UserError, match=message):
        measure_objects(labels, probability)


def test_touching_border(labels):
    assert touching_border(labels).tolist() == [9]
    assert touching_border(labels[:, :70]).tolist() == [7]


def test_outlines_enclose_their_pixels(labels):
    outlines = dict(trace_outlines(labels, tolerance=0))
    assert sorted(outlines) == [3, 7, 9]
    for label, outline in outlines.items():
        np.testing.assert_array_equal(outline[0], outline[-1])
        rows, columns = outline[:-1].T
        area = abs(rows @ np.roll(columns, 1) - columns @ np.roll(rows, 1)) / 2
        length = np.hypot(*np.diff(outline, axis=0).T).sum()
        # A quarter of a pixel inside; where pixels make a step, it is cut short on one side or the other.
        n_pixels = (labels == label).sum()
        assert 0.15 * length <= n_pixels - area <= 0.4 * length + 0.25
    # A single pixel is a square of half its size.
    assert {tuple(vertex) for vertex in outlines[9]} == {
        *((-0.25, 78.75), (-0.25, 79.25)),
        *((0.25, 78.75), (0.25, 79.25)),
    }


def test_a_simpler_outline_stays_near(labels):
    exact, simple = (dict(trace_outlines(labels, tolerance=tolerance))[7] for tolerance in (0, 0.4))
    assert 6 <= len(simple) < len(exact) / 2
    distance = np.hypot(simple[:, 0] - 40, simple[:, 1] - 65)
    assert ((distance > 8.2) & (distance < 9.5)).all()


def test_of_two_parts_the_larger_is_outlined():
    labels = np.zeros((20, 30), np.int32)
    labels[2:4, 2:4] = labels[8:18, 8:25] = 1
    ((label, outline),) = trace_outlines(labels)
    assert label == 1
    # Its outermost edge is at 7.5 to 17.5 and 24.5.
    np.testing.assert_array_equal(outline.min(axis=0), [7.75, 7.75])
    np.testing.assert_array_equal(outline.max(axis=0), [17.25, 24.25])

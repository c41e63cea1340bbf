"""Time of the counting methods beside those of scikit-image and OpenCV, on the true masks of a drawn smear.

Each counts the same masks of red cells, whose number is known; see README.md.

    python benchmarks/counters.py [--rows 972] [--cells 400] [--rounds 5] [--json FILE]
"""

import argparse
import time

import cv2
import numpy as np
from scipy import ndimage as ndi
from side_by_side import by_turns, describe_machine, finish, list_rows, make_report
from skimage import feature, measure, segmentation, transform

from bloodcells.counting.find import count_objects, find_cells
from bloodcells.counting.settings import SETTINGS
from bloodcells.synthetic import draw_smear

RADIUS = 18.0
"""Of red cells at the scale that they are counted at, pixels."""


def main():
    """Time all sides by turns and print a table."""
    options = parse_options()
    machine = describe_machine()
    mask, edge, n_cells = draw_masks(options.rows, options.cells)
    rows = []
    for group, sides in list_sides(mask, edge).items():
        counts = {}

        def run(side, call, counts=counts):
            start = time.perf_counter()
            counts[side] = call()
            return {"seconds": time.perf_counter() - start}

        measured = by_turns(
            {side: lambda side=side, call=call: run(side, call) for side, call in sides.items()},
            options.rounds,
            memory=True,
        )
        rows += list_rows(measured, group=group, notes={side: f"{n} cells" for side, n in counts.items()})
    report = make_report(
        f"{n_cells} red cells on {mask.shape[1]} x {mask.shape[0]} pixels",
        rows,
        rounds=options.rounds,
        labels={"seconds": "time, s", "megabytes": "memory, MB"},
        digits={"seconds": 3, "megabytes": 0},
        ratio_to="ours",
        machine=machine,
    )
    finish(report, options.json)


def draw_masks(n_rows, n_cells):
    """Draw a smear and return the mask and the edges of its red cells.

    Parameters
    ----------
    n_rows, n_cells : int

    Returns
    -------
    mask, edge : ndarray of float32, shape (n_rows, n_rows * 4 // 3)
        0 or 1.
    n_cells : int
        As many as found room.
    """
    smear = draw_smear(
        (n_rows, n_rows * 4 // 3),
        rng=np.random.default_rng(0),
        n_rbc=n_cells,
        n_wbc=0,
        n_platelets=0,
        rbc_radius=RADIUS,
    )
    edge = segmentation.find_boundaries(smear.labels, mode="thick").astype(np.float32)
    return smear.masks["rbc"].astype(np.float32), edge, smear.counts["rbc"]


def list_sides(mask, edge):
    """List what is compared.

    Parameters
    ----------
    mask, edge : ndarray of float32

    Returns
    -------
    dict of str to dict of str to callable
        By method and side; each returns the number of cells.
    """

    def ours(method):
        settings = SETTINGS["rbc"][method]
        return lambda: count_objects(find_cells(method, mask, edge, cell_radius=RADIUS, **settings))

    core = (mask > 0.5) & (edge < 0.5)
    radii = np.arange(round(0.7 * RADIUS), round(1.3 * RADIUS) + 1)
    distance_apart = round(0.5 * RADIUS)

    def circles_skimage():
        votes = transform.hough_circle(edge > 0.5, radii)
        peaks = transform.hough_circle_peaks(
            votes, radii, min_xdistance=distance_apart, min_ydistance=distance_apart, threshold=0.5
        )
        return len(peaks[0])

    def circles_opencv():
        grey = (edge * 255).astype(np.uint8)
        found = cv2.HoughCircles(
            grey, cv2.HOUGH_GRADIENT, 1, RADIUS, None, 100, 15, int(radii[0]), int(radii[-1])
        )
        return 0 if found is None else found.shape[1]

    def components_opencv():
        return cv2.connectedComponents(core.astype(np.uint8))[0] - 1

    def watershed_skimage():
        distance = ndi.distance_transform_edt(core)
        peaks = feature.peak_local_max(distance, min_distance=distance_apart, labels=measure.label(core))
        markers = np.zeros(core.shape, np.int32)
        markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
        return int(segmentation.watershed(-distance, markers, mask=core).max())

    def watershed_opencv():
        distance = cv2.distanceTransform(core.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        tops = cv2.dilate(distance, np.ones((2 * distance_apart + 1,) * 2, np.uint8))
        n_labels, markers = cv2.connectedComponents(
            ((distance == tops) & (distance > 0.2 * RADIUS)).astype(np.uint8)
        )
        markers[~core] = n_labels
        grey = cv2.normalize(distance, None, 255, 0, cv2.NORM_MINMAX).astype(np.uint8)
        return len(np.unique(cv2.watershed(cv2.merge([grey] * 3), markers))) - 2  # less borders, background

    return {
        "circle Hough transform": {
            "ours": ours("cht"),
            "OpenCV alone": circles_opencv,
            "scikit-image": circles_skimage,
        },
        "connected components": {
            "ours": ours("ccl"),
            "OpenCV alone": components_opencv,
            "scikit-image": lambda: int(measure.label(core).max()),
        },
        "distance transform and watershed": {
            "ours": ours("edt"),
            "OpenCV alone": watershed_opencv,
            "scikit-image": watershed_skimage,
        },
        "component tree": {"ours": ours("tree")},
    }


def parse_options():
    """Read the command line.

    Returns
    -------
    argparse.Namespace
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default, help_ in (
        ("rows", 972, "of the smear"),
        ("cells", 400, "red cells"),
        ("rounds", 5, "of which the median is taken"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{help_} [default: %(default)s]")
    parser.add_argument("--json", metavar="FILE", help="write what was measured")
    options = parser.parse_args()
    if options.rows < 100 or min(options.cells, options.rounds) < 1:
        parser.error("--rows expects at least 100, --cells and --rounds at least 1")
    return options


if __name__ == "__main__":
    main()

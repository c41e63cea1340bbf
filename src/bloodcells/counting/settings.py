"""With which parameters each method counts each kind of cell.

Chosen on training fields only, by the largest sum of mean counting accuracy and, for red cells, pooled F1
(``workflow/choose_counting.py``). For red cells that was a cross-validation: two networks, each trained on
five of the ten training fields, were applied to the other five. For white cells and platelets, of which
there are many fields, forty of the training fields themselves served.

Lengths are in units of ``size``, which is itself in radii of red cells, areas in discs of that radius.
"""

_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)

SETTINGS = {
    "rbc": {
        "cht": {"min_distance": 1.0, "min_votes": 0.7, "edge_contrast": 0.25, "radius_range": (0.7, 1.3)},
        "ccl": {"edge_threshold": 0.07, "min_area": 0.06},
        "edt": {"edge_threshold": 0.5, "min_distance": 0.5, "min_height": 0.2, "min_prominence": 0.03},
        "tree": {"levels": _LEVELS, "max_area": 1.2, "min_height": 0.45},
    },
    "wbc": {
        "cht": {
            "size": 1.6,
            "min_distance": 0.8,
            "min_votes": 1.0,
            "edge_contrast": 0.25,
            "radius_range": (0.6, 1.6),
        },
        "ccl": {"size": 1.6, "mask_threshold": 0.7, "min_area": 0.35},
        "edt": {"size": 1.6, "min_distance": 0.8, "min_height": 0.3, "min_area": 0.5},
        "tree": {
            "size": 1.6,
            "levels": (0.5, 0.7, 0.9),
            "min_area": 0.35,
            "max_area": 1.8,
            "min_solidity": 0.85,
            "min_height": 0.3,
        },
    },
    "plt": {
        "cht": {
            "size": 0.35,
            "min_distance": 1.2,
            "min_votes": 1.5,
            "edge_contrast": 0.25,
            "radius_range": (0.4, 1.6),
        },
        "ccl": {"size": 0.35, "mask_threshold": 0.85, "min_area": 0.2},
        "edt": {"size": 0.35, "mask_threshold": 0.7, "min_distance": 0.8, "min_height": 0.3, "min_area": 0.2},
        "tree": {
            "size": 0.35,
            "levels": (0.85, 0.95),
            "min_area": 0.2,
            "max_area": 3.0,
            "min_solidity": 0.85,
            "min_height": 0.5,
        },
    },
}
"""Keyword arguments of `bloodcells.counting.find.find_cells`, by kind of cell and method."""

CELLS = tuple(SETTINGS)
"""Kinds of cells: red cells, white cells and platelets."""

BEST = {"rbc": "tree", "wbc": "tree", "plt": "ccl"}
"""For each kind the method that came out best when the parameters were chosen; `bloodcells count` uses it."""

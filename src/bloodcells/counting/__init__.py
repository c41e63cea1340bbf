"""From probabilities to counted cells: four methods, one file each; three are gharbi2023's, sections III, IV.

Lengths are in units of the typical cell radius and areas in units of a disc of that radius, so that the same
settings serve every magnification.
"""

from bloodcells.counting.circle_hough import circles_to_labels, find_circles
from bloodcells.counting.component_tree import label_component_tree
from bloodcells.counting.connected_components import label_components
from bloodcells.counting.distance_transform import label_distance_peaks
from bloodcells.counting.regions import count_cells

__all__ = [
    "circles_to_labels",
    "count_cells",
    "find_circles",
    "label_component_tree",
    "label_components",
    "label_distance_peaks",
]

"""Write counted cells as GeoJSON, which QuPath opens by dragging the file onto the image."""

import json

import numpy as np

from bloodcells.cell_outlines import COLOURS, NAMES, hex_to_rgb


def write_geojson(path, result, outlines):
    """Write every counted cell as a polygon with its kind and measurements.

    Parameters
    ----------
    path : path-like
    result : bloodcells.smear.SmearCount
    outlines : dict of str to list of ndarray of float, shape (K, 2)
        For each kind of cell, as from `bloodcells.cell_outlines.cell_outlines`.

    Notes
    -----
    Coordinates are x and y in pixels of the image, from the outer corner of its first pixel, as QuPath has
    them: a pixel's centre lies at (column + 1/2, row + 1/2). Objects are QuPath detections. One cell a line.
    """
    with open(path, "w", encoding="utf-8") as stream:
        stream.write('{"type": "FeatureCollection", "features": [')
        separator = "\n"
        for cell, found in result.cells.items():
            for index, outline in enumerate(outlines[cell]):
                feature = _feature(cell, found.objects, index, outline, result)
                stream.write(separator + json.dumps(feature, allow_nan=False))
                separator = ",\n"
        stream.write("\n]}\n")


def _feature(cell, objects, index, outline, result):
    corners = np.clip(outline[:, ::-1] + 0.5, 0, result.shape[::-1])
    measurements = {
        "ID": int(objects["id"][index]),
        "Area px^2": round(float(objects["area"][index]), 2),
        "Equivalent diameter px": round(float(objects["equivalent_diameter"][index]), 2),
        "Eccentricity": round(float(objects["eccentricity"][index]), 4),
        "Touches border": int(objects["touches_border"][index]),
        "Score": round(float(objects["score"][index]), 4),
    }
    if result.pixel_size_um is not None:
        size = result.pixel_size_um
        measurements["Area um^2"] = round(float(objects["area"][index]) * size**2, 3)
        measurements["Equivalent diameter um"] = round(float(objects["equivalent_diameter"][index]) * size, 3)
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [corners.round(2).tolist()]},
        "properties": {
            "objectType": "detection",
            "classification": {"name": NAMES[cell], "color": list(hex_to_rgb(COLOURS[cell]))},
            "measurements": measurements,
        },
    }

"""Count a folder of slides in chunks, each on a machine of its own, and join the tables."""

import argparse
import csv
import hashlib
import io
import sys
from pathlib import Path

from bloodcells.count_command import find_images
from bloodcells.count_outputs import COUNTS_FILE, name_folders, printable
from bloodcells.errors import UserError, told_in_one_line
from bloodcells.files import write_text


def divide(folder, size):
    """Divide the images of a folder into chunks.

    Parameters
    ----------
    folder : path-like
    size : int
        Images a chunk, at most.

    Returns
    -------
    dict of str to list of pathlib.Path
        Name of a chunk to its images, by name. The chunk's name holds a hash of theirs, so that a finished
        chunk is never taken for one with other images.

    Raises
    ------
    bloodcells.errors.UserError
        If the folder isn't there or holds no image, or a chunk has no place for one.
    """
    if size < 1:
        raise UserError(f"A chunk expects at least 1 image, got {size}.")
    images = find_images([folder])
    chunks = {}
    for start in range(0, len(images), size):
        members = images[start : start + size]
        names = "\n".join(printable(path) for path in members)
        digest = hashlib.sha256(names.encode()).hexdigest()[:8]
        chunks[f"{start // size:05d}-{digest}"] = members
    return chunks


def digest_images(images):
    """Return a text that changes when an image does: from sizes and times, without reading any.

    Parameters
    ----------
    images : list of pathlib.Path

    Returns
    -------
    str
    """
    facts = [(path.stat().st_size, path.stat().st_mtime_ns) for path in images]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def join(chunks, folder):
    """Join the tables of counted chunks.

    Parameters
    ----------
    chunks : dict of str to list of pathlib.Path
        From `divide`.
    folder : pathlib.Path
        Holds the results of each chunk in a folder with its name.

    Returns
    -------
    counts : list of dict
        A row for each image: the columns of ``counts.csv``, and ``folder``, which has its outlines.
    uncounted : list of dict
        ``image`` and ``chunk`` of those without a row; ``CHUNK.txt`` says why.
    """
    counts, uncounted = [], []
    for chunk, images in chunks.items():
        rows = {}
        table = folder / chunk / COUNTS_FILE
        # Absent where no image of the chunk could be read.
        if table.exists():
            with table.open(encoding="utf-8", newline="") as stream:
                rows = {row["image"]: row for row in csv.DictReader(stream)}
        for image, name in zip(images, name_folders(images), strict=True):
            row = rows.get(printable(image))
            if row is None:
                uncounted.append({"image": printable(image), "chunk": chunk})
            else:
                counts.append(row | {"folder": f"{chunk}/{name}"})
    return counts, uncounted


def write_table(path, rows, columns):
    """Write a table as CSV.

    Parameters
    ----------
    path : pathlib.Path
    rows : list of dict
    columns : list of str
        Of a table without rows.
    """
    stream = io.StringIO()
    writer = csv.DictWriter(stream, rows[0] if rows else columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, stream.getvalue())


def main():
    """Join the tables of a folder of slides."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("slides", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--chunk", type=int, required=True, help="images a chunk")
    arguments = parser.parse_args()
    counts, uncounted = join(divide(arguments.slides, arguments.chunk), arguments.folder)
    write_table(arguments.folder / "uncounted.csv", uncounted, ["image", "chunk"])
    write_table(arguments.folder / COUNTS_FILE, counts, ["image"])
    print(f"{len(counts)} images counted: {arguments.folder / COUNTS_FILE}")
    if uncounted:
        print(f"{len(uncounted)} could not be: {arguments.folder / 'uncounted.csv'}", file=sys.stderr)


if __name__ == "__main__":
    with told_in_one_line():
        main()

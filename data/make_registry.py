"""Remake ``registry.yml`` and ``registry/<dataset>.csv`` from the manifests of a mirror.

Usage: python data/make_registry.py MIRROR [OUT]

MIRROR is a folder with ``<dataset>/manifest.csv`` for each dataset below; OUT is where to write, this
folder by default. Everything that the manifests do not state (titles, licences, citations, defects) is
in `FACTS` here, so edit this file and not ``registry.yml``.
"""

import csv
import sys
from pathlib import Path

import yaml

COLUMNS = ("path", "role", "image_id", "class_label", "sha256", "bytes", "upstream_path")

ZHENG2018 = (
    "X. Zheng, Y. Wang, G. Wang, J. Liu, Fast and Robust Segmentation of White Blood Cell Images by "
    "Self-supervised Learning, Micron 107, 2018, pp. 55-71, doi:10.1016/j.micron.2018.01.010"
)

FACTS = {
    "jiangxi": {
        "title": "Jiangxi Tecom single white cells (Dataset 1 of segmentation_WBC)",
        "description": (
            "300 colour images of single white cells from Jiangxi Tecom Science Corporation, China, on a "
            "mostly yellow background, with nucleus and cytoplasm masks drawn by experts."
        ),
        "homepage": "https://github.com/zxaoyou/segmentation_WBC",
        "licence": "GPL-3.0",
        "licence_note": (
            "As stated by the repository, which also asks users to acknowledge Jiangxi Tecom Science "
            "Corporation and to cite the paper."
        ),
        "citation": ZHENG2018,
        "defects": [
            "76 of the 300 images are smaller than the 120 x 120 of the description, down to 88 x 88, and "
            "not all are square.",
            "Images 112 and 139 (lymphocytes) have the same pixels, while their masks differ in 178 of "
            "13,456 pixels.",
            "14 pairs of images show one cell each, most at another shift, scale or sharpness: 019 and 075, "
            "021 and 082, 026 and 089, 030 and 086, 051 and 073, 054 and 091, 056 and 092, 060 and 090, "
            "070 and 072, 071 and 084, 112 and 139, 157 and 158, 166 and 171, 167 and 169. The split keeps "
            "them together.",
            "060 and 090 show one cell but are labelled neutrophil and monocyte.",
            "There is one basophil only, so that class can't be both trained on and tested.",
            "Some class labels were added by the repository's authors and not checked by experts.",
        ],
        "stray_masks": [],
    },
    "cellavision": {
        "title": "CellaVision blog single white cells (Dataset 2 of segmentation_WBC)",
        "description": (
            "100 colour images of single white cells, mostly purple, with many red cells around them, "
            "collected from the CellaVision blog, with nucleus and cytoplasm masks."
        ),
        "homepage": "https://github.com/zxaoyou/segmentation_WBC",
        "licence": "GPL-3.0",
        "licence_note": (
            "As stated by the repository, which also asks users to acknowledge the CellaVision blog "
            "(http://blog.cellavision.com/) and to cite the paper. It says nothing of the blog's own terms."
        ),
        "citation": ZHENG2018,
        "defects": [
            "The label file counts 33 neutrophils and 15 monocytes, the publication 30 and 18; which three "
            "images differ isn't stated. The cell types here follow the file.",
            "Masks 034, 035, 047, 050 and 076 hold a few pixels (3 to 179) of other values than 0, 128 and "
            "255; the nearest of the three is taken.",
            "There are three basophils only.",
            "Some class labels were added by the repository's authors and not checked by experts.",
        ],
        # Known upstream faults, settled when a mask is read; a stray value in any other mask is an error.
        "stray_masks": ["034", "035", "047", "050", "076"],
    },
    "bcisc": {
        "title": "BCISC white cells (sub-images of the Blood Cell Image Segmentation and Classification set)",
        "description": (
            "268 colour images of white cells, 256 x 256, cut out of 246 larger pictures, with masks of the "
            "whole cell (nucleus and cytoplasm together)."
        ),
        "homepage": "https://github.com/fpklipic/BCISC",
        "licence": "Apache-2.0",
        "licence_note": "As stated by the repository for the dataset.",
        "citation": (
            "LeukocyteMask: An automated localization and segmentation method for leukocyte in blood smear "
            "images using deep neural networks, Journal of Biophotonics, 2019, doi:10.1002/jbio.201800488"
        ),
        "defects": [
            "21 pictures give two or three images each, and some of these overlap.",
            "lymp_8-1_0 and lymp_8-2_0 are the same image but for compression; lymp_6-1_0 and lymp_6-2_0 "
            "look like two shots of one cell, baso_2-1_0 and baso_2-2_0 show one cell at two scales.",
            "The cell type is that of the picture: the cell in the middle of eosi_8-5_0 looks like a "
            "neutrophil, that of lymp_9-2_0 like a ruptured cell.",
            "In 8 masks a further white cell is masked too, sometimes of another type (baso_3-3_0, "
            "baso_6-1_0, baso_6-1_1, eosi_8-5_0, eosi_8-5_1, lymp_9-2_0, lymp_9-2_1, mono_5-4_0); 11 more "
            "hold specks.",
            "Twelve masks have holes, and in 15 a white cell touches the border.",
            "There is no nucleus mask.",
        ],
        "stray_masks": [],
    },
}


def read_manifest(path):
    """Return the rows of one manifest, after checking that every file is upstream's own, at one commit."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if any(row["derived"] != "no" or row["sha256"] != row["upstream_sha256"] for row in rows):
        raise SystemExit(f"{path}: holds converted files; only files identical to upstream can be fetched.")
    sources = {(row["upstream_repo"], row["upstream_commit"]) for row in rows}
    if len(sources) != 1:
        raise SystemExit(f"{path}: expected one upstream repository and commit, got {sorted(sources)}.")
    return rows, sources.pop()


def main(mirror, out):
    """Write ``registry.yml`` and one CSV per dataset under `out`."""
    registry = {}
    (out / "registry").mkdir(parents=True, exist_ok=True)
    for name, facts in FACTS.items():
        rows, (repo, commit) = read_manifest(mirror / name / "manifest.csv")
        registry[name] = {**facts, "repo": repo, "commit": commit}
        with (out / "registry" / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    header = "# Made by make_registry.py; edit that file instead.\n"
    body = yaml.safe_dump(registry, sort_keys=False, allow_unicode=True, width=100)
    (out / "registry.yml").write_text(header + body, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) == 3 else Path(__file__).parent)

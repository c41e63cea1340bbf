"""Remake ``registry.yml``, ``registry/<dataset>.csv`` and ``counts/`` from the manifests of a mirror.

Usage: python data/make_registry.py MIRROR [OUT]

MIRROR is a folder with ``<dataset>/manifest.csv`` for each dataset below, and with ``counts.csv`` and
``papers.csv`` of all-idb1; OUT is where to write, this folder by default. Everything that the
manifests do not state (titles, licences, citations, defects) is in `FACTS` here, so edit this file and not
``registry.yml``.
"""

import csv
import sys
from pathlib import Path

import yaml

COLUMNS = ("path", "role", "image_id", "class_label", "sha256", "bytes", "upstream_path")
# Further columns of a dataset whose files come from several repositories or are converted.
SOURCE_COLUMNS = ("upstream_repo", "upstream_sha256")
# Further columns of a dataset whose published splits are in the manifest.
SPLIT_COLUMNS = ("split_rbc", "split_wbc", "split_plt")

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
            "H. Fan, F. Zhang, L. Xi, Z. Li, G. Liu, Y. Xu, LeukocyteMask: An automated localization and "
            "segmentation method for leukocyte in blood smear images using deep neural networks, Journal of "
            "Biophotonics 12, 2019, doi:10.1002/jbio.201800488"
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
    "all-idb1": {
        "title": "ALL-IDB1 smear fields, with red cell, white cell and platelet masks",
        "description": (
            "108 colour photographs of whole fields of blood smears, most 2592 x 1944 pixels, from the "
            "Acute Lymphoblastic Leukemia Image Database of the University of Milan. Masks of red cells "
            "(107 images), white cells (106) and platelets (101) and the counts are those of Gharbi et "
            "al.; the red cell outlines of 13 images are those of Overton and Tucker."
        ),
        "homepage": "https://homes.di.unimi.it/scotti/all/",
        "licence": "research use; see the note",
        "licence_note": (
            "The owners describe ALL-IDB as a public and free dataset for research; the images are a copy "
            "in a third party's repository, whose MIT notice gives no right in them. Use them for "
            "research, cite the database, and do not publish them again without asking their owners. The "
            "masks and counts come under the MIT notice of bc-count and a custom licence with the MIT "
            "terms (segnet, do-u-net); the outlines were first published under AGPL-3.0 "
            "(ToyahJade/DO-U-Net)."
        ),
        "citation": (
            "R. Donida Labati, V. Piuri, F. Scotti, ALL-IDB: the acute lymphoblastic leukemia image "
            "database for image processing, IEEE International Conference on Image Processing, 2011, pp. "
            "2045-2048. For masks, splits and counts: A. Gharbi, M. L. Neggazi, F. Touazi, D. Gaceb, M. R. "
            "Yagoubi, Blood cells image segmentation and counting using deep transfer learning, 1st "
            "International Conference on Advanced Innovations in Smart Cities, 2023. For the outlines: T. "
            "Overton, A. Tucker, DO-U-Net for Segmentation and Counting: Applications to Satellite and "
            "Medical Images, Intelligent Data Analysis, 2020, doi:10.1007/978-3-030-44584-3_31"
        ),
        "defects": [
            "Im093_0 and Im108_0 are the same file. Their masks differ: intersection over union 0.98 for "
            "red cells, 0.95 for white cells, 0.56 for platelets.",
            "Some fields overlap, as photographs of one place: Im036_0 and Im103_0 (by 87 %), Im078_0 and "
            "Im089_0 (83 %), Im039_0 and Im044_0 (71 %), and less Im009_1, Im010_1 and Im011_1, Im013_1, "
            "Im014_1 and Im015_1, Im020_1, Im021_1 and Im022_1, Im038_0 and Im044_0, Im102_0 and Im103_0. "
            "In the published split for white cells and platelets Im036_0 and Im078_0 are training images, "
            "Im103_0 and Im089_0 test images.",
            "Im037_0 is 1226 x 652 pixels, Im001_1 to Im033_1 are 1712 x 1368, the others 2592 x 1944. "
            "Magnification differs too: red cells have a radius of about 73 pixels in Im095_0, 31 to 43 in "
            "the other 12 with outlines.",
            "No red cell mask for Im024_1; no white cell mask for Im001_1 (18 white cells) and Im024_1; no "
            "platelet mask for Im001_1, Im002_1, Im005_1, Im024_1, Im079_0, Im083_0 and Im086_0, of which "
            "Im001_1 and Im079_0 have a platelet count of 0.",
            "The red cell masks carry specks, pinholes and rims around white cells, Im001_1 apart: a "
            "median of 857 components an image. The number of components is no cell count.",
            "Neighbouring outlines overlap, 49 cross themselves, 51 have a vertex one pixel past the "
            "border. Outline 656 of Im053_1 and outline 32 of Im069_0 have no area; they count among the "
            "802 and 665 red cells.",
            "Touching white cells are often one component of their mask, and ragged ones several. "
            "Components of at least 200 pixels equal the white cell count in 49 of 106 images.",
            "Platelet masks hold specks; Im069_0 has a platelet count of 3 and one component.",
            "The 13 images with counts of all three cells are no test set: 10 of them are training images "
            "for red cells.",
            "Some fields show the microscope's pointer arrow, Im010_1 for example.",
            "The upstream masks are JPEG; a grey level above 127 is a cell. Some 3,400 pixels of the white "
            "cell mask of Im010_1 and at most 50 of any other lie between 64 and 191.",
        ],
        "stray_masks": [],
    },
}


# The repository that a dataset's images come from, where it has files of several.
MAIN_REPO = {"all-idb1": "nemo256/bc-count"}


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_csv(path, columns, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_manifest(name, path):
    """Return the rows of one manifest and its sources, a dict of repository to commit, the main one first."""
    rows = read_csv(path)
    for row in rows:
        if (row["derived"] == "no") != (row["sha256"] == row["upstream_sha256"]):
            raise SystemExit(
                f"{path}: {row['path']} is called derived: {row['derived']}; its hashes disagree."
            )
    pairs = {(row["upstream_repo"], row["upstream_commit"]) for row in rows}
    sources = dict(sorted(pairs, key=lambda pair: (pair[0] != MAIN_REPO.get(name), pair)))
    if len(sources) != len(pairs):
        raise SystemExit(f"{path}: expected one commit of each upstream repository, got {sorted(pairs)}.")
    if name not in MAIN_REPO and (len(sources) > 1 or any(row["derived"] != "no" for row in rows)):
        raise SystemExit(f"{path}: expected upstream's own files from one repository; name it in MAIN_REPO.")
    return rows, sources


def make_counts(mirror, out):
    """Write sizes and true counts of all-idb1, and the counts that its authors published."""
    rows = read_csv(mirror / "all-idb1" / "counts.csv")
    for row in rows:
        if row["wbc"] not in ("", row["wbc_full_set"]) or row["rbc"] != row["rbc_polygons"]:
            raise SystemExit(f"counts.csv: the sources disagree on {row['image_id']}.")
        row["wbc"] = row["wbc_full_set"]  # the same on the 13 images that have both
    sizes = {
        row["image_id"]: {"rows": row["height"], "columns": row["width"]}
        for row in read_csv(mirror / "all-idb1" / "manifest.csv")
    }
    rows = [row | sizes[row["image_id"]] for row in rows]
    columns = ("image_id", "rows", "columns", "rbc", "wbc", "plt")
    write_csv(out / "counts" / "all-idb1.csv", columns, rows)

    rows = read_csv(mirror / "all-idb1" / "papers.csv")
    if {row["model"] for row in rows} != {"SegNet"}:
        raise SystemExit("papers.csv: expected the counts from SegNet masks only.")
    methods = ("cht", "ccl", "edt")
    columns = ("image_id", "cell", "n_true", *methods, *(f"{method}_accuracy" for method in methods))
    rows = [row | {"n_true": row["real_count"]} for row in rows]
    write_csv(out / "counts" / "all-idb1_gharbi2023.csv", columns, rows)


def main(mirror, out):
    """Write ``registry.yml``, one CSV per dataset and the counts under `out`."""
    registry = {}
    for name, facts in FACTS.items():
        rows, sources = read_manifest(name, mirror / name / "manifest.csv")
        repo, commit = next(iter(sources.items()))
        registry[name] = {**facts, "repo": repo, "commit": commit}
        columns = COLUMNS
        if name in MAIN_REPO:
            registry[name]["sources"] = sources
            columns = (*COLUMNS, *SOURCE_COLUMNS, *SPLIT_COLUMNS)
        write_csv(out / "registry" / f"{name}.csv", columns, rows)
    header = "# Made by make_registry.py; edit that file instead.\n"
    body = yaml.safe_dump(registry, sort_keys=False, allow_unicode=True, width=100)
    (out / "registry.yml").write_text(header + body, encoding="utf-8")
    make_counts(mirror, out)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) == 3 else Path(__file__).parent)

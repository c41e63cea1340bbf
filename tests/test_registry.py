"""The committed registry and splits: complete, sound, and remade byte for byte by their scripts."""

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bloodcells.datasets import CELL_TYPES, SPLITS, default_mirror
from bloodcells.errors import UserError
from bloodcells.paths import data_dir
from bloodcells.registry import (
    CELL_DATASETS,
    DATASETS,
    FIELD_DATASETS,
    UPSTREAM,
    describe,
    read_files,
    read_split,
)

# Counted by hand from the descriptions of the datasets.
TYPES = {
    "jiangxi": {"neutrophil": 176, "lymphocyte": 53, "monocyte": 48, "eosinophil": 22, "basophil": 1},
    "cellavision": {"neutrophil": 33, "lymphocyte": 37, "monocyte": 15, "eosinophil": 12, "basophil": 3},
    "bcisc": {"basophil": 56, "eosinophil": 54, "lymphocyte": 53, "monocyte": 54, "neutrophil": 51},
}


def test_datasets_are_those_of_the_registry():
    assert DATASETS == ("jiangxi", "cellavision", "bcisc", "all-idb1")
    assert CELL_DATASETS + FIELD_DATASETS == DATASETS


@pytest.mark.parametrize("name", TYPES)
def test_description_is_complete(name):
    facts = describe(name)
    for key in ("title", "description", "homepage", "licence", "citation", "defects"):
        assert facts[key], key
    assert "doi:10." in facts["citation"]
    assert facts["n_images"] == sum(TYPES[name].values())
    assert facts["n_files"] == 2 * facts["n_images"]
    assert facts["upstream"] == f"{UPSTREAM}/{facts['repo']}/{facts['commit']}"
    assert facts["sources"] == {facts["repo"]: facts["commit"]}


def test_description_of_the_fields_is_complete():
    facts = describe("all-idb1")
    for key in ("title", "description", "homepage", "licence", "licence_note", "defects"):
        assert facts[key], key
    for name in ("Donida Labati", "Gharbi", "doi:10.1007/978-3-030-44584-3_31"):
        assert name in facts["citation"]
    assert (facts["n_images"], facts["n_files"]) == (108, 448)
    assert facts["sources"][facts["repo"]] == facts["commit"]
    assert len(facts["sources"]) == 3


@pytest.mark.parametrize("name", TYPES)
def test_every_image_is_in_one_split(name):
    with (data_dir() / "registry" / f"{name}.csv").open(newline="", encoding="utf-8") as stream:
        files = list(csv.DictReader(stream))
    images = {row["image_id"]: row["class_label"] for row in files if row["role"] == "image"}
    rows = read_split(name)
    assert rows["image_id"].is_unique
    assert dict(zip(rows["image_id"], rows["cell_type"], strict=True)) == images
    assert rows["cell_type"].value_counts().to_dict() == TYPES[name]
    assert set(rows["cell_type"]) == set(CELL_TYPES)


@pytest.mark.parametrize("name", TYPES)
def test_split_shares_hold_for_the_whole_and_for_each_type(name):
    rows = read_split(name)
    shares = {"train": 0.7, "val": 0.1, "test": 0.2}
    for split, share in shares.items():
        assert (rows["split"] == split).mean() == pytest.approx(share, abs=0.02)
        for cell_type, n in TYPES[name].items():
            n_split = ((rows["split"] == split) & (rows["cell_type"] == cell_type)).sum()
            # Whole images, and at least one in each split, cost up to one and a half images.
            assert abs(n_split - share * n) <= 1.5
            if n >= 3:
                assert n_split >= 1


def test_cell_with_two_labels_is_for_training():
    # A group with two labels has no true type to be tested against.
    rows = read_split("jiangxi").set_index("image_id")
    assert rows.loc[["060", "090"], "cell_type"].tolist() == ["neutrophil", "monocyte"]
    assert rows.loc[["060", "090"], "split"].tolist() == ["train", "train"]


def test_rare_basophils_are_where_they_can_serve():
    def basophils(name):
        rows = read_split(name)
        return sorted(rows.loc[rows["cell_type"] == "basophil", "split"])

    assert basophils("jiangxi") == ["train"]
    assert basophils("cellavision") == ["test", "train", "val"]


@pytest.mark.parametrize("name", TYPES)
def test_groups_never_straddle_a_split(name):
    rows = read_split(name)
    assert rows.groupby("group")["split"].nunique().max() == 1


@pytest.mark.parametrize(
    ("name", "image_ids"),
    [
        ("jiangxi", {"112", "139"}),
        ("jiangxi", {"166", "171"}),
        ("jiangxi", {"060", "090"}),  # one cell under two labels
        ("jiangxi", {"167", "169"}),
        ("bcisc", {"lymp_8-1_0", "lymp_8-2_0"}),
        ("bcisc", {"lymp_6-1_0", "lymp_6-2_0"}),
        ("bcisc", {"baso_2-1_0", "baso_2-2_0"}),
    ],
)
def test_known_duplicates_are_one_group(name, image_ids):
    rows = read_split(name)
    groups = rows.loc[rows["image_id"].isin(image_ids), "group"]
    assert len(groups) == 2
    assert groups.nunique() == 1


def test_images_of_one_bcisc_picture_are_one_group():
    rows = read_split("bcisc")
    pictures = rows["image_id"].str.replace(r"_\d+$", "", regex=True)
    assert pictures.nunique() == 246
    assert rows.groupby(pictures)["group"].nunique().max() == 1
    assert rows["group"].nunique() == 243  # three pairs of pictures show one cell each


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("split", SPLITS)
def test_first_rows_hold_every_type_of_the_split(name, split):
    rows = read_split(name)
    types = rows.loc[rows["split"] == split, "cell_type"]
    n = types.nunique()
    assert types.head(n).nunique() == n


def test_splits_can_be_remade(tmp_path):
    shutil.copytree(data_dir() / "registry", tmp_path / "registry")
    subprocess.run([sys.executable, data_dir() / "make_splits.py", tmp_path], check=True)
    for name in DATASETS:
        path = Path("splits") / f"{name}.csv"
        assert (tmp_path / path).read_bytes() == (data_dir() / path).read_bytes()


@pytest.mark.parametrize("read", [describe, read_split, read_files])
def test_unknown_name_lists_the_datasets(read):
    with pytest.raises(UserError, match="one of jiangxi, cellavision, bcisc, all-idb1; got 'jiangsu'"):
        read("jiangsu")


@pytest.mark.parametrize("name", TYPES)
def test_every_image_has_one_mask(name):
    files = read_files(name)
    images = [file.image_id for file in files if file.role == "image"]
    masks = [file.image_id for file in files if file.role.startswith("mask-")]
    assert len(images) + len(masks) == len(files)
    assert sorted(masks) == sorted(images)
    assert len({file.path for file in files}) == len(files)


@pytest.mark.parametrize("name", TYPES)
def test_upstream_is_one_commit_of_one_repository(name):
    facts = describe(name)
    for file in read_files(name):
        assert file.upstream_path.startswith(f"{facts['repo']}/{facts['commit']}/")
        assert file.original is None


def test_fields_come_from_three_repositories_some_of_them_converted():
    files = read_files("all-idb1")
    sources = {f"{repo}/{commit}" for repo, commit in describe("all-idb1")["sources"].items()}
    assert {file.upstream_path.split("/data/")[0] for file in files} == sources
    assert len({form.path for file in files for form in file.forms}) == 2 * 448 - 108
    for file in files:
        if file.role == "image":
            assert file.original is None
        else:
            assert file.original.upstream_path == file.upstream_path
            assert file.original.sha256 != file.sha256
            assert (
                Path(file.original.path).suffix == Path(file.upstream_path).suffix != Path(file.path).suffix
            )


def test_groups_of_fields_straddle_the_published_parts_where_we_say():
    rows = read_split("all-idb1")
    assert list(rows.columns) == ["image_id", "rbc", "wbc", "plt", "group"]
    assert len(rows) == rows["image_id"].nunique() == 108
    crossing = {}
    for cell in ("rbc", "wbc", "plt"):
        assert set(rows[cell]) == {"train", "test", ""}
        parts = rows[rows[cell] != ""].groupby("group")[cell].nunique()
        crossing[cell] = sorted(parts.index[parts > 1])
    assert crossing == {"rbc": [], "wbc": ["Im036_0", "Im078_0"], "plt": ["Im036_0", "Im078_0"]}
    same = rows.set_index("image_id")["group"]
    for one, other in (("Im093_0", "Im108_0"), ("Im036_0", "Im103_0"), ("Im078_0", "Im089_0")):
        assert same[one] == same[other]
    assert same.nunique() == 108 - 12  # two pairs, and five that hold three fields


def test_registry_can_be_remade(tmp_path):
    mirror = Path(default_mirror() or "none")
    if not all((mirror / name / "manifest.csv").exists() for name in DATASETS):
        pytest.skip("REGISTRY NOT CHECKED: there is no mirror folder with manifests")
    subprocess.run([sys.executable, data_dir() / "make_registry.py", mirror, tmp_path], check=True)
    made = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    counts = ["counts/all-idb1.csv", "counts/all-idb1_gharbi2023.csv"]
    assert made == [*counts, "registry.yml", *(f"registry/{name}.csv" for name in sorted(DATASETS))]
    for path in made:
        assert (tmp_path / path).read_bytes() == (data_dir() / path).read_bytes()

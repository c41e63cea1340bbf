"""Drawn smears: the truth must be exact, so most tests compare the truth with itself."""

from itertools import product

import numpy as np
import pytest
from scipy import ndimage as ndi
from skimage.measure import regionprops

from bloodcells.errors import UserError
from bloodcells.synthetic import CELL_TYPES, SPLIT_SIZES, STAINS, draw_cell, draw_smear, load_split

EIGHT = np.ones((3, 3))


def smear(seed=0, shape=(200, 240), n_rbc=20, n_wbc=2, n_platelets=5, **options):
    rng = np.random.default_rng(seed)
    return draw_smear(shape, rng=rng, n_rbc=n_rbc, n_wbc=n_wbc, n_platelets=n_platelets, **options)


def solidity(mask):
    return regionprops(mask.astype(np.uint8))[0].solidity


@pytest.fixture(scope="module", params=[(0, 0.0, True), (1, 0.1, True), (2, 0.5, False), (3, 0.7, False)])
def drawn(request):
    seed, overlap, whole = request.param
    return smear(seed, overlap=overlap, whole=whole)


def test_arrays_have_the_promised_shapes_and_types(drawn):
    assert (drawn.image.shape, drawn.image.dtype) == ((200, 240, 3), np.uint8)
    assert (drawn.labels.shape, drawn.labels.dtype) == ((200, 240), np.int32)
    for mask in (drawn.nucleus, drawn.edges, *drawn.masks.values()):
        assert (mask.shape, mask.dtype) == ((200, 240), bool)


def test_counts_are_those_asked_for_and_every_cell_has_its_label(drawn):
    assert drawn.counts == {"rbc": 20, "wbc": 2, "platelet": 5}
    assert np.unique(drawn.labels).tolist() == list(range(28))
    assert drawn.cells["label"].tolist() == list(range(1, 28))
    assert drawn.cells["cell_class"].value_counts().to_dict() == drawn.counts


def test_white_cells_alone_have_a_type(drawn):
    for cell_class, cell_type in zip(drawn.cells["cell_class"], drawn.cells["cell_type"], strict=True):
        assert cell_type in CELL_TYPES if cell_class == "wbc" else cell_type is None


def test_at_least_a_quarter_of_each_cell_is_visible(drawn):
    visible = np.bincount(drawn.labels.ravel())[drawn.cells["label"]]
    assert (visible >= 0.25 * np.pi * drawn.cells["radius"] ** 2 - 1e-6).all()


def test_labels_and_masks_cover_the_same_pixels(drawn):
    np.testing.assert_array_equal(drawn.labels > 0, np.any(list(drawn.masks.values()), axis=0))
    classes = np.array(["background", *drawn.cells["cell_class"]])[drawn.labels]
    for cell_class, mask in drawn.masks.items():
        assert mask[classes == cell_class].all()
    # Nothing hides a white cell or a platelet.
    for cell_class in ("wbc", "platelet"):
        np.testing.assert_array_equal(classes == cell_class, drawn.masks[cell_class])


def test_nuclei_lie_strictly_inside_white_cells(drawn):
    interior = ndi.binary_erosion(drawn.masks["wbc"], border_value=1)
    assert not (drawn.nucleus & ~interior).any()
    for label in drawn.cells.query("cell_class == 'wbc'")["label"]:
        assert drawn.nucleus[drawn.labels == label].any()


def test_edges_touch_every_cell_and_nothing_else(drawn):
    assert set(drawn.labels[drawn.edges]) == set(drawn.cells["label"])
    # A pixel just outside all cells has at least one neighbour on an edge, or else the outline has a hole.
    outside = ndi.binary_dilation(drawn.labels > 0) & (drawn.labels == 0)
    assert ndi.binary_dilation(drawn.edges)[outside].all()


def test_edges_leave_the_image_border_open():
    """Where the border cuts a cell there is no outline, so fewer edge pixels than mask pixels lie on it."""
    cut = smear(2, whole=False)
    on_border = np.ones(cut.labels.shape, bool)
    on_border[1:-1, 1:-1] = False
    assert 0 < (cut.edges & on_border).sum() < ((cut.labels > 0) & on_border).sum()


def test_whole_cells_have_their_full_area():
    """Without overlap or cuts a cell's label has the area of the disc in the table."""
    one = smear(overlap=0)
    area = np.bincount(one.labels.ravel())[one.cells["label"]]
    np.testing.assert_allclose(area, np.pi * one.cells["radius"] ** 2)


def test_the_border_cuts_red_cells_only():
    cut = smear(2, whole=False)
    area = np.bincount(cut.labels.ravel())[cut.cells["label"]]
    lost = np.pi * cut.cells["radius"] ** 2 - area > 0.5
    assert set(cut.cells["cell_class"][lost]) == {"rbc"}
    assert cut.masks["rbc"][[0, -1]].any()


def test_centre_in_the_table_is_inside_its_cell():
    one = smear(overlap=0)
    np.testing.assert_array_equal(one.labels[one.cells["row"], one.cells["column"]], one.cells["label"])


@pytest.mark.parametrize("seed", range(3))
def test_no_overlap_means_separate_components(seed):
    one = smear(seed, overlap=0)
    assert ndi.label(one.masks["rbc"], EIGHT)[1] == 20
    assert ndi.label(one.labels > 0, EIGHT)[1] == 27


def test_overlap_makes_red_cells_share_pixels():
    def shared(one):
        areas = np.pi * one.cells.query("cell_class == 'rbc'")["radius"] ** 2
        return areas.sum() - one.masks["rbc"].sum()

    assert shared(smear(overlap=0)) == pytest.approx(0, abs=1e-6)
    assert shared(smear(overlap=0.5)) > shared(smear(overlap=0.1)) > 0


def test_same_seed_same_smear_other_seed_another():
    first, again, other = smear(7), smear(7), smear(8)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert first.cells.equals(again.cells)
    assert (first.labels != other.labels).any()


def test_empty_field_is_background_of_the_given_stain():
    empty = smear(n_rbc=0, n_wbc=0, n_platelets=0, noise=0, light=0, stain="giemsa")
    assert empty.counts == {"rbc": 0, "wbc": 0, "platelet": 0}
    assert len(empty.cells) == 0
    assert not empty.labels.any()
    assert (empty.image == [0xFC, 0xF9, 0xA6]).all()


def test_light_darkens_by_no_more_than_its_share():
    empty = smear(n_rbc=0, n_wbc=0, n_platelets=0, noise=0, light=0.4)
    share = empty.image[..., 0] / 0xFC
    assert share.max() == pytest.approx(1, abs=0.01)
    assert share.min() == pytest.approx(0.6, abs=0.01)


def test_noise_has_the_given_deviation_and_blur_smooths():
    field = {"n_rbc": 0, "n_wbc": 0, "n_platelets": 0, "light": 0, "stain": "wright"}
    # 48,000 values per colour: the standard error of the deviation is 0.02.
    assert smear(noise=5, **field).image.std(axis=(0, 1)).mean() == pytest.approx(5, abs=0.1)
    sharp, soft = (
        np.abs(np.diff(smear(noise=0, blur=blur).image.astype(float), axis=0)).max() for blur in (0, 3)
    )
    assert soft < sharp / 2


def test_red_cells_are_paler_in_the_middle():
    one = smear(n_wbc=0, n_platelets=0, overlap=0, noise=0, light=0, rbc_radius=14)
    gray = one.image.mean(axis=-1)
    depth = ndi.distance_transform_edt(one.labels > 0)
    for label in one.cells["label"]:
        own = one.labels == label
        assert (
            gray[own & (depth > 0.8 * depth[own].max())].mean() > gray[own & (depth > 2) & (depth < 5)].mean()
        )


@pytest.mark.parametrize(("cell_type", "stain"), list(product(CELL_TYPES, STAINS)))
def test_a_cell_is_near_the_centre_and_its_nucleus_darkest(cell_type, stain):
    one = draw_cell(cell_type, rng=np.random.default_rng(3), stain=stain)
    assert one.image.shape == (120, 120, 3)
    assert one.counts["wbc"] == 1
    assert one.counts["rbc"] >= 2
    row = one.cells.query("cell_class == 'wbc'").iloc[0]
    assert row["cell_type"] == cell_type
    assert abs(row["row"] - 60) <= 6
    assert abs(row["column"] - 60) <= 6
    gray = one.image.mean(axis=-1)
    rest = one.masks["wbc"] & ~one.nucleus
    assert gray[one.nucleus].mean() < gray[rest].mean() < gray[one.labels == 0].mean()


@pytest.mark.parametrize("shape", [(32, 32), (40, 90), (120, 120), (300, 300)])
def test_a_cell_can_be_drawn_at_any_size(shape):
    for seed, cell_type in enumerate(CELL_TYPES):
        one = draw_cell(cell_type, rng=np.random.default_rng(seed), shape=shape)
        assert one.labels.shape == shape
        assert one.nucleus.any()
        assert not (one.nucleus & ~one.masks["wbc"]).any()


def test_types_differ_in_form():
    nuclei = {t: [draw_cell(t, rng=np.random.default_rng(s)) for s in range(8)] for t in CELL_TYPES}
    solid = {t: [solidity(one.nucleus) for one in drawn] for t, drawn in nuclei.items()}
    share = {t: [one.nucleus.sum() / one.masks["wbc"].sum() for one in drawn] for t, drawn in nuclei.items()}
    # Lobes around a hollow against one round nucleus, which leaves a thin rim of cytoplasm only.
    assert max(solid["neutrophil"]) < min(solid["lymphocyte"])
    assert np.mean(solid["neutrophil"]) < np.mean(solid["basophil"]) < np.mean(solid["lymphocyte"])
    assert max(share["neutrophil"]) < 0.5 < min(share["lymphocyte"])


def test_neutrophil_lobes_are_joined():
    for seed in range(10):
        nucleus = draw_cell("neutrophil", rng=np.random.default_rng(seed)).nucleus
        assert ndi.label(nucleus, EIGHT)[1] == 1


def test_stains_differ_in_the_background():
    colors = [draw_cell("lymphocyte", rng=np.random.default_rng(0), stain=s) for s in STAINS]
    giemsa, may_grunwald, wright = (np.median(c.image[c.labels == 0], axis=0) for c in colors)
    assert giemsa[2] < 0.75 * giemsa[0]  # yellow lacks blue
    assert may_grunwald[0] > may_grunwald[1] > may_grunwald[2] > giemsa[2]  # cream
    assert np.ptp(wright) < 10  # grey


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": (60, 200)}, "`shape` must be two whole numbers, each at least 70 pixels"),
        ({"shape": (200, 200, 3)}, "`shape` must be two whole numbers"),
        ({"shape": (200.0, 200)}, "`shape` must be two whole numbers"),
        ({"shape": 200}, "`shape` must be two whole numbers"),
        ({"n_rbc": -1}, "`n_rbc` must be a whole number, 0 or more. Received: -1"),
        ({"n_wbc": 1.5}, "`n_wbc` must be a whole number"),
        ({"n_platelets": -3}, "`n_platelets` must be a whole number"),
        ({"overlap": 0.9}, "`overlap` must be between 0 and 0.7"),
        ({"stain": "gram"}, "`stain` must be one of giemsa, may-grunwald, wright. Received: 'gram'"),
        ({"blur": -1}, "`blur` must be between 0 and 9"),
        ({"noise": -1}, "`noise` must be between 0 and 99"),
        ({"light": 1}, "`light` must be between 0 and 0.9"),
        ({"rbc_radius": 2}, "`rbc_radius` must be at least 4"),
        ({"n_rbc": 300, "overlap": 0}, "Could place only .* of 307 cells in 200 x 240 pixels"),
        ({"n_wbc": 60}, "Could place only .* Ask for fewer cells"),
    ],
)
def test_bad_requests_name_the_argument(options, message):
    with pytest.raises(UserError, match=message):
        smear(**options)


def test_seed_instead_of_generator_is_refused():
    with pytest.raises(UserError, match=r"`rng` must be a numpy random Generator\. Received: 0"):
        draw_smear(rng=0, n_rbc=1, n_wbc=0, n_platelets=0)


@pytest.mark.parametrize(
    ("cell_type", "options", "message"),
    [
        ("eosinophil", {}, "`cell_type` must be one of neutrophil, lymphocyte, basophil"),
        ("basophil", {"shape": (20, 120)}, "`shape` must be two whole numbers, each at least 32"),
        ("basophil", {"stain": ""}, "`stain` must be one of"),
    ],
)
def test_bad_cells_name_the_argument(cell_type, options, message):
    with pytest.raises(UserError, match=message):
        draw_cell(cell_type, rng=np.random.default_rng(0), **options)


def test_split_sizes_types_and_names():
    assert SPLIT_SIZES == {"train": 60, "val": 15, "test": 30}
    samples = load_split("val")
    assert [s.cell_type for s in samples] == ["neutrophil", "lymphocyte", "basophil"] * 5
    assert [s.image_id for s in samples] == [f"synthetic-val-{i:03d}" for i in range(15)]
    for sample in samples:
        assert sample.dataset == "synthetic"
        assert sample.image.shape == (120, 120, 3)
        assert sample.nucleus.any()
        assert not (sample.nucleus & ~sample.cell).any()


def test_a_limit_takes_the_first_samples_after_the_type_filter():
    every = load_split("test")
    assert len(every) == 30
    basophils = [s for s in every if s.cell_type == "basophil"]
    few = load_split("test", cell_types=["basophil"], limit=3)
    assert [s.image_id for s in few] == [s.image_id for s in basophils[:3]]
    for sample, same in zip(few, basophils[:3], strict=True):
        np.testing.assert_array_equal(sample.image, same.image)
    assert len(load_split("val", limit=99)) == 15


def test_types_may_come_from_a_generator():
    samples = load_split("val", cell_types=(name for name in ["lymphocyte"]))
    assert [s.cell_type for s in samples] == ["lymphocyte"] * 5


def test_splits_hold_different_images():
    images = [s.image.tobytes() for split in SPLIT_SIZES for s in load_split(split, limit=6)]
    assert len(set(images)) == 18


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "dev"}, "`split` must be one of train, val, test. Received: 'dev'"),
        (
            {"split": "val", "cell_types": ["monocyte"]},
            "`cell_types` must be a list of types from neutrophil",
        ),
        ({"split": "val", "cell_types": "basophil"}, "`cell_types` must be a list"),
        ({"split": "val", "limit": 0}, "`limit` must be None or at least 1"),
        ({"split": "val", "limit": 2.5}, "`limit` must be None or at least 1, a whole number"),
        ({"split": "val", "limit": "2"}, "`limit` must be None or at least 1, a whole number"),
    ],
)
def test_bad_splits_name_the_argument(arguments, message):
    with pytest.raises(UserError, match=message):
        load_split(**arguments)

"""The generated phantoms: deterministic, labelled as documented, with clear errors for a wrong declaration."""

from pathlib import Path

import numpy as np
import pytest

from raygrid.data.datasets.base import INDEX_COLUMNS, Index
from raygrid.data.phantoms.base import Phantom
from raygrid.data.phantoms.drawing import paint_blobs, smooth_noise
from raygrid.data.phantoms.fundus import RADIUS, PhantomFundus
from raygrid.data.phantoms.textures import PhantomTextures
from raygrid.data.phantoms.tissue import CENTRE, PATCHES, PhantomTissue
from raygrid.data.phantoms.xray import PhantomXray
from raygrid.errors import DataError, SpecError
from raygrid.hashing import Json
from raygrid.spec import DatasetSpec

PHANTOMS: dict[str, type[Phantom]] = {
    "fundus": PhantomFundus,
    "xray": PhantomXray,
    "tissue": PhantomTissue,
    "textures": PhantomTextures,
}
MEDICAL = ("fundus", "xray", "tissue")
PREVALENCE = {
    "fundus": {"referable": (0.35, 0.5)},
    "tissue": {"metastasis": (0.35, 0.5)},
    "xray": {
        "effusion": (0.27, 0.37),
        "nodule": (0.22, 0.33),
        "cardiomegaly": (0.18, 0.28),
        "infiltration": (0.31, 0.42),
    },
}


def phantom(kind: str, *, patients: int = 3, size: int = 48, channels: int | None = None) -> Phantom:
    options: dict[str, Json] = {"patients": patients}
    return declared(kind, options, size=size, channels=channels)


def declared(kind: str, options: dict[str, Json], *, size: int = 48, channels: int | None = None) -> Phantom:
    channels = PHANTOMS[kind].channels if channels is None else channels
    spec = DatasetSpec(loader=f"phantom_{kind}", image_size=size, channels=channels, options=options)
    return PHANTOMS[kind](spec, Path("/nowhere"))


@pytest.mark.parametrize("kind", PHANTOMS)
@pytest.mark.parametrize("size", [32, 48, 64])
def test_pictures_have_the_declared_shape_and_use_the_grey_scale(kind: str, size: int) -> None:
    data = phantom(kind, size=size)
    picture = data.read(data.index().table["locator"].iloc[0])
    assert picture.shape == (size, size, PHANTOMS[kind].channels)
    assert data.source_size(data.index().table["locator"].iloc[0]) == (size, size)
    assert picture.dtype == np.uint8
    assert np.ptp(picture) > 40


@pytest.mark.parametrize("kind", PHANTOMS)
def test_picture_and_labels_of_an_id_do_not_depend_on_the_number_of_patients(kind: str) -> None:
    few, many = phantom(kind, patients=4), phantom(kind, patients=9)
    small, large = few.index().table, many.index().table
    assert small.equals(large.iloc[: len(small)])
    for image_id in reversed(small["locator"]):
        np.testing.assert_array_equal(few.read(image_id), many.read(image_id))


@pytest.mark.parametrize(
    ("kind", "version", "fingerprint", "mean", "deviation", "tilt"),
    [
        ("fundus", 1, "b17bd6663e92ef4c", 62.987, 59.347, 1.646),
        ("xray", 2, "363dcaf82bc94320", 126.433, 63.659, 16.002),
        ("tissue", 1, "50a2e213a50ad9cd", 168.779, 47.030, -0.487),
        ("textures", 1, "768d78ad33205e9a", 117.917, 57.027, 1.988),
    ],
)
def test_phantoms_are_those_of_earlier_versions(
    kind: str, version: int, fingerprint: str, mean: float, deviation: float, tilt: float
) -> None:
    """A change of a picture or label needs a new `version`, or finished studies would mix two kinds of images."""
    data = phantom(kind)
    index = data.index()
    pictures = np.stack([data.read(image_id) for image_id in index.table["locator"]]).astype(float)
    assert data.version == version
    assert index.fingerprint().startswith(fingerprint)
    line = np.linspace(-1, 1, 48)
    slope = (pictures * (line[:, None, None] + 2 * line[None, :, None])).mean()
    assert [pictures.mean(), pictures.std(), slope] == pytest.approx([mean, deviation, tilt], abs=0.02)


@pytest.mark.parametrize("kind", PHANTOMS)
def test_different_ids_give_different_pictures(kind: str) -> None:
    data = phantom(kind, patients=12)
    ids = data.index().table["locator"]
    assert len({data.read(image_id).tobytes() for image_id in ids}) == len(ids) >= 12


@pytest.mark.parametrize("kind", PHANTOMS)
def test_the_scene_does_not_depend_on_the_size_it_is_drawn_at(kind: str) -> None:
    fine, coarse = phantom(kind, size=64), phantom(kind, size=32)
    image_id = fine.index().table["locator"].iloc[1]
    halved = fine.read(image_id).reshape(32, 2, 32, 2, -1).mean(axis=(1, 3))
    other = fine.index().table["locator"].iloc[2]
    same = np.corrcoef(halved.ravel(), coarse.read(image_id).ravel())[0, 1]
    assert same > 0.7
    assert same > np.corrcoef(halved.ravel(), coarse.read(other).ravel())[0, 1]


@pytest.mark.parametrize("kind", PHANTOMS)
def test_the_index_is_valid_and_marked_as_a_phantom(kind: str) -> None:
    data = phantom(kind, patients=20)
    index = data.index()
    assert isinstance(index, Index)
    assert list(index.table.columns) == [*INDEX_COLUMNS, *data.labels]
    assert set(index.table["part"]) == {""}
    assert set(index.table["content"]) == {f"{kind} phantom v{data.version}"}
    assert (index.table["locator"] == index.table["image_id"]).all()
    assert all(index.table[label].dtype == np.uint8 and set(index.table[label]) <= {0, 1} for label in data.labels)
    assert len(index.fingerprint()) == 64
    assert data.phantom is True
    assert "phantom" in data.title
    assert "generated" in data.title
    assert data.missing() == []


@pytest.mark.parametrize("kind", MEDICAL)
def test_prevalence_is_as_stated(kind: str) -> None:
    table = phantom(kind, patients=120 if kind == "tissue" else 700).index().table
    for label, (low, high) in PREVALENCE[kind].items():
        assert low < table[label].mean() < high, label


@pytest.mark.parametrize("kind", MEDICAL)
def test_three_to_six_percent_of_labels_are_noise(kind: str) -> None:
    data = phantom(kind, patients=120 if kind == "tissue" else 500)
    table = data.index().table
    truth = np.array([data.truth(image_id) for image_id in table["image_id"]])
    assert 0.03 < np.mean(truth != table[list(data.labels)].to_numpy()) < 0.06


def test_images_per_patient() -> None:
    def counts(kind: str) -> set[int]:
        return set(phantom(kind, patients=40).index().table.groupby("patient_id").size())

    assert counts("fundus") == {2}
    assert counts("xray") == {1, 2, 3, 4}
    assert counts("tissue") == {PATCHES}
    assert counts("textures") == {1}


@pytest.mark.parametrize("kind", ["fundus", "tissue"])
def test_images_of_one_patient_share_their_colour(kind: str) -> None:
    data = phantom(kind, patients=30)
    table = data.index().table
    ids = table.groupby("patient_id")["locator"].agg(["first", "last"])
    hue = np.array([[_hue(data.read(image_id)) for image_id in pair] for pair in ids.to_numpy()])
    assert np.corrcoef(hue.T)[0, 1] > 0.4


def _hue(picture: np.ndarray) -> float:
    means = picture[picture.sum(axis=2) > 60].mean(axis=0)
    return float(means[1] / means[0])


def test_both_eyes_of_a_patient_mostly_agree() -> None:
    data = phantom("fundus", patients=400)
    right, left = (np.array([data.truth(f"p{n:05d}-{eye}")[0] for n in range(400)]) for eye in (0, 1))
    assert 0.65 < np.mean(right == left) < 0.95


def test_fundus_is_black_outside_the_field_of_view() -> None:
    data = phantom("fundus", size=64)
    line = (np.arange(64) + 0.5) / 64 - 0.5
    radius = np.hypot(line[:, None], line[None, :])
    for image_id in data.index().table["locator"]:
        picture = data.read(image_id)
        assert picture[radius > RADIUS + 1 / 64].max() == 0
        assert picture[radius < RADIUS - 1 / 64].max(axis=1).min() > 30


def test_the_optic_disc_lies_on_opposite_sides_in_both_eyes() -> None:
    data = phantom("fundus", patients=8)
    right, left = (np.mean([data.read(f"p{n:05d}-{eye}")[22:27, :, 2] for n in range(8)], axis=0) for eye in (0, 1))
    assert right[:, 34:40].mean() > right[:, 8:14].mean() + 20
    assert left[:, 8:14].mean() > left[:, 34:40].mean() + 20


def test_tumour_at_the_border_only_is_negative_and_tumour_in_the_centre_positive() -> None:
    data = phantom("tissue", patients=40)
    assert isinstance(data, PhantomTissue)
    border_only = central = 0
    for image_id in data.index().table["image_id"]:
        cells = data.cells(image_id)
        inside = any(max(abs(y - 0.5), abs(x - 0.5)) < CENTRE for y, x in cells.tumour)
        assert data.truth(image_id) == (int(inside),)
        central += inside
        border_only += len(cells.tumour) > 0 and not inside
    assert central > 80
    assert border_only > 20


def test_findings_of_the_xray_are_correlated() -> None:
    data = phantom("xray", patients=600)
    truth = np.array([data.truth(image_id) for image_id in data.index().table["image_id"]])
    correlation = np.corrcoef(truth.T)
    effusion, nodule, cardiomegaly = 0, 1, 2
    assert 0.1 < correlation[effusion, cardiomegaly] < 0.6
    assert abs(correlation[effusion, nodule]) < 0.12


def test_textures_are_one_hot_and_cover_all_classes() -> None:
    data = phantom("textures", patients=300)
    labels = data.index().table[list(data.labels)].to_numpy()
    assert labels.shape == (300, 8)
    assert (labels.sum(axis=1) == 1).all()
    assert labels.sum(axis=0).min() > 15


@pytest.mark.parametrize("kind", PHANTOMS)
def test_an_unknown_option_gets_a_near_miss(kind: str) -> None:
    with pytest.raises(SpecError, match=rf"phantom_{kind}: unknown option 'patient'; did you mean 'patients'"):
        declared(kind, {"patient": 10})


@pytest.mark.parametrize("kind", PHANTOMS)
@pytest.mark.parametrize("patients", [None, 0, -1, 2.5, "10", True])
def test_patients_must_be_a_positive_integer(kind: str, patients: Json) -> None:
    with pytest.raises(SpecError, match="needs the option patients") as caught:
        declared(kind, {} if patients is None else {"patients": patients})
    assert repr(patients) in str(caught.value)


@pytest.mark.parametrize("kind", PHANTOMS)
def test_wrong_channels_are_refused(kind: str) -> None:
    wrong = 3 if kind == "xray" else 1
    with pytest.raises(SpecError, match=f"channels={wrong}"):
        phantom(kind, channels=wrong)


def test_too_small_a_picture_is_refused() -> None:
    with pytest.raises(SpecError, match="at least 32"):
        phantom("fundus", size=31)


@pytest.mark.parametrize("kind", PHANTOMS)
def test_the_error_for_an_invalid_image_id_has_the_expected_pattern(kind: str) -> None:
    with pytest.raises(DataError, match="expected the pattern"):
        phantom(kind).read("p1")


def test_a_blob_covers_its_area_and_leaves_the_rest_black() -> None:
    picture = paint_blobs(64, np.array([[0.25, 0.5], [1.4, 0.5]]), np.full((2, 2), 0.1), np.array([0.5, 1.0]))
    assert picture.max() == pytest.approx(0.5)
    assert picture.sum() * 2 / 64**2 == pytest.approx(np.pi * 0.1**2, rel=0.03)
    assert picture[32:].max() == 0


def test_smooth_noise_has_unit_variance_and_does_not_depend_on_the_size() -> None:
    def field(size: int) -> np.ndarray:
        return smooth_noise(np.random.default_rng(5), size, 16)

    assert field(96).std() == pytest.approx(1, abs=0.15)
    np.testing.assert_allclose(field(96)[1::3, 1::3], field(32), atol=1e-5)

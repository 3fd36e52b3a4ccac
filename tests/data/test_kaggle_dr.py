"""The loader of Kaggle's retinal photographs, on a small generated copy of its layout."""

from pathlib import Path

import numpy as np
import pytest
from small_data import fundus, make_kaggle, save

from raygrid.data.datasets.kaggle_dr import KaggleDR
from raygrid.errors import DataError, MissingDataError, SpecError
from raygrid.spec import DatasetSpec


@pytest.fixture
def kaggle(tmp_path: Path) -> Path:
    return make_kaggle(tmp_path)


def kaggle_dr(root: Path, channels: int = 3, **options: object) -> KaggleDR:
    spec = DatasetSpec(loader="kaggle_dr", image_size=32, channels=channels, options=options)
    return KaggleDR(spec, root.parent)


def test_kaggle_merges_both_parts_despite_bom_and_crlf(kaggle):
    data = kaggle_dr(kaggle)
    assert data.missing() == []
    index = data.index()
    table = index.table.set_index("image_id")
    assert index.labels == ("referable",)
    assert table["referable"].to_dict() == {
        "10_left": 0, "10_right": 0, "13_left": 1, "13_right": 1, "1_left": 1, "1_right": 0,
    }  # fmt: skip
    assert table["referable"].dtype == np.uint8
    assert table["patient_id"].to_dict()["13_right"] == "13"
    assert set(table["part"]) == {""}
    size = (kaggle / "test" / "1_left.jpeg").stat().st_size
    assert f"{size} bytes" in table.loc["1_left", "content"]
    image = data.read(table.loc["1_left", "locator"])
    assert image.shape == (32, 32, 3)
    assert image.dtype == np.uint8
    assert image[16, 1:31, 0].min() > 40  # the disc fills the width once its border is gone


def test_kaggle_fingerprint_sees_a_changed_image(kaggle):
    before = kaggle_dr(kaggle).index().fingerprint()
    save(fundus(80, 120, (40, 60), 37), kaggle / "test" / "1_left.jpeg")
    assert kaggle_dr(kaggle).index().fingerprint() != before


def test_kaggle_lists_absent_files_and_their_source(tmp_path):
    lines = kaggle_dr(tmp_path / "kaggle_dr").missing()
    for name, line in zip(("train", "trainLabels.csv", "test", "retinopathy_solution.csv"), lines[:4], strict=True):
        assert f"{tmp_path / 'kaggle_dr' / name}:" in line
    assert "diabetic-retinopathy-detection" in lines[4]
    assert "docs/how-to/data-sets.md" in lines[4]
    assert len(lines) == 5
    with pytest.raises(MissingDataError, match=r"trainLabels\.csv: not found"):
        kaggle_dr(tmp_path / "kaggle_dr").index()


def test_kaggle_rejects_absent_and_empty_images_by_name(kaggle):
    (kaggle / "train" / "13_left.jpeg").unlink()
    (kaggle / "test" / "1_right.jpeg").write_bytes(b"")
    index = kaggle_dr(kaggle).index()
    assert list(index.table["image_id"]) == ["10_left", "10_right", "13_right", "1_left"]
    first, second = index.rejects
    assert first.image_id == "13_left"
    assert f"{kaggle / 'train' / '13_left.jpeg'}: expected an image file, got no such file" in first.reason
    assert "www.kaggle.com/c/diabetic-retinopathy-detection" in first.reason  # the advice, once
    assert second.image_id == "1_right"
    assert "got an empty file (0 bytes); extract the file again from its archive" in second.reason


def test_kaggle_without_any_image_is_missing(kaggle):
    for file in kaggle.glob("*/*.jpeg"):
        file.unlink()
    with pytest.raises(MissingDataError, match=r"none of the 6 images .*10_left, (.|\n)*www\.kaggle\.com"):
        kaggle_dr(kaggle).index()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("image,level,Usage\n1_left,3,Private\n1_right,x,Public\n", r"solution\.csv, row 3: expected a grade.*'x'"),
        ("image,level,Usage\n1_left,-1,Private\n", r"row 2: expected a grade.*'-1'"),
        ("image,grade\n1_left,3\n", r"row 1: expected the columns .*lacking \['level'\]"),
        ("image,level\n1_left\n", r"row 2: expected 2 values, got 1"),
        ("image,level\nleft_1,0\n", r"row 2: expected an image name such as '10_left'.*'left_1'"),
        ("image,level\n1_left,0\n10_left,0\n", r"row 3: image '10_left' was graded before"),
        ("", r"row 1: expected the columns"),
    ],
)
def test_kaggle_names_file_and_row_of_a_bad_label(kaggle, labels, message):
    (kaggle / "retinopathy_solution.csv").write_text(labels)
    with pytest.raises(DataError, match=message):
        kaggle_dr(kaggle).index()


def test_labels_not_in_utf_8_are_an_error(kaggle):
    (kaggle / "trainLabels.csv").write_bytes(b"image,level\n\xff\xfe\x00,0\n")
    with pytest.raises(DataError, match=r"trainLabels\.csv: expected a CSV file in UTF-8"):
        kaggle_dr(kaggle).index()


@pytest.mark.parametrize("content", [b"", b"no image", "half"])
def test_an_unreadable_image_is_named(kaggle, content):
    path = kaggle / "train" / "10_left.jpeg"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    message = r"10_left\.jpeg: expected a complete PNG, JPEG.*, got .*; extract the file again from its archive"
    with pytest.raises(DataError, match=message):
        kaggle_dr(kaggle).read("train/10_left.jpeg")


def test_kaggle_size_comes_from_the_header(kaggle):
    assert kaggle_dr(kaggle).source_size("train/10_left.jpeg") == (60, 90)


def test_kaggle_needs_colour(tmp_path):
    with pytest.raises(SpecError, match="channels is 1, expected 3"):
        kaggle_dr(tmp_path / "kaggle_dr", channels=1)


@pytest.mark.parametrize("share", [0.1, 1.2, "half"])
def test_an_invalid_central_field_is_refused(share, tmp_path):
    with pytest.raises(SpecError, match=r"central_field.*expected a share"):
        kaggle_dr(tmp_path / "kaggle_dr", central_field=share)

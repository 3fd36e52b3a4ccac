"""MedMNIST archives, each made small from generated arrays."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from raygrid.data.datasets import npz, open_dataset
from raygrid.data.datasets.medmnist import MedMnist
from raygrid.data.datasets.npz import read_npz_row
from raygrid.errors import DataError, MissingDataError, SpecError
from raygrid.spec import DatasetSpec

RNG = np.random.default_rng(7)
COUNTS = {"train": 6, "val": 3, "test": 4}


def arrays(shape: tuple[int, ...] = (28, 28), labels: dict[str, object] | None = None) -> dict[str, np.ndarray]:
    made = {}
    for part, count in COUNTS.items():
        made[f"{part}_images"] = RNG.integers(0, 256, (count, *shape)).astype(np.uint8)
        made[f"{part}_labels"] = (np.arange(count) % 2).astype(np.uint8)[:, None]
    return made | (labels or {})


def classes(num_classes: int) -> dict[str, object]:
    return {f"{part}_labels": (np.arange(n) % num_classes)[:, None].astype(np.uint8) for part, n in COUNTS.items()}


def written(root: Path, made: dict[str, np.ndarray], save: object = np.savez_compressed) -> Path:
    path = root / "medmnist" / "set.npz"
    path.parent.mkdir(exist_ok=True)
    save(path, **made)
    return path


def medmnist(root: Path, channels: int = 1, size: int = 28, **options: object) -> MedMnist:
    spec = DatasetSpec(loader="medmnist", image_size=size, channels=channels, options={"file": "set.npz", **options})
    data = open_dataset(spec, root)
    assert isinstance(data, MedMnist)
    return data


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(("shape", "channels"), [((28, 28), 1), ((20, 24), 1), ((28, 28, 3), 3), ((28, 28, 1), 1)])
def test_every_image_is_the_one_its_row_names(tmp_path, save, shape, channels):
    made = arrays(shape)
    written(tmp_path, made, save)
    data = medmnist(tmp_path, channels, size=max(shape[:2]))
    index = data.index()
    table = index.table.set_index("image_id")
    assert index.labels == ("class_1",)
    assert table["part"].value_counts().to_dict() == {"development": 9, "test": 4}
    assert (table["patient_id"] == table.index).all()
    assert "no patients" in index.notes[0]
    assert data.title == "MedMNIST, set"
    for name in ("test-000003", "train-000000", "train-000005", "val-000001", "train-000002"):
        part, number = name.split("-")
        image = made[f"{part}_images"][int(number)].reshape(*shape[:2], channels)
        top = (max(shape[:2]) - shape[0]) // 2
        assert np.array_equal(data.read(table.loc[name, "locator"])[top : top + shape[0]], image)
        assert data.source_size(table.loc[name, "locator"]) == shape[:2]
        assert table.loc[name, "class_1"] == int(number) % 2


def test_channels_are_converted(tmp_path):
    made = arrays((28, 28, 3))
    path = written(tmp_path, made)
    assert medmnist(tmp_path, channels=1).read("test/0").shape == (28, 28, 1)
    path.unlink()
    grey = arrays()
    written(tmp_path, grey)
    assert np.array_equal(medmnist(tmp_path, channels=3).read("test/1"), np.stack([grey["test_images"][1]] * 3, -1))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_rows_are_found_in_any_order_and_unpacked_once(tmp_path, save, monkeypatch):
    images = RNG.integers(0, 4, (60, 33, 31)).astype(np.uint8)  # deflates to about a quarter
    path = tmp_path / "x.npz"
    save(path, a=images, b=images[:2])
    for row in [59, 0, 1, 2, 30, 29, 31, 32, *RNG.permutation(60)]:
        assert np.array_equal(read_npz_row(path, "a", int(row)), images[row])
    npz._mapped.cache_clear()  # as in another process of the node
    monkeypatch.setattr("shutil.copyfileobj", lambda *_: pytest.fail("unpacked again"))
    assert np.array_equal(read_npz_row(path, "a", 7), images[7])


def test_a_changed_archive_is_unpacked_again(tmp_path):
    path = tmp_path / "x.npz"
    for value in (1, 2):
        np.savez(path, a=np.full((3, 4, 4), value, np.uint8))
        assert read_npz_row(path, "a", 2).tolist() == [[value] * 4] * 4


def test_several_label_columns_are_as_many_labels(tmp_path):
    labels = {f"{part}_labels": RNG.integers(0, 2, (n, 3)) for part, n in COUNTS.items()}
    written(tmp_path, arrays(labels=labels))
    index = medmnist(tmp_path).index()
    assert index.labels == ("label_0", "label_1", "label_2")
    assert np.array_equal(index.table[list(index.labels)].to_numpy()[-4:], labels["test_labels"])
    assert medmnist(tmp_path, labels=["a", "b", "c"]).index().labels == ("a", "b", "c")


def test_classes_become_one_label_each_or_one_for_the_positive(tmp_path):
    written(tmp_path, arrays(labels=classes(4)))
    index = medmnist(tmp_path).index()
    assert index.labels == ("class_0", "class_1", "class_2", "class_3")
    assert np.array_equal(index.table[list(index.labels)].to_numpy()[-4:], np.eye(4))
    referable = medmnist(tmp_path, positive=[2, 3], labels=["referable"]).index()
    assert referable.labels == ("referable",)
    assert referable.table["referable"].tolist()[-4:] == [0, 0, 1, 1]


def test_the_fingerprint_sees_a_changed_pixel(tmp_path):
    made = arrays()
    path = written(tmp_path, made)
    before = medmnist(tmp_path).index().fingerprint()
    made["val_images"][0, 0, 0] ^= 1
    path.unlink()
    written(tmp_path, made)
    assert medmnist(tmp_path).index().fingerprint() != before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"file": "../x.npz"}, r"option file is '\.\./x\.npz'; expected a file's path relative to"),
        ({"positive": [4]}, r"option positive is \[4\]; expected some, not all, of the classes 0 to 3 of set\.npz"),
        ({"positive": [0, 1, 2, 3]}, "expected some, not all"),
        ({"positive": ["a"]}, r"option positive is \['a'\]; expected a list of classes"),
        ({"labels": ["a", "b"]}, r"option labels has 2 names; set\.npz gives 4"),
        ({"labels": ["part"]}, "option labels holds 'part'; expected a name other than"),
        ({"label": ["a"]}, "did you mean 'labels'"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path, options, message):
    written(tmp_path, arrays(labels=classes(4)))
    with pytest.raises(SpecError, match=message):
        medmnist(tmp_path, **options).index()


def test_positive_needs_classes(tmp_path):
    written(tmp_path, arrays(labels={f"{p}_labels": np.ones((n, 2), np.uint8) for p, n in COUNTS.items()}))
    with pytest.raises(SpecError, match=r"option positive needs a task of classes; set\.npz has 2 labels"):
        medmnist(tmp_path, positive=[1]).index()


def test_an_absent_archive_is_missing(tmp_path):
    with pytest.raises(MissingDataError, match=r"set\.npz: not found\n.*medmnist\.com"):
        medmnist(tmp_path).index()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test_images": np.zeros((4, 28, 28, 28), np.uint8)}, r"volumes .* not supported; choose a 2D set"),
        ({"test_images": np.zeros((4, 28, 28), np.float32)}, r"test_images of shape .*uint8; got .*float32"),
        ({"val_labels": np.zeros((2, 1), np.uint8)}, r"val_labels of shape \(3, k\).*got \(2, 1\)"),
        ({"val_labels": np.array([[0], [-1], [1]])}, r"val_labels, row 1: expected a class from 0 to 1000, got -1"),
        ({"test_labels": np.full((4, 2), 3)}, r"test_labels, row 0: expected 0 or 1, got 3"),
        ({"test_labels": np.zeros((4, 2), int)}, r"the same number of label columns in every part, got \[1, 2\]"),
        ({"val_labels": np.array([["a"], ["b"], ["c"]])}, r"val_labels .*whole numbers.*<U1"),
        ({"test_images": np.array([None] * 4)}, r"Python objects, which would be unpickled"),
        (
            {"test_images": np.zeros((4, 3, 28, 28), np.uint8)},
            r"\(4, 3, 28, 28\), uint8: the channels come first; move",
        ),
        (
            {"test_images": np.zeros((4, 1, 28, 28), np.uint8)},
            r"channels come first; .*numpy\.moveaxis\(images, 1, -1\)$",
        ),
        ({"test_images": np.zeros((4, 4, 28, 28), np.uint8)}, r"channels come first, the last one is transparency"),
        ({"test_images": np.zeros((4, 28, 28, 4), np.uint8)}, r"\(4, 28, 28, 4\), uint8: the last channel is transp"),
        (
            {"test_images": np.zeros((4, 28, 28, 2), np.uint8)},
            r"last channel is transparency; drop it, images\[\.\.\., :-1",
        ),
        ({"test_images": np.zeros((4, 28, 28, 28, 1), np.uint8)}, r"volumes .* not supported; choose a 2D set"),
        ({"test_images": np.zeros((28, 28, 3), np.uint8)}, r"\(28, 28, 3\), uint8: a single colour image"),
        ({"test_images": np.zeros((4, 784), np.uint8)}, r"\(4, 784\), uint8: another number of dimensions"),
        ({"test_images": np.zeros((0, 28, 28), np.uint8)}, r"\(0, 28, 28\), uint8: it holds no image"),
        ({"test_images": np.ones((4, 28, 28))}, r"float64: floats; convert values from 0 to 1 by numpy\.rint\(255"),
        ({"test_images": np.ones((4, 28, 28), bool)}, r"bool: true and false, such as a mask; save the images"),
        ({"test_images": np.ones((4, 28, 28), np.uint16)}, r"uint16: wider integers; scale the values to 0 to 255"),
        ({"test_images": np.full((4, 28, 28), "a")}, r"<U1: no numbers; save the pixels as uint8"),
        ({"val_labels": np.zeros((3, 28, 28), np.uint8)}, r"labels of one image have 2 dimensions; save one class per"),
        ({"val_labels": np.array(1)}, r"val_labels of shape \(3, k\).*got \(\), int64: labels of one image have 0 dim"),
        ({"val_labels": np.zeros((5, 1), int)}, r"val_images has 3 images and val_labels 5 rows; save as many labels"),
        (
            {"val_labels": np.array([0.0, 1.0, 1.0])},
            r"whole numbers stored as floats; save labels\.astype\(numpy\.int64\)",
        ),
        ({"val_labels": np.array([0.2, 0.9, 1.0])}, r"fractions, such as probabilities; save the class of each image"),
        ({"val_labels": np.array([0.0, np.nan, 1.0])}, r"not a number \(NaN\); leave these images out"),
        ({"val_labels": np.array(["benign", "x", "x"])}, r"text such as 'benign', 'x'; number the classes 0, 1"),
        ({"val_labels": np.array([0, 2**64 - 1, 1], np.uint64)}, r"row 1: .*from 0 to 1000, got 18446744073709551615;"),
        ({"val_labels": np.array([-1, 1, 1])}, r"row 0: expected a class from 0 to 1000, got -1; number the classes 0"),
        ({"val_labels": np.array([0, 255, 255])}, r"expected classes numbered 0, 1, .* got 0, 1, 255; number them by"),
        (
            {f"{p}_labels": np.arange(n) % 2 + 1 for p, n in COUNTS.items()},
            r"expected classes numbered .* got 1, 2; num",
        ),
        ({"val_labels": np.zeros((3, 25_000_000), np.uint8)}, "75000128 bytes, expected at most 64 MiB"),
        ({"test_images": np.asfortranarray(np.zeros((4, 28, 28), np.uint8))}, r"in Fortran order"),
    ],
)
def test_archives_of_another_content_are_refused(tmp_path, change, message):
    written(tmp_path, arrays() | change)
    with pytest.raises(DataError, match=message):
        medmnist(tmp_path).index()


def test_an_absent_array_is_named(tmp_path):
    made = arrays()
    del made["val_images"]
    written(tmp_path, made)
    with pytest.raises(DataError, match=r"expected an array 'val_images', got \['test_images', .*; download the"):
        medmnist(tmp_path).index()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"the file is empty \(0 bytes\)"),
        (bytes(999), "the file begins with zeros, usually after an unfinished copy"),
        (b"PK\x03\x04 and less", "the file is cut off or damaged"),
        (b"\x93NUMPY\1\0", "the file is a NumPy array"),
        (b"<html><body>404", "the file is a web page or XML"),
        (b"version https://git-lfs.github.com/spec/v1\n", "the file is a Git LFS pointer"),
        (b"\x1f\x8b\x08", "the file is a gzip archive"),
        (b"\x89HDF\r\n", "the file is an HDF5 file"),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path, content, message):
    written(tmp_path, arrays()).write_bytes(content)
    with pytest.raises(DataError, match=rf"set\.npz: expected an archive .*BadZipFile: .*{message}.*; download"):
        medmnist(tmp_path).index()


def test_an_archive_without_arrays_or_in_another_packing_is_named(tmp_path):
    path = written(tmp_path, arrays())
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as new:
        for name, content in members.items():
            new.writestr(name, content)
    with pytest.raises(DataError, match=r"array 'train_images' encrypted, or packed .*; save it again with"):
        medmnist(tmp_path).index()
    with zipfile.ZipFile(path, "w"):
        pass
    with pytest.raises(DataError, match=r"an array 'train_images', got an empty archive; lacking"):
        medmnist(tmp_path).index()


def test_a_header_of_a_nested_type_is_damage(tmp_path):
    path = written(tmp_path, arrays())
    header = b"{'descr':('|u1',(2,)),'fortran_order':False,'shape':(3,)}"
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    members["val_labels.npy"] = b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + bytes(6)
    with zipfile.ZipFile(path, "w") as new:
        for name, content in members.items():
            new.writestr(name, content)
    with pytest.raises(DataError, match=r"set\.npz: expected an archive .*ValueError: cannot reshape"):
        medmnist(tmp_path).index()


def test_an_image_of_another_shape_is_refused_without_an_index_too(tmp_path):
    written(tmp_path, arrays((3, 28, 28)))
    with pytest.raises(DataError, match="the channels come first"):
        medmnist(tmp_path).read("train/0")


def test_an_archive_smaller_than_its_header_says_is_refused(tmp_path):
    path = written(tmp_path, arrays())
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (2**40, 28, 28)})
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, content in (members | {"test_images.npy": header.getvalue()}).items():
            new.writestr(name, content)
    with pytest.raises(DataError, match=r"got array 'test_images' of \(1099511627776, 28, 28\) in 128 bytes"):
        medmnist(tmp_path).index()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_one_changed_byte_makes_every_image_of_the_array_an_error(tmp_path, save, monkeypatch):
    path = written(tmp_path, arrays(), save)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("test_images.npy")
    content[info.header_offset + 200 + info.compress_size // 2] ^= 4
    path.write_bytes(content)
    data = medmnist(tmp_path)
    with pytest.raises(DataError, match=r"set\.npz: expected an archive .*, got .*; download the archive again"):
        data.read("test/0")
    monkeypatch.setattr(npz, "cached_file", None)  # the second image does not read it all again
    with pytest.raises(DataError, match=r"set\.npz: expected an archive"):
        data.read("test/1")
    monkeypatch.undo()
    assert data.read("train/1").shape == (28, 28, 1)
    with pytest.raises(DataError, match=r"expected a row from 0 to 5 of array 'train_images', got 9; the archive"):
        data.read("train/9")


def named(root: Path, name: str, made: dict[str, np.ndarray]) -> str:
    """Write an archive of this name and return its file name."""
    (root / "medmnist").mkdir(exist_ok=True)
    np.savez(root / "medmnist" / name, **made)
    return name


@pytest.mark.parametrize("name", ["breastmnist.npz", "BreastMNIST_224.npz"])
def test_breastmnist_says_that_class_1_is_healthy_and_how_to_choose_the_disease(tmp_path, name):
    file = named(tmp_path, name, arrays())
    index = medmnist(tmp_path, file=file).index()
    assert index.labels == ("class_1",)
    assert index.table["class_1"].sum() == 6  # 3 + 1 + 2 odd places of the parts
    assert index.notes[1].endswith(
        ": class_1 is 1 for class 1 of BreastMNIST, 'normal, benign', and sensitivity refers to it; for the disease "
        "set positive=[0], labels=['malignant']"
    )
    assert index.meanings == {"class_1": "normal, benign"}
    disease = medmnist(tmp_path, file=file, positive=[0], labels=["malignant"]).index()
    assert disease.table["malignant"].sum() == 7
    assert disease.notes[1].endswith(
        "malignant is 1 for class 0 of BreastMNIST, 'malignant', and sensitivity refers to it"
    )
    assert disease.meanings == {}
    with pytest.raises(
        SpecError, match=r"labels gives the name 'malignant', class 0 of BreastMNIST, to class 1.*positive=\[0\]"
    ):
        medmnist(tmp_path, file=file, labels=["malignant"]).index()
    assert medmnist(tmp_path, file=file, labels=["Benign"]).index().meanings == {"Benign": "normal, benign"}


def test_an_archive_of_unknown_classes_is_never_called_positive_without_the_option(tmp_path):
    written(tmp_path, arrays())
    index = medmnist(tmp_path).index()
    assert index.labels == ("class_1",)
    assert "does not know what the two classes mean: class_1 is 1 for class 1, and sensitivity refers" in index.notes[1]
    assert index.meanings == {}
    chosen = medmnist(tmp_path, positive=[0]).index()
    assert chosen.labels == ("positive",)
    assert chosen.meanings == {"positive": "class 0"}
    assert len(chosen.notes) == 1


def test_meanings_of_several_classes_and_columns_are_those_of_the_metadata(tmp_path):
    file = named(tmp_path, "octmnist_64.npz", arrays(labels=classes(4)))
    index = medmnist(tmp_path, file=file).index()
    assert index.meanings["class_0"] == "choroidal neovascularization"
    assert "according to the metadata of OCTMNIST, class_0 is 'choroidal neovascularization'" in index.notes[1]
    either = medmnist(tmp_path, file=file, positive=[2, 0], labels=["wet_or_dry"]).index()
    assert either.meanings == {"wet_or_dry": "choroidal neovascularization or drusen"}
    names = ["drusen", "diabetic macular edema", "dme", "normal"]
    with pytest.raises(SpecError, match=r"the name 'drusen', class 2 of OCTMNIST, to class 0.*; list the names in"):
        medmnist(tmp_path, file=file, labels=names).index()
    columns = {f"{p}_labels": np.ones((n, 14), np.uint8) for p, n in COUNTS.items()}
    chest = medmnist(tmp_path, file=named(tmp_path, "chestmnist.npz", arrays(labels=columns))).index()
    assert chest.meanings["label_13"] == "hernia"


@pytest.mark.parametrize(
    ("name", "labels", "difference"),
    [
        ("breastmnist.npz", classes(3), "BreastMNIST, but 3 classes instead of 2 classes"),
        ("pathmnist_64.npz", classes(2), "PathMNIST, but 2 classes instead of 9 classes"),  # somebody's cancer or not
        ("chestmnist.npz", classes(2), "ChestMNIST, but 2 classes instead of 14 label columns"),
        ("chestmnist.npz", classes(14), "ChestMNIST, but 6 classes instead of 14 label columns"),
    ],
)
def test_an_archive_of_another_number_of_classes_than_the_set_of_its_name_has_no_known_meanings(
    tmp_path, name, labels, difference
):
    index = medmnist(tmp_path, file=named(tmp_path, name, arrays(labels=labels))).index()
    assert any(f"the archive has the name of {difference}, so their meanings are unknown" in n for n in index.notes)
    assert index.meanings == {}


def test_one_hot_labels_are_read_as_columns_and_told(tmp_path):
    labels = {f"{p}_labels": np.eye(3, dtype=int)[np.arange(n) % 3] for p, n in COUNTS.items()}
    written(tmp_path, arrays(labels=labels))
    index = medmnist(tmp_path).index()
    assert index.labels == ("label_0", "label_1", "label_2")
    assert (
        "a 1 in exactly one of the 3 label columns, as for classes (one-hot); save labels.argmax(axis=1)"
        in index.notes[1]
    )
    with pytest.raises(SpecError, match=r"option positive needs a task of classes.*; save labels\.argmax\(axis=1\)"):
        medmnist(tmp_path, positive=[1]).index()
    labels["val_labels"] = np.ones((3, 3), int)
    (tmp_path / "medmnist" / "set.npz").unlink()
    written(tmp_path, arrays(labels=labels))
    assert len(medmnist(tmp_path).index().notes) == 1


@pytest.mark.parametrize("labels", [np.array([False, True, True]), np.array([[0], [1], [1]], np.int16)])
def test_labels_of_one_dimension_and_truth_values_are_classes(tmp_path, labels):
    written(tmp_path, arrays(labels={"val_labels": labels}))
    table = medmnist(tmp_path).index().table
    assert table["class_1"][6:9].tolist() == [0, 1, 1]


def test_a_class_that_no_image_has_is_told(tmp_path):
    written(tmp_path, arrays(labels={f"{p}_labels": np.array([0, 1, 3])[np.arange(n) % 3] for p, n in COUNTS.items()}))
    assert any(note.endswith("no image has the class 2") for note in medmnist(tmp_path).index().notes)


def test_objects_in_an_archive_are_not_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    written(tmp_path, arrays() | {"val_labels": np.array([Trap()] * 3, dtype=object)})
    with pytest.raises(DataError, match=r"'val_labels' of Python objects, which would be unpickled"):
        medmnist(tmp_path).index()

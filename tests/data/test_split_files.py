"""Splits read from files: the published YAML, CSV lists, raygrid's splits.csv; the error names each mistake."""

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from split_tables import tables
from tiny_grid import tiny

from raygrid.data.datasets import Index
from raygrid.data.datasets.base import Reject
from raygrid.data.splits.draw import assign_splits
from raygrid.data.splits.parse import SplitFile, content_hashes, read_split_files
from raygrid.data.splits.resolve import splits_of
from raygrid.data.splits.rules import members
from raygrid.data.splits.rules import test_patients as patients_of_test
from raygrid.errors import DataError, MissingDataError, SpecError
from raygrid.io.files import write_text
from raygrid.spec import DatasetSpec, SplitSpec
from raygrid.spec.serialization import from_plain, to_plain
from raygrid.store import signatures
from raygrid.store.signatures import samples_signature
from raygrid.study.prepare import survey

SMALLER = ("d2_half", "d1_tenth")
LABELS = ("common", "rare")
SEED = 3


def made_index(num_patients: int = 60) -> Index:
    """Two images of each patient; most YAML parsers would read names of the digits 0 to 7 as numbers."""
    patients = np.repeat(np.arange(num_patients), 2)
    table = pd.DataFrame({"image_id": [f"{p:05o}_{i % 2:03d}.png" for i, p in enumerate(patients)]})
    table["patient_id"] = [str(p) for p in patients]
    table["part"] = np.where(patients % 5 == 0, "test", "development")
    table["common"] = (patients % 3 == 0).astype(np.uint8)
    table["rare"] = (patients % 17 == 0).astype(np.uint8)
    return Index(LABELS, table.assign(locator="", content=""))


INDEX = made_index()
DRAWN = assign_splits(INDEX.table, LABELS, SplitSpec(validation_fraction=0.25), SEED)
IMAGES = INDEX.table.groupby("patient_id")["image_id"].apply(list).to_dict()


def images_of(split: str, role: str, splits: pd.DataFrame = DRAWN) -> list[str]:
    patients = patients_of_test(splits) if role == "test" else members(splits, split, role)
    return [name.removesuffix(".png") for p in reversed(patients) for name in IMAGES[p]]


def yaml_of(split: str) -> str:
    lists = {"testIDs": "test", "trainIDs": "train", "valIDs": "validation"}
    return "".join(f"{key}:\n" + "".join(f"- {n}\n" for n in images_of(split, role)) for key, role in lists.items())


def csv_of(split: str, roles: tuple[str, ...] = ("train", "validation", "test")) -> str:
    return "grade,role,image\r\n" + "".join(f"0,{r}, {n}.png\r\n" for r in roles for n in images_of(split, r))


def written(folder: Path, texts: dict[str, str], suffix: str = "csv") -> dict[str, str]:
    """Write a file per split and return `SplitSpec.files`."""
    paths = {name: f"splits/{name.replace('/', '_')}.{suffix}" for name in texts}
    for name, text in texts.items():
        (folder / "splits").mkdir(exist_ok=True)
        (folder / paths[name]).write_text(text, newline="")
    return paths


def read(folder: Path, files: dict[str, str], index: Index = INDEX, seed: int = SEED) -> pd.DataFrame:
    return splits_of(index, SplitSpec(files=files), seed, read_split_files(files, folder))[0]


@pytest.mark.parametrize("names", [("d1", "d2"), ("d1", "d2", *SMALLER)], ids=["smaller drawn", "all given"])
@pytest.mark.parametrize(("make", "suffix"), [(yaml_of, "yml"), (csv_of, "csv")], ids=["yaml", "csv"])
def test_files_of_drawn_splits_give_the_drawn_splits(tmp_path, names, make, suffix):
    files = written(tmp_path, {name: make(name) for name in names}, suffix)
    pd.testing.assert_frame_equal(read(tmp_path, files), DRAWN)


def test_a_list_per_role_and_the_official_test_part_give_the_drawn_splits(tmp_path):
    texts = {f"{s}/{role}": "\n".join(images_of(s, role)) for s in ("d1", "d2") for role in ("train", "validation")}
    texts["d1/train"] = "image\n" + texts["d1/train"]
    pd.testing.assert_frame_equal(read(tmp_path, written(tmp_path, texts)), DRAWN)
    texts["test"] = "\ufeffimage,level\n" + "".join(f"{n},0\n" for n in images_of("", "test"))
    pd.testing.assert_frame_equal(read(tmp_path, written(tmp_path, texts)), DRAWN)


def test_quotes_and_compression_change_neither_splits_nor_hashes(tmp_path):
    text = yaml_of("d1").replace("- 0", "- '0").replace("_000\n", "_000'\n").replace("_001\n", "_001'\n")
    assert "- '00" in text
    files = written(tmp_path, {"d1": text, "d2": yaml_of("d2")}, "yml")
    plain = read_split_files(files, tmp_path)
    packed_path = tmp_path / "d1.yaml.gz"
    packed_path.write_bytes(gzip.compress(text.encode()))
    packed = read_split_files({**files, "d1": str(packed_path)}, tmp_path)
    assert content_hashes(packed) == content_hashes(plain)
    pd.testing.assert_frame_equal(splits_of(INDEX, SplitSpec(), SEED, packed)[0], DRAWN)


def test_the_seed_draws_only_what_the_files_do_not_give(tmp_path):
    files = written(tmp_path, {name: yaml_of(name) for name in ("d1", "d2", "d2_half")}, "yml")
    other = read(tmp_path, files, seed=SEED + 1)
    pd.testing.assert_frame_equal(other.drop(columns="in_d1_tenth"), DRAWN.drop(columns="in_d1_tenth"))
    assert (other["in_d1_tenth"] != DRAWN["in_d1_tenth"]).any()


def test_patients_that_no_file_names_are_unused_and_counted(tmp_path):
    files = read_split_files(written(tmp_path, {name: yaml_of(name) for name in ("d1", "d2")}, "yml"), tmp_path)
    got, notes = splits_of(made_index(63), SplitSpec(), SEED, files)
    assert sorted(got["patient_id"][got["part"] == "unused"]) == ["60", "61", "62"]
    pd.testing.assert_frame_equal(got[got["part"] != "unused"].reset_index(drop=True), DRAWN)
    assert len(notes) == 1
    assert notes[0].startswith("3 of 63 patients are in no split and are left out (splits read from ")
    assert splits_of(INDEX, SplitSpec(), SEED, files)[1] == []


@settings(max_examples=40, deadline=None)
@given(tables(), st.integers(0, 2**40))
def test_the_manifest_is_readable_and_reusable(tmp_path_factory, made, seed):
    """The splits.csv of one study gives the same splits in another study with any seed."""
    table, labels = made
    folder = tmp_path_factory.mktemp("manifest")
    drawn = assign_splits(table, labels, SplitSpec(test_fraction=0.3), seed)
    write_text(folder / "splits.csv", drawn.to_csv(index=False))
    index = Index(labels, table.assign(locator="", content=""))
    pd.testing.assert_frame_equal(read(folder, {"all": "splits.csv"}, index, seed=0), drawn)


def test_a_manifest_keeps_leading_zeros_and_its_order(tmp_path):
    lines = DRAWN.to_csv(index=False).splitlines()
    assert lines[0] == "patient_id,part,split,role,in_d2_half,in_d1_tenth"
    assert lines[1:] == sorted(lines[1:], key=lambda line: line.split(",")[0])
    (tmp_path / "splits.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]))
    pd.testing.assert_frame_equal(read(tmp_path, {"all": "splits.csv"}), DRAWN)


def test_signatures_without_split_files_have_not_changed(monkeypatch):
    monkeypatch.setattr(signatures, "SAMPLES_VERSION", 1)
    dataset = DatasetSpec(loader="phantom_fundus", image_size=64, channels=3, options={"patients": 40})
    known = "6b7cc064ec97b8290c326fcc74615f3ed1e2be39328b5128da032013212321a4"
    assert samples_signature(dataset, SplitSpec(), 7, "abc") == known
    assert samples_signature(dataset, SplitSpec(), 7, "abc", {}) == known
    known = "7bbde4b8fa58859d36e636bf352f74ca148c696ffa433e10ced0296e7a790ef8"
    assert samples_signature(dataset, SplitSpec(test_fraction=0.25, validation_fraction=0.2), 7, "abc") == known
    assert "files" not in to_plain(SplitSpec())
    spec = SplitSpec(files={"d1": "a.yml", "d2": "b.yml"})
    assert from_plain(SplitSpec, json.loads(json.dumps(to_plain(spec)))) == spec


def test_the_signature_depends_on_the_content_of_the_files_and_not_on_their_paths(tmp_path):
    study = tiny()
    modality = study.modalities[0]
    (root := tmp_path / "root").mkdir()
    drawn = survey(study, tmp_path, root)[0]

    def surveyed(path: str, text: str):
        (root / path).write_text(text)
        spec = replace(modality, splits=SplitSpec(files={"all": path}))
        return survey(replace(study, modalities=(spec, *study.modalities[1:])), tmp_path, root)[0]

    text = drawn.splits.to_csv(index=False)
    first = surveyed("a.csv", text)
    pd.testing.assert_frame_equal(first.splits, drawn.splits)
    pd.testing.assert_frame_equal(first.table, drawn.table)
    assert first.signature != drawn.signature
    assert surveyed("b.csv", text).signature == first.signature
    one, other = (next(line for line in text.splitlines() if f"{s},train,False,False" in line) for s in ("d1", "d2"))
    swapped = text.replace(one, one.replace("d1", "d2")).replace(other, other.replace("d2", "d1"))
    assert surveyed("a.csv", swapped).signature != first.signature


def test_the_number_of_patients_left_out_is_printed(tmp_path, capsys):
    study = tiny()
    modality = study.modalities[0]
    drawn = survey(study, tmp_path, tmp_path)[0]
    assert "left out" not in capsys.readouterr().out
    (tmp_path / "splits.csv").write_text(drawn.splits.to_csv(index=False).replace(",test,,,", ",unused,,,", 1))
    spec = replace(modality, splits=SplitSpec(files={"all": "splits.csv"}))
    survey(replace(study, modalities=(spec, *study.modalities[1:])), tmp_path, tmp_path)
    num_patients = len(drawn.splits)
    assert f"{modality.name}: 1 of {num_patients} patients are in no split and are left out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"d2half": "x.csv"}, "unknown split file 'd2half'; did you mean 'd2_half'"),
        ({"d1/valid": "x.csv"}, "did you mean 'd1/validation'"),
        ({"development": "x.csv"}, "unknown split file 'development'"),
    ],
)
def test_a_mistyped_split_gets_a_near_miss(files, message):
    with pytest.raises(SpecError, match=message):
        SplitSpec(files=files)


def test_a_test_fraction_beside_files_is_refused():
    with pytest.raises(SpecError, match=r"test_fraction is 0\.1 beside split files.*remove test_fraction"):
        SplitSpec(test_fraction=0.1, files={"all": "splits.csv"})


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["d1"], "split files of d2: got none; expected 'd2', or both of"),
        (["d1", "d2/train"], r"split files of d2: got \['d2/train'\]"),
        (["d1", "d2", "d2/train"], r"got \['d2', 'd2/train'\]"),
        (["d1", "d2", "d1_tenth/train"], "split files of d1_tenth"),
        (["all", "d1"], r"'all' gives every split; got \['all', 'd1'\]; remove the others"),
    ],
)
def test_an_incomplete_set_of_files_is_refused(names, message):
    files = {name: SplitFile(Path(f"{name}.csv"), "image,role\n") for name in names}
    with pytest.raises(SpecError, match=message):
        splits_of(INDEX, SplitSpec(), SEED, files)


def test_all_missing_files_are_listed_with_near_misses(tmp_path):
    written(tmp_path, {"d1": yaml_of("d1")}, "yml")
    with pytest.raises(MissingDataError) as caught:
        read_split_files({"d1": "splits/d1.yaml", "d2": "nowhere/d2.yml"}, tmp_path)
    first, second = str(caught.value).splitlines()
    assert "splits/d1.yaml (split file 'd1'): not found" in first
    assert "did you mean 'd1.yml'" in first
    assert "nowhere does not exist either" in second


TRAIN = images_of("d1", "train")
OTHER = images_of("d2", "train")
VALIDATION = images_of("d1", "validation")
TEST = images_of("", "test")
MISTAKES: dict[str, tuple[Callable[[str], str], str]] = {
    "an image that is not there": (
        lambda t: t.replace(TRAIN[0], f"{TRAIN[0]}9"),
        rf"d1\.yml: 1 entries match no image of the data set: '{TRAIN[0]}9' \(line \d+\); did you mean {TRAIN[0]}\.png",
    ),
    "another extension": (
        lambda t: t.replace(TRAIN[0], f"{TRAIN[0]}.jpg"),
        rf"1 entries match no image of the data set: '{TRAIN[0]}\.jpg'",
    ),
    "names of another data set": (
        lambda t: "trainIDs:\n" + "- zebra\n" * 7 + "valIDs:\n- zebra\n",
        r"8 entries match no image.*, …; expected names such as 00000_000\.png\. Use the split files",
    ),
    "an image twice": (
        lambda t: f"{t}- {VALIDATION[0]}\n",
        rf"line \d+: {VALIDATION[0]} is listed twice; expected once",
    ),
    "a patient in training and validation": (
        lambda t: t.replace(f"- {VALIDATION[0]}\n", "").replace("trainIDs:\n", f"trainIDs:\n- {VALIDATION[0]}\n"),
        rf"1 patients are in two places.*: \d+ in d1/train \({VALIDATION[0]} in .*line \d+\) and in d1/validation",
    ),
    "a patient of d2 in d1": (
        lambda t: t.replace("trainIDs:\n", f"trainIDs:\n- {OTHER[0]}\n- {OTHER[1]}\n"),
        rf"in d1/train \({OTHER[0]} in .*d1\.yml, line \d+\) and in d2/train \({OTHER[0]} in .*d2\.yml",
    ),
    "a test patient in training": (
        lambda t: t.replace("trainIDs:\n", f"trainIDs:\n- {TEST[0]}\n- {TEST[1]}\n"),
        "1 patients are in two places",
    ),
    "some of a patient's images": (
        lambda t: t.replace(f"- {TRAIN[1]}\n", ""),
        rf"d1/train lacks images of 1 of its patients, such as {TRAIN[1]}\.png of \d+ \(it has {TRAIN[0]} in",
    ),
    "d1 smaller than d2": (
        lambda t: t.replace(f"- {TRAIN[0]}\n- {TRAIN[1]}\n", ""),
        r"d1 has \(\d+, \d+\) .* patients and d2 \(\d+, \d+\), expected equal.*splits read from .*d1\.yml",
    ),
    "other test patients than d2": (
        lambda t: t.replace(f"- {TEST[0]}\n- {TEST[1]}\n", ""),
        r"d1\.yml and .*d2\.yml name different test patients, 1 are in one of them only",
    ),
    "an empty list": (
        lambda t: t[: t.index("valIDs:")] + "valIDs: []\n",
        "at least one image for validation, got none",
    ),
    "an absent list": (lambda t: t[: t.index("valIDs:")], "at least one image for validation, got none"),
    "an empty name": (lambda t: f"{t}-\n", r"line \d+: expected the name of an image, got nothing"),
    "a misspelt list": (
        lambda t: t.replace("valIDs", "validIDs"),
        r"line \d+: .*unknown list 'validIDs'; did you mean",
    ),
    "a list twice": (lambda t: f"{t}valIDs:\n- {TRAIN[0]}\n", r"line \d+: expected one list valIDs, got a second one"),
    "a name for a list": (lambda t: t[: t.index("valIDs:")] + "valIDs: 7\n", "expected a list under valIDs, got '7'"),
    "a structure in a list": (lambda t: f"{t}- a: b\n", r"line \d+: expected the name of an image, got a structure"),
    "a structure for the name of a list": (lambda t: f"? [a]\n: b\n{t}", "line 1: .*unknown list 'a structure'"),
    "a structure for a list": (lambda t: f"trainIDs: {{a: b}}\n{t}", "a list under trainIDs, got another structure"),
    "brackets that never close": (lambda t: "[" * 100_000, "line 1: expected lists .*, got 9 nested structures"),
    "lists of lists of lists": (lambda t: t + "- " * 50_000, r"line \d+: expected lists .*, got 9 nested structures"),
    "a list at the top": (lambda t: f"- {TRAIN[0]}\n", "expected lists named trainIDs, valIDs, testIDs"),
    "an empty file": (lambda t: "", "got an empty file"),
    "broken YAML": (lambda t: t + "- 'a\n", "expected YAML, got .*line"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_in_a_published_file_is_named(tmp_path, mistake):
    change, message = MISTAKES[mistake]
    files = written(tmp_path, {"d1": change(yaml_of("d1")), "d2": yaml_of("d2")}, "yml")
    with pytest.raises(DataError, match=message):
        read(tmp_path, files)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "d1",
            "image\nx\n",
            r"d1\.csv, row 1: expected the columns \['image', 'role'\], got \['image'\]; lacking",
        ),
        ("d1", "", r"row 1: expected the columns"),
        ("d1", f"image,role,role\n{TRAIN[0]},train,test\n", r"row 1: expected one column 'role', got 2"),
        ("d1", f"image,role\n{TRAIN[0]},valid\n", r"line 2: unknown role 'valid'; did you mean 'validation'"),
        ("d1", f"image,role\n{TRAIN[0]}\n", r"row 2: expected 2 values, got 1"),
        ("d1", f"image,role\n{TRAIN[0]},train,extra\n", r"row 2: expected 2 values, got 3"),
        ("d1", 'image,role\n"x,train\n', "row 2: expected CSV"),
        ("d1", f"image,role\n{TRAIN[0]},train\n", "at least one image for validation"),
        ("test", "", "at least one image for test"),
        ("test", "filename,level\nx,0\n", r"expected the columns \['image'\]"),
        ("test", "filename\n", r"1 entries match no image of the data set: 'filename' \(line 1\)"),
        ("d2_half", csv_of("d2"), "d2_half trains on 1[0-9] of d2's 1[0-9], expected half"),
        ("d2_half", csv_of("d1"), r"train patients of d2_half are not among the train patients of d2: \d+ \("),
        ("d1_tenth", csv_of("d1"), "d1_tenth has .* patients of d1's"),
    ],
)
def test_each_mistake_in_a_csv_file_is_named(tmp_path, name, text, message):
    texts = {"d1": csv_of("d1"), "d2": csv_of("d2"), name: text}
    with pytest.raises(DataError, match=message):
        read(tmp_path, written(tmp_path, texts))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.replace("in_d2_half", "half"), r"row 1: expected the columns .* got .*'half'"),
        (lambda t: t.replace("False", "no", 1), r"line 2: column 'in_d\d.*' is 'no'; expected True or False"),
        (lambda t: t + t.splitlines()[1] + "\n", r"line 62: patient 0 has two rows"),
        (lambda t: t + "zoe,test,,,False,False\n", "1 patients are not in the data set: zoe"),
        (lambda t: t.replace(",train,", ",validation,", 1), "expected equal|validate d2 but not d2_half|expected half"),
        (lambda t: t.replace("test,,,", "unused,,,"), "no patients in test; expected at least one"),
        (lambda t: t.replace("test,,,", "tests,,,"), "an invalid combination of part, split and role"),
    ],
)
def test_each_mistake_in_a_manifest_is_named(tmp_path, change, message):
    (tmp_path / "splits.csv").write_text(change(DRAWN.to_csv(index=False)))
    with pytest.raises(DataError, match=message):
        read(tmp_path, {"all": "splits.csv"})


def test_rejected_images_are_allowed_in_files_but_a_lost_patient_is_named(tmp_path):
    files = written(tmp_path, {name: yaml_of(name) for name in ("d1", "d2")}, "yml")

    def without(*names: str) -> Index:
        left = INDEX.table[~INDEX.table["image_id"].isin(names)]
        return Index(LABELS, left, rejects=tuple(Reject(name, "is empty") for name in names))

    pd.testing.assert_frame_equal(read(tmp_path, files, without(f"{TRAIN[0]}.png")), DRAWN)
    with pytest.raises(DataError, match=rf"expected equal.*; 2 images .* rejected .*: {TRAIN[0]}, {TRAIN[1]}; repair"):
        read(tmp_path, files, without(f"{TRAIN[0]}.png", f"{TRAIN[1]}.png"))


def test_a_name_without_extension_that_fits_two_images_is_refused(tmp_path):
    twin = INDEX.table[INDEX.table["image_id"] == f"{TRAIN[0]}.png"].assign(image_id=f"{TRAIN[0]}.jpg")
    index = Index(LABELS, pd.concat([INDEX.table, twin], ignore_index=True))
    files = written(tmp_path, {name: yaml_of(name) for name in ("d1", "d2")}, "yml")
    with pytest.raises(DataError, match=rf"line \d+: {TRAIN[0]} matches several images, .*write the full name"):
        read(tmp_path, files, index)


def test_files_without_test_images_need_an_official_test_part_without_their_patients(tmp_path):
    roles = ("train", "validation")
    files = written(tmp_path, {name: csv_of(name, roles) for name in ("d1", "d2")})
    with pytest.raises(DataError, match=r"no official part.*name the file 'test'"):
        read(tmp_path, files, Index(LABELS, INDEX.table.assign(part="")))
    patient = members(DRAWN, "d1", "train")[0]
    part = INDEX.table["part"].where(INDEX.table["patient_id"] != patient, "test")
    with pytest.raises(DataError, match=f"1 patients of d1 and d2 are in the official test part: {patient};"):
        read(tmp_path, files, Index(LABELS, INDEX.table.assign(part=part)))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("d1.json", b"{}", r"d1\.json: expected a split file with the extension \.yml"),
        (
            "d1.yml",
            b"\xff\xfe",
            "expected UTF-8 text, got text in UTF-16, as Excel saves 'Unicode text'; save it as CSV",
        ),
        (
            "d1.txt",
            "a\nMüller.png\n".encode("cp1252"),
            r"got the byte 0xfc in row 2 \('ü' if it is Windows-1252\); save",
        ),
        (
            "d1.csv",
            b"PK\x03\x04 more",
            r"expected UTF-8 text, got an Excel workbook or another ZIP archive; open it and",
        ),
        (
            "d1.csv.gz",
            gzip.compress(b"<!DOCTYPE html><p>404", mtime=0),
            "got a web page or XML; download the file itself",
        ),
        (
            "d1.txt",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
            "a Git LFS pointer .*run git lfs pull",
        ),
        ("d1.yml.gz", b"no gzip", "expected UTF-8 text, got BadGzipFile"),
        ("d1.csv.gz", gzip.compress(b"image,role\n" * 99, mtime=0)[:-9], "expected UTF-8 text, got EOFError"),
        ("d1.txt.gz", gzip.compress(bytes(40 * 2**20), mtime=0), "expected at most 32 MiB of names, got more"),
        ("d1.txt", b"a\n" * 17 * 2**20, "expected at most 32 MiB of names, got more"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_split_files({"d1": name}, tmp_path)


def test_yaml_for_one_role_is_refused(tmp_path):
    files = written(tmp_path, {"d1/train": yaml_of("d1"), "d1/validation": "", "d2": yaml_of("d2")}, "yml")
    with pytest.raises(DataError, match=r"expected a list of train images .*'d1' instead of 'd1/train'"):
        read(tmp_path, files)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(("header", "empty"), [("image,grade", ",\t"), ("image", ",,,"), ("", ",,"), ("", ';;""')])
def test_empty_rows_are_harmless_after_the_last_name_and_an_error_between_names(tmp_path, header, empty, end):
    def text(split: str, role: str) -> str:
        names = [f"{name},0" if "," in header else name for name in images_of(split, role)]
        return end.join([*[header] * bool(header), *names])

    places = [(s, role) for s in ("d1", "d2") for role in ("train", "validation")]
    texts = {f"{split}/{role}": text(split, role) for split, role in places}
    suffix = "csv" if header else "txt"
    ended = {name: whole + end + end.join([empty, "", empty, ""]) for name, whole in texts.items()}
    pd.testing.assert_frame_equal(read(tmp_path, written(tmp_path, ended, suffix)), DRAWN)
    first = texts["d1/train"].split(end)
    broken = end.join([*first[:3], empty, empty, *first[3:]])
    with pytest.raises(DataError, match=r"(row|line) 4: expected .*, got an empty row between others; delete"):
        read(tmp_path, written(tmp_path, texts | {"d1/train": broken}, suffix))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "image;grade\na;0\n",
            r"row 1: expected the columns \['image'\].* separate the values by commas instead of ';'",
        ),
        ("image\tgrade\na\t0\n", r"separate the values by commas instead of '\\t'"),
        (
            "00000_000.png,0\n00001_000.png,0\n",
            r"got \['00000_000\.png', '0'\].* insert a first row with the names of the",
        ),
        ("sep=;\nimage;grade\n", r"got \['sep=;'\].* delete this line, which only Excel reads, and separate"),
        ('"image";"grade"\n"a";"0"\n', r"row 1: expected CSV, got .*, and separate the values by commas"),
    ],
)
def test_a_list_that_is_no_csv_of_commas_says_how_to_save_it(tmp_path, text, message):
    texts = {"d1/train": text, "d1/validation": "image\nx\n", "d2": csv_of("d2")}
    with pytest.raises(DataError, match=message):
        read(tmp_path, written(tmp_path, texts))

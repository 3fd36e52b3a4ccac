"""One person, one patient: two spellings of an id are an error in every loader, placeholders are no person."""

import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_data import ENTRIES, make_chest, make_kaggle, make_pcam, open_small, save, write_entries

from raygrid.data.datasets import Index
from raygrid.data.patients import is_placeholder, person_key, slide_key
from raygrid.data.splits.draw import assign_splits
from raygrid.data.splits.parse import read_split_files
from raygrid.data.splits.resolve import splits_of
from raygrid.errors import DataError, SpecError
from raygrid.spec import SplitSpec

GREY = np.random.default_rng(5).integers(0, 256, (40, 32, 32)).astype(np.uint8)

ONE_PERSON = {
    "leading zeros": ("00012", "12"),
    "a float column": ("12", "12.0"),
    "a trailing point": ("12", "12."),
    "a sign": ("12", "+12"),
    "scientific notation of a spreadsheet": ("123000", "1.23E+05"),
    "scientific notation without a point": ("100000", "1e5"),
    "zero of a floating-point column": ("0", "0.000000e+00"),
    "a formula that keeps zeros": ("12", '="00012"'),
    "an apostrophe that keeps zeros": ("12", "'00012"),
    "more digits than a float or an int conversion takes": ("9" * 5000, "0" + "9" * 5000),
    "full-width digits": ("12", "１２"),
    "arabic digits": ("12", "١٢"),
    "letter case": ("P1", "p1"),
    "letter case of more than one letter": ("Straße", "STRASSE"),
    "composed and decomposed": ("Jos\u00e9", "Jose\u0301"),
    "a ligature": ("fisher", "ﬁsher"),
    "a zero-width space": ("P1", "P\u200b1"),
    "a byte order mark": ("P1", "\ufeffP1"),
    "a soft hyphen": ("P1", "P\u00ad1"),
    "a direction mark": ("P1", "P1\u200e"),
    "an invisible character between a letter and its accent": ("é", "e\u200b\u0301"),
    "a variation selector": ("P1", "P1\ufe0f"),
    "two blanks": ("P 1", "P  1"),
    "a no-break space": ("P 1", "P\u00a01"),
    "a wide blank": ("P 1", "P\u30001"),
    "another hyphen": ("P-1", "P\u20111"),
    "a dash of a word processor": ("P-1", "P\u20131"),
    "another apostrophe": ("O'Brien", "O\u2019Brien"),
}
TWO_PERSONS = [
    ("12", "-12"),
    ("12", "120"),
    ("1.5", "15"),
    ("12.5", "12.50"),
    ("1-11", "11-1"),
    ("P1", "P2"),
    ("a", "á"),
    ("000e82", "00e011"),  # hexadecimal, not zero
    ("860e63", "086e64"),
    ("12e1", "120"),
    ("1e004", "10000"),
]
PLACEHOLDERS = [
    "nan", "NaN", "-nan", "None", "null", "(null)", "NaT", "<NA>", "#N/A", "#N/A N/A", "N/A", "n / a", "NA", "n.a.",
    "Unknown", "unk", "MISSING", "anonymous", "#REF!", "-", "--", "?", ".", "...", "\u200b", "－", "ｎａｎ",
    "not available",
]  # fmt: skip


def write_table(root: Path, patients: list[str], column: str = "patient") -> None:
    for number in range(len(patients)):
        save(GREY[number], root / f"{number}.png")
    frame = pd.DataFrame({"image": [f"{n}.png" for n in range(len(patients))], column: patients, "mass": 0})
    frame.to_csv(root / "t.csv", index=False)
    frame.to_parquet(root / "t.parquet")


def table_index(root: Path, name: str = "t.csv", **options: object) -> Index:
    return open_small("table", root, 1, table=name, labels=["mass"], **options).index()


@pytest.mark.parametrize("kind", ONE_PERSON)
def test_two_spellings_of_one_person_have_one_key(kind):
    first, second = ONE_PERSON[kind]
    assert first != second
    assert person_key(first) == person_key(second)


@pytest.mark.parametrize(("first", "second"), TWO_PERSONS)
def test_ids_of_different_persons_keep_different_keys(first, second):
    assert person_key(first) != person_key(second)


@settings(max_examples=300)
@given(st.text(max_size=12))
def test_the_key_does_not_depend_on_how_often_or_in_which_form_an_id_was_saved(patient):
    key = person_key(patient)
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert person_key(unicodedata.normalize(form, patient)) == key
    assert person_key(f" {patient}\u200b ") == key


@given(st.integers(0, 10**12), st.integers(0, 5))
def test_every_notation_of_a_whole_number_has_the_key_of_the_number(number, zeros):
    for text in (f"{'0' * zeros}{number}", f"{number}.{'0' * zeros}", f"+{number}", f"{float(number):.15e}"):
        assert person_key(text) == str(number)


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
@pytest.mark.parametrize("kind", [k for k in ONE_PERSON if "digits than" not in k])
def test_a_table_with_two_spellings_names_both_and_their_rows(tmp_path, name, kind):
    first, second = ONE_PERSON[kind]
    write_table(tmp_path, ["other", first, second, first])
    row = 3 if name == "t.csv" else 2  # the header is row 1 of a CSV file
    with pytest.raises(DataError) as caught:
        table_index(tmp_path, name)
    message = str(caught.value)
    assert message.startswith("1 person has more than one spelling of their id, and each spelling would be a patient: ")
    assert f"({tmp_path / name}, row {row}) and " in message
    assert f"({tmp_path / name}, row {row + 1}); write one spelling" in message
    assert "different_patients" in message
    assert "\n" not in message


def test_spellings_that_look_the_same_are_shown_as_escapes(tmp_path):
    write_table(tmp_path, ["Jos\u00e9", "Jose\u0301"])
    with pytest.raises(DataError, match=r"'Jos\\xe9' \(.*row 2\) and 'Jose\\u0301' \(.*row 3\)"):
        table_index(tmp_path)


def test_all_persons_are_counted_and_the_first_are_shown(tmp_path):
    write_table(tmp_path, [text for n in range(1, 7) for text in (f"{n:05d}", str(n))])
    with pytest.raises(DataError, match=r"^6 persons have .*'00001' .*row 2\) and '1' .*; '00003' .*row 7\); …; write"):
        table_index(tmp_path)


@pytest.mark.parametrize("declared", [True, ["12"], ["00012", "12"]])
def test_different_people_can_be_declared(tmp_path, declared):
    write_table(tmp_path, ["00012", "12", "7"])
    index = table_index(tmp_path, different_patients=declared)
    assert index.table["patient_id"].tolist() == ["00012", "12", "7"]


def test_a_declaration_holds_for_the_named_ids_only(tmp_path):
    write_table(tmp_path, ["00012", "12", "12.0", "7", "07"])
    with pytest.raises(DataError, match=r"^2 persons have .*'00012' .* and '12\.0' .*; '7' .* and '07'"):
        table_index(tmp_path, different_patients=["12"])
    with pytest.raises(SpecError, match=r"option different_patients: unknown patient '012'; did you mean '12'"):
        table_index(tmp_path, different_patients=["012"])


@pytest.mark.parametrize("value", [False, "12", [12], {"12": "00012"}, 1])
def test_a_declaration_of_another_form_is_refused(tmp_path, value):
    write_table(tmp_path, ["12"])
    with pytest.raises(SpecError, match=r"option different_patients is .*; expected True, or a list of patient ids"):
        table_index(tmp_path, different_patients=value)


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
@pytest.mark.parametrize("patient", PLACEHOLDERS)
def test_a_placeholder_is_no_person(tmp_path, name, patient):
    write_table(tmp_path, ["7", patient])
    row = 3 if name == "t.csv" else 2
    with pytest.raises(DataError, match=rf"{name}, row {row}: expected a patient in column 'patient', got .*repair"):
        table_index(tmp_path, name)


@pytest.mark.parametrize("patient", ["Nancy", "N1", "0", "-1", "unknown1", "Null-Smith", "x", "é"])
def test_ids_that_only_begin_like_a_placeholder_are_persons(patient):
    assert not is_placeholder(patient)


def test_initials_that_look_like_a_placeholder_can_be_declared(tmp_path):
    write_table(tmp_path, ["NA", "7"])
    with pytest.raises(DataError, match=r"got 'NA', a placeholder; .*different_patients=\['NA'\]"):
        table_index(tmp_path, different_patients=True)
    assert table_index(tmp_path, different_patients=["NA"]).table["patient_id"].tolist() == ["NA", "7"]


def test_ids_that_only_resemble_each_other_are_noted(tmp_path):
    write_table(tmp_path, ["P7", "P007", "sub-1", "sub_01", "Jose", "José", "s1", "s1.tif", "P8", "1-11", "11-1"])
    (note,) = table_index(tmp_path).notes
    assert note.startswith("8 patient ids resemble another one and count as different patients: 'P7' (")
    assert "'sub-1' (" in note
    assert "'P8'" not in note
    assert table_index(tmp_path, different_patients=True).notes == ()
    write_table(tmp_path, ["P7", "P8", "7", "8", "1.5", "3cec07", "03cec7"])  # the last: hexadecimal codes
    assert table_index(tmp_path).notes == ()


def test_an_index_of_any_loader_refuses_two_spellings_and_placeholders():
    table = pd.DataFrame({"image_id": ["a", "b", "c"], "part": "", "locator": "", "content": "", "x": 0})
    with pytest.raises(DataError, match=r"'7' \(image 'a' of the index\) and '007' \(image 'c' of the index\)"):
        Index(("x",), table.assign(patient_id=["7", "8", "007"]))
    with pytest.raises(DataError, match=r"image 'b' of the index: expected a patient, got 'nan'"):
        Index(("x",), table.assign(patient_id=["7", np.nan, "9"]))
    Index(("x",), table.assign(patient_id=["7", "8", "007"]), different_patients=("007",))


def test_declared_patients_are_divided_like_any_others(tmp_path):
    write_table(tmp_path, [text for n in range(10, 30) for text in (f"{n:03d}", str(n))])
    index = table_index(tmp_path, different_patients=True)
    assert len(assign_splits(index.table, index.labels, SplitSpec(test_fraction=0.2), seed=0)) == 40


def test_kaggle_refuses_one_patient_in_two_spellings(tmp_path):
    root = make_kaggle(tmp_path)
    labels = root / "trainLabels.csv"
    labels.write_text(labels.read_text(encoding="utf-8-sig").replace("10_left", "010_left"))
    (root / "train" / "10_left.jpeg").rename(root / "train" / "010_left.jpeg")
    with pytest.raises(DataError, match=r"'010' \(.*trainLabels\.csv, row 2\) and '10' \(.*trainLabels\.csv, row 3\)"):
        open_small("kaggle_dr", tmp_path, 3).index()
    index = open_small("kaggle_dr", tmp_path, 3, different_patients=["010"]).index()
    assert index.table.set_index("image_id").loc["010_left", "patient_id"] == "010"


@pytest.mark.parametrize("name", ["10_Left", "١٠_left", "²_left", "10_left.jpeg"])
def test_kaggle_refuses_other_names(tmp_path, name):
    root = make_kaggle(tmp_path)
    (root / "trainLabels.csv").write_text(f"image,level\n{name},0\n10_right,0\n")
    with pytest.raises(DataError, match=r"row 2: expected an image name such as '10_left'"):
        open_small("kaggle_dr", tmp_path, 3).index()


def test_chestxray_refuses_a_number_that_is_not_that_of_the_file_name(tmp_path):
    root = make_chest(tmp_path)
    write_entries(root / "Data_Entry_2017.csv", [*ENTRIES[:2], ("00000002_000.png", "No Finding", 3)])
    with pytest.raises(
        DataError, match=r"2017\.csv, row 4: expected the patient of '00000002_000\.png', 2, in column.*, got '3'"
    ):
        open_small("chestxray14", tmp_path, 1).index()


def test_chestxray_keeps_the_spelling_of_its_numbers_and_refuses_two(tmp_path):
    root = make_chest(tmp_path)
    padded = [(name, found, f"{patient:08d}") for name, found, patient in ENTRIES]
    write_entries(root / "Data_Entry_2017.csv", padded)
    table = open_small("chestxray14", tmp_path, 1).index().table
    assert table["patient_id"].tolist() == ["00000001", "00000001", "00000002"]
    write_entries(root / "Data_Entry_2017.csv", [ENTRIES[0], *padded[1:]])
    with pytest.raises(DataError, match=r"'1' \(.*row 2\) and '00000001' \(.*row 3\)"):
        open_small("chestxray14", tmp_path, 1).index()


@pytest.mark.parametrize("number", ["²", "١", "１", "1.0", "-1", ""])
def test_chestxray_numbers_have_the_digits_0_to_9(tmp_path, number):
    root = make_chest(tmp_path)
    write_entries(root / "Data_Entry_2017.csv", [(*ENTRIES[0][:2], number), *ENTRIES[1:]])
    with pytest.raises(DataError, match="row 2: expected a number in column 'Patient ID', got"):
        open_small("chestxray14", tmp_path, 1).index()


def write_slides(root: Path, train: list[str]) -> None:
    for part, slides in (("train", train), ("valid", ["c"] * 3), ("test", ["s1"] * 4)):
        path = root / "pcam" / f"camelyonpatch_level_2_split_{part}_meta.csv"
        path.write_text("wsi\n" + "".join(f"{slide}\n" for slide in slides))


@pytest.mark.parametrize(
    "slide", ["s1.tif", "S1.TIFF", "s1.svs", "s1.ndpi", "s1.mrxs", "a/s1.tif", "a\\s1", "s1.ome.tif"]
)
def test_pcam_refuses_a_slide_with_folder_or_suffix_beside_its_bare_name(tmp_path, slide):
    make_pcam(tmp_path)
    write_slides(tmp_path, [slide] * 5)
    with pytest.raises(DataError, match=r"train_meta\.csv, row 2\) and 's1' \(.*test_meta\.csv, row 2\)"):
        open_small("pcam", tmp_path, 3).index()
    table = open_small("pcam", tmp_path, 3, different_patients=True).index().table
    assert set(table["patient_id"]) == {slide, "c", "s1"}


def test_pcam_slides_need_a_name(tmp_path):
    make_pcam(tmp_path)
    write_slides(tmp_path, ["a", "a", "None", "b", "b"])
    with pytest.raises(DataError, match=r"train_meta\.csv, row 4: expected a slide id in column 'wsi', got 'None'"):
        open_small("pcam", tmp_path, 3).index()


def test_slides_of_different_names_differ():
    assert len({slide_key(f"c/tumor_{n:03d}.tif") for n in range(12)}) == 12
    assert slide_key("00012.tif") == slide_key("12")


def splits(root: Path, index: Index, files: dict[str, str]) -> pd.DataFrame:
    return splits_of(index, SplitSpec(files=files), 0, read_split_files(files, root))[0]


def test_a_list_with_another_spelling_names_that_of_the_data(tmp_path):
    frame = pd.DataFrame(
        {"image_id": ["00012.png", "Jos\u00e9.png", "b.png"], "part": "", "locator": "", "content": ""}
    )
    index = Index(("x",), frame.assign(patient_id=["p", "q", "r"], x=0))
    spellings = {"12": "'00012.png'", "a/00012.png": "'00012.png'", "Jose\u0301.png": r"'Jos\\xe9.png'"}
    for name, spelling in spellings.items():
        for part in ("d1", "d2"):
            (tmp_path / f"{part}.csv").write_text(f"image,role\n{name},train\nb,validation\n", encoding="utf-8")
        with pytest.raises(DataError, match=rf"1 entries match no image.*data set spells .* as {spelling}: use"):
            splits(tmp_path, index, {"d1": "d1.csv", "d2": "d2.csv"})


@pytest.mark.parametrize("part", ["test", "unused"])
def test_a_manifest_with_another_spelling_names_that_of_the_data(tmp_path, part):
    write_table(tmp_path, [f"{n:05d}" for n in range(12, 32)])
    index = table_index(tmp_path)
    drawn = assign_splits(index.table, index.labels, SplitSpec(test_fraction=0.2), seed=0)
    rows = drawn.to_csv(index=False) + f"12,{part},,,False,False\n"
    (tmp_path / "all.csv").write_text(rows)
    with pytest.raises(DataError, match=r"1 patients are not in the data set: 12; the data set spells '12' as '00012'"):
        splits(tmp_path, index, {"all": "all.csv"})

"""Identical images: groups, places and labels, on tables worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from raygrid.data.identical import identical_images, is_blank, pixel_digest

COLUMNS = ["image_id", "patient_id", "place", "pixels", "mass", "edema"]


def compare(*rows: tuple[str, str, str, str, int, int]):
    table = pd.DataFrame(list(rows), columns=COLUMNS)
    return identical_images(table[COLUMNS[:4]], table[COLUMNS[4:]])


def test_images_of_their_own_are_not_mentioned():
    found = compare(("a", "A", "d1", "x", 0, 1), ("b", "B", "test", "y", 0, 1))
    assert found.notes == ()
    assert found.table.empty
    assert found.contradictory.empty


def test_copies_of_one_patient_with_equal_labels_do_no_harm():
    assert compare(("a", "A", "d1", "x", 0, 1), ("b", "A", "d1", "x", 0, 1)).notes == ()


def test_a_test_image_that_is_also_in_development_comes_first():
    found = compare(
        ("a", "A", "d1", "x", 0, 1),
        ("b", "B", "test", "x", 0, 1),
        ("c", "C", "test", "z", 0, 1),
        ("d", "D", "d2", "y", 0, 1),
        ("e", "E", "d2", "y", 0, 1),
    )
    leak, shared = found.notes
    assert leak.startswith("1 of 2 test images are also in development, under another patient: ")
    assert "the first are 'b' of patient 'B' (test) and 'a' of patient 'A' (d1)" in leak
    assert shared.startswith("4 images are identical to an image of another patient, 2 of them across d1, d2 and test;")
    assert found.table[["group", "image_id"]].to_numpy().tolist() == [[1, "a"], [1, "b"], [2, "d"], [2, "e"]]
    assert found.table["other_patient"].all()
    assert found.contradictory.empty


def test_images_in_d1_and_d2_are_across_but_not_in_the_test_part():
    (note,) = compare(("a", "A", "d1", "x", 0, 1), ("b", "B", "d2", "x", 0, 1), ("c", "C", "test", "z", 0, 1)).notes
    assert note.startswith("2 images are identical to an image of another patient, 2 of them across d1, d2 and test")


@pytest.mark.parametrize("patient", ["A", "B"])
def test_labels_of_identical_images_contradict_each_other_under_any_patient(patient):
    found = compare(("a", "A", "d1", "x", 1, 1), ("b", patient, "d1", "x", 1, 0), ("c", "C", "d1", "z", 0, 0))
    assert found.notes[-1].startswith("2 images contradict the labels of an identical image; the first are 'a' of")
    assert found.contradictory["image_id"].tolist() == ["a", "b"]
    assert found.labels["edema"].tolist() == [1, 0]
    assert found.listing(found.table).splitlines() == [
        "group,image_id,patient_id,place,other_patient,other_labels,mass,edema",
        f"1,a,A,d1,{patient == 'B'},True,1,1",
        f"1,b,{patient},d1,{patient == 'B'},True,1,0",
    ]
    assert found.table["other_patient"].tolist() == [patient == "B"] * 2


def test_labels_may_have_the_names_of_other_columns():
    table = pd.DataFrame(
        {"image_id": ["a", "b"], "patient_id": ["A", "B"], "place": ["d1", "test"], "pixels": ["x", "x"]}
    )
    found = identical_images(table, pd.DataFrame({"place": [0, 1], "group": [1, 1], "across": [0, 0]}))
    assert found.notes[0].startswith("1 of 1 test images")
    assert found.contradictory["place"].tolist() == ["d1", "test"]


def test_many_copies_of_one_image_are_one_group():
    rows = [(f"i{n:04d}", f"P{n}", "d1", "x", 0, 0) for n in range(5000)]
    found = compare(*rows)
    assert len(found.table) == 5000
    assert set(found.table["group"]) == {1}


def test_the_digest_stands_for_every_pixel_and_blank_is_one_value_per_channel():
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    assert pixel_digest(image) == pixel_digest(image.copy())
    assert len(pixel_digest(image)) == 32
    changed = image.copy()
    changed[7, 7, 2] ^= 1
    assert pixel_digest(changed) != pixel_digest(image)
    assert pixel_digest(image[:, ::-1]) != pixel_digest(image)  # a view, not contiguous
    assert not is_blank(image)
    colour = np.broadcast_to(np.array([10, 20, 30], np.uint8), (8, 8, 3))
    assert is_blank(colour)
    assert is_blank(np.zeros((8, 8, 1), np.uint8))
    dot = np.zeros((8, 8, 1), np.uint8)
    dot[0, 0] = 1
    assert not is_blank(dot)

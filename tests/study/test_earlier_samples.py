"""Prepare reports samples with other labels, and samples that an earlier version of raygrid prepared."""

from raygrid.io.files import write_json
from raygrid.study.earlier_samples import READING, READING_VERSION, notes_on_earlier_reading, notes_on_other_labels


def prepared(root, name, labels):
    folder = root / "samples" / name
    write_json(folder / "manifest.json", {"labels": labels})
    return folder


def test_a_study_prepared_under_another_name_of_the_label_is_told(tmp_path):
    prepared(tmp_path, "breast-aaaaaaaaaaaa", ["positive"])
    prepared(tmp_path, "breast-x-aaaaaaaaaaaa", ["mass"])  # another modality
    new = tmp_path / "samples" / "breast-bbbbbbbbbbbb"
    (note,) = notes_on_other_labels(new, "breast", ("class_1",))
    assert note == (
        "the study has samples with the labels (positive); the data set now gives (class_1), so the images "
        "are prepared again, and models and scores are made again"
    )
    assert notes_on_other_labels(new, "breast", ("positive",)) == []
    assert notes_on_other_labels(new, "chest", ("class_1",)) == []


def test_a_study_without_samples_has_no_note(tmp_path):
    assert notes_on_other_labels(tmp_path / "samples" / "breast-bbbbbbbbbbbb", "breast", ("class_1",)) == []


def test_samples_of_an_earlier_version_are_told_unless_they_are_phantoms(tmp_path):
    folder = tmp_path / "clinic-aaaaaaaaaaaa"
    (note,) = notes_on_earlier_reading({"phantom": False}, folder)
    assert note.startswith("the images were prepared by an earlier version of raygrid")
    assert note.endswith(f"delete {folder} to prepare them again")
    assert notes_on_earlier_reading({"phantom": False, READING: READING_VERSION - 1}, folder) == [note]
    assert notes_on_earlier_reading({"phantom": False, READING: READING_VERSION}, folder) == []
    assert notes_on_earlier_reading({"phantom": True}, folder) == []

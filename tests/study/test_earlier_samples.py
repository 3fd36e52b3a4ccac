"""Samples with other labels in the same study are told before the images are prepared again."""

from raygrid.io.files import write_json
from raygrid.study.earlier_samples import notes_on_other_labels


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
        "are prepared, and models and scores made, again"
    )
    assert notes_on_other_labels(new, "breast", ("positive",)) == []
    assert notes_on_other_labels(new, "chest", ("class_1",)) == []


def test_a_study_without_samples_has_no_note(tmp_path):
    assert notes_on_other_labels(tmp_path / "samples" / "breast-bbbbbbbbbbbb", "breast", ("class_1",)) == []

"""Samples that an earlier run of a study prepared with other labels."""

from collections.abc import Sequence
from pathlib import Path

from raygrid.io.files import read_json


def notes_on_other_labels(folder: Path, modality: str, labels: Sequence[str]) -> list[str]:
    """Return a sentence if the study has samples of `modality` with other names of labels, and prepares them again.

    Args:
        folder: the folder of the samples to prepare, beside those of earlier runs.
        labels: the names of its labels.
    """
    signed = len(folder.name)  # another modality can begin with the same name, but the signatures are of one length
    beside = (path for path in folder.parent.glob(f"{modality}-*/manifest.json") if len(path.parent.name) == signed)
    earlier = {tuple(read_json(path).get("labels", ())) for path in beside if path.parent != folder}
    if not earlier or tuple(labels) in earlier:
        return []
    named = " and ".join(sorted("(" + ", ".join(names) + ")" for names in earlier))
    return [
        f"the study has samples with the labels {named}; the data set now gives ({', '.join(labels)}), so the images "
        "are prepared, and models and scores made, again"
    ]

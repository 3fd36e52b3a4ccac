"""Samples that an earlier run of a study, or an earlier version of raygrid, prepared in another way."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raygrid.io.files import read_json

# Raise when a file of a rare kind gives other pixels or is no longer read, so that samples need not be made again for
# all others (SAMPLES_VERSION); version 1 has no entry in the manifest.
READING_VERSION = 2
READING = "reading"  # the entry of the manifest


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
        "are prepared again, and models and scores are made again"
    ]


def notes_on_earlier_reading(manifest: Mapping[str, Any], folder: Path) -> list[str]:
    """Return a sentence if complete samples in `folder` are from a version of raygrid that checked files less."""
    if manifest["phantom"] or manifest.get(READING, 1) >= READING_VERSION:
        return []
    return [
        "the images were prepared by an earlier version of raygrid, which found less damage in files, checked DICOM "
        f"headers less and did not look for identical images; delete {folder} to prepare them again"
    ]

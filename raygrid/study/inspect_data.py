"""Prepared images for a visual check: a table of counts and prevalence and a contact sheet per modality."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from raygrid.data.datasets import Reject
from raygrid.data.splits.rules import ROLES, members
from raygrid.io.files import atomic_path, write_text
from raygrid.io.mirror import pull
from raygrid.progress import tell
from raygrid.spec import SPLITS
from raygrid.store.folder import StudyFolder
from raygrid.store.samples import Samples

SHEET_IMAGES = 40
_MOST_SIZES = 5
_MOST_REJECTS = 5


def inspect_samples(folder: StudyFolder) -> None:
    """Print counts, sizes and rejects of the prepared images; write a table and a contact sheet per modality to data/.

    Raises StoreError for a modality that is not prepared.
    """
    data_dir = folder.path / "data"
    for modality in folder.study.modalities:
        samples = folder.samples(modality.name)
        pull(samples.folder)
        table = split_counts(samples)
        write_text(data_dir / f"{modality.name}.csv", table.to_csv(index=False))
        tell(*_headlines(modality.name, samples.manifest), "", *_readable(table).split("\n"), "")
        sheet = data_dir / f"{modality.name}.png"
        write_sheet(samples, modality.name, sheet)
        tell(f"  table: {data_dir / (modality.name + '.csv')}", f"  contact sheet: {sheet}", "")


def split_counts(samples: Samples) -> pd.DataFrame:
    """Return one row per split and role, the test part last: `patients`, `images` and, per label, its prevalence.

    Columns: `split`, `role`, `patients`, `images`, then one per label: the share of images with it, 0 to 1.
    """
    images, splits = samples.table(), samples.splits()
    groups = {(split, role): members(splits, split, role) for split in SPLITS for role in ROLES}
    rows = []
    for (split, role), patients in groups.items():
        rows.append(_row(split, role, images[(images["part"] == "development") & images["patient_id"].isin(patients)]))
    rows.append(_row("test", "", images[images["part"] == "test"]))
    return pd.DataFrame(rows)


def write_sheet(samples: Samples, modality: str, path: Path, *, count: int = SHEET_IMAGES) -> None:
    """Write a PNG with `count` labelled images, evenly spaced over the development and test parts."""
    from raygrid.report.figures import contact_sheet

    manifest = samples.manifest
    batch = samples.spread(count)
    names = samples.labels
    captions = [
        f"{image_id}\n{', '.join(n for n, v in zip(names, labels, strict=True) if v) or 'none'}"
        for image_id, labels in zip(batch.image_ids, batch.labels, strict=True)
    ]
    figure = contact_sheet(
        batch.images, captions, title=f"{modality}: {manifest['title']}", phantom=bool(manifest["phantom"])
    )
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def _row(split: str, role: str, images: pd.DataFrame) -> dict[str, Any]:
    known = {"image_id", "patient_id", "part"}
    counts = {"split": split, "role": role, "patients": images["patient_id"].nunique(), "images": len(images)}
    return counts | {str(label): images[label].mean() for label in images.columns if label not in known}


def _headlines(name: str, manifest: dict[str, Any]) -> Iterator[str]:
    yield f"{name}: {manifest['title']}"
    sizes = manifest.get("source_sizes", {})
    shown = ", ".join(f"{size} ({count})" for size, count in list(sizes.items())[:_MOST_SIZES])
    more = f" and {len(sizes) - _MOST_SIZES} other sizes" if len(sizes) > _MOST_SIZES else ""
    if sizes:
        yield f"  source images, height x width in pixels: {shown}{more}"
    if manifest["unused_patients"]:
        yield f"  patients that no split uses: {manifest['unused_patients']}"
    for note in manifest.get("notes", ()):
        yield f"  note: {note}"
    rejects = manifest["rejects"]
    yield f"  images left out: {len(rejects)}"
    for reject in rejects[:_MOST_REJECTS]:
        yield f"    {Reject(**reject)}"
    if len(rejects) > _MOST_REJECTS:
        yield f"    and {len(rejects) - _MOST_REJECTS} more, in the manifest"


def _readable(table: pd.DataFrame) -> str:
    """Return the table for a terminal, with prevalences in per cent; more than four labels become rows."""
    labels = list(table.columns[4:])
    shown = table.copy()
    for label in labels:
        shown[label] = [f"{100 * share:.1f} %" if pd.notna(share) else "–" for share in table[label]]
    if len(labels) > 4:
        place = (table["split"] + " " + table["role"]).str.strip()
        shown = shown.drop(columns=["split", "role"]).set_axis(place).T
        return shown.to_string()
    return shown.to_string(index=False)

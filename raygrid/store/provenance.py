"""STUDY/study.json: the declaration of a study, and the software that computed it."""

import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from raygrid._version import __version__
from raygrid.errors import SpecError
from raygrid.io.files import read_json, write_json
from raygrid.io.mirror import display_path
from raygrid.spec import StudySpec

RECORD_FILE = "study.json"
_PACKAGES = ("torch", "torchvision", "timm", "ray", "mlflow", "numpy", "pandas", "pyarrow", "scikit-learn")


@dataclass(frozen=True)
class StudyRecord:
    """The origin of a study's images and results, read from study.json.

    Attributes:
        phantom: whether any image is generated; all pictures and pages then have a notice.
        versions: of raygrid, Python and the packages that results depend on.
        git_commit: of raygrid's checkout, with `-dirty` if it was changed; None for an installed package.
        created: date and time, ISO 8601, UTC.
    """

    phantom: bool
    versions: Mapping[str, str]
    git_commit: str | None
    created: str


def read_declaration(study_dir: Path) -> tuple[StudySpec, Mapping[str, str]]:
    """Return the declaration of a study, and the signatures of its samples by modality.

    Raises StoreError if study.json is absent or not JSON, SpecError with its path if it declares no valid study.
    """
    values = read_json(study_dir / RECORD_FILE)
    try:
        study = StudySpec.from_dict(values["study"])
    except SpecError as error:  # of another version of raygrid, or edited by hand
        place = display_path(study_dir / RECORD_FILE)
        raise SpecError(f"{place}: {error}; correct the experiment file and run it with a new --output") from error
    return study, values["samples"]


def read_record(study_dir: Path) -> StudyRecord:
    """Return the record of a study folder. Raises StoreError if study.json is absent or not JSON."""
    values = read_json(study_dir / RECORD_FILE)
    return StudyRecord(
        phantom=bool(values["phantom"]),
        versions=values["versions"],
        git_commit=values["git_commit"],
        created=values.get("created", ""),
    )


def write_record(study_dir: Path, study: StudySpec, sample_signatures: Mapping[str, str], *, phantom: bool) -> None:
    """Write the record of a study folder, unless it is unchanged; `created` then stays."""
    path = study_dir / RECORD_FILE
    values = {"study": study.to_dict(), "samples": dict(sample_signatures), "phantom": phantom, **provenance()}
    if path.exists():
        before = read_json(path)
        if all(before.get(name) == value for name, value in values.items()):
            return
    write_json(path, {**values, "created": datetime.now(UTC).isoformat(timespec="seconds")})


def provenance() -> dict[str, Any]:
    """Return the versions of raygrid, Python and the packages, and the commit of raygrid's checkout."""
    versions = {"raygrid": __version__, "python": platform.python_version()}
    return {
        "versions": {**versions, **{name: metadata.version(name) for name in _PACKAGES}},
        "git_commit": _git_commit(),
    }


def _git_commit() -> str | None:
    """Return the commit of raygrid's checkout, with `-dirty` if it was changed; None for an installed package."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() or None
    except (OSError, subprocess.CalledProcessError):
        return None

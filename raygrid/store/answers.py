"""The kept answers of an HTTP target: no image is sent twice, and the number of images stays within the budget.

ANSWERS_DIR/<hash of the images of a request>.json     {"endpoint": ..., "answers": {<sha256 of an image>: [...]}}
ANSWERS_DIR/<hash of the images of a request>.asked    the images of a request that is in progress

A `.json` file is written after a successful request. A killed process leaves the `.asked` file of its request. Its
images were sent, so they still count; sent again, they count once.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from raygrid.errors import BudgetSpentError, StoreError
from raygrid.hashing import digest
from raygrid.io.files import read_json, write_json
from raygrid.io.mirror import remove
from raygrid.io.paths import cache_dir

_KEPT, _ASKED = ".json", ".asked"
Answers = Mapping[str, Sequence[float]]


class AnswerStore:
    """Answers by SHA-256 of the bytes of the image; the processes of a node share one folder.

    Args:
        endpoint: identity of the endpoint; answers of another URL or version count, but are not used.
        max_images: limit of the images sent in total; 0 is no limit.
    """

    def __init__(self, folder: Path, endpoint: str, max_images: int) -> None:
        self.folder, self.endpoint, self.max_images = folder, endpoint, max_images
        self._answers: dict[str, list[float]] = {}
        self._sent: set[tuple[str, str]] = set()  # (endpoint, image), of every version
        self._read: set[str] = set()
        name = digest(str(folder.resolve()))[:16]
        self._lock = FileLock(cache_dir() / f"answers-{name}.lock")  # locks fail on some shared disks
        self.reload()

    @property
    def num_sent(self) -> int:
        """Number of different images that were answered or are in progress, as far as this process has read."""
        return len(self._sent | self._under_way())

    def get(self, image: str) -> list[float] | None:
        """Return the answer to an image, or None if there is none yet."""
        return self._answers.get(image)

    def reload(self) -> None:
        """Read the new files of answers. Raises StoreError if a file cannot be read."""
        for name in self._names(_KEPT):
            if name not in self._read:
                self._take(self.folder / name)

    @contextmanager
    def asking(self, images: Sequence[str]) -> Iterator[list[str]]:
        """Yield the images without an answer, and reserve the budget for them.

        Raises BudgetSpentError, before anything is sent, if they exceed the rest of the budget.
        """
        with self._lock:
            self.reload()
            missing = [image for image in images if image not in self._answers]
            self._require_budget(missing)
            under_way = self.folder / f"{digest([self.endpoint, sorted(missing)])[:32]}{_ASKED}"
            if missing:
                write_json(under_way, {"endpoint": self.endpoint, "images": missing})
        try:
            yield missing
        finally:
            remove(under_way)

    def keep(self, answers: Answers) -> None:
        """Write the answers of a finished request. Raises StoreError if the file cannot be written."""
        path = self.folder / f"{digest([self.endpoint, sorted(answers)])[:32]}{_KEPT}"
        write_json(path, {"endpoint": self.endpoint, "answers": {k: list(v) for k, v in answers.items()}})
        with self._lock:
            self._take(path)

    def _require_budget(self, missing: Sequence[str]) -> None:
        if not missing or not self.max_images:
            return
        sent = self._sent | self._under_way()
        if len(sent | {(self.endpoint, image) for image in missing}) > self.max_images:
            raise BudgetSpentError(
                f"{len(sent)} images were sent to this endpoint, {len(missing)} more would exceed max_images="
                f"{self.max_images}; every answer is kept in {self.folder}. Raise max_images of its EndpointSpec and "
                "run the same command again, or report the results so far with --only report"
            )

    def _under_way(self) -> set[tuple[str, str]]:
        found: set[tuple[str, str]] = set()
        for name in self._names(_ASKED):
            try:
                request = read_json(self.folder / name)
            except StoreError:  # another process has finished it
                continue
            found |= {(request["endpoint"], image) for image in request["images"]}
        return found

    def _take(self, path: Path) -> None:
        request = read_json(path)
        try:
            answers: dict[str, list[float]] = request["answers"]
            self._sent |= {(request["endpoint"], image) for image in answers}
            if request["endpoint"] == self.endpoint:
                self._answers |= answers
        except (KeyError, TypeError) as error:
            raise StoreError(
                f"{path} holds no answers of an endpoint; delete it, and its images are sent again"
            ) from error
        self._read.add(path.name)

    def _names(self, suffix: str) -> list[str]:
        try:
            with os.scandir(self.folder) as entries:
                return sorted(e.name for e in entries if e.name.endswith(suffix) and not e.name.startswith("."))
        except FileNotFoundError:
            return []

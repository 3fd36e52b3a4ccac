"""Targets behind an HTTP endpoint: every image is sent once, within the declared limits.

Request:  POST {"images": [base64, ...], "format": "png" | "jpeg" | "dicom" | "npy"}
Reply:    {"answers": [[...], ...]}, one row per image
"""

import base64
import hashlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from raygrid.errors import DataError
from raygrid.spec import TargetSpec
from raygrid.store.answers import AnswerStore
from raygrid.store.target_identity import endpoint_identity
from raygrid.targets.delivery import encode, to_levels
from raygrid.targets.http_client import HttpClient
from raygrid.targets.outputs import parse_answers
from raygrid.targets.preprocessing import resize, to_array


class Endpoint:
    """A function of images (batch, channel, height, width) in [-1, 1] to the answers of an HTTP target.

    Raises the errors of `HttpClient.post` and `AnswerStore.asking`, and DataError if the reply has another form.
    """

    def __init__(self, spec: TargetSpec, store: AnswerStore, client: HttpClient, *, num_outputs: int) -> None:
        self.spec, self.store, self._client, self._num_outputs = spec, store, client, num_outputs

    def __call__(self, images: Tensor) -> NDArray[np.float64]:
        """Return answers (batch, outputs): kept ones from the store, the others from the endpoint."""
        files = to_files(images, self.spec)
        names = [hashlib.sha256(file).hexdigest() for file in files]
        unknown = {n: f for n, f in zip(names, files, strict=True) if self.store.get(n) is None}  # equal images: one
        for part in _parts(list(unknown), self.spec.endpoint.batch_size):
            self._ask({name: unknown[name] for name in part})
        return np.array([self.store.get(name) for name in names], dtype=np.float64).reshape(len(names), -1)

    def _ask(self, files: dict[str, bytes]) -> None:
        with self.store.asking(list(files)) as missing:
            if missing:
                reply = self._client.post(_request([files[name] for name in missing], self.spec))
                rows = self._rows(reply, len(missing))
                self.store.keep(dict(zip(missing, rows.tolist(), strict=True)))

    def _rows(self, reply: Any, num_images: int) -> NDArray[np.float64]:
        who = f"target {self.spec.label!r} at {self.spec.source}"
        if not isinstance(reply, dict) or "answers" not in reply:
            got = self._client.excerpt(str(reply))
            raise DataError(
                f'{who}: expected {{"answers": [[...], ...]}} with {num_images} rows, got {got}; '
                "docs/how-to/endpoints.md has a server to compare with"
            )
        try:
            return parse_answers(who, reply["answers"], num_images, self._num_outputs)
        except DataError as error:  # its cause quotes the reply, which may contain the token
            raise DataError(self._client.masked(str(error))) from None


def open_endpoint(spec: TargetSpec, *, num_outputs: int, answers_dir: Path) -> Endpoint:
    """Return the endpoint of a target, with its kept answers.

    Raises SpecError if the variable of the token is not set, StoreError if the kept answers cannot be read.
    """
    store = AnswerStore(answers_dir, endpoint_identity(spec), spec.endpoint.max_images)
    return Endpoint(spec, store, HttpClient(spec), num_outputs=num_outputs)


def to_files(images: Tensor, spec: TargetSpec) -> list[bytes]:
    """Return the bytes of each image to send: a file in the declared form, or its array as .npy."""
    if spec.received == "exact":
        return [_npy(array) for array in to_array(images, spec.input)]
    return [encode(levels, spec) for levels in to_levels(resize(images, spec.input))]


def _npy(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _request(files: Sequence[bytes], spec: TargetSpec) -> dict[str, Any]:
    kind = {"exact": "npy"}.get(spec.received, spec.received.partition(":")[0])
    return {"images": [base64.b64encode(file).decode("ascii") for file in files], "format": kind}


def _parts(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), size):
        yield names[start : start + size]

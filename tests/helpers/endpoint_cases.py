"""Six grey images, an endpoint that answers with their brightness, and clients for it."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from target_server import TargetServer

from raygrid.spec import EndpointSpec, TargetSpec
from raygrid.store.answers import AnswerStore
from raygrid.store.target_identity import endpoint_identity
from raygrid.targets import open_target
from raygrid.targets.http import Endpoint
from raygrid.targets.http_client import HttpClient

SIZE = 8
IMAGES = torch.linspace(-1, 1, 6).view(6, 1, 1, 1).expand(6, 1, SIZE, SIZE)
EXPECTED = (np.rint((IMAGES.numpy()[:, 0, 0, 0] + 1) * 127.5) / 10 - 7)[:, None]


def brightness(images: list[np.ndarray]) -> list[list[float]]:
    """Return a logit of each grey image: a tenth of its level, less 7."""
    return [[float(image.mean()) / 10 - 7] for image in images]


def spec_of(server: TargetServer, **endpoint: Any) -> TargetSpec:
    declared = EndpointSpec(**{"batch_size": 4, "requests_per_second": 10_000, "retries": 2, **endpoint})
    return TargetSpec(modality="toy", label="clinic", kind="http", source=server.url, received="png", endpoint=declared)


def asked(spec: TargetSpec, folder: Path, images: torch.Tensor = IMAGES) -> np.ndarray:
    found = open_target(spec, labels=("finding",), channels=1, image_size=SIZE, answers_dir=folder)
    return found(images).numpy()


def patient(spec: TargetSpec, folder: Path) -> tuple[Endpoint, list[float]]:
    """Return an endpoint that does not wait, and the list of the seconds that it would have waited."""
    waits: list[float] = []
    store = AnswerStore(folder, endpoint_identity(spec), spec.endpoint.max_images)
    return Endpoint(spec, store, HttpClient(spec, sleep=waits.append), num_outputs=1), waits

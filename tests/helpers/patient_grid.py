"""A small study that is still being scored when a second node joins: its target waits for that node.

Run without a cluster, the target answers at once.
"""

import socket
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from target_functions import brightness

from raygrid.cli import run_experiment
from raygrid.spec import (
    DatasetSpec,
    ModalitySpec,
    ModelSpec,
    Recipe,
    SplitSpec,
    StudySpec,
    TargetSpec,
    TransferSpec,
    attack_grid,
)

SHARED = Path("/shared")  # where nodes of a cluster see it; holds how many of them the target waits for
WANTED = "wait-for-nodes"
SCORED_ON = "scored-on-"  # with the name of a node: a file with a line for each call of the target there
_PATIENCE_S, _POLL_S = 240, 0.5


def brightness_on_nodes(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Answer with the brightness of an image, as soon as the cluster has as many nodes as the test asks for.

    Raises TimeoutError if they do not join in time.
    """
    import ray

    wanted = SHARED / WANTED
    deadline = time.monotonic() + _PATIENCE_S
    # only after training: trainings that wait ask for a node at once, Ray Data alone asked for none in two minutes
    is_trained = any((SHARED / "studies" / "patient" / "zoo").rglob("*.safetensors"))
    while is_trained and wanted.exists() and sum(node["Alive"] for node in ray.nodes()) < int(wanted.read_text()):
        if time.monotonic() > deadline:
            raise TimeoutError("no further node joined")
        time.sleep(_POLL_S)
    if is_trained:
        wanted.unlink(missing_ok=True)  # the nodes may leave again
        with (SHARED / f"{SCORED_ON}{socket.gethostname()}").open("a") as calls:
            calls.write(f"{len(images)} images\n")
    return brightness(images)


def patient() -> StudySpec:
    """Return a study of two models and a target, with 24 units."""
    pathology = ModalitySpec(
        name="pathology",
        dataset=DatasetSpec(loader="phantom_tissue", image_size=32, channels=3, options={"patients": 40}),
        splits=SplitSpec(test_fraction=0.25),
        recipe=Recipe(epochs=1, batch_size=16),
    )
    models = tuple(
        ModelSpec(modality="pathology", arch="test_resnet", init="random", split=split) for split in ("d1", "d2")
    )
    target = TargetSpec(
        modality="pathology", label="brightness", kind="callable", source="patient_grid:brightness_on_nodes"
    )
    return StudySpec(
        name="patient",
        seed=5,
        modalities=(pathology,),
        models=models,
        transfer=TransferSpec(attacks=attack_grid((0.02,)), block_size=10),
        targets=(target,),
    )


if __name__ == "__main__":
    run_experiment({"patient": patient}, description=__doc__ or "", default="patient")

"""Run a study of raw images on nodes that share only object storage; a program, since it starts its own cluster.

Usage: storage_on_nodes.py STUDY_URL DATA_URL CACHES. Each node, and the driver, has its cache below the folder CACHES.
"""

import os
import sys
from pathlib import Path

from ray.cluster_utils import Cluster

from raygrid.io.mirror import local_dir
from raygrid.io.paths import CACHE_VARIABLE
from raygrid.spec import DatasetSpec, ModalitySpec, ModelSpec, Recipe, SplitSpec, StudySpec, TransferSpec, attack_grid
from raygrid.study.cluster import connected
from raygrid.study.run import RunOptions, run_study

NODES = ("head", "worker")


def raw_images() -> StudySpec:
    """Return a study of 3 models on the images of a table; one model is pre-trained on textures."""
    recipe = Recipe(epochs=1, batch_size=8)
    textures = ModalitySpec(
        name="textures",
        dataset=DatasetSpec(loader="phantom_textures", image_size=32, channels=3, options={"patients": 60}),
        splits=SplitSpec(test_fraction=0.1),
        recipe=recipe,
        source=True,
    )
    options = {"table": "clinic/table.csv", "labels": ["bright"]}
    clinic = ModalitySpec(
        name="clinic",
        dataset=DatasetSpec(loader="table", image_size=32, channels=3, options=options),
        splits=SplitSpec(test_fraction=0.25),
        recipe=recipe,
    )
    cells = [("random", "d1"), ("random", "d2"), ("pretrained_on:textures", "d1")]
    return StudySpec(
        name="raw",
        seed=1,
        modalities=(clinic, textures),
        models=(
            ModelSpec(modality="textures", arch="test_resnet", init="random", split="development"),
            *(ModelSpec(modality="clinic", arch="test_resnet", init=init, split=split) for init, split in cells),
        ),
        transfer=TransferSpec(attacks=attack_grid((0.02,)), block_size=5),
    )


def main() -> None:
    study_url, data_url, caches = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    common = {"num_cpus": 1, "object_store_memory": 100 * 1024**2}
    nodes = [{**common, "env_vars": {CACHE_VARIABLE: str(caches / name)}} for name in NODES]
    cluster = Cluster(initialize_head=True, head_node_args={**nodes[0], "include_dashboard": False})
    cluster.add_node(**nodes[1])
    cluster.wait_for_nodes()
    os.environ[CACHE_VARIABLE] = str(caches / "driver")
    options = RunOptions(study_dir=local_dir(study_url), data_root=local_dir(data_url), device="cpu")
    with connected(cluster.address):
        run_study(raw_images(), options)
    cluster.shutdown()


if __name__ == "__main__":
    main()

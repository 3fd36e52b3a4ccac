"""One epoch of one trial per modality at the paper's resolution, on phantoms: whether it runs, its time, its memory.

The recipe, network and image size are those of `full_grid.py --preset paper`. The images are generated, and few. Each
trial runs in a process of its own; the benchmark reads its peak resident memory at the end.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from common import write_result

sys.path.insert(0, str(Path(__file__).parent.parent / "experiments"))
from full_grid import paper

from raygrid.models.training import train
from raygrid.spec import DatasetSpec, ModalitySpec, ModelSpec, SplitSpec, StudySpec
from raygrid.store.folder import StudyFolder
from raygrid.store.samples import Samples
from raygrid.study.cluster import connected
from raygrid.study.prepare import prepare_missing, survey

PHANTOMS = {
    "ophthalmology": ("phantom_fundus", 60),
    "radiology": ("phantom_xray", 120),
    "pathology": ("phantom_tissue", 40),
}
ARCHITECTURES = {"ophthalmology": "inception_v3", "radiology": "densenet121", "pathology": "densenet121"}


def main() -> None:
    """Run every modality in a process of its own and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", choices=sorted(PHANTOMS), help="run this modality in this process and print the facts")
    one = parser.parse_args().one
    if one:
        print(json.dumps(run_one(one)))
        return
    result = {}
    for name in PHANTOMS:
        done = subprocess.run([sys.executable, __file__, "--one", name], check=True, stdout=subprocess.PIPE, text=True)
        result[name] = json.loads(done.stdout.splitlines()[-1])
        print(name, result[name], flush=True)
    write_result("full_size_epoch", __doc__ or "", result)


def run_one(name: str) -> dict[str, float | int | str]:
    """Prepare phantoms at the paper's size and train one model for one epoch with the paper's recipe."""
    full = paper().modality(name)
    loader, patients = PHANTOMS[name]
    modality = ModalitySpec(
        name=name,
        dataset=DatasetSpec(
            loader=loader,
            image_size=full.dataset.image_size,
            channels=full.dataset.channels,
            options={"patients": patients},
        ),
        splits=SplitSpec(test_fraction=0.1, validation_fraction=0.2),
        recipe=replace(full.recipe, epochs=1, threads=2),
    )
    model = ModelSpec(modality=name, arch=ARCHITECTURES[name], init="random", split="d1")
    study = StudySpec(name="epoch", seed=0, modalities=(modality,), models=(model,), transfer=paper().transfer)
    with tempfile.TemporaryDirectory() as folder:
        with connected(None, num_cpus=2):
            surveyed = survey(study, Path(folder), Path(folder))
            prepare_missing(surveyed, Path(folder))
        zoo = StudyFolder(Path(folder), study, {name: surveyed[0].signature})
        card = train(zoo, model, Samples(surveyed[0].folder))
        history = zoo.model(model).history
    return {
        "network": model.arch,
        "side, px": full.dataset.image_size,
        "batch": full.recipe.batch_size,
        "training images": card["num_training_images"],
        "seconds": round(history[0]["seconds"], 1),
        "loss": round(history[0]["loss"], 4),
        "validation AUC": round(history[0]["validation_auc"], 3),
        "peak memory of the process, MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


if __name__ == "__main__":
    main()

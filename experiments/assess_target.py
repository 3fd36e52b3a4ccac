"""How vulnerable is *your* model? Copy this file, and change what stands in capitals and TARGET.

Claim     how far can an attacker who cannot see your classifier, only train look-alikes, lower its AUC; and with what
          (architecture, pre-training, data)? results/assessment-<modality>-<label>.html says it for one model.
Zoo       the attacker's alone: per architecture random weights on d1, on d2 and on half of d2, and weights learned
          elsewhere on d1. Give the development images to raygrid that such an attacker could have.
Target    anything that answers images (raygrid/spec/targets.py): a PyTorch checkpoint, a torch.export program, an ONNX
          file, a Python function, an HTTP endpoint. Ask only what you own or are authorised to test.
Attacks   FGSM and PGD-20, epsilon 0.02, 0.04, 0.06, each with its shuffled control.
Cost      training the zoo is nearly all of it; an endpoint is asked for (1 + 2 x attacks x look-alikes) x test images:
          --plan says how many, and EndpointSpec.max_images sets a limit.

presets
  own     your images (a table, docs/data.md) and your model: TABLE, LABELS, TARGET below
  demo    generated tissue and a classifier of three lines, stain_meter.py; minutes on two CPU cores. It shows the
          page, it is no medical evidence:
              python experiments/assess_target.py --preset demo

A function is found again by its module: where raygrid looks at the study later, that must be importable, as in
`PYTHONPATH=experiments raygrid status studies/assess_demo`.
"""

from pathlib import Path

from raygrid.cli.commands import run_experiment
from raygrid.spec import (
    PRETRAINED_ON,
    AnswerSpec,
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

EPSILONS = (0.02, 0.04, 0.06)
TABLE = "my_clinic/images.csv"  # relative to --data-root; the images that an attacker could have, and the test images
LABELS = ["finding"]  # 0/1 columns of the table
ARCHITECTURES = ("resnet18", "densenet121")  # of the look-alikes, any of timm
TARGET = TargetSpec(
    modality="clinic",
    label="deployed",
    kind="http",  # or checkpoint, export, onnx, callable
    source="http://127.0.0.1:8000/predict",
    received="png",  # what docs/targets.md has a server for; "exact" sends the array
    answer=AnswerSpec(kind="probability"),
)


def attackers(modality: str, architectures: tuple[str, ...], pretrained: str) -> tuple[ModelSpec, ...]:
    """Return the look-alikes: four per architecture."""
    cells = [("random", "d1"), ("random", "d2"), ("random", "d2_half"), (pretrained, "d1")]
    return tuple(
        ModelSpec(modality=modality, arch=arch, init=init, split=split)
        for arch in architectures
        for init, split in cells
    )


def own() -> StudySpec:
    """Return the study of your model, on images that a table names."""
    recipe = Recipe(epochs=30, learning_rate=5e-4, augmentations=("flip_horizontal", "translate"))
    modality = ModalitySpec(
        name=TARGET.modality,
        dataset=DatasetSpec(
            loader="table",
            image_size=224,
            channels=3,
            options={"table": TABLE, "labels": LABELS, "image_column": "image", "patient_column": "patient"},
        ),
        splits=SplitSpec(test_fraction=0.2),  # SplitSpec() if the table has a column split, to keep its test part
        recipe=recipe,
        finetune=Recipe(epochs=15, learning_rate=1e-4, augmentations=recipe.augmentations),
    )
    return StudySpec(
        name=Path(__file__).stem,  # of the study folder: each copy has its own
        seed=1,
        modalities=(modality,),
        models=attackers(modality.name, ARCHITECTURES, "imagenet"),
        transfer=TransferSpec(attacks=attack_grid(EPSILONS)),
        targets=(TARGET,),
        zoo_as_targets=False,
    )


def demo() -> StudySpec:
    """Return the same study on generated tissue, of a classifier that measures stain."""
    recipe = Recipe(epochs=8, batch_size=32, learning_rate=4e-3, augmentations=("flip_horizontal",))
    pathology = ModalitySpec(
        name="pathology",
        dataset=DatasetSpec(loader="phantom_tissue", image_size=40, channels=3, options={"patients": 180}),
        splits=SplitSpec(test_fraction=0.2),
        recipe=recipe,
    )
    textures = ModalitySpec(
        name="textures",
        dataset=DatasetSpec(loader="phantom_textures", image_size=40, channels=3, options={"patients": 1200}),
        splits=SplitSpec(test_fraction=0.05),
        recipe=Recipe(epochs=4, batch_size=32, learning_rate=2e-3),
        source=True,
    )
    architectures = ("test_resnet", "test_efficientnet")
    sources = tuple(ModelSpec(modality="textures", arch=a, init="random", split="development") for a in architectures)
    target = TargetSpec(modality="pathology", label="stain_meter", kind="callable", source="stain_meter:measure_stain")
    return StudySpec(
        name="assess_demo",
        seed=1,
        modalities=(pathology, textures),
        models=(*sources, *attackers("pathology", architectures, f"{PRETRAINED_ON}textures")),
        transfer=TransferSpec(attacks=attack_grid(EPSILONS), block_size=72),
        targets=(target,),
        zoo_as_targets=False,
    )


if __name__ == "__main__":
    run_experiment({"own": own, "demo": demo}, description=__doc__ or "", default="own")

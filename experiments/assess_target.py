"""How vulnerable is *your* model? Copy this file, and change the names in capitals.

Claim     how far can an attacker who cannot see your classifier, but trains look-alikes, lower its AUC, and by which
          architecture, pre-training and data? results/assessment-<modality>-<label>.html answers this.
Zoo       the attacker's only: per architecture random weights on d1, on d2 and on half of d2, and weights learned
          elsewhere on d1. Give the development images to raygrid that such an attacker could have.
Target    anything that answers images (raygrid/spec/targets.py): a PyTorch checkpoint, a torch.export program, an ONNX
          file, a Python function, an HTTP endpoint. Attack only classifiers that you own or are authorised to test.
Attacks   FGSM and PGD-20, epsilon 0.02, 0.04, 0.06, each with its shuffled control.
Cost      training the zoo is nearly all of it; an endpoint receives (1 + 2 x attacks x look-alikes) x test images:
          --plan shows how many, and EndpointSpec.max_images sets a limit.

presets
  own     your images (a table, docs/how-to/own-images.md) and your model: TABLE, LABELS, TARGET below
  demo    generated tissue and a three-line classifier, stain_meter.py; minutes on two CPU cores. It shows the page
          and is not medical evidence:
              python experiments/assess_target.py --preset demo

Later commands on the study must be able to import the module of a Python function, as in
`PYTHONPATH=experiments raygrid status studies/assess_demo`.
"""

from pathlib import Path

import raygrid as rg

EPSILONS = (0.02, 0.04, 0.06)
TABLE = "my_clinic/images.csv"  # relative to --data-root; the images that an attacker could have, and the test images
LABELS = ["finding"]  # 0/1 columns of the table
ARCHITECTURES = ("resnet18", "densenet121")  # of the look-alikes, any of timm
TARGET = rg.TargetSpec(
    modality="clinic",
    label="deployed",
    kind="http",  # or checkpoint, export, onnx, callable
    source="http://127.0.0.1:8000/predict",
    received="png",  # what docs/how-to/endpoints.md has a server for; "exact" sends the array
    answer=rg.AnswerSpec(kind="probability"),
)


def attackers(modality: str, architectures: tuple[str, ...], pretrained: str) -> tuple[rg.ModelSpec, ...]:
    """Return the look-alikes: four per architecture."""
    return rg.model_grid(
        modality,
        architectures,
        [("random", "d1", 0), ("random", "d2", 0), ("random", "d2_half", 0), (pretrained, "d1", 0)],
    )


def own() -> rg.StudySpec:
    """Return the study of your model, on images that a table names."""
    recipe = rg.Recipe(epochs=30, learning_rate=5e-4, augmentations=("flip_horizontal", "translate"))
    modality = rg.ModalitySpec(
        name=TARGET.modality,
        dataset=rg.DatasetSpec(
            loader="table",
            image_size=224,
            channels=3,
            options={"table": TABLE, "labels": LABELS, "image_column": "image", "patient_column": "patient"},
        ),
        splits=rg.SplitSpec(test_fraction=0.2),  # rg.SplitSpec() if the table has a column split, to keep its test part
        recipe=recipe,
        finetune=rg.Recipe(epochs=15, learning_rate=1e-4, augmentations=recipe.augmentations),
    )
    return rg.StudySpec(
        name=Path(__file__).stem,  # of the study folder: each copy has its own
        seed=1,
        modalities=(modality,),
        models=attackers(modality.name, ARCHITECTURES, "imagenet"),
        transfer=rg.TransferSpec(attacks=rg.attack_grid(EPSILONS)),
        targets=(TARGET,),
        zoo_as_targets=False,
    )


def demo() -> rg.StudySpec:
    """Return the same study on generated tissue, of a classifier that measures stain."""
    recipe = rg.Recipe(epochs=8, batch_size=32, learning_rate=4e-3, augmentations=("flip_horizontal",))
    pathology = rg.ModalitySpec(
        name="pathology",
        dataset=rg.DatasetSpec(loader="phantom_tissue", image_size=40, channels=3, options={"patients": 180}),
        splits=rg.SplitSpec(test_fraction=0.2),
        recipe=recipe,
    )
    textures = rg.ModalitySpec(
        name="textures",
        dataset=rg.DatasetSpec(loader="phantom_textures", image_size=40, channels=3, options={"patients": 1200}),
        splits=rg.SplitSpec(test_fraction=0.05),
        recipe=rg.Recipe(epochs=4, batch_size=32, learning_rate=2e-3),
        source=True,
    )
    architectures = ("test_resnet", "test_efficientnet")
    sources = rg.model_grid("textures", architectures, [("random", "development", 0)])
    target = rg.TargetSpec(
        modality="pathology", label="stain_meter", kind="callable", source="stain_meter:measure_stain"
    )
    return rg.StudySpec(
        name="assess_demo",
        seed=1,
        modalities=(pathology, textures),
        models=(*sources, *attackers("pathology", architectures, f"{rg.PRETRAINED_ON}textures")),
        transfer=rg.TransferSpec(attacks=rg.attack_grid(EPSILONS), block_size=72),
        targets=(target,),
        zoo_as_targets=False,
    )


if __name__ == "__main__":
    rg.main(own, demo)  # the first is the default; --help shows the text above

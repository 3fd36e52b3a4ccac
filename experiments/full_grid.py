"""The paper's study: how do perturbation degree, pre-training, data and architecture parity change transfer?

Claim     perturbation degree, pre-training and disparity between surrogate and target change how much a transferred
          FGSM or PGD attack costs a medical image classifier (three modalities, AUC on held-out patients).
Zoo       per modality 12 models: 2 architectures x {random d1 (target and retrained twin), random d2, random d2_half,
          pre-trained d1 (target and twin)}; 36 in all.
Attacks   FGSM and PGD-20 (alpha 0.01), epsilon 0.02, 0.04, 0.06 on [-1, 1] images, each with its shuffled control.
Pairings  every surrogate against every target of its modality, the white-box reference marked and kept apart.

presets
  paper      Inception-v3 and DenseNet-121, ImageNet weights, the three full data sets. Days of GPU time.
  published  paper, with the radiology splits that the paper's authors published (docs/how-to/splits.md).
  demo       the same shape on generated phantoms with two tiny networks, pre-trained on a phantom texture task.
             Minutes on two CPU cores. It shows the tool and is not medical evidence.
"""

from dataclasses import replace

import raygrid as rg

EPSILONS = (0.02, 0.04, 0.06)


def zoo_of(modality: str, architectures: tuple[str, ...], pretrained: str) -> tuple[rg.ModelSpec, ...]:
    """Return the 12 models of one modality (docs/explanation/protocol.md, Models): six per architecture."""
    return rg.model_grid(
        modality,
        architectures,
        [
            ("random", "d1", 0),  # target
            ("random", "d1", 1),  # its retrained twin
            ("random", "d2", 0),
            ("random", "d2_half", 0),
            (pretrained, "d1", 0),
            (pretrained, "d1", 1),
        ],
    )


def paper() -> rg.StudySpec:
    """Return the published study at full size; learning rates and epochs are our choice, the paper names none."""
    architectures = ("inception_v3", "densenet121")
    flips = ("flip_horizontal", "flip_vertical")
    fundus = rg.Recipe(epochs=40, batch_size=32, learning_rate=3e-4, balanced=True, augmentations=(*flips, "rotate"))
    chest = rg.Recipe(epochs=40, batch_size=64, learning_rate=5e-4, augmentations=("flip_horizontal", "translate"))
    tissue = rg.Recipe(epochs=20, batch_size=64, learning_rate=5e-4, augmentations=(*flips, "colour"))
    modalities = (
        rg.ModalitySpec(
            name="ophthalmology",
            dataset=rg.DatasetSpec(loader="kaggle_dr", image_size=512, channels=3),
            splits=rg.SplitSpec(test_fraction=0.12),
            recipe=fundus,
            finetune=replace(fundus, epochs=20, learning_rate=1e-4),
        ),
        rg.ModalitySpec(
            name="radiology",
            dataset=rg.DatasetSpec(loader="chestxray14", image_size=256, channels=1),
            splits=rg.SplitSpec(),
            recipe=chest,
            finetune=replace(chest, epochs=15, learning_rate=1e-4),
        ),
        rg.ModalitySpec(
            name="pathology",
            dataset=rg.DatasetSpec(loader="pcam", image_size=96, channels=3),
            splits=rg.SplitSpec(),
            recipe=tissue,
            finetune=replace(tissue, epochs=8, learning_rate=1e-4),
        ),
    )
    return rg.StudySpec(
        name="paper",
        seed=2020,
        modalities=modalities,
        models=tuple(m for modality in modalities for m in zoo_of(modality.name, architectures, "imagenet")),
        transfer=rg.TransferSpec(attacks=rg.attack_grid(EPSILONS), block_size=64),
    )


def published() -> rg.StudySpec:
    """Return the published study with the published patients of radiology: d1, d2 and d3, which is d2_half."""
    study = paper()
    lists = {"d1": "d1", "d2": "d2", "d2_half": "d3"}
    splits = rg.SplitSpec(files={split: f"chestxray14/{name}_filenames.yml" for split, name in lists.items()})
    modalities = tuple(replace(m, splits=splits) if m.name == "radiology" else m for m in study.modalities)
    return replace(study, name="published", modalities=modalities)


def demo() -> rg.StudySpec:
    """Return the same study on generated phantoms, small enough for two CPU cores and ten minutes."""
    architectures = ("test_resnet", "test_efficientnet")
    size, patients = 40, {"ophthalmology": 720, "radiology": 620, "pathology": 180}
    scratch = rg.Recipe(epochs=10, batch_size=32, learning_rate=4e-3, augmentations=("flip_horizontal",))
    finetune = replace(scratch, epochs=7, learning_rate=2e-3)
    loaders = {
        "ophthalmology": ("phantom_fundus", 3),
        "radiology": ("phantom_xray", 1),
        "pathology": ("phantom_tissue", 3),
    }
    studied = tuple(
        rg.ModalitySpec(
            name=name,
            dataset=rg.DatasetSpec(
                loader=loader, image_size=size, channels=channels, options={"patients": patients[name]}
            ),
            splits=rg.SplitSpec(test_fraction=0.15),
            recipe=scratch,
            finetune=finetune,
        )
        for name, (loader, channels) in loaders.items()
    )
    source = rg.ModalitySpec(
        name="textures",
        dataset=rg.DatasetSpec(loader="phantom_textures", image_size=size, channels=3, options={"patients": 2200}),
        splits=rg.SplitSpec(test_fraction=0.05),
        recipe=replace(scratch, epochs=5, learning_rate=2e-3),
        source=True,
    )
    sources = rg.model_grid("textures", architectures, [("random", "development", 0)])
    zoo = tuple(m for modality in studied for m in zoo_of(modality.name, architectures, f"{rg.PRETRAINED_ON}textures"))
    return rg.StudySpec(
        name="demo",
        seed=1,
        modalities=(*studied, source),
        models=(*sources, *zoo),
        transfer=rg.TransferSpec(attacks=rg.attack_grid(EPSILONS), block_size=80),
    )


if __name__ == "__main__":
    rg.main(paper, published, demo)  # the first is the default; --help shows the text above

"""A grid of one modality small enough for a test, through the same command line as the real experiments."""

from dataclasses import replace

from raygrid.cli import run_experiment
from raygrid.spec import (
    DatasetSpec,
    EnsembleSpec,
    ModalitySpec,
    ModelSpec,
    Recipe,
    SplitSpec,
    StudySpec,
    TargetSpec,
    TransferSpec,
    attack_grid,
)


def tiny() -> StudySpec:
    """Return a study with 4 pathology models, one of them pre-trained on textures, and an ensemble of two."""
    recipe = Recipe(epochs=2, batch_size=16)
    textures = ModalitySpec(
        name="textures",
        dataset=DatasetSpec(loader="phantom_textures", image_size=32, channels=3, options={"patients": 200}),
        splits=SplitSpec(test_fraction=0.1),
        recipe=recipe,
        source=True,
    )
    pathology = ModalitySpec(
        name="pathology",
        dataset=DatasetSpec(loader="phantom_tissue", image_size=32, channels=3, options={"patients": 40}),
        splits=SplitSpec(test_fraction=0.25),
        recipe=recipe,
    )
    arch = "test_resnet"
    cells = [("random", "d1", 0), ("random", "d1", 1), ("random", "d2", 0), ("pretrained_on:textures", "d1", 0)]
    models = [ModelSpec(modality="textures", arch=arch, init="random", split="development")]
    models += [ModelSpec(modality="pathology", arch=arch, init=i, split=s, instance=n) for i, s, n in cells]
    both = tuple(m.name for m in models if m.modality == "pathology" and m.init == "random" and m.instance == 0)
    return StudySpec(
        name="tiny",
        seed=5,
        modalities=(pathology, textures),
        models=tuple(models),
        transfer=TransferSpec(attacks=attack_grid((0.02, 0.04)), block_size=20),
        ensembles=(EnsembleSpec(modality="pathology", label="random", members=both),),
    )


def assess() -> StudySpec:
    """Return the same study of somebody else's classifier: the zoo is the attacker's alone."""
    target = TargetSpec(modality="pathology", label="brightness", kind="callable", source="target_functions:brightness")
    return replace(tiny(), name="assess", targets=(target,), zoo_as_targets=False)


if __name__ == "__main__":
    run_experiment({"tiny": tiny, "assess": assess}, description=__doc__ or "", default="tiny")

"""Eight small models for the test that kills their workers, through the same command line as the real experiments."""

from raygrid.cli import run_experiment
from raygrid.spec import DatasetSpec, ModalitySpec, ModelSpec, Recipe, SplitSpec, StudySpec, TransferSpec, attack_grid


def chaos() -> StudySpec:
    """Return a study of 8 trainings of several epochs each."""
    pathology = ModalitySpec(
        name="pathology",
        dataset=DatasetSpec(loader="phantom_tissue", image_size=32, channels=3, options={"patients": 60}),
        splits=SplitSpec(test_fraction=0.2),
        recipe=Recipe(epochs=12, batch_size=16, augmentations=("flip_horizontal", "rotate", "colour")),
    )
    models = tuple(
        ModelSpec(modality="pathology", arch="test_resnet", init="random", split=split, instance=instance)
        for split in ("d1", "d2")
        for instance in range(4)
    )
    transfer = TransferSpec(attacks=attack_grid((0.02,)))
    return StudySpec(name="chaos", seed=9, modalities=(pathology,), models=models, transfer=transfer)


if __name__ == "__main__":
    run_experiment({"chaos": chaos}, description=__doc__ or "", default="chaos")

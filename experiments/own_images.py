"""A study of your own images: copy this file, and change the names in capitals and the columns.

Claim     how vulnerable are classifiers of these images to transferred attacks, and does pre-training change it?
Data      a table (CSV or Parquet) under --data-root, one row per image: its file, its patient, a 0/1 column per label
          (docs/how-to/own-images.md). PNG, JPEG, TIFF and DICOM.
Zoo       per architecture: random weights on d1 twice (target and retrained twin), on d2, and ImageNet weights twice.
Attacks   FGSM and PGD-20, epsilon 0.02, 0.04, 0.06, all pairings.

Look at the images first:   raygrid prepare experiments/own_images.py --data-root DATA_ROOT
                            raygrid inspect-data studies/own_images
"""

from pathlib import Path

import raygrid as rg

TABLE = "my_clinic/images.csv"  # relative to --data-root; image paths in it are relative to its folder
LABELS = ["finding"]  # 0/1 columns of the table
ARCHITECTURES = ("resnet18", "densenet121")  # any of timm
MODALITY = "clinic"


def own_images() -> rg.StudySpec:
    """Return a study of one modality, read from a table."""
    modality = rg.ModalitySpec(
        name=MODALITY,
        dataset=rg.DatasetSpec(
            loader="table",
            image_size=224,
            channels=3,  # 1 for grey images, which then stay grey under attack
            options={"table": TABLE, "labels": LABELS, "image_column": "image", "patient_column": "patient"},
        ),
        splits=rg.SplitSpec(test_fraction=0.2),  # rg.SplitSpec() if the table has a column split, to keep its test part
        recipe=rg.Recipe(epochs=30, learning_rate=5e-4, augmentations=("flip_horizontal", "translate")),
        finetune=rg.Recipe(epochs=15, learning_rate=1e-4, augmentations=("flip_horizontal", "translate")),
    )
    return rg.StudySpec(
        name=Path(__file__).stem,  # of the study folder: each copy has its own
        seed=1,
        modalities=(modality,),
        models=rg.model_grid(
            MODALITY,
            ARCHITECTURES,
            [
                ("random", "d1", 0),  # target
                ("random", "d1", 1),  # its retrained twin
                ("random", "d2", 0),
                ("imagenet", "d1", 0),
                ("imagenet", "d1", 1),
            ],
        ),
        transfer=rg.TransferSpec(attacks=rg.attack_grid((0.02, 0.04, 0.06))),
    )


if __name__ == "__main__":
    rg.main(own_images)

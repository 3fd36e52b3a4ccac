"""The meaning of each class of MedMNIST's 2D sets, from the metadata that their authors publish with the archives."""

from pathlib import Path

_ORGANS = (
    *("bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right", "liver"),
    *("lung-left", "lung-right", "pancreas", "spleen"),
)
# name of the set: meanings of the classes 0, 1, ...; of ChestMNIST those of the label columns
CLASSES: dict[str, tuple[str, ...]] = {
    "PathMNIST": (
        *("adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle", "normal colon mucosa"),
        *("cancer-associated stroma", "colorectal adenocarcinoma epithelium"),
    ),
    "ChestMNIST": (
        *("atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia", "pneumothorax"),
        *("consolidation", "edema", "emphysema", "fibrosis", "pleural", "hernia"),
    ),
    "DermaMNIST": (
        *("actinic keratoses and intraepithelial carcinoma", "basal cell carcinoma", "benign keratosis-like lesions"),
        *("dermatofibroma", "melanoma", "melanocytic nevi", "vascular lesions"),
    ),
    "OCTMNIST": ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
    "PneumoniaMNIST": ("normal", "pneumonia"),
    "RetinaMNIST": tuple(f"diabetic retinopathy of grade {grade}" for grade in range(5)),
    "BreastMNIST": ("malignant", "normal, benign"),
    "BloodMNIST": (
        *("basophil", "eosinophil", "erythroblast"),
        "immature granulocytes (myelocytes, metamyelocytes and promyelocytes)",
        *("lymphocyte", "monocyte", "neutrophil", "platelet"),
    ),
    "TissueMNIST": (
        *("collecting duct, connecting tubule", "distal convoluted tubule", "glomerular endothelial cells"),
        *("interstitial endothelial cells", "leukocytes", "podocytes", "proximal tubule segments"),
        "thick ascending limb",
    ),
    "OrganAMNIST": _ORGANS,
    "OrganCMNIST": _ORGANS,
    "OrganSMNIST": _ORGANS,
}
OF_COLUMNS = "ChestMNIST"  # the set whose labels are columns, since an image can have several findings
# the class with the disease in the sets of two classes
DISEASE = {"PneumoniaMNIST": 1, "BreastMNIST": 0}


def set_of(path: Path) -> str:
    """Return the name of the MedMNIST set that a file name stands for; "" if it is none of the 2D sets.

    >>> set_of(Path("breastmnist_224.npz"))
    'BreastMNIST'
    """
    stem = path.stem.lower()
    return next((name for name in CLASSES if stem == name.lower() or stem.startswith(f"{name.lower()}_")), "")

"""Write Figure 1 of a study, one test image per modality clean and under an attack, into STUDY/figures/."""

import argparse
from pathlib import Path

from raygrid.examples import craft_examples
from raygrid.figures import example_images
from raygrid.files import read_json
from raygrid.samples import Samples, samples_dir
from raygrid.study import open_study


def main() -> None:
    """Craft the images through the models of the study folder named on the command line, and print the path."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path, help="study folder")
    parser.add_argument("--format", choices=["png", "pdf", "svg"], default="png")
    parser.add_argument("--attack", help="one of the study's attacks; by default FGSM")
    options = parser.parse_args()
    zoo = open_study(options.study)
    images = {}
    for modality in zoo.study.studied:
        samples = Samples(samples_dir(zoo.study_dir, modality.name, zoo.samples[modality.name]))
        images[modality.name] = craft_examples(zoo, modality.name, samples, options.attack)
    path = (
        options.study / "figures" / f"example_images{f'_{options.attack}' if options.attack else ''}.{options.format}"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    phantom = bool(read_json(options.study / "study.json")["phantom"])
    example_images(images, phantom=phantom).savefig(path, dpi=150)
    print(path)


if __name__ == "__main__":
    main()

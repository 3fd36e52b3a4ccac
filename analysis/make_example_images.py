"""Write Figure 1 of a study, one test image per modality clean and under an attack, into STUDY/figures/."""

import argparse

from raygrid.cli.commands import guarded
from raygrid.report.figures import example_images, save_figure
from raygrid.scoring.examples import craft_examples
from raygrid.store.folder import open_study


def main() -> None:
    """Craft the images through the models of the study folder named on the command line, and print the path."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", help="study folder, or its URL")
    parser.add_argument("--format", choices=["png", "pdf", "svg"], default="png")
    parser.add_argument("--attack", help="one of the study's attacks; by default FGSM")
    options = parser.parse_args()
    done = open_study(options.study)
    zoo, images = done, {}
    for modality in zoo.study.studied:
        samples = zoo.samples(modality.name)
        images[modality.name] = craft_examples(zoo, modality.name, samples, options.attack)
    name = f"example_images{f'_{options.attack}' if options.attack else ''}.{options.format}"
    print(save_figure(done.path, example_images(images, phantom=done.record.phantom), name))


if __name__ == "__main__":
    guarded(main)

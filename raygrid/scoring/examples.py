"""The few adversarial images of the figures."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from raygrid.attacks import Crafter, Ensemble
from raygrid.data.images.scale import round_towards, to_unit_range
from raygrid.errors import SpecError, unknown_name
from raygrid.io.mirror import pull
from raygrid.models.numerics import set_numerics
from raygrid.models.zoo import load_frozen
from raygrid.scoring.networks import open_members, open_trained
from raygrid.spec import AttackSpec, Case, EnsembleSpec, ModelSpec, SurrogateSpec, TargetSpec, displayed
from raygrid.store.folder import StudyFolder
from raygrid.store.samples import DEVELOPMENT_FILES, Samples
from raygrid.store.scores import probabilities, read_logits

CLEAN_LABEL = "clean"


def surrogate_of_figure(folder: StudyFolder, modality: str) -> ModelSpec:
    """Return the surrogate of Figure 1: the first model that starts at random weights, else the first model."""
    models = folder.study.models_of(modality)
    return next((m for m in models if not m.is_pretrained), models[0])


def craft_examples(
    folder: StudyFolder, modality: str, samples: Samples, attack: str | None = None
) -> dict[str, NDArray[np.float32]]:
    """Return one test image, clean and under one attack at every epsilon, by name.

    The image is the first positive one of the first block, (height, width, channel) in [-1, 1]. Crafted alone, it
    equals the scored image up to rounding.

    Args:
        attack: name of an attack of the study; by default FGSM, or the first attack of a study without it.

    Raises SpecError if the study has no such attack.
    """
    names = list(dict.fromkeys(a.name for a in folder.study.transfer.attacks))
    chosen = attack or ("fgsm" if "fgsm" in names else names[0])
    if chosen not in names:
        raise SpecError(unknown_name("attack of the study", chosen, names))
    model = surrogate_of_figure(folder, modality)
    pull(samples.folder, without=DEVELOPMENT_FILES)
    pull(folder.model(model).path)
    block = samples.test_block(0, min(folder.study.transfer.block_size, samples.num_test))
    positive = np.flatnonzero(block.labels.any(axis=1))
    position = slice(int(positive[0]), int(positive[0]) + 1) if len(positive) else slice(0, 1)
    set_numerics(threads=folder.study.transfer.threads)
    image = to_unit_range(block.images[position])
    crafter = Crafter(load_frozen(folder, model), name=model.name, trained=lambda: open_trained(folder, model, samples))
    crafted = crafter.craft(
        image,
        torch.from_numpy(block.labels[position]),
        [a for a in folder.study.transfer.attacks if a.name == chosen],
        seed=folder.study.seed,
        image_ids=block.image_ids[position],
    )
    shown = {CLEAN_LABEL: image, **{f"{displayed(a.name)} ε = {a.epsilon:g}": made for a, made in crafted}}
    return {name: batch[0].permute(1, 2, 0).numpy() for name, batch in shown.items()}


@dataclass(frozen=True)
class TargetExample:
    """One test image before and after an attack, with the target's answers.

    Attributes:
        label: the finding of the probabilities.
        truth: 1 if the image has the finding.
        clean, attacked: (height, width, channel) float32 in [-1, 1].
        clean_probability, attacked_probability: the target's answers, as they were scored.
    """

    image_id: str
    label: str
    truth: int
    clean: NDArray[np.float32]
    attacked: NDArray[np.float32]
    clean_probability: float
    attacked_probability: float


def craft_target_examples(
    folder: StudyFolder, target: TargetSpec, samples: Samples, surrogate: SurrogateSpec, attack: AttackSpec
) -> list[TargetExample]:
    """Return three images: the largest fall with a finding, the largest rise without it, the median change with it.

    The finding is the one with the most positives, of those with both classes. The answers come from the score files,
    so the target is not queried. Crafted alone, an image equals the scored one up to rounding.

    Raises StoreError if scores are missing.
    """
    table = samples.test_table()
    counts = {name: int(np.sum(table[name].to_numpy())) for name in samples.labels}
    label = max((name for name, count in counts.items() if 0 < count < len(table)), key=lambda name: counts[name])
    probability = [
        _probabilities(folder, target, samples, through, case, label)
        for through, case in ((None, Case("clean", None)), (surrogate, Case("adversarial", attack)))
    ]
    change, truth = probability[1] - probability[0], table[label].to_numpy()
    positive, negative = np.flatnonzero(truth == 1), np.flatnonzero(truth == 0)
    ordered = positive[np.argsort(change[positive], kind="stable")]
    chosen = dict.fromkeys(
        [int(ordered[0]), int(negative[np.argmax(change[negative])]), int(ordered[len(ordered) // 2])]
    )
    set_numerics(threads=folder.study.transfer.threads)
    members = open_members(folder, surrogate, samples)
    network = Ensemble(members) if isinstance(surrogate, EnsembleSpec) else members[0]
    found = []
    for place in chosen:
        block = samples.test_block(place, place + 1)
        image, labels = to_unit_range(block.images), torch.from_numpy(block.labels)
        crafter = Crafter(network, name=surrogate.name, trained=lambda: open_trained(folder, surrogate, samples))
        crafted = crafter.craft(image, labels, [attack], seed=folder.study.seed, image_ids=block.image_ids)
        ((_, made),) = crafted
        made = round_towards(image, made) if target.in_levels else made
        before, after = (batch[0].permute(1, 2, 0).numpy() for batch in (image, made))
        answers = (float(p[place]) for p in probability)
        found.append(TargetExample(block.image_ids[0], label, int(truth[place]), before, after, *answers))
    return found


def _probabilities(
    folder: StudyFolder, target: TargetSpec, samples: Samples, surrogate: SurrogateSpec | None, case: Case, label: str
) -> NDArray[np.float64]:
    """Return a target's probability of one label for every test image, (images,), from the scores."""
    units = [u for u in folder.units(target.modality) if u.surrogate == surrogate]
    place = units[0].wanted.names.index(target.name)
    expected = np.zeros((len(units[0].wanted.targets), 1), dtype=bool)
    expected[place] = True
    ids = samples.test_table()["image_id"].tolist()
    logits = read_logits(units, ids, [case], len(samples.labels), expected)[place, 0, :, samples.labels.index(label)]
    return probabilities(logits)

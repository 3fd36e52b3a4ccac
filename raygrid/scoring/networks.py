"""Networks that raygrid did not train, opened for a study and checked before it starts."""

from torch import nn

from raygrid.attacks import Ensemble
from raygrid.data.images.scale import to_unit_range
from raygrid.errors import SpecError, unknown_name
from raygrid.io.mirror import pull
from raygrid.models.zoo import load_frozen, load_trained
from raygrid.spec import EnsembleSpec, ModelSpec, SurrogateSpec, TargetSpec
from raygrid.store.folder import StudyFolder
from raygrid.store.query_budget import CHECKS, allowance, limit_of
from raygrid.store.samples import DEVELOPMENT_FILES, Samples
from raygrid.targets import ExternalTarget, check_surrogate, check_target, open_surrogate, open_target
from raygrid.targets.surrogate import ExternalSurrogate


def open_external(folder: StudyFolder, target: TargetSpec, samples: Samples) -> ExternalTarget:
    """Return a target that raygrid did not train.

    Raises SpecError if its answers name a label that the samples do not have, and the errors of `open_target`.
    """
    for label in target.answer.labels:
        if label and label not in samples.labels:
            raise SpecError(f"target {target.label!r}: {unknown_name('label', label, samples.labels)}")
    pull(folder.answers(target))
    dataset = folder.study.modality(target.modality).dataset
    return open_target(
        target,
        labels=samples.labels,
        channels=dataset.channels,
        image_size=dataset.image_size,
        answers_dir=folder.answers(target),
    )


def open_external_surrogate(folder: StudyFolder, target: TargetSpec, samples: Samples) -> ExternalSurrogate:
    """Return the network of a target as a surrogate. Raises the errors of `open_surrogate`."""
    dataset = folder.study.modality(target.modality).dataset
    size = dataset.image_size
    return open_surrogate(target, labels=samples.labels, channels=dataset.channels, image_size=size)


def open_members(folder: StudyFolder, surrogate: SurrogateSpec, samples: Samples) -> list[nn.Module]:
    """Return the networks of a surrogate, ready for gradients."""
    return [
        open_external_surrogate(folder, member, samples) if isinstance(member, TargetSpec) else _pulled(folder, member)
        for member in folder.study.members_of(surrogate)
    ]


def open_trained(folder: StudyFolder, surrogate: SurrogateSpec, samples: Samples) -> nn.Module:
    """Return a surrogate as its networks were trained, not folded, on the CPU."""
    members: list[nn.Module] = []
    for member in folder.study.members_of(surrogate):
        if isinstance(member, TargetSpec):
            members.append(open_external_surrogate(folder, member, samples))  # never folded
        else:
            pull(folder.model(member).path)
            members.append(load_trained(folder, member))
    return (Ensemble(members) if isinstance(surrogate, EnsembleSpec) else members[0]).eval()


def _pulled(folder: StudyFolder, model: ModelSpec) -> nn.Module:
    pull(folder.model(model).path)
    return load_frozen(folder, model)


def verify_external(folder: StudyFolder, target: TargetSpec, samples: Samples) -> None:
    """Check the answers of a target to the first test images against its declaration.

    The study scores these images anyway, so the check costs an endpoint no further requests.

    Raises SpecError if its budget does not cover the clean test images, and the errors of `check_target`.
    """
    limit, least = limit_of(target), samples.num_test + CHECKS
    if limit and limit < least:
        raise SpecError(
            f"target {target.label!r}: max_images is {limit}, and the clean test images alone take {least}; "
            f"raise it to {allowance(folder.study, target, samples.num_test).num_images_of_all} to cover everything"
        )
    count = max(2, min(target.endpoint.batch_size, samples.num_test))
    pull(samples.folder, without=DEVELOPMENT_FILES)
    images = samples.test_block(0, count).images
    check_target(target, open_external(folder, target, samples), images)
    if target.attacked_through:
        check_surrogate(open_external_surrogate(folder, target, samples), to_unit_range(images))

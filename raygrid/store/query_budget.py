"""The query budget of an endpoint: the attacks that it covers, the most informative ones first.

Clean images come first, with two images for the check of a suspicious target: without them there is no result. Whole
cells follow, one attack through one surrogate: its adversarial images and their controls, two for each test image.
Cells follow the order below, and the first one that does not fit ends the list. So a larger budget adds cells and
removes none.

    attacks     the attack with the most steps first, at its largest epsilon: it is expected to do the most damage. Then
                its smaller epsilons, for the curve. Then the attack with the next most steps, and so on.
    surrogates  for each attack: ensembles; then models that start from weights learned elsewhere, which are expected to
                transfer best; then the others; then the networks that raygrid did not train. Within each group,
                retrained twins come last, because they add the least information.

Even a small budget therefore measures the attack that is expected to be worst, through every kind of surrogate, before
it measures weaker attacks.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from raygrid.spec import AttackSpec, ModelSpec, StudySpec, SurrogateSpec, TargetSpec

QueryCell = tuple[str, str]  # name of a surrogate, key of an attack
NotAsked = Mapping[tuple[str, str], Set[QueryCell]]  # by modality and target

PER_CELL = 2  # images of each test image: adversarial, control
CHECKS = 2  # a black and a white image, for the check of a suspicious target


@dataclass(frozen=True)
class Allowance:
    """The queries to one target.

    Attributes:
        cells: every (surrogate, attack) of the study, the most informative first.
        num_asked: number of cells, from the first, that the budget covers.
        num_test: number of test images.
    """

    target: TargetSpec
    cells: tuple[QueryCell, ...]
    num_asked: int
    num_test: int

    @property
    def left_out(self) -> frozenset[QueryCell]:
        """The cells that the budget does not cover."""
        return frozenset(self.cells[self.num_asked :])

    @property
    def num_images(self) -> int:
        """Maximum number of images that are sent."""
        return self._images_of(self.num_asked)

    @property
    def num_images_of_all(self) -> int:
        """Number of images without a limit: the budget that covers every cell."""
        return self._images_of(len(self.cells))

    def _images_of(self, num_cells: int) -> int:
        return CHECKS + self.num_test * (1 + PER_CELL * num_cells)


def limit_of(target: TargetSpec) -> int:
    """Return the number of images that may be sent to a target; 0 is no limit."""
    return target.endpoint.max_images if target.traits.is_metered else 0


def allowance(study: StudySpec, target: TargetSpec, num_test: int) -> Allowance:
    """Return the queries to a target, given the number of test images of its modality."""
    cells = tuple(
        (surrogate.name, attack.key)
        for attack in strongest_first(study.transfer.attacks)
        for surrogate in likeliest_first(study, study.surrogates_of(target.modality))
    )
    limit = limit_of(target)
    affordable = ((limit - CHECKS) // num_test - 1) // PER_CELL if limit else len(cells)
    return Allowance(target, cells, max(0, min(affordable, len(cells))), num_test)


def num_requests(study: StudySpec, target: TargetSpec, num_test: int, num_cells: int) -> int:
    """Return the number of requests for the clean images and `num_cells` cells: each block is cut into batches."""
    block, batch = study.transfer.block_size, target.endpoint.batch_size
    sizes = [min(block, num_test - start) for start in range(0, num_test, block)]
    return (1 + PER_CELL * num_cells) * sum(-(-size // batch) for size in sizes)


def strongest_first(attacks: Sequence[AttackSpec]) -> list[AttackSpec]:
    """Return attacks grouped by name, the most steps first, each group from its largest epsilon to its smallest."""
    names = list(dict.fromkeys(a.name for a in attacks))
    most = {name: max(a.steps for a in attacks if a.name == name) for name in names}
    return sorted(attacks, key=lambda a: (-most[a.name], names.index(a.name), -a.epsilon))


def likeliest_first(study: StudySpec, surrogates: Sequence[SurrogateSpec]) -> list[SurrogateSpec]:
    """Return ensembles, pre-trained models, other models, external networks; within each the lowest instance first."""

    def key(surrogate: SurrogateSpec) -> tuple[int, int]:
        if not isinstance(surrogate, ModelSpec):
            return (3 if isinstance(surrogate, TargetSpec) else 0, 0)
        return (1 if surrogate.is_pretrained else 2, surrogate.instance)

    return sorted(surrogates, key=key)

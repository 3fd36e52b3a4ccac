"""Which attacks an endpoint with a budget is asked about: what says most first, until the images are spent.

Clean images come first, and two by which a doubtful target is tried: without them nothing can be said. Then whole
cells, one attack through one surrogate: its adversarial images and their controls, two for each test image. Cells are
asked in this order, and the first that does not fit ends it, so that a larger budget adds cells and takes none away:

    attacks     the one of most steps first, at its largest epsilon: if that does no harm, no other will. Then its
                smaller epsilons, which make the curve; then the attack of next most steps, and so on.
    surrogates  of each attack: ensembles, then models that start from weights learned elsewhere, which transfer best,
                then the others; of each kind the trainings before their retrained twins, which say the same again;
                last the networks that raygrid did not train.

So even a small budget tells the damage that matters most, and it tells it of every kind of surrogate before it turns to
attacks that do less.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from raygrid.spec import AttackSpec, ModelSpec, StudySpec, SurrogateSpec, TargetSpec

QueryCell = tuple[str, str]  # name of a surrogate, key of an attack
NotAsked = Mapping[tuple[str, str], Set[QueryCell]]  # by modality and target

PER_CELL = 2  # images of each test image: adversarial, control
CHECKS = 2  # black and white, by which a doubtful target is tried before anything starts


@dataclass(frozen=True)
class Allowance:
    """What a target is asked.

    Attributes:
        cells: every (surrogate, attack) of the study, what says most first.
        num_asked: of them, the first ones that are asked.
        num_test: test images.
    """

    target: TargetSpec
    cells: tuple[QueryCell, ...]
    num_asked: int
    num_test: int

    @property
    def left_out(self) -> frozenset[QueryCell]:
        """The cells that are not asked."""
        return frozenset(self.cells[self.num_asked :])

    @property
    def num_images(self) -> int:
        """Images that are sent at most."""
        return self._images_of(self.num_asked)

    @property
    def num_images_of_all(self) -> int:
        """Images that would be sent without a limit: the budget that leaves nothing out."""
        return self._images_of(len(self.cells))

    def _images_of(self, num_cells: int) -> int:
        return CHECKS + self.num_test * (1 + PER_CELL * num_cells)


def limit_of(target: TargetSpec) -> int:
    """Return the number of images that may be sent to a target; 0 is no limit."""
    return target.endpoint.max_images if target.traits.is_metered else 0


def allowance(study: StudySpec, target: TargetSpec, num_test: int) -> Allowance:
    """Return what a target is asked, given the number of test images of its modality."""
    cells = tuple(
        (surrogate.name, attack.key)
        for attack in strongest_first(study.transfer.attacks)
        for surrogate in likeliest_first(study, study.surrogates_of(target.modality))
    )
    limit = limit_of(target)
    affordable = ((limit - CHECKS) // num_test - 1) // PER_CELL if limit else len(cells)
    return Allowance(target, cells, max(0, min(affordable, len(cells))), num_test)


def num_requests(study: StudySpec, target: TargetSpec, num_test: int, num_cells: int) -> int:
    """Return how many requests carry the clean images and `num_cells` cells: a block is cut into batches."""
    block, batch = study.transfer.block_size, target.endpoint.batch_size
    sizes = [min(block, num_test - start) for start in range(0, num_test, block)]
    return (1 + PER_CELL * num_cells) * sum(-(-size // batch) for size in sizes)


def strongest_first(attacks: Sequence[AttackSpec]) -> list[AttackSpec]:
    """Return attacks by name, that of most steps first, each from its largest epsilon to its smallest."""
    names = list(dict.fromkeys(a.name for a in attacks))
    most = {name: max(a.steps for a in attacks if a.name == name) for name in names}
    return sorted(attacks, key=lambda a: (-most[a.name], names.index(a.name), -a.epsilon))


def likeliest_first(study: StudySpec, surrogates: Sequence[SurrogateSpec]) -> list[SurrogateSpec]:
    """Return ensembles, pre-trained models, others, networks that raygrid did not train; the lowest instances first."""

    def key(surrogate: SurrogateSpec) -> tuple[int, int]:
        if not isinstance(surrogate, ModelSpec):
            return (3 if isinstance(surrogate, TargetSpec) else 0, 0)
        return (1 if surrogate.is_pretrained else 2, surrogate.instance)

    return sorted(surrogates, key=key)

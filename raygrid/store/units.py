"""Units of work of the transfer stage: the units of a study, their finished scores and their missing scores.

STUDY/scores/modality=<m>/surrogate=<name, or clean>/plan-<signature>/
    _tile-<tile>.json            the attacks and targets of the score files with this tile in their name
    block-00000-<tile>.parquet   their scores on one block of test images (raygrid.store.scores)
    _block-00000.failed.txt      the error of the last attempt at a block
    _block-00000.spent.json      the targets whose budget was spent, and these budgets

Readers of a folder of Parquet files skip names that begin with an underscore.

A unit is a block of test images, in the order of their ids, through one surrogate. Its finished scores stay: an
added attack gets its own tile against all targets, an added target one against all attacks. Cells outside a
target's query budget (raygrid.store.query_budget) are not wanted.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from raygrid.hashing import digest
from raygrid.io.files import read_json, write_json
from raygrid.spec import AnyTarget, AttackSpec, StudySpec, SurrogateSpec
from raygrid.spec.serialization import from_plain, to_plain
from raygrid.store.query_budget import PER_CELL, QueryCell, allowance, limit_of
from raygrid.store.signatures import transfer_signature

CLEAN = "clean"
_DIGITS = 8  # of a tile's hash in file names

Target = tuple[str, str]  # name of a model, and its identity (`StudyFolder.identity`)


@dataclass(frozen=True)
class Tile:
    """Some attacks (none: clean images) against some targets."""

    attacks: tuple[AttackSpec, ...]
    targets: tuple[Target, ...]

    @cached_property
    def digest(self) -> str:
        """The tile in file names: the first digits of its hash."""
        return digest(self.to_dict())[:_DIGITS]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the targets."""
        return tuple(name for name, _ in self.targets)

    def to_dict(self) -> dict[str, Any]:
        """Return the tile as plain JSON values."""
        return {"attacks": [to_plain(a) for a in self.attacks], "targets": [list(t) for t in self.targets]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Tile":
        """Return the tile that `to_dict` wrote."""
        attacks = tuple(from_plain(AttackSpec, a) for a in values["attacks"])
        return cls(attacks, tuple((str(name), str(identity)) for name, identity in values["targets"]))


@dataclass(frozen=True)
class Unit:
    """One block of test images through one surrogate (None: clean images).

    Attributes:
        start: position of the first image in the test images sorted by id; `stop` is one past the last.
        signature: of the surrogate's units (`raygrid.store.signatures.transfer_signature`).
        folder: folder of the score files.
        wanted: all attacks and targets of the study.
        left_out: (attack's key, target's name) pairs of `wanted` outside a budget.
        limits: (target's name, budget in images) of the targets with a budget.
    """

    modality: str
    surrogate: SurrogateSpec | None
    block: int
    start: int
    stop: int
    signature: str
    folder: Path
    wanted: Tile
    left_out: frozenset[tuple[str, str]] = frozenset()
    limits: tuple[tuple[str, int], ...] = ()

    def wants(self, attack: AttackSpec | None, target: str) -> bool:
        """Whether the study wants a target's scores under an attack (None: on clean images)."""
        return attack is None or (attack.key, target) not in self.left_out

    @property
    def label(self) -> str:
        """The unit in messages: surrogate and block."""
        return f"{CLEAN if self.surrogate is None else self.surrogate.name} block {self.block}"

    @property
    def failure_path(self) -> Path:
        """File with the error of the last attempt."""
        return self.folder / f"_block-{self.block:05d}.failed.txt"

    @property
    def names(self) -> tuple[str, ...]:
        """Patterns of the file names in `folder` that concern this block."""
        return ("_tile-*.json", f"block-{self.block:05d}-*.parquet", self.failure_path.name, self.spent_path.name)

    @property
    def spent_path(self) -> Path:
        """File with the targets whose budget was spent before the unit was scored: target -> budget."""
        return self.folder / f"_block-{self.block:05d}.spent.json"

    def write_spent(self, names: Sequence[str]) -> None:
        """Record the spent budgets of these targets; a larger budget makes the scores missing again."""
        write_json(self.spent_path, {name: dict(self.limits)[name] for name in names})


@dataclass(frozen=True)
class ScoreFile:
    """A score file of a unit, finished or missing."""

    unit: Unit
    tile: Tile

    @property
    def path(self) -> Path:
        """Path of the scores."""
        return self.unit.folder / f"block-{self.unit.block:05d}-{self.tile.digest}.parquet"

    @property
    def perceptibility_path(self) -> Path:
        """Path of the perceptibility of the changes; written first, so the score file marks finished work."""
        scores_dir = self.path.parents[3]
        return scores_dir.with_name("perceptibility") / self.path.relative_to(scores_dir)

    def describe_tile(self) -> None:
        """Write the description of this tile, once per folder."""
        path = self.unit.folder / f"_tile-{self.tile.digest}.json"
        if not path.exists():
            write_json(path, self.tile.to_dict())


def plan_units(
    study: StudySpec,
    modality: str,
    *,
    num_test: int,
    identities: Mapping[AnyTarget, str],
    samples_signature: str,
    scores_dir: Path,
) -> list[Unit]:
    """Return every unit of a modality, finished or not: clean images first, then surrogate by surrogate.

    Args:
        num_test: test images of the modality.
        identities: of the modality's models and external targets (`StudyFolder.identity`).
        scores_dir: STUDY/scores.
    """
    external = study.external_targets(modality)
    targets = tuple((t.name, identities[t]) for t in study.targets_of(modality))
    unasked = {t.name: allowance(study, t, num_test).left_out for t in external if limit_of(t)}
    limits = tuple((t.name, limit_of(t)) for t in external if limit_of(t))
    size, attacks = study.transfer.block_size, study.transfer.attacks
    units = []
    for surrogate in (None, *study.surrogates_of(modality)):
        members = () if surrogate is None else study.members_of(surrogate)
        through = "+".join(identities[model] for model in members)
        signature = transfer_signature(study, samples=samples_signature, surrogate=through)
        name = CLEAN if surrogate is None else surrogate.name
        folder = scores_dir / f"modality={modality}" / f"surrogate={name}" / f"plan-{signature[:12]}"
        wanted, left_out = Tile(() if surrogate is None else attacks, targets), _of_surrogate(unasked, name)
        for block, start in enumerate(range(0, num_test, size)):
            stop = min(start + size, num_test)
            units.append(Unit(modality, surrogate, block, start, stop, signature, folder, wanted, left_out, limits))
    return units


def _of_surrogate(unasked: Mapping[str, frozenset[QueryCell]], name: str) -> frozenset[tuple[str, str]]:
    """Return the (attack, target) pairs left out of the units of one surrogate."""
    return frozenset((attack, target) for target, cells in unasked.items() for s, attack in cells if s == name)


def score_files(units: Sequence[Unit]) -> list[list[ScoreFile]]:
    """Return the finished score files of every unit, including attacks and targets of earlier declarations."""
    folders = {folder: _tiles_by_block(folder) for folder in dict.fromkeys(unit.folder for unit in units)}
    return [[ScoreFile(unit, tile) for tile in folders[unit.folder].get(unit.block, ())] for unit in units]


def missing_files(units: Sequence[Unit]) -> list[ScoreFile]:
    """Return the missing score files, without targets whose budget is spent."""
    return _missing(units, _spent(units))


def images_beyond_budgets(units: Sequence[Unit]) -> dict[str, int]:
    """Return, by target, the images not covered by a budget since earlier models used part of it."""
    spent, images = _spent(units), dict[str, int]()
    for file in _missing([unit for unit in units if spent.get(id(unit))], {}):
        cases = PER_CELL * len(file.tile.attacks) or 1
        for name in spent[id(file.unit)].intersection(file.tile.names):
            images[name] = images.get(name, 0) + cases * (file.unit.stop - file.unit.start)
    return images


def covered_by_all(units: Sequence[Unit]) -> set[tuple[AttackSpec | None, str]]:
    """Return the (attack, target's name) pairs wanted and scored by all these units of one surrogate."""
    everywhere: set[tuple[AttackSpec | None, str]] | None = None
    for unit, files in zip(units, score_files(units), strict=True):
        there = _covered([file.tile for file in files])
        mine = {
            (attack, target[0])
            for attack in unit.wanted.attacks or (None,)
            for target in unit.wanted.targets
            if (attack, target) in there and unit.wants(attack, target[0])
        }
        everywhere = mine if everywhere is None else everywhere & mine
    return everywhere or set()


def not_asked(units: Sequence[Unit]) -> dict[tuple[str, str], set[QueryCell]]:
    """Return, by modality and target, the (surrogate, attack's key) cells outside the budgets."""
    found: dict[tuple[str, str], set[QueryCell]] = {}
    spent = _spent(units)
    beyond = _missing([unit for unit in units if spent.get(id(unit))], {})
    pairs = [(unit, attack, target) for unit in units for attack, target in unit.left_out]
    pairs += [
        (file.unit, attack.key, name)
        for file in beyond
        for attack in file.tile.attacks
        for name in spent[id(file.unit)].intersection(file.tile.names)
    ]
    for unit, attack, target in pairs:
        name = CLEAN if unit.surrogate is None else unit.surrogate.name
        found.setdefault((unit.modality, target), set()).add((name, attack))
    return found


def _missing(units: Sequence[Unit], spent: Mapping[int, frozenset[str]]) -> list[ScoreFile]:
    """Return the missing files; `spent` gives, by unit's id, the targets to leave out."""
    known: dict[Any, list[Tile]] = {}  # most blocks of a surrogate have the same files
    missing = []
    for unit, files in zip(units, score_files(units), strict=True):
        passed_over = spent.get(id(unit), frozenset())
        key = (unit.wanted, unit.left_out, passed_over, *(file.tile for file in files))
        if key not in known:
            known[key] = list(_lacking(unit, [file.tile for file in files], passed_over))
        missing += [ScoreFile(unit, tile) for tile in known[key]]
    return missing


def _spent(units: Sequence[Unit]) -> dict[int, frozenset[str]]:
    """Return, by unit's id, the targets whose budget was spent at the last attempt and has not been raised since."""
    limited = [unit for unit in units if unit.limits]
    noted = {path for folder in {unit.folder for unit in limited} for path in folder.glob("_block-*.spent.json")}
    found: dict[int, frozenset[str]] = {}
    for unit in (unit for unit in limited if unit.spent_path in noted):
        before = read_json(unit.spent_path)
        found[id(unit)] = frozenset(name for name, limit in unit.limits if limit <= before.get(name, 0))
    return found


def _covered(tiles: Sequence[Tile]) -> set[tuple[AttackSpec | None, Target]]:
    return {(attack, target) for tile in tiles for attack in tile.attacks or (None,) for target in tile.targets}


def _lacking(unit: Unit, there: Sequence[Tile], passed_over: frozenset[str]) -> Iterator[Tile]:
    """Yield the missing tiles of a unit: attacks with the same missing targets share a tile."""
    wanted, covered = unit.wanted, _covered(there)
    by_targets: dict[tuple[Target, ...], list[AttackSpec]] = {}
    for attack in wanted.attacks or (None,):
        absent = tuple(
            target
            for target in wanted.targets
            if (attack, target) not in covered and unit.wants(attack, target[0]) and target[0] not in passed_over
        )
        if absent:
            by_targets.setdefault(absent, []).extend([] if attack is None else [attack])
    for targets, attacks in by_targets.items():
        yield Tile(tuple(attacks), targets)


def _tiles_by_block(folder: Path) -> dict[int, list[Tile]]:
    """Return the tiles of the score files in a folder, by block."""
    tiles = {path.stem.removeprefix("_tile-"): Tile.from_dict(read_json(path)) for path in folder.glob("_tile-*.json")}
    blocks: dict[int, list[Tile]] = {}
    for path in sorted(folder.glob("block-*-*.parquet")):
        _, block, name = path.stem.split("-")
        if name in tiles:  # without its description the file is unusable and is written again
            blocks.setdefault(int(block), []).append(tiles[name])
    return blocks

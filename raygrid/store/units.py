"""Units of work of the transfer stage: which there are, what each has scored, and what it lacks.

STUDY/scores/modality=<m>/surrogate=<name, or clean>/plan-<signature>/
    _tile-<tile>.json            which attacks against which targets the score files of that name hold
    block-00000-<tile>.parquet   their scores on one block of test images (raygrid.store.scores)
    _block-00000.failed.txt      why a block could not be scored at the last attempt
    _block-00000.spent.json      the targets that could not be asked, as their budget was spent, and that budget

What begins with an underscore is passed over by whatever reads a folder of Parquet files.

A unit is a block of test images, in the order of their ids, through one surrogate. What it has scored stays: an attack
that a study gets later has a tile of its own against all targets, and so has a target against all attacks. What a
target's budget does not cover (raygrid.store.query_budget) is not wanted.
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
    """Some attacks (none: the images as they are) against some targets."""

    attacks: tuple[AttackSpec, ...]
    targets: tuple[Target, ...]

    @cached_property
    def digest(self) -> str:
        """What file names call the tile."""
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

    `start` and `stop` are positions in the test images sorted by id. `wanted` is all that the study asks of the unit,
    but for what `left_out` names, (attack's key, target's name): a budget does not cover it. `limits` are the budgets,
    in images, of the targets that have one.
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
        """Whether the study asks for the target's answers to an attack, None for clean images."""
        return attack is None or (attack.key, target) not in self.left_out

    @property
    def label(self) -> str:
        """The unit in words."""
        return f"{CLEAN if self.surrogate is None else self.surrogate.name} block {self.block}"

    @property
    def failure_path(self) -> Path:
        """Where it says why the unit could not be scored."""
        return self.folder / f"_block-{self.block:05d}.failed.txt"

    @property
    def names(self) -> tuple[str, ...]:
        """Patterns of the names of the files in `folder` that say something of this block."""
        return ("_tile-*.json", f"block-{self.block:05d}-*.parquet", self.failure_path.name, self.spent_path.name)

    @property
    def spent_path(self) -> Path:
        """Where it says whose budget was spent before the unit was scored: target -> budget."""
        return self.folder / f"_block-{self.block:05d}.spent.json"

    def write_spent(self, names: Sequence[str]) -> None:
        """Write that the budgets of these targets are spent: they are asked again when they are larger."""
        write_json(self.spent_path, {name: dict(self.limits)[name] for name in names})


@dataclass(frozen=True)
class ScoreFile:
    """A score file of a unit, there or still to be written."""

    unit: Unit
    tile: Tile

    @property
    def path(self) -> Path:
        """Where the scores lie."""
        return self.unit.folder / f"block-{self.unit.block:05d}-{self.tile.digest}.parquet"

    @property
    def perceptibility_path(self) -> Path:
        """Where the perceptibility of the changes lies; it is written before the scores, which end the work."""
        scores_dir = self.path.parents[3]
        return scores_dir.with_name("perceptibility") / self.path.relative_to(scores_dir)

    def describe_tile(self) -> None:
        """Write what the files of this tile hold, once per folder."""
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
        identities: of its models and external targets (`StudyFolder.identity`).
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
    """Return what is left out of the units of one surrogate."""
    return frozenset((attack, target) for target, cells in unasked.items() for s, attack in cells if s == name)


def score_files(units: Sequence[Unit]) -> list[list[ScoreFile]]:
    """Return the finished score files of every unit, older studies' attacks and targets included."""
    folders = {folder: _tiles_by_block(folder) for folder in dict.fromkeys(unit.folder for unit in units)}
    return [[ScoreFile(unit, tile) for tile in folders[unit.folder].get(unit.block, ())] for unit in units]


def missing_files(units: Sequence[Unit]) -> list[ScoreFile]:
    """Return the score files that are still to be written, as far as budgets are not spent."""
    return _missing(units, _spent(units))


def images_beyond_budgets(units: Sequence[Unit]) -> dict[str, int]:
    """Return, by target, the images of cells that its budget should cover and does not: earlier models cost some."""
    spent, images = _spent(units), dict[str, int]()
    for file in _missing([unit for unit in units if spent.get(id(unit))], {}):
        cases = PER_CELL * len(file.tile.attacks) or 1
        for name in spent[id(file.unit)].intersection(file.tile.names):
            images[name] = images.get(name, 0) + cases * (file.unit.stop - file.unit.start)
    return images


def covered_by_all(units: Sequence[Unit]) -> set[tuple[AttackSpec | None, str]]:
    """Return the (attack, target's name) that every one of these units, of one surrogate, wants and has scored."""
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
    """Return, by modality and target, the (surrogate, attack's key) that budgets do not cover."""
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
    """Return the files that are not there; `spent` names by unit's id the targets that are not asked for."""
    known: dict[Any, list[Tile]] = {}  # blocks of a surrogate mostly have and lack the same
    missing = []
    for unit, files in zip(units, score_files(units), strict=True):
        passed_over = spent.get(id(unit), frozenset())
        key = (unit.wanted, unit.left_out, passed_over, *(file.tile for file in files))
        if key not in known:
            known[key] = list(_lacking(unit, [file.tile for file in files], passed_over))
        missing += [ScoreFile(unit, tile) for tile in known[key]]
    return missing


def _spent(units: Sequence[Unit]) -> dict[int, frozenset[str]]:
    """Return, by unit's id, the targets whose budget was spent at the last attempt and is no larger now."""
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
    """Yield tiles of what is wanted and not there: attacks that lack the same targets together."""
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
    """Return the tiles whose score files lie in a folder, by block."""
    tiles = {path.stem.removeprefix("_tile-"): Tile.from_dict(read_json(path)) for path in folder.glob("_tile-*.json")}
    blocks: dict[int, list[Tile]] = {}
    for path in sorted(folder.glob("block-*-*.parquet")):
        _, block, name = path.stem.split("-")
        if name in tiles:  # without it nobody knows what the file holds: it is made again
            blocks.setdefault(int(block), []).append(tiles[name])
    return blocks

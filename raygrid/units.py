"""Units of work of the transfer stage: which there are, what each has scored, and what it lacks.

STUDY/scores/modality=<m>/surrogate=<name, or clean>/plan-<signature>/
    _tile-<tile>.json            which attacks against which targets the score files of that name hold
    block-00000-<tile>.parquet   their scores on one block of test images (raygrid.scores)
    _block-00000.failed.txt      why a block could not be scored at the last attempt

What begins with an underscore is passed over by whatever reads a folder of Parquet files.

A unit is a block of test images, in the order of their ids, through one surrogate. What it has scored stays: an attack
that a study gets later has a tile of its own against all targets, and so has a target against all attacks.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from raygrid.files import read_json, write_json
from raygrid.keyed import digest
from raygrid.plain import from_plain, to_plain
from raygrid.signatures import transfer_signature
from raygrid.spec import AttackSpec, SurrogateSpec
from raygrid.zoo import Zoo

CLEAN = "clean"
_DIGITS = 8  # of a tile's hash in file names

Target = tuple[str, str]  # name of a model, and its identity (`Zoo.identity`)


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

    `start` and `stop` are positions in the test images sorted by id; `wanted` is all that the study asks of the unit.
    """

    modality: str
    surrogate: SurrogateSpec | None
    block: int
    start: int
    stop: int
    signature: str
    folder: Path
    wanted: Tile

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
        return ("_tile-*.json", f"block-{self.block:05d}-*.parquet", self.failure_path.name)


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
        """Where the visibility of the changes lies; it is written before the scores, which end the work."""
        scores_dir = self.path.parents[3]
        return scores_dir.with_name("perceptibility") / self.path.relative_to(scores_dir)

    def describe_tile(self) -> None:
        """Write what the files of this tile hold, once per folder."""
        path = self.unit.folder / f"_tile-{self.tile.digest}.json"
        if not path.exists():
            write_json(path, self.tile.to_dict())


def plan_units(zoo: Zoo, modality: str, num_test: int) -> list[Unit]:
    """Return every unit of a modality, finished or not: clean first, then surrogate by surrogate."""
    models = zoo.study.models_of(modality)
    identities = {m: zoo.identity(m) for m in models}
    targets = tuple((m.name, identities[m]) for m in models)
    size, attacks = zoo.study.transfer.block_size, zoo.study.transfer.attacks
    units = []
    for surrogate in (None, *zoo.study.surrogates_of(modality)):
        members = () if surrogate is None else zoo.study.members_of(surrogate)
        signature = transfer_signature(
            zoo.study, samples=zoo.samples[modality], surrogate="+".join(identities[model] for model in members)
        )
        name = CLEAN if surrogate is None else surrogate.name
        folder = zoo.study_dir / "scores" / f"modality={modality}" / f"surrogate={name}" / f"plan-{signature[:12]}"
        wanted = Tile(() if surrogate is None else attacks, targets)
        for block, start in enumerate(range(0, num_test, size)):
            stop = min(start + size, num_test)
            units.append(Unit(modality, surrogate, block, start, stop, signature, folder, wanted))
    return units


def score_files(units: Sequence[Unit]) -> list[list[ScoreFile]]:
    """Return the finished score files of every unit, older studies' attacks and targets included."""
    folders = {folder: _tiles_by_block(folder) for folder in dict.fromkeys(unit.folder for unit in units)}
    return [[ScoreFile(unit, tile) for tile in folders[unit.folder].get(unit.block, ())] for unit in units]


def missing_files(units: Sequence[Unit]) -> list[ScoreFile]:
    """Return the score files that are still to be written."""
    known: dict[tuple[Tile, ...], list[Tile]] = {}  # blocks of a surrogate mostly have and lack the same
    missing = []
    for unit, files in zip(units, score_files(units), strict=True):
        there = (unit.wanted, *(file.tile for file in files))
        if there not in known:
            known[there] = list(_lacking(unit.wanted, there[1:]))
        missing += [ScoreFile(unit, tile) for tile in known[there]]
    return missing


def _lacking(wanted: Tile, there: Sequence[Tile]) -> Iterator[Tile]:
    """Yield tiles of what is wanted and not there: attacks that lack the same targets together."""
    covered = {(attack, target) for tile in there for attack in tile.attacks or (None,) for target in tile.targets}
    by_targets: dict[tuple[Target, ...], list[AttackSpec]] = {}
    for attack in wanted.attacks or (None,):
        absent = tuple(target for target in wanted.targets if (attack, target) not in covered)
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

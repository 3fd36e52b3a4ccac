"""The outputs of an archive of classes or 0/1 columns: their names, their values, and what a 1 stands for."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raygrid.data.datasets.image_arrays import check_classes, is_one_hot
from raygrid.data.datasets.medmnist_classes import CLASSES, DISEASE, OF_COLUMNS, set_of
from raygrid.errors import DataError, SpecError, listed

Labels = Mapping[str, NDArray[np.int64]]  # part -> (n, columns)


@dataclass(frozen=True)
class Task:
    """The outputs of an archive.

    Attributes:
        names: names of the labels.
        columns: part -> 0/1 values, (n, outputs).
        meanings: label -> what a 1 stands for, where the name does not say it.
        notes: sentences for the user about the labels.
    """

    names: tuple[str, ...]
    columns: Labels
    meanings: dict[str, str]
    notes: tuple[str, ...]


def task_of(path: Path, labels: Labels, names: tuple[str, ...], positive: tuple[int, ...]) -> Task:
    """Return the outputs of the archive `path`.

    Args:
        labels: one column of classes per part, or several of 0 and 1.
        names: names of the outputs; default names if empty.
        positive: classes to count as 1 in one output; if empty, two classes give one output for class 1, more classes
            one output each.

    Raises DataError if the parts differ in columns or the classes are not numbered from 0, SpecError if `names` or
    `positive` do not fit the labels or contradict the classes' meanings.
    """
    width = _width(path, labels)
    groups, columns, notes = _columns(path, labels, positive, width) if width > 1 else _classes(path, labels, positive)
    names = _names(path, names, groups, positive, "label" if width > 1 else "class")
    of_set = set_of(path)
    known, note = _known(of_set, labels, width)
    if known:
        _check_names(of_set, known, names, groups)
    meanings = {n: _meaning(group, known, width > 1) for n, group in zip(names, groups, strict=True)}
    notes = (*notes, note, _note(of_set, known, meanings, groups, positive))
    told = {name: meaning for name, meaning in meanings.items() if meaning and meaning != name.replace("_", " ")}
    return Task(names, columns, told, tuple(note for note in notes if note))


_Groups = tuple[tuple[int, ...], ...]  # per output, the classes (or the column) that it is 1 for


def _known(of_set: str, labels: Labels, width: int) -> tuple[tuple[str, ...], str]:
    """Return the meanings of the classes of a set; none, and a note, if the archive is not as published."""
    meanings = CLASSES.get(of_set, ())
    count = width if width > 1 else 1 + max(int(table.max()) for table in labels.values())
    if not meanings or (count == len(meanings) and (width > 1 or of_set != OF_COLUMNS)):
        return meanings, ""
    has = f"{count} {'label columns' if width > 1 else 'classes'}"
    wanted = f"{len(meanings)} {'label columns' if of_set == OF_COLUMNS else 'classes'}"
    return (
        (),
        f"the archive has the name of {of_set}, but {has} instead of {wanted}, so their meanings are unknown",
    )


def _columns(
    path: Path, labels: Labels, positive: tuple[int, ...], width: int
) -> tuple[_Groups, Labels, tuple[str, ...]]:
    one_hot = is_one_hot(labels)
    if positive:
        remedy = "save labels.argmax(axis=1), the class of each image" if one_hot else "remove the option"
        raise SpecError(f"option positive needs a task of classes; {path.name} has {width} labels; {remedy}")
    note = (
        f"each image has a 1 in exactly one of the {width} label columns, as for classes (one-hot); save "
        "labels.argmax(axis=1) to declare classes with positive"
    )
    return tuple((i,) for i in range(width)), labels, (note,) if one_hot else ()


def _classes(path: Path, labels: Labels, positive: tuple[int, ...]) -> tuple[_Groups, Labels, tuple[str, ...]]:
    count = 1 + max(int(table.max()) for table in labels.values())
    if positive:
        if max(positive) >= count or len(set(positive)) >= count:
            raise SpecError(
                f"option positive is {list(positive)}; expected some, not all, of the classes 0 to {count - 1} of "
                f"{path.name}"
            )
        groups: _Groups = (tuple(sorted(set(positive))),)
        return groups, {part: np.isin(t, positive).astype(np.int64) for part, t in labels.items()}, ()
    note = check_classes(path, labels)
    if count <= 2:
        return ((1,),), labels, (note,)
    classes = np.arange(count)
    return tuple((i,) for i in range(count)), {p: (t == classes).astype(np.int64) for p, t in labels.items()}, (note,)


def _width(path: Path, labels: Labels) -> int:
    widths = {table.shape[1] for table in labels.values()}
    if len(widths) > 1:
        raise DataError(
            f"{path}: expected the same number of label columns in every part, got {sorted(widths)}; save the same "
            "columns in every part"
        )
    return int(widths.pop())


def _names(
    path: Path, names: tuple[str, ...], groups: _Groups, positive: tuple[int, ...], kind: str
) -> tuple[str, ...]:
    if names and len(names) != len(groups):
        raise SpecError(f"option labels has {len(names)} names; {path.name} gives {len(groups)} label(s)")
    return names or (("positive",) if positive else tuple(f"{kind}_{group[0]}" for group in groups))


def _check_names(of_set: str, known: tuple[str, ...], names: tuple[str, ...], groups: _Groups) -> None:
    """Raise SpecError if a name is the meaning of another class than that of its output."""
    for name, group in zip(names, groups, strict=True):
        said = name.replace("_", " ").casefold()
        meant = [i for i, meaning in enumerate(known) if said in (meaning.casefold(), *meaning.casefold().split(", "))]
        if meant and not set(meant) & set(group):
            remedy = "list the names in order" if len(groups) > 1 else f"set positive={meant}, or rename the label"
            raise SpecError(
                f"option labels gives the name {name!r}, class {meant[0]} of {of_set}, to class {_numbers(group)} "
                f"({_words(group, known)}); {remedy}"
            )


def _meaning(group: tuple[int, ...], known: tuple[str, ...], of_columns: bool) -> str:
    """Return what a 1 stands for, as far as it is known; "" for a column of unknown meaning."""
    if known:
        return _words(group, known).replace("'", "")
    return "" if of_columns else f"class{'es' * (len(group) > 1)} {_numbers(group)}"


def _note(
    of_set: str, known: tuple[str, ...], meanings: Mapping[str, str], groups: _Groups, positive: tuple[int, ...]
) -> str:
    """Return a sentence on what the labels are about."""
    if not known:
        if len(groups) > 1 or positive:
            return ""
        return (
            f"raygrid does not know what the two classes mean: {next(iter(meanings))} is 1 for class 1, and "
            "sensitivity refers to that class; set the options positive and labels to choose and name the finding"
        )
    if len(groups) > 1:
        return f"according to the metadata of {of_set}, " + ", ".join(f"{n} is {m!r}" for n, m in meanings.items())
    name, group = next(iter(meanings)), groups[0]
    said = f"{name} is 1 for class{'es' * (len(group) > 1)} {_numbers(group)} of {of_set}, {_words(group, known)}"
    said += ", and sensitivity refers to it"
    disease = DISEASE.get(of_set)
    if disease is None or group == (disease,):
        return said
    return f"{said}; for the disease set positive=[{disease}], labels=[{known[disease]!r}]"


def _words(group: tuple[int, ...], known: tuple[str, ...]) -> str:
    return " or ".join(repr(known[i]) for i in group)


def _numbers(group: tuple[int, ...]) -> str:
    return listed([str(i) for i in group], len(group))

"""Patients and their ids: one person has one spelling, and a placeholder such as `nan` is no person.

A table joined from two exports can name one person twice: `00012` and `12` after a spreadsheet dropped the zeros, or
`é` as one character and as two. Each spelling would be a patient of its own, and images of one person would be in
several splits. raygrid does not guess whether such ids are one person. It raises an error, and the option
`different_patients` of a loader declares the ids that only look alike.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from raygrid.errors import DataError, SpecError, listed, unknown_name
from raygrid.hashing import Json
from raygrid.spec.data import DIFFERENT_PATIENTS

Declared = bool | tuple[str, ...]  # True: all of them

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_SHOWN = 3  # persons in an error message
# Characters outside category Cf that no font shows: joiners, fillers, variation selectors.
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_ALIKE = str.maketrans(
    dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2043\u2212", "-")
    | dict.fromkeys("\u2018\u2019\u201a\u201b\u02bc\u2032", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u201f", '"')
    | {"\u2800": " "}
)
_QUOTED = re.compile("=?\"(.*)\"|'(.*?)'?")  # ="00012" and '00012 make a spreadsheet keep the zeros
# Exponents only as programs write them, behind one digit and a point: 12e34 and 000e82 are hexadecimal ids.
_NUMBER = re.compile(
    r"([+-]?)(?=[\d.]*$|(?:[1-9]|\d\.\d+)\.?e)(\d+)(?:\.(\d*))?(?:e([+-]?(?:\d\d?|[1-9]\d\d)))?", re.ASCII
)
_DIGIT = re.compile(r"\d")
_SEPARATORS = re.compile(r"[\s_\-./\\:,;]+")
_PADDING = re.compile(r"(?<!\d)0+(?=\d)|(?<=[^\W\d_])-(?=\d)")  # P007, P-7 and P7
_FILE_SUFFIX = re.compile(r"(?:\.(?:tiff?|ome|svs|ndpi|mrxs|vms|scn|bif|png|jpe?g|dcm|nii|gz|h5|npy))+$")
_MARKS = " <>()[]{}\"'*_-+?.,;:#!/\\"
_WORDS = (
    "nan na n/a n.a n/an/a null none nil nat undefined unknown unk missing notavailable notapplicable notknown "
    "unspecified noid nopatient nopatientid tbd anon anonymous anonymized anonymised deidentified inf infinity "
    "1.#ind 1.#qnan"
)
_PLACEHOLDERS = frozenset(_WORDS.split())
_SHEET_ERRORS = frozenset(("#ref!", "#value!", "#name?", "#div/0!", "#num!", "#null!"))


def person_key(patient: str) -> str:
    """Return the same text for every spelling of one id.

    Spellings differ in upper and lower case, in Unicode's forms of one character (NFKC), in the number and kind of
    blanks, hyphens, apostrophes and quotes, in characters that no font shows, and, if the id is a whole number, in
    leading zeros and the notations of spreadsheets and floating-point columns: 00012, 12, 12.0, +12, 1.2e1, ="00012".
    12e1 is no number: programs write one digit before the point.
    """
    text = patient.casefold() if patient.isascii() else _plain(patient)
    text = " ".join(text.split())
    if text.startswith(("=", '"', "'")) and (quoted := _QUOTED.fullmatch(text)):
        text = (quoted[1] or quoted[2] or "").strip()
    return _whole_number(text) or text


def slide_key(slide: str) -> str:
    """Return `person_key` of a slide's name without folder and file suffix."""
    name = person_key(slide).replace("\\", "/").rstrip("/").rpartition("/")[2]
    return person_key(_FILE_SUFFIX.sub("", name))


def is_placeholder(patient: str) -> bool:
    """Return whether an id stands for no person: a word such as `nan`, `N/A` or `unknown`, or only marks."""
    return _is_placeholder(person_key(patient))


def _is_placeholder(key: str) -> bool:
    if _DIGIT.search(key) and "#" not in key:
        return False  # the quick answer for most ids
    if key in _SHEET_ERRORS or not any(c.isalnum() for c in key):
        return True
    return re.sub(r"[\s_\-]", "", key).strip(_MARKS) in _PLACEHOLDERS


def written_apart(*names: str) -> list[str]:
    """Return the names in quotes, as escapes where two of them would look the same."""
    look = [unicodedata.normalize("NFKC", name) for name in names]
    return [ascii(name) if look.count(same) > 1 else repr(name) for name, same in zip(names, look, strict=True)]


def declared_different(options: Mapping[str, Json]) -> Declared:
    """Return the option `different_patients`: True, or ids that are each a person of their own; () if not given.

    Raises SpecError if it is something else.
    """
    value = options.get(DIFFERENT_PATIENTS, [])
    if value is True:
        return True
    if isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value):
        return tuple(str(name) for name in value)
    raise SpecError(
        f"option {DIFFERENT_PATIENTS} is {value!r}; expected True, or a list of patient ids as the data spell them, "
        "such as ['00012', '12']"
    )


class Patients:
    """The ids of a data set, each with the place where it was found first.

    Args:
        declared: ids that are persons of their own although they look like another id or like a placeholder; True for
            all that look like another id.
        expected: words for an id and its column, in messages.
        key: function that gives the spellings of one person the same text.
    """

    def __init__(
        self, declared: Declared = (), expected: str = "a patient", key: Callable[[str], str] = person_key
    ) -> None:
        self._declared = declared
        self._named = frozenset(() if declared is True else declared or ())
        self._expected, self._key = expected, key
        self._places: dict[str, str] = {}
        self._keys: dict[str, str] = {}

    def add(self, place: str, patient: str) -> str:
        """Return the id, after its place is noted.

        Raises DataError if it is empty or a placeholder, or has control characters.
        """
        if patient in self._places:
            return patient
        if CONTROL.search(patient):  # splits.csv would not keep them
            raise DataError(
                f"{place}: expected {self._expected}, got {patient!r} with control characters; remove them from the row"
            )
        if not patient:
            raise DataError(f"{place}: expected {self._expected}, got an empty cell; repair the row")
        key = person_key(patient)
        if patient not in self._named and _is_placeholder(key):
            raise DataError(
                f"{place}: expected {self._expected}, got {patient!r}, a placeholder; repair the row, or "
                f"declare it an id with {DIFFERENT_PATIENTS}=[{patient!r}]"
            )
        self._places[patient] = place
        self._keys[patient] = key if self._key is person_key else self._key(patient)
        return patient

    def check(self) -> None:
        """Check that every id is a person of its own.

        Raises DataError, with the places of both, if two ids are spellings of one person and neither is declared
        different; SpecError if a declared id does not occur.
        """
        for name in sorted(self._named - self._places.keys()):
            raise SpecError(f"option {DIFFERENT_PATIENTS}: {unknown_name('patient', name, self._places)}")
        if twice := _groups(self._undeclared()):
            raise DataError(
                f"{len(twice)} {'person has' if len(twice) == 1 else 'persons have'} more than one spelling of their "
                f"id, and each spelling would be a patient: {self._shown(twice)}; write one spelling for each person, "
                f"or, if they are different people, name their ids in the option {DIFFERENT_PATIENTS}"
            )

    def notes(self) -> tuple[str, ...]:
        """Return a sentence about ids that resemble each other less than two spellings do, such as `P7` and `P007`."""
        keys = {name: _loose(key) for name, key in self._undeclared().items() if not key.isdecimal()}
        pairs = [names for names in _groups(keys) if not _are_codes(names)]
        if not pairs:
            return ()
        return (
            f"{sum(map(len, pairs))} patient ids resemble another one and count as different patients: "
            f"{self._shown(pairs)}; if they are one person, write one spelling",
        )

    def _undeclared(self) -> dict[str, str]:
        """Return id -> key of the ids that are not declared different."""
        if self._declared is True:
            return {}
        return {name: key for name, key in self._keys.items() if name not in self._named}

    def _shown(self, groups: Sequence[Sequence[str]]) -> str:
        placed = [
            [f"{text} ({self._places[name]})" for name, text in zip(names, written_apart(*names), strict=True)]
            for names in groups[: _SHOWN + 1]
        ]
        return listed([" and ".join(names) for names in placed], limit=_SHOWN, separator="; ")


def _groups(keys: Mapping[str, str]) -> list[list[str]]:
    """Return the names that share a key, together, in their order."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name, key in keys.items():
        groups[key].append(name)
    return [names for names in groups.values() if len(names) > 1]


def _plain(text: str) -> str:
    """Return a text in lower case without invisible characters, in Unicode's shortest form."""
    for _ in range(2):  # letter case can make new sequences to compose, and removed characters can join others
        text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text).casefold())
        text = "".join(_ascii_digit(c) for c in text if unicodedata.category(c) != "Cf")
        text = unicodedata.normalize("NFKC", text).translate(_ALIKE)
    return text


def _ascii_digit(character: str) -> str:
    """Return a decimal digit of any script as 0 to 9, any other character as it is."""
    value = unicodedata.decimal(character, -1)
    return character if value < 0 else str(value)


def _whole_number(text: str) -> str:
    """Return a whole number in its shortest notation, as text of any length; empty if `text` is none."""
    number = _NUMBER.fullmatch(text)
    if number is None:
        return ""
    sign, whole, decimals, exponent = number[1], number[2], number[3] or "", int(number[4] or 0)
    digits, shift = whole + decimals, exponent - len(decimals)
    if shift < 0 and digits[shift:].strip("0"):
        return ""
    digits = (digits[:shift] if shift < 0 else digits + "0" * shift).lstrip("0") or "0"
    return f"-{digits}" if sign == "-" and digits != "0" else digits


def _are_codes(names: Sequence[str]) -> bool:
    """Return whether the names are ASCII letters and digits of one length, as 0a1 and a01: nothing is padded."""
    return len({len(name) for name in names}) == 1 and all(name.isascii() and name.isalnum() for name in names)


def _loose(key: str) -> str:
    """Return a weaker key: without accents, file suffixes, kinds of separators and padding zeros of any number."""
    text = key
    if not text.isascii():
        text = "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))
    text = _SEPARATORS.sub("-", _FILE_SUFFIX.sub("", text)).strip("-")
    return _PADDING.sub("", _PADDING.sub("", text))  # the second pass: zeros behind a separator

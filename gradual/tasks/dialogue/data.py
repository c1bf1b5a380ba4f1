"""Reads MultiWOZ 2.0 in the layout of SUMBT: an ontology in JSON, and dialogues in tab-separated files."""

from __future__ import annotations

import reprlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gradual.checks import found
from gradual.data.text import JSONError, is_line, parse_json, read_text
from gradual.errors import InputError, did_you_mean

NONE = "none"
_DO_NOT_CARE = {"dontcare": "do not care"}  # spellings in dialogue files, and in the ontology
_NAMED = 3  # names from a list that a message shows
_LONGEST_GUESSED = 100  # characters; longer values are not compared with all candidates
_REPR = reprlib.Repr()
_REPR.maxstring = 60
_LEADING_COLUMNS = ("dialogue id", "turn index", "user utterance", "system response")


@dataclass(frozen=True)
class Ontology:
    """Slots and their candidate values, of which ``none`` is the last.

    Attributes:
        slots: Sorted slot names, in the order of the value columns in dialogue files.
        values: Candidate values of each slot, in the order of ``slots``.
        path: The file it was read from.
    """

    slots: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]
    path: str = ""

    @classmethod
    def read(cls, path: str | Path) -> Ontology:
        """Read ``ontology.json``, a mapping from slots to lists of values.

        Raises:
            InputError: The file is missing, not UTF-8, not JSON, not such a mapping, or repeats a slot.
        """
        try:
            content = parse_json(read_text(Path(path)))
        except JSONError as error:
            where = f"{path}:{error.line}" if error.line else f"{path}"
            raise InputError(f"{where}: {error}.") from error
        if not isinstance(content, dict) or not content:
            raise InputError(f"{path}: found {found(content)}, expected a mapping from slots to lists of values.")
        for slot, values in content.items():
            if not slot.strip():
                raise InputError(f"{path}: found the slot {slot!r}, expected a name that is not empty.")
            if not isinstance(values, list) or not all(isinstance(value, str) and value.strip() for value in values):
                raise InputError(f"{path}: the values of slot {_short(slot)} must be a list of text that is not empty.")
        return cls.from_mapping(content, str(path))

    @classmethod
    def from_mapping(cls, values: Mapping[str, Sequence[str]], path: str = "") -> Ontology:
        """Make an ontology from a mapping of slots to values; duplicate values count once."""
        slots = tuple(sorted(values))
        candidates = ((*dict.fromkeys(value for value in values[slot] if value != NONE), NONE) for slot in slots)
        return cls(slots, tuple(candidates), path)

    def to_dict(self) -> dict[str, list[str]]:
        """Return plain data for checkpoints, from which ``from_mapping`` restores the ontology."""
        return {slot: list(values) for slot, values in zip(self.slots, self.values)}

    def difference(self, other: Ontology) -> str:
        """Describe how the ontology of the data, ``other``, differs from this one of a model; empty if it does not."""
        if self.slots != other.slots:
            return _difference("the slots", self.slots, other.slots)
        for slot, mine, theirs in zip(self.slots, self.values, other.values):
            if mine != theirs:
                return _difference(f"the values of {_short(slot)}", mine, theirs)
        return ""

    @property
    def domains(self) -> list[str]:
        """The domains that have slots."""
        return list(dict.fromkeys(slot.split("-")[0] for slot in self.slots))

    def slots_of(self, domain: str) -> list[int]:
        """Return the indices of the slots of a domain, whose names begin with it.

        Raises:
            InputError: There are none.
        """
        if domain not in self.domains:
            raise InputError(f"{self.path}: the domain '{domain}' has no slots; it must be {_either(self.domains)}.")
        return [index for index, slot in enumerate(self.slots) if slot.split("-")[0] == domain]


@dataclass(frozen=True)
class DialogueSpec:
    """What a dialogue state tracker must know of its data.

    Attributes:
        ontology: The slots and their candidate values.
        target_slots: Indices of the target domain's slots.
    """

    ontology: Ontology
    target_slots: tuple[int, ...]


@dataclass(frozen=True)
class Turn:
    """A turn: what the user said, what the system had said before, and the belief state afterwards.

    Attributes:
        user: The user's utterance.
        system: The system's response to the previous turn; empty in the first turn.
        values: Index of each slot's value among its candidates, in the order of the ontology's slots.
    """

    user: str
    system: str
    values: tuple[int, ...]


@dataclass
class Dialogue:
    """A dialogue and its id."""

    id: str
    turns: list[Turn] = field(default_factory=list)


def read_dialogues(path: str | Path, ontology: Ontology) -> list[Dialogue]:
    """Read a dialogue file: one row per turn, tab-separated and unquoted, below a header that starts with ``#``.

    Args:
        path: The file.
        ontology: Its slots are the value columns, in this order.

    Raises:
        InputError: The file is missing, empty or not UTF-8, or a row has a wrong number of columns, a dialogue id that
            is empty or has a line break in it, a turn out of order, a dialogue that has already ended, or a value that
            is not in the ontology. The message names file and line.
    """
    path = Path(path)
    dialogues: list[Dialogue] = []
    seen: set[str] = set()
    lookup = [{value: index for index, value in enumerate(values)} for values in ontology.values]
    for line, columns in _rows(path, ontology):
        id_, turn_index, user, system, *values = columns
        where = f"{path}:{line}"
        if not dialogues or dialogues[-1].id != id_:
            if not is_line(id_):
                raise InputError(f"{where}: the dialogue id {_short(id_)} must be a single line of text, not empty.")
            if id_ in seen:
                raise InputError(f"{where}: dialogue {_short(id_)} appears again; its turns must be consecutive.")
            seen.add(id_)
            dialogues.append(Dialogue(id_))
        expected = len(dialogues[-1].turns)
        if turn_index != str(expected):
            turn = f"turn {_short(turn_index)} of dialogue {_short(id_)}"
            raise InputError(f"{where}: found {turn}, expected turn {expected}.")
        indices = tuple(
            _value_index(value, candidates, where, slot)
            for value, candidates, slot in zip(values, lookup, ontology.slots, strict=True)
        )
        dialogues[-1].turns.append(Turn(user, system, indices))
    if not dialogues:
        raise InputError(f"{path}: there are no dialogues below the header; there must be one row per turn.")
    return dialogues


def oddities(dialogues: Sequence[Dialogue], max_turns: int | None = None) -> Counter[str]:
    """Count what is valid but unusual in dialogues: worth a line in the log, not an error."""
    counts: Counter[str] = Counter()
    for dialogue in dialogues:
        counts[f"dialogues cut to {max_turns} turns"] += len(dialogue.turns) > len(dialogue.turns[:max_turns])
        for number, turn in enumerate(dialogue.turns):
            counts["turns without a user utterance"] += not turn.user.strip()
            counts["later turns without a system response"] += number > 0 and not turn.system.strip()
            counts["first turns with a system response"] += number == 0 and bool(turn.system.strip())
    return +counts


def _rows(path: Path, ontology: Ontology) -> Iterator[tuple[int, list[str]]]:
    width = len(_LEADING_COLUMNS) + len(ontology.slots)
    text = read_text(path)
    if not text.strip():
        raise InputError(f"{path}: the file is empty; it must have a header and one row per turn.")
    for line, row in enumerate(text.split("\n"), start=1):
        row = row.removesuffix("\r")
        if not row:
            continue
        columns = row.split("\t")
        if line == 1 and row.startswith("#"):
            _check_header(columns, ontology, f"{path}:{line}")
            continue
        if len(columns) == width + 1 and not columns[-1]:  # an empty last column like the header's
            columns.pop()
        if len(columns) != width:
            raise InputError(
                f"{path}:{line}: found {len(columns)} columns, expected {width}: {', '.join(_LEADING_COLUMNS)}, and "
                f"values for the {len(ontology.slots)} slots of {ontology.path or 'the ontology'}{_line_ends(row)}."
            )
        yield line, columns


def _check_header(columns: list[str], ontology: Ontology, where: str) -> None:
    slots = [column for column in columns[len(_LEADING_COLUMNS) :] if column]
    if slots and slots != list(ontology.slots):
        foreign = sorted(set(slots) ^ set(ontology.slots))
        what = f"only one of them has {_short(foreign[0])}" if foreign else "the order must be sorted"
        what += _line_ends("".join(slots))
        raise InputError(f"{where}: the slots in the header differ from {ontology.path or 'the ontology'}: {what}.")


def _value_index(value: str, candidates: dict[str, int], where: str, slot: str) -> int:
    index = candidates.get(value)
    if index is None:
        index = candidates.get(_DO_NOT_CARE.get(value, ""))
    if index is None:
        hint = did_you_mean(value, candidates) if len(value) <= _LONGEST_GUESSED else ""
        raise InputError(f"{where}: slot {_short(slot)} has the value {_short(value)}, not in the ontology.{hint}")
    return index


def _line_ends(text: str) -> str:
    """Add to a message about a row that looks like several, as in old files with carriage returns only."""
    return "; it contains carriage returns, but lines must end with a line feed" if "\r" in text else ""


def _difference(what: str, model: Sequence[str], data: Sequence[str]) -> str:
    """Name a few entries that only the model or only the data has."""
    parts = []
    for who, mine, theirs in (("the model", model, data), ("the data", data, model)):
        more = sorted(set(mine) - set(theirs))
        if more:
            rest = f" and {len(more) - _NAMED} more" if len(more) > _NAMED else ""
            parts.append(f"only {who} has {', '.join(map(_short, more[:_NAMED]))}{rest}")
    return f"among {what}, {', and '.join(parts)}" if parts else f"{what} are in another order"


def _either(names: Sequence[str]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _short(text: str) -> str:
    """Quote a text for a message, with its middle left out if it is long and unprintable characters escaped."""
    return _REPR.repr(text)


def belief_state(values: Sequence[int], ontology: Ontology) -> dict[str, Any]:
    """Map the slots of a turn to their values, given as indices; slots with the value ``none`` are left out."""
    named = ((slot, ontology.values[s][values[s]]) for s, slot in enumerate(ontology.slots))
    return {slot: value for slot, value in named if value != NONE}

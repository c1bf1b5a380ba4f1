"""Files to examples: the ontology and the tab-separated dialogues of MultiWOZ 2.0 as SUMBT lays them out."""

from __future__ import annotations

import difflib
import reprlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gradual.data.text import JSONError, is_line, parse_json, read_text
from gradual.errors import InputError

NONE = "none"
_DO_NOT_CARE = {"dontcare": "do not care"}  # what the dialogue files write for what the ontology lists
_NAMED = 3  # names of a list that a message shows
_LONGEST_GUESSED = 100  # characters of a value that is compared with all candidates
_REPR = reprlib.Repr()
_REPR.maxstring = 60
_LEADING_COLUMNS = ("dialogue id", "turn index", "user utterance", "system response")


@dataclass(frozen=True)
class Ontology:
    """The slots and their candidate values, ``none`` last.

    Attributes:
        slots: Slot names, sorted: the order of the value columns in dialogue files.
        values: Candidate values of each slot, in the order of ``slots``.
        path: The file that it was read from.
    """

    slots: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]
    path: str = ""

    @classmethod
    def read(cls, path: str | Path) -> Ontology:
        """Read ``ontology.json``, a mapping from slot to its values.

        Raises:
            InputError: The file is missing, not UTF-8, not JSON, or not such a mapping, or has a slot twice.
        """
        try:
            content = parse_json(read_text(Path(path)))
        except JSONError as error:
            where = f"{path}:{error.line}" if error.line else f"{path}"
            raise InputError(f"{where}: {error}.") from error
        if not isinstance(content, dict) or not content:
            raise InputError(f"{path}: found {type(content).__name__}; accepted is a mapping from slot to its values.")
        for slot, values in content.items():
            if not slot.strip():
                raise InputError(f"{path}: found {slot!r} as a slot; accepted is a name that is not empty.")
            if not isinstance(values, list) or not all(isinstance(value, str) and value.strip() for value in values):
                raise InputError(
                    f"{path}: slot {_short(slot)}: accepted is a list of values, each a text that is not empty."
                )
        return cls.from_mapping(content, str(path))

    @classmethod
    def from_mapping(cls, values: Mapping[str, Sequence[str]], path: str = "") -> Ontology:
        """An ontology from slot to values; a value listed twice counts once."""
        slots = tuple(sorted(values))
        candidates = ((*dict.fromkeys(value for value in values[slot] if value != NONE), NONE) for slot in slots)
        return cls(slots, tuple(candidates), path)

    def to_dict(self) -> dict[str, list[str]]:
        """Slot to values as plain data, for checkpoints; ``from_mapping`` makes the ontology of it again."""
        return {slot: list(values) for slot, values in zip(self.slots, self.values)}

    def difference(self, other: Ontology) -> str:
        """In what data with another ontology differs, in words, for a checkpoint with this one; empty if in nothing."""
        if self.slots != other.slots:
            return _alone("the slots", self.slots, other.slots)
        for slot, mine, theirs in zip(self.slots, self.values, other.values):
            if mine != theirs:
                return _alone(f"the values of {_short(slot)}", mine, theirs)
        return ""

    @property
    def domains(self) -> list[str]:
        """The domains that have slots."""
        return list(dict.fromkeys(slot.split("-")[0] for slot in self.slots))

    def slots_of(self, domain: str) -> list[int]:
        """Indices of the slots of a domain: those whose names begin with it.

        Raises:
            InputError: There are none.
        """
        if domain not in self.domains:
            accepted = ", ".join(self.domains)
            raise InputError(f"{self.path}: no slot of the domain '{domain}'; accepted are {accepted}.")
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
    """One turn: what the user said, what the system had said before, and the belief state after.

    Attributes:
        user: The user's utterance.
        system: The system's response to the turn before; empty in the first turn.
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
    """Read a dialogue file: a row a turn, tab-separated, without quoting, under a header that starts with ``#``.

    Args:
        path: The file.
        ontology: Its slots are the value columns, in its order.

    Raises:
        InputError: The file is missing, empty or not UTF-8, or a row has a wrong number of columns, a dialogue id that
            is empty or has a line end inside, a turn out of order, a dialogue that was there before, or a value that
            the ontology lacks. The message names file and line.
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
                raise InputError(
                    f"{where}: found the dialogue id {_short(id_)}; accepted is text in one line, not empty."
                )
            if id_ in seen:
                raise InputError(
                    f"{where}: dialogue {_short(id_)} began before and comes again; its turns must stand together."
                )
            seen.add(id_)
            dialogues.append(Dialogue(id_))
        expected = len(dialogues[-1].turns)
        if turn_index != str(expected):
            found = f"turn {_short(turn_index)} of dialogue {_short(id_)}"
            raise InputError(f"{where}: found {found}, expected turn {expected}.")
        indices = tuple(
            _value_index(value, candidates, where, slot)
            for value, candidates, slot in zip(values, lookup, ontology.slots, strict=True)
        )
        dialogues[-1].turns.append(Turn(user, system, indices))
    if not dialogues:
        raise InputError(f"{path}: holds no dialogue; accepted is a row a turn.")
    return dialogues


def oddities(dialogues: Sequence[Dialogue], max_turns: int) -> Counter[str]:
    """What is fine but odd in dialogues, and how often: worth a line in the log, not an error."""
    counts: Counter[str] = Counter()
    for dialogue in dialogues:
        counts[f"dialogues cut to {max_turns} turns"] += len(dialogue.turns) > max_turns
        for number, turn in enumerate(dialogue.turns):
            counts["turns without a user utterance"] += not turn.user.strip()
            counts["later turns without a system response"] += number > 0 and not turn.system.strip()
            counts["first turns with a system response"] += number == 0 and bool(turn.system.strip())
    return +counts


def _rows(path: Path, ontology: Ontology) -> Iterator[tuple[int, list[str]]]:
    width = len(_LEADING_COLUMNS) + len(ontology.slots)
    text = read_text(path)
    if not text.strip():
        raise InputError(f"{path}: is empty; accepted is a header row and a row a turn.")
    for line, row in enumerate(text.split("\n"), start=1):
        row = row.removesuffix("\r")
        if not row:
            continue
        columns = row.split("\t")
        if line == 1 and row.startswith("#"):
            _check_header(columns, ontology, f"{path}:{line}")
            continue
        if len(columns) == width + 1 and not columns[-1]:  # the header's empty last column, written in rows as well
            columns.pop()
        if len(columns) != width:
            raise InputError(
                f"{path}:{line}: found {len(columns)} columns, expected {width}: {', '.join(_LEADING_COLUMNS)} and the "
                f"values of the {len(ontology.slots)} slots of {ontology.path or 'the ontology'}{_line_ends(row)}."
            )
        yield line, columns


def _check_header(columns: list[str], ontology: Ontology, where: str) -> None:
    slots = [column for column in columns[len(_LEADING_COLUMNS) :] if column]
    if slots and slots != list(ontology.slots):
        foreign = sorted(set(slots) ^ set(ontology.slots))
        what = f"{_short(foreign[0])} is only in one of them" if foreign else "their order differs; its is sorted"
        what += _line_ends("".join(slots))
        raise InputError(f"{where}: the header's slots are not those of {ontology.path or 'the ontology'}: {what}.")


def _value_index(value: str, candidates: dict[str, int], where: str, slot: str) -> int:
    index = candidates.get(value)
    if index is None:
        index = candidates.get(_DO_NOT_CARE.get(value, ""))
    if index is None:
        close = difflib.get_close_matches(value, candidates, n=1) if len(value) <= _LONGEST_GUESSED else ()
        hint = f"; the closest there is {_short(close[0])}" if close else ""
        found = f"slot {_short(slot)} has the value {_short(value)}"
        raise InputError(f"{where}: {found}, which is not in the ontology{hint}.")
    return index


def _line_ends(text: str) -> str:
    """What to say of a row that seems to be several: files of old have carriage returns alone."""
    return "; it has carriage returns inside, and lines end with a line feed" if "\r" in text else ""


def _alone(what: str, trained: Sequence[str], data: Sequence[str]) -> str:
    """What a checkpoint has and the data has not, and the other way round; a few of each."""
    found = []
    for who, mine, theirs in (("the checkpoint", trained, data), ("the data", data, trained)):
        more = sorted(set(mine) - set(theirs))
        if more:
            rest = f" and {len(more) - _NAMED} more" if len(more) > _NAMED else ""
            found.append(f"{who} alone has {', '.join(map(_short, more[:_NAMED]))}{rest}")
    return f"of {what} {' and '.join(found)}" if found else f"{what} are in another order"


def _short(text: str) -> str:
    """A text for a message: its start and end in quotes, with what cannot be printed escaped."""
    return _REPR.repr(text)


def belief_state(values: Sequence[int], ontology: Ontology) -> dict[str, Any]:
    """The filled slots of a turn, slot to value, from value indices; ``none`` is left out."""
    named = ((slot, ontology.values[s][values[s]]) for s, slot in enumerate(ontology.slots))
    return {slot: value for slot, value in named if value != NONE}

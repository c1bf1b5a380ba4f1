"""Reads texts with standoff annotations: brat's `.txt` and `.ann`, or the BioNLP shared tasks' `.txt`, `.a1`, `.a2`."""

from __future__ import annotations

import codecs
import re
import reprlib
from collections import Counter
from collections.abc import Iterable, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, NoReturn

from gradual.data.text import read_text
from gradual.errors import InputError
from gradual.tasks.events.documents import LAYERS

_IGNORED = {"*": "equivalences", "A": "attributes", "M": "modifications", "N": "normalizations", "#": "notes"}
_ID = re.compile(r"\*|#.*|[TREAMN]\S+")
_TEXT_BOUND = re.compile(r"(\S+) ([0-9]{1,15} [0-9]{1,15}(?:;[0-9]{1,15} [0-9]{1,15})*)")
_NUMBERED = re.compile(r"(.*\D)(?:[2-9]|[1-9]\d+)")  # the second argument in a role, or a later one


class TextBound(NamedTuple):
    """A ``T`` line: an entity or the trigger of an event.

    Attributes:
        type: Its type.
        fragments: First character and the one after the last, for each of its fragments.
        text: The annotated characters, according to the line.
        where: File and line.
    """

    type: str
    fragments: list[tuple[int, int]]
    text: str
    where: str


class StandoffRelation(NamedTuple):
    """An ``R`` line: its type, and the ids of the two annotations (each a ``T`` or an ``E``)."""

    type: str
    first: str
    second: str


class StandoffEvent(NamedTuple):
    """An ``E`` line: its type, the id of its trigger (a ``T``), and role and id (``T`` or ``E``) of each argument."""

    type: str
    trigger: str
    arguments: list[tuple[str, str]]


@dataclass(frozen=True)
class AnnotatedText:
    """A text and its annotations.

    Attributes:
        id: The name of the file without its suffix.
        text: The text that offsets refer to, with line breaks as in the file.
        layers: The members of ``LAYERS`` that the annotation files can hold.
        bounds: The ``T`` lines by id.
        relations: The ``R`` lines.
        events: The ``E`` lines by id.
        changes: What has been left out so far, and how often.
    """

    id: str
    text: str
    layers: frozenset[str]
    bounds: dict[str, TextBound]
    relations: list[StandoffRelation]
    events: dict[str, StandoffEvent]
    changes: Counter[str]

    @property
    def entities(self) -> dict[str, TextBound]:
        """The text-bound annotations that are not the trigger of an event."""
        triggers = {event.trigger for event in self.events.values()}
        return {id_: bound for id_, bound in self.bounds.items() if id_ not in triggers}

    def with_roles_of(self, roles: Set[str]) -> AnnotatedText:
        """Take the numbers off the roles of second and later arguments, such as ``Theme2``.

        Args:
            roles: All roles of the folder as written. ``Arg2`` is a role of its own where there is no ``Arg``.
        """
        changes: Counter[str] = Counter()

        def plain(role: str) -> str:
            match = _NUMBERED.fullmatch(role)
            if match is None or match[1] not in roles:
                return role
            changes["changed: roles of a second or later argument, now without the number"] += 1
            return match[1]

        events = {
            id_: event._replace(arguments=[(plain(role), target) for role, target in event.arguments])
            for id_, event in self.events.items()
        }
        return replace(self, events=events, changes=self.changes + changes)

    def without(self, skipped: Set[str], reason: str) -> AnnotatedText:
        """Remove text-bound annotations and their events, and the arguments and relations that refer to either."""
        gone = {*skipped, *(id_ for id_, event in self.events.items() if event.trigger in skipped)}
        relations = [r for r in self.relations if not {r.first, r.second} & gone]
        events = {
            id_: event._replace(arguments=[(role, target) for role, target in event.arguments if target not in gone])
            for id_, event in self.events.items()
            if id_ not in gone
        }
        arguments = sum(len(self.events[id_].arguments) - len(event.arguments) for id_, event in events.items())
        changes = Counter(
            {
                f"left out: entities and triggers {reason}": len(skipped),
                "left out: events whose trigger is left out": len(self.events) - len(events),
                "left out: arguments whose entity or event is left out": arguments,
                "left out: relations whose entity or event is left out": len(self.relations) - len(relations),
            }
        )
        bounds = {id_: bound for id_, bound in self.bounds.items() if id_ not in skipped}
        return replace(self, bounds=bounds, relations=relations, events=events, changes=self.changes + changes)


def text_files(folder: Path) -> list[Path]:
    """List the ``.txt`` files of a folder by name, ignoring subfolders and hidden files.

    Raises:
        InputError: It is not a folder, has no such file, or has annotations without a text.
    """
    try:
        names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}.") from None
    texts = sorted(name for name in names if name.endswith(".txt"))
    stems = {name.removesuffix(".txt") for name in texts}
    for name in sorted(names):
        stem, _, suffix = name.rpartition(".")
        if suffix in ("ann", "a1", "a2") and stem not in stems:
            raise InputError(f"{folder / name}: there is no {stem}.txt beside it, which is the text that it annotates.")
    if not texts:
        raise InputError(f"{folder} has no .txt file (subfolders are not searched).")
    return [folder / name for name in texts]


def read_standoff(path: Path, skip: Set[str] = frozenset()) -> AnnotatedText:
    """Read a text and its annotations.

    Args:
        path: The ``.txt`` file. If there are no annotation files beside it, it has no layers.
        skip: Types of text-bound annotations to leave out.

    Raises:
        InputError: A file cannot be read, a line is malformed, an id is defined twice or not at all, or the text of a
            ``T`` line differs from the text at its offsets.
    """
    suffixes, layers = _annotations_of(path)
    lines = _Lines()
    for suffix in suffixes:
        lines.read(path.with_suffix(suffix))
    lines.check_references()
    text = read_text(path)
    mistake = _misplaced(text, path, lines.bounds)
    if mistake and path.read_bytes().startswith(codecs.BOM_UTF8):
        # brat counts a byte order mark as a character, others do not: see which of them matches the annotated words
        text = " " + text
        mistake = _misplaced(text, path, lines.bounds) and mistake
    if mistake:
        raise InputError(mistake)
    changes = +lines.ignored
    if not layers:
        changes["without layers: texts that have no annotation files"] = 1
    elif "events" not in layers:
        changes["without relations and events: texts that have .a1 but no .a2"] = 1
    annotated = AnnotatedText(path.stem, text, layers, lines.bounds, lines.relations, lines.events, changes)
    skipped = {id_ for id_, bound in lines.bounds.items() if bound.type in skip}
    blank = {
        id_
        for id_, bound in lines.bounds.items()
        if not any(text[start:end].strip() for start, end in bound.fragments) and id_ not in skipped
    }
    return annotated.without(skipped, "of a type to skip").without(blank, "of white space alone")


def in_use(texts: Iterable[AnnotatedText]) -> tuple[frozenset[str], frozenset[str]]:
    """Return the layers in which any of the texts is annotated, and the roles of arguments as written.

    The folder's annotation scheme lacks the other layers.
    """
    layers: set[str] = set()
    roles: set[str] = set()
    for text in texts:
        content = (text.entities, text.relations, text.events)
        layers.update(layer for layer, annotations in zip(LAYERS, content, strict=True) if annotations)
        roles.update(role for event in text.events.values() for role, _ in event.arguments)
    return frozenset(layers), frozenset(roles)


def _annotations_of(path: Path) -> tuple[list[str], frozenset[str]]:
    """Return the suffixes of a text's annotation files, and the layers that they can hold."""
    ann, a1, a2 = (path.with_suffix(suffix).exists() for suffix in (".ann", ".a1", ".a2"))
    if ann and (a1 or a2):
        raise InputError(f"{path}: has both .ann and .a1 or .a2 beside it; it must have either .ann, or .a1 and .a2.")
    if a2 and not a1:
        raise InputError(
            f"{path.with_suffix('.a2')}: there is no {path.stem}.a1 beside it, which would hold the entities."
        )
    everything = frozenset(LAYERS)
    if ann:
        return [".ann"], everything
    if a2:
        return [".a1", ".a2"], everything
    return ([".a1"], frozenset({"ner"})) if a1 else ([], frozenset())


def _misplaced(text: str, path: Path, bounds: dict[str, TextBound]) -> str | None:
    """Describe the first annotation whose text differs from the text at its offsets, in a sentence."""
    counted = "offsets count characters from 0, including line breaks"
    for id_, bound in bounds.items():
        if bound.fragments[-1][1] > len(text):
            end = bound.fragments[-1][1]
            return f"{bound.where}: {id_} ends at {end}, but {path.name} has {len(text)} characters ({counted})."
        found = " ".join(text[start:end] for start, end in bound.fragments)
        if found.split() != bound.text.split():  # a line break in the text is a space in the annotation
            stated = f"{id_} is {reprlib.repr(bound.text)}"
            return f"{bound.where}: {stated}, but {path.name} has {reprlib.repr(found)} there ({counted})."
    return None


@dataclass
class _Lines:
    """The lines of the annotation files of one text."""

    bounds: dict[str, TextBound] = field(default_factory=dict)
    relations: list[StandoffRelation] = field(default_factory=list)
    events: dict[str, StandoffEvent] = field(default_factory=dict)
    ignored: Counter[str] = field(default_factory=Counter)
    _places: dict[str, str] = field(default_factory=dict)  # where each id is defined
    _references: list[tuple[str, str, str]] = field(default_factory=list)  # place, id, the kinds that it may be

    def read(self, path: Path) -> None:
        for number, line in enumerate(read_text(path).split("\n"), start=1):
            if line.strip():
                self._line(line.removesuffix("\r"), f"{path}:{number}")

    def check_references(self) -> None:
        for where, id_, kinds in self._references:
            if not id_.startswith(tuple(kinds)):
                accepted = " or ".join(f"{kind} and a number" for kind in kinds)
                _refuse(where, f"the id {reprlib.repr(id_)}", accepted)
            if id_ not in self.bounds and id_ not in self.events:
                raise InputError(f"{where}: refers to {reprlib.repr(id_)}, which is not defined.")

    def _line(self, line: str, where: str) -> None:
        id_, tab, content = line.partition("\t")
        kind = id_[:1]
        if not _ID.fullmatch(id_) or not (tab or kind == "#"):
            known = "an id that starts with one of T, R, E, A, M, N, * and #"
            _refuse(where, reprlib.repr(line), f"{known}, a tab and the annotation")
        if kind in _IGNORED:
            self.ignored[f"ignored: {_IGNORED[kind]}"] += 1
            return
        if id_ in self._places:
            raise InputError(f"{where}: the id {reprlib.repr(id_)} is already defined at {self._places[id_]}.")
        self._places[id_] = where
        {"T": self._text_bound, "R": self._relation, "E": self._event}[kind](id_, content, where)

    def _text_bound(self, id_: str, content: str, where: str) -> None:
        columns, _, text = content.partition("\t")
        match = _TEXT_BOUND.fullmatch(columns)
        if match is None or not text:
            _refuse(where, reprlib.repr(content), "TYPE START END, a tab and the text, or TYPE START END;START END")
        offsets = [tuple(map(int, piece.split())) for piece in match[2].split(";")]
        fragments = sorted((start, end) for start, end in offsets)
        before = 0
        for start, end in fragments:
            if not before <= start < end:
                _refuse(where, f"the offsets {match[2]}", "fragments that do not overlap, each with START before END")
            before = end
        self.bounds[id_] = TextBound(match[1], fragments, text, where)

    def _relation(self, id_: str, content: str, where: str) -> None:
        type_, pairs = self._pairs(content, where, "TYPE Arg1:ID Arg2:ID")
        if len(pairs) != 2 or ":" in type_:
            _refuse(where, reprlib.repr(content), "TYPE Arg1:ID Arg2:ID")
        if {name for name, _ in pairs} == {"Arg1", "Arg2"}:
            pairs.sort()
        (_, first), (_, second) = pairs
        self._references += [(where, first, "TE"), (where, second, "TE")]
        self.relations.append(StandoffRelation(type_, first, second))

    def _event(self, id_: str, content: str, where: str) -> None:
        head, pairs = self._pairs(content, where, "TYPE:ID ROLE:ID ...")
        type_, _, trigger = head.rpartition(":")
        if not type_:
            _refuse(where, f"an event without a trigger, {reprlib.repr(content)}", "TYPE:ID ROLE:ID ...")
        self._references.append((where, trigger, "T"))
        self._references += [(where, target, "TE") for _, target in pairs]
        self.events[id_] = StandoffEvent(type_, trigger, pairs)

    def _pairs(self, content: str, where: str, form: str) -> tuple[str, list[tuple[str, str]]]:
        """Return the first word, and the name and id in each further one."""
        head, *words = content.split() or [""]
        pairs = [(name, id_) for name, _, id_ in (word.rpartition(":") for word in words)]
        if not head or not all(name and id_ for name, id_ in pairs):
            _refuse(where, reprlib.repr(content), form)
        return head, pairs


def _refuse(where: str, found: str, accepted: str) -> NoReturn:
    raise InputError(f"{where}: found {found}, expected {accepted}.")

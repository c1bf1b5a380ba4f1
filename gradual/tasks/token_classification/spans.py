"""Spans in sequences of tags: what a tag says, which scheme the tags follow, and where spans begin and end.

A tag such as ``B-PER`` has a position within a span and the type of the span. The schemes:

- IOB2: ``B`` for the first word of every span, ``I`` for the others.
- IOB1: ``B`` only for the first word of a span that directly follows another one of its type, otherwise ``I``.
- BIOES: ``B``, ``I`` and ``E`` for the first, inner and last words of a span, ``S`` for a span of one word.
- BILOU: BIOES with ``L`` for ``E`` and ``U`` for ``S``.

Words outside of spans have ``O``. Sequences that break the rules, as predictions do, are read as ``conlleval`` (Tjong
Kim Sang and Buchholz, 2000) and ``seqeval`` read them: a word begins a span if its position is ``B`` or ``S``, or if
the word before is outside, has another type, or ends a span itself (``E`` or ``S``). That reads all schemes, so one
function serves for all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

OUTSIDE = "O"
UNTYPED = ""  # the type of spans whose tags have none


class Position(IntEnum):
    """The position of a word within a span."""

    O = 0  # noqa: E741 - the name that every scheme has for it
    B = 1
    I = 2  # noqa: E741
    E = 3
    S = 4


_POSITIONS = {**Position.__members__, "L": Position.E, "U": Position.S}
_TAG = re.compile(r"([BIESLU])(?:-(.+))?", re.DOTALL)
_LETTERS = {"IOB1": "OBI", "IOB2": "OBI", "BIOES": "OBIES", "BILOU": "OBILU"}


def parse_tag(tag: str) -> tuple[Position, str] | None:
    """Return the position and the type that a tag states; None for a tag that states none, such as ``NOUN``."""
    if tag == OUTSIDE:
        return Position.O, ""
    match = _TAG.fullmatch(tag)
    return None if match is None else (_POSITIONS[match[1]], UNTYPED if match[2] is None else match[2])


def are_spans(tags: Iterable[str]) -> bool:
    """Whether a set of tags describes spans: it has ``O`` and tags with a position, either all or none with a type."""
    others = [tag for tag in set(tags) if tag != OUTSIDE]
    parsed = [parse_tag(tag) for tag in others]
    if not others or None in parsed:
        return False
    typed = {len(tag) > 1 for tag in others}
    return typed == {True} or (typed == {False} and "B" in others and OUTSIDE in tags)


@dataclass(frozen=True)
class SpanTags:
    """A list of tags as numbers, for sequences of indices into the list.

    Attributes:
        types: The types of spans, sorted.
        position: The ``Position`` of each tag, shape ``(tags,)``.
        type: The index of its type, 0 for ``O``; shape ``(tags,)``.
    """

    types: tuple[str, ...]
    position: Tensor
    type: Tensor

    @classmethod
    def of(cls, tags: Sequence[str]) -> SpanTags:
        """Parse tags; one that states no position counts as ``O``."""
        parsed = [parse_tag(tag) or (Position.O, "") for tag in tags]
        types = tuple(sorted({type_ for position, type_ in parsed if position}))
        index = {name: number for number, name in enumerate(types)}
        return cls(
            types,
            torch.tensor([int(position) for position, _ in parsed], dtype=torch.long),
            torch.tensor([index.get(type_, 0) for _, type_ in parsed], dtype=torch.long),
        )

    def spans(self, tags: Tensor, sentence: Tensor) -> Spans:
        """Find the spans in the sentences of a batch; see ``find_spans``."""
        return find_spans(self.position.to(tags.device)[tags], self.type.to(tags.device)[tags], sentence)


@dataclass(frozen=True)
class Spans:
    """The spans of a batch of ``W`` words, without a shape that depends on how many there are.

    Attributes:
        inside: Whether each word is in a span, shape ``(W,)``.
        first: Whether a span begins with it, shape ``(W,)``.
        last: Whether a span ends with it, shape ``(W,)``.
        end: The last word of the span that the word is in, shape ``(W,)``; meaningless outside of spans.
        type: The type of that span, shape ``(W,)``; meaningless outside of spans.
    """

    inside: Tensor
    first: Tensor
    last: Tensor
    end: Tensor
    type: Tensor


def find_spans(position: Tensor, type_: Tensor, sentence: Tensor) -> Spans:
    """Find the spans in the sentences of a batch, by the rule of ``conlleval``; waits for no device.

    Args:
        position: The ``Position`` of each word, shape ``(W,)``; the words of all sentences one after the other.
        type_: The type that its tag states, shape ``(W,)``.
        sentence: The sentence of each word, shape ``(W,)``.
    """
    words = len(position)
    inside = position != Position.O
    after_other = torch.ones_like(inside)  # the word before belongs to no span that may go on
    after_other[1:] = (
        (sentence[1:] != sentence[:-1])
        | (type_[1:] != type_[:-1])
        | ~inside[:-1]
        | (position[:-1] == Position.E)
        | (position[:-1] == Position.S)
    )
    first = inside & (after_other | (position == Position.B) | (position == Position.S))
    goes_on = torch.zeros_like(inside)
    goes_on[:-1] = inside[1:] & ~first[1:]
    last = inside & ~goes_on
    place = torch.arange(words, device=position.device)
    # the nearest last word at or after each word
    end = torch.where(last, place, words).flip(0).cummin(0).values.flip(0) if words else place
    return Spans(inside, first, last, end, type_)


def count_spans(predicted: Spans, gold: Spans, groups: tuple[Tensor, Tensor], number: int) -> Tensor:
    """Count correct, predicted and gold spans by group; a span is correct if its words and its type are.

    Args:
        predicted: The predicted spans.
        gold: The gold spans of the same words.
        groups: The group of a span that begins with each word, such as its type or its sentence, for both sides; shape
            ``(W,)`` each. Correct spans are in the same group on both sides.
        number: The number of groups.

    Returns:
        Shape ``(number, 3)``.
    """
    right = predicted.first & gold.first & (predicted.end == gold.end) & (predicted.type == gold.type)
    counts = torch.zeros(3, number, dtype=torch.long, device=right.device)
    for row, (found, group) in enumerate(zip((right, predicted.first, gold.first), (groups[1], *groups))):
        counts[row].index_add_(0, group, found.long())
    return counts.T


@dataclass
class SchemeEvidence:
    """What the tags of a part of the data say about their scheme; parts of it may be added one after the other.

    Attributes:
        letters: The letters of the positions that occur.
        starts_with_b: Spans that begin with ``B`` or ``S`` although nothing before them makes that necessary.
        starts_without_b: Spans that begin with another letter.
        open_ends: Spans whose last word is neither ``E`` nor ``S``.
    """

    letters: set[str]
    starts_with_b: int = 0
    starts_without_b: int = 0
    open_ends: int = 0

    @classmethod
    def of(cls, tags: Iterable[str]) -> SchemeEvidence:
        """Begin with the tags that occur."""
        return cls({tag[0] for tag in tags if parse_tag(tag) is not None})

    def add(self, position: Tensor, type_: Tensor, sentence: Tensor) -> None:
        """Count in sentences, given as in ``find_spans``."""
        spans = find_spans(position, type_, sentence)
        opened = (position == Position.B) | (position == Position.S)
        self.starts_with_b += int((spans.first & opened & ~after_its_type(spans, sentence)).sum())
        self.starts_without_b += int((spans.first & ~opened).sum())
        closed = (position == Position.E) | (position == Position.S)
        self.open_ends += int((spans.last & ~closed).sum())

    @property
    def scheme(self) -> str:
        """The scheme whose rules are broken least often; IOB2 where the tags do not tell it from IOB1."""
        if self.letters & {"L", "U"}:
            return "BILOU"
        if self.letters & {"E", "S"}:
            return "BIOES"
        return "IOB1" if self.starts_without_b > self.starts_with_b else "IOB2"

    @property
    def broken(self) -> int:
        """How often the rules of that scheme are broken, so that other readers may read other spans."""
        if self.scheme == "IOB1":
            return self.starts_with_b
        return self.starts_without_b + (0 if self.scheme == "IOB2" else self.open_ends)


def after_its_type(spans: Spans, sentence: Tensor) -> Tensor:
    """Whether each word directly follows a span of its type in its sentence, shape ``(W,)``."""
    follows = torch.zeros_like(spans.first)
    follows[1:] = spans.inside[:-1] & (spans.type[1:] == spans.type[:-1]) & (sentence[1:] == sentence[:-1])
    return follows


def written_in(scheme: str, spans: Spans, sentence: Tensor) -> Tensor:
    """Return the position of each word as a scheme writes it, shape ``(W,)``."""
    inner = torch.full_like(spans.end, Position.I)
    if scheme in ("BIOES", "BILOU"):
        position = torch.where(spans.last, Position.E, inner)
        position = torch.where(spans.first, torch.where(spans.last, Position.S, Position.B), position)
    else:
        begins = spans.first if scheme == "IOB2" else spans.first & after_its_type(spans, sentence)
        position = torch.where(begins, Position.B, inner)
    return torch.where(spans.inside, position, Position.O)


def tag_of(position: int, type_: str, scheme: str) -> str:
    """Write a tag."""
    letter = _LETTERS[scheme][position]
    return letter if position == Position.O or type_ == UNTYPED else f"{letter}-{type_}"

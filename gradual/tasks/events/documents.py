"""Documents and their annotations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

LAYERS = ("ner", "relations", "events")
"""The kinds of annotation that a document can have."""


class Event(NamedTuple):
    """An event in a sentence.

    Attributes:
        trigger: Index of its trigger, a single token.
        type: Its type.
        arguments: First token, last token and role of each argument.
    """

    trigger: int
    type: str
    arguments: list[tuple[int, int, str]]


@dataclass(frozen=True)
class Sentence:
    """A sentence and its annotations. Token indices count from its start; spans include their last token.

    Attributes:
        tokens: Its tokens, at least one.
        ner: First token, last token and type of each entity.
        relations: First and last token of the first span, then of the second, and the type of each relation.
        events: Its events as listed in the file; several may share a trigger.
    """

    tokens: list[str]
    ner: list[tuple[int, int, str]] = field(default_factory=list)
    relations: list[tuple[int, int, int, int, str]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)


@dataclass(frozen=True)
class Document:
    """A document.

    Attributes:
        id: Its ``doc_key``.
        sentences: Its sentences, at least one.
        weight: Factor on its loss.
        layers: The members of ``LAYERS`` that it is annotated with, even if the annotation is that there is nothing.
        record: The JSON object as it was read, with token indices that count from the document's start. Predictions
            are added to it, so that fields that are not used here are kept.
    """

    id: str
    sentences: list[Sentence]
    weight: float = 1.0
    layers: frozenset[str] = frozenset(LAYERS)
    record: dict[str, Any] = field(default_factory=dict)

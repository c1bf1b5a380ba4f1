"""The labels of entities, relations, triggers and arguments: what an event model must know of its data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property

from gradual.tasks.events.documents import Document


@dataclass(frozen=True)
class LabelSpace:
    """The labels that can be predicted, without the null class.

    Labels are sorted and unique, in whatever order they are given: a label has the same position in every process and
    after every restart.

    Attributes:
        ner: Entity types.
        relations: Relation types.
        triggers: Event types, which are the labels of triggers.
        roles: Labels of arguments.
    """

    ner: tuple[str, ...] = ()
    relations: tuple[str, ...] = ()
    triggers: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for kind in fields(self):
            object.__setattr__(self, kind.name, tuple(sorted(set(getattr(self, kind.name)))))

    @classmethod
    def of(cls, *document_lists: Iterable[Document]) -> LabelSpace:
        """Collect all labels in lists of documents, such as the union of in-domain and out-of-domain schemas."""
        sentences = [sentence for documents in document_lists for doc in documents for sentence in doc.sentences]
        events = [event for sentence in sentences for event in sentence.events]
        return cls(
            ner=tuple({entity[-1] for sentence in sentences for entity in sentence.ner}),
            relations=tuple({relation[-1] for sentence in sentences for relation in sentence.relations}),
            triggers=tuple({event.type for event in events}),
            roles=tuple({role for event in events for *_, role in event.arguments}),
        )

    @classmethod
    def from_dict(cls, content: Mapping[str, Iterable[str]]) -> LabelSpace:
        """Rebuild the label space from what ``to_dict`` returned."""
        return cls(**{kind: tuple(labels) for kind, labels in content.items()})

    def to_dict(self) -> dict[str, list[str]]:
        """Return plain data, for configurations and checkpoints."""
        return {kind.name: list(getattr(self, kind.name)) for kind in fields(self)}

    def index(self, kind: str) -> dict[str, int]:
        """Map the labels of a kind to their positions.

        Args:
            kind: ``ner``, ``relations``, ``triggers`` or ``roles``.
        """
        return self._positions[kind]

    def difference(self, other: LabelSpace) -> dict[str, list[str]]:
        """Return the labels that only ``other`` has, by kind, such as ``{"triggers": ["Attack"]}``."""
        lacking = {
            kind: [label for label in labels if label not in self.index(kind)]
            for kind, labels in other.to_dict().items()
        }
        return {kind: labels for kind, labels in lacking.items() if labels}

    @cached_property
    def _positions(self) -> dict[str, dict[str, int]]:
        return {kind: {label: at for at, label in enumerate(labels)} for kind, labels in self.to_dict().items()}


@dataclass(frozen=True)
class EventSpec:
    """What an event model must know of its data.

    Attributes:
        labels: The label space.
        max_span_width: Maximum length of a span in tokens.
        allowed: For each kind of label, which labels each schema allows, as rows of booleans: one row per schema, one
            column per label. Empty if every document may have every label.
    """

    labels: LabelSpace
    max_span_width: int
    allowed: Mapping[str, Sequence[Sequence[bool]]] = field(default_factory=dict)

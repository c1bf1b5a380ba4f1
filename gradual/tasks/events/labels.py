"""The labels of entities, relations, triggers and arguments, and the position of each among a scorer's outputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradual.tasks.events.data import Document


@dataclass(frozen=True)
class LabelSpace:
    """What can be predicted; the null class is not among the labels.

    Each is sorted and without repetitions, whatever the order it is given in: a label's position is the same in every
    process and after every restart.

    Attributes:
        ner: Entity types.
        relations: Relation types.
        triggers: Event types, the labels of triggers.
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
        """All labels that occur in documents: the union of in-domain and out-of-domain schemas, for one."""
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
        """The label space that ``to_dict`` gave."""
        return cls(**{kind: tuple(labels) for kind, labels in content.items()})

    def to_dict(self) -> dict[str, list[str]]:
        """Plain data, for configurations and checkpoints."""
        return {kind.name: list(getattr(self, kind.name)) for kind in fields(self)}

    def index(self, kind: str) -> dict[str, int]:
        """Positions of labels.

        Args:
            kind: ``ner``, ``relations``, ``triggers`` or ``roles``.
        """
        return self._positions[kind]

    def difference(self, other: LabelSpace) -> dict[str, list[str]]:
        """What another label space has that this one lacks, by kind, such as ``{"triggers": ["Attack"]}``."""
        lacking = {
            kind: [label for label in labels if label not in self.index(kind)]
            for kind, labels in other.to_dict().items()
        }
        return {kind: labels for kind, labels in lacking.items() if labels}

    @cached_property
    def _positions(self) -> dict[str, dict[str, int]]:
        return {kind: {label: at for at, label in enumerate(labels)} for kind, labels in self.to_dict().items()}

"""The data of text classification: files of texts, or of pairs of texts, with labels or numbers."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal, get_args

from gradual.data.features import Features
from gradual.data.labels import distinct, in_order, note_labels
from gradual.data.task_files import Role, TaskFileDataModule
from gradual.errors import InputError
from gradual.tasks.text_classification.features import TextCollator, TextFeatures
from gradual.tasks.text_classification.labels import Target, TextSpec


class TextClassificationData(TaskFileDataModule):
    """Texts with a label, with several labels, or with a number.

    What is predicted follows from the label column: text and integers are one label, lists of these (which may be
    empty) are several labels, and numbers with fractions are numbers.

    Args:
        in_domain: Training examples of the target domain.
        text_column: Column of the text; None for ``text``, ``sentence``, ``sentence1`` or ``premise``.
        text_pair_column: Column of a second text; None for ``text_pair``, ``sentence2`` or ``hypothesis`` if there is
            one.
        label_column: Column of the labels; None for ``label`` or ``labels``.
        target: What is predicted: one ``label``, any number of ``labels``, or a ``number``; None to tell from the data.
        out_of_domain_labels: The labels that out-of-domain texts may have: ``all`` labels, or only the pool's ``own``,
            if its annotation scheme lacks the others (footnote 3 of the paper); each named source has its own. Labels
            that a text cannot have are left out of its loss.
        max_padding: Maximum share of padding inside attention; there is none anywhere else in encoders such as BERT
            and RoBERTa.
        **settings: Those of every task, see ``TaskFileDataModule``.
    """

    def __init__(
        self,
        in_domain: str | list[str],
        text_column: str | None = None,
        text_pair_column: str | None = None,
        label_column: str | None = None,
        target: Target | None = None,
        out_of_domain_labels: Literal["all", "own"] = "all",
        max_padding: float = 0.1,
        **settings: Any,
    ):
        roles = (
            Role("text", text_column, ("text", "sentence", "sentence1", "premise"), is_text=True),
            Role("text_pair", text_pair_column, ("text_pair", "sentence2", "hypothesis"), needed=False, is_text=True),
            Role("label", label_column, ("label", "labels"), predicted=True),
        )
        super().__init__(in_domain, roles, **settings)
        self.given_target, self.out_of_domain_labels, self.max_padding = target, out_of_domain_labels, max_padding
        if out_of_domain_labels not in ("all", "own"):
            raise InputError(f"out_of_domain_labels is '{out_of_domain_labels}': it must be all or own.")
        if target not in (None, *get_args(Target)):
            raise InputError(f"target is '{target}': it must be {', '.join(get_args(Target))} or null.")

    @cached_property
    def target(self) -> Target:
        """What is predicted.

        Raises:
            InputError: The label column holds something else.
        """
        kind = self.kind_of("label")
        suits: dict[str, tuple[str, ...]] = {
            "text": ("label",), "integers": ("label", "number"), "numbers": ("number",), "true or false": ("label",),
            "lists of text": ("labels",), "lists of integers": ("labels",), "lists of nothing": ("labels",),
        }  # fmt: skip
        target: Target | None = self.given_target or (suits[kind][0] if kind in suits else None)  # type: ignore[assignment]
        if target is None or target not in suits.get(kind, ()):
            raise InputError(
                f"The column '{self.column_of['label']}' holds {kind}: it must hold text or integers for one label, "
                "lists of these for several labels, or numbers."
                + ("" if target is None else f" The target is {target}.")
            )
        return target

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The labels of all parts, in order; empty for numbers."""
        if self.target == "number":
            return ()
        found = self._labels_by_part
        note_labels(f"Column '{self.column_of['label']}'", found)
        labels = in_order(found.values())
        if not labels:
            raise InputError(f"The column '{self.column_of['label']}' holds no labels.")
        if self.target == "label" and len(labels) == 1:
            raise InputError(f"Every example has the label '{labels[0]}': a classifier needs at least two labels.")
        return labels

    @cached_property
    def _labels_by_part(self) -> dict[str, list[Any]]:
        columns = {part: self.values_of("label", part) for part in self.tables if part != "predict"}
        return {part: distinct(column) for part, column in columns.items() if column is not None}

    @property
    def labels_without_pool(self) -> list[str]:
        """The labels of in-domain training data that no out-of-domain example has; empty for numbers."""
        if self.target == "number":
            return []
        own = {str(label) for part in self.pool_parts for label in self._labels_by_part[part]}
        return sorted({str(label) for label in self._labels_by_part["in_domain"]} - own)

    def features(self, part: str) -> Features:
        """Tokenize texts and number their labels."""
        return TextFeatures(self.fast_tokenizer, self.target, self.labels, self.longest, self.schema_of(part))

    def collator(self) -> TextCollator:
        """Lay out texts without padding."""
        return TextCollator(self.target, len(self.labels), self.max_padding)

    def spec(self) -> TextSpec:
        """Return the labels, and which of them each schema has."""
        domains = self.domains
        allowed: tuple[tuple[bool, ...], ...] = ()
        if self.out_of_domain_labels == "own" and domains.out_of_domain is not None and self.labels:
            owned = [set(map(str, self._labels_by_part[part])) for part in self.pool_parts]
            allowed = ((True,) * len(self.labels), *(tuple(label in own for label in self.labels) for own in owned))
        return TextSpec(self.target, self.labels, allowed, self.padding)

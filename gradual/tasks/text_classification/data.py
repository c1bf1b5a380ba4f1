"""The data of text classification: files of texts, or of pairs of texts, with labels or numbers."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any, Literal, get_args

from gradual.data.features import Features
from gradual.data.labels import distinct, in_order, note_labels
from gradual.data.part_files import expand_parts
from gradual.data.roles import Role
from gradual.data.task_files import TaskFileDataModule
from gradual.errors import InputError
from gradual.logging import note
from gradual.nn.encoder import end_with_decoder
from gradual.tasks.text_classification.features import TextCollator, TextFeatures
from gradual.tasks.text_classification.labels import Target, TextSpec, in_words


class TextClassificationData(TaskFileDataModule):
    """Texts with a label, with several labels, or with a number.

    What is predicted follows from the label column: text and integers are one label, lists of these (which may be
    empty) are several labels, and numbers with fractions are numbers. Where all numbers are whole, but some are written
    as 1.0, ``target`` must say whether they are labels or numbers.

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
            InputError: The label column holds something else, or numbers that may be meant as labels.
        """
        kind = self.kind_of("label")
        suits: dict[str, tuple[str, ...]] = {
            "text": ("label",), "integers": ("label", "number"), "numbers": ("number", "label"),
            "true or false": ("label",),
            "lists of text": ("labels",), "lists of integers": ("labels",), "lists of nothing": ("labels",),
        }  # fmt: skip
        target: Target | None = self.given_target or (suits[kind][0] if kind in suits else None)  # type: ignore[assignment]
        if target is None or target not in suits.get(kind, ()):
            raise InputError(
                f"The column '{self.column_of['label']}' holds {kind}: it must hold text or integers for one label, "
                "lists of these for several labels, or numbers."
                + ("" if target is None else f" The target is {target}.")
            )
        if kind == "numbers" and self.given_target != "number":
            self._check_whole_numbers()
        return target

    def _check_whole_numbers(self) -> None:
        """Check that all are whole if they are labels, and that it is said what they are if all are whole."""
        from gradual.data.tables import place_of, words_for

        column, files = self.column_of["label"], expand_parts(self.files)
        rows = {part: _first_fraction(values) for part, values in self._label_columns.items()}
        fractions = [(part, row) for part, row in rows.items() if row is not None]
        if self.given_target == "label" and fractions:
            part, row = fractions[0]
            raise InputError(
                f"{place_of(files[part], row, column, self._found[part])}: '{column}' is "
                f"{self._label_columns[part][row].as_py()}, but labels must be text or whole numbers (target: label)."
            )
        if self.given_target is None and not fractions:
            paths = [(path, self._found[part]) for part in rows for path in files[part]]
            holds = {words_for(path, column, read): path for path, read in reversed(paths)}  # the first file of each
            others = f" (as 1 in {holds['integers']})" if "integers" in holds else ""
            raise InputError(
                f"{holds['numbers']}: '{column}' holds whole numbers, but written as 1.0{others}: set target to label "
                "if they are labels, or to number if a number is to be predicted."
            )

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The labels of all parts, in order; empty for numbers."""
        if self.target == "number":
            return ()
        labels = in_order(self._labels_by_part.values())
        if not labels:
            raise InputError(f"The column '{self.column_of['label']}' holds no labels.")
        if self.target == "label" and len(labels) == 1:
            raise InputError(f"Every example has the label '{labels[0]}': a classifier needs at least two labels.")
        return labels

    @cached_property
    def _label_columns(self) -> dict[str, Any]:
        columns = {part: self.values_of("label", part) for part in self.tables if part != "predict"}
        return {part: column for part, column in columns.items() if column is not None}

    @cached_property
    def _labels_by_part(self) -> dict[str, list[Any]]:
        whole = self.kind_of("label") == "numbers"
        found = {part: distinct(column) for part, column in self._label_columns.items()}
        return {part: list(map(int, labels)) if whole else labels for part, labels in found.items()}

    @property
    def labels_without_pool(self) -> list[str]:
        """The labels of in-domain training data that no out-of-domain example has; empty for numbers."""
        if self.target == "number":
            return []
        own = {str(label) for part in self.pool_parts for label in self._labels_by_part[part]}
        return sorted({str(label) for label in self._labels_by_part["in_domain"]} - own)

    def features(self, part: str) -> Features:
        """Tokenize texts and number their labels."""
        known = (self.fast_tokenizer, self.target, self.labels, self.longest)
        return TextFeatures(*known, self.schema_of(part), self._end)

    @cached_property
    def _end(self) -> int | None:
        """The token at which the model reads off its result: that of the end, in encoders with a decoder."""
        return end_with_decoder(str(self.tokenizer), self.trust_remote_code)

    def example_settings(self) -> dict[str, Any]:
        """Return what is predicted, the labels of all parts, and which of them the pool may have."""
        own = {"target": self.target, "labels": self.labels, "out_of_domain_labels": self.out_of_domain_labels}
        return {**super().example_settings(), **own}

    def collator(self) -> TextCollator:
        """Lay out texts without padding."""
        self._say_what_was_found()
        return TextCollator(self.target, len(self.labels), self.max_padding)

    def spec(self) -> TextSpec:
        """Return the labels, and which of them each schema has."""
        domains = self.domains
        allowed: tuple[tuple[bool, ...], ...] = ()
        if self.out_of_domain_labels == "own" and domains.out_of_domain is not None and self.labels:
            owned = [set(map(str, self._labels_by_part[part])) for part in self.pool_parts]
            allowed = ((True,) * len(self.labels), *(tuple(label in own for label in self.labels) for own in owned))
        return TextSpec(self.target, self.labels, allowed, self.padding)

    def _say_what_was_found(self) -> None:
        """Log what is predicted, and the labels that not all parts have."""
        name = f"Column '{self.column_of['label']}'"
        if self.target == "number":
            note("%s: %s, from %g to %g.", name, in_words(self.target, 0), *_range(self._label_columns.values()))
            return
        note("%s: %s.", name, in_words(self.target, len(self.labels)))
        note_labels(name, self._labels_by_part)


def _first_fraction(column: Any) -> int | None:
    """The place of the first number of a column that is not whole; None if there is none."""
    import pyarrow.compute as pc

    at = pc.index(pc.and_(pc.is_finite(column), pc.equal(pc.floor(column), column)), False).as_py()
    return None if at < 0 else int(at)


def _range(columns: Iterable[Any]) -> tuple[float, float]:
    """The smallest and the largest number of some columns."""
    import pyarrow.compute as pc

    both = [pc.min_max(column).as_py() for column in columns]
    return min(each["min"] for each in both), max(each["max"] for each in both)

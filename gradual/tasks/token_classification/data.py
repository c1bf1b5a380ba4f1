"""The data of tagging: files of sentences, whose words have tags."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import Any, Literal

from lightning.pytorch.utilities import rank_zero_only

from gradual.data.features import Features
from gradual.data.labels import distinct, in_order, note_labels
from gradual.data.part_files import expand
from gradual.data.roles import Role
from gradual.data.task_files import TaskFileDataModule
from gradual.errors import InputError
from gradual.logging import note
from gradual.nn.encoder import load_tokenizer
from gradual.tasks.token_classification.features import TagCollator, TagFeatures
from gradual.tasks.token_classification.labels import TagSpec
from gradual.tasks.token_classification.spans import OUTSIDE, SchemeEvidence, are_spans, parse_tag
from gradual.tasks.token_classification.tag_columns import find_scheme, tags_in

log = logging.getLogger(__name__)

_TAGS = ("tags", "ner_tags", "upos", "pos_tags", "labels", "xpos", "chunk_tags")


class TokenClassificationData(TaskFileDataModule):
    """Sentences whose words have tags, in any format of ``FileDataModule``; an amount counts sentences.

    Tags describe spans if all of them are ``O`` or begin with ``B-``, ``I-`` and so on. Their scheme (IOB1, IOB2, BIOES
    or BILOU) is found from the tags. Parts in another scheme than ``in_domain`` are rewritten in its scheme, which
    changes no span.

    Args:
        in_domain: Training examples of the target domain.
        tokens_column: Column of the words, lists of text; None for ``tokens``, ``words`` or ``form``. In CoNLL files,
            ``tokens`` is the first one.
        tags_column: Column of their tags, lists of text or integers; None for ``tags``, ``ner_tags``, ``upos``,
            ``pos_tags``, ``labels``, ``xpos`` or ``chunk_tags``. In CoNLL files, ``tags`` is the last one, and each has
            its number, from 1.
        spans: Whether tags describe spans; None to tell from the tags.
        out_of_domain_labels: The tags that out-of-domain words may have: ``all`` tags, or only the pool's ``own``, if
            its annotation scheme lacks the others (footnote 3 of the paper); for spans, all tags of the types that it
            has. Each named source has its own. Tags that a word cannot have are left out of its loss.
        max_padding: Maximum share of padding inside attention; there is none anywhere else in encoders such as BERT
            and RoBERTa.
        **settings: Those of every task, see ``TaskFileDataModule``. Sentences with more than ``max_length`` word pieces
            are read in overlapping windows.
    """

    def __init__(
        self,
        in_domain: str | list[str],
        tokens_column: str | None = None,
        tags_column: str | None = None,
        spans: bool | None = None,
        out_of_domain_labels: Literal["all", "own"] = "all",
        max_padding: float = 0.1,
        **settings: Any,
    ):
        roles = (
            Role("tokens", tokens_column, ("tokens", "words", "form")),
            Role("tags", tags_column, _TAGS, predicted=True),
        )
        super().__init__(in_domain, roles, **settings)
        self.given_spans, self.out_of_domain_labels, self.max_padding = spans, out_of_domain_labels, max_padding
        if out_of_domain_labels not in ("all", "own"):
            raise InputError(f"out_of_domain_labels is '{out_of_domain_labels}': it must be all or own.")

    def load_tokenizer(self) -> Any:
        """Load the tokenizer, for words."""
        return load_tokenizer(str(self.tokenizer or ""), words=True, trust_remote_code=self.trust_remote_code)

    @cached_property
    def spans(self) -> bool:
        """Whether tags describe spans.

        Raises:
            InputError: Some tags do, and others do not.
        """
        if self.given_spans is False:
            return False
        tags = {tag for found in self._tags_as_read.values() for tag in found}
        if are_spans(tags):
            return True
        typed = sorted(tag for tag in tags if len(tag) > 1 and parse_tag(tag) is not None)
        if self.given_spans is None and (OUTSIDE not in tags or not typed):
            return False
        wrong = sorted(tag for tag in tags if tag != OUTSIDE and (parse_tag(tag) is None or len(tag) == 1))
        if not wrong:
            raise InputError(f"The column '{self.column_of['tags']}' has no tags of spans such as 'B-PER'.")
        part = next(part for part, found in self._tags_as_read.items() if wrong[0] in found)
        raise InputError(
            f"{part} ({self._first_file(part)}) has the tag '{wrong[0]}', but tags of spans must be O or begin with "
            f"B-, I-, E- or S-{f', as {typed[0]!r} does' if typed else ''}; for tags that describe no spans, set "
            "--data.spans to false."
        )

    @cached_property
    def scheme(self) -> str | None:
        """The scheme of the in-domain spans, in which all are written; None for tags that describe no spans."""
        return self._evidence["in_domain"].scheme if self.spans else None

    @cached_property
    def tags(self) -> tuple[str, ...]:
        """The tags of all parts, in order."""
        numbers = self.kind_of("tags") == "lists of integers"
        tags = in_order(map(int, found) if numbers else found for found in self._tags.values())
        if not tags:
            raise InputError(f"The column '{self.column_of['tags']}' holds no tags.")
        return tags

    @cached_property
    def _tags_as_read(self) -> dict[str, list[str]]:
        """The tags of each part."""
        self._check_kinds()
        columns = {part: self.values_of("tags", part) for part in self.tables if part != "predict"}
        return {part: list(map(str, distinct(column))) for part, column in columns.items() if column is not None}

    @cached_property
    def _evidence(self) -> dict[str, SchemeEvidence]:
        return {part: find_scheme(self.values_of("tags", part), tags) for part, tags in self._tags_as_read.items()}

    @cached_property
    def _tags(self) -> dict[str, list[str]]:
        """The tags of each part, in the scheme of all."""
        return {
            part: tags_in(str(self.scheme), self.values_of("tags", part), tags) if self._is_rewritten(part) else tags
            for part, tags in self._tags_as_read.items()
        }

    def _is_rewritten(self, part: str) -> bool:
        if self.scheme is None or part not in self._evidence:
            return False
        evidence = self._evidence[part]
        return evidence.scheme != self.scheme and bool(evidence.letters - {OUTSIDE})

    def features(self, part: str) -> Features:
        """Split words into word pieces and number their tags."""
        return TagFeatures(
            self.fast_tokenizer,
            self.tags if part in self._tags else (),
            self.longest,
            schema=self.schema_of(part),
            scheme=self.scheme if self._is_rewritten(part) else None,
            keep_words=part in ("test", "predict"),
        )

    def example_settings(self) -> dict[str, Any]:
        """Return whether tags describe spans, the tags of all parts, and which of them the pool may have."""
        own = {"spans": self.spans, "labels": self.tags, "out_of_domain_labels": self.out_of_domain_labels}
        return {**super().example_settings(), **own}

    def collator(self) -> TagCollator:
        """Lay out sentences without padding."""
        self._say_what_was_found()
        return TagCollator(self.max_padding)

    def spec(self) -> TagSpec:
        """Return the tags, and which of them each schema has."""
        domains = self.domains
        allowed: tuple[tuple[bool, ...], ...] = ()
        if self.out_of_domain_labels == "own" and domains.out_of_domain is not None:
            owned = [set(map(self._type, self._tags[part])) for part in self.pool_parts]
            by_source = (tuple(self._type(tag) in own for tag in self.tags) for own in owned)
            allowed = ((True,) * len(self.tags), *by_source)
        return TagSpec(self.tags, self.spans, allowed, self.padding)

    @property
    def labels_without_pool(self) -> list[str]:
        """The tags, or types of spans, of in-domain training data that no out-of-domain example has."""
        own = {self._type(tag) for part in self.pool_parts for tag in self._tags[part]}
        lacking = {self._type(tag) for tag in self._tags["in_domain"]} - own
        return sorted(type_.removeprefix("-") if self.spans else type_ for type_ in lacking)

    def _type(self, tag: str) -> str:
        """Return what a schema has or lacks: the type of a span's tag, or the tag."""
        parsed = parse_tag(tag) if self.spans and tag != OUTSIDE else None
        return tag if parsed is None else f"-{parsed[1]}"

    def _check_kinds(self) -> None:
        for role, kinds in (("tokens", ("lists of text",)), ("tags", ("lists of text", "lists of integers"))):
            kind = self.kind_of(role)
            if kind not in kinds:
                raise InputError(
                    f"The column '{self.column_of[role]}' holds {kind}: it must hold {' or '.join(kinds)}, a list for "
                    "each sentence."
                )

    def _say_what_was_found(self) -> None:
        """Log what the tags are, and what may be wrong with them."""
        name = f"Column '{self.column_of['tags']}'"
        if not self.spans:
            note("%s: %d tags, each scored by itself.", name, len(self.tags))
            note_labels(name, self._tags)
            return
        types = {part: {self._type(tag)[1:] for tag in tags if tag != OUTSIDE} for part, tags in self._tags.items()}
        note("%s: spans of %d types in %s.", name, len(set().union(*types.values())), self.scheme)
        note_labels(f"{name}, types of spans", types)
        for part, evidence in self._evidence.items():
            if self._is_rewritten(part):
                note("%s has its spans in %s, and is read in %s.", part, evidence.scheme, self.scheme)
            if evidence.broken:
                rank_zero_only(log.warning)(
                    "%s (%s): %d tags break the rules of %s; spans are read as conlleval reads them.",
                    *(part, self._first_file(part), evidence.broken, evidence.scheme),
                )

    def _first_file(self, part: str) -> Any:
        return expand(part, self.files[part] or ())[0]

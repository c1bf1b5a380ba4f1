"""Pairs of texts to features: sources and targets as token ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from gradual.data.features import LENGTH, Features, RowError
from gradual.tasks.special_tokens import MARKERS, markers_of


@dataclass(frozen=True)
class PairFeatures(Features):
    """Tokenizes sources and targets, each with the special tokens that the tokenizer adds to it.

    Attributes:
        prefix: The text before each source.
        longest_source: Maximum number of tokens of a source, prefix included; None for no limit.
        longest_target: Maximum number of tokens of a target; None for no limit.
        answers: Whether to keep the targets as text, to compare generated texts with them.
    """

    version: ClassVar[int] = 2

    prefix: str
    longest_source: int | None
    longest_target: int | None
    answers: bool

    def __call__(self, rows: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        """Return ``input_ids``, and whether each source was ``cut``; its length is that of source and target.

        With targets, also ``labels``, whether each target was cut as ``target_cut``, the special tokens in it as
        ``markers`` and, if wanted, ``answer``.
        """
        sources = [self.prefix + text for text in rows["source"]]
        ids, cut = self._tokens("source", {"text": sources}, self.longest_source)
        found: dict[str, list[Any]] = {"input_ids": ids, "cut": cut}
        if "target" in rows:
            targets: list[str] = rows["target"]
            found["labels"], found["target_cut"] = self._tokens("target", {"text_target": targets}, self.longest_target)
            found[MARKERS] = markers_of(self.tokenizer, targets)
            if self.answers:
                found["answer"] = targets
        both = zip(ids, found.get("labels", [()] * len(ids)))
        return {**found, LENGTH: [len(source) + len(target) for source, target in both]}

    def key(self) -> dict[str, Any]:
        """Return what identifies the features; the language of targets is none of the tokenizer's own state."""
        return {**super().key(), "target_language": getattr(self.tokenizer, "tgt_lang", None)}

    def _tokens(
        self, what: str, texts: dict[str, list[str]], longest: int | None
    ) -> tuple[list[list[int]], list[bool]]:
        """Return the tokens of each text, and whether it was cut."""
        encoded = self.tokenizer(
            **texts,
            truncation=longest is not None,
            max_length=longest,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        ids: list[list[int]] = encoded["input_ids"]
        for position, tokens in enumerate(ids):
            if not tokens:
                raise RowError(position, f"the {what} has no tokens")
        return ids, [bool(one.overflowing) for one in encoded.encodings]

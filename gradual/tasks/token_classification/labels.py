"""What a tagger must know of its data: the tags, and whether they describe spans."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TagSpec:
    """What a tagger must know of its data.

    Attributes:
        tags: The tags, in the order of the model's outputs.
        spans: Whether they describe spans, as ``B-PER`` does.
        allowed: Which tags each schema has, a row of booleans per schema; empty if every word may have every tag.
        padding: The id of the token that fills up a batch.
    """

    tags: tuple[str, ...]
    spans: bool
    allowed: tuple[tuple[bool, ...], ...] = ()
    padding: int = 0

"""What a text classifier must know of its data: what is predicted, and the labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Target = Literal["label", "labels", "number"]


@dataclass(frozen=True)
class TextSpec:
    """What a text classifier must know of its data.

    Attributes:
        target: What is predicted: one ``label``, any number of ``labels``, or a ``number``.
        labels: The labels, in the order of the model's outputs; empty for a number.
        allowed: Which labels each schema has, a row of booleans per schema; empty if every example may have every
            label.
        padding: The id of the token that fills up a batch.
    """

    target: Target
    labels: tuple[str, ...] = ()
    allowed: tuple[tuple[bool, ...], ...] = ()
    padding: int = 0

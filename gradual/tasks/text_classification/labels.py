"""What a text classifier must know of its data: what is predicted, and the labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

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


def name_of(value: Any) -> str:
    """The name of a label as files have it; a whole number with a decimal point is the integer that it equals."""
    return str(int(value)) if isinstance(value, float) else str(value)


def in_words(target: Target, labels: int) -> str:
    """Say what is predicted, given the number of labels that there are."""
    return {"label": f"one of {labels} labels", "labels": f"any of {labels} labels", "number": "a number"}[target]

"""Features: what a model reads of an example, computed from rows of a table once and then kept in the cache."""

from __future__ import annotations

import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

LENGTH = "length"
"""The column with the number of tokens of each example."""


class RowError(Exception):
    """A row that has no features; the message is to follow the row's place in its file.

    Args:
        position: The position of the row among those given, counted from 0.
        problem: What is wrong with it, such as "has 3 tokens, but 4 tags".
    """

    def __init__(self, position: int, problem: str):
        super().__init__(position, problem)  # both, so that it survives the way out of another process
        self.position, self.problem = position, problem


@dataclass(frozen=True)
class Features(ABC):
    """Turns rows into features.

    A task derives a dataclass from this one, whose fields are all that the features depend on besides the rows: plain
    data and a tokenizer. Features are kept on disk and found again by the content of the files and by these fields, so
    ``version`` must be increased whenever ``__call__`` returns something else for the same rows and fields.

    Attributes:
        tokenizer: A fast tokenizer.
    """

    version: ClassVar[int] = 1

    tokenizer: Any

    @abstractmethod
    def __call__(self, rows: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        """Return the features of some rows, by name: one value per row, a number, a text, or a list of these.

        Called with up to a thousand rows at a time, in several processes. The number of tokens of each row is that of
        ``input_ids``; features without these must have it under ``LENGTH``.

        Args:
            rows: The values of each column, one per row.

        Raises:
            RowError: A row has no features.
        """

    def key(self) -> dict[str, Any]:
        """Return what identifies the features, as plain data."""
        fields = {field.name: plain_tokenizer(getattr(self, field.name)) for field in dataclasses.fields(self)}
        return {"class": f"{type(self).__module__}.{type(self).__qualname__}", "version": self.version, **fields}


_OF_THE_TOKENIZER = ("truncation_side", "model_input_names", "split_special_tokens")  # not of its backend


def tokenizer_key(tokenizer: Any) -> dict[str, Any]:
    """Return what identifies a tokenizer's results, as plain data."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    own = {name: getattr(tokenizer, name, None) for name in _OF_THE_TOKENIZER}
    return {name: value for name, value in state.items() if name not in ("truncation", "padding")} | own


def plain_tokenizer(value: Any) -> Any:
    """Return a value as it is, or of a tokenizer all that its results depend on, as plain data."""
    if hasattr(value, "backend_tokenizer"):
        return [tokenizer_key(value), value.chat_template, {k: str(v) for k, v in value.special_tokens_map.items()}]
    return value

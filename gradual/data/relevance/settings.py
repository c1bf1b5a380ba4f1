"""The setting ``order`` of data modules: the order in which the pool is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gradual.checks import check_fields, number
from gradual.config_dataclasses import as_plain, from_mapping
from gradual.errors import InputError

By = Literal["uniform", "embedding", "classifier", "ngrams", "column"]

_RELEVANCE = "relevance"
_DEFAULT = "embedding"


@dataclass(frozen=True)
class Order:
    """The order in which the pool is kept: a stage has the first examples of it.

    Examples that are equally relevant are in uniform order, from the seed.

    Attributes:
        by: ``uniform``, the paper's, in which every example is equally likely to come next; or what the relevance of an
            example is measured by. ``embedding``: the cosine of its mean hidden state, the last layer's over all
            tokens, to the mean of those of the in-domain data (Aharoni and Goldberg, 2020). ``classifier``: the
            log-odds of a logistic regression on hashed n-grams that tells in-domain data from the pool, in five parts,
            each scored by a model that has not seen it. ``ngrams``: the mean log importance weight of its hashed
            n-grams (Xie et al., 2023). ``column``: a column of the pool, the most relevant examples have the highest
            numbers.
        column: The column of ``column``.
        encoder: The encoder of ``embedding``, a folder or a name on the hub; None for the one that the tokenizer
            belongs to, on the command line the model's own.
        noise: How much chance is mixed in, from the seed: the factor of Gumbel noise that is added to the scores, in
            their standard deviations. 0 is none, and 1 about as much as the examples differ.
    """

    by: By = "uniform"
    column: str | None = None
    encoder: str | None = None
    noise: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self, "order.{}", noise=number(0))
        for name, needed in (("column", "column"), ("encoder", "embedding")):
            if getattr(self, name) is not None and self.by != needed:
                raise InputError(f"order.{name} is set, but only an order by {needed} has it.")
        if self.by == "column" and not self.column:
            raise InputError("order.column is not set: name the column that the pool is ordered by.")
        if self.by == "uniform" and self.noise:
            raise InputError("order.noise is set, but a uniform order is chance alone.")

    @classmethod
    def of(cls, given: Order | Mapping[str, Any] | str) -> Order:
        """Read the setting: a mapping, or what the order is ``by``; ``relevance`` stands for ``embedding``.

        Raises:
            InputError: A setting is wrong.
        """
        if isinstance(given, Order):
            return given
        if isinstance(given, str):
            return cls(_DEFAULT if given == _RELEVANCE else given)  # type: ignore[arg-type]
        settings = {**given, "by": _DEFAULT} if given.get("by", _RELEVANCE) == _RELEVANCE else given
        order: Order = from_mapping(cls, settings, "order")
        return order

    @property
    def is_uniform(self) -> bool:
        """Whether it is the paper's."""
        return self.by == "uniform"

    def to_plain(self) -> dict[str, Any]:
        """The settings as plain data."""
        return as_plain(self)

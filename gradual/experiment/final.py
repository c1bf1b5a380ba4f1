"""The result of a path: its last stage, its best stage on validation, or the average of its stages' weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gradual.checks import found, integer
from gradual.errors import InputError
from gradual.schedule import Stage

_ACCEPTED = "it must be last, best, average, or {average: 2} for the average from stage 2 on"


@dataclass(frozen=True)
class Final:
    """What the result of a path is.

    Attributes:
        kind: ``last``: its last stage; ``best``: the stage with the best monitored validation score, the last of
            equals; ``average``: the mean of the weights of its stages, which is validated and tested as a stage is.
        first: The first stage of an average, counted from 1. A path that has no stage after it has no average, and its
            last stage as its result.
    """

    kind: Literal["last", "best", "average"] = "last"
    first: int = 1

    @classmethod
    def read(cls, given: Any) -> Final:
        """Read ``last``, ``best``, ``average`` or ``{"average": 2}``.

        Raises:
            InputError: It is none of these.
        """
        if isinstance(given, Final):
            return given
        if isinstance(given, Mapping) and set(given) == {"average"}:
            return cls("average", int(integer(1).check("final, average", given["average"])))
        if isinstance(given, str) and given in ("last", "best", "average"):
            return cls(given)  # type: ignore[arg-type]
        raise InputError(f"final is {found(given)}: {_ACCEPTED}.")

    def to_plain(self) -> Any:
        """The same as plain data, as ``read`` accepts it."""
        return {"average": self.first} if self.kind == "average" else self.kind

    def averages(self, stages: Sequence[Any]) -> bool:
        """Whether the result of a path of these stages is an average of several."""
        return self.kind == "average" and self.first < len(stages)

    def check(self, stages: Sequence[Stage]) -> None:
        """Check that a path can have this result.

        Raises:
            InputError: Its average would mix adapters of different weights.
        """
        for number, stage in enumerate(stages, start=1) if self.averages(stages) else ():
            if number > self.first and stage.adapter == "merge":
                raise InputError(
                    f"final: average from stage {self.first} on would mix adapters of different weights, since stage "
                    f"{number} merges the adapter before it (adapter: merge): average from stage {number} on, or use "
                    "adapter: continue."
                )


LAST = Final()

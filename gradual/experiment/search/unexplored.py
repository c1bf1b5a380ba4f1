"""Which paths of a search are left: those that have not ended, and are no continuation of one that has.

A sampler chooses what it has found to be good again and again, and what was pruned, too. A path for which nothing was
trained is therefore followed by one that is chosen from what is left.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

from gradual.experiment.search.space import Choice, Space

Path = tuple[Choice, ...]


class Unexplored:
    """What is left of a space.

    Args:
        space: The space.
        ended: The paths that have ended: with in-domain data alone, pruned or collapsed.
    """

    def __init__(self, space: Space, ended: Collection[Path]):
        self._space, self._ended = space, set(ended)
        self._begun = {path[:k] for path in self._ended for k in range(len(path))}

    def after(self, path: Sequence[Choice]) -> list[Choice]:
        """The choices after ``path`` that lead to a path that is left; none if ``path`` itself has ended."""
        if tuple(path) in self._ended:
            return []
        choices = self._space.choices(path)
        if tuple(path) not in self._begun:
            return list(choices)
        return [choice for choice in choices if self._is_left((*path, choice))]

    def _is_left(self, path: Path) -> bool:
        if path in self._ended:
            return False
        return path not in self._begun or bool(self.after(path))


def draw(choices: Sequence[Choice], seed: int) -> Choice:
    """Draw one of several choices: its factor first, then whether to end, then the amount, each with equal chances."""
    generator = random.Random(seed)
    factor = generator.choice(sorted({choice.factor for choice in choices}))
    ends = generator.choice(sorted({choice.amount == 0 for choice in choices if choice.factor == factor}))
    drawn = [choice for choice in choices if choice.factor == factor and (choice.amount == 0) == ends]
    return generator.choice(drawn)

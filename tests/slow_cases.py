"""Parametrized tests of which some cases run with the fast tests and the others with the slow ones."""

from collections.abc import Iterable
from typing import Any

import pytest


def fast_one_in(number: int, cases: Iterable[Any]) -> list[Any]:
    """The first case and every ``number``-th after it as they are, and the others marked as slow."""
    sets = [pytest.param(*(case if isinstance(case, tuple) else (case,))) for case in cases]
    return [one if n % number == 0 else one._replace(marks=[pytest.mark.slow]) for n, one in enumerate(sets)]

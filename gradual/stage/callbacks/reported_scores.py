"""Early check that the scores requested for a report are logged at all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence

from lightning.pytorch import Callback, LightningModule, Trainer

from gradual.errors import InputError, did_you_mean
from gradual.logging import say_once
from gradual.runs.result import StageResult
from gradual.score_names import without_split


class ReportedScores(Callback):
    """Refuses the names of scores that are never logged, as soon as this is known.

    If there is no test, this is after the first validation. Otherwise it is after the stage, since the test may log
    scores that validation does not; the first validation then only warns of names that it does not log.

    Args:
        names: The scores, without the split in their names.
        tested: Whether each stage ends with a test.
        known: Returns the names that other stages have logged.
    """

    def __init__(self, names: Sequence[str], tested: bool, known: Callable[[], Collection[str]]):
        self._names, self._tested, self._known = names, tested, known
        self._looked = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the names after the first validation."""
        if self._looked or trainer.sanity_checking or trainer.state.fn != "fit":
            return
        self._looked = True
        logged = {*map(without_split, trainer.callback_metrics), *self._known()}
        if not self._tested:
            check_logged(self._names, logged)
        elif missing := _missing(self._names, logged):
            say_once(logging.WARNING, f"{missing} Unless the test logs it, the run will end after this stage.")

    def finished(self, result: StageResult) -> None:
        """Check the names after a stage.

        Raises:
            InputError: One of the scores has never been logged.
        """
        check_logged(self._names, names_in([result]) | set(self._known()))


def check_logged(names: Iterable[str], logged: Collection[str]) -> None:
    """Check that all requested scores are logged.

    Raises:
        InputError: One is not; the message suggests the most similar name.
    """
    if missing := _missing(names, logged):
        raise InputError(f"{missing} What has been trained so far is kept.")


def names_in(results: Iterable[StageResult]) -> set[str]:
    """The names of all scores of the results."""
    return {name for result in results for name in (*result.val, *result.test)}


def _missing(names: Iterable[str], logged: Collection[str]) -> str:
    unknown = [name for name in names if name not in logged]
    if not unknown:
        return ""
    hint = did_you_mean(unknown[0], logged)
    names = f"the names logged are {', '.join(sorted(logged))}" if logged else "nothing is logged"
    return f"metrics contains '{unknown[0]}', which is not logged; {names}.{hint}"

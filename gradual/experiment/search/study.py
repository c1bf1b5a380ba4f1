"""The trials of a search, in Optuna: one trial is one path.

Optuna chooses and prunes; what a path costs and scores comes from the stages on disk. All trials are kept in a journal
in the run directory. A search that was killed goes on with the trials that it had begun, and makes the choices that it
would have made: the sampler of each choice is made for it, with a seed of its own.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradual.checks import did_you_mean
from gradual.data.order import derive_seed
from gradual.errors import InputError
from gradual.experiment.search.settings import SearchConfig
from gradual.experiment.search.space import Choice

if TYPE_CHECKING:
    import optuna

_NAME = "gradual"
_PATH, _PAYS = "path", "pays for"  # the stages of a trial, and those that were trained for it
FINISHED, PRUNED, FAILED, UNFINISHED = "finished", "pruned", "failed", "unfinished"


class Trial:
    """The trial of one path.

    Args:
        study: Its study.
        number: Its number, counted from 0.
    """

    def __init__(self, study: Study, number: int):
        self.number, self._study = number, study

    def suggests(self, k: int, fixed: Mapping[str, Any] | None = None) -> optuna.Trial:
        """What makes the choices for the ``k``-th stage; those that were made before are repeated.

        Args:
            k: Counted from 1.
            fixed: Choices that are made already, by name.
        """
        return self._study.live(self.number, k, fixed)

    def report(self, step: int, score: float) -> None:
        """Report the validation score after the last stage that was trained, at a step of the pruner's."""
        if step not in self._frozen().intermediate_values:
            self._study.live(self.number, 0).report(score, step)

    def should_be_pruned(self) -> bool:
        """Whether the path is to end early, since it is worse at its last step than others were."""
        return self._study.live(self.number, 0).should_prune()

    @property
    def paid(self) -> list[str]:
        """The folders of the stages that were trained for it."""
        return list(self._frozen().user_attrs.get(_PAYS, []))

    @property
    def choices(self) -> list[Choice]:
        """The stages of its path that are chosen."""
        return [Choice(int(amount), float(factor)) for amount, factor in self._frozen().user_attrs.get(_PATH, [])]

    def choose(self, choice: Choice) -> None:
        """Record the choice of the next stage."""
        path = [[one.amount, one.factor] for one in (*self.choices, choice)]
        self._study.live(self.number, 0).set_user_attr(_PATH, path)

    def pay(self, folder: str) -> None:
        """Record that a stage is trained for it, before that begins."""
        if folder not in self.paid:
            self._study.live(self.number, 0).set_user_attr(_PAYS, [*self.paid, folder])

    def finish(self, score: float) -> None:
        """End the trial with the score of its path."""
        self._study.tell(self.number, score)

    def prune(self) -> None:
        """End the trial early."""
        self._study.tell(self.number, None)

    def fail(self) -> None:
        """End the trial, whose path has no score."""
        self._study.tell(self.number, math.nan)

    @property
    def score(self) -> float | None:
        """The score that it was finished with; None for a trial that was not."""
        frozen = self._frozen()
        return frozen.value if frozen.state.name == "COMPLETE" else None

    @property
    def state(self) -> str:
        """``FINISHED``, ``PRUNED``, ``FAILED`` or ``UNFINISHED``."""
        name = self._frozen().state.name
        return {"COMPLETE": FINISHED, "PRUNED": PRUNED, "FAIL": FAILED}.get(name, UNFINISHED)

    def _frozen(self) -> optuna.trial.FrozenTrial:
        return self._study.frozen(self.number)


class Study:
    """All trials of a search.

    Args:
        journal: The file that keeps them.
        config: The settings of the search.
        mode: ``min`` or ``max``: which scores are better.
        seed: The seed of the samplers.
        first: The choices of the first trial; None to leave them to the sampler.

    Raises:
        InputError: Optuna is not installed, or there is no such sampler or pruner.
    """

    def __init__(self, journal: Path, config: SearchConfig, mode: str, seed: int, first: Mapping[str, Any] | None):
        try:
            import optuna
        except ImportError:
            raise InputError("Optuna is not installed: pip install 'gradual[search]'.") from None
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._optuna, self._config, self._seed = optuna, config, seed
        _mend(journal)
        pruner = optuna.pruners.NopPruner()
        if config.pruner is not None:
            pruner = _make(optuna.pruners, "pruner", config.pruner, config.pruner_args)
        self._storage = JournalStorage(JournalFileBackend(str(journal)))
        self._study = optuna.create_study(
            storage=self._storage,
            study_name=_NAME,
            sampler=self._sampler(0, 0),
            pruner=pruner,
            direction="minimize" if mode == "min" else "maximize",
            load_if_exists=True,
        )
        if first is not None and not self._study.get_trials(deepcopy=False):
            self._study.enqueue_trial(dict(first))

    def begin(self) -> Trial:
        """Begin a new trial."""
        return Trial(self, self._study.ask().number)

    def trials(self) -> list[Trial]:
        """All trials that have begun."""
        waiting = self._optuna.trial.TrialState.WAITING
        return [Trial(self, one.number) for one in self._study.get_trials(deepcopy=False) if one.state != waiting]

    def frozen(self, number: int) -> optuna.trial.FrozenTrial:
        """What is kept of a trial."""
        return self._study.get_trials(deepcopy=False)[number]

    def live(self, number: int, k: int, fixed: Mapping[str, Any] | None = None) -> optuna.Trial:
        """A trial that has not ended, with the sampler of its ``k``-th choice."""
        sampler = self._sampler(number, k)
        if fixed:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it is experimental
                sampler = self._optuna.samplers.PartialFixedSampler(dict(fixed), sampler)
        self._study.sampler = sampler
        study = self._storage.get_study_id_from_name(_NAME)
        return self._optuna.Trial(self._study, self._storage.get_trial_id_from_study_id_trial_number(study, number))

    def tell(self, number: int, score: float | None) -> None:
        """End a trial: None for one that is pruned, and a score that is not finite for one that failed."""
        states = self._optuna.trial.TrialState
        if score is None:
            self._study.tell(number, state=states.PRUNED)
        elif math.isfinite(score):
            self._study.tell(number, score)
        else:
            self._study.tell(number, state=states.FAIL)

    def _sampler(self, number: int, k: int) -> Any:
        arguments = dict(self._config.sampler_args)
        cls, seed = (
            _class(self._optuna.samplers, "sampler", self._config.sampler),
            derive_seed(self._seed, "search", number, k),
        )
        if "seed" in inspect.signature(cls).parameters:
            arguments.setdefault("seed", seed)
        return _make(self._optuna.samplers, "sampler", self._config.sampler, arguments)


def _class(module: Any, what: str, name: str) -> Any:
    known = [one for one in module.__all__ if one.lower().endswith(what) and not one.startswith("Base")]
    if name not in known:
        listed, hint = ", ".join(known), did_you_mean(name, known)
        raise InputError(f"search.{what} is {name!r}: it must be a class of optuna.{what}s, {listed}.{hint}")
    return getattr(module, name)


def _make(module: Any, what: str, name: str, arguments: Mapping[str, Any]) -> Any:
    cls = _class(module, what, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of options that are experimental
            return cls(**arguments)
    except (TypeError, ValueError, ImportError) as error:
        raise InputError(f"search.{what}_args: {name} cannot be made: {' '.join(str(error).split())}.") from error


def _mend(journal: Path) -> None:
    """Remove what a process that was killed may have left: its lock, and a last line that was not written whole."""
    Path(f"{journal}.lock").unlink(missing_ok=True)  # the run directory is held: no other process has it
    if journal.exists():
        content = journal.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            journal.write_bytes(whole)

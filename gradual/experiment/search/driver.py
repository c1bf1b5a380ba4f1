"""A search from its first stage to the confirmation of what it has found."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_only

from gradual.errors import InputError
from gradual.experiment.arguments import SEEDS
from gradual.experiment.controls import CONTROLS, with_controls
from gradual.experiment.driver import claim_run, compare_tree, plan_tree
from gradual.experiment.executors import Pool, pooled
from gradual.experiment.experiment import Experiment
from gradual.experiment.search.growth import SEARCH, Growth
from gradual.experiment.search.identity import identity_of_search
from gradual.experiment.search.record import CONFIRM, Record, best_trial
from gradual.experiment.search.settings import BudgetUnit, SearchConfig
from gradual.experiment.search.space import Space
from gradual.experiment.search.study import Study
from gradual.experiment.strategies import Strategy
from gradual.logging import note, quiet, saying_anew
from gradual.report import write_search
from gradual.runs.directory import RunDirectory
from gradual.schedule import Schedule
from gradual.stage.interruption import interruptible
from gradual.stage.trainer import trainer_errors

DEFAULT, FOUND = "default schedule", "searched schedule"
"""The strategies of the confirmation."""


@dataclass(frozen=True)
class SearchResult:
    """What a search has found.

    Attributes:
        schedule: The best schedule on validation.
        score: Its monitored validation score, by which it was chosen: too good as an estimate, as it is the best of
            many. The report has its scores under fresh seeds.
        spent: What was trained, in the unit of the budget.
        page: The report's page.
    """

    schedule: Schedule
    score: float
    spent: int
    page: Path


@dataclass(frozen=True)
class Claims:
    """How run directories are claimed.

    Attributes:
        trainer: The Trainer's arguments.
        text: Returns the ``config.yaml`` to write, for the class of the model.
        arguments: The arguments that a configuration makes ``model`` and ``data`` with.
    """

    trainer: dict[str, Any]
    text: Callable[[type[Any]], str]
    arguments: dict[str, dict[str, Any]] | None = None

    def claim(self, experiment: Experiment, tree: Any, search: Mapping[str, Any] | None = None) -> None:
        """Make the run directory of an experiment its own, or that of a search."""
        claim_run(experiment, tree, self.trainer, self.text, self.arguments, search)


@interruptible()
@quiet()
@saying_anew()
def search_tree(
    experiment: Experiment,
    schedule: Schedule,
    config: SearchConfig,
    budget: float,
    unit: BudgetUnit,
    pool: Pool,
    jobs: int,
    claims: Claims,
    confirm_seeds: list[int],
) -> Growth:
    """Grow the tree of a search in a run directory that is held, or go on with it.

    Args:
        experiment: What the stages train with; it has no test data. The seed of its settings is the search's.
        schedule: The schedule of the configuration, which is the first path.
        config: What to choose from, and how.
        budget: The most to train.
        unit: The unit of the budget.
        pool: Where stages are trained.
        jobs: How many at once.
        claims: Claims the run directory.
        confirm_seeds: The seeds of the confirmation, to be written down.

    Raises:
        InputError: The budget was spent before a path was finished, the arguments do not fit the data, or the run
            directory holds another experiment or another search.
    """
    seed = experiment.defaults.seed
    default = Strategy(schedule)
    tree = plan_tree(experiment, {SEARCH: default}, [seed])
    data = experiment.data({})
    (whole,) = data.amounts_of(Schedule([1.0]))
    space = Space(schedule, data.amounts_of(schedule), whole, config, experiment.defaults)
    journal = experiment.run.root / "search.journal"
    if not experiment.run.has_started():  # its trials are as good as not begun, and may be those of another search
        journal.unlink(missing_ok=True)
    claims.claim(experiment, tree, identity_of_search(schedule, space, config, experiment.final, seed))
    first = space.default()
    if first is None:
        note(
            "The schedule of the configuration is none of the paths that the search chooses from, whose amounts fall "
            "to 0 and whose stages have no overrides of their own: the confirmation alone trains it."
        )
    study = Study(journal, config, experiment.defaults.mode, seed, first)
    record = Record(config, first is not None, confirm_seeds)
    growth = Growth(experiment, space, study, seed, budget, unit, rank_zero_only(record.save))
    record.save(growth)
    with pool() as submit:
        growth.run(submit, jobs)
    if best_trial(growth) is None:
        raise InputError(
            f"The budget of {budget:g} {unit} was spent before a path was finished: run the same command with a larger "
            "budget, which goes on."
        )
    return growth


def check_device(experiment: Experiment) -> None:
    """Check that stages which this process trains are trained on one device.

    Each process that Lightning starts for another device would run a search of its own.

    Raises:
        InputError: There are several.
    """
    given = experiment.trainer_arguments()
    names = ("accelerator", "strategy", "devices", "num_nodes")
    with trainer_errors():
        trainer = Trainer(**{name: given[name] for name in names if name in given}, logger=False)
    number = trainer.num_devices * trainer.num_nodes
    if number > 1:
        raise InputError(
            f"The Trainer would use {number} devices, but a search trains each stage on one: set devices to 1, or "
            "train several stages at once with jobs."
        )


def confirm(
    experiment: Experiment, growth: Growth, schedule: Schedule, seeds: Iterable[int], pool: Pool, claims: Claims
) -> None:
    """Compare the best schedule with the default one and with its controls, under fresh seeds.

    Args:
        experiment: As for ``gradual compare``, with test data and a run directory of its own, held.
        growth: The search.
        schedule: The schedule of the configuration.
        seeds: The seeds.
        pool: Where stages are trained.
        claims: Claims the run directory.
    """
    best = best_trial(growth)
    assert best is not None
    found = Strategy(growth.space.schedule(best.choices), final=experiment.final)
    amounts = experiment.data({}).amounts_of(found.schedule)
    default = Strategy(schedule, final=experiment.final)
    is_same = best.number == 0 and growth.space.default() is not None
    strategies = {} if is_same else {DEFAULT: default}
    found = replace(found, also=(DEFAULT,)) if is_same else found
    strategies |= with_controls({FOUND: found}, {FOUND: amounts}, CONTROLS)
    tree = plan_tree(experiment, strategies, seeds)
    claims.claim(experiment, tree)
    compare_tree(experiment, tree, pooled(pool), FOUND if is_same else DEFAULT)


def finish(growth: Growth) -> SearchResult:
    """Write the report of a search, and return what it has found."""
    best = best_trial(growth)
    assert best is not None
    rank_zero_only(write_search)(growth.experiment.run.root)
    score = growth.score(growth.result_of(best).final_stage)
    assert math.isfinite(score)
    page = growth.experiment.run.root / "report" / "search.html"
    return SearchResult(growth.space.schedule(best.choices), score, growth.spent, page)


def seeds_to_confirm(given: Iterable[int] | None, seed: int) -> list[int]:
    """The seeds of the confirmation: three by default, none for an empty list.

    Raises:
        InputError: One of them is the search's own.
    """
    if given is None:
        return [(seed + k) % 2**32 for k in (1, 2, 3)]
    seeds = list(given)
    if not seeds:
        return []
    if seed in SEEDS.check("confirm_seeds", seeds):
        raise InputError(f"confirm_seeds has {seed}, the seed of the search: the confirmation needs fresh seeds.")
    return seeds


def confirm_directory(run: RunDirectory) -> RunDirectory:
    """The run directory of the confirmation."""
    return RunDirectory(run.root / CONFIRM)

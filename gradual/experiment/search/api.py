"""``gradual.search``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Unpack

from lightning.pytorch import LightningModule

from gradual.checks import Accepted, checked, integer, of_hint
from gradual.config_dataclasses import from_mapping
from gradual.data.module import MixedDomainDataModule
from gradual.experiment.api import SETTINGS, Stages, described, make_experiment, read_settings
from gradual.experiment.arguments import EXPERIMENT, FACTORY, FINAL, NAMES
from gradual.experiment.executors import Pool, this_process, worker_processes
from gradual.experiment.experiment import Experiment
from gradual.experiment.final import Final
from gradual.experiment.pickling import pickled
from gradual.experiment.search.driver import (
    Claims,
    SearchResult,
    check_device,
    confirm,
    confirm_directory,
    finish,
    search_tree,
    seeds_to_confirm,
)
from gradual.experiment.search.settings import BUDGET, BudgetUnit, SearchConfig
from gradual.experiment.trainer_arguments import TrainerArguments
from gradual.report import check_packages
from gradual.runs.directory import RunDirectory
from gradual.schedule import Schedule
from gradual.settings import CollapseConfig, LRScheduleConfig, OptimizerConfig, TrainSettings, group

_SEARCH = group(SearchConfig, "{'max_stages': 4}")
_ARGUMENTS: dict[str, Accepted] = {
    "budget": BUDGET,
    "budget_in": of_hint(BudgetUnit),
    "jobs": integer(1),
    "metrics": NAMES,
    "final": FINAL,
}


@checked(model=FACTORY, **_ARGUMENTS, **EXPERIMENT, **SETTINGS)
def search(
    model: Callable[[], LightningModule],
    datamodule: MixedDomainDataModule,
    schedule: Stages,
    run_dir: str | Path,
    *,
    budget: float,
    budget_in: BudgetUnit = "examples",
    confirm_seeds: Iterable[int] | None = None,
    search: SearchConfig | Mapping[str, Any] | None = None,
    metrics: Iterable[str] | None = None,
    jobs: int = 1,
    monitor: str = TrainSettings.monitor,
    mode: str = TrainSettings.mode,
    patience: int = TrainSettings.patience,
    min_delta: float = TrainSettings.min_delta,
    optimizer: OptimizerConfig | Mapping[str, Any] | None = None,
    lr_schedule: LRScheduleConfig | Mapping[str, Any] | None = None,
    weight_averaging: float | None = TrainSettings.weight_averaging,
    smoothing: int | None = TrainSettings.smoothing,
    collapse: CollapseConfig | Mapping[str, Any] | None = None,
    checkpoint_every: float = TrainSettings.checkpoint_every,
    seed: int = TrainSettings.seed,
    final: str | Mapping[str, int] | Final = "last",
    **trainer: Unpack[TrainerArguments],
) -> SearchResult:
    """Search for a schedule: grow a tree of stages within a budget, and confirm the best path under fresh seeds.

    Optuna chooses the next amount of a path, the factor of its learning rates and its end, and ends paths that
    validation shows to be worse. Each stage is trained once, whatever paths share it, and only what is new counts
    against the budget. Paths are chosen by the monitored validation score; test data are not read by the search. The
    best schedule, as the best of many, owes a part of its score to luck: it is therefore trained anew with other seeds,
    beside the schedule given and controls of equal training. Called again, it goes on where it was stopped. The report
    needs ``gradual[report]``, which is looked for first.

    Args:
        model: Makes an untrained model; called after the seed is set.
        datamodule: The data.
        schedule: The schedule to start from, which is the first path; its first amount is the unit of the amounts that
            are tried.
        run_dir: Folder of the experiment; a stage that is finished there is not trained again.
        budget: The most to train: no stage begins once it is spent. The confirmation is not part of it.
        budget_in: What the budget counts: ``examples`` (each epoch counts all of its examples) or optimizer ``steps``.
        confirm_seeds: Seeds of the confirmation; None for the three after ``seed``, ``[]`` for no confirmation.
        search: What to choose from, and how, e.g. ``{"max_stages": 3}``; see ``gradual.SearchConfig``.
        metrics: Scores of the confirmation to report, as in ``gradual.compare``.
        jobs: Number of stages to train at once, as in ``gradual.compare``; with 1, the same call makes the same search.
        monitor: As in ``gradual.fit``, like all settings that follow.
        mode: See ``gradual.fit``.
        patience: See ``gradual.fit``.
        min_delta: See ``gradual.fit``.
        optimizer: See ``gradual.fit``.
        lr_schedule: See ``gradual.fit``.
        weight_averaging: See ``gradual.fit``.
        smoothing: See ``gradual.fit``.
        collapse: See ``gradual.fit``.
        checkpoint_every: See ``gradual.fit``.
        seed: Seed of the search: of its stages, and of what it chooses.
        final: The result of a path, by whose score it is chosen; see ``gradual.fit``.
        **trainer: Arguments of ``lightning.Trainer``.

    Returns:
        The best schedule, also in ``run_dir/search.yaml``, with its score and the page of the report.

    Raises:
        InputError: An argument is not accepted, Optuna is not installed (``pip install 'gradual[search]'``), the budget
            was spent before a path was finished, or ``run_dir`` holds another experiment (see ``gradual.fit``) or a
            search with another schedule, ``final``, seed or ``search``.
    """
    check_packages()
    defaults, arguments = read_settings(
        dict(trainer),
        monitor=monitor,
        mode=mode,
        patience=patience,
        min_delta=min_delta,
        optimizer=optimizer,
        lr_schedule=lr_schedule,
        weight_averaging=weight_averaging,
        smoothing=smoothing,
        collapse=collapse,
        checkpoint_every=checkpoint_every,
        seed=seed,
    )
    config = from_mapping(SearchConfig, search, "search") if isinstance(search, Mapping) else search or SearchConfig()
    config = _SEARCH.check("search", config)
    stages, kept, seeds = Schedule(schedule), Final.read(final), seeds_to_confirm(confirm_seeds, defaults.seed)
    claims = Claims(arguments, functools.partial(described, datamodule, stages, defaults, arguments))
    run = RunDirectory(run_dir)
    unread = datamodule.without_test()
    without_test = functools.partial(make_experiment, model, unread, str(run.root), defaults, arguments, None, kept)
    with run.held(), ExitStack() as stack:
        parts = {"model": model, "datamodule": datamodule, **arguments}
        experiment, pool = _opened(stack, without_test, parts, jobs)
        growth = search_tree(experiment, stages, config, budget, budget_in, pool, jobs, claims, seeds)
    if seeds:
        run_of_seeds = confirm_directory(run)
        others = (str(run_of_seeds.root), defaults, arguments, metrics, kept)
        whole = functools.partial(make_experiment, model, datamodule, *others)
        with run_of_seeds.held(), ExitStack() as stack:
            experiment, pool = _opened(stack, whole, parts, jobs)
            confirm(experiment, growth, stages, seeds, pool, claims)
    return finish(growth)


def _opened(
    stack: ExitStack, make: Callable[[], Experiment], parts: Mapping[str, Any], jobs: int
) -> tuple[Experiment, Pool]:
    """The experiment in this process, and what trains its stages."""
    sent = stack.enter_context(pickled(make, parts, jobs)) if jobs > 1 else None  # before the data are loaded
    experiment = make()
    if sent is None:
        check_device(experiment)
        return experiment, lambda: this_process(experiment)
    return experiment, lambda: worker_processes(sent, jobs)

"""The settings of ``gradual search``, and the file that gives a schedule."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from gradual.cli.comparison import workers
from gradual.cli.configuration import check_configuration
from gradual.errors import InputError
from gradual.experiment.executors import MakeExperiment, Pool, this_process
from gradual.experiment.experiment import Experiment
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
from gradual.experiment.search.settings import BUDGET, SearchConfig
from gradual.report import check_packages
from gradual.runs.directory import RunDirectory
from gradual.schedule import Schedule


def add_search_arguments(parser: LightningArgumentParser) -> None:
    """Add the settings that only ``gradual search`` uses."""
    add = parser.add_argument
    add(
        "--budget",
        type=float | None,
        default=None,
        help="the most that a search trains: no stage begins once it is spent; the confirmation is not part of it",
    )
    add(
        "--budget_in",
        type=Literal["examples", "steps"],
        default="examples",
        help="what the budget counts: training examples, each once an epoch, or optimizer steps",
    )
    add(
        "--confirm_seeds",
        type=list[int] | None,
        default=None,
        help="fresh seeds to compare the best schedule with the given one and with controls of equal training; [] for "
        "no such comparison; default: the three after the seed",
    )
    parser.add_class_arguments(SearchConfig, "search", as_group=False)  # the command has a group of this name


Opened = Callable[[RunDirectory, bool], tuple[Experiment, MakeExperiment]]
"""Makes the experiment of a run directory, with test data or without, and what makes it in another process."""


def search_and_confirm(
    config: Namespace, schedule: Schedule, seed: int, claims: Claims, opened: Opened
) -> SearchResult:
    """Search, confirm what was found, and write the report.

    Args:
        config: The configuration.
        schedule: Its schedule.
        seed: Its seed.
        claims: Claims run directories.
        opened: Makes the experiments.

    Raises:
        InputError: There is no budget, or what ``search_tree`` and ``confirm`` raise.
    """
    check_packages()
    if config.budget is None:
        raise InputError("gradual search needs a budget: give --budget N, the number of examples to train at most.")
    budget, seeds = BUDGET.check("budget", config.budget), seeds_to_confirm(config.confirm_seeds, seed)
    choices = SearchConfig(**vars(config.search))
    run = RunDirectory(config.run_dir)
    with run.held():
        experiment, make = opened(run, False)
        pool = _pool(experiment, make, config)
        growth = search_tree(experiment, schedule, choices, budget, config.budget_in, pool, config.jobs, claims, seeds)
    if seeds:
        run = confirm_directory(run)
        with run.held():
            experiment, make = opened(run, True)
            confirm(experiment, growth, schedule, seeds, _pool(experiment, make, config), claims)
    return finish(growth)


def _pool(experiment: Experiment, make_experiment: MakeExperiment, config: Namespace) -> Pool:
    """What trains the stages of a search: several at once, or one after the other in this process, on one device."""
    several = workers(make_experiment, config)
    if several is not None:
        return several
    check_device(experiment)
    return lambda: this_process(experiment)


def schedule_of(given: Any) -> Any:
    """A schedule that is given by a file which has one, such as ``search.yaml``; anything else as it is.

    Raises:
        InputError: The file has none.
    """
    if not isinstance(given, str) or not given.endswith((".yaml", ".yml")):
        return given
    path = Path(given)
    if not path.is_file():
        raise InputError(f"--schedule: {given} does not exist.")
    check_configuration(path)
    content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    if "schedule" not in content:
        raise InputError(f"--schedule: {given} has no schedule.")
    return content["schedule"]

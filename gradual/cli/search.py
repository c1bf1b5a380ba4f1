"""The settings of ``gradual search``, and the file that gives a schedule."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from gradual.cli.configuration import check_configuration
from gradual.errors import InputError
from gradual.experiment.executors import (
    MakeExperiment,
    Pool,
    Trains,
    check_one_device,
    ray_tasks,
    this_process,
    worker_processes,
)
from gradual.experiment.search.settings import SearchConfig


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


def search_settings(config: Namespace) -> SearchConfig:
    """The group ``search`` of a configuration."""
    return SearchConfig(**vars(config.search))


def pool(experiment: Trains, make_experiment: MakeExperiment, config: Namespace) -> Pool:
    """What trains the stages of a search, as ``jobs`` and ``ray`` say.

    Args:
        experiment: The experiment in this process.
        make_experiment: Makes it in another process.
        config: The configuration.

    Raises:
        InputError: Several stages are to be trained at once, and each of them on several devices.
    """
    if config.jobs > 1 or config.ray is not None:
        check_one_device(config.trainer.devices, config.trainer.num_nodes, "trainer.{}")
    if config.ray is not None:
        return lambda: ray_tasks(make_experiment, config.ray)
    if config.jobs > 1:
        return lambda: worker_processes(make_experiment, config.jobs)
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

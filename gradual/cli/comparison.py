"""The settings of ``gradual compare``, and what trains several of its stages, or of a search's, at once."""

from __future__ import annotations

from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from gradual.checks import integer
from gradual.experiment.controls import ON_REQUEST
from gradual.experiment.executors import MakeExperiment, Pool, check_one_device, ray_tasks, worker_processes


def add_comparison_arguments(parser: LightningArgumentParser) -> None:
    """Add the settings that only ``gradual compare`` uses."""
    add = parser.add_argument
    add(
        "--strategies",
        type=dict[str, Any] | list[str] | None,
        default=None,
        help="what to compare: a list of names, or a mapping such as {in-domain only: {max_epochs: 16}, gradual: {}, "
        "mine: [2000, 0], other: {schedule: [1.0], data: {pool: FILE}}}: overrides of settings with the amounts of "
        "--schedule, or amounts of its own; default: in-domain only, mixed, one-stage and gradual",
    )
    add(
        "--controls",
        nargs="?",
        const=True,
        type=bool | list[str],
        default=False,
        help="compare each strategy of several stages with controls: as many steps with other amounts; true for the "
        f"four standard ones, or a list of names, which may include {' and '.join(map(repr, ON_REQUEST))}",
    )
    add("--seeds", type=list[int], default=[0, 1, 2], help="seeds to train each strategy with")
    add(
        "--metrics",
        type=list[str] | None,
        default=None,
        help="scores to report; default: all but the loss, or only the loss if there is nothing else",
    )
    add(
        "--baseline",
        type=str | None,
        default=None,
        help="strategy that the others are compared with; default: in-domain only, or else the first",
    )
    add("--jobs", type=int, default=1, help="number of stages to train at once, each in a process of its own")
    add(
        "--ray",
        type=str | None,
        default=None,
        help="address of a Ray cluster to train on; local starts one on this machine",
    )


def workers(make_experiment: MakeExperiment, config: Namespace) -> Pool | None:
    """What trains several stages at once, as ``jobs`` and ``ray`` say; None to train them in this process.

    Args:
        make_experiment: Makes the experiment in another process.
        config: The configuration.

    Raises:
        InputError: ``jobs`` is below 1, or several stages are to be trained at once, each of them on several devices.
    """
    if config.jobs > 1 or config.ray is not None:
        check_one_device(config.trainer.devices, config.trainer.num_nodes, "trainer.{}")
    if config.ray is not None:
        return lambda: ray_tasks(make_experiment, config.ray)
    integer(1).check("jobs", config.jobs)
    return (lambda: worker_processes(make_experiment, config.jobs)) if config.jobs > 1 else None

"""The stage that a command is given: by its folder, by its checkpoint, or as the result of a run of ``fit``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gradual.cli.commands import WITH_STAGE
from gradual.errors import InputError
from gradual.report.collect import read_comparison
from gradual.report.comparison import Comparison, Strategy
from gradual.runs.directory import StageDirectory
from gradual.score_names import without_split

_STAGE = "a run directory of gradual fit, or the folder or a checkpoint of a stage"


@dataclass(frozen=True)
class ChosenStage:
    """A stage that was trained.

    Attributes:
        checkpoint: The weights to use.
        run: The run directory; None for a checkpoint that is in none.
    """

    checkpoint: Path
    run: Path | None

    @property
    def folder(self) -> Path:
        """The folder of the stage."""
        return self.checkpoint.parent

    @property
    def configuration(self) -> dict[str, Any]:
        """The configuration of the run; empty where there is no run directory.

        Raises:
            InputError: The run directory has none.
        """
        if self.run is None:
            return {}
        try:
            return dict(yaml.safe_load((self.run / "config.yaml").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
            raise InputError(f"{self.run / 'config.yaml'} cannot be read: {error}.") from error

    def path(self) -> list[StageDirectory]:
        """The stages from the first one to this one; empty where there is no run directory."""
        if self.run is None:
            return []
        folders = [folder for folder in (self.folder, *self.folder.parents) if self.run in folder.parents]
        return [StageDirectory(folder) for folder in reversed(folders) if not folder.name.startswith("seed-")]


def choose_stage(given: Path) -> ChosenStage:
    """Find the stage that is meant.

    Args:
        given: A run directory of ``fit``, of which the result is meant, as a rule the last stage; or the folder or a
            checkpoint of a stage.

    Raises:
        InputError: It is none of these, the stage has no result, or the run directory is that of a comparison.
    """
    if not given.exists():
        raise InputError(f"{given} does not exist: it must be {_STAGE}.")
    if run_of(given) is None and run_of(given.absolute()) is not None:  # the current folder is inside of it
        given = given.absolute()
    if given.suffix in (".yaml", ".yml"):
        which = f" It belongs to {given.parent}." if (given.parent / "experiment.json").is_file() else ""
        raise InputError(f"{given} is a configuration, for --config, and no stage: it must be {_STAGE}.{which}")
    if not given.is_dir():
        return ChosenStage(given, run_of(given.parent))
    if (given / "compare.json").is_file():
        raise InputError(_choice(given, read_comparison(given, details=False)))
    if (given / "results.json").is_file():
        run = read_comparison(given, details=False, name="results.json")
        (strategy,), (seed,) = run.strategies, run.seeds
        last = strategy.final(seed)
        if last is None:
            raise InputError(
                f"{given} is not finished: run gradual fit again, which goes on where it stopped, or give one of the "
                "stages in it."
            )
        given = given / last.path
    elif (given / "search.json").is_file():
        raise InputError(
            f"{given} holds a search: train the schedule that it found with gradual fit --schedule "
            f"{given / 'search.yaml'}, or give one of the stages in it."
        )
    stage = StageDirectory(given)
    if not stage.has_begun():
        raise InputError(f"{given} is no stage: it must be {_STAGE}.")
    if not stage.is_finished():
        raise InputError(f"{given} is not finished; {stage.best} has the weights of its best epoch so far, if any.")
    return ChosenStage(stage.best, run_of(given))


def with_stage(arguments: Sequence[str]) -> list[str]:
    """Replace a stage after the name of a command by the configuration of its run and its checkpoint.

    Raises:
        InputError: It is no stage, or its run has no configuration for the command line.
    """
    command, *rest = arguments
    if command not in WITH_STAGE or not rest or rest[0].startswith("-"):
        return list(arguments)
    stage = choose_stage(Path(rest[0]))
    if stage.run is None:
        raise InputError(f"{rest[0]} is in no run directory: give --config FILE --ckpt_path {rest[0]} instead.")
    if isinstance(stage.configuration.get("model"), str):
        raise InputError(
            f"{stage.run} was made from Python, so that gradual {command} cannot make its model and data: give a "
            f"configuration of your own, --config FILE --ckpt_path {stage.checkpoint}."
        )
    return [command, f"--config={stage.run / 'config.yaml'}", f"--ckpt_path={stage.checkpoint}", *rest[1:]]


def run_of(folder: Path) -> Path | None:
    """Return the run directory that a stage, or a checkpoint of it, is in as the path says; None if it is in none."""
    seeds = (above for above in (folder, *folder.parents) if above.name.startswith("seed-"))
    return next((above.parent for above in seeds if (above.parent / "experiment.json").is_file()), None)


def _choice(given: Path, comparison: Comparison) -> str:
    """Say which stages of a comparison there are to choose from."""
    last = [(strategy, _best_seed(strategy, comparison)) for strategy in reversed(comparison.strategies)]
    paths = [
        f"{given / final.path} ({strategy.name})"
        for strategy, seed in last
        if seed is not None and (final := strategy.final(seed)) is not None
    ]
    if not paths:
        return f"{given} holds a comparison of which no strategy is finished: give one of the stages in it."
    several = f", each with the seed that has the best {comparison.monitor}" if len(comparison.seeds) > 1 else ""
    return f"{given} holds a comparison: give one of its stages, such as {' or '.join(paths)}{several}."


def _best_seed(strategy: Strategy, comparison: Comparison) -> int | None:
    """The finished seed whose result has the best monitored validation score, if any is finite; None without a seed."""
    sign = 1 if comparison.mode == "max" else -1
    monitored = without_split(comparison.monitor)
    finals = {seed: final.result for seed in strategy.finished_seeds if (final := strategy.final(seed)) is not None}
    scores = {seed: sign * result.val.get(monitored, math.nan) for seed, result in finals.items() if result}
    return max(scores, key=lambda seed: scores[seed] if math.isfinite(scores[seed]) else -math.inf, default=None)

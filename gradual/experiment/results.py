"""The results of an experiment: of one path with its table, and of all paths in a file of the run directory."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from gradual.errors import InputError
from gradual.experiment.experiment import Experiment
from gradual.experiment.final import LAST, Final
from gradual.experiment.provenance import command_line, environment, versions
from gradual.experiment.tree import Node, Tree
from gradual.files import write_atomically
from gradual.runs.result import CUT_OFF, StageResult, best_stage, reported_scores
from gradual.score_names import without_split


@dataclass
class RunResult:
    """The stages of one path and the seed they were trained with.

    Attributes:
        stages: Results in the order of the schedule, as far as they are there.
        amounts: Out-of-domain examples of all stages of the schedule.
        seed: The experiment's seed.
        run_dir: The run directory.
        monitor: Validation score that decided in each stage.
        mode: ``min`` or ``max``: which value of it is better.
        kept: What the result of the path is.
        average: The average of the stages' weights, if this is the result and is there.
    """

    stages: list[StageResult]
    amounts: list[int]
    seed: int
    run_dir: Path
    monitor: str
    mode: str
    kept: Final = LAST
    average: StageResult | None = None

    @property
    def best_stage(self) -> int | None:
        """Index of the stage with the best monitored validation score, the last of equals; None where none has one."""
        return best_stage(self.stages, self.monitor, self.mode)

    @property
    def final_stage(self) -> StageResult | None:
        """The result of the path: of its last stage, of its best one, or of the average; None while there is none."""
        if self.kept.averages(self.amounts):
            return self.average
        index = self.best_stage if self.kept.kind == "best" else None
        return (self.stages[-1] if index is None else self.stages[index]) if self.stages else None

    @property
    def final(self) -> dict[str, dict[str, float]]:
        """Validation and test scores of the result of the path."""
        final = self.final_stage
        return {"val": final.val, "test": final.test} if final else {"val": {}, "test": {}}

    def best_checkpoint(self, stage: int | None = None) -> Path:
        """The kept weights of a stage, or else of the result of the path."""
        chosen = self.final_stage if stage is None else self.stages[stage]
        if chosen is None:
            raise InputError(f"{self.run_dir} has no result yet.")
        return self.run_dir / chosen.path / "best.ckpt"

    def to_dict(self) -> dict[str, Any]:
        """The results as plain data: ``stages``, ``best_stage``, and ``final`` once a stage is finished."""
        chosen = self.final_stage
        final = {"final": {"path": chosen.path, **self.final}} if chosen else {}
        return {"stages": [asdict(stage) for stage in self.stages], "best_stage": self.best_stage, **final}

    def table(self) -> Table:
        """A column a stage: its amounts, epochs (the best one in brackets) and time, and all its scores.

        A dagger marks the epochs of a stage that has not converged.
        """
        table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
        table.add_column("stage", no_wrap=True)
        shown = [*self.stages, *([self.average] if self.average else [])]
        for stage in shown:
            title = f"mean of {stage.index + 1 - stage.averaged}-{stage.index}" if stage.averaged else stage.index + 1
            table.add_column(str(title), justify="right", no_wrap=True)
        table.add_row("out-of-domain", *(str(stage.out_of_domain) for stage in self.stages))
        for name in dict.fromkeys(name for stage in self.stages for name in stage.sources):
            table.add_row(f"  {name}", *(str(stage.sources.get(name, 0)) for stage in self.stages))
        if any(stage.tokens is not None for stage in self.stages):
            table.add_row("  tokens", *("" if stage.tokens is None else str(stage.tokens) for stage in self.stages))
        table.add_row("in-domain", *(str(stage.in_domain) for stage in self.stages))
        table.add_row("epochs (best)", *(_epochs(stage) for stage in self.stages))
        if any(stage.collapses for stage in self.stages):
            table.add_row("attempts", *(str(len(stage.collapses) + 1) for stage in self.stages))
        table.add_row("time", *(_duration(stage.seconds) for stage in self.stages), end_section=True)
        for split in ("val", "test"):
            names = dict.fromkeys(name for stage in shown for name in getattr(stage, split))
            for name in names:
                table.add_row(f"{split} {name}", *(_score(getattr(stage, split).get(name)) for stage in shown))
            table.add_section()
        return table

    def remarks(self) -> list[str]:
        """What to know of the table: stages that have not converged, and a last stage that is not the best one."""
        lines = []
        limits = dict.fromkeys(stage.ended_by for stage in self.stages if not stage.converged)
        if limits:
            raised = " and ".join(filter(None, limits))
            mend = (
                f"Raise {raised}, or lower patience: of these stages in the schedule, or of all in a new run directory."
            )
            lines.append(
                f"{CUT_OFF} ended before it converged, so that its scores could still improve. "
                + (mend if raised else "A monitored score was no longer finite.")
            )
        best, last = self.best_stage, len(self.stages) - 1
        if self.kept != LAST and self.final_stage is not None:
            lines.append(f"The result of the path is {self._described()}: {self.best_checkpoint()}.")
        elif best is not None and best != last:
            lines.append(
                f"The last stage is worse on validation than stage {best + 1}: {self.monitor} is "
                f"{self._monitored(last):.4g}, and was {self._monitored(best):.4g} ({self.best_checkpoint(best)})."
            )
        return lines

    def print_table(self) -> None:
        """Print the table and what to know of it, with room for all columns where the output is no terminal."""
        console = wide_console()
        console.print(self.table())
        for line in self.remarks():
            console.print(line, soft_wrap=True, markup=False)

    def _described(self) -> str:
        if self.kept.averages(self.amounts):
            return f"the average of the weights of stages {self.kept.first} to {len(self.amounts)}"
        if self.kept.kind == "best":
            return f"stage {(self.best_stage or 0) + 1}, the best on validation ({self.monitor})"
        return "the last stage, the only one to average"

    def _monitored(self, stage: int) -> float:
        return self.stages[stage].val.get(without_split(self.monitor), math.nan)


class Results:
    """What the stages of a tree are and what came out of them so far, as a file of the run directory.

    ``results.json`` of ``fit`` and ``compare.json`` of ``compare`` have the same schema. They are two files so that
    neither command overwrites what the other one has written and the report reads::

        {
          "strategies": {
            "gradual": {                          # "fit" is the only one in results.json
              "schedule": [2000, {"amount": 0, "patience": 9}],
              "data": {},                         # changed arguments of the data module; left out if there are none
              "also": [],                         # other names of the same path; left out if there are none
              "final": "best",                    # or {"average": 2}; left out if it is the last stage
              "amounts": [2000, 0],               # out-of-domain examples of each stage, as counts
              "seeds": {
                "0": {
                  "paths": ["seed-0/2000", "seed-0/2000/0"],  # the folder of each stage, finished or not
                  "stages": [{"index": 0, ...}],  # a gradual.StageResult for each finished stage
                  "best_stage": 0,                # index of the finished stage with the best monitored score, or null
                  "final": {"path": "seed-0/2000/0",  # the result of the path: as a rule the last of them
                            "val": {"loss": 0.3}, "test": {}}
                }
              }
            }
          },
          "seeds": [0],
          "baseline": "in-domain only",           # null in results.json
          "metrics": [], "val_metrics": [],       # names of the test and validation scores to report
          "monitor": "val/loss", "mode": "min",   # the score that decides in each stage, and which value is better
          "command": "gradual compare --config mine.yaml",
          "versions": {"python": "3.11.7"}, "environment": {"cpu": "...", "gpus": []}
        }

    Args:
        name: Name of the file.
        experiment: What the stages train with.
        tree: The stages.
        baseline: The strategy that differences are taken from; None for none.
    """

    def __init__(self, name: str, experiment: Experiment, tree: Tree, baseline: str | None = None):
        self.path = experiment.run.root / name
        self._experiment, self._tree, self._baseline = experiment, tree, baseline

    def of(self, strategy: str, seed: int) -> RunResult:
        """The results of one path, as far as its stages are finished."""
        run, settings = self._experiment.run, self._experiment.defaults
        stages: list[StageResult] = []
        for index, node in enumerate(self._tree.paths[strategy, seed]):
            directory = node.directory(run)
            result = directory.result()
            if result is None:
                break
            stages.append(replace(result, index=index, path=run.relative(directory.path)))
        kept, average = self._tree.strategies[strategy].final or LAST, self._tree.averages.get((strategy, seed))
        averaged = (
            average.directory(run).result() if average and len(stages) == len(self._tree.amounts[strategy]) else None
        )
        if average and averaged:
            averaged = replace(averaged, index=len(stages), path=run.relative(average.directory(run).path))
        return RunResult(
            stages, self._tree.amounts[strategy], seed, run.root, settings.monitor, settings.mode, kept, averaged
        )

    def final_node(self, strategy: str, seed: int) -> Node:
        """The stage or average that is the result of a finished path."""
        path, result = self._tree.paths[strategy, seed], self.of(strategy, seed)
        if (strategy, seed) in self._tree.averages:
            return self._tree.averages[strategy, seed]
        return path[result.stages.index(result.final_stage)] if result.final_stage else path[-1]

    def to_dict(self) -> dict[str, Any]:
        """The content of the file."""
        run, settings, tree = self._experiment.run, self._experiment.defaults, self._tree
        found = [result for node in tree.nodes if (result := node.directory(run).result())]
        asked = list(self._experiment.metrics or ())
        return {
            "strategies": {
                name: {**strategy.to_plain(), "amounts": tree.amounts[name], "seeds": self._by_seed(name)}
                for name, strategy in tree.strategies.items()
            },
            "amount_in": self._experiment.data({}).amount_in,
            "seeds": tree.seeds,
            "baseline": self._baseline,
            "metrics": asked or reported_scores(found, "test"),
            "val_metrics": reported_scores(found, "val", asked),
            "monitor": settings.monitor,
            "mode": settings.mode,
            "command": command_line(),
            "versions": versions(),
            "environment": environment(),
        }

    def save(self) -> None:
        """Write the file."""
        write_atomically(self.path, json.dumps(self.to_dict(), indent=2) + "\n")

    def _by_seed(self, strategy: str) -> dict[str, Any]:
        run = self._experiment.run
        return {
            str(seed): {
                "paths": [run.relative(node.directory(run).path) for node in self._tree.paths[strategy, seed]],
                **self.of(strategy, seed).to_dict(),
            }
            for seed in self._tree.seeds
        }


def wide_console() -> Console:
    """Standard output, with room for all columns of a table where it is no terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(width=160, highlight=False)


def _epochs(stage: StageResult) -> str:
    return f"{stage.epochs} ({stage.best_epoch}){'' if stage.converged else f' {CUT_OFF}'}"


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02d}"

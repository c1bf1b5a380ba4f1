"""What came out of a path of stages: results.json, the table, and TensorBoard's run whose x axis is the stage."""

from __future__ import annotations

import json
import math
import platform
import shlex
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from gradual.files import write_atomically
from gradual.report.tensorboard import save_stage_curve
from gradual.runs.result import CUT_OFF, StageResult
from gradual.score_names import without_split

_PACKAGES = ("gradual", "torch", "lightning", "transformers", "torchmetrics", "jsonargparse", "numpy")


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
    """

    stages: list[StageResult]
    amounts: list[int]
    seed: int
    run_dir: Path
    monitor: str
    mode: str

    @property
    def best_stage(self) -> int | None:
        """Index of the stage with the best monitored validation score, the last of equals; None where none has one."""
        sign = 1 if self.mode == "max" else -1
        scores = [(sign * self._monitored(index), index) for index in range(len(self.stages))]
        return max((pair for pair in scores if math.isfinite(pair[0])), default=(0.0, None))[1]

    @property
    def final(self) -> dict[str, dict[str, float]]:
        """Validation and test scores of the last stage."""
        return {"val": self.stages[-1].val, "test": self.stages[-1].test}

    def best_checkpoint(self, stage: int = -1) -> Path:
        """The kept weights of a stage."""
        return self.run_dir / self.stages[stage].path / "best.ckpt"

    def to_dict(self) -> dict[str, Any]:
        """The content of ``results.json``."""
        return {
            "stages": [asdict(stage) for stage in self.stages],
            "final": self.final,
            "best_stage": self.best_stage,
            "seed": self.seed,
            "command": command_line(),
            "versions": versions(),
        }

    def save(self) -> None:
        """Write ``results.json`` and the run of TensorBoard whose x axis is the stage (the paper's Figure 2)."""
        write_atomically(self.run_dir / "results.json", json.dumps(self.to_dict(), indent=2) + "\n")
        save_stage_curve(
            self.run_dir / f"seed-{self.seed}" / "by-stage" / "-".join(map(str, self.amounts)), self.stages
        )

    def table(self) -> Table:
        """A column a stage: its amounts, epochs (the best one in brackets) and time, and all its scores.

        A dagger marks the epochs of a stage that has not converged.
        """
        table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
        table.add_column("stage", no_wrap=True)
        for stage in self.stages:
            table.add_column(str(stage.index + 1), justify="right", no_wrap=True)
        table.add_row("out-of-domain", *(str(stage.out_of_domain) for stage in self.stages))
        table.add_row("in-domain", *(str(stage.in_domain) for stage in self.stages))
        table.add_row("epochs (best)", *(_epochs(stage) for stage in self.stages))
        if any(stage.collapses for stage in self.stages):
            table.add_row("attempts", *(str(len(stage.collapses) + 1) for stage in self.stages))
        table.add_row("time", *(_duration(stage.seconds) for stage in self.stages), end_section=True)
        for split in ("val", "test"):
            names = dict.fromkeys(name for stage in self.stages for name in getattr(stage, split))
            for name in names:
                table.add_row(f"{split} {name}", *(_score(getattr(stage, split).get(name)) for stage in self.stages))
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
        if best is not None and best != last:
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

    def _monitored(self, stage: int) -> float:
        return self.stages[stage].val.get(without_split(self.monitor), math.nan)


def wide_console() -> Console:
    """Standard output, with room for all columns of a table where it is no terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(width=160, highlight=False)


def command_line() -> str:
    """The command that runs, as it could be typed again."""
    program = Path(sys.argv[0])
    name = "gradual" if "gradual" in (program.name, program.parent.name) else str(program)
    return shlex.join([name, *sys.argv[1:]])


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _epochs(stage: StageResult) -> str:
    return f"{stage.epochs} ({stage.best_epoch}){'' if stage.converged else f' {CUT_OFF}'}"


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02d}"

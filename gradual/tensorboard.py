"""TensorBoard's runs beyond a single stage: scores against the stage, and strategies side by side."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

from torch.utils.tensorboard.writer import SummaryWriter

from gradual.runs import StageDirectory, StageResult, read_json


def save_stage_curve(directory: Path, stages: Sequence[StageResult]) -> None:
    """A run whose x axis is the stage (the paper's Figure 2); made anew each time."""
    shutil.rmtree(directory, ignore_errors=True)
    with SummaryWriter(str(directory)) as writer:
        for number, stage in enumerate(stages, start=1):
            for split in ("val", "test"):
                for score, value in getattr(stage, split).items():
                    writer.add_scalar(f"stage/{split}/{score}", value, number)
            writer.add_scalar("stage/out_of_domain", stage.out_of_domain, number)


def save_strategies(root: Path) -> None:
    """A run a strategy under ``strategies/``: mean and spread over seeds by stage, custom charts, and hyperparameters.

    Args:
        root: A run directory with ``compare.json``; stages that are not done are left out.
    """
    comparison = read_json(root / "compare.json")
    directory = root / "strategies"
    shutil.rmtree(directory, ignore_errors=True)
    metrics = comparison["metrics"]
    for name, by_seed in comparison["paths"].items():
        done = [[StageDirectory(root / path).result() for path in paths] for paths in by_seed.values()]
        complete = [[stage for stage in path if stage] for path in done if all(path)]
        if not complete:
            continue
        with SummaryWriter(str(directory / name.replace("/", "-"))) as writer:
            # one layout in each run: the dashboard merges them and draws every selected run into each chart
            writer.add_custom_scalars({"strategies": _charts(metrics)})
            for number, stages in enumerate(zip(*complete), start=1):
                for metric in metrics:
                    values = [stage.test[metric] for stage in stages if metric in stage.test]
                    if values:
                        mean, spread = fmean(values), stdev(values) if len(values) > 1 else 0.0
                        for tag, value in (("mean", mean), ("low", mean - spread), ("high", mean + spread)):
                            writer.add_scalar(f"test/{metric}/{tag}", value, number)
            final = {
                f"hparam/{m}": fmean(p[-1].test[m] for p in complete) for m in metrics if m in complete[0][-1].test
            }
            schedule = json.dumps(comparison["strategies"][name]["schedule"])
            hyperparameters = {"strategy": name, "schedule": schedule, "seeds": len(complete)}
            writer.add_hparams(hyperparameters, final, run_name=".")


def _charts(metrics: Sequence[str]) -> dict[str, list[object]]:
    charts: dict[str, list[object]] = {}
    for metric in metrics:
        charts[f"{metric} by stage"] = ["Multiline", [f"test/{metric}/mean"]]
        charts[f"{metric} by stage, with spread over seeds"] = [
            "Margin",
            [f"test/{metric}/mean", f"test/{metric}/low", f"test/{metric}/high"],
        ]
    return charts

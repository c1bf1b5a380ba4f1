"""TensorBoard runs beyond a single stage: scores against stages, and strategies side by side."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from torch.utils.tensorboard.writer import SummaryWriter

from gradual.files import read_json
from gradual.report.scores import Score
from gradual.runs.directory import StageDirectory
from gradual.runs.result import StageResult

_LONGEST = 200  # bytes of a folder's name, of which file systems allow 255


def save_stage_curve(directory: Path, stages: Sequence[StageResult]) -> None:
    """Write a run whose x axis is the stage (the paper's Figure 2), replacing an earlier one."""
    shutil.rmtree(directory, ignore_errors=True)
    with SummaryWriter(str(directory)) as writer:
        for number, stage in enumerate(stages, start=1):
            for split in ("val", "test"):
                for score, value in getattr(stage, split).items():
                    writer.add_scalar(f"stage/{split}/{score}", value, number)
            writer.add_scalar("stage/out_of_domain", stage.out_of_domain, number)
            writer.add_scalar("stage/converged", float(stage.converged), number)


def save_strategies(root: Path) -> None:
    """Write a run for each strategy under ``strategies/``: mean and spread over seeds, custom charts, hyperparameters.

    Args:
        root: A run directory with ``compare.json``; a seed whose path is not finished is left out.
    """
    comparison = read_json(root / "compare.json")
    directory = root / "strategies"
    shutil.rmtree(directory, ignore_errors=True)
    finished: dict[str, list[list[StageResult]]] = {}
    finals: dict[str, list[StageResult]] = {}
    for name, strategy in comparison["strategies"].items():
        finished[name], finals[name] = [], []
        for of_seed in strategy["seeds"].values():
            path = [StageDirectory(root / folder).result() for folder in of_seed["paths"]]
            if all(path) and "final" in of_seed:
                finished[name].append([stage for stage in path if stage])
                final = StageDirectory(root / of_seed["final"].get("path", of_seed["paths"][-1])).result()
                finals[name] += [final] if final else []
    every = [stage for paths in finished.values() for path in paths for stage in path]
    names = {"val": comparison["val_metrics"], "test": comparison["metrics"]}
    shown = [(split, name) for split in names for name in names[split] if _score(every, split, name).by_seed]
    runs = _run_names(finished)
    for name, paths in finished.items():
        if paths:
            hyperparameters: dict[str, str | int] = {
                "strategy": name,
                "schedule": json.dumps(comparison["strategies"][name]["schedule"]),
                "seeds": len(paths),
                "converged": all(stage.converged for path in paths for stage in path),
            }
            _save_strategy(directory / runs[name], paths, finals[name], shown, hyperparameters)


def _run_names(strategies: Iterable[str]) -> dict[str, str]:
    """A folder name for each strategy: its own if it can be one, otherwise a similar one that no other has."""
    plain = {name: re.sub(r"/|^\.+$", "-", name).encode()[:_LONGEST].decode(errors="ignore") for name in strategies}
    found = {name: folder for name, folder in plain.items() if name == folder}
    for name, folder in plain.items():
        numbered = itertools.chain([folder], (f"{folder}-{number}" for number in itertools.count(2)))
        found.setdefault(name, next(one for one in numbered if one not in found.values()))
    return found


def _save_strategy(
    directory: Path,
    paths: Sequence[Sequence[StageResult]],
    finals: Sequence[StageResult],
    shown: Sequence[tuple[str, str]],
    hyperparameters: dict[str, str | int],
) -> None:
    """Write one run; ``paths`` are the stages of each seed, ``finals`` their results, ``shown`` what to write."""
    with SummaryWriter(str(directory)) as writer:
        # every run gets the layout: the dashboard merges them and draws each selected run in every chart
        writer.add_custom_scalars({"strategies": _charts(shown)})
        for number, stages in enumerate(zip(*paths), start=1):
            for split, metric in shown:
                score = _score(stages, split, metric)
                if score.mean is not None:
                    spread = score.std or 0.0
                    ends = (("mean", score.mean), ("low", score.mean - spread), ("high", score.mean + spread))
                    for tag, value in ends:
                        writer.add_scalar(f"{split}/{metric}/{tag}", value, number)
            writer.add_scalar("converged", float(all(stage.converged for stage in stages)), number)
        final = {
            f"hparam/{metric}" if split == "test" else f"hparam/{split}/{metric}": mean
            for split, metric in shown
            if (mean := _score(finals, split, metric).mean) is not None
        }
        writer.add_hparams(hyperparameters, final, run_name=".")


def _score(stages: Iterable[StageResult], split: str, metric: str) -> Score:
    """A score of the stages that have it, one for each seed."""
    scores = [getattr(stage, split) for stage in stages]
    return Score({number: found[metric] for number, found in enumerate(scores) if metric in found})


def _charts(shown: Sequence[tuple[str, str]]) -> dict[str, list[object]]:
    charts: dict[str, list[object]] = {}
    for split, metric in shown:
        tags = f"{split}/{metric}"
        charts[f"{tags} by stage"] = ["Multiline", [f"{tags}/mean"]]
        spread = [f"{tags}/{end}" for end in ("mean", "low", "high")]
        charts[f"{tags} by stage, with spread over seeds"] = ["Margin", spread]
    return charts

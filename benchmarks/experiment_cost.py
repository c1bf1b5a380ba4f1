"""The cost of an experiment in training examples: with and without shared stages, and what early stopping saves.

python benchmarks/experiment_cost.py [RUN_DIR ...]

Without a run directory, it counts the examples in one epoch of every stage of the paper's Tables 2 and 5; nothing is
trained. Given run directories of ``gradual fit`` or ``gradual compare``, it also reads how many epochs their finished
stages took, and compares them with all the epochs that were allowed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import yaml

from gradual.experiment.strategies import Strategy, default_strategies, parse_strategies
from gradual.experiment.tree import Tree
from gradual.files import read_json
from gradual.runs.result import StageResult
from gradual.schedule import Schedule
from gradual.settings import TrainSettings

CONFIGS = Path(__file__).parents[1] / "configs" / "multiwoz"
IN_DOMAIN = {"restaurant": 523, "hotel": 513}  # training dialogues, the paper's Table 1
POOL = 4000


def experiments() -> dict[str, dict[str, Strategy]]:
    """The strategies of the two tables that train on the pool.

    The model that has seen all domains is left out: it has its own data, shares no stage, and is trained once.
    """
    config = yaml.safe_load((CONFIGS / "table5.yaml").read_text())
    schedule = Schedule(config["schedule"], last_stage=config["last_stage"])
    table5 = parse_strategies(config["strategies"], schedule)
    return {
        "Table 2": default_strategies(schedule),
        "Table 5": {name: strategy for name, strategy in table5.items() if not strategy.data},
    }


def planned() -> None:
    print("| experiment | strategies | stages | without sharing | examples per epoch | without sharing | saved |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, strategies in experiments().items():
        for domain, in_domain in IN_DOMAIN.items():
            tree = Tree(
                strategies,
                [0],
                lambda strategy: strategy.schedule.amounts(POOL),
                lambda stage, _: TrainSettings().resolve(stage),
            )
            shared, alone = tree.examples(in_domain)
            print(
                f"| {name}, {domain} | {len(strategies)} | {len(tree.nodes)} | {tree.stages_without_sharing} | "
                f"{shared:,} | {alone:,} | {1 - shared / alone:.0%} |"
            )


def finished(run_dir: Path) -> None:
    """Print the examples that the finished stages of a run were trained on, and what they would have been otherwise."""
    found = {path.parent: StageResult(**json.loads(path.read_text())) for path in run_dir.glob("seed-*/**/result.json")}
    if not found:
        print(f"{run_dir} has no finished stage.")
        return
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    default = (config.get("trainer") or config).get("max_epochs")
    limits = {path: read_json(path / "stage.json").get("max_epochs") or default for path in found}

    def examples(stage: StageResult, epochs: int) -> int:
        return epochs * (stage.in_domain + stage.out_of_domain)

    trained = sum(examples(stage, stage.epochs) for stage in found.values())
    print(f"{run_dir}: {len(found)} finished stages, trained on {trained:,} examples in all their epochs.")
    alone = sum(examples(found[path], found[path].epochs) for path in paths(run_dir) if path in found)
    if alone:
        print(f"  Sharing: {alone:,} if every strategy trained its own stages, {1 - trained / alone:.0%} saved.")
    if all(limit and limit > 0 for limit in limits.values()):
        allowed = sum(examples(stage, limits[path]) for path, stage in found.items())
        best = sum(examples(stage, stage.best_epoch) for stage in found.values())
        print(
            f"  Early stopping: {allowed:,} with all epochs that max_epochs allows, {1 - trained / allowed:.0%} saved; "
            f"{1 - best / trained:.0%} of the training came after the best epoch (patience)."
        )


def paths(run_dir: Path) -> list[Path]:
    """The stages of each strategy and seed of a comparison; a shared stage is repeated."""
    comparison = run_dir / "compare.json"
    if not comparison.exists():
        return []
    strategies: dict[str, dict[str, Any]] = json.loads(comparison.read_text())["strategies"]
    seeds = [seed for strategy in strategies.values() for seed in strategy["seeds"].values()]
    return [run_dir / path for seed in seeds for path in seed["paths"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", nargs="*", type=Path, help="run directories with finished stages")
    arguments = parser.parse_args()
    planned()
    for run_dir in arguments.run_dir:
        print()
        finished(run_dir)


if __name__ == "__main__":
    main()

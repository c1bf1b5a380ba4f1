"""Run directories as a comparison leaves them, for tests of the report."""

from __future__ import annotations

import json
import random

LAST = {"amount": 0, "optimizer": {"lr": 4e-5}}


STRATEGIES = {
    "in-domain only": [0],
    "mixed": [2000],
    "one-stage": [2000, LAST],
    "gradual": [2000, 500, LAST],
}


LEVEL = {"0": 0.5, "2000": 0.55, "2000/0": 0.6, "2000/500": 0.62, "2000/500/0": 0.7}  # turns right in the end, about


def amount_of(stage):
    return stage["amount"] if isinstance(stage, dict) else stage


def write_comparison(root, strategies=STRATEGIES, seeds=(0, 1), metrics=("slot_accuracy", "joint_accuracy")):
    """Write compare.json alone."""
    by_seed = {}
    for name, schedule in strategies.items():
        for seed in seeds:
            folders = ["/".join(str(amount_of(stage)) for stage in schedule[:k]) for k in range(1, len(schedule) + 1)]
            paths = [f"seed-{seed}/{folder}" for folder in folders]
            by_seed.setdefault(name, {})[str(seed)] = {"paths": paths}
    content = {
        "strategies": {
            name: {"schedule": schedule, "amounts": list(map(amount_of, schedule)), "seeds": by_seed.get(name, {})}
            for name, schedule in strategies.items()
        },
        "seeds": list(seeds),
        "metrics": list(metrics),
        "baseline": "in-domain only",
        "monitor": "val/loss",
        "mode": "min",
        "command": "gradual compare --config configs/multiwoz/restaurant.yaml",
        "versions": {"python": "3.11.7", "torch": "2.13.0"},
        "environment": {"machine": "x86_64", "cpu": "a processor", "cores": 2, "gpus": []},
    }
    root.mkdir(parents=True, exist_ok=True)
    (root / "compare.json").write_text(json.dumps(content))
    return content


def stage_paths(content):
    """The folders of all stages of a comparison."""
    by_seed = [of_seed for strategy in content["strategies"].values() for of_seed in strategy["seeds"].values()]
    return {path for of_seed in by_seed for path in of_seed["paths"]}


def write_stage(root, path, test, examples=None, epochs=4, seconds=60.0, in_domain=500, val=None, **more):
    """Write one finished stage; its validation scores are those of the test unless they are given."""
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    amount = int(path.split("/")[-1].partition("-")[0])
    result = {
        "index": path.count("/") - 1, "amount": amount, "in_domain": in_domain, "out_of_domain": amount,
        "epochs": epochs, "best_epoch": max(1, epochs - 2), "seconds": seconds, "val": test if val is None else val,
        "test": test, "path": path, **more,
    }  # fmt: skip
    (folder / "stage.json").write_text(json.dumps({"patience": 3, "optimizer": {"lr": 1e-4}, "lr_schedule": {}}))
    start, chance = 8 - 2 * path.count("/"), random.Random(path)
    history = [
        {
            "epoch": epoch, "seconds": epoch * seconds / epochs, "lr": {"encoder": 1e-5, "rest": 1e-4},
            "train/loss": start / epoch, "val/loss": start / epoch**0.5 + chance.gauss(0, 0.1),
            **{f"val/{n}": value * epoch / (epoch + 0.5 + chance.random()) for n, value in result["val"].items()},
        }
        for epoch in range(1, epochs + 1)
    ]  # fmt: skip
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in history))
    if examples is not None:
        (folder / "test_examples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in examples))
    (folder / "result.json").write_text(json.dumps(result))


def draw_examples(path, count):
    """Test dialogues whose turns are right about as often as LEVEL says, and the scores over them."""
    seed, _, stages = path.partition("/")
    chance = random.Random(path)
    examples = []
    for number in range(count):
        turns = random.Random(number).randint(4, 10)
        level = min(0.98, max(0.05, LEVEL.get(stages, 0.5) + random.Random(f"{seed} {number}").gauss(0, 0.2)))
        joint = sum(chance.random() < level for _ in range(turns))
        slots = 7 * turns - sum(chance.randint(1, 2) for _ in range(turns - joint))
        examples.append(
            {"id": f"SNG{number:04}.json", "slot_accuracy": [slots, 7 * turns], "joint_accuracy": [joint, turns]}
        )
    sums = {
        name: [sum(example[name][k] for example in examples) for k in (0, 1)]
        for name in ("slot_accuracy", "joint_accuracy")
    }
    return examples, {name: numerator / denominator for name, (numerator, denominator) in sums.items()}


def write_run(root, strategies=STRATEGIES, seeds=(0, 1), count=30, epochs=4):
    """A whole run directory, every stage finished."""
    content = write_comparison(root, strategies, seeds)
    for path in sorted(stage_paths(content)):
        examples, test = draw_examples(path, count)
        write_stage(root, path, test, examples, epochs=epochs + len(path) % 3, seconds=40.0 + len(path))
    return root


def write_search(root):
    """Write the search.json of a search that has tried two paths."""
    paths = [
        {
            "schedule": [amount, 0],
            "state": "finished",
            "score": score,
            "stages": [
                {"path": f"seed-0/{amount}", "amount": amount, "lr_scale": 1.0, "score": 0.5, "cost": 400, "new": True},
                {"path": f"seed-0/{amount}/0", "amount": 0, "lr_scale": 1.0, "score": score, "cost": 80, "new": True},
            ],
        }
        for amount, score in ((2000, 0.61), (1000, 0.67))
    ]
    content = {
        "budget": {"in": "examples", "limit": 1000, "spent": 960},
        "monitor": "val/joint_accuracy", "mode": "max", "seed": 0, "amounts": [2000, 1000],
        "paths": paths, "best": 1, "default": 0, "confirm": None,
    }  # fmt: skip
    root.mkdir(parents=True, exist_ok=True)
    (root / "search.json").write_text(json.dumps(content))

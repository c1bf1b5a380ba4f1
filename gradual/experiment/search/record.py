"""What a search writes down: ``search.json`` for its report, and ``search.yaml`` with the best schedule."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

import yaml

from gradual.experiment.provenance import command_line, environment, versions
from gradual.experiment.search.growth import Growth
from gradual.experiment.search.settings import SearchConfig
from gradual.experiment.search.study import UNFINISHED, Trial
from gradual.files import write_atomically
from gradual.schedule import Schedule


def best_trial(growth: Growth) -> Trial | None:
    """The finished path with the best score, the first of equals; None while there is none."""
    sign = -1 if growth.experiment.defaults.mode == "max" else 1
    scores = [(sign * trial.score, trial.number) for trial in growth.trials if trial.score is not None]
    return growth.trials[min(scores)[1]] if scores else None


class Record:
    """Writes down how far a search is.

    Args:
        config: The settings of the search.
        first_is_default: Whether the first path is the schedule of the configuration.
        confirmed_by: The seeds of the confirmation; empty for none.
    """

    def __init__(self, config: SearchConfig, first_is_default: bool, confirmed_by: list[int]):
        self._config, self._first_is_default, self._confirmed_by = config, first_is_default, confirmed_by
        self._ended: dict[int, dict[str, Any]] = {}

    def save(self, growth: Growth) -> None:
        """Write ``search.json``, and ``search.yaml`` as soon as a path is finished.

        ``search.json`` is::

            {
              "budget": {"in": "examples", "limit": 20000, "spent": 17312},
              "monitor": "val/f1", "mode": "max", "seed": 0,
              "amounts": [4000, 2000, 1000],      # those to choose from
              "paths": [{                         # in the order of the search
                "schedule": [2000, {"amount": 0, "optimizer": {"lr_scale": 0.5}}],
                "state": "finished",              # or pruned, failed (it collapsed, or has no score), unfinished
                "score": 0.71,                    # of its result, as `final` says; null while it is not finished
                "stages": [{"path": "seed-0/2000", "amount": 2000, "lr_scale": 1.0, "score": 0.64,
                            "cost": 4200, "new": true}]  # new: this path has paid for it
              }],
              "best": 3, "default": 0,            # numbers of paths, from 0, or null
              "confirm": {"run_dir": "confirm", "seeds": [1, 2, 3]},  # null for none
              "settings": {...}, "command": "...", "versions": {...}, "environment": {...}
            }
        """
        best = best_trial(growth)
        defaults = growth.experiment.defaults
        content = {
            "budget": {"in": growth.unit, "limit": growth.budget, "spent": growth.spent},
            "monitor": defaults.monitor,
            "mode": defaults.mode,
            "seed": growth.seed,
            "amounts": growth.space.amounts,
            "paths": [self._path(growth, trial) for trial in growth.trials],
            "best": best.number if best else None,
            "default": 0 if self._first_is_default and growth.trials else None,
            "confirm": {"run_dir": CONFIRM, "seeds": self._confirmed_by} if self._confirmed_by else None,
            "settings": asdict(self._config),
            "command": command_line(),
            "versions": versions(),
            "environment": environment(),
        }
        root = growth.experiment.run.root
        write_atomically(root / "search.json", json.dumps(content, indent=2) + "\n")
        if best is not None:
            write_atomically(root / "search.yaml", _yaml(growth.space.schedule(best.choices)))

    def _path(self, growth: Growth, trial: Trial) -> dict[str, Any]:
        if trial.number not in self._ended:
            plain = _plain(growth, trial)
            if trial.state == UNFINISHED:
                return plain
            self._ended[trial.number] = plain
        return self._ended[trial.number]


CONFIRM = "confirm"
"""The run directory of the confirmation, in that of the search."""


def _plain(growth: Growth, trial: Trial) -> dict[str, Any]:
    result, paid = growth.result_of(trial), trial.paid
    whole = growth.space.schedule(trial.choices).to_list() if trial.choices else []
    return {
        "schedule": whole[: len(trial.choices)],
        "state": trial.state,
        "score": trial.score,
        "stages": [
            {
                "path": stage.path,
                "amount": choice.amount,
                "lr_scale": choice.factor,
                "score": score if math.isfinite(score := growth.score(stage)) else None,
                "cost": growth.cost(stage),
                "new": stage.path in paid,
            }
            for stage, choice in zip(result.stages, trial.choices)
        ],
    }


def _yaml(schedule: Schedule) -> str:
    text = yaml.safe_dump({"schedule": schedule.to_list()}, sort_keys=False, default_flow_style=None)
    return f"# The best schedule that gradual search has found: --config FILE --config search.yaml\n{text}"

"""The strategies of the paper's Table 5."""

from __future__ import annotations

from pathlib import Path

import yaml

from gradual import Schedule
from gradual.experiment.strategies import Strategy, parse_strategies


def table5() -> dict[str, Strategy]:
    """Without ``later_stages``, which say that the dialogue model's vectors are trained: other models have none."""
    config = Path(__file__).parents[1] / "configs/multiwoz/table5.yaml"
    content = yaml.safe_load(config.read_text())
    return parse_strategies(content["strategies"], Schedule(content["schedule"], last_stage=content["last_stage"]))

"""The strategies of the paper's Table 5."""

from __future__ import annotations

from pathlib import Path

import yaml

from gradual import Schedule
from gradual.experiment.strategies import Strategy, parse_strategies


def table5() -> dict[str, Strategy]:
    config = Path(__file__).parents[1] / "configs/multiwoz/table5.yaml"
    content = yaml.safe_load(config.read_text())
    return parse_strategies(
        content["strategies"], Schedule(content["schedule"], content["later_stages"], content["last_stage"])
    )

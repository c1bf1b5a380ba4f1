"""The strategies of the paper's Table 5."""

from __future__ import annotations

from pathlib import Path

import yaml

from gradual import Schedule
from gradual.experiment.strategies import Strategy, parse_strategies


def table5(vectors: bool = True) -> dict[str, Strategy]:
    """The strategies of Table 5.

    Args:
        vectors: Whether later stages train the dialogue model's vectors; other models have none.
    """
    config = Path(__file__).parents[1] / "configs/multiwoz/table5.yaml"
    content = yaml.safe_load(config.read_text())
    later = content["later_stages"] if vectors else None
    return parse_strategies(content["strategies"], Schedule(content["schedule"], later, content["last_stage"]))

"""What a search is made of besides its stages, for the identity of its run directory."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from gradual.config_dataclasses import as_plain
from gradual.experiment.final import Final
from gradual.experiment.search.settings import SearchConfig
from gradual.experiment.search.space import Space
from gradual.schedule import Schedule


def identity_of_search(
    schedule: Schedule, space: Space, config: SearchConfig, final: Final, seed: int
) -> dict[str, Any]:
    """What decides which paths a search chooses from and what they score: the section ``search`` of an identity.

    Args:
        schedule: The schedule of the configuration.
        space: The paths to choose from.
        config: The settings of the search.
        final: What the result of a path is.
        seed: The seed of its stages and of its choices.
    """
    return {
        "schedule": space.given,
        "later_stages": as_plain(schedule.later_stages),
        "last_stage": as_plain(schedule.last_stage),
        "final": final.to_plain(),
        "seed": seed,
        "search": asdict(config),
        "stages": space.counted().to_list(),
    }

"""A limit of steps ends a stage, and is part of its identity where it is set."""

import pytest
from controlled_runs import compare, counted, results

from gradual import Schedule, Strategy
from gradual.runs.directory import StageDirectory

pytestmark = pytest.mark.usefixtures("undrawn_figures")


def test_a_stage_ends_after_its_limit_of_steps_which_is_part_of_its_identity_only_where_it_is_set(tmp_path):
    strategies = {"gradual": Strategy(Schedule([{"amount": 24, "max_steps": 12}, 0]))}
    compare(tmp_path, strategies, controls=False)
    steps, _ = counted(tmp_path)
    assert steps["24"] == 12
    limited = results(tmp_path)["24"]
    assert (limited["ended_by"], limited["converged"], limited["planned_steps"]) == ("max_steps", False, 12)
    settings = {path: StageDirectory(tmp_path / "run/seed-0" / path).settings() for path in ("24", "24/0")}
    assert settings["24"]["max_steps"] == 12
    assert not {"max_steps", "in_domain_weight", "same_training"} & settings["24/0"].keys()

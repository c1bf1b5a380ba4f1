"""Controls take exactly the steps of what they copy, validate as often and end by nothing else."""

import json
import math
from collections import Counter

import pytest
import torch
from controlled_runs import COPIES, OWN, SHARED, SLOWER, Counting, compare, counted, make_experiment, results
from lightning.pytorch.callbacks import EarlyStopping, Timer

from gradual import CollapseConfig, Schedule, Strategy
from gradual.experiment.controls import CONTROLS, ON_REQUEST, REPLAY, WEIGHTED
from gradual.runs.directory import StageDirectory
from gradual.runs.result import STEPS_OF_STRATEGY

pytestmark = pytest.mark.usefixtures("undrawn_figures")

REQUESTED = {
    "24/24-weighted-as-12": 20,
    "24/24-weighted-as-12/24-weighted-as-4": 21,
    "24/24-weighted-as-12/24-weighted-as-4/0-as-0": 10,
    "24/12/4/2-as-0": 10,
}


def test_controls_take_exactly_the_steps_of_what_they_copy(whole):
    steps, _ = counted(whole)
    assert steps + Counter(SHARED) == OWN | COPIES | REQUESTED


def test_a_control_validates_as_often_as_what_it_copies(whole):
    _, validations = counted(whole)
    assert {path: validations[path] for path in OWN} == {"24": 5, "24/12": 4, "24/12/4": 7, "24/12/4/0": 5}
    assert validations["24-as-24+12+4"] == 4 + 7, "beside the 5 of the first stage"
    assert validations["24-as-24+12+4+0"] == 4 + 7 + 5
    assert validations["24/24-as-12/24-as-4"] == validations["24/0-as-12/0-as-4"] == 7
    with_shared = validations + Counter(dict.fromkeys(SHARED, 5))
    assert {path: result["validations"] for path, result in results(whole).items()} == with_shared


def test_a_control_validates_at_the_distances_of_each_stage_that_it_copies(whole):
    lines = [json.loads(line) for line in (whole / "counted.jsonl").read_text().splitlines()]
    found = [line["validation"] for line in lines if line["path"] == "24-as-24+12+4" and "validation" in line]
    assert found == [45, 50, 55, 60, 63, 66, 69, 72, 75, 78, 81]


def test_a_control_validates_as_often_where_gradients_are_accumulated(tmp_path):
    """Epochs of 8, 5, 3 and 2 batches are 2, 2, 1 and 1 steps, the last of fewer batches than the others."""
    experiment = make_experiment(tmp_path, accumulate_grad_batches=4)
    compare(tmp_path, controls=CONTROLS[1:3], experiment=experiment)
    steps, validations = counted(tmp_path)
    epochs = {"24": 5, "24/12": 4, "24/12/4": 7, "24/12/4/0": 5}
    assert {path: validations[path] for path in OWN} == epochs
    assert {path: steps[path] for path in OWN} == {"24": 10, "24/12": 8, "24/12/4": 7, "24/12/4/0": 5}
    for middle in ("24", "0"):
        copies = [f"24/{middle}-as-12", f"24/{middle}-as-12/{middle}-as-4"]
        copies += [f"{copies[-1]}/0-as-0"]
        assert [validations[path] for path in copies] == [4, 7, 5]
        assert [steps[path] for path in copies] == [8, 7, 5]


def test_a_control_ends_by_the_steps_of_its_strategy_and_counts_as_converged(whole):
    steps = counted(whole)[0] + Counter(SHARED)
    for path, result in results(whole).items():
        assert result["steps"] == steps[path]
        assert (result["converged"], result["ended_by"]) == (True, STEPS_OF_STRATEGY if "-as-" in path else "patience")
    assert results(whole)["24/12"]["planned_steps"] == 40 * 5
    assert results(whole)["24/24-as-12"]["planned_steps"] == 40 * 5
    assert results(whole)["24-as-24+12+4"]["planned_steps"] == 40 * (8 + 5 + 3)
    assert results(whole)["24"]["examples_seen"] == 5 * (8 + 24)
    assert results(whole)["24/24-as-12"]["examples_seen"] == 20 / 8 * (8 + 24)


@pytest.mark.slow
def test_a_control_of_a_stage_that_was_cut_off_has_not_converged_either(tmp_path):
    compare(tmp_path, {"gradual": Strategy(Schedule([24, {"amount": 4, "max_epochs": 3}, 0]))})
    found = {path: result["converged"] for path, result in results(tmp_path).items()}
    assert found == {
        "24": True, "24/4": False, "24/4/0": True, "24-as-24+4": False, "24-as-24+4/0-as-0": True,
        "24/24-as-4": False, "24/24-as-4/0-as-0": True, "24/0-as-4": False, "24/0-as-4/0-as-0": True,
        "24-as-24+4+0": False,
    }  # fmt: skip
    assert results(tmp_path)["24/24-as-4"]["steps"] == 9


def test_the_best_validation_of_a_control_is_carried_forward(whole):
    root = whole / "run/seed-0/24/24-as-12"
    result = StageDirectory(root).result()
    script = Counting.losses[24]
    assert (result.epochs, result.best_epoch) == (3, 3)  # 20 steps are two epochs and a half
    assert result.val["loss"] == min(script[:3])
    kept = torch.load(root / "best.ckpt", weights_only=True)["state_dict"]
    start = torch.load(root / "24-as-4/last.ckpt", weights_only=True)
    assert start["global_step"] == 21
    assert not torch.equal(start["state_dict"]["layer.weight"], kept["layer.weight"])


def test_controls_on_request_repeat_in_domain_examples_or_keep_a_tenth_of_the_first_amount(whole):
    content = json.loads((whole / "run/compare.json").read_text())["strategies"]
    weighted, replay = content[f"gradual: {WEIGHTED}"], content[f"gradual: {REPLAY}"]
    assert weighted["amounts"] == [24, 24, 24, 0]
    assert [stage["in_domain_weight"] for stage in weighted["schedule"][1:3]] == [24 / 12, 24 / 4]
    assert replay["amounts"] == [24, 12, 4, 2]
    assert replay["seeds"]["0"]["paths"][2:] == ["seed-0/24/12/4", "seed-0/24/12/4/2-as-0"]


@pytest.mark.slow
def test_strategies_share_what_controls_have_in_common(tmp_path):
    strategies = {
        "gradual": Strategy(Schedule([24, 12, 0])),
        "longer": Strategy(Schedule([24, 12, 4, 0])),
        "slower": Strategy(Schedule([24, SLOWER, 0])),
    }
    tree = compare(tmp_path, strategies, controls=CONTROLS[:2])
    steps, _ = counted(tmp_path)
    own = {"24/12/0": 10, "24/12-2": 20, "24/12-2/0": 10}
    one_stage = {  # whose first 40 steps are those of the first stage
        f"24-as-24+{path}": steps
        for path, steps in (
            ("12", 20),
            ("12/0-as-0", 10),
            ("12-2", 20),
            ("12-2/0-as-0", 10),
            ("12+4", 41),
            ("12+4/0-as-0", 10),
        )
    }
    same_restarts = {
        f"24/24-as-12{path}": steps
        for path, steps in (
            ("", 20),
            ("/0-as-0", 10),
            ("/24-as-4", 21),
            ("/24-as-4/0-as-0", 10),
            ("-2", 20),
            ("-2/0-as-0", 10),
        )
    }
    assert steps == OWN | own | one_stage | same_restarts
    assert len(tree.nodes) == len(steps)
    shared = [tree.paths[f"{name}: same training, same restarts", 0][1] for name in ("gradual", "longer", "slower")]
    assert shared[0] is shared[1] is not shared[2]


@pytest.mark.slow
def test_nothing_of_the_trainer_s_ends_a_control_early(tmp_path):
    def callbacks():
        return [EarlyStopping("val/loss", patience=1), Timer("00:01:00:00")]

    experiment = make_experiment(tmp_path, min_epochs=3, max_time="00:01:00:00", accumulate_grad_batches=2)
    given = experiment.trainer_arguments()
    experiment.trainer_arguments = lambda: {**given, "callbacks": callbacks()}
    compare(tmp_path, {"gradual": Strategy(Schedule([24, 4, 0]))}, experiment=experiment)
    steps, _ = counted(tmp_path)  # an epoch of 3 batches is 2 steps; epochs as their patience of 1 has it
    assert {path: steps[path] for path in ("24", "24/4", "24/4/0")} == {"24": 4 * 4, "24/4": 2 * 6, "24/4/0": 4}
    assert steps["24-as-24+4"] == 28
    assert steps["24/24-as-4"] == steps["24/0-as-4"] == 12


def test_nothing_is_trained_again_by_the_same_command(whole):
    before = (whole / "counted.jsonl").read_text()
    compare(whole, controls=[*CONTROLS, *ON_REQUEST])
    assert (whole / "counted.jsonl").read_text() == before


def test_a_control_without_a_finite_score_has_not_converged(tmp_path, monkeypatch):
    monkeypatch.setitem(Counting.losses, 0, [5, 4, 3, math.nan])
    experiment = make_experiment(tmp_path, settings={"collapse": CollapseConfig(attempts=0)})
    compare(
        tmp_path, {"gradual": Strategy(Schedule([24, 12, 0]))}, ["same training, drop at once"], experiment=experiment
    )
    dropped = results(tmp_path)["24/0-as-12"]
    assert (dropped["converged"], dropped["ended_by"]) == (False, "")
    assert dropped["steps"] < 20

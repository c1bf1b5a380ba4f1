"""The stage that a command is given: of a comparison, those that the message proposes."""

import json
import math
from pathlib import Path

import pytest
from report_files import write_comparison, write_search, write_stage

from gradual import InputError
from gradual.cli.chosen_stage import choose_stage


def test_the_seed_that_is_proposed_is_the_best_one_by_the_result_of_its_path(tmp_path):
    content = write_comparison(tmp_path, {"in-domain only": [0], "gradual": [20, 0]})
    losses = {0: (0.2, 0.9), 1: (0.5, 0.4)}  # of seed 0 the first stage is the result, and better than all of seed 1's
    for seed, (first, last) in losses.items():
        kept = f"seed-{seed}/20" if first < last else f"seed-{seed}/20/0"
        content["strategies"]["gradual"]["seeds"][str(seed)]["final"] = {"path": kept}
        for path, loss in ((f"seed-{seed}/0", 1.0), (f"seed-{seed}/20", first), (f"seed-{seed}/20/0", last)):
            write_stage(tmp_path, path, {"joint_accuracy": 0.5}, val={"loss": loss})
    for final, proposed in (("last", "seed-1/20/0"), ("best", "seed-0/20")):
        content["strategies"]["gradual"]["final"] = final
        Path(tmp_path / "compare.json").write_text(json.dumps(content))
        with pytest.raises(InputError) as refused:
            choose_stage(tmp_path)
        assert f"such as {tmp_path / proposed} (gradual) or" in str(refused.value)


@pytest.mark.parametrize(("mode", "best"), [("min", 1), ("max", 2)])
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_seed_whose_score_is_not_finite_is_not_proposed(tmp_path, mode, best, broken):
    content = write_comparison(tmp_path, {"gradual": [0]}, seeds=(0, 1, 2))
    (tmp_path / "compare.json").write_text(json.dumps(content | {"mode": mode, "baseline": None}))
    for seed, loss in enumerate((broken, 2.54, 2.58)):
        write_stage(tmp_path, f"seed-{seed}/0", {"joint_accuracy": 0.5}, val={"loss": loss})
    assert f"such as {tmp_path / f'seed-{best}/0'} (gradual), each with" in refusal(tmp_path)
    for seed in (1, 2):
        write_stage(tmp_path, f"seed-{seed}/0", {"joint_accuracy": 0.5}, val={"loss": broken})
    assert f"such as {tmp_path / 'seed-0/0'} (gradual), each with" in refusal(tmp_path)


def refusal(given):
    with pytest.raises(InputError) as refused:
        choose_stage(given)
    return str(refused.value)


def test_a_configuration_is_no_stage(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    for path in (tmp_path / "mine.yaml", run / "config.yaml"):
        path.write_text("patience: 3\n")
    (run / "experiment.json").write_text("{}")
    said = "is a configuration, for --config, and no stage: it must be a run directory of gradual fit, or"
    assert refusal(tmp_path / "mine.yaml").startswith(f"{tmp_path / 'mine.yaml'} {said}")
    assert refusal(run / "config.yaml").endswith(f" It belongs to {run}.")


def test_of_a_search_the_schedule_that_it_found_is_to_be_trained(tmp_path):
    write_search(tmp_path)
    said = refusal(tmp_path)
    assert said.startswith(f"{tmp_path} holds a search: train the schedule that it found with gradual fit --schedule ")
    assert f" {tmp_path / 'search.yaml'}, or give one of the stages in it." in said

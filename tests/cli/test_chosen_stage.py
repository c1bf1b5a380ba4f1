"""The stage that a command is given: of a comparison, those that the message proposes."""

import json
from pathlib import Path

import pytest
from report_files import write_comparison, write_stage

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

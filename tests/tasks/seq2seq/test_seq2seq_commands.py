"""Sequence-to-sequence tasks on the command line: every command, the configuration of the project, mistakes."""

import json
from pathlib import Path

import pytest
import task_commands
from pair_files import PAIRS, write_rows
from recorded_runs import path_results
from slow_cases import fast_one_in

from gradual.__main__ import main

CONFIG = Path(__file__).parents[3] / "configs" / "tasks" / "seq2seq.yaml"

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning"),  # Lightning's advice
    pytest.mark.usefixtures("_command_line"),
]


def command(name, folder, run_dir, *more, family="t5"):
    task_commands.command(name, folder, run_dir, *more, family=family)


@pytest.mark.slow
def test_every_command_works(folder, tmp_path, capsys, caplog):
    run_dir = tmp_path / "run"
    with caplog.at_level("INFO", "gradual"):
        command("fit", folder, run_dir, "--model=Seq2Seq", "--model.generate={max_new_tokens: 3}")
    for stage in path_results(run_dir)["stages"]:
        assert set(stage["val"]) == {"loss"}
        assert set(stage["test"]) == {"loss", "exact_match", "rougeL"}
    assert "Columns: source is 'source', target is 'target', id is 'id'." in caplog.text
    capsys.readouterr()
    checkpoint = f"--ckpt_path={run_dir}/seed-0/2/0/best.ckpt"
    main(["test", f"--config={run_dir}/config.yaml", checkpoint])
    assert "test/rougeL" in capsys.readouterr().out
    target = tmp_path / "texts.jsonl"
    main(["predict", f"--config={run_dir}/config.yaml", checkpoint, f"--predictions={target}"])
    records = [json.loads(line) for line in target.read_text().splitlines()]
    assert [record["id"] for record in records] == [f"test{at}" for at in range(len(PAIRS))]
    assert all(set(record) == {"id", "text"} and len(record["text"].split()) <= 3 for record in records)


@pytest.mark.slow
def test_the_configuration_that_comes_with_the_project_trains(folder, tmp_path):
    command("fit", folder, tmp_path / "run", f"--config={CONFIG}", "--lr_schedule.warmup=0")
    assert [set(stage["test"]) for stage in path_results(tmp_path / "run")["stages"]] == [
        {"loss", "exact_match", "rougeL"}
    ] * 2


@pytest.mark.parametrize(
    ("rows", "more", "problem"),
    fast_one_in(
        3,
        [
            ([{"words": "x"}], [], "new.jsonl has no column named source or input or document"),
            ([{"source": "x"}], [], "new.jsonl has no column named target or output"),
            ([{"source": "x", "target": None}], [], "new.jsonl:1: 'target' has no value"),
            ([{"source": "x", "target": 3}], [], "new.jsonl:1: 'target' is the number 3"),
            ([{"source": "x", "target": "y"}], ["--data.max_target_length=2"], "max_target_length is 2: it must be"),
            ([{"source": "x", "target": "y"}], ["--data.max_target_length=33"], "max_target_length is 33: "),
            (
                [{"source": "x", "target": "y"}],
                ["--model.generate={max_tokens: 3}"],
                "generate has no setting 'max_tokens'",
            ),
            (
                [{"source": "x", "target": "y"}],
                ["--model.scores=[rouge]"],
                "scores has 'rouge': it may have exact_match, ",
            ),
            ([{"source": "x", "target": "y"}], ["--model.val_scores=[bleurt]"], "val_scores has 'bleurt'"),
        ],
    ),
)
def test_a_mistake_is_one_sentence(folder, tmp_path, capfd, rows, more, problem):
    file = write_rows(tmp_path / "new.jsonl", rows)
    own = [f"--data.{part}={file}" for part in ("in_domain", "val", "test", "out_of_domain")]
    with pytest.raises(SystemExit):
        command("fit", folder, tmp_path / "run", "--model=Seq2Seq", *own, *more)
    error = capfd.readouterr().err
    assert problem in error
    assert "Traceback" not in error

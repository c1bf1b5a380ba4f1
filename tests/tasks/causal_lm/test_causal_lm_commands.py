"""Language modeling on the command line: every command, the configuration of the project, mistakes."""

import json
from pathlib import Path

import pytest
import task_commands
from causal_lm_models import ROWS
from language_files import write_rows
from recorded_runs import path_results
from slow_cases import fast_one_in

from gradual.__main__ import main

CONFIG = Path(__file__).parents[3] / "configs" / "tasks" / "causal_lm.yaml"

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning"),  # Lightning's advice
    pytest.mark.usefixtures("_command_line"),
]


def command(name, folder, run_dir, *more, form="messages"):
    task_commands.command(name, folder, run_dir, *more, family="llama", form=f"{form}.")


def test_every_command_works_on_conversations(folder, tmp_path, capsys):
    run_dir = tmp_path / "run"
    command("fit", folder, run_dir, "--model=CausalLM", "--model.generate={max_new_tokens: 3}")
    for stage in path_results(run_dir)["stages"]:
        assert {"loss", "perplexity"} <= set(stage["val"])
        assert set(stage["test"]) == {"loss", "perplexity", "exact_match", "rouge1", "rouge2", "rougeL"}
    capsys.readouterr()
    checkpoint = f"--ckpt_path={run_dir}/seed-0/2/0/best.ckpt"
    main(["test", f"--config={run_dir}/config.yaml", checkpoint])
    assert "test/perplexity" in capsys.readouterr().out
    target = tmp_path / "texts.jsonl"
    main(["predict", f"--config={run_dir}/config.yaml", checkpoint, f"--predictions={target}"])
    records = [json.loads(line) for line in target.read_text().splitlines()]
    assert [set(record) for record in records] == [{"id", "text"}] * len(ROWS["messages"])


@pytest.mark.slow
def test_the_configuration_that_comes_with_the_project_trains(folder, tmp_path):
    command("fit", folder, tmp_path / "run", f"--config={CONFIG}", "--data.max_length=64", form="completion")
    stages = path_results(tmp_path / "run")["stages"]
    assert [(stage["in_domain"], stage["out_of_domain"]) for stage in stages] == [(5, 2), (5, 0)]
    assert all(set(stage["test"]) == {"loss", "perplexity"} for stage in stages)


@pytest.mark.parametrize(
    ("rows", "more", "problem"),
    fast_one_in(
        4,
        [
            (
                [{"words": "x"}],
                [],
                "new.jsonl has no column messages, none of prompt and completion, and none of text, but",
            ),
            ([{"text": "x"}], ["--data.prompt_column=text"], "new.jsonl has no column named completion, but text: set"),
            ([{"messages": [{"role": "user"}]}], [], "new.jsonl:1: message 1 has no text as its content."),
            ([{"text": "x"}], ["--model.generate={max_tokens: 3}"], "generate has no setting 'max_tokens'"),
            ([{"text": "x"}], ["--data.loss_on=none"], "loss_on"),
        ],
    ),
)
def test_a_mistake_is_one_sentence(folder, tmp_path, capfd, rows, more, problem):
    file = write_rows(tmp_path / "new.jsonl", rows)
    own = [f"--data.{part}={file}" for part in ("in_domain", "val", "test", "out_of_domain")]
    with pytest.raises(SystemExit):
        command("fit", folder, tmp_path / "run", "--model=CausalLM", *own, *more)
    error = capfd.readouterr().err
    assert problem in error
    assert "Traceback" not in error

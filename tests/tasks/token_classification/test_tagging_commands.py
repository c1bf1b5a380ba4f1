"""Tagging on the command line, and what the log says of the data."""

import json
import logging
from pathlib import Path

import pytest
from recorded_runs import path_results
from tagger_models import data

from gradual.__main__ import main

CONFIG = Path(__file__).parents[3] / "configs/tasks/token_classification.yaml"

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning"),  # Lightning's advice
    pytest.mark.usefixtures("_command_line"),
]


def test_what_was_found_is_said_once(folder, caplog):
    caplog.set_level(logging.INFO)
    module = data(folder)
    module.setup()
    module.setup()
    assert [record.message for record in caplog.records].count("Column 'tags': spans of 2 types in IOB2.") == 1


def command(name, folder, *more):
    files = [
        f"--data.{part}={folder / file}.txt"
        for part, file in [("in_domain", "train"), ("out_of_domain", "pool"), ("val", "dev"), ("test", "test")]
    ]
    fast = ["--trainer.accelerator=cpu", "--trainer.max_epochs=1", "--trainer.logger=false", "--schedule=[8, 0]"]
    encoder = ["--model.pretrained", str(folder / "bert"), f"--data.cache_dir={folder / 'cache'}"]
    main([name, *more, *files, *encoder, *fast])


def test_from_files_to_predictions_on_the_command_line(folder, tmp_path):
    command("fit", folder, "--model=TokenClassifier", "--monitor=val/f1", f"--run_dir={tmp_path}/run")
    stages = path_results(tmp_path / "run")["stages"]
    assert [(stage["in_domain"], stage["out_of_domain"]) for stage in stages] == [(12, 8), (12, 0)]
    assert all(set(stage["test"]) == {"loss", "precision", "recall", "f1"} for stage in stages)
    (tmp_path / "words.txt").write_text("sam\nmet\npolice\n\nparis\n")
    best, out = f"{tmp_path}/run/seed-0/8/0/best.ckpt", tmp_path / "predictions.jsonl"
    arguments = [f"--ckpt_path={best}", f"--predictions={out}", f"--data.predict={tmp_path}/words.txt"]
    main(["predict", f"--config={tmp_path}/run/config.yaml", *arguments])
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(record["id"], record["tokens"]) for record in records] == [
        ("0", ["sam", "met", "police"]),
        ("1", ["paris"]),
    ]
    known = {"O", "B-LOC", "I-LOC", "B-PER", "I-PER"}
    assert all(len(record["tags"]) == len(record["tokens"]) and {*record["tags"]} <= known for record in records)


def test_the_configuration_of_the_task_can_be_used(folder, capsys):
    command("plan", folder, f"--config={CONFIG}")
    rows = [line.split()[:4] for line in capsys.readouterr().out.splitlines() if line.strip()[:1].isdigit()]
    assert rows == [["1", "12", "8", "1:0.67"], ["2", "12", "0", "1:0.00"]]

"""The packages of the report are looked for before anything trains, not when the report is written."""

import functools
import json
import sys
from importlib.util import find_spec

import linear_model
import pytest
import yaml
from wrong_commands import mistake

import gradual
from gradual import report

MODEL = """
from linear_model import LinearModel


class Model(LinearModel):
    def __init__(self):
        super().__init__("trained.txt")
"""


@pytest.fixture(autouse=True)
def _without_matplotlib(monkeypatch):
    monkeypatch.setattr(report, "find_spec", lambda name: None if name == "matplotlib" else find_spec(name))


@pytest.mark.parametrize("function", [gradual.compare, functools.partial(gradual.search, budget=100)])
def test_from_python(tmp_path, function):
    model = functools.partial(linear_model.LinearModel, tmp_path / "trained.txt")
    with pytest.raises(gradual.InputError, match="needs matplotlib, which is not installed"):
        function(model, linear_model.make_data({}), [20, 0], tmp_path / "run", optimizer={"lr": 0.05})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [["compare"], ["search", "--budget=100"]])
def test_from_the_command_line(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["gradual"])
    (tmp_path / "model_of_report.py").write_text(MODEL)
    for name in ("train", "pool", "dev"):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"x": k}) + "\n" for k in range(4)))
    files = {"in_domain": "train.jsonl", "out_of_domain": "pool.jsonl", "val": "dev.jsonl", "cache_dir": "cache"}
    config = {
        "model": "model_of_report.Model",
        "data": {"class_path": "FileDataModule", "init_args": files},
        "schedule": [4, 0],
        "optimizer": {"lr": 0.05},
        "run_dir": "run",
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    assert "The report needs matplotlib, which is not installed" in mistake(capsys, [*command, "--config=mine.yaml"])
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "trained.txt").exists()

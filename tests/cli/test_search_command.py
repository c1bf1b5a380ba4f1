"""``gradual search`` from its arguments to its report."""

import json
import sys

import pytest
import yaml

from gradual.__main__ import main

MODEL = """
import torch
from lightning.pytorch import LightningModule
from torch import nn


class Model(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        return (self.layer(batch["x"][:, None].float()) - 1).square().mean()

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.training_step(batch, 0), batch_size=len(batch["x"]))

    def test_step(self, batch, batch_idx):
        self.log("test/loss", self.training_step(batch, 0), batch_size=len(batch["x"]))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a model, files, and a configuration whose test file does not exist yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["gradual"])
    (tmp_path / "searched_model.py").write_text(MODEL)
    for name, count in (("train", 4), ("pool", 16), ("dev", 4)):
        rows = [json.dumps({"x": k / count, "id": f"{name}{k}"}) for k in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows) + "\n")
    files = {"in_domain": "train.jsonl", "out_of_domain": "pool.jsonl", "val": "dev.jsonl", "test": "test.jsonl"}
    config = {
        "model": "searched_model.Model",
        "data": {"class_path": "FileDataModule", "init_args": {**files, "id_column": "id", "cache_dir": "cache"}},
        "schedule": [8, 0],
        "optimizer": {"lr": 0.05},
        "search": {"multiples": [2, 1], "lr_scales": [1.0], "max_stages": 3},
        "trainer": {"max_epochs": 1, "accelerator": "cpu", "logger": False, "enable_progress_bar": False},
        "run_dir": "run",
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    return tmp_path


def test_it_searches_without_the_test_file_and_its_schedule_can_be_trained(folder, capsys):
    command = ["search", "--config=mine.yaml", "--budget=60", "--confirm_seeds=[]"]
    main(command)
    said = capsys.readouterr().out
    assert "The best on validation is" in said
    assert "Report: run/report/search.html" in said
    found = yaml.safe_load((folder / "run/search.yaml").read_text())["schedule"]
    results = sorted((folder / "run").rglob("result.json"))
    main(command)
    assert sorted((folder / "run").rglob("result.json")) == results
    main(["report", "run"])
    assert "The tree: what each choice cost and gave" in capsys.readouterr().out

    (folder / "test.jsonl").write_text((folder / "dev.jsonl").read_text().replace("dev", "test"))
    main(["fit", "--config=mine.yaml", "--schedule=run/search.yaml"])
    fitted = json.loads((folder / "run/results.json").read_text())["strategies"]["fit"]
    assert fitted["schedule"] == found
    assert sorted((folder / "run").rglob("result.json")) == results, "its stages are those of the search"
    assert fitted["seeds"]["0"]["final"]["test"]


@pytest.mark.slow
def test_it_confirms_under_fresh_seeds(folder):
    (folder / "test.jsonl").write_text((folder / "dev.jsonl").read_text().replace("dev", "test"))
    main(["search", "--config=mine.yaml", "--budget=20", "--confirm_seeds=[3]"])
    compared = json.loads((folder / "run/confirm/compare.json").read_text())
    assert compared["seeds"] == [3]
    assert "searched schedule" in compared["strategies"]
    assert (folder / "run/confirm/report/report.html").exists()


@pytest.mark.slow
def test_on_ray_it_finds_what_it_finds_in_one_process(folder):
    """Paths are chosen by their number alone, so that the order in which stages end decides nothing."""
    pytest.importorskip("ray", reason="ray is an extra: pip install gradual[ray]")
    (folder / "test.jsonl").write_text((folder / "dev.jsonl").read_text().replace("dev", "test"))
    command = ["search", "--config=mine.yaml", "--budget=1000000", "--search.sampler=RandomSampler"]
    command += ["--search.pruner=null", "--confirm_seeds=[3]", "--metrics=[loss]"]
    main([*command, "--run_dir=one"])
    main([*command, "--run_dir=ray", "--ray=local", "--jobs=2"])
    one, on_ray = (json.loads((folder / run / "search.json").read_text()) for run in ("one", "ray"))
    best = [content["paths"][content["best"]] for content in (one, on_ray)]
    assert best[0]["schedule"] == best[1]["schedule"]
    assert best[0]["score"] == best[1]["score"]
    assert on_ray["budget"] == one["budget"]
    found = [
        {path.relative_to(folder / run): json.loads(path.read_text()) for path in (folder / run).rglob("result.json")}
        for run in ("one", "ray")
    ]
    assert found[0].keys() == found[1].keys()
    assert len(found[0]) > 10, "of three paths, and of their confirmation"
    for path, result in found[0].items():
        assert {name: result[name] for name in ("val", "test", "steps")} == {
            name: found[1][path][name] for name in ("val", "test", "steps")
        }


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["search", "--config=mine.yaml"], "gradual search needs a budget"),
        (["search", "--config=mine.yaml", "--budget=5", "--seeds=[1]"], "Did you mean --confirm_seeds?"),
        (["fit", "--config=mine.yaml", "--budget=5"], "--budget is a setting of gradual search"),
        (["fit", "--config=mine.yaml", "--search.max_stages=5"], "--search is a setting of gradual search"),
        (["search", "--config=mine.yaml", "--budget=5", "--strategies=[mixed]"], "is a setting of gradual compare"),
        (["fit", "--config=mine.yaml", "--schedule=none.yaml"], "none.yaml does not exist"),
    ],
)
def test_mistakes_are_said_in_a_sentence(folder, capfd, given, said):
    with pytest.raises(SystemExit):
        main(given)
    assert said in capfd.readouterr().err

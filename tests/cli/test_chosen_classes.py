"""Short class names, the data module that a model brings, and the commands of a task, from files to predictions."""

import json

import pytest
import yaml
from slow_cases import fast_one_in
from tiny_models import write_model

from gradual.__main__ import main
from gradual.cli.chosen_classes import import_chosen

WORDS = ["good", "bad", "the", "food", "room"]

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # Lightning's advice


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files of an experiment and a tiny model."""
    folder = tmp_path_factory.mktemp("texts")
    write_model(folder / "encoder", "bert", WORDS)
    for part, count in (("train", 8), ("pool", 12), ("dev", 4), ("test", 5)):
        rows = [
            {"id": f"{part}{at}", "text": f"the {WORDS[3 + at % 2]} {WORDS[at % 2]}", "label": ("pos", "neg")[at % 2]}
            for at in range(count)
        ]
        (folder / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def run(folder, monkeypatch, capsys):
    """Runs a command in the folder, with its files; returns what it prints."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
    files = "--data.in_domain train.jsonl --data.out_of_domain pool.jsonl --data.val dev.jsonl --data.test test.jsonl"
    quick = f"--data.cache_dir={folder}/cache --trainer.max_epochs 2 --trainer.accelerator cpu"

    def run(command, *more, pretrained=True, files=files):
        given = "--model.pretrained encoder" if pretrained else ""
        main([command, *f"{given} {files} {quick}".split(), *more])
        return capsys.readouterr().out

    return run


def test_from_files_to_predictions_without_a_configuration(folder, run):
    table = run("fit", "--model", "TextClassifier", "--schedule", "[6, 3, 0]", "--run_dir", "runs/mine")
    assert "test macro_f1" in table
    best = "--ckpt_path=runs/mine/seed-0/6/3/0/best.ckpt"
    assert "test/accuracy" in run("test", "--model=TextClassifier", best)
    assert "val/accuracy" in run("validate", "--model=TextClassifier", best)
    run("predict", "--model=TextClassifier", best)
    lines = (folder / "runs/mine/seed-0/6/3/0/predictions.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["id"] for record in records] == [f"test{at}" for at in range(5)]
    assert all(record["label"] in ("pos", "neg") and 0.5 <= record["score"] <= 1 for record in records)


@pytest.mark.parametrize("part", ["val", "test"])
def test_strategies_are_compared_on_the_same_data(folder, run, capsys, part):
    strategies = json.dumps({"gradual": {}, "other": {"schedule": [6, 0], "data": {part: "train.jsonl"}}})
    with pytest.raises(SystemExit):
        run("compare", "--model", "TextClassifier", "--schedule", "[6, 0]", "--strategies", strategies)
    said = capsys.readouterr().err
    assert f"A strategy has data of its own for '{part}': strategies are compared on the same data." in said
    assert not list(folder.glob("runs/gradual/seed-*"))


@pytest.mark.slow
def test_strategies_are_compared(folder, run):
    out = run(
        "compare", "--model", "TextClassifier", "--schedule", "[6, 0]", "--seeds", "[0]", "--run_dir", "runs/compared",
        "--strategies", "[in-domain only, gradual]", "--metrics", "[macro_f1]",
    )  # fmt: skip
    assert "macro_f1" in out
    assert "Report: runs/compared" in out


@pytest.mark.parametrize(
    "content",
    fast_one_in(
        4,
        [
            {"model": "TextClassifier", "data": {"batch_size": 3}},
            {"model": {"class_path": "TextClassifier"}, "data": {"init_args": {"batch_size": 3}}},
            {"model": {"class_path": "gradual.tasks.TextClassifier"}, "data": {"batch_size": 3}},
            {
                "model": {"class_path": "TextClassifier", "init_args": {"pretrained": "encoder"}},
                "data": {"class_path": "TextClassificationData", "init_args": {"batch_size": 3}},
            },
        ],
    ),
)
def test_a_file_may_leave_the_data_module_to_the_model(folder, run, capsys, content):
    (folder / "own.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(SystemExit):
        run("plan", "--config=own.yaml", "--print_config")
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["model"]["class_path"] == "gradual.tasks.TextClassifier"
    assert config["data"]["class_path"] == "gradual.tasks.TextClassificationData"
    assert config["data"]["init_args"]["batch_size"] == 3
    out = run("plan", "--config=own.yaml", "--schedule=[6, 0]")
    assert [line.split()[:3] for line in out.splitlines() if line.strip()[:1].isdigit()] == [
        ["1", "8", "6"],
        ["2", "8", "0"],
    ]


def test_the_sizes_of_the_data(run):
    assert "pool (out-of-domain)         12" in run("stats", "--model", "TextClassifier")


def test_a_variable_of_the_environment_names_the_model(run, monkeypatch):
    monkeypatch.setenv("GRADUAL_STATS__MODEL", "{class_path: TextClassifier, init_args: {pretrained: encoder}}")
    assert import_chosen("stats", []) == "gradual.tasks.TextClassificationData"
    assert "pool (out-of-domain)         12" in run("stats", pretrained=False)


def test_the_models_of_the_paper_have_short_names_too():
    assert import_chosen("fit", ["--model", "DialogueStateTracker"]) == "gradual.tasks.dialogue.DialogueDataModule"
    assert import_chosen("fit", ["--model=EventExtractor"]) == "gradual.tasks.events.EventDataModule"
    assert import_chosen("fit", ["--model=lightning.pytorch.demos.boring_classes.BoringModel"]) is None
    assert import_chosen("fit", ["--model=nowhere.Net", "--model={class_path: [", "--config=missing.yaml"]) is None


def test_a_short_name_that_is_none(run, capsys):
    with pytest.raises(SystemExit):
        run("plan", "--model=TextClasifier", pretrained=False)
    assert "Did you mean 'gradual.tasks.TextClassifier'?" in capsys.readouterr().err


def test_help_of_a_short_name(capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--model.help", "TextClassifier"])
    out = capsys.readouterr().out
    assert "--model.pretrained VALUE" in out
    assert "--model.gradient_checkpointing VALUE" in out

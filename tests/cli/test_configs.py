"""The configurations that come with the project: the paper's settings, stages, what is decayed, the best epoch."""

from pathlib import Path

import pytest
import yaml
from document_blocks import blocks
from slow_cases import fast_one_in

from gradual.__main__ import main
from gradual.experiment.strategies import parse_strategies
from gradual.schedule import Schedule
from gradual.settings import OptimizerConfig, resolve_mode
from gradual.stage.optim import parameter_groups
from gradual.tasks.dialogue import DialogueStateTracker

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
TRACKERS = [ROOT / "gradual/cli/demo.yaml", *sorted((ROOT / "configs/multiwoz").glob("*.yaml"))]
PAPERS = [ROOT / "configs/multiwoz" / f"{name}.yaml" for name in ("restaurant", "hotel", "table5")]

SCALE = {"optimizer": {"lr_scale": 0.4}}
GENIA = {
    "third": {"max_epochs": 8, "optimizer": {"lr": 4.0e-4, "lr_by_name": {"model.encoder.*": 2.0e-5}}},
    "last": {"max_epochs": 10, "optimizer": {"lr": 2.0e-4, "lr_by_name": {"model.encoder.*": 1.6e-5}}},
}
STAGES = {  # by configuration and strategy
    "gradual/cli/demo.yaml": {
        "in-domain only": [{"amount": 0, "max_epochs": 60, "patience": 30}],
        "mixed": [600],
        "one-stage": [600, {"amount": 0, "max_epochs": 15, **SCALE}],
        "gradual": [600, 200, {"amount": 0, "max_epochs": 15, **SCALE}],
    },
    "configs/multiwoz/small.yaml": {
        "in-domain only": [{"amount": 0, "max_epochs": 16}],
        "mixed": [2000],
        "one-stage": [2000, {"amount": 0, **SCALE}],
        "gradual": [2000, {"amount": 500, **SCALE}, {"amount": 0, **SCALE}],
    },
    "configs/events/genia.yaml": {
        "in-domain only": [{"amount": 0, "max_epochs": 25}],
        "mixed": [0.85],
        "one-stage": [0.85, {"amount": 0, **GENIA["last"]}],
        "gradual": [0.85, 0.35, {"amount": 0.05, **GENIA["third"]}, {"amount": 0, **GENIA["last"]}],
    },
}


def strategies_of(content, schedule):
    schedule = Schedule(schedule, content.get("later_stages"), content.get("last_stage"))
    return parse_strategies(content["strategies"], schedule)


@pytest.mark.parametrize("name", STAGES)
def test_the_stages_of_a_configuration(name):
    content = yaml.safe_load((ROOT / name).read_text())
    expected = {strategy: Schedule(stages) for strategy, stages in STAGES[name].items()}
    assert {key: one.schedule for key, one in strategies_of(content, content["schedule"]).items()} == expected


@pytest.mark.parametrize("name", STAGES)
def test_another_schedule_changes_all_strategies_of_a_configuration(name):
    content = yaml.safe_load((ROOT / name).read_text())
    found = strategies_of(content, [40, 10, 0])
    amounts = {strategy: [stage.amount for stage in one.schedule] for strategy, one in found.items()}
    assert amounts == {"in-domain only": [0], "mixed": [40], "one-stage": [40, 0], "gradual": [40, 10, 0]}


@pytest.mark.parametrize("path", [TRACKERS[0], *sorted((ROOT / "configs").rglob("*.yaml"))], ids=lambda path: path.stem)
def test_configurations_need_no_anchors(path):
    assert not any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(path.read_text()))


def documented_example():
    return next(block.text for block in blocks(ROOT / "docs/guides/command-line.md") if block.language == "yaml")


@pytest.mark.parametrize("text", [*(path.read_text() for path in TRACKERS), documented_example()])
def test_neither_biases_nor_norms_are_decayed(small_demo, text):
    tracker = DialogueStateTracker(str(small_demo / "encoder"))
    groups = parameter_groups(tracker, OptimizerConfig(**yaml.safe_load(text)["optimizer"]))
    names = {id(parameter): name for name, parameter in tracker.named_parameters()}
    decay = {names[id(parameter)]: group["weight_decay"] for group in groups for parameter in group["params"]}
    free = {name for name, value in decay.items() if value == 0}
    assert set(decay.values()) == {0, 0.01}
    # weights that are matrices are decayed; biases and the scales of norms are vectors
    assert free == {name for name, parameter in tracker.named_parameters() if parameter.ndim == 1}
    assert {"model.tracker.gru.bias_ih_l0", "model.tracker.norm.weight"} <= free


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_the_best_epoch_has_the_lowest_loss_whatever_comes_before(path, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["gradual"])
    small = f"--config={ROOT}/configs/multiwoz/small.yaml"
    with pytest.raises(SystemExit):
        main(["fit", small, f"--config={path}", "--data.root=x", "--data.domain=hotel", "--print_config"])
    printed = yaml.safe_load(capsys.readouterr().out)
    assert resolve_mode(printed["monitor"], printed["mode"]) == "min"


def test_the_paper_s_configurations_have_the_settings_of_the_paper():
    for domain in ("restaurant", "hotel"):
        config = yaml.safe_load((CONFIGS / "multiwoz" / f"{domain}.yaml").read_text())
        assert config["schedule"] == [4000, 2000, 500, 0]
        assert config["optimizer"]["lr"] == 1e-4
        assert config["last_stage"] == {"optimizer": {"lr": 4e-5}}
        assert config["patience"] == 15
        assert config["trainer"]["max_epochs"] == 200
        assert config["data"]["init_args"]["batch_size"] == 3
        assert config["data"]["init_args"]["domain"] == domain
        assert config["model"]["init_args"]["encoder"] == "bert-base-uncased"
        # see docs/paper/published-code.md
        assert config["lr_schedule"] == {"name": "bert_linear", "warmup": 0.1, "power": 2}


@pytest.mark.parametrize("name", fast_one_in(3, ["restaurant", "hotel", "small"]))
def test_the_configurations_are_accepted(name, capsys):
    more = ["--data.domain=hotel", "--model.encoder=somewhere"] if name == "small" else []
    with pytest.raises(SystemExit) as ended:
        main(["fit", f"--config={CONFIGS}/multiwoz/{name}.yaml", "--data.root=x", *more, "--print_config"])
    assert ended.value.code == 0
    assert yaml.safe_load(capsys.readouterr().out)["data"]["class_path"].endswith("DialogueDataModule")

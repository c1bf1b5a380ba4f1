"""The help of the commands: in order, readable, and without what a command ignores."""

import re
import sys

import pytest
import yaml

from gradual.__main__ import main
from gradual.cli.commands import LIGHTNING_COMMANDS


@pytest.fixture(autouse=True)
def _terminal(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gradual"])
    monkeypatch.setenv("COLUMNS", "80")


def help_of(capsys, *given):
    with pytest.raises(SystemExit) as ended:
        main([*given])
    assert not ended.value.code
    return capsys.readouterr().out


def shown(text):
    """The settings that a help shows, in its order."""
    return [name.removesuffix(".SETTING") for name in re.findall(r"^  (?:-\w, )?--([\w.]+)", text, re.MULTILINE)]


def test_the_settings_of_a_run_come_before_the_trainer_s(capsys):
    text = help_of(capsys, "fit", "--help")
    assert text.splitlines()[:3] == [
        "usage: gradual fit --config FILE [--SETTING VALUE ...]",
        "",
        "Train all stages of a schedule, or resume where it was interrupted.",
    ]
    order = ["schedule", "run_dir", "seed_everything", "last_stage", "monitor", "patience", "optimizer.lr"]
    order += ["lr_schedule.name", "model", "data", "trainer.max_epochs"]
    names = shown(text)
    assert sorted(order, key=names.index) == order
    assert names.index("trainer.accelerator") > len(names) / 3
    assert all(name.startswith("trainer.") for name in names[names.index("trainer.accelerator") :])


@pytest.mark.parametrize("command", LIGHTNING_COMMANDS)
def test_a_help_fits_into_a_terminal_and_says_what_works(command, capsys, monkeypatch):
    text = help_of(capsys, command, "--help")
    assert max(map(len, text.splitlines())) <= 80
    assert len(text.splitlines()) < 330
    assert text.splitlines()[2].lower().startswith(LIGHTNING_COMMANDS[command][:20])
    for foreign in ("ENV:", "known subclasses", "Linked arguments", "LightningCLI", "A Trainer with"):
        assert foreign not in text
    variable, name = re.search(r"(GRADUAL_\w+)\s+for\s+--([\w.]+)\.\s", text).groups()
    assert set(re.findall(r"GRADUAL_\w+", text)) == {variable}
    value = {
        "patience": 17,
        "trainer.precision": "bf16-mixed",
        "ckpt_path": "a.ckpt",
        "model": "lightning.LightningModule",
    }
    monkeypatch.setenv(variable, str(value[name]))
    found = yaml.safe_load(help_of(capsys, command, "--print_config"))
    for part in name.split("."):
        found = found[part]
    assert found == (value[name] if name != "model" else {"class_path": value[name]})


def test_what_a_command_ignores_is_not_shown(capsys):
    names = {command: set(shown(help_of(capsys, command, "--help"))) for command in LIGHTNING_COMMANDS}
    comparison = {"strategies", "seeds", "metrics", "baseline", "jobs", "ray"}
    for command, some in names.items():
        used = {"compare": comparison, "search": {"metrics", "jobs", "ray"}}.get(command, set())
        assert some & comparison == used
        assert ({"budget", "search.max_stages"} <= some) == (command == "search")
        assert ("predictions" in some) == (command == "predict")
        assert ("ckpt_path" in some) == (command in ("validate", "test", "predict"))
        assert ("optimizer.lr" in some) == (command in ("fit", "compare", "search", "plan"))
        assert ("trainer.max_epochs" in some) == (command in ("fit", "compare", "search"))
        assert ("trainer.devices" in some) == (command not in ("plan", "stats", "sample"))
        assert {"model", "data", "config", "help"} <= some
    assert "seed_everything" not in names["compare"]
    assert not names["fit"] & {"trainer.fast_dev_run", "trainer.default_root_dir", "trainer.enable_checkpointing"}


def test_every_setting_of_a_file_is_in_a_help(capsys):
    """Whatever is added later: it is shown where it is used."""
    printed = yaml.safe_load(help_of(capsys, "fit", "--print_config"))
    everywhere = {name for command in LIGHTNING_COMMANDS for name in shown(help_of(capsys, command, "--help"))}
    groups = ("optimizer", "lr_schedule", "collapse", "search", "trainer")
    settings = {name for name in printed if name not in groups}
    settings |= {f"{group}.{name}" for group in groups for name in printed[group]}
    never = {"fast_dev_run", "enable_checkpointing", "barebones", "default_root_dir", "use_distributed_sampler"}
    assert settings - everywhere == {f"trainer.{name}" for name in never}


@pytest.mark.parametrize(
    ("group", "own"),
    [("model", "gradual.tasks.events.EventExtractor"), ("data", "gradual.FileDataModule")],
)
def test_the_help_of_model_and_data_names_our_classes(group, own, capsys):
    main(["fit", f"--{group}.help"])
    listing = capsys.readouterr().out
    assert own in listing
    assert f"my_module.My{group.capitalize()}" in listing
    text = help_of(capsys, "fit", f"--{group}.help", own)
    assert "GRADUAL_" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert {f"{group}.encoder" if group == "model" else "data.text_column"} <= set(shown(text))

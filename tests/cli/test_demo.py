"""`gradual demo` and `gradual init --demo`: their files, and the commands that they run in an empty folder."""

import os
import re
import sys
from pathlib import Path

import pytest
import yaml

from gradual.__main__ import main
from gradual.cli import app, demo

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(sys, "argv", ["gradual", "demo"])


@pytest.fixture
def small(monkeypatch):
    """Fewer dialogues."""
    from gradual.tasks.dialogue.demo import write_demo_data

    sizes = {"train": 6, "dev": 2, "test": 2, "out_of_domain": 20}
    monkeypatch.setattr("gradual.tasks.dialogue.demo.write_demo_data", lambda out: write_demo_data(out, **sizes))


def mistake(capsys, *given):
    with pytest.raises(SystemExit) as ended:
        main([*given])
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_the_files_are_what_the_configuration_names(small, tmp_path, capsys):
    main(["init", "--demo"])
    said = capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"demo.yaml", "demo-data"}
    content = yaml.safe_load(Path("demo.yaml").read_text())
    data, model = content["data"]["init_args"], content["model"]["init_args"]
    assert (Path(data["root"]) / "domains" / data["domain"] / "ontology.json").is_file()
    assert Path(model["encoder"], "config.json").is_file()
    assert content["run_dir"] == "runs/demo"
    for command in [*re.findall(r"#   gradual (.*?)  +\(", Path("demo.yaml").read_text()), said.split("gradual ")[-1]]:
        assert command.split()[0] in ("plan", "compare")
        assert command.split()[1:] == ["--config", "demo.yaml"]
    main(["init", "--demo"])
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["demo"], ["init", "--demo"]])
def test_a_configuration_of_ones_own_is_left_alone(command, tmp_path, capsys):
    Path("demo.yaml").write_text("schedule: [3]\n")
    assert "demo.yaml exists and differs from the demo's" in mistake(capsys, *command)
    assert [path.name for path in tmp_path.iterdir()] == ["demo.yaml"]
    assert Path("demo.yaml").read_text() == "schedule: [3]\n"


def test_the_demo_runs_the_commands_that_it_shows(small, tmp_path, monkeypatch, capsys):
    """With little data and one epoch in each stage; `tests/test_release.py` has the whole."""
    run = app.run
    changes = ["--data.pool=train20.tsv", "--schedule=[4, 0]", "--trainer.max_epochs=1", "--seeds=[0]", "--jobs=1"]
    changes += ["--strategies=[gradual]", "--last_stage={max_epochs: 1}"]
    monkeypatch.setattr(app, "run", lambda given: run([*given, *(changes if given[0] == "compare" else changes[:1])]))
    main(["demo"])
    said = capsys.readouterr().out
    assert re.findall(r"^\$ gradual (.*)$", said, re.MULTILINE) == [
        "init --demo", "stats --config demo.yaml", "compare --config demo.yaml",
    ]  # fmt: skip
    assert "| gradual" in said
    (page,) = re.findall(r"^Report: (.*)$", said, re.MULTILINE)
    assert "gradual" in (tmp_path / page).read_text()


def test_processes_of_the_demo_have_one_thread(monkeypatch, capsys):
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(demo, "write_demo", lambda folder: None)
    found = []
    monkeypatch.setattr(app, "run", lambda given: found.append((given[0], os.environ["OMP_NUM_THREADS"])))
    main(["demo"])
    assert found == [("stats", "1"), ("compare", "1")]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")  # a user's own choice
    main(["demo"])
    assert found[2:] == [("stats", "3"), ("compare", "3")]

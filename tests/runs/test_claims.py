"""An experiment claims a run directory: the file that says whose it is, and what another experiment is told."""

import json
import os
from pathlib import Path

import pytest
from identified_runs import PARTS

from gradual import InputError
from gradual.runs.directory import RunDirectory
from gradual.runs.identity import claim

IDENTITY = {
    "model": {"class": "Net", "hyperparameters": {}, "modules": {}, "parameters": {}},
    "starting_weights": {"seed-0": {"w": [1.0, 2.0]}},
    "data": {"class": "Data", "batch_size": 4, "batch_tokens": None, **dict.fromkeys(PARTS)},
    "settings": {"patience": 5, "trainer": {"max_epochs": 20}},
}


def changed(**sections) -> dict:
    return {**IDENTITY, **{name: {**IDENTITY[name], **value} for name, value in sections.items()}}


def claimed(root: Path, started: bool = True) -> RunDirectory:
    run = RunDirectory(root)
    claim(run, IDENTITY, "first")
    stage = run.stage(run.seed(0), 20, {"patience": 5})
    stage.begin({"patience": 5}, [])
    if started:
        stage.last.write_bytes(b"weights")
    return run


def test_the_configuration_is_that_of_the_last_claim(tmp_path):
    run = claimed(tmp_path)
    for same in (IDENTITY, dict(reversed(IDENTITY.items())), changed(settings={"patience": 5.0})):
        claim(run, same, text := f"number {len(str(same))}")
        assert (tmp_path / "config.yaml").read_text() == text


def test_python_code_does_not_replace_a_configuration_that_commands_can_use(tmp_path):
    run = claimed(tmp_path)
    arguments = {"model": {"hidden": 4}, "data": {"root": "a"}}
    for text, given, expected in (
        ("a command's", arguments, "a command's"),
        ("a script's", None, "a command's"),
        ("another command's", arguments, "another command's"),
    ):
        claim(run, IDENTITY, text, given)
        assert (tmp_path / "config.yaml").read_text() == expected


def test_a_claim_is_refused_with_all_differences(tmp_path):
    run = claimed(tmp_path)
    other = changed(settings={"patience": 6, "trainer": {"max_epochs": 30, "precision": "16"}}, data={"batch_size": 2})
    with pytest.raises(InputError) as caught:
        claim(run, other, "second")
    said = "(patience: 5, now 6; trainer.max_epochs: 20, now 30; trainer.precision: not set, now '16'; "
    assert f"{tmp_path} holds another experiment {said}data.batch_size: 4, now 2)" in str(caught.value)
    assert (tmp_path / "config.yaml").read_text() == "first"
    claim(run, IDENTITY, "third")


def test_a_directory_in_which_nothing_was_saved_may_become_another_experiment_s(tmp_path):
    run = claimed(tmp_path, started=False)
    other = changed(settings={"patience": 6})
    claim(run, other, "second")
    assert (tmp_path / "config.yaml").read_text() == "second"
    assert not list(tmp_path.rglob("stage.json"))
    run.stage(run.seed(0), 20, {}).reserve({})
    (tmp_path / "seed-0/20/last.ckpt").write_bytes(b"weights")
    with pytest.raises(InputError, match="patience: 6, now 5"):
        claim(run, IDENTITY, "third")


def test_collapses_of_another_experiment_do_not_count(tmp_path):
    run = claimed(tmp_path, started=False)
    stage = run.stage(run.seed(0), 20, {"patience": 5})
    stage.begin({"patience": 5}, [])
    stage.start_again([{"step": 1, "reason": "nan", "lr_scale": 1.0}])
    claim(run, IDENTITY, "the same")
    assert len(stage.collapses()) == 1
    claim(run, changed(settings={"patience": 6}), "other")
    assert stage.collapses() == []


def test_entries_that_another_command_adds_are_kept(tmp_path):
    run = claimed(tmp_path)
    more = {**IDENTITY, "starting_weights": {"seed-1": {"w": [3.0, 4.0]}}, "other_data": {"{}": IDENTITY["data"]}}
    claim(run, more, "", {"model": {"hidden": 4}, "data": {"root": "a"}})
    claim(run, IDENTITY, "")
    content = json.loads((tmp_path / "experiment.json").read_text())
    assert content["starting_weights"] == {"seed-0": {"w": [1.0, 2.0]}, "seed-1": {"w": [3.0, 4.0]}}
    for other, said in (
        ({"model": {"hidden": 5}, "data": {"root": "a"}}, "model: hidden 4, now 5"),
        ({"model": {"hidden": 4}, "data": {"root": "b"}}, "data.root: 'a', now 'b'"),
    ):
        with pytest.raises(InputError, match=said):
            claim(run, IDENTITY, "", other)
    with pytest.raises(InputError, match=r"with data \{\}: data\.batch_size: 4, now 2"):
        claim(run, {**IDENTITY, "other_data": {"{}": {**IDENTITY["data"], "batch_size": 2}}}, "")


def test_an_incomplete_claim_does_not_count(tmp_path, monkeypatch):
    def crash(*_):
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", crash)
        with pytest.raises(RuntimeError):
            claim(RunDirectory(tmp_path), IDENTITY, "first")
    claim(RunDirectory(tmp_path), changed(settings={"patience": 6}), "second")
    assert (tmp_path / "config.yaml").read_text() == "second"


def test_a_claim_that_is_damaged_is_named(tmp_path):
    run = claimed(tmp_path)
    path = tmp_path / "experiment.json"
    path.write_text(path.read_text()[:-5])
    with pytest.raises(InputError, match=r"experiment\.json cannot be read"):
        claim(run, IDENTITY, "second")
    (tmp_path / "seed-0/20/last.ckpt").unlink()
    claim(run, IDENTITY, "third")
    assert (tmp_path / "config.yaml").read_text() == "third"


def test_the_first_of_several_processes_decides_about_the_model_and_writes(tmp_path, monkeypatch):
    run = claimed(tmp_path)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setenv("RANK", "1")
    other = changed(model={"class": "Other"}, starting_weights={"seed-0": {"w": [5.0, 5.0]}})
    (tmp_path / "being-written.tmp").write_text("")
    claim(run, other, "second")
    with pytest.raises(InputError, match="patience"):
        claim(run, changed(settings={"patience": 6}), "second")
    assert (tmp_path / "being-written.tmp").exists()
    assert {path: path.read_bytes() for path in files} == files
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(InputError, match="model: Net, now Other"):
        claim(run, other, "second")

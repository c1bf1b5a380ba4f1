"""The tree on disk: what is done, what does not match, and what a crash leaves behind."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradual.errors import InputError
from gradual.runs.directory import RunDirectory, StageDirectory, differences
from gradual.runs.result import StageResult

RESULT = StageResult(
    index=1, amount=500, in_domain=2000, out_of_domain=500, epochs=7, best_epoch=3, seconds=1.5,
    val={"joint_accuracy": 0.25, "loss": 1e-7}, test={"joint_accuracy": 0.1 + 0.2}, path="seed-0/2000/500",
)  # fmt: skip
SETTINGS = {"patience": 5, "optimizer": {"lr": 4e-5, "lr_by_name": {"encoder.*": 1e-5}}, "lr_schedule": {}}


class Crash(Exception):
    """The machine stops."""


def crash(*_, **__):
    raise Crash


# One stage's folder


def test_a_stage_begins_and_is_finished_by_its_result(tmp_path):
    directory = StageDirectory(tmp_path / "seed-0" / "2000")
    assert directory.settings() is None
    assert directory.result() is None

    directory.begin(SETTINGS, ["dialogue-3", "dialogue-1"])
    assert directory.settings() == SETTINGS
    assert directory.result() is None
    assert (directory.path / "sample.txt").read_text() == "dialogue-3\ndialogue-1\n"

    directory.finish(RESULT)
    assert directory.result() == RESULT
    assert StageDirectory(directory.path).result() == RESULT
    assert {path.name for path in directory.path.iterdir()} == {
        "checksums.json", "sample.txt", "stage.json", "result.json",
    }  # fmt: skip


def test_checkpoints_lie_in_the_stage_s_folder(tmp_path):
    directory = StageDirectory(tmp_path)
    assert (directory.best, directory.last) == (tmp_path / "best.ckpt", tmp_path / "last.ckpt")


def test_a_stage_without_a_sample_has_an_empty_list(tmp_path):
    directory = StageDirectory(tmp_path / "0")
    directory.begin({}, [])
    assert (directory.path / "sample.txt").read_text() == ""
    assert directory.settings() == {}


def test_beginning_again_replaces_what_was_written(tmp_path):
    directory = StageDirectory(tmp_path / "5")
    directory.begin(SETTINGS, ["a", "b"])
    directory.begin({"patience": 1}, ["c"])
    assert directory.settings() == {"patience": 1}
    assert (directory.path / "sample.txt").read_text() == "c\n"


@pytest.mark.parametrize("has_checkpoint", [False, True])
def test_events_of_an_attempt_that_left_no_checkpoint_are_removed(tmp_path, has_checkpoint):
    directory = StageDirectory(tmp_path)
    events = tmp_path / "events.out.tfevents.1.machine"
    events.write_bytes(b"points")
    if has_checkpoint:
        directory.last.write_bytes(b"weights")
    directory.begin(SETTINGS, [])
    assert events.exists() == has_checkpoint


@pytest.mark.parametrize("content", ["", "{", '{"index": 1', "not json", b"\xff\xfe"])
def test_a_file_that_is_no_json_is_named(tmp_path, content):
    directory = StageDirectory(tmp_path)
    for name, read in (("result.json", directory.result), ("stage.json", directory.settings)):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(InputError) as caught:
            read()
        assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("content", [[], 5, {}, {"index": 1}, {"somebody": "else's"}], ids=str)
def test_a_result_of_another_shape_is_named(tmp_path, content):
    (tmp_path / "result.json").write_text(json.dumps(content))
    with pytest.raises(InputError) as caught:
        StageDirectory(tmp_path).result()
    assert str(tmp_path / "result.json") in str(caught.value)


@pytest.mark.parametrize("crashing", [(os, "fsync"), (Path, "replace")], ids=["fsync", "replace"])
def test_a_stage_whose_result_was_not_written_whole_is_not_finished(tmp_path, monkeypatch, crashing):
    directory = StageDirectory(tmp_path / "5")
    directory.begin(SETTINGS, [])
    with monkeypatch.context() as patch:
        patch.setattr(*crashing, crash)
        with pytest.raises(Crash):
            directory.finish(RESULT)
    assert directory.result() is None
    assert directory.settings() == SETTINGS
    directory.finish(RESULT)
    assert directory.result() == RESULT


def test_a_stage_whose_beginning_crashed_can_begin_again(tmp_path, monkeypatch):
    directory = StageDirectory(tmp_path / "5")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", crash)
        with pytest.raises(Crash):
            directory.begin(SETTINGS, ["a"])
    assert directory.settings() is None
    directory.begin(SETTINGS, ["a"])
    assert directory.settings() == SETTINGS


# An experiment's folder


def test_a_folder_is_made(tmp_path):
    assert RunDirectory(tmp_path / "runs" / "mine").root.is_dir()


def test_a_path_that_is_no_folder_is_refused(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    for path in (file, file / "below"):
        with pytest.raises(InputError, match="run directory"):
            RunDirectory(path)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)  # root may write everywhere
    with pytest.raises(InputError, match="cannot be written"):
        RunDirectory(tmp_path)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(InputError, match="cannot be created: Permission denied"):
        RunDirectory(tmp_path / "runs")


# Where a stage lies


def begun(run, parent, amount, stage_settings):
    directory = run.stage(parent, amount, stage_settings)
    directory.begin(stage_settings, [])
    return directory


def test_stages_lie_in_their_parents_named_by_their_amounts(tmp_path):
    run = RunDirectory(tmp_path)
    parent = run.seed(3)
    for amount in (2000, 500, 0):
        parent = begun(run, parent, amount, SETTINGS).path
    assert parent == tmp_path / "seed-3" / "2000" / "500" / "0"
    assert run.relative(parent) == "seed-3/2000/500/0"


def test_the_same_settings_give_the_same_folder(tmp_path):
    run = RunDirectory(tmp_path)
    first = begun(run, run.seed(0), 5, SETTINGS)
    assert run.stage(run.seed(0), 5, dict(reversed(SETTINGS.items()))).path == first.path
    assert run.stage(run.seed(0), 5, {**SETTINGS, "optimizer": dict(SETTINGS["optimizer"])}).path == first.path
    assert run.stage(run.seed(1), 5, SETTINGS).path != first.path


def test_other_overrides_give_a_folder_of_their_own(tmp_path):
    run = RunDirectory(tmp_path)
    overrides = [{**SETTINGS, "patience": patience} for patience in (5, 7, 9)]
    overrides.append({**SETTINGS, "optimizer": {"lr": 4e-5, "lr_by_name": {"encoder.*": 2e-5}}})
    names = [begun(run, run.seed(0), 5, changed).path.name for changed in overrides]
    assert names == ["5", "5-2", "5-3", "5-4"]
    for name, changed in zip(names, overrides):
        assert run.stage(run.seed(0), 5, changed).path.name == name
    assert run.stage(run.seed(0), 4, SETTINGS).path.name == "4"


def test_a_folder_in_which_nothing_began_is_free(tmp_path):
    run = RunDirectory(tmp_path)
    (run.seed(0) / "5").mkdir(parents=True)
    assert run.stage(run.seed(0), 5, SETTINGS).path.name == "5"


def test_settings_of_tuples_are_the_same_as_those_of_lists(tmp_path):
    run = RunDirectory(tmp_path)
    begun(run, run.seed(0), 5, {"betas": (0.9, 0.98)})
    assert run.stage(run.seed(0), 5, {"betas": [0.9, 0.98]}).path.name == "5"


def test_a_stage_whose_sibling_was_removed_is_still_found(tmp_path):
    run = RunDirectory(tmp_path)
    first = begun(run, run.seed(0), 5, SETTINGS)
    second = begun(run, run.seed(0), 5, {**SETTINGS, "patience": 9})
    shutil.rmtree(first.path)
    assert run.stage(run.seed(0), 5, {**SETTINGS, "patience": 9}).path == second.path
    assert run.stage(run.seed(0), 5, SETTINGS).path == first.path


def test_the_order_of_patterns_makes_another_stage(tmp_path):
    run = RunDirectory(tmp_path)
    patterns = {"*": 1e-3, "encoder.*": 1e-5}  # the second one never matches, unless it comes first
    begun(run, run.seed(0), 5, {"optimizer": {"lr_by_name": patterns}})
    turned = {"optimizer": {"lr_by_name": dict(reversed(patterns.items()))}}
    assert run.stage(run.seed(0), 5, turned).path.name == "5-2"


@pytest.mark.parametrize("saved", ["last.ckpt", "result.json", "collapses.json"])
def test_folders_of_stages_that_saved_nothing_are_removed_and_no_others(tmp_path, saved):
    run = RunDirectory(tmp_path)
    kept = begun(run, run.seed(0), 20, SETTINGS)
    failed = begun(run, kept.path, 5, SETTINGS)
    above = begun(run, run.seed(0), 7, SETTINGS)
    below = begun(run, above.path, 0, SETTINGS)
    for directory in (kept, below):
        (directory.path / saved).write_text("{}")
    (failed.path / "events.out.tfevents.1").write_bytes(b"points")
    (tmp_path / "config.yaml.1234.tmp").write_text("half of")
    (tmp_path / "seed-0" / "by-stage").mkdir()
    run.remove_leftovers()
    assert kept.settings() == below.settings() == SETTINGS
    assert above.settings() == SETTINGS, "a stage below it saved something"
    assert not failed.path.exists()
    assert not list(tmp_path.glob("*.tmp"))
    assert (tmp_path / "seed-0" / "by-stage").exists()
    assert run.stage(kept.path, 5, {"patience": 9}).path == failed.path, "the name is free again"


def test_a_directory_has_started_once_a_stage_has_saved_anything(tmp_path):
    run = RunDirectory(tmp_path)
    directory = begun(run, begun(run, run.seed(0), 20, SETTINGS).path, 5, SETTINGS)
    assert not run.has_started()
    directory.last.write_bytes(b"weights")
    assert run.has_started()
    directory.last.rename(tmp_path / "elsewhere.ckpt")
    assert not run.has_started()
    directory.finish(RESULT)
    assert run.has_started()
    run.remove_stages()
    assert not (tmp_path / "seed-0").exists()


def test_the_test_data_of_scores_is_written_down_where_it_is_not_known(tmp_path):
    directory = StageDirectory(tmp_path / "5")
    directory.attribute_test("abc")
    assert not directory.is_finished()
    directory.begin(SETTINGS, [])
    directory.finish(RESULT)
    directory.attribute_test("abc")
    assert directory.result() == replace(RESULT, test_data="abc")
    assert not directory.damaged_files()
    directory.attribute_test("other")
    assert directory.result().test_data == "abc"
    directory.finish(replace(RESULT, test={}))
    directory.attribute_test("abc")
    assert directory.result().test_data == ""


# Differences


def test_the_order_of_patterns_is_a_difference():
    old = {"optimizer": {"lr_by_name": {"a": 1, "b": 2}, "init_args": {"x": 1, "y": 2}}}
    new = {"optimizer": {"lr_by_name": {"b": 2, "a": 1}, "init_args": {"y": 2, "x": 1}}}
    assert differences(old, new) == ["optimizer.lr_by_name: a, b, now b, a, and the first match is used"]


def test_differences_are_named_by_their_path():
    old = {"a": 1, "b": {"c": 2, "d": {"e": [1, 2]}}, "same": {"f": None}}
    new = {"a": 1, "b": {"c": 3, "d": {"e": [2, 1]}}, "same": {}, "new": "text"}
    assert differences(old, new) == [
        "b.c: 2, now 3",
        "b.d.e: [1, 2], now [2, 1]",
        "new: not set, now 'text'",
    ]
    assert differences({"a": {"b": 1}}, {"a": 5}) == ["a: {'b': 1}, now 5"]


LEAVES = st.integers(0, 3) | st.sampled_from(["x", "y"]) | st.lists(st.integers(0, 1), max_size=2)
TREES = st.recursive(
    st.dictionaries(st.sampled_from("abc"), LEAVES, min_size=1),
    lambda below: st.dictionaries(st.sampled_from("abc"), below | LEAVES, min_size=1),
    max_leaves=6,
)


def leaves(tree, path=()):
    if not isinstance(tree, dict):
        return {path: tree}
    return {where: leaf for key, below in tree.items() for where, leaf in leaves(below, (*path, key)).items()}


@given(TREES, TREES)
def test_differences_are_named_by_their_leaves(old, new):
    assert differences(old, old) == []
    old_leaves, new_leaves = leaves(old), leaves(new)
    changed = {path for path in {*old_leaves, *new_leaves} if old_leaves.get(path) != new_leaves.get(path)}
    named = [tuple(line.partition(":")[0].split(".")) for line in differences(old, new)]
    assert len(named) == len(set(named))
    for path in changed:
        assert any(path[: len(name)] == name for name in named), path
    for name in named:
        assert any(path[: len(name)] == name for path in changed), name

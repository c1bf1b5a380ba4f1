"""Whatever is damaged is noticed and named, and its stage is made again from the newest good state."""

import errno
import json
import logging
import os
import resource
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from interrupted_runs import STEPS, At, Net, fit, in_a_process, outcome, steps
from linear_model import make_experiment, trained
from slow_cases import fast_one_in
from torch import nn

import gradual
from gradual.__main__ import main
from gradual.experiment.driver import compare_tree, plan_tree
from gradual.experiment.executors import in_process
from gradual.experiment.strategies import parse_strategies
from gradual.runs import checkpoint as checkpoints
from gradual.runs.checkpoint import WholeCheckpointIO, damage
from gradual.schedule import Schedule

FIRST, SECOND = "seed-3/20", "seed-3/20/0"


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0x20
    path.write_bytes(content)


def another_number(path: Path) -> None:
    """Damage that every parser reads past."""
    text = path.read_text()
    digit = next(index for index in range(len(text) - 1, 0, -1) if text[index] in "12345678")
    path.write_text(text[:digit] + str(int(text[digit]) + 1) + text[digit + 1 :])


def empty(path: Path) -> None:
    path.write_bytes(b"")


WAYS = fast_one_in(3, [truncate, flip, empty])


# Checkpoints


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "file.ckpt"
    WholeCheckpointIO({}, nn.Linear(1, 1)).save_checkpoint(
        {"weights": torch.arange(50.0), "epoch": 3, "text": "äöü"}, path
    )
    return path.read_bytes()


def test_a_checkpoint_with_its_checksum_is_one_that_torch_reads(tmp_path, checkpoint):
    path = tmp_path / "file.ckpt"
    path.write_bytes(checkpoint)
    assert damage(path) is None
    assert torch.load(path, weights_only=True)["epoch"] == 3
    torch.save({"epoch": 4}, path)
    assert damage(path) is None, "one that torch alone wrote has checksums too"
    truncate(path)
    assert damage(path)


@given(data=st.data())
def test_any_damage_to_a_checkpoint_is_noticed(tmp_path_factory, checkpoint, data):
    path = tmp_path_factory.getbasetemp() / "damaged.ckpt"
    at = data.draw(st.integers(0, len(checkpoint) - 1))
    way = data.draw(st.sampled_from(["flip", "cut", "insert"]))
    if way == "flip":
        content = bytearray(checkpoint)
        content[at] ^= 1 << data.draw(st.integers(0, 7))
    else:
        content = checkpoint[:at] + (b"" if way == "cut" else b"x" + checkpoint[at:])
    path.write_bytes(content)
    assert damage(path)


def test_a_checkpoint_that_would_run_code_is_not_loaded(tmp_path):
    path = tmp_path / "file.ckpt"
    torch.save({"path": Path("a")}, path)
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        WholeCheckpointIO({}, nn.Linear(1, 1)).load_checkpoint(path)


def interrupted(root):
    """A run that was killed in its second stage, with a checkpoint after each step."""
    assert in_a_process(lambda: fit(root, At("on_train_batch_start", 12), checkpoint_every=0)) == -signal.SIGKILL
    return root / "run"


@pytest.mark.parametrize("way", WAYS)
def test_a_damaged_last_checkpoint_gives_way_to_the_one_before(tmp_path, undisturbed, caplog, way):
    run = interrupted(tmp_path)
    way(run / SECOND / "last.ckpt")
    before = steps(tmp_path)
    fit(tmp_path)
    assert f"{run / SECOND / 'last.ckpt'} is damaged" in caplog.text
    assert steps(tmp_path) - before == 2, "the step that was lost, and the one that was to come"
    assert outcome(tmp_path) == undisturbed()


def test_with_both_damaged_the_stage_starts_again(tmp_path, undisturbed, caplog):
    run = interrupted(tmp_path)
    for name in ("last.ckpt", "previous.ckpt"):
        flip(run / SECOND / name)
    before = steps(tmp_path)
    fit(tmp_path)
    assert "last.ckpt is damaged" in caplog.text
    assert "previous.ckpt is damaged" in caplog.text
    assert steps(tmp_path) - before == 4
    assert outcome(tmp_path) == undisturbed()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("stage", "again"), [(FIRST, 8 + 1), (SECOND, 4)])
def test_damaged_best_weights_are_trained_again(tmp_path, undisturbed, caplog, way, stage, again):
    run = interrupted(tmp_path)
    way(run / stage / "best.ckpt")
    before = steps(tmp_path)
    fit(tmp_path)
    assert f"{run / stage / 'best.ckpt'} is damaged" in caplog.text
    assert steps(tmp_path) - before == again
    assert outcome(tmp_path) == undisturbed()


def test_damaged_weights_of_a_finished_run_are_noticed(tmp_path, undisturbed, caplog):
    fit(tmp_path)
    flip(tmp_path / "run" / SECOND / "best.ckpt")
    fit(tmp_path)
    assert "best.ckpt is damaged" in caplog.text
    assert steps(tmp_path) == STEPS + 4
    assert outcome(tmp_path) == undisturbed()


@pytest.mark.slow
def test_damaged_weights_that_a_comparison_needs_are_trained_again(tmp_path, caplog):
    experiment = make_experiment(str(tmp_path))
    tree = plan_tree(experiment, parse_strategies(["mixed", "one-stage"], Schedule([8, 0])), [0])
    compare_tree(experiment, tree, in_process(experiment))
    assert trained(tmp_path) == ["8", "0"]
    flip(tmp_path / "run/seed-0/8/best.ckpt")
    compare_tree(experiment, tree, in_process(experiment))
    assert trained(tmp_path) == ["8", "0"], "no stage is to start from them"
    shutil.rmtree(tmp_path / "run/seed-0/8/0")
    compare_tree(experiment, tree, in_process(experiment))
    assert "best.ckpt is damaged" in caplog.text
    assert trained(tmp_path) == ["8", "0", "8", "0"]


# Small files

SMALL = ["result.json", "history.jsonl", "sample.txt", "stage.json"]


@pytest.mark.parametrize("name", fast_one_in(2, SMALL))
@pytest.mark.parametrize("way", fast_one_in(2, [truncate, another_number]), ids=["truncated", "another number"])
def test_a_damaged_file_is_made_again_without_training(tmp_path, undisturbed, caplog, name, way):
    fit(tmp_path)
    file = tmp_path / "run" / FIRST / name
    content = file.read_text()
    way(file)
    fit(tmp_path)
    assert f"{file}" in caplog.text
    assert "damaged" in caplog.text
    assert steps(tmp_path) == STEPS
    assert outcome(tmp_path) == undisturbed()
    assert without_times(file.read_text()) == without_times(content)
    assert not (tmp_path / "run" / "seed-3" / "20-2").exists()


def without_times(text):
    return [line for line in text.splitlines() if "seconds" not in line]


def test_a_folder_whose_settings_are_lost_is_left_alone(tmp_path, caplog):
    fit(tmp_path)
    for name in ("stage.json", "checksums.json"):
        truncate(tmp_path / "run" / FIRST / name)
    result = fit(tmp_path)
    assert "left alone" in caplog.text
    assert [stage.path for stage in result.stages] == ["seed-3/20-2", "seed-3/20-2/0"]


# No room


def test_a_full_disk_ends_in_one_sentence_and_loses_nothing(tmp_path, undisturbed, monkeypatch):
    interrupted(tmp_path)
    kept = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.ckpt")}

    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "seal", full)
        with pytest.raises(gradual.InputError, match=r"No space left on device.*same command"):
            fit(tmp_path, checkpoint_every=0)
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.ckpt")} == kept
    assert not list(tmp_path.rglob("*.tmp"))
    fit(tmp_path)
    assert outcome(tmp_path) == undisturbed()


def test_a_file_size_limit_is_reported_without_a_traceback(tmp_path, undisturbed):
    """A limit of the system in the middle of torch's own writing, and the command's exit status."""
    run = interrupted(tmp_path)
    limit = (run / SECOND / "best.ckpt").stat().st_size // 2

    reads, writes = os.pipe()

    def work():
        sys.stderr = os.fdopen(writes, "w")  # pytest's is a file, and may not grow either
        logging.disable()
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        pytest.MonkeyPatch().setattr("gradual.cli.app.run", lambda _: fit(tmp_path, checkpoint_every=0))
        try:
            main(["fit"])
        finally:
            sys.stderr.flush()

    assert in_a_process(work) == 2
    os.close(writes)
    with os.fdopen(reads) as file:
        message = file.read()
    assert "gradual: The run directory" in message
    assert "File too large" in message
    assert "Traceback" not in message
    assert in_a_process(lambda: fit(tmp_path)) == 0
    assert outcome(tmp_path) == undisturbed()


def test_a_directory_that_cannot_be_written_is_refused_before_training(tmp_path):
    """`/proc` is read-only for everyone, root included."""
    with pytest.raises(gradual.InputError, match=r"run directory .* cannot be"):
        gradual.fit(Net(None), gradual.MixedDomainDataModule([1], val=[1]), [0], "/proc/run", optimizer={"lr": 0.1})


def test_a_lost_result_is_not_a_finished_stage(tmp_path, undisturbed, caplog):
    fit(tmp_path)
    (tmp_path / "run" / SECOND / "result.json").write_text(json.dumps({"index": 1}))
    with caplog.at_level(logging.WARNING):
        fit(tmp_path)
    assert "result.json" in caplog.text
    assert steps(tmp_path) == STEPS
    assert outcome(tmp_path) == undisturbed()

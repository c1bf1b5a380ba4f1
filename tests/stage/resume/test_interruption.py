"""Whatever stops a run, and wherever: the same command ends as if it had never been stopped."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch
from interrupted_runs import STEPS, At, Net, fit, in_a_process, kill, outcome, steps
from lightning.pytorch.plugins.environments import SLURMEnvironment
from slow_cases import fast_one_in

import gradual
from gradual.lock import locked
from gradual.runs import checkpoint as checkpoints

# kill -9

HOOKS = [
    *[("on_train_batch_start", count) for count in (1, 2, 4, 5, 8, 9, 11)],
    *[("on_validation_batch_start", count) for count in (1, 3, 5, 8)],
    *[("on_train_epoch_end", 1), ("on_test_batch_start", 1), ("on_test_end", 2), ("on_fit_start", 2)],
]
WAYS = {
    "as it is": {},
    "accumulating": {"accumulate_grad_batches": 2},
    "averaged": {"weight_averaging": 0.9, "smoothing": 2, "val_check_interval": 0.5},
}
LIMITED = {"max_epochs": 9, "max_steps": 10, "patience": 9}  # by steps, of 4 and 2 an epoch


KILLS = [(hook, count, every) for every in (0, 60) for hook, count in HOOKS]


@pytest.mark.parametrize(("hook", "count", "checkpoint_every"), fast_one_in(10, KILLS))
def test_a_run_killed_at_any_point_resumes_to_the_same_result(tmp_path, undisturbed, hook, count, checkpoint_every):
    stopped = in_a_process(lambda: fit(tmp_path, At(hook, count), checkpoint_every=checkpoint_every))
    assert stopped == -signal.SIGKILL
    assert in_a_process(lambda: fit(tmp_path)) == 0
    assert outcome(tmp_path) == undisturbed()


@pytest.mark.parametrize("settings", [{}, {"check_val_every_n_epoch": 2}, {"accumulate_grad_batches": 2}])
@pytest.mark.parametrize("count", fast_one_in(3, [6, 5, 10]))
def test_a_stage_of_a_number_of_steps_resumes_after_the_end_of_an_epoch(tmp_path, undisturbed, settings, count):
    """Where ``max_steps`` is set, Lightning continues an epoch that has ended."""
    settings = LIMITED | settings
    stop = At("on_train_batch_start", count)
    assert in_a_process(lambda: fit(tmp_path, stop, checkpoint_every=60, **settings)) == -signal.SIGKILL
    assert in_a_process(lambda: fit(tmp_path, checkpoint_every=60, **settings)) == 0
    assert outcome(tmp_path) == undisturbed(**settings)


@pytest.mark.slow
@pytest.mark.parametrize("way", fast_one_in(3, reversed(WAYS)))
def test_a_run_killed_at_every_third_step_resumes_to_the_same_result(tmp_path, undisturbed, way):
    def work():
        fit(tmp_path, At("on_train_batch_start", 3), checkpoint_every=0, **WAYS[way])

    stopped = [in_a_process(work)]
    while stopped[-1] == -signal.SIGKILL and len(stopped) < 20:
        stopped.append(in_a_process(work))
    assert stopped[-1] == 0
    assert len(stopped) > 2
    assert outcome(tmp_path) == undisturbed(**WAYS[way])


class Accumulating(Net):
    """Optimizes by itself, in steps of two batches."""

    def __init__(self, log):
        super().__init__(log)
        self.automatic_optimization = False

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)

    def training_step(self, batch, batch_idx):
        self.manual_backward(super().training_step(batch, batch_idx) / 2)
        if batch_idx % 2:
            self.optimizers().step()
            self.optimizers().zero_grad()


def test_a_module_that_accumulates_gradients_itself_resumes_to_the_same_result(tmp_path, monkeypatch):
    monkeypatch.setattr("interrupted_runs.Net", Accumulating)

    def run(root, *callbacks):
        root.mkdir(exist_ok=True)
        return in_a_process(lambda: fit(root, *callbacks, checkpoint_every=0, optimizer=None, lr_schedule=None))

    assert run(tmp_path / "whole") == 0
    expected = outcome(tmp_path / "whole")
    for batch in (2, 4):
        root = tmp_path / f"killed-at-{batch}"
        assert run(root, At("on_train_batch_start", batch)) == -signal.SIGKILL
        assert run(root) == 0
        assert outcome(root) == expected


def test_with_a_checkpoint_at_each_step_nothing_is_trained_twice(tmp_path):
    assert in_a_process(lambda: fit(tmp_path, At("on_train_batch_start", 3), checkpoint_every=0)) == -signal.SIGKILL
    assert steps(tmp_path) == 2
    assert in_a_process(lambda: fit(tmp_path)) == 0
    assert steps(tmp_path) == STEPS


def killed_while_writing(name, after, monkeypatch):
    """Kill the process in the ``after``-th write of the file ``name``: half of it written, or before it is in place."""
    seen = []
    real_replace, real_save = Path.replace, torch.save

    def replace(self, target):
        if Path(target).name == name:
            seen.append(name)
            if len(seen) == after:
                kill()
        return real_replace(self, target)

    def save(content, file):
        real_save(content, file)
        if fnmatch(Path(file.name).name, f"{name}.*.tmp"):
            seen.append(name)
            if len(seen) == after:
                file.truncate(file.tell() // 2)
                kill()

    if name.endswith(".half"):
        name = name.removesuffix(".half")
        monkeypatch.setattr(checkpoints.torch, "save", save)
    else:
        monkeypatch.setattr(Path, "replace", replace)


FILES = [
    *[("last.ckpt.half", count) for count in (1, 3)],
    *[("last.ckpt", count) for count in (1, 3)],
    *[("best.ckpt.half", 1), ("best.ckpt", 2), ("previous.ckpt", 1)],
    *[("history.jsonl", 2), ("result.json", 1), ("checksums.json", 2), ("results.json", 1), ("results.json", 2)],
]


@pytest.mark.parametrize(("name", "after"), fast_one_in(5, FILES))
def test_a_run_killed_while_writing_a_file_resumes_to_the_same_result(tmp_path, undisturbed, name, after, monkeypatch):
    def work():
        killed_while_writing(name, after, monkeypatch)
        fit(tmp_path, checkpoint_every=0)

    assert in_a_process(work) == -signal.SIGKILL
    assert in_a_process(lambda: fit(tmp_path)) == 0
    assert outcome(tmp_path) == undisturbed()
    assert not list(tmp_path.rglob("*.tmp"))


# SIGTERM and Ctrl-C

STOPS = [(signal.SIGTERM, 143), (signal.SIGINT, 130)]


@pytest.mark.parametrize(("number", "status"), fast_one_in(2, STOPS))
@pytest.mark.parametrize(
    ("hook", "count", "trained"),
    fast_one_in(2, [("on_before_backward", 2, 2), ("on_validation_batch_start", 2, 4), ("on_train_start", 2, 8)]),
)
def test_a_run_told_to_stop_saves_its_progress_and_exits(
    tmp_path,
    undisturbed,
    capfd,
    hook,
    count,
    trained,
    number,
    status,
):
    stop = At(hook, count, lambda: kill(number))
    assert in_a_process(lambda: fit(tmp_path, stop)) == status
    assert steps(tmp_path) == trained
    assert "same command" in capfd.readouterr().err
    assert in_a_process(lambda: fit(tmp_path)) == 0
    assert steps(tmp_path) == STEPS, "nothing was trained twice"
    assert outcome(tmp_path) == undisturbed()


def test_the_last_validation_of_a_stage_is_finished_before_a_run_stops(tmp_path, undisturbed):
    settings = LIMITED | {"max_steps": 8}
    stop = At("on_validation_batch_end", 4, lambda: kill(signal.SIGTERM))
    assert in_a_process(lambda: fit(tmp_path, stop, **settings)) == 143
    assert in_a_process(lambda: fit(tmp_path, **settings)) == 0
    assert outcome(tmp_path) == undisturbed(**settings)


def test_a_run_directory_that_is_moved_keeps_its_best_epoch(tmp_path):
    settings = {"max_epochs": 5, "patience": 9, "optimizer": {"lr": 0.5}, "collapse": {"attempts": 0}}
    for name in ("whole", "a"):
        (tmp_path / name).mkdir()
    fit(tmp_path / "whole", **settings)
    assert in_a_process(lambda: fit(tmp_path / "a", At("on_train_batch_start", 13), **settings)) == -signal.SIGKILL
    (tmp_path / "a").rename(tmp_path / "b")
    found = fit(tmp_path / "b", **settings)
    assert found.stages[0].best_epoch == 2, "before it was moved"
    assert outcome(tmp_path / "b") == outcome(tmp_path / "whole")


STOPPED = [(way, *at) for at in (("on_validation_batch_start", 5), ("on_before_backward", 2)) for way in reversed(WAYS)]


@pytest.mark.slow
@pytest.mark.parametrize(("way", "hook", "count"), STOPPED)
def test_a_run_stopped_repeatedly_resumes_to_the_same_result(tmp_path, undisturbed, way, hook, count):
    def work():
        fit(tmp_path, At(hook, count, lambda: kill(signal.SIGTERM)), **WAYS[way])

    stopped = [in_a_process(work)]
    while stopped[-1] == 143 and len(stopped) < 20:
        stopped.append(in_a_process(work))
    assert stopped[-1] == 0
    assert len(stopped) > 2
    assert steps(tmp_path) == STEPS
    assert outcome(tmp_path) == undisturbed(**WAYS[way])


def test_a_second_ctrl_c_exits_without_saving(tmp_path, undisturbed):
    def twice():
        kill(signal.SIGINT)
        kill(signal.SIGINT)

    assert in_a_process(lambda: fit(tmp_path, At("on_before_backward", 2, twice))) == 130
    assert not (tmp_path / "run/seed-3/20/last.ckpt").exists()
    assert in_a_process(lambda: fit(tmp_path)) == 0
    assert outcome(tmp_path) == undisturbed()


@pytest.mark.parametrize(("number", "status"), fast_one_in(2, STOPS))
def test_outside_of_training_a_signal_stops_the_run_at_once(tmp_path, undisturbed, number, status):
    assert in_a_process(lambda: fit(tmp_path, At("on_test_batch_start", 1, lambda: kill(number)))) == status
    assert in_a_process(lambda: fit(tmp_path)) == 0
    assert steps(tmp_path) == STEPS
    assert outcome(tmp_path) == undisturbed()


def test_signal_handlers_are_restored_after_a_run(tmp_path):
    before = [signal.getsignal(number) for number, _ in STOPS]
    fit(tmp_path)
    assert [signal.getsignal(number) for number, _ in STOPS] == before


@pytest.mark.parametrize(
    ("hook", "count"), fast_one_in(2, [("on_before_backward", 9), ("on_validation_batch_start", 8)])
)
def test_a_job_requeued_by_slurm_resumes_the_stage_that_it_stopped(tmp_path, undisturbed, monkeypatch, hook, count):
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f"#!/bin/sh\necho $@ >> {tmp_path}/scontrol.txt\n")
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{scontrol.parent}:{os.environ['PATH']}")
    for name, value in {"JOB_ID": "1234", "JOB_NAME": "train", "NTASKS": "1", "PROCID": "0", "LOCALID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("SLURM_NODEID", "0")

    def job(*callbacks):
        fit(tmp_path, *callbacks, plugins=[SLURMEnvironment(auto_requeue=True)])

    requeue = At(hook, count, lambda: kill(signal.SIGUSR1))  # in the second stage's first epoch
    assert in_a_process(lambda: job(requeue, At("on_train_epoch_end", 3))) == -signal.SIGKILL
    assert (tmp_path / "scontrol.txt").read_text() == "requeue 1234\n"
    assert in_a_process(job) == 0
    assert steps(tmp_path) == STEPS + (hook == "on_before_backward"), "the step that SLURM still let it do"
    assert outcome(tmp_path) == undisturbed()
    assert not list(tmp_path.rglob("hpc_ckpt_*"))


# One process at a time


def held_by_another(root):
    """A process that holds the lock of ``root``."""
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        with locked(root):
            os.write(told, b"x")
            signal.pause()
    os.read(ready, 1)
    return child


def test_a_directory_in_use_is_refused_and_a_dead_process_is_not_in_the_way(tmp_path):
    (tmp_path / "run").mkdir()
    child = held_by_another(tmp_path / "run")
    try:
        with pytest.raises(gradual.InputError, match=rf"in use by process {child} on .* since 20"):
            fit(tmp_path)
        assert not (tmp_path / "run" / "config.yaml").exists()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    fit(tmp_path)
    assert (tmp_path / "run" / "results.json").exists()


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"])
def test_the_other_processes_of_a_distributed_run_are_not_refused(tmp_path, monkeypatch, name):
    child = held_by_another(tmp_path)
    try:
        monkeypatch.setenv(name, "0")
        with pytest.raises(gradual.InputError, match="in use"), locked(tmp_path):
            pass
        monkeypatch.setenv(name, "1")
        with locked(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_the_lock_ends_with_the_run(tmp_path):
    fit(tmp_path)
    assert in_a_process(lambda: fit(tmp_path)) == 0


# Several stages at once, each in a process of its own

WORKERS = """
import functools, os, signal, sys
sys.path.insert(0, {tests!r})
from linear_model import LinearModel, make_experiment
from gradual.experiment.driver import compare_tree, plan_tree
from gradual.experiment.executors import processes
from gradual.schedule import Schedule
from gradual.experiment.strategies import parse_strategies

class Slow(LinearModel):
    def on_train_batch_start(self, batch, batch_idx):
        __import__("time").sleep(0.2)

def make(root):
    import pathlib
    experiment = make_experiment(root)
    experiment.model = lambda: Slow(pathlib.Path(root) / "trained.txt")
    return experiment

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
    experiment = make({root!r})
    tree = plan_tree(experiment, parse_strategies(None, Schedule([3000, 0])), [0, 1])
    try:
        compare_tree(experiment, tree, processes(functools.partial(make, {root!r}), 2))
    except KeyboardInterrupt:  # as the command does
        sys.exit(130)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [*STOPS, (signal.SIGKILL, -signal.SIGKILL)])
def test_the_workers_of_a_comparison_end_with_it(tmp_path, number, status):
    script = tmp_path / "script.py"
    script.write_text(WORKERS.format(root=str(tmp_path), tests=str(Path(__file__).parents[2])))
    parent = subprocess.Popen([sys.executable, script], start_new_session=True)
    try:
        until(lambda: (tmp_path / "trained.txt").exists(), 200)
        time.sleep(1)
        parent.send_signal(number)
        assert parent.wait(60) == status
        until(lambda: not is_alive(parent.pid), 20)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(parent.pid, signal.SIGKILL)
    if number != signal.SIGKILL:
        assert list((tmp_path / "run").rglob("last.ckpt")), "the stage in training was saved"


def is_alive(group):
    """Whether any process of a group is there."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def until(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)

"""Several processes: the same samples and scores as one, nothing counted twice, nobody waits for ever."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import distributed_run
import pytest
import torch
from lightning.pytorch import Trainer
from linear_model import Examples
from recorded_runs import path_results
from two_processes import environment, in_two_processes

import gradual
from gradual import InputError
from gradual.stage.callbacks.history import ExampleScores
from gradual.stage.resume import random_state
from gradual.stage.resume.random_state import RandomState
from gradual.tasks.dialogue import DialogueDataModule, DialogueStateTracker

SCRIPT = Path(distributed_run.__file__)
ROOT = SCRIPT.parents[1]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]


def launch(launcher: str, what: str, folder: Path, script: Path) -> tuple[subprocess.Popen, Path]:
    """Start two processes in a session of their own; their output goes to a file."""
    command = [sys.executable, *(TORCHRUN if launcher == "torchrun" else []), str(script), what, str(folder), "2"]
    output = folder / "output.txt"
    with output.open("w") as file:
        started = subprocess.Popen(command, env=environment(), stdout=file, stderr=file, start_new_session=True)
    return started, output


def launched(launcher: str, what: str, folder: Path, script: Path = SCRIPT) -> int:
    """Run two processes to their end, and see that none is left."""
    process, output = launch(launcher, what, folder, script)
    try:
        status = process.wait(timeout=300)
        wait_until(lambda: not alive(process.pid), 60)
    finally:
        for pid in alive(process.pid):
            os.kill(pid, signal.SIGKILL)
    if what in ("all", "train", "test", "compare"):
        assert status == 0, output.read_text()[-3000:]
    return status


def forked(what: str, folder: Path) -> None:
    """Run two processes that are forked from this one, which has imported all they need, and are told as by torchrun.

    Importing takes most of the time of processes that are started anew.
    """
    in_two_processes(lambda: distributed_run.work(what, folder, 2), folder)


def alive(session: int) -> list[int]:
    """The processes of a session, without those that have ended and wait to be noticed."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, sid = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue  # it has just ended
        if int(sid) == session and state != "Z":
            found.append(int(stat.parent.name))
    return found


def wait_until(holds, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)


def ends(folder: Path) -> list[dict]:
    return json.loads((folder / "ends.json").read_text())


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def demo(small_demo, tmp_path_factory):
    """The demo's data with an encoder that drops nothing: processes drop different units, whatever their batches."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    shutil.copytree(small_demo, folder)
    config = json.loads((folder / "encoder/config.json").read_text())
    changed = {name: 0.0 if name.endswith("dropout_prob") else value for name, value in config.items()}
    (folder / "encoder/config.json").write_text(json.dumps(changed))
    return folder


STARTED = [pytest.param(launcher, marks=pytest.mark.slow) for launcher in ("forked", "lightning", "torchrun")]


@pytest.fixture(scope="module", params=STARTED)
def two(request, demo, tmp_path_factory):
    """What two processes left: forked from this one, or started by Lightning or by torchrun."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "demo").symlink_to(demo)
    if request.param == "forked":
        forked("all", folder)
    else:
        launched(request.param, "all", folder)
    return folder


@pytest.fixture(scope="module")
def one(two, demo, tmp_path_factory):
    """What one process left with twice the batch; it predicts with the weights of the two."""
    folder = tmp_path_factory.mktemp("one")
    (folder / "demo").symlink_to(demo)
    distributed_run.evaluate(folder, 1)
    distributed_run.dialogue(folder, 1, two / "run-dialogue/seed-0/20/0/best.ckpt")
    return folder


def test_all_stages_run_in_one_launch(two):
    results = path_results(two / "run")
    assert [stage["path"] for stage in results["stages"]] == ["seed-0/20", "seed-0/20/5", "seed-0/20/5/0"]
    assert [(stage["converged"], stage["ended_by"]) for stage in results["stages"]] == [(False, "max_epochs")] * 3
    first, second = ends(two)
    assert first == second
    assert first["code"] == gradual.__file__, "the tests are to test this copy of the code"
    output = (two / "output.txt").read_text()
    assert output.count("val joint_accuracy ") == 1, "one process prints"
    assert not list(two.rglob("*.tmp"))


@pytest.mark.slow
def test_an_average_is_that_of_the_stages_in_every_process(tmp_path):
    """The second launch trains nothing: the average is all that is left to do."""
    folder, stages = tmp_path / "run/seed-0/20/5/0", ("20", "20/5", "20/5/0")
    for first, final in ((1, "average"), (2, {"average": 2})):
        in_two_processes(lambda final=final: distributed_run.train(tmp_path, 2, final=final), tmp_path)
        files = [tmp_path / "run/seed-0" / stage / "best.ckpt" for stage in stages[first - 1 :]]
        states = [torch.load(file, weights_only=True)["state_dict"] for file in files]
        model = distributed_run.LinearModel()
        model.load_state_dict({name: sum(one[name] for one in states) / len(states) for name in states[0]})
        for end in ends(tmp_path):
            for weights, mean in zip(end["weights"], model.parameters()):
                assert weights == pytest.approx(mean.flatten().tolist(), rel=1e-6)
        result = json.loads((folder / f"average-from-{first}/result.json").read_text())
        assert (result["averaged"], result["steps"]) == (len(states), 0)
        domains = distributed_run.data().domains
        for split, dataset in (("val", domains.val), ("test", domains.test)):
            inputs, targets = (torch.stack(column) for column in zip(*dataset))
            losses = (model.layer(inputs) - targets).detach().square().flatten()
            assert result[split]["sized"] == pytest.approx(float(losses.mean()), rel=1e-5)
            assert (result[split]["worst"], result[split]["examples"]) == (pytest.approx(float(losses.max())), 7)
        assert len(lines(folder / f"average-from-{first}/test_examples.jsonl")) == 7
    assert len(list(tmp_path.rglob("average-from-*"))) == 2


def test_samples_are_those_of_one_process(one, two):
    for stage in ("20", "20/0"):
        sample = f"run-dialogue/seed-0/{stage}/sample.txt"
        assert (two / sample).read_text() == (one / sample).read_text()
    assert len((two / "run-dialogue/seed-0/20/sample.txt").read_text().split()) == 20


@pytest.mark.parametrize("size", distributed_run.SIZES)
def test_scores_are_those_of_one_process_whatever_the_size(one, two, size):
    ours, theirs = (json.loads((folder / f"scores-{size}.json").read_text()) for folder in (two, one))
    assert ours == pytest.approx(theirs, rel=1e-6)
    assert (ours["val/examples"], ours["test/examples"]) == (size, size)
    # and by hand
    model = distributed_run.LinearModel().eval()
    inputs, targets = map(torch.stack, zip(*Examples("test", size, 2.0, 4)))
    losses = (model.layer(inputs) - targets).square().detach()
    assert ours["test/loss"] == ours["test/sized"] == pytest.approx(float(losses.mean()), rel=1e-5)
    assert ours["test/close"] == pytest.approx(float((losses < 1).float().mean()))
    assert ours["test/worst"] == pytest.approx(float(losses.max()))


@pytest.mark.parametrize("stage", ["20", "20/0"])
def test_a_checkpoint_s_scores_are_exactly_those_of_one_process(two, demo, tmp_path, stage):
    folder = two / "run-dialogue/seed-0" / stage
    result = json.loads((folder / "result.json").read_text())
    model = DialogueStateTracker.load_from_checkpoint(folder / "best.ckpt", map_location="cpu")
    data = DialogueDataModule(str(demo), "hostel", f"{demo}/encoder", "train30.tsv", eval_batch_size=3)
    trainer = Trainer(
        accelerator="cpu", logger=False, callbacks=[ExampleScores(tmp_path / "examples")], **distributed_run.QUIET
    )
    (val,) = trainer.validate(model, datamodule=data, verbose=False)
    (test,) = trainer.test(model, datamodule=data, verbose=False)
    assert val == {f"val/{name}": value for name, value in result["val"].items()}
    assert test == {f"test/{name}": value for name, value in result["test"].items()}
    assert (folder / "test_examples.jsonl").read_text() == (tmp_path / "examples").read_text()
    assert len(lines(folder / "test_examples.jsonl")) == 10


def test_examples_of_all_processes_are_in_one_file_in_the_order_of_the_data(two):
    for stage in ("20", "20/5", "20/5/0"):
        folder = two / "run/seed-0" / stage
        records = lines(folder / "test_examples.jsonl")
        state = torch.load(folder / "best.ckpt", weights_only=True)["state_dict"]
        inputs, targets = map(torch.stack, zip(*Examples("test", 7, 2.0, 4)))
        losses = (inputs @ state["layer.weight"].T + state["layer.bias"] - targets).square().squeeze(1)
        assert [record["loss"][0] for record in records] == pytest.approx(losses.tolist(), rel=1e-4)
        test = json.loads((folder / "result.json").read_text())["test"]
        assert test["loss"] == pytest.approx(float(losses.mean()), rel=1e-5)


def test_predictions_are_those_of_one_process_in_its_order(one, two):
    assert (two / "predictions.jsonl").read_text() == (one / "predictions.jsonl").read_text()
    assert len({record["dialogue"] for record in lines(two / "predictions.jsonl")}) == 10


def test_training_is_that_of_one_process_with_twice_the_batch(one, two):
    ours, theirs = ([float(line) for line in (folder / "losses.txt").read_text().split()] for folder in (two, one))
    assert len(theirs) == 4 + 2
    assert ours[:4] == pytest.approx(theirs[:4], rel=1e-4)
    assert len(set(ours)) == len(ours)


@pytest.mark.slow
def test_scores_that_only_some_processes_log_are_those_of_one_process(tmp_path):
    """Names that come in another order, only in some batches, or only in one process; also at the end of an epoch."""
    (tmp_path / "two").mkdir()
    forked("sometimes", tmp_path / "two")
    distributed_run.sometimes(tmp_path, 1)
    for path in tmp_path.glob("scores-*.json"):
        first, second = json.loads((tmp_path / "two" / path.name).read_text())
        assert first == second, "both processes have the same scores"
        (expected,) = json.loads(path.read_text())
        for ours, theirs in zip(first, expected, strict=True):
            assert ours == pytest.approx(theirs, rel=1e-6)


# Random states


def test_a_checkpoint_has_the_random_states_of_all_processes(monkeypatch):
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        states += RandomState().state_dict()["processes"]
    expected = [torch.rand(3, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    for rank in (0, 1):
        monkeypatch.setattr(random_state, "rank_and_world_size", lambda rank=rank: (rank, 2))
        restored = RandomState()
        restored.load_state_dict({"processes": states})
        torch.manual_seed(3)
        restored.on_train_start(
            Trainer(accelerator="cpu", logger=False, **distributed_run.QUIET), distributed_run.LinearModel()
        )
        assert torch.equal(torch.rand(3), expected[rank])


def test_a_stage_of_two_processes_does_not_go_on_with_one(two):
    with pytest.raises(InputError, match="started with 2 processes and cannot be resumed with 1"):
        RandomState().load_state_dict(
            torch.load(two / "run/seed-0/20/last.ckpt", weights_only=True)["callbacks"]["RandomState"]
        )


def test_each_process_has_random_numbers_of_its_own(two):
    first, second = torch.load(two / "run/seed-0/20/last.ckpt", weights_only=True)["callbacks"]["RandomState"][
        "processes"
    ]
    assert not torch.equal(first["torch"], second["torch"])
    assert first["python"] != second["python"]


# The end


LEAVING = """
import atexit
import torch.distributed as dist
atexit.register(lambda: print(dist.is_initialized()))
import gradual.distributed
dist.init_process_group("gloo", init_method="file://{}", rank=0, world_size=1)
"""


@pytest.mark.slow
def test_the_process_group_has_ended_when_python_does(tmp_path):
    command = [sys.executable, "-c", LEAVING.format(tmp_path / "store")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["lightning", "torchrun"])
def test_other_test_data_is_measured_by_all_processes(tmp_path, launcher):
    launched(launcher, "train", tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("best.ckpt")}
    launched(launcher, "test", tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("best.ckpt")} == before
    for stage in path_results(tmp_path / "run")["stages"]:
        model = distributed_run.LinearModel().eval()
        model.load_state_dict(
            torch.load(tmp_path / "run" / stage["path"] / "best.ckpt", weights_only=True)["state_dict"]
        )
        test = Examples("test", 7, 5.0, 4)
        losses = model._losses([torch.stack(column) for column in zip(*test)])
        assert stage["test"]["sized"] == pytest.approx(float(losses.mean()), rel=1e-5)


# Comparison


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["lightning", "torchrun"])
def test_several_processes_compare_and_one_of_them_reports(tmp_path, launcher):
    launched(launcher, "compare", tmp_path)
    page = tmp_path / "run/report/report.html"
    assert json.loads((tmp_path / "pages.json").read_text()) == [str(page)] * 2
    assert page.exists()
    assert (tmp_path / "output.txt").read_text().count("stages instead of 6") == 1
    assert len(list(tmp_path.glob("run/seed-*/**/result.json"))) == 6
    assert sorted(path.name for path in (tmp_path / "run/strategies").iterdir()) == ["in-domain only", "one-stage"]
    assert not list(tmp_path.rglob("*.tmp"))


# Death


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["lightning", "torchrun"])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_dies_ends_the_others_and_the_same_command_resumes(tmp_path, uninterrupted, launcher, rank):
    assert launched(launcher, str(rank), tmp_path) != 0
    assert not (tmp_path / "ends.json").exists()
    assert not (tmp_path / "run/seed-0/20/5/result.json").exists()
    assert (tmp_path / "run/seed-0/20/5/last.ckpt").exists(), "it died in the second epoch"
    launched(launcher, "train", tmp_path)
    assert ends(tmp_path) == ends(uninterrupted)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """What two processes end with that nobody kills."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    launched("lightning", "train", folder)
    return folder


# Shares of a module


@pytest.mark.slow
def test_weights_of_a_divided_module_are_saved_and_carried_whole(tmp_path):
    launched("lightning", "all", tmp_path, SCRIPT.with_name("sharded_run.py"))
    first, second = json.loads((tmp_path / "starts.json").read_text())
    assert first == second
    assert len(first) == 3
    for index, stage in enumerate(("20", "20/5", "20/5/0")):
        folder = tmp_path / "run/seed-0" / stage
        state = torch.load(folder / "best.ckpt", weights_only=True)["state_dict"]
        assert state["layer.weight"].shape == (3, 3)
        assert set(state) == {"layer.weight", "layer.bias", "shift"}, "nothing frozen"
        assert torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]["layer.weight"].shape == (3, 3)
        if index < 2:
            assert first[index + 1] == state["layer.weight"].tolist()
        inputs, targets = map(torch.stack, zip(*Examples("test", 7, 2.0, 4)))
        losses = (inputs @ state["layer.weight"].T + state["layer.bias"] - targets).square().mean(1)
        result = json.loads((folder / "result.json").read_text())
        assert result["test"]["loss"] == pytest.approx(float(losses.mean()), rel=1e-5)
    again = json.loads((folder / "before.json").read_text())
    assert (result["val"], result["test"], result["epochs"]) == (again["val"], again["test"], again["epochs"])
    assert "ModelParallelStrategy saves a separate shard of the weights" in (tmp_path / "refused.txt").read_text()


# Several machines


def why_no_namespaces() -> str:
    """Why two network namespaces cannot be made here; empty where they can."""
    if not shutil.which("ip"):
        return "there is no command ip"
    tried = subprocess.run(["ip", "netns", "add", "gradual-try"], capture_output=True, text=True)
    subprocess.run(["ip", "netns", "del", "gradual-try"], capture_output=True)
    return tried.stderr.strip() and f"network namespaces cannot be made: {tried.stderr.strip()}"


@pytest.mark.slow
@pytest.mark.parametrize("two", ["lightning"], indirect=True)
def test_two_machines_train_as_two_processes_of_one(two, tmp_path):
    reason = why_no_namespaces()
    if reason:
        pytest.skip(reason)
    script = SCRIPT.with_name("two_machines.sh")
    with (tmp_path / "output.txt").open("w") as output:
        status = subprocess.run(
            ["sh", str(script), sys.executable, str(SCRIPT), "train", str(tmp_path), "2"],
            env=environment(), stdout=output, stderr=output, timeout=300, check=False,
        ).returncode  # fmt: skip
    assert status == 0, (tmp_path / "output.txt").read_text()[-3000:]
    assert ends(tmp_path) == ends(two)
    assert json.loads((tmp_path / "addresses.json").read_text()) == ["10.99.0.1", "10.99.0.2"]

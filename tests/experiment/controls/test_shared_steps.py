"""A control does not take the steps again that it has in common with the stage that it copies, and ends up the same."""

import json
import logging
from dataclasses import replace

import distributed_run
import pytest
import torch
from controlled_runs import Counting, compare, counted, make_experiment, results
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping
from two_processes import in_two_processes

import gradual
from gradual import InputError, LRScheduleConfig, OptimizerConfig, Schedule, Strategy
from gradual.experiment.controls import DROP_AT_ONCE, MIXED_AS_LONG, SAME_STEPS
from gradual.stage.shared_steps import SharedSteps, trains_alike

pytestmark = pytest.mark.usefixtures("undrawn_figures")

SHORT = {"gradual": Strategy(Schedule([24, 4, 0]))}
LONG = ("24-as-24+12+4", "24-as-24+12+4+0")


def trained_by_themselves(root, **settings):
    """A comparison whose controls find no checkpoint of the first stage to go on from."""
    compare(root, controls=False, **settings)
    (root / "run/seed-0/24/last.ckpt").unlink()
    compare(root, controls=[SAME_STEPS, MIXED_AS_LONG], **settings)


def state(root, path):
    return torch.load(root / "run/seed-0" / path, weights_only=True)


def test_it_has_the_same_result_as_one_that_takes_all_steps_itself(whole, tmp_path):
    trained_by_themselves(tmp_path)
    alone, shared = results(tmp_path), results(whole)
    steps = counted(tmp_path)[0]
    assert [steps[path] for path in LONG] == [81, 91]
    for path in (*LONG, f"{LONG[0]}/0-as-0"):
        assert {**alone[path], "seconds": 0} == {**shared[path], "seconds": 0}
        for name in ("best.ckpt", "last.ckpt"):
            ours, theirs = state(whole, f"{path}/{name}"), state(tmp_path, f"{path}/{name}")
            assert ours["global_step"] == theirs["global_step"]
            assert all(torch.equal(ours["state_dict"][key], value) for key, value in theirs["state_dict"].items())
        rows = [
            [json.loads(line) | {"seconds": 0} for line in (root / f"run/seed-0/{path}/history.jsonl").open()]
            for root in (whole, tmp_path)
        ]
        assert rows[0] == rows[1]


@pytest.mark.parametrize(
    "settings",
    [
        {"weight_averaging": 0.9, "smoothing": 2},
        {"optimizer": OptimizerConfig(class_path="torch.optim.AdamW", lr=0.05, state="keep")},
        {"lr_schedule": LRScheduleConfig(warmup=30), "optimizer": OptimizerConfig(lr=0.05)},
    ],
    ids=["averaged weights", "a kept optimizer", "a warm-up"],
)
def test_what_a_stage_keeps_beside_its_weights_goes_on_too(tmp_path, settings):
    settings = {"settings": settings}
    for name in ("shared", "alone"):
        (tmp_path / name).mkdir()
    compare(tmp_path / "shared", SHORT, [SAME_STEPS, MIXED_AS_LONG], **settings)
    trained_by_themselves(tmp_path / "alone", strategies=SHORT, **settings)
    ours, theirs = (results(tmp_path / name) for name in ("shared", "alone"))
    assert ours.keys() == theirs.keys()
    for path, result in ours.items():
        assert {**result, "seconds": 0} == {**theirs[path], "seconds": 0}
    taken = [counted(tmp_path / name)[0]["24-as-24+4"] for name in ("shared", "alone")]
    assert taken[1] - taken[0] == ours["24"]["steps"]


def test_the_first_stage_keeps_its_own_checkpoints(whole):
    first, control = state(whole, "24/best.ckpt"), state(whole, f"{LONG[0]}/best.ckpt")
    assert first["global_step"] == 24, "its third epoch is the best"
    assert state(whole, "24/last.ckpt")["global_step"] == 40
    assert control["global_step"] == 24, "no later validation of the control is better"


def test_it_says_whose_steps_it_begins_with(tmp_path, caplog):
    caplog.set_level("INFO", logger="gradual")
    compare(tmp_path, SHORT, [SAME_STEPS])
    said = [message for message in caplog.messages if "begins with" in message]
    first = "stage 1 (24 out-of-domain)"
    assert said == [f"seed 0, {first} begins with the 40 steps of {first} of 'gradual'."]


class Halting(Counting):
    """Fails once in a stage that begins with the steps of another one, as a power cut would."""

    at = 0

    def on_train_batch_start(self, batch, batch_idx):
        folder, marker = self.trainer.checkpoint_callback.dirpath, self.log_file.with_name("halted")
        if folder.endswith(LONG[0]) and self.trainer.global_step == self.at and not marker.exists():
            marker.touch()
            raise RuntimeError("power cut")


@pytest.mark.parametrize("at", [40, 60])  # its first batch, and one after a checkpoint of its own
def test_after_an_interruption_it_goes_on_to_the_same_result(whole, tmp_path, monkeypatch, at):
    monkeypatch.setattr(Halting, "at", at)
    with pytest.raises(RuntimeError, match="power cut"):
        compare(tmp_path, controls=[SAME_STEPS], experiment=make_experiment(tmp_path, Halting))
    compare(tmp_path, controls=[SAME_STEPS], experiment=make_experiment(tmp_path, Halting))
    for path in (LONG[0], f"{LONG[0]}/0-as-0"):
        assert {**results(tmp_path)[path], "seconds": 0} == {**results(whole)[path], "seconds": 0}
    ours, theirs = (state(root, f"{LONG[0]}/last.ckpt")["state_dict"] for root in (tmp_path, whole))
    assert all(torch.equal(ours[key], value) for key, value in theirs.items())
    assert counted(tmp_path)[0][LONG[0]] in range(41, 41 + 8), "at most an epoch is trained again"


class Collapsing(Counting):
    """Its loss is NaN at rates above 0.03."""

    def training_step(self, batch, batch_idx):
        too_high = self.trainer.optimizers[0].param_groups[0]["lr"] > 0.03
        return super().training_step(batch, batch_idx) * (torch.nan if too_high else 1)


class LateCollapse(Counting):
    """Its loss is NaN from a step on that only one of its stages reaches, at rates above 0.03."""

    def training_step(self, batch, batch_idx):
        too_high = self.trainer.optimizers[0].param_groups[0]["lr"] > 0.03 and self.trainer.global_step > 50
        return super().training_step(batch, batch_idx) * (torch.nan if too_high else 1)


def test_if_it_collapses_later_the_same_command_starts_it_anew_at_lower_rates(tmp_path):
    with pytest.raises(InputError, match=r"seed 0, stage 1 \(24 .* collapsed, and .*: run the same command"):
        compare(tmp_path, controls=[SAME_STEPS], experiment=make_experiment(tmp_path, LateCollapse))
    compare(tmp_path, controls=[SAME_STEPS], experiment=make_experiment(tmp_path, LateCollapse))
    control = results(tmp_path)[LONG[0]]
    assert ([collapse["lr_scale"] for collapse in control["collapses"]], control["steps"]) == ([1.0], 81)


class OwnOptimizer(Counting):
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


class WithoutState(Callback):
    def __init__(self):
        self.seen = 0

    def on_train_batch_end(self, *arguments):
        self.seen += 1


def with_callbacks(root, *callbacks):
    experiment = make_experiment(root)
    given = experiment.trainer_arguments()
    experiment.trainer_arguments = lambda: {**given, "callbacks": [make() for make in callbacks]}
    return experiment


NOT_SHARED = {
    "a module's own optimizer": lambda root: make_experiment(root, OwnOptimizer, {"optimizer": OptimizerConfig()}),
    "a stage that collapsed": lambda root: make_experiment(root, Collapsing),
    "two validations an epoch": lambda root: make_experiment(root, val_check_interval=0.5),
    "a validation every second epoch": lambda root: make_experiment(root, check_val_every_n_epoch=2),
    "a callback without a state": lambda root: with_callbacks(root, WithoutState),
    "an early stopping of the user's": lambda root: with_callbacks(root, lambda: EarlyStopping("val/loss")),
    "a schedule that decays": lambda root: make_experiment(
        root, settings={"lr_schedule": LRScheduleConfig(name="linear")}
    ),
}


@pytest.mark.parametrize("what", NOT_SHARED)
def test_it_takes_all_steps_itself_with(what, tmp_path):
    compare(tmp_path, SHORT, [SAME_STEPS], experiment=NOT_SHARED[what](tmp_path))
    control = results(tmp_path)["24-as-24+4"]
    steps, _ = counted(tmp_path)
    assert steps["24-as-24+4"] >= control["steps"] > results(tmp_path)["24"]["steps"]


def test_it_takes_all_steps_itself_after_a_stage_that_ended_within_an_epoch(tmp_path):
    first = {"amount": 24, "max_steps": 13}
    compare(tmp_path, {"gradual": Strategy(Schedule([first, 4, 0]))}, [SAME_STEPS])
    assert counted(tmp_path)[0]["24-as-24+4"] == results(tmp_path)["24-as-24+4"]["steps"]


def test_a_stage_with_a_limit_of_epochs_of_its_own_is_shared(tmp_path):
    first = {"amount": 24, "max_epochs": 2}
    compare(tmp_path, {"gradual": Strategy(Schedule([first, 4, 0]))}, [SAME_STEPS, DROP_AT_ONCE])
    assert results(tmp_path)["24"]["ended_by"] == "max_epochs"
    assert counted(tmp_path)[0]["24-as-24+4"] == results(tmp_path)["24-as-24+4"]["steps"] - 16


SETTINGS = {"optimizer": {"lr": 0.1}, "lr_schedule": {}, "seed": 1, "patience": 3, "monitor": "val/loss"}


@pytest.mark.parametrize(
    ("changes", "alike"),
    [
        ({}, True),
        ({"patience": 9, "min_delta": 0.1, "max_epochs": 3, "max_steps": 7}, True),
        ({"seed": 2}, False),
        ({"optimizer": {"lr": 0.2}}, False),
        ({"in_domain_weight": 2.0}, False),
        ({"gradient_clip_val": 1.0}, False),
    ],
)
def test_what_makes_stages_train_alike(changes, alike):
    assert trains_alike(SETTINGS | changes, SETTINGS) is alike


@pytest.mark.parametrize(
    ("schedule", "alike"),
    [
        ({"name": "constant", "warmup": 10}, True),
        ({"name": "constant_with_warmup", "warmup": 10}, True),
        ({"warmup": 0.1}, False),
        ({"name": "inverse_sqrt"}, True),
        ({"name": "cosine"}, False),
        ({"name": "linear", "warmup": 10}, False),
    ],
)
def test_rates_that_are_planned_over_the_steps_of_a_stage_are_not_alike(schedule, alike):
    settings = SETTINGS | {"lr_schedule": schedule}
    assert trains_alike(settings, settings) is alike


def test_it_takes_all_steps_itself_if_other_processes_took_them(tmp_path, monkeypatch):
    find = SharedSteps.find
    monkeypatch.setattr(SharedSteps, "find", lambda *arguments: replace(find(*arguments), processes=2))
    compare(tmp_path, SHORT, [SAME_STEPS])
    assert counted(tmp_path)[0]["24-as-24+4"] == results(tmp_path)["24-as-24+4"]["steps"]


def compare_in_two_processes(root, controls):
    root.mkdir(exist_ok=True)

    def work():
        logging.getLogger("gradual").setLevel(logging.INFO)
        logging.getLogger("gradual").addHandler(logging.StreamHandler())  # which writes to the file of the process
        gradual.compare(
            distributed_run.LinearModel, distributed_run.data(), [20, 5, 0], root / "run", controls=controls,
            strategies={"gradual": {}}, seeds=[0], optimizer={"lr": 0.05}, max_epochs=2,
            **distributed_run.trainer_arguments(2),
        )  # fmt: skip

    in_two_processes(work, root)


@pytest.mark.slow
def test_several_processes_begin_with_shared_steps(tmp_path):
    found = {}
    for name in ("shared", "alone"):
        compare_in_two_processes(tmp_path / name, [])
        if name == "alone":
            (tmp_path / name / "run/seed-0/20/last.ckpt").unlink()
        compare_in_two_processes(tmp_path / name, [SAME_STEPS])
        result = results(tmp_path / name)["20-as-20+5"]
        found[name] = ({**result, "seconds": 0}, state(tmp_path / name, "20-as-20+5/last.ckpt")["state_dict"])
        said = (tmp_path / name / "output.txt").read_text()
        assert said.count("begins with the 8 steps") == (name == "shared")
    assert found["shared"][0] == found["alone"][0]
    assert all(torch.equal(found["shared"][1][key], value) for key, value in found["alone"][1].items())

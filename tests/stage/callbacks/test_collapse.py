"""Collapse (Appendix A.1): what is one and what is not, and how a stage goes back and tries again more slowly."""

import json
import logging
import math
import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import Callback, LightningModule
from linear_model import Examples, LinearModel
from recorded_runs import path_results
from slow_cases import fast_one_in
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torchmetrics import SumMetric

import gradual
from gradual import CollapseConfig, InputError, MixedDomainDataModule
from gradual.__main__ import main
from gradual.runs import directory as runs
from gradual.stage.callbacks.collapse import EVERY, LossWatch, ScoreWatch

SPIKE = st.sampled_from([1e3, 1e30, math.inf, math.nan])


# The rule for training losses


def alarm(losses, ratio=10.0, level=0.0) -> tuple[int, str] | None:
    """The step, counted from 1, and the words of the first alarm."""
    watch = LossWatch(ratio, level)
    for loss in losses:
        seen = watch.add(loss)
        if seen:
            return watch.steps, seen
    return None


@st.composite
def healthy(draw):
    """Falling losses, or rising to twice where they began; noise of a factor of 3; a spike in one step of five."""
    steps = draw(st.integers(1, 120))
    level, end = draw(st.floats(1e-6, 1e6)), draw(st.floats(0.001, 1.5))
    noise = draw(st.lists(st.floats(0.4, 2.5), min_size=steps, max_size=steps))
    losses = [level * (1 + (end - 1) * t / steps) * factor for t, factor in enumerate(noise)]
    for t in range(draw(st.integers(0, 4)), steps, 5):
        losses[t] = draw(SPIKE) if draw(st.booleans()) else losses[t]
    return losses


@given(healthy())
def test_losses_of_a_stage_that_learns_raise_no_alarm(losses):
    assert alarm(losses) is None


@given(st.lists(st.floats(1e-9, 1.0), min_size=40, max_size=100), st.floats(0.05, 1.0))
def test_a_loss_that_began_near_zero_may_rise_to_the_parent_s_validation_loss(losses, validation_loss):
    rising = [*[1e-9] * 10, *(loss * 10 * validation_loss for loss in losses)]
    assert alarm(rising, level=validation_loss) is None
    assert alarm([*[1e-9] * 10, *[11 * validation_loss] * 20], level=validation_loss)


@given(st.lists(st.floats(-1e6, -1e-6), min_size=1, max_size=5), st.lists(st.floats(-1e6, 1e6), max_size=60))
def test_where_losses_are_below_zero_their_ratio_means_nothing(first, rest):
    assert alarm([*first, *rest]) is None


@given(st.lists(st.floats(0.4, 2.5), min_size=5, max_size=30), st.floats(70, 1e30))
def test_a_loss_that_explodes_is_seen_within_twenty_steps(noise, times):
    step, seen = alarm([*noise, *[times] * 20])
    assert len(noise) < step <= len(noise) + 20
    assert "rose from" in seen


@given(healthy(), st.sampled_from([math.nan, math.inf, -math.inf]))
def test_two_losses_that_are_not_finite_are_seen_at_once(losses, value):
    losses = [loss if math.isfinite(loss) else 1.0 for loss in losses]
    assert alarm([*losses, value, 1.0, value]) is None
    step, seen = alarm([*losses, value, math.nan, 1.0])
    assert step == len(losses) + 2
    assert "nan" in seen


@given(st.lists(st.floats(0, 100), min_size=1, max_size=80), st.floats(1.5, 20), st.floats(0, 2))
def test_the_median_is_compared_with_the_first_five_naively(losses, ratio, level):
    expected = None
    for t in range(20, len(losses) + 1):
        began = max(*losses[:5], level)
        if began > 0 and median(losses[t - 20 : t]) > ratio * began:
            expected = t
            break
    found = alarm(losses, ratio, level)
    assert (found[0] if found else None) == expected


def test_after_the_start_only_what_is_not_finite_counts():
    watch = LossWatch(10.0)
    watch.settled = True
    assert not any(watch.add(loss) for loss in [1.0] * 10 + [1e9] * 30)
    assert watch.add(math.nan) is None
    assert watch.add(math.nan)


# The rule for scores


PARENT = {"accuracy": 0.9, "loss": 0.2, "rare_f1": 0.05, "time": 5.0, "accuracy/hotel": 0.9}


def watch(monitor="val/loss", mode="min", parent=PARENT, examples=100, **config) -> ScoreWatch:
    return ScoreWatch(CollapseConfig(**config), monitor, mode, parent, examples)


@pytest.mark.parametrize(
    ("given", "metrics", "seen"),
    [
        ({}, {"val/accuracy": 0.08}, "val/accuracy fell from 0.9 to 0.08"),
        ({}, {"val/accuracy": 0.1}, None),
        ({"ratio": 2.0}, {"val/accuracy": 0.4}, "val/accuracy fell"),
        ({"examples": 11}, {"val/accuracy": 0.0}, None),  # not ten examples right
        ({}, {"val/rare_f1": 0.0}, None),  # it was low already
        ({}, {"val/time": 0.1}, None),  # not a score that is better when higher
        ({}, {"val/accuracy/hotel": 0.0}, None),  # of one class
        ({}, {"train/accuracy": 0.0}, None),
        ({}, {"val/new_accuracy": 0.0}, None),  # the parent had none
        ({"parent": {}}, {"val/accuracy": 0.0, "val/loss": 1e9}, None),
        ({"monitor": "val/time", "mode": "max"}, {"val/time": 0.1}, "val/time fell"),
        ({"monitor": "val/accuracy", "mode": "min"}, {"val/accuracy": 0.0}, None),  # the user says lower is better
        ({"scores": ["val/time"]}, {"val/time": 0.1}, "val/time fell"),
        ({"scores": ["val/time"]}, {"val/time": 5.0, "val/accuracy": 0.0}, None),
        ({}, {"val/loss": math.nan}, "val/loss is nan"),
        ({"monitor": "val/accuracy", "mode": "max"}, {"val/accuracy": math.inf}, "val/accuracy is inf"),
    ],
)
def test_collapses_that_one_validation_shows(given, metrics, seen):
    found = watch(**given).validated(metrics)
    assert (found is None) if seen is None else found.startswith(seen)


@pytest.mark.parametrize("monitor", ["val/loss", "val/accuracy"])
@pytest.mark.parametrize(
    ("validations", "collapsed"),  # of a loss that was 0.2 and an accuracy that was 0.9
    [
        ([(3.0, 0.3)], False),
        ([(3.0, 0.3), (2.9, 0.3)], True),
        ([(3.0, 0.3), (1.9, 0.3), (3.0, 0.3)], False),  # not in a row
        ([(9.0, 0.3), (4.0, 0.3), (2.1, 0.3)], True),
        ([(9.0, 0.3), (4.0, 0.3)], False),  # it recovers
        ([(9.0, 0.5), (9.0, 0.5), (9.0, 0.5)], False),  # what counts is hardly the worse
    ],
)
def test_collapses_that_validation_losses_show(monitor, validations, collapsed):
    watched = watch(monitor, "max" if monitor == "val/accuracy" else "min")
    *before, last = [watched.validated({"val/loss": loss, "val/accuracy": score}) for loss, score in validations]
    assert before == [None] * len(before)
    assert (last == f"val/loss rose from 0.2 to {validations[-1][0]:g}") if collapsed else (last is None)


def test_a_loss_without_scores_speaks_for_itself():
    watched = watch(parent={"loss": 0.2})
    assert watched.validated({"val/loss": 3.0}) is None
    assert watched.validated({"val/loss": 3.0})


def test_an_epoch_with_a_good_validation_ends_the_start():
    watched = watch()
    watched.validated({"val/loss": 3.0})
    watched.trained({})
    assert not watched.settled
    watched.validated({"val/loss": 0.3, "val/accuracy": 0.8})
    watched.trained({})
    assert watched.settled
    assert watched.validated({"val/loss": 9.0, "val/accuracy": 0.0}) is None
    assert watched.validated({"val/loss": math.inf})


def test_a_training_score_is_watched_where_it_is_named():
    watched = watch(scores=["train/accuracy"])
    watched.validated({"val/accuracy": 0.0})
    assert watched.trained({"train/accuracy": 0.05}) == "train/accuracy fell from 0.9 to 0.05"
    with pytest.raises(InputError, match=r"'train/accuracy', which is not logged; the names logged are val/loss"):
        watched.trained({"val/loss": 1.0})


@pytest.mark.parametrize(
    "state", [{"attempts": -1}, {"factor": 0.0}, {"factor": 1.0}, {"ratio": 1.0}, {"scores": ["accuracy"]}]
)
def test_settings_that_mean_nothing_are_refused(state):
    with pytest.raises(InputError, match=f"collapse.{next(iter(state))} "):
        CollapseConfig(**state)


# Stages


class Classifier(LightningModule):
    """Twenty classes, each around a point of its own; records the weights and rates it starts from."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(
            nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 20)
        )
        self.seen = SumMetric()
        self.starts: list[torch.Tensor] = []
        self.rates: list[float] = []

    def on_train_start(self):
        self.starts.append(self.net[0].weight.detach().clone())
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])

    def training_step(self, batch, batch_idx):
        inputs, classes = batch
        self.seen(len(inputs))
        self.log("train/seen", self.seen, on_step=False, on_epoch=True)
        return self.change(nn.functional.cross_entropy(self.net(inputs), classes))

    def change(self, loss):
        return loss

    def validation_step(self, batch, batch_idx):
        inputs, classes = batch
        found = self.net(inputs)
        self.log("val/loss", nn.functional.cross_entropy(found, classes), batch_size=len(inputs))
        self.log("val/accuracy", (found.argmax(1) == classes).float().mean(), batch_size=len(inputs))


class Poisoned(Classifier):
    """Its loss is NaN from a step on, at learning rates above 0.01."""

    start = 7

    def change(self, loss):
        lr = self.trainer.optimizers[0].param_groups[0]["lr"]
        return loss * math.nan if lr > 0.01 and self.trainer.global_step >= self.start else loss


def blobs(name: str, size: int, seed: int) -> Examples:
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(20, 8, generator=torch.Generator().manual_seed(99)) * 2
    classes = torch.randint(20, (size,), generator=generator)
    examples = Examples(name, 0, 0.0, 0)
    examples.extend(zip(centers[classes] + 0.4 * torch.randn(size, 8, generator=generator), classes))
    examples.ids = [f"{name}{index}" for index in range(size)]
    return examples


def data() -> MixedDomainDataModule:
    return MixedDomainDataModule(blobs("in", 100, 1), blobs("out", 400, 2), blobs("val", 200, 3), batch_size=10)


QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "logger": False, "max_epochs": 3}


def fit(root: Path, schedule, model=None, **arguments):
    model = model or Classifier()
    arguments = {"optimizer": {"lr": 0.01}, **QUIET, **arguments}
    return model, gradual.fit(model, data(), schedule, root / "run", **arguments)


def at(lr: float, amount: int = 0) -> dict:
    return {"amount": amount, "optimizer": {"lr": lr}}


def weight(root: Path, path: str) -> torch.Tensor:
    return torch.load(root / "run" / path / "best.ckpt", weights_only=True)["state_dict"]["net.0.weight"]


def test_a_stage_that_collapses_recovers_with_the_guard_and_only_with_it(tmp_path, caplog):
    """The paper's case: accuracy falls to next to nothing because one stage's learning rate is too large."""
    schedule = [400, at(0.3)]
    _, without = fit(tmp_path / "without", schedule, collapse={"attempts": 0})
    assert without.stages[0].val["accuracy"] > 0.9
    assert without.stages[1].val["accuracy"] < 0.09
    assert without.stages[1].collapses == []

    with caplog.at_level(logging.WARNING, "gradual"):
        model, result = fit(tmp_path / "with", schedule, collapse={"factor": 0.1})
    first, second = result.stages
    assert second.val["accuracy"] > 0.9
    assert first.collapses == []
    (collapse,) = second.collapses
    assert (collapse["step"], collapse["lr_scale"]) == (10, 1.0)  # after the first epoch's batches
    assert collapse["reason"].startswith("val/accuracy fell from ")
    assert model.rates == pytest.approx([0.01, 0.3, 0.03])
    for start in model.starts[1:]:
        assert torch.equal(start, weight(tmp_path / "with", first.path))
    said = [record.getMessage() for record in caplog.records if "collapsed" in record.getMessage()]
    assert said == [
        f"stage 2 (0 out-of-domain) collapsed: {collapse['reason']} at step 10 with learning rates times 1; "
        "attempt 2 of 3 goes back to its starting weights, with learning rates times 0.1."
    ]
    for stage in path_results(tmp_path / "with/run")["stages"]:
        own = json.loads((tmp_path / "with/run" / stage["path"] / "result.json").read_text())
        assert stage["collapses"] == own["collapses"] == result.stages[stage["index"]].collapses


def test_a_loss_that_becomes_nan_starts_the_stage_again(tmp_path):
    model, result = fit(tmp_path, [20, at(0.03)], Poisoned(), logger=None, log_every_n_steps=1)
    assert result.stages[1].collapses == [
        {"step": Poisoned.start + 2, "reason": "the training loss is nan", "lr_scale": 1.0},
        {"step": Poisoned.start + 2, "reason": "the training loss is nan", "lr_scale": 0.5},
    ]
    assert model.rates == pytest.approx([0.01, 0.03, 0.015, 0.0075])
    folder = tmp_path / "run" / result.stages[1].path
    rows = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert [row["train/seen"] for row in rows] == [100, 100, 100]  # nothing left of an epoch that was broken off

    events = EventAccumulator(str(folder)).Reload()
    assert [(point.step, point.value) for point in events.Scalars("collapse/attempt")] == [(0, 3.0)]
    (text,) = events.Tensors("collapse/seen/text_summary")
    assert b"1. the training loss is nan at step 9 with learning rates times 1\n2. " in text.tensor_proto.string_val[0]
    assert len(events.Scalars("train/seen")) == 3  # of this attempt alone


def test_the_first_stage_goes_back_to_the_weights_it_was_given(tmp_path):
    model, result = fit(tmp_path, [at(0.03, 20)], Poisoned(), collapse={"factor": 0.2})
    assert torch.equal(model.starts[0], Classifier().net[0].weight)
    assert torch.equal(model.starts[1], model.starts[0])
    assert len(result.stages[0].collapses) == 1
    assert not (tmp_path / "run" / result.stages[0].path / "start.pt").exists()


def test_a_module_s_own_optimizer_is_slowed_down_too(tmp_path):
    class Own(Poisoned):
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.03)

    schedule = [{"amount": 20, "optimizer": {"lr_scale": 0.5}}]
    model, _ = fit(tmp_path, schedule, Own(), optimizer=None)
    assert model.rates == pytest.approx([0.015, 0.0075])


def test_after_the_last_attempt_it_stops_with_advice(tmp_path):
    def contents(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    fit(tmp_path, [20], Poisoned())
    before = contents(tmp_path / "run/seed-0/20")
    said = r"stage 2 \(0 out-of-domain\) collapsed in 3 of 3 attempts, .*nan at step 9 .*times 0.25\. .*lr_scale: 0.1"
    with pytest.raises(InputError, match=said):
        fit(tmp_path, [20, at(0.1)], Poisoned())
    assert contents(tmp_path / "run/seed-0/20") == before
    assert not list((tmp_path / "run/seed-0/20/0").glob("*.ckpt"))

    again = Poisoned()
    with pytest.raises(InputError, match="3 of 3 attempts"):
        fit(tmp_path, [20, at(0.1)], again)
    assert not again.rates  # said without training again
    _, result = fit(tmp_path, [20, at(0.005)], Poisoned())  # as advised, in the same run directory
    assert [stage.path for stage in result.stages] == ["seed-0/20", "seed-0/20/0-2"]


def test_one_attempt_only_reports(tmp_path):
    with pytest.raises(InputError, match="collapsed in 1 of 1 attempts"):
        fit(tmp_path, [at(0.02, 20)], Poisoned(), collapse={"attempts": 1})


class Cut(Callback):
    """Cuts the power in a step of an attempt, once."""

    def __init__(self, attempt: int, step: int):
        self.attempt, self.step = attempt, step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if len(pl_module.rates) == self.attempt and trainer.global_step == self.step:
            raise RuntimeError("power cut")


@pytest.mark.parametrize("schedule", fast_one_in(2, [[at(0.02, 20)], [20, at(0.02)]]))
@pytest.mark.parametrize("step", fast_one_in(2, [25, 5]))
def test_an_interrupted_attempt_resumes_to_the_same_result(tmp_path, schedule, step):
    cut = Cut(len(schedule) + 1, step)
    model, whole = fit(tmp_path / "whole", schedule, Poisoned())
    with pytest.raises(RuntimeError, match="power cut"):
        fit(tmp_path / "cut", schedule, Poisoned(), callbacks=[cut])
    again, result = fit(tmp_path / "cut", schedule, Poisoned())
    assert again.rates == [0.01]
    assert torch.equal(again.net[0].weight, model.net[0].weight)
    assert result.stages[-1].collapses == whole.stages[-1].collapses != []
    assert result.stages[-1].val == whole.stages[-1].val


@pytest.mark.slow
@pytest.mark.parametrize(("written", "trained_again"), [(False, [0.02, 0.01]), (True, [0.01])])
def test_an_interruption_while_going_back_mixes_no_attempts(tmp_path, monkeypatch, written, trained_again):
    def late():
        return type("Late", (Poisoned,), {"start": 15})()  # with a checkpoint of the first attempt there

    def cut(path, text, original=runs.write_atomically):
        if path.name != "collapses.json" or written:
            original(path, text)
        if path.name == "collapses.json":
            raise RuntimeError("power cut")

    schedule = [20, at(0.02)]
    model, whole = fit(tmp_path / "whole", schedule, late())
    with monkeypatch.context() as patch:
        patch.setattr(runs, "write_atomically", cut)
        with pytest.raises(RuntimeError, match="power cut"):
            fit(tmp_path / "cut", schedule, late())
    again, result = fit(tmp_path / "cut", schedule, late())
    assert again.rates == trained_again
    assert torch.equal(again.net[0].weight, model.net[0].weight)
    assert result.stages[-1].collapses == whole.stages[-1].collapses


@pytest.mark.slow
def test_without_its_starting_weights_a_stage_never_goes_on_from_those_that_collapsed(tmp_path):
    def late():
        return type("Late", (Poisoned,), {"start": 15})()

    model, _ = fit(tmp_path / "whole", [at(0.02, 20)], late())
    with pytest.raises(RuntimeError, match="power cut"):
        fit(tmp_path / "cut", [at(0.02, 20)], late(), callbacks=[Cut(1, 13)])
    (tmp_path / "cut/run/seed-0/20/start.pt").unlink()
    with pytest.raises(InputError, match="run the same command again"):
        fit(tmp_path / "cut", [at(0.02, 20)], late())
    again, _ = fit(tmp_path / "cut", [at(0.02, 20)], late())
    assert again.rates == [0.01]
    assert torch.equal(again.net[0].weight, model.net[0].weight)


def test_a_collapse_is_seen_in_the_middle_of_a_long_epoch(tmp_path):
    """A loss that grows from step to step, at a learning rate beyond what plain gradient descent bears."""
    line = LinearModel(tmp_path / "trained.txt")
    parts = {name: Examples(name, size, 2.0, 1) for name, size in (("in", 600), ("out", 0), ("val", 8))}
    plain = {"class_path": "torch.optim.SGD", "lr": 0.6}
    long = MixedDomainDataModule(parts["in"], parts["out"], parts["val"], batch_size=2)
    result = gradual.fit(line, long, [0], tmp_path / "run", optimizer=plain, collapse={"factor": 0.1}, **QUIET)
    (collapse,) = result.stages[0].collapses
    assert "the training loss rose from " in collapse["reason"] or "is inf" in collapse["reason"]
    assert collapse["step"] <= 3 * EVERY < 300
    assert result.final["val"]["loss"] < 1.0


def test_on_a_stage_that_learns_the_guard_changes_nothing(tmp_path):
    model, guarded = fit(tmp_path / "on", [40, 0])
    other, free = fit(tmp_path / "off", [40, 0], collapse={"attempts": 0})
    assert torch.equal(model.net[0].weight, other.net[0].weight)
    assert [stage.val for stage in guarded.stages] == [stage.val for stage in free.stages]


def test_other_collapse_settings_are_another_experiment(tmp_path):
    fit(tmp_path, [20])
    model, _ = fit(tmp_path, [20])
    assert not model.rates
    with pytest.raises(InputError, match=r"collapse\.ratio: 10\.0, now 5"):
        fit(tmp_path, [20], collapse={"ratio": 5})


# The command line


MINE = """
import math, torch, gradual
from lightning.pytorch import LightningModule

class Mine(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
    def training_step(self, batch, i):
        lr = self.trainer.optimizers[0].param_groups[0]["lr"]
        return self.layer(batch).square().mean() * (math.nan if lr > {limit} and self.global_rank == {rank} else 1)
    def validation_step(self, batch, i):
        self.log("val/loss", self.layer(batch).square().mean(), sync_dist=True)

class Numbers(gradual.MixedDomainDataModule):
    def __init__(self):
        super().__init__(batch_size=2)
    def load(self):
        return gradual.Domains(torch.randn(6, 2), torch.randn(9, 2), torch.randn(4, 2))
"""


def command(root: Path, limit: float, rank: int = 0) -> list[str]:
    (root / "collapsing.py").write_text(MINE.format(limit=limit, rank=rank))
    given = ["fit", "--model=collapsing.Mine", "--data=collapsing.Numbers", "--schedule=[9, 0]", "--optimizer.lr=0.1"]
    return [*given, f"--run_dir={root}/run", "--trainer.accelerator=cpu", "--trainer.max_epochs=2"]


def test_the_command_line_takes_the_settings(tmp_path, monkeypatch, capfd, caplog):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "argv", ["gradual"])
    given = command(tmp_path, 0.03)
    with pytest.raises(SystemExit):
        main([*given, "--collapse.factor=0.25", "--print_config"])
    expected = {"attempts": 3, "factor": 0.25, "ratio": 10.0, "scores": None}
    assert yaml.safe_load(capfd.readouterr().out)["collapse"] == expected
    with pytest.raises(SystemExit) as ended:
        main([*given, "--collapse.attempts=1"])
    assert ended.value.code == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("gradual:")]
    assert "collapsed in 1 of 1 attempts" in line
    with pytest.raises(SystemExit):
        main([*given, "--collapse.factor=2"])
    assert "collapse.factor is 2.0: it must be a number between 0 and 1." in capfd.readouterr().err

    (tmp_path / "collapse.yaml").write_text("collapse: {attempts: 4, factor: 0.25}\n")
    main([*given, f"--config={tmp_path}/collapse.yaml"])
    assert "attempt 2 of 4 goes back" in caplog.text
    rows = [line.split() for line in capfd.readouterr().out.splitlines()]
    assert ["attempts", "2", "2"] in rows
    identity = json.loads((tmp_path / "run/experiment.json").read_text())
    assert identity["settings"]["collapse"]["attempts"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_all_processes_restart_a_collapsed_stage_whichever_noticed_it(tmp_path, rank):
    given = [*command(tmp_path, 0.03, rank), "--trainer.devices=2", "--trainer.strategy=ddp"]
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from gradual.__main__ import main; main(sys.argv[1:])"
    (tmp_path / "start.py").write_text(code)
    ran = subprocess.run([sys.executable, tmp_path / "start.py", *given], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    stages = path_results(tmp_path / "run")["stages"]
    assert [[entry["lr_scale"] for entry in stage["collapses"]] for stage in stages] == [[1.0, 0.5]] * 2
    assert ran.stderr.count("attempt 3 of 3 goes back") == 2  # once a stage: by one process

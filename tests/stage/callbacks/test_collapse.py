"""A stage that collapses goes back to its starting weights and tries again more slowly."""

import json
import logging
import math
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, LightningModule
from linear_model import Examples, LinearModel
from recorded_runs import path_results
from slow_cases import fast_one_in
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torchmetrics import SumMetric

import gradual
from gradual import InputError, MixedDomainDataModule
from gradual.runs import directory as runs
from gradual.stage.callbacks.collapse import EVERY


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

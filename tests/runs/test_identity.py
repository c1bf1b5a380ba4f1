"""What a run is made of: other data, another model or other settings never get the old result."""

import copy
import functools
import json
import logging
import os
import random
import shutil
from pathlib import Path

import linear_model
import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule
from linear_model import Examples
from recorded_runs import path_results
from slow_cases import fast_one_in
from torch import nn
from torch.utils.data import Dataset
from transformers import BertConfig

import gradual
from gradual import InputError, MixedDomainDataModule, Schedule
from gradual.__main__ import main
from gradual.runs.directory import RunDirectory
from gradual.runs.fingerprint import data_fingerprint, model_fingerprint, same_weights, starting_weights
from gradual.runs.identity import claim
from gradual.tasks.dialogue import DialogueDataModule
from gradual.tasks.events import EventDataModule

pytestmark = pytest.mark.usefixtures("undrawn_figures")
QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "logger": False}


class Net(LightningModule):
    """A linear model that writes down what is done with it."""

    def __init__(self, dropout: float = 0.1, hidden: int = 4, seed: int = 0, activation=nn.functional.relu):
        super().__init__()
        torch.manual_seed(seed)
        self.encoder = nn.Linear(3, hidden)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, 1)
        self.activation = activation
        self.trained: list[str] = []
        self.tested = 0

    def forward(self, inputs):
        return self.head(self.drop(self.activation(self.encoder(inputs))))

    def on_train_start(self):
        self.trained.append(Path(self.trainer.checkpoint_callback.dirpath).name)

    def on_test_start(self):
        self.tested += 1

    def _loss(self, batch):
        return nn.functional.mse_loss(self(batch[0]), batch[1])

    def training_step(self, batch, batch_idx):
        return self._loss(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self._loss(batch), batch_size=len(batch[0]))

    def test_step(self, batch, batch_idx):
        losses = (self(batch[0]) - batch[1]).square().squeeze(1)
        self.log("test/loss", losses.mean(), batch_size=len(losses))
        return [{"id": f"{batch_idx}-{i}", "loss": [float(value), 1]} for i, value in enumerate(losses)]


class Saved(Net):
    """The same, with its hyperparameters saved."""

    def __init__(self, dropout: float = 0.1, scale: float = 1.0):
        super().__init__(dropout)
        self.save_hyperparameters()


PARTS = {
    "in_domain": ("in", 12, 2.0, 1),
    "out_of_domain": ("out", 40, 1.0, 2),
    "val": ("val", 8, 2.0, 3),
    "test": ("test", 8, 2.0, 4),
}


def data(batch_size: int = 4, **changes) -> MixedDomainDataModule:
    """The experiment's data with some parts changed: arguments of ``Examples``, a dataset, or None."""
    made = {name: Examples(*part) if isinstance(part, tuple) else part for name, part in (PARTS | changes).items()}
    return MixedDomainDataModule(**made, batch_size=batch_size)


def fit(root: Path, model=None, schedule=(20, 0), **settings):
    model = Net() if model is None else model
    given = {"optimizer": {"lr": 0.05}, "max_epochs": 1, **QUIET, **settings}
    datamodule = given.pop("data", None) or data()
    return model, gradual.fit(model, datamodule, schedule, root / "run", **given)


def refusal(root: Path, *arguments, **settings) -> str:
    """The differences that a run is refused with; it leaves the directory as it was."""
    before = {path: path.read_bytes() for path in (root / "run").rglob("*") if path.is_file()}
    with pytest.raises(InputError) as caught:
        fit(root, *arguments, **settings)
    message = str(caught.value)
    start, end = f"{root}/run holds another experiment (", "): choose another run_dir, or change it back."
    assert message.startswith(start)
    assert message.endswith(end)
    after = {path: path.read_bytes() for path in (root / "run").rglob("*") if path.is_file()}
    assert {path: content for path, content in after.items() if path.name != ".lock"} == {
        path: content for path, content in before.items() if path.name != ".lock"
    }
    return message.removeprefix(start).removesuffix(end)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of two stages; for reading alone."""
    root = tmp_path_factory.mktemp("finished")
    fit(root)
    return root


@pytest.fixture
def done(finished, tmp_path):
    """A copy of it to go on with."""
    shutil.copytree(finished / "run", tmp_path / "run")
    return tmp_path


# ------------------------------------------------------------------------------------------- what is another experiment


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"in_domain": ("in", 6, 2.0, 1)}, "in_domain: 12 examples, now 6"),
        ({"in_domain": ("in", 12, 3.0, 1)}, "in_domain: different content"),
        ({"in_domain": ("an", 12, 2.0, 1)}, "in_domain: different ids"),
        ({"out_of_domain": ("out", 40, 1.0, 9)}, "out_of_domain: different content"),
        ({"out_of_domain": ("out", 60, 1.0, 2)}, "out_of_domain: 40 examples, now 60"),
        ({"val": ("val", 8, 1.0, 3)}, "val: different content"),
        ({"test": ("out", 8, 2.0, 4)},
         "out_of_domain: 40 examples, now 32 (8 are in the validation or test data)"),
        ({"batch_size": 8}, "data.batch_size: 4, now 8"),
    ],
)  # fmt: skip
def test_other_data_is_refused_with_the_difference(finished, changes, said):
    assert refusal(finished, data=data(**changes)) == said


def test_a_pool_that_is_gone_or_new_is_refused(finished, tmp_path):
    assert refusal(finished, schedule=[0], data=data(out_of_domain=None)) == "out_of_domain: 40 examples, now none"
    fit(tmp_path, schedule=[0], data=data(out_of_domain=None))
    assert refusal(tmp_path, schedule=[0]) == "out_of_domain: none, now 40 examples"


class Stretched(Net):
    """Another class with the same layers."""


def moved(model: LightningModule, name: str) -> LightningModule:
    with torch.no_grad():
        model.get_parameter(name).view(-1)[-1] += 0.01
    return model


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (lambda: Net(dropout=0.9), "model: drop.p 0.1, now 0.9"),
        (lambda: Net(activation=nn.functional.tanh), "model: activation 'relu', now 'tanh'"),
        (lambda: Stretched(), "model: Net, now Stretched"),
        (lambda: Net().double(), "model: encoder.bias 'float32 [4]', now 'float64 [4]'; "
         "model: encoder.weight 'float32 [4, 3]', now 'float64 [4, 3]'; "
         "model: head.bias 'float32 [1]', now 'float64 [1]'; "
         "model: head.weight 'float32 [1, 4]', now 'float64 [1, 4]'"),
        (lambda: moved(Net(), "head.weight"), "starting weights: changed in head.weight; "
         "if they are random, set the seed before the model is created"),
    ],
    ids=["dropout", "activation", "class", "type", "a weight"],
)  # fmt: skip
def test_another_model_is_refused_with_the_difference(finished, model, said):
    assert refusal(finished, model()) == said


def test_attributes_that_are_no_hyperparameters_do_not_disturb():
    class Table:
        def to_dict(self):
            raise RuntimeError("would read a whole dataset")

    model, looped = Net(), [1]
    looped.append(looped)
    model.table, model.looped, model.vocabulary = Table(), looped, dict.fromkeys(range(20_000))
    model.objects = np.array([(number for number in [1])], dtype=object)
    model.nested = {"kept": 1, "left out": Table()}
    model.config = BertConfig(hidden_size=4, num_attention_heads=2)
    attributes = model_fingerprint(model)["modules"][""]
    assert not {"table", "looped", "objects"} & set(attributes)
    assert attributes["nested"] == {"kept": 1}
    assert attributes["vocabulary"] == "20000 entries"
    assert attributes["config"]["hidden_size"] == 4
    assert "transformers_version" not in attributes["config"]


def test_other_layers_and_other_random_weights_are_refused(finished):
    assert refusal(finished, Net(hidden=5)).startswith("model: encoder.out_features 4, now 5")
    said = refusal(finished, Net(seed=1))
    assert said.startswith("starting weights: changed in encoder.bias, encoder.weight, head.bias, head.weight;")


def test_the_first_difference_of_a_model_is_named(tmp_path):
    fit(tmp_path, Saved())
    assert refusal(tmp_path, Saved(dropout=0.9)) == "model: dropout 0.1, now 0.9", "and not drop.p as well"
    assert refusal(tmp_path, Saved(scale=2.0)) == "model: scale 1.0, now 2.0"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_epochs": 2}, "trainer.max_epochs: 1, now 2"),
        ({"patience": 9}, "patience: 5, now 9"),
        ({"optimizer": {"lr": 0.1}}, "optimizer.lr: 0.05, now 0.1"),
        ({"lr_schedule": {"name": "linear"}}, "lr_schedule: not set, now {'name': 'linear'}"),
        ({"gradient_clip_val": 1.0}, "trainer.gradient_clip_val: not set, now 1.0"),
        ({"max_time": {"hours": 1}}, "trainer.max_time: not set, now {'hours': 1}"),
        ({"weight_averaging": 0.9}, "weight_averaging: not set, now 0.9"),
    ],
)
def test_other_settings_of_the_experiment_are_refused(finished, settings, said):
    assert refusal(finished, **settings) == said


def test_the_same_settings_in_another_form_resume_the_run(done):
    same = {"optimizer": {"lr": 0.05, "init_args": None}, "devices": "auto", "checkpoint_every": 9.0}
    model, _ = fit(done, **same, enable_model_summary=False, log_every_n_steps=3, callbacks=[Callback()])
    assert not model.trained


def test_an_override_makes_another_stage_beside_the_first(done):
    schedule = [20, {"amount": 0, "max_epochs": 2, "patience": 9}]
    model, result = fit(done, schedule=schedule)
    assert model.trained == ["0-2"]
    model, result = fit(done, schedule=Schedule([20, 0], last_stage={"max_epochs": 2, "patience": 9}))
    assert [stage.path for stage in result.stages] == ["seed-0/20", "seed-0/20/0-2"]
    assert not model.trained


def test_another_seed_may_have_other_starting_weights(done):
    _, result = fit(done, Net(seed=1), seed=1)
    assert [stage.path for stage in result.stages] == ["seed-1/20", "seed-1/20/0"]
    assert not fit(done, Net(seed=1), seed=1)[0].trained
    assert not fit(done)[0].trained
    assert refusal(done, seed=1).startswith("starting weights:")


def test_data_that_changes_between_two_stages_is_refused(tmp_path):
    class Cut(Callback):
        def on_train_start(self, trainer, pl_module):
            if trainer.datamodule.stage == 1:
                raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        fit(tmp_path, callbacks=[Cut()])
    assert refusal(tmp_path, data=data(in_domain=("in", 6, 2.0, 1))) == "in_domain: 12 examples, now 6"
    assert fit(tmp_path)[0].trained == ["0"]


# ---------------------------------------------------------------------------------------------- what is the same


def test_the_same_again_in_another_order_of_things_trains_nothing(done):
    torch.rand(3)
    random.random()
    model, _ = fit(done)
    assert not model.trained
    assert not model.tested
    assert (done / "run/results.json").exists()


def test_a_model_that_a_run_has_trained_is_still_its_own(tmp_path):
    """As where a cell of a notebook is run again."""
    model, first = fit(tmp_path)
    state = copy.deepcopy(model.state_dict())
    _, again = fit(tmp_path, model)
    assert model.trained == ["20", "0"]
    assert again.final == first.final
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    fit(tmp_path, model, schedule=[20, 5, 0])
    assert model.trained == ["20", "0", "5", "0"]
    model.drop.p = 0.9
    assert refusal(tmp_path, model) == "model: drop.p 0.1, now 0.9"


def test_a_model_that_an_interrupted_run_has_trained_goes_on(tmp_path):
    class Stops(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch == 1 and not pl_module.trained[1:]:
                raise KeyboardInterrupt

    _, expected = fit(tmp_path / "whole", max_epochs=2)
    model = Net()
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(tmp_path / "cut", model, max_epochs=2, callbacks=[Stops()])
    _, result = fit(tmp_path / "cut", model, max_epochs=2)
    assert result.final == expected.final


@pytest.mark.parametrize("change", [{"schedule": [10, 0]}, {"seed": 1}])
def test_a_first_stage_never_starts_from_what_another_run_left(tmp_path, change):
    model, _ = fit(tmp_path)
    with pytest.raises(InputError, match=r"holds the weights that an earlier call .* make the model anew"):
        fit(tmp_path, model, **change)
    assert fit(tmp_path, **change)[0].trained == [str(change.get("schedule", [20])[0]), "0"]


def test_a_model_goes_on_to_another_run_as_it_is(tmp_path):
    model, _ = fit(tmp_path / "one")
    fit(tmp_path / "two", model)
    assert model.trained == ["20", "0"] * 2
    fit(tmp_path / "two", model)
    assert refusal(tmp_path / "two").startswith("starting weights:"), "it began with the result of the first"
    again, _ = fit(tmp_path / "one")  # as in another process, in which nothing is trained
    fit(tmp_path / "two", again)
    assert again.trained == []


class Built(Net):
    """Makes a layer when it knows the data, and one that learns its size from them."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.LazyLinear(4)
        del self.head

    def configure_model(self):
        if not hasattr(self, "head"):
            self.head = nn.Linear(4, 1)
            self.encoder(torch.zeros(1, 3))


def test_layers_that_are_made_later_do_not_disturb(tmp_path):
    model, _ = fit(tmp_path, Built())
    for again in (model, Built()):
        trained = list(again.trained)
        fit(tmp_path, again)
        assert again.trained == trained
    assert json.loads((tmp_path / "run/experiment.json").read_text())["model"]["parameters"] == {
        "encoder.weight": "not made yet", "encoder.bias": "not made yet"
    }  # fmt: skip


def test_a_compiled_model_is_the_model(done):
    model = Net()
    model.encoder = torch.compile(model.encoder, backend="eager")
    before = model_fingerprint(Net())["parameters"]
    assert model_fingerprint(model)["parameters"] == before
    assert starting_weights(model) == starting_weights(Net())
    for compiled in (model, torch.compile(Net(), backend="eager")):
        fit(done, compiled)


# --------------------------------------------------------------------------------------------------------- test data


def scores(root: Path) -> list[float]:
    """Test losses of the stages of a path, the first one first."""
    paths = sorted((root / "run").rglob("result.json"), key=lambda path: len(path.parts))
    return [json.loads(path.read_text())["test"]["loss"] for path in paths]


def by_hand(root: Path, stage: str, test: Dataset) -> list[float]:
    """A stage's losses on test examples, from its checkpoint."""
    model = Net().eval()
    model.load_state_dict(torch.load(root / "run" / stage / "best.ckpt", weights_only=True)["state_dict"])
    with torch.no_grad():
        return [float((model(inputs) - target).square()) for inputs, target in test]


@pytest.mark.parametrize("before", [None, PARTS["test"]], ids=["new", "changed"])
def test_other_test_data_alone_is_measured_again_without_training(tmp_path, before):
    fit(tmp_path, data=data(test=before))
    weights = {path: path.read_bytes() for path in tmp_path.rglob("best.ckpt")}
    other = Examples("test", 6, 3.0, 5)
    model, result = fit(tmp_path, data=data(test=other))
    assert (model.trained, model.tested) == ([], 2)
    assert {path: path.read_bytes() for path in weights} == weights
    for stage in result.stages:
        expected = by_hand(tmp_path, stage.path, other)
        assert stage.test["loss"] == pytest.approx(sum(expected) / 6, rel=1e-5)
        records = [json.loads(row) for row in (tmp_path / "run" / stage.path / "test_examples.jsonl").open()]
        assert [record["loss"][0] for record in records] == pytest.approx(expected, rel=1e-4)
    assert [stage["test"] for stage in path_results(tmp_path / "run")["stages"]] == [
        stage.test for stage in result.stages
    ]
    last = torch.load(result.best_checkpoint(), weights_only=True)["state_dict"]
    assert all(torch.equal(value, last[name]) for name, value in model.state_dict().items())
    assert fit(tmp_path, data=data(test=other))[0].tested == 0, "once is enough"


def test_without_its_test_data_a_run_keeps_its_scores(done):
    before = scores(done)
    _, result = fit(done, data=data(test=None))
    assert [stage.test["loss"] for stage in result.stages] == before


def test_only_stages_that_are_done_are_tested_again(done):
    model, result = fit(done, schedule=[20, 5, 0], data=data(test=("test", 6, 3.0, 5)))
    assert model.trained == ["5", "0"]
    assert model.tested == 3
    expected = by_hand(done, result.stages[0].path, Examples("test", 6, 3.0, 5))
    assert result.stages[0].test["loss"] == pytest.approx(sum(expected) / 6, rel=1e-5)


def test_a_run_interrupted_while_testing_again_resumes_with_the_rest(done):
    class Fails(Net):
        def on_test_start(self):
            super().on_test_start()
            if self.tested == 2:
                raise RuntimeError("power cut")

    Fails.__qualname__ = "Net"
    changed = data(test=("test", 6, 3.0, 5))
    with pytest.raises(RuntimeError, match="power cut"):
        fit(done, Fails(), data=changed)
    assert fit(done, data=changed)[0].tested == 1


# ---------------------------------------------------------------------------------------------------------- first tries


def test_a_failed_first_attempt_leaves_no_folder(tmp_path):
    with pytest.raises(InputError, match="monitor"):
        fit(tmp_path, monitor="val/los", mode="min")
    _, result = fit(tmp_path, Net())
    assert [stage.path for stage in result.stages] == ["seed-0/20", "seed-0/20/0"]


def test_a_later_stage_that_failed_leaves_no_folder(done):
    class Fails(Callback):
        def on_train_start(self, trainer, pl_module):
            raise RuntimeError("out of paper")

    for amount in (20, 7):
        with pytest.raises(RuntimeError, match="out of paper"):
            fit(done, schedule=[20, {"amount": 5, "patience": amount}], callbacks=[Fails()])
    _, result = fit(done, schedule=[20, 5])
    assert result.stages[1].path == "seed-0/20/5"


# -------------------------------------------------------------------------------------------------------------- claims

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


def test_a_claim_writes_the_configuration_once(tmp_path):
    run = claimed(tmp_path)
    for same in (IDENTITY, dict(reversed(IDENTITY.items())), changed(settings={"patience": 5.0})):
        claim(run, same, "second")
    assert (tmp_path / "config.yaml").read_text() == "first"


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


# ----------------------------------------------------------------------------------------------------- earlier versions

EARLIER = {
    "python": {"model": "__main__.Net", "data": "gradual.data.module.MixedDomainDataModule", "batch_size": 4,
               "batch_tokens": None, "trainer": {"accelerator": "cpu", "enable_progress_bar": False, "max_epochs": 1}},
    "command line": {"model": {"class_path": "my.Net", "init_args": {"hidden": 4}}, "monitor": "val/loss",
                     "data": {"class_path": "gradual.MixedDomainDataModule", "init_args": {"batch_size": 4}},
                     "optimizer": {"class_path": None, "lr": 0.05}, "lr_schedule": {"name": None}, "patience": 5,
                     "trainer": {"max_epochs": 1, "precision": None, "accelerator": "cpu", "devices": "auto"}},
}  # fmt: skip


@pytest.mark.parametrize("version", EARLIER)
def test_a_directory_of_an_earlier_version_is_taken_and_compared_from_then_on(done, version, caplog):
    path = done / "run/experiment.json"
    path.write_text(json.dumps(EARLIER[version]))
    for result in done.rglob("result.json"):
        content = json.loads(result.read_text())
        del content["test_data"]
        result.write_text(json.dumps(content))
        (result.parent / "checksums.json").unlink()
    assert refusal(done, max_epochs=2) == "trainer.max_epochs: 1, now 2"
    assert refusal(done, data=data(batch_size=8)) in ("batch_size: 4, now 8", "data.batch_size: 4, now 8")
    assert refusal(done, Stretched()) == "model: 'Net', now 'Stretched'"
    with caplog.at_level(logging.INFO):
        assert not fit(done)[0].trained
        assert fit(done)[0].tested == 0
    said = "run does not record its model and data: they are assumed to be the current ones."
    assert [record.getMessage().endswith(said) for record in caplog.records].count(True) == 1
    assert refusal(done, Net(dropout=0.9)) == "model: drop.p 0.1, now 0.9"
    assert fit(done, data=data(test=("test", 6, 3.0, 5)))[0].tested == 2


# ------------------------------------------------------------------------------------------- what cannot be compared


class Random(Examples):
    """Adds noise from somewhere to each example as it is read."""

    def __init__(self, source, *arguments):
        super().__init__(*arguments)
        self.noise = source

    def __getitem__(self, index):
        inputs, target = super().__getitem__(index)
        return inputs + self.noise(), target


OWN = np.random.default_rng()
SHARED = {"torch": lambda: torch.rand(1), "numpy": lambda: np.random.rand(), "python": random.random}  # noqa: NPY002


def said_of_examples(caplog) -> list[str]:
    said = [record.getMessage() for record in caplog.records]
    return [line for line in said if line.startswith("Only the number and the ids of these examples")]


@pytest.mark.parametrize("source", SHARED)
def test_random_examples_are_compared_with_the_same_random_numbers(tmp_path, source, caplog):
    noisy = functools.partial(Random, SHARED[source])
    with caplog.at_level(logging.INFO):
        fit(tmp_path, data=data(in_domain=noisy(*PARTS["in_domain"])))
        assert not fit(tmp_path, data=data(in_domain=noisy(*PARTS["in_domain"])))[0].trained
    assert said_of_examples(caplog) == []
    assert refusal(tmp_path, data=data(in_domain=noisy("in", 12, 3.0, 1))) == "in_domain: different content"


def test_random_examples_are_not_compared_and_one_note_a_run_says_so(tmp_path, caplog):
    noisy = {name: Random(OWN.random, *PARTS[name]) for name in ("in_domain", "test")}
    with caplog.at_level(logging.INFO):
        fit(tmp_path, data=data(**noisy))
        (line,) = said_of_examples(caplog)
        assert line.endswith("in_domain (two readings of an example differ); test (two readings of an example differ).")
        model, _ = fit(tmp_path, data=data(**noisy))
    assert not model.trained
    assert not model.tested
    assert len(said_of_examples(caplog)) == 2
    shorter = Random(OWN.random, "in", 6, 2.0, 1)
    assert refusal(tmp_path, data=data(in_domain=shorter)) == "in_domain: 12 examples, now 6"


def test_examples_that_no_process_can_have_twice_are_named(caplog):
    class Opened(Examples):
        def __getitem__(self, index):
            return (number for number in [index])

    datamodule = data(val=Opened(*PARTS["val"]))
    with caplog.at_level(logging.INFO):
        assert data_fingerprint(datamodule)["val"]["content"] is None
    assert said_of_examples(caplog)[0].endswith("other runs: val (a generator).")


def test_looking_at_examples_disturbs_no_random_numbers(tmp_path):
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    parts = {name: Random(source, *part) for source, (name, part) in zip(SHARED.values(), PARTS.items())}
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    data_fingerprint(data(**parts))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.array_equal(np.random.get_state()[1], before[2][1])  # noqa: NPY002


def test_mapped_examples_are_compared(tmp_path):
    def mapped(name, value):
        array = np.memmap(tmp_path / name, dtype=np.float32, mode="w+", shape=(10, 3))
        array[:] = np.arange(30).reshape(10, 3)
        array[4, 1] = value
        return MixedDomainDataModule(list(array), val=list(array))

    prints = [data_fingerprint(mapped(name, value)) for name, value in (("a", 1), ("b", 1), ("c", 2))]
    assert prints[0] == prints[1] != prints[2]


# ------------------------------------------------------------------------------------------------------------ weights


def test_weights_are_the_same_up_to_their_last_bits_and_no_further():
    model = nn.Module()
    model.weight = nn.Parameter(torch.randn(300, 400))
    model.register_buffer("count", torch.tensor(3))
    before = starting_weights(model)
    with torch.no_grad():
        model.weight *= 1 + 1e-7 * torch.randn(300, 400)  # as another processor draws them
    after = starting_weights(model)
    assert all(same_weights(before[name], after[name]) for name in before)
    with torch.no_grad():
        model.weight *= 1 + 1e-3 * torch.randn(300, 400)  # a step of training
    model.count += 1
    after = starting_weights(model)
    assert not any(same_weights(before[name], after[name]) for name in before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.complex64, torch.uint8, torch.bool])
def test_weights_of_any_type_are_looked_at(dtype):
    model = nn.Module()
    model.register_buffer("ones", torch.ones(50, 60).to(dtype))
    model.register_buffer("zeros", torch.zeros(50, 60).to(dtype))
    found = starting_weights(model)
    assert not same_weights(found["ones"], found["zeros"])
    assert same_weights(found["ones"], found["ones"])


def test_weights_that_are_nowhere_are_left_out_and_broken_numbers_are_numbers():
    model = nn.Module()
    model.nowhere = nn.Parameter(torch.empty(10**6, 10**6, device="meta"))
    model.broken = nn.Parameter(torch.tensor([float("nan"), float("inf"), 1.0]))
    found = starting_weights(model)
    assert list(found) == ["broken"]
    assert same_weights(found["broken"], found["broken"])


# ------------------------------------------------------------------------------------------- comparisons


def compare(root: Path, make=None, **settings):
    make = make or (lambda: linear_model.LinearModel(root / "trained.txt"))
    strategies = {"one-stage": [20, 0], "in-domain only": [0]}
    given = {"optimizer": {"lr": 0.05}, "max_epochs": 1, "seeds": [0, 1], "strategies": strategies, **QUIET, **settings}
    return gradual.compare(make, given.pop("data", None) or data(), [20, 0], root / "run", **given)


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    root = tmp_path_factory.mktemp("compared")
    compare(root)
    return root


class Wider(linear_model.LinearModel):
    def __init__(self, log):
        super().__init__(log)
        self.drop = nn.Dropout(0.5)


Wider.__qualname__ = "LinearModel"


def other_weights(root: Path, seed: int) -> linear_model.LinearModel:
    """The weights of one seed alone are others."""
    model = linear_model.LinearModel(root / "trained.txt")
    if torch.initial_seed() == seed:
        moved(model, "layer.weight")
    return model


def test_a_comparison_of_other_things_is_refused(compared):
    trained = linear_model.trained(compared)
    assert len(trained) == 6
    for changes, said in (
        ({"data": data(in_domain=("in", 6, 2.0, 1))}, "in_domain: 12 examples, now 6"),
        ({"make": lambda: Wider(compared / "trained.txt")}, "model: drop.p 0.1, now 0.5"),
        ({"make": lambda: other_weights(compared, 0)}, "starting weights: changed in layer.weight"),
        ({"make": lambda: other_weights(compared, 1)}, "starting weights: changed in layer.weight"),
        ({"max_epochs": 2}, "trainer.max_epochs: 1, now 2"),
    ):
        with pytest.raises(InputError, match=f"holds another experiment .*{said}"):
            compare(compared, **changes)
    compare(compared)
    assert linear_model.trained(compared) == trained


def test_a_comparison_measures_new_test_data_and_trains_nothing(compared, tmp_path):
    for name in ("run", "trained.txt"):
        (shutil.copytree if name == "run" else shutil.copy)(compared / name, tmp_path / name)
    before = linear_model.trained(tmp_path)
    other = Examples("test", 6, 3.0, 5)
    page = compare(tmp_path, make=lambda: linear_model.LinearModel(tmp_path / "trained.txt"), data=data(test=other))
    assert linear_model.trained(tmp_path) == before
    for result in (tmp_path / "run").rglob("result.json"):
        weights = torch.load(result.parent / "best.ckpt", weights_only=True)["state_dict"]
        losses = [
            float((inputs @ weights["layer.weight"].T + weights["layer.bias"] - target).square())
            for inputs, target in other
        ]
        assert json.loads(result.read_text())["test"]["loss"] == pytest.approx(sum(losses) / 6, rel=1e-5)
    assert page.exists()


def test_models_that_a_comparison_looks_at_disturb_no_random_numbers(compared):
    torch.manual_seed(3)
    state = torch.get_rng_state()
    compare(compared)
    seen = torch.get_rng_state()
    assert torch.equal(seen, state)


def test_a_run_of_one_path_and_a_comparison_share_stages_of_equal_weights_alone(tmp_path):
    compare(tmp_path)
    count = len(linear_model.trained(tmp_path))
    torch.manual_seed(0)
    settings = {"optimizer": {"lr": 0.05}, "max_epochs": 1, **QUIET}
    model = linear_model.LinearModel(tmp_path / "trained.txt")
    gradual.fit(model, data(), [20, 0], tmp_path / "run", seed=0, **settings)
    assert len(linear_model.trained(tmp_path)) == count
    with pytest.raises(InputError, match="starting weights: changed"):
        gradual.fit(
            moved(linear_model.LinearModel(tmp_path / "trained.txt"), "layer.bias"),
            data(),
            [20, 0],
            tmp_path / "run",
            **settings,
        )


# ------------------------------------------------------------------------------------------- command line


MINE = """
import pathlib, torch
from lightning.pytorch import LightningModule
class Mine(LightningModule):
    def __init__(self, hidden: int = 4, log: str = ""):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(1, hidden), torch.nn.Linear(hidden, 1))
        self.log_file = pathlib.Path(log)
    def on_train_start(self):
        with self.log_file.open("a") as file:
            file.write(pathlib.Path(self.trainer.checkpoint_callback.dirpath).name + " ")
    def _loss(self, batch):
        return (self.net(batch["x"].unsqueeze(1)).squeeze(1) - batch["y"]).square().mean()
    def training_step(self, batch, batch_idx):
        return self._loss(batch)
    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self._loss(batch), batch_size=len(batch["x"]))
    def test_step(self, batch, batch_idx):
        self.log("test/loss", self._loss(batch), batch_size=len(batch["x"]))
"""


def write_rows(path: Path, size: int, slope: float, changed: int | None = None) -> None:
    """Numbers in a file; of one row the label is another."""
    rows = ({"id": f"{path.stem}{i}", "x": i / size, "y": slope * i / size + (i == changed)} for i in range(size))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A folder with data, a model's code, and the arguments of a run on them."""
    (tmp_path / "identified.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sys.argv", ["gradual"])
    for name, size, slope in (("in", 300, 2.0), ("out", 40, 1.0), ("val", 10, 2.0), ("test", 8, 2.0)):
        write_rows(tmp_path / f"{name}.jsonl", size, slope)
    return tmp_path


def command(root: Path, *more: str, name: str = "fit") -> None:
    parts = {"in_domain": "in", "out_of_domain": "out", "val": "val", "test": "test"}
    given = ["--model=identified.Mine", f"--model.log={root}/trained.txt", "--data=gradual.FileDataModule"]
    given += [f"--data.{part}={root}/{file}.jsonl" for part, file in parts.items()]
    given += [f"--data.cache_dir={root}/cache", "--data.num_proc=1", "--data.id_column=id"]
    given += ["--optimizer.lr=0.05", "--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--trainer.logger=false"]
    given += ["--schedule=[20, 0]"] if name == "fit" else ["--seeds=[0]"]
    main([name, *given, f"--run_dir={root}/run", "--trainer.enable_progress_bar=false", *more])


def said(capfd) -> str:
    (found,) = [row for row in capfd.readouterr().err.splitlines() if row.startswith("gradual:")]
    return found


@pytest.mark.slow
def test_the_command_line_refuses_another_experiment_too(files, capfd):
    command(files)
    trained = linear_model.trained(files)
    assert trained == ["20", "0"]
    for more, expected in (
        (["--patience=9"], "patience: 5, now 9"),
        (["--trainer.max_epochs=2"], "trainer.max_epochs: 1, now 2"),
        (["--model.hidden=5"], "model: hidden 4, now 5"),
        ([f"--data.val={files}/test.jsonl"], "data.val: '"),
        (["--data.batch_size=8"], "data.batch_size: 32, now 8"),
    ):
        with pytest.raises(SystemExit):
            command(files, *more)
        assert f"holds another experiment ({expected}" in said(capfd)
    command(files, "--data.eval_batch_size=4", "--data.num_proc=2", "--checkpoint_every=1", "--trainer.profiler=simple")
    assert linear_model.trained(files) == trained
    command(files, "--schedule=[20, {amount: 0, patience: 9}]")
    assert linear_model.trained(files) == [*trained, "0-2"]


@pytest.mark.parametrize("part", fast_one_in(3, ["in", "out", "val"]))
def test_any_changed_byte_of_a_data_file_is_noticed(files, capfd, part):
    command(files)
    sizes = {"in": 300, "out": 40, "val": 10}
    slope = 1.0 if part == "out" else 2.0
    write_rows(files / f"{part}.jsonl", sizes[part], slope, changed=7)
    with pytest.raises(SystemExit):
        command(files)
    name = {"in": "in_domain", "out": "out_of_domain"}.get(part, part)
    assert f"({name}: different content)" in said(capfd)


def test_any_changed_byte_of_a_task_s_files_is_noticed_in_its_part(small_demo, tmp_path):
    shutil.copytree(small_demo / "domains", tmp_path / "domains")
    folder = tmp_path / "domains/hostel"
    for name in PARTS:
        (tmp_path / f"{name}.json").write_text("{}")
    dialogues = DialogueDataModule(str(tmp_path), "hostel", "", pool="train30.tsv")
    events = EventDataModule(**{name: f"{tmp_path}/{name}.json" for name in PARTS})
    names = {"in_domain": "train", "out_of_domain": "train30", "val": "dev", "test": "test"}
    for part, name in names.items():
        before = [{p: module.content_of(p) for p in PARTS} for module in (dialogues, events)]
        for file in (folder / f"{name}.tsv", tmp_path / f"{part}.json"):
            content = bytearray(file.read_bytes())
            content[-1] ^= 1
            file.write_bytes(content)
        after = [{p: module.content_of(p) for p in PARTS} for module in (dialogues, events)]
        for old, new in zip(before, after):
            assert [p for p in PARTS if old[p] != new[p]] == [part]


def test_another_test_file_is_measured_without_training(files):
    command(files)
    before, trained = scores(files), linear_model.trained(files)
    write_rows(files / "other.jsonl", 9, 3.0)
    command(files, f"--data.test={files}/other.jsonl")
    assert scores(files) != before
    command(files)
    assert scores(files) == pytest.approx(before)
    command(files, "--strategies={gradual: [20, 0]}", f"--data.test={files}/other.jsonl", name="compare")
    assert scores(files) != before
    assert linear_model.trained(files) == trained


@pytest.mark.slow
def test_the_data_of_a_strategy_counts_too(files, capfd):
    for name in ("pool", "shared"):
        write_rows(files / f"{name}.jsonl", 40, 3.0)
    strategies = f"{{plain: [5], other: {{schedule: [5], data: {{out_of_domain: {files}/pool.jsonl}}}}}}"
    command(files, f"--strategies={strategies}", name="compare")
    trained = linear_model.trained(files)
    assert trained == ["5", "5-2"]
    command(files, f"--strategies={strategies}", name="compare")
    write_rows(files / "pool.jsonl", 40, 3.0, changed=7)
    capfd.readouterr()
    with pytest.raises(SystemExit):
        command(files, f"--strategies={strategies}", name="compare")
    assert 'pool.jsonl"}: out_of_domain: different content)' in said(capfd)
    command(files, "--schedule=[5]")
    assert linear_model.trained(files) == trained

"""What a run is made of: other data, another model or other settings never get the old result; the same ones do."""

import copy
import json
import random
from datetime import timedelta

import numpy as np
import pytest
import torch
from identified_runs import Cut, Net, Stretched, data, fit, moved, refusal
from lightning.pytorch import Callback
from lightning.pytorch.plugins.environments import LightningEnvironment
from torch import nn
from transformers import BertConfig

from gradual import InputError, Schedule
from gradual.runs.fingerprint import model_fingerprint, starting_weights


class Saved(Net):
    """The same, with its hyperparameters saved."""

    def __init__(self, dropout: float = 0.1, scale: float = 1.0):
        super().__init__(dropout)
        self.save_hyperparameters()


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
        ({"max_time": timedelta(hours=1)}, "trainer.max_time: not set, now '1:00:00'"),
        ({"plugins": [LightningEnvironment()]}, "trainer.plugins: not set, now ['LightningEnvironment']"),
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


def test_a_model_that_another_run_has_trained_is_warned_of(tmp_path, caplog):
    def warnings():
        found = [record.getMessage() for record in caplog.records if record.name == "gradual.runs.identity"]
        caplog.clear()
        return [message for message in found if "has the weights that the run in" in message]

    model, _ = fit(tmp_path / "one")
    fit(tmp_path / "one", model)
    fit(tmp_path / "new", Net())
    assert warnings() == []
    fit(tmp_path / "two", model)
    (said,) = warnings()
    where = f"the run in {tmp_path / 'one' / 'run'} left in it, and the run in {tmp_path / 'two' / 'run'} starts from"
    assert where in said
    fit(tmp_path / "two", model)
    assert warnings() == []


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

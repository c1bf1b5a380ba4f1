"""Layers whose size depends on the data, made before any stage trains."""

import pytest
from recorded_runs import LinearModel, data
from torch import nn

from gradual import InputError
from gradual.cli.plan import print_plan
from gradual.schedule import Schedule
from gradual.settings import OptimizerConfig, TrainSettings
from gradual.stage.layers import make_layers


class Late(LinearModel):
    """Makes its last layer from the data behind its Trainer, in one of Lightning's two hooks."""

    def __init__(self, where):
        super().__init__()
        self.where, self.batches = where, 0
        del self.head

    def setup(self, stage):
        self._make("setup")

    def configure_model(self):
        self._make("configure_model")

    def _make(self, where):
        if where == self.where and not hasattr(self, "head"):
            self.head = nn.Linear(4, self.trainer.datamodule.domains.val[0][1].shape[0])

    def validation_step(self, batch, batch_idx):
        self.batches += 1


class Told(LinearModel):
    """Makes its last layer from what the data module says."""

    def __init__(self):
        super().__init__()
        self.width = None
        del self.head

    def configure_data(self, spec):
        self.width = spec

    def configure_model(self):
        if not hasattr(self, "head"):
            self.head = nn.Linear(4, self.width)


def told_data():
    module = data()
    module.spec = lambda: 7
    return module


@pytest.mark.parametrize("where", ["setup", "configure_model"])
def test_a_model_that_asks_its_trainer_for_the_data_is_set_up_by_lightning(where):
    model, module = Late(where), data()
    make_layers(model, module)
    assert model.head.out_features == 1
    assert model.batches == 0, "nothing is validated"
    assert model._trainer is None
    assert module.trainer is None
    head = model.head
    make_layers(model, module)
    assert model.head is head


def test_a_model_that_is_told_of_the_data_needs_no_trainer(monkeypatch):
    monkeypatch.setattr("gradual.stage.layers.Trainer", None)
    model = Told()
    make_layers(model, told_data())
    assert model.head.out_features == 7
    plain = LinearModel()
    make_layers(plain, data())
    assert plain.head.out_features == 1


def test_a_model_that_cannot_be_set_up_is_refused_in_a_sentence():
    class Unvalidated(Late):
        validation_step = None

    with pytest.raises(InputError, match=r"^The model cannot be trained: .*validation_step"):
        make_layers(Unvalidated("setup"), data())


@pytest.mark.parametrize("model", [Late("setup"), Late("configure_model"), Told()])
def test_a_plan_knows_the_learning_rates_of_layers_that_depend_on_the_data(model, capsys):
    defaults = TrainSettings(optimizer=OptimizerConfig(lr=0.1, lr_by_name={"head.*": 0.5}))
    print_plan(model, told_data(), Schedule([4, 0]), defaults)
    assert "head.*: 0.5" in capsys.readouterr().out

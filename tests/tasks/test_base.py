"""How a model learns what its data looks like: the data module's spec, handed over before every run."""

from dataclasses import dataclass

import pytest
import torch
from quiet_trainer import quiet_trainer
from torch import nn
from torch.utils.data import TensorDataset

import gradual
from gradual import InputError, MixedDomainDataModule
from gradual.tasks.base import TaskModule
from gradual.tasks.scores import TaskScores

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # Lightning's advice


@dataclass(frozen=True)
class Classes:
    number: int


class Labelled(MixedDomainDataModule):
    """Random points of some classes."""

    def __init__(self, number=3):
        generator = torch.Generator().manual_seed(0)
        points, classes = torch.randn(24, 4, generator=generator), torch.arange(24) % number
        parts = [TensorDataset(points[start::4], classes[start::4]) for start in range(4)]
        super().__init__(*parts, batch_size=4)
        self.number = number

    def spec(self):
        return Classes(self.number)


class Accuracy(TaskScores):
    def __init__(self):
        super().__init__()
        self.add_sum("losses")
        self.add_count("examples")

    def update(self, loss, examples):
        self.losses += loss.double() * examples
        self.examples += examples

    def compute(self):
        return {"loss": self.losses / self.examples}


class Classifier(TaskModule):
    """A task as its author writes it; notes the order in which its hooks are called."""

    def __init__(self):
        super().__init__()
        self.number = None
        self.head = None
        self.called = []

    def configure_data(self, spec):
        self.called.append("configure_data")
        number = self.expect(spec, Classes).number
        if self.number is None:
            self.number = number
            self.add_scores(Accuracy)
        elif number != self.number:
            raise InputError(f"The model was trained with {self.number} classes, and the data has {number}.")

    def setup(self, stage):
        self.called.append("setup")

    def configure_model(self):
        self.called.append("configure_model")
        if self.number is not None and self.head is None:
            self.head = nn.Linear(4, self.number)

    def on_save_checkpoint(self, checkpoint):
        checkpoint["classes"] = self.number

    def on_load_checkpoint(self, checkpoint):
        self.configure_data(Classes(checkpoint["classes"]))
        self.configure_model()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def training_step(self, batch, batch_idx):
        return self._step(batch, "train")

    def test_step(self, batch, batch_idx):
        self._step(batch, "test")

    def predict_step(self, batch, batch_idx):
        return self.head(batch[0]).argmax(-1).tolist()

    def _step(self, batch, split):
        loss = nn.functional.cross_entropy(self.head(batch[0]), batch[1])
        self.scores_of(split).update(loss.detach(), len(batch[0]))
        return loss


@pytest.mark.parametrize("run", ["fit", "validate", "test", "predict"])
def test_lightning_configures_a_model_for_its_data_before_the_model_makes_its_layers(run):
    model = Classifier()
    getattr(quiet_trainer(max_epochs=1), run)(model, datamodule=Labelled())
    assert model.called == ["configure_data", "setup", "configure_model"]
    assert model.head.out_features == 3


def test_outside_of_a_trainer_a_data_module_configures_a_model():
    model, data = Classifier(), Labelled(5)
    data.configure(model)
    model.configure_model()
    assert model.head.out_features == 5
    data.configure(nn.Linear(1, 1))  # has no configure_data: nothing to do


def test_reading_the_data_does_not_configure_the_model_of_an_attached_trainer():
    model, data = Classifier(), Labelled()
    data.trainer = quiet_trainer()
    data.trainer.strategy.connect(model)
    assert (data.in_domain_size, data.amounts, data.pool_size) == (6, [0], 6)
    assert model.called == []
    data.setup()
    assert model.called == ["configure_data"]


def test_a_checkpoint_brings_the_layers_and_is_compared_with_the_data(tmp_path):
    model, data = Classifier(), Labelled()
    result = gradual.fit(model, data, [4, 0], tmp_path, max_epochs=1, accelerator="cpu", logger=False)
    checkpoint = result.best_checkpoint()
    loaded = Classifier.load_from_checkpoint(checkpoint)
    assert torch.equal(loaded.head.weight, model.head.weight)
    assert quiet_trainer().test(loaded, data, verbose=False)[0]["test/loss"] == pytest.approx(
        result.stages[-1].test["loss"]
    )
    with pytest.raises(InputError, match="trained with 3 classes, and the data has 5"):
        quiet_trainer().test(loaded, Labelled(5), verbose=False)
    with pytest.raises(InputError, match="trained with 5 classes, and the data has 3"):
        quiet_trainer().test(Classifier(), Labelled(5), ckpt_path=checkpoint, verbose=False)


def test_data_of_another_task_is_refused():
    data = MixedDomainDataModule([1], val=[2])
    with pytest.raises(
        InputError,
        match=r"^Classifier needs a data module whose spec\(\) returns the class Classes, but this one returns None\.$",
    ):
        quiet_trainer().validate(Classifier(), data)


class Watched(Classifier):
    """Notes in each forward pass whether there are gradients of an earlier one."""

    def training_step(self, batch, batch_idx):
        self.called.append(self.head.weight.grad is not None)
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize("accumulated", [1, 2])
def test_gradients_are_kept_only_while_they_are_accumulated_and_weights_are_those_of_a_loop_by_hand(accumulated):
    model, data = Watched(), Labelled()
    data.batch_size = 2
    data.configure(model)
    model.configure_model()
    head = nn.Linear(4, 3)
    head.load_state_dict(model.head.state_dict())
    model.called.clear()
    quiet_trainer(max_epochs=1, limit_val_batches=0, accumulate_grad_batches=accumulated).fit(model, datamodule=data)
    there = [flag for flag in model.called if isinstance(flag, bool)]
    batches = list(data.train_dataloader())
    assert there == [number % accumulated > 0 for number in range(len(batches))]
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    for number, (points, classes) in enumerate(batches, start=1):
        (nn.functional.cross_entropy(head(points), classes) / accumulated).backward()
        if number % accumulated == 0 or number == len(batches):
            optimizer.step()
            optimizer.zero_grad()
    assert len(batches) > accumulated
    torch.testing.assert_close(model.head.weight, head.weight)

"""What a model and its data need for a run is asked for before training: steps, validation data, a monitor."""

import functools

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from refused_calls import Net, compare, fit, refusal, small


def without(step: str) -> LightningModule:
    return type("Lacking", (Net,), {step: getattr(LightningModule, step)})()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": without("training_step")}, "Lacking has no training_step: add one that returns the loss"),
        ({"model": without("validation_step")}, "Lacking has no validation_step, which is needed to detect"),
        ({"model": without("test_step")}, "There is test data, but Lacking has no test_step: add one, or leave the"),
        ({"data": small(val=None)}, "There is no validation data"),
        ({"data": small(val=[])}, "has no validation examples"),
    ],
)  # fmt: skip
def test_missing_requirements_of_any_stage_are_reported_before_training(tmp_path, changes, said):
    assert said in refusal(functools.partial(fit, tmp_path, **changes))
    assert not list(tmp_path.glob("run/seed-0/*"))
    factory = {"model": lambda: type(changes["model"])()} if "model" in changes else changes
    assert said in refusal(functools.partial(compare, tmp_path / "compared", **factory))


def test_without_test_data_no_test_step_is_needed(tmp_path):
    result = fit(tmp_path, model=without("test_step"), data=small(test=None), schedule=[0])
    assert result.final["test"] == {}


def test_a_model_that_a_trainer_is_training_is_refused(tmp_path):
    said = []

    class Within(Callback):
        def on_train_start(self, trainer, pl_module):
            said.append(refusal(lambda: fit(tmp_path, model=pl_module, schedule=[0])))

    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    model, data = Net(), small()
    model.configure_optimizers = lambda: torch.optim.SGD(model.parameters(), lr=0.1)
    Trainer(accelerator="cpu", max_epochs=1, callbacks=[Within()], **quiet).fit(model, datamodule=data)
    assert said == ["This Net is already being trained by a Trainer: each stage makes its own Trainer."]


class Silent(Net):
    def validation_step(self, batch, batch_idx):
        pass


def test_a_monitor_that_is_not_logged_is_named_with_those_that_are(tmp_path):
    said = (
        "monitor is 'val/los', which validation does not log; the names logged are val/loss. Did you mean 'val/loss'?"
    )
    assert refusal(lambda: fit(tmp_path, monitor="val/los", mode="min")) == said
    said = "monitor is 'val/loss', which validation does not log; it logs nothing."
    assert refusal(lambda: fit(tmp_path, model=Silent(), run_dir=tmp_path / "silent")) == said

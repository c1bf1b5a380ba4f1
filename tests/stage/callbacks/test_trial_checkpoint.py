"""States that no checkpoint can hold are refused before the first step."""

from pathlib import Path

import pytest
import torch
from bare_fit import ScriptedModule, fit
from lightning.pytorch import Callback
from torch import nn

from gradual import InputError
from gradual.runs.checkpoint import WholeCheckpointIO
from gradual.stage.callbacks.trial_checkpoint import TrialCheckpoint


class State(Callback):
    """Has something to save, and counts the steps."""

    def __init__(self, value):
        self.value, self.steps = value, 0

    def state_dict(self):
        return {"value": self.value}

    def on_train_batch_start(self, *args):
        self.steps += 1


def test_a_state_that_only_code_could_make_again_is_named_before_the_first_step(tmp_path):
    state = State(object())
    with pytest.raises(InputError, match="State"):
        fit(ScriptedModule(), state, TrialCheckpoint(), default_root_dir=tmp_path)
    assert state.steps == 0


def test_trying_writes_nothing_and_leaves_the_trainer_as_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = WholeCheckpointIO({}, ScriptedModule())
    _, trainer = fit(ScriptedModule(), State({"count": 3}), TrialCheckpoint(), plugins=[own])
    assert trainer.strategy.checkpoint_io is own
    assert not list(tmp_path.iterdir())


def test_paths_are_saved_by_our_checkpoints_and_refused_with_others(tmp_path):
    state = State(Path("data"))
    fit(ScriptedModule(), state, TrialCheckpoint(), plugins=[WholeCheckpointIO({}, ScriptedModule())])
    assert state.steps
    with pytest.raises(InputError, match="CheckpointIO plugin cannot read back"):
        fit(ScriptedModule(), State(Path("data")), TrialCheckpoint())


class LeavesOut(ScriptedModule):
    """Saves no frozen weights; ``puts_back`` makes them again."""

    def __init__(self, puts_back=False):
        super().__init__()
        self.encoder = nn.Linear(3, 3).requires_grad_(False)
        self.puts_back, self.steps = puts_back, 0

    def training_step(self, batch, batch_idx):
        self.steps += 1
        return super().training_step(batch, batch_idx)

    def on_save_checkpoint(self, checkpoint):
        for name in ("encoder.weight", "encoder.bias"):
            del checkpoint["state_dict"][name]

    def on_load_checkpoint(self, checkpoint):
        if self.puts_back:
            checkpoint["state_dict"] |= {f"encoder.{name}": value for name, value in self.encoder.state_dict().items()}


def test_weights_that_a_module_neither_saves_nor_puts_back_are_named_before_the_first_step():
    module = LeavesOut()
    with pytest.raises(InputError, match=r"^LeavesOut.on_save_checkpoint leaves weights out .*\(encoder.bias\)"):
        fit(module, TrialCheckpoint())
    assert module.steps == 0


def test_a_module_that_puts_them_back_or_does_without_is_trained():
    module, weights = LeavesOut(puts_back=True), nn.Linear(3, 3).state_dict()
    module.encoder.load_state_dict(weights)
    fit(module, TrialCheckpoint())
    assert all(torch.equal(module.encoder.state_dict()[name], value) for name, value in weights.items())
    module = LeavesOut()
    module.strict_loading = False
    fit(module, TrialCheckpoint())
    assert module.steps

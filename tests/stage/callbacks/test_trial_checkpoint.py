"""States that no checkpoint can hold are refused before the first step."""

from pathlib import Path

import pytest
from bare_fit import ScriptedModule, fit
from lightning.pytorch import Callback

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

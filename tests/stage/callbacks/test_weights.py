"""Weights that a stage takes from the one before, and those that are tested."""

import pytest
import torch
from bare_fit import ScriptedModule, loader, trainer_with
from lightning.pytorch import Callback

from gradual import InputError
from gradual.stage.callbacks.weights import LoadWeights, load_weights


def checkpoint(path, value):
    """A checkpoint of a module whose weights are all of one value."""
    module = ScriptedModule()
    for parameter in module.parameters():
        torch.nn.init.constant_(parameter, value)
    trainer = trainer_with()
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path, weights_only=True)
    return path


class WeightsSeen(Callback):
    """Notes the bias at the start of training and of the test."""

    def __init__(self):
        self.seen = {}

    def on_train_start(self, trainer, pl_module):
        self.seen["training"] = pl_module.layer.bias.item()

    def on_test_start(self, trainer, pl_module):
        self.seen["test"] = pl_module.layer.bias.item()


def weights_seen(start, best):
    module, watch = ScriptedModule(), WeightsSeen()
    own = module.layer.bias.item()
    trainer = trainer_with(LoadWeights(start, best), watch, max_epochs=1)
    trainer.fit(module, loader(), loader())
    trainer.test(module, loader(), verbose=False)
    return own, watch.seen


def test_a_stage_starts_from_its_parent_and_tests_its_own_best_weights(tmp_path):
    parent, best = checkpoint(tmp_path / "parent.ckpt", 2.0), checkpoint(tmp_path / "best.ckpt", 3.0)
    _, seen = weights_seen(parent, best)
    assert seen == {"training": 2.0, "test": 3.0}


def test_a_stage_without_a_parent_starts_from_the_module_as_it_is(tmp_path):
    own, seen = weights_seen(None, checkpoint(tmp_path / "best.ckpt", 3.0))
    assert seen == {"training": own, "test": 3.0}


def test_weights_are_loaded_outside_of_any_trainer(tmp_path):
    module = ScriptedModule()
    load_weights(module, checkpoint(tmp_path / "best.ckpt", 2.0))
    assert module.layer.weight.tolist() == [[2.0] * 3]


def test_weights_of_a_compiled_module_fit_one_that_is_not(tmp_path):
    saved = checkpoint(tmp_path / "best.ckpt", 2.0)
    module = ScriptedModule()
    module.layer = torch.compile(module.layer)
    load_weights(module, saved)
    assert module.layer._orig_mod.bias.item() == 2.0


def test_weights_of_other_layers_are_refused(tmp_path):
    module = ScriptedModule()
    module.more = torch.nn.Linear(1, 1)
    with pytest.raises(RuntimeError, match=r"more\.weight"):
        load_weights(module, checkpoint(tmp_path / "best.ckpt", 2.0))


def test_a_checkpoint_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"gone\.ckpt"):
        load_weights(ScriptedModule(), tmp_path / "gone.ckpt")

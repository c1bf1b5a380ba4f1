"""The moving average of a stage's weights, step by step."""

import torch
from stand_in_trainer import stand_in_trainer
from torch import nn

from gradual.stage.callbacks.ema import EMAWeights


def module_of(value):
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, value)
    return module


def step(callback, module, number, weight):
    """One training step after which the weight is ``weight``."""
    callback.on_train_batch_start(stand_in_trainer(global_step=number - 1), module, None, 0)
    nn.init.constant_(module.weight, weight)
    callback.on_train_batch_end(stand_in_trainer(global_step=number), module)


def started(callback, module, **changes):
    callback.on_train_start(stand_in_trainer(**changes), module)
    return callback


def test_validation_sees_the_average_and_training_goes_on_with_the_weights():
    module = module_of(4.0)
    ema = started(EMAWeights(0.75), module)
    step(ema, module, 1, 8.0)
    ema.on_validation_start(stand_in_trainer(global_step=1), module)
    assert module.weight.item() == 0.75 * 4 + 0.25 * 8
    ema.on_train_epoch_end(stand_in_trainer(), module)
    assert module.weight.item() == 8.0


def test_a_validation_inside_an_epoch_gives_the_weights_back_before_the_next_step():
    module = module_of(4.0)
    ema = started(EMAWeights(0.75), module)
    step(ema, module, 1, 8.0)
    ema.on_validation_start(stand_in_trainer(global_step=1), module)
    ema.on_train_batch_start(stand_in_trainer(global_step=1), module, None, 1)
    assert module.weight.item() == 8.0


def test_batches_of_one_optimizer_step_count_once():
    module = module_of(4.0)
    ema = started(EMAWeights(0.5), module)
    step(ema, module, 1, 8.0)
    ema.on_train_batch_end(stand_in_trainer(global_step=1), module)
    ema.on_validation_start(stand_in_trainer(global_step=1), module)
    assert module.weight.item() == 6.0


def test_the_sanity_check_sees_the_weights():
    module = module_of(4.0)
    ema = started(EMAWeights(0.5), module)
    step(ema, module, 1, 8.0)
    ema.on_validation_start(stand_in_trainer(sanity_checking=True), module)
    assert module.weight.item() == 8.0


def test_a_checkpoint_made_while_the_average_is_in_place_resumes_with_both():
    module = module_of(4.0)
    interrupted = started(EMAWeights(0.75), module)
    step(interrupted, module, 1, 8.0)
    interrupted.on_validation_start(stand_in_trainer(global_step=1), module)
    saved, weight = interrupted.state_dict(), module.weight.item()
    again = module_of(weight)
    resumed = EMAWeights(0.75)
    resumed.load_state_dict({name: [tensor.clone() for tensor in value] for name, value in saved.items()})
    started(resumed, again, global_step=1)
    assert again.weight.item() == 8.0
    step(resumed, again, 2, 1.0)
    resumed.on_validation_start(stand_in_trainer(global_step=2), again)
    torch.testing.assert_close(again.weight.item(), 0.75 * 5 + 0.25 * 1)

"""The moving average of a stage's weights, step by step."""

import pytest
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


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_average_of_weights_in_half_precision_is_one_of_single_precision(dtype):
    """In bfloat16, 1 + 0.001 * (2 - 1) is 1, however many steps there are."""
    module = module_of(1.0).to(dtype)
    ema = started(EMAWeights(0.999), module)
    expected = 1.0
    for number in range(1, 701):
        weight = 2.0 + number % 3
        step(ema, module, number, weight)
        expected = 0.999 * expected + 0.001 * weight
    ema.on_validation_start(stand_in_trainer(global_step=700), module)
    assert module.weight.dtype == dtype
    assert module.weight.item() == torch.tensor(expected, dtype=dtype).item() != 1
    ema.on_train_epoch_end(stand_in_trainer(), module)
    assert module.weight.item() == weight


def test_parts_of_different_precision_have_the_averages_that_each_would_have_alone():
    module = nn.ModuleList([module_of(4.0), module_of(4.0).to(torch.bfloat16), module_of(4.0).double()])
    ema = started(EMAWeights(0.75), module)
    for part in module:
        nn.init.constant_(part.weight, 8.0)
    ema.on_train_batch_end(stand_in_trainer(global_step=1), module)
    assert [each.dtype for each in ema.state_dict()["average"]] == [torch.float32, torch.float32, torch.float64]
    ema.on_validation_start(stand_in_trainer(global_step=1), module)
    assert [part.weight.item() for part in module] == [5.0] * 3


def test_an_average_that_was_saved_in_half_precision_goes_on_in_single_precision():
    module = module_of(1.0).to(torch.bfloat16)
    ema = EMAWeights(0.999)
    ema.load_state_dict({"average": [torch.full((1, 1), 1.0, dtype=torch.bfloat16)], "training": None})
    started(ema, module, global_step=0)
    for number in range(1, 301):
        step(ema, module, number, 2.0)
    ema.on_validation_start(stand_in_trainer(global_step=300), module)
    assert module.weight.item() == torch.tensor(2 - 0.999**300, dtype=torch.bfloat16).item()

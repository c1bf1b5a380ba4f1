"""Rates that a module configures itself are scaled, at every step of its own schedules."""

import numpy as np
import pytest
import torch
from optimized_modules import Fitted, fit
from torch.optim import SGD
from torch.optim import lr_scheduler as torch_schedules

from gradual.stage.optim import scale_learning_rates


def own_optimizer(module):
    return SGD([{"params": [module.layer.weight], "lr": 0.8}, {"params": [module.layer.bias], "lr": 0.2}])


def plain(module):
    return own_optimizer(module)


def lists(module):
    optimizer = own_optimizer(module)
    return [optimizer], [torch_schedules.LambdaLR(optimizer, lambda step: 1 / (1 + step))]


def two_optimizers(module):
    return SGD([module.layer.weight], lr=0.8), SGD([module.layer.bias], lr=0.2)


def dictionary(schedule):
    def configure(module):
        optimizer = own_optimizer(module)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule(optimizer), "interval": "step"}}

    return configure


def lambda_lr(optimizer):
    return torch_schedules.LambdaLR(optimizer, lambda step: 1 / (1 + step))


def warm_up_then_cosine(optimizer):
    return torch_schedules.SequentialLR(
        optimizer,
        [torch_schedules.LinearLR(optimizer, 0.1, total_iters=3), torch_schedules.CosineAnnealingLR(optimizer, 6)],
        milestones=[3],
    )


SCHEDULES = {
    "LambdaLR": lambda_lr,
    "StepLR": lambda optimizer: torch_schedules.StepLR(optimizer, 2, gamma=0.5),
    "CosineAnnealingLR": lambda optimizer: torch_schedules.CosineAnnealingLR(optimizer, 8, eta_min=0.05),
    "SequentialLR": warm_up_then_cosine,
    "OneCycleLR": lambda optimizer: torch_schedules.OneCycleLR(optimizer, [0.8, 0.2], total_steps=8),
    "CyclicLR": lambda optimizer: torch_schedules.CyclicLR(optimizer, [0.1, 0.2], [0.8, 0.4], 3, cycle_momentum=False),
}


def rates_of_eight_steps(configured):
    def parts(value, kind):
        if isinstance(value, dict):
            value = list(value.values())
        return sum((parts(each, kind) for each in value), []) if isinstance(value, list | tuple) else (  # noqa: RUF017
            [value] if isinstance(value, kind) else []
        )  # fmt: skip

    optimizers = parts(configured, torch.optim.Optimizer)
    found = []
    for _ in range(8):
        found.append([group["lr"] for optimizer in optimizers for group in optimizer.param_groups])
        for optimizer in optimizers:
            optimizer.step()
        for scheduler in parts(configured, torch_schedules.LRScheduler)[: len(found) < 8]:
            scheduler.step()
    return np.array(found)


@pytest.mark.parametrize(
    "configure",
    [plain, lists, two_optimizers, *map(dictionary, SCHEDULES.values())],
    ids=["optimizer", "lists", "two optimizers", *SCHEDULES],
)
@pytest.mark.parametrize("factor", [0.25, 1.0, 3.0])
def test_every_rate_is_the_factor_times_the_module_s_own_at_every_step(configure, factor):
    own = rates_of_eight_steps(configure(Fitted(None)))
    configured = configure(Fitted(None))
    assert scale_learning_rates(configured, factor) is configured
    assert own.any()
    np.testing.assert_allclose(rates_of_eight_steps(configured), factor * own, rtol=1e-9)


def test_a_module_that_configures_nothing_is_left_alone():
    assert scale_learning_rates(None, 0.5) is None


@pytest.mark.parametrize("configure", [plain, lists, dictionary(lambda_lr)], ids=["optimizer", "lists", "dictionary"])
def test_lightning_trains_with_the_scaled_rates(configure):
    def bias(factor):
        return fit(lambda module: scale_learning_rates(configure(module), factor)).layer.bias.item()

    torch.manual_seed(0)
    start = Fitted(None).layer.bias.item()
    moved = []
    for factor in (1.0, 0.5):
        torch.manual_seed(0)
        moved.append(bias(factor) - start)
    assert moved[0] != 0
    assert moved[1] == pytest.approx(moved[0] / 2, rel=1e-5)

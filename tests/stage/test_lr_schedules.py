"""Learning-rate schedules made from configuration, step by step."""

import math

import pytest
import torch
from torch import nn
from torch.optim import SGD
from transformers.trainer_utils import SchedulerType

from gradual.errors import InputError
from gradual.settings import LRScheduleConfig
from gradual.stage.optim import build_lr_scheduler


def rates(config, total_steps, steps, base=0.4):
    """The learning rate of each step."""
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=base)
    built = build_lr_scheduler(optimizer, config, total_steps)
    assert built["interval"] == "step"
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        built["scheduler"].step()
    return found


@pytest.mark.parametrize(
    ("warmup", "warmup_steps"), [(None, 0), (0, 0), (4, 4), (1, 1), (0.25, 5), (0.21, 5), (4.0, 4), (1.0, 20)]
)
def test_linear_rises_to_the_rate_and_falls_to_nothing(warmup, warmup_steps):
    found = rates(LRScheduleConfig("linear", warmup), total_steps=20, steps=21)
    for step, rate in enumerate(found):
        if step < warmup_steps:
            factor = step / warmup_steps
        else:
            factor = (20 - step) / (20 - warmup_steps) if warmup_steps < 20 else 0.0
        assert rate == pytest.approx(0.4 * factor, abs=1e-12), step
    assert found[20] == 0


@pytest.mark.parametrize("warmup", [0, 5])
def test_cosine_falls_along_half_a_wave_to_nothing(warmup):
    found = rates(LRScheduleConfig("cosine", warmup), total_steps=25, steps=26)
    for step in range(warmup, 26):
        factor = (1 + math.cos(math.pi * (step - warmup) / (25 - warmup))) / 2
        assert found[step] == pytest.approx(0.4 * factor, abs=1e-12)
    assert found[25] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("config", [LRScheduleConfig(), LRScheduleConfig("constant"), LRScheduleConfig("constant", 0)])
def test_constant_needs_no_scheduler(config):
    assert build_lr_scheduler(SGD([torch.zeros(1)], lr=0.1), config, math.inf) is None


def test_a_schedule_without_an_end_needs_none():
    found = rates(LRScheduleConfig("inverse_sqrt", 4), math.inf, steps=12)
    assert found == pytest.approx([0.4 * min(step / 4, (4 / max(step, 1)) ** 0.5) for step in range(12)])


@pytest.mark.parametrize("name", [None, "constant", "constant_with_warmup"])
@pytest.mark.parametrize(("warmup", "total"), [(4, 20), (4, math.inf), (0.2, 20), (4.0, math.inf)])
def test_constant_with_warm_up_rises_and_stays(name, warmup, total):
    found = rates(LRScheduleConfig(name, warmup), total, steps=12)
    assert found == pytest.approx([0.4 * min(1, step / 4) for step in range(12)])


def published_rates(base, warmup, t_total, steps):
    """The rates of SUMBT's published training loop, step by step: its own schedule, then the optimizer's."""

    def warmup_linear(x):
        if x < warmup:
            return x / warmup
        return 1.0 - x

    found = []
    for global_step in range(steps):
        lr_this_step = base * warmup_linear(global_step / t_total)  # written into the groups by the loop
        found.append(lr_this_step * warmup_linear(global_step / t_total))  # and scheduled again by the optimizer
    return found


@pytest.mark.parametrize("total", [20, 30, 34866, 7])
def test_the_published_schedule_is_bert_s_linear_one_twice(total):
    """(x / 0.1)^2 up to a tenth of the planned steps, (1 - x)^2 after it."""
    steps = min(total + 1, 8000)
    found = rates(LRScheduleConfig("bert_linear", 0.1, 2), total, steps, base=1e-4)
    assert found == pytest.approx(published_rates(1e-4, 0.1, total, steps), rel=1e-12, abs=1e-18)
    for step, rate in enumerate(found):
        x = step / total
        assert rate == pytest.approx(1e-4 * ((x / 0.1) ** 2 if x < 0.1 else (1 - x) ** 2), rel=1e-9, abs=1e-18)


def test_the_published_schedule_by_hand():
    found = rates(LRScheduleConfig("bert_linear", 0.1, 2), 20, 22, base=1.0)
    assert found[:4] == pytest.approx([0.0, 0.25, 0.81, 0.7225])  # at the end of the warm-up it is (1 - 0.1)^2 already
    assert found[10] == pytest.approx(0.25)
    assert found[19:] == pytest.approx([0.0025, 0.0, 0.0])


@pytest.mark.parametrize(("warmup", "first"), [(None, [1.0, 0.95]), (0, [1.0, 0.95]), (4, [0, 0.25]), (0.2, [0, 0.25])])
def test_bert_s_linear_schedule_falls_from_its_first_step(warmup, first):
    found = rates(LRScheduleConfig("bert_linear", warmup), 20, 21, base=1.0)
    assert found[:2] == pytest.approx(first)
    assert found[4:] == pytest.approx([1 - step / 20 for step in range(4, 21)])


@pytest.mark.parametrize(
    "name", ["linear", "cosine", "polynomial", "inverse_sqrt", "constant_with_warmup", "bert_linear"]
)
@pytest.mark.parametrize("power", [0.5, 1, 2])
def test_a_power_applies_to_the_factor_of_every_schedule(name, power):
    plain = [rate / 0.4 for rate in rates(LRScheduleConfig(name, 3), 12, 12, base=0.4)]
    assert rates(LRScheduleConfig(name, 3, power), 12, 12, base=0.4) == pytest.approx([0.4 * f**power for f in plain])


def test_a_schedule_with_a_power_goes_on_from_its_state():
    whole = rates(LRScheduleConfig("bert_linear", 0.25, 2), 12, 12)
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=0.4)
    config = LRScheduleConfig("bert_linear", 0.25, 2)
    first = build_lr_scheduler(optimizer, config, 12)["scheduler"]
    for _ in range(5):
        optimizer.step()
        first.step()
    states = optimizer.state_dict(), first.state_dict()
    again = SGD([nn.Parameter(torch.zeros(1))], lr=0.4)
    second = build_lr_scheduler(again, config, 12)["scheduler"]
    again.load_state_dict(states[0])
    second.load_state_dict(states[1])
    found = []
    for _ in range(7):
        found.append(again.param_groups[0]["lr"])
        again.step()
        second.step()
    assert found == pytest.approx(whole[5:])


def test_each_group_keeps_its_own_rate():
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = SGD([{"params": parameters[:1], "lr": 1.0}, {"params": parameters[1:], "lr": 0.1}])
    scheduler = build_lr_scheduler(optimizer, LRScheduleConfig("linear"), 4)["scheduler"]
    optimizer.step()
    scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.75, 0.075])


@pytest.mark.parametrize(
    "config",
    [("linear", None), ("cosine", 3), ("linear", 0.1), ("constant", 0.1), ("constant_with_warmup", 0.1),
     ("bert_linear", 3)],
)  # fmt: skip
def test_a_schedule_that_needs_an_end_is_refused_without_one(config):
    with pytest.raises(InputError, match="max_epochs"):
        build_lr_scheduler(SGD([torch.zeros(1)], lr=0.1), LRScheduleConfig(*config), math.inf)


def test_an_unknown_schedule_is_refused_with_those_that_are_known():
    with pytest.raises(InputError, match=r"'lineal': it must be one of .*linear.*cosine"):
        build_lr_scheduler(SGD([torch.zeros(1)], lr=0.1), LRScheduleConfig("lineal"), 10)


@pytest.mark.parametrize("name", [kind.value for kind in SchedulerType])
def test_a_schedule_that_is_said_to_be_accepted_works_and_any_other_is_refused(name):
    with pytest.raises(InputError) as caught:
        rates(LRScheduleConfig("none such"), 10, 10)
    accepted = str(caught.value).partition("it must be one of ")[2].rstrip(".").split(", ")
    assert {"constant", "linear", "cosine", "inverse_sqrt"} <= set(accepted)
    if name in accepted:
        found = rates(LRScheduleConfig(name, 2), total_steps=10, steps=10)
        assert found[:3] == pytest.approx([0.0, 0.2, 0.4])
        assert all(0 <= rate <= 0.4 for rate in found)
    else:
        with pytest.raises(InputError, match=f"'{name}': it must be one of"):
            rates(LRScheduleConfig(name, 2), total_steps=10, steps=10)

"""Optimizers, parameter groups and learning-rate schedules made from configuration."""

import math
from fnmatch import fnmatchcase

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torch.optim import SGD, AdamW
from torch.optim import lr_scheduler as torch_schedules
from transformers.trainer_utils import SchedulerType

from gradual.errors import InputError
from gradual.settings import LRScheduleConfig, OptimizerConfig, is_configured
from gradual.stage.optim import (
    BertAdam,
    build_lr_scheduler,
    build_optimizer,
    parameter_groups,
    scale_learning_rates,
    trainable_parameters,
)


def network():
    return nn.ModuleDict(
        {
            "encoder": nn.ModuleDict({"first": nn.Linear(3, 2), "norm": nn.LayerNorm(2)}),
            "head": nn.Linear(2, 2),
        }
    )


NAMES = [name for name, _ in network().named_parameters()]
PATTERNS = ["*", "encoder.*", "*.bias", "*.norm.*", "head.*", "head.weight", "encoder.first.bias"]


def settings_by_name(module, groups):
    """Each grouped parameter's name with its group."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    found = [(names[id(parameter)], group) for group in groups for parameter in group["params"]]
    assert len(found) == len({name for name, _ in found}), "a parameter is in one group"
    return dict(found)


# Parameter groups


def test_without_patterns_there_is_one_group():
    module = network()
    (group,) = parameter_groups(module, OptimizerConfig(lr=0.1, weight_decay=0.2))
    assert {key: value for key, value in group.items() if key != "params"} == {
        "name": "other",
        "lr": 0.1,
        "weight_decay": 0.2,
    }
    assert [id(p) for p in group["params"]] == [id(p) for p in module.parameters()]


def test_unset_options_are_left_to_the_optimizer():
    (group,) = parameter_groups(network(), OptimizerConfig())
    assert set(group) == {"name", "params"}


def test_patterns_for_rates_and_for_decays_cross():
    module = network()
    config = OptimizerConfig(
        lr=1.0, lr_by_name={"encoder.*": 0.5}, weight_decay=0.1, weight_decay_by_name={"*.bias": 0, "*.norm.*": 0}
    )
    groups = parameter_groups(module, config)
    assert {group["name"]: (group["lr"], group["weight_decay"]) for group in groups} == {
        "encoder.*": (0.5, 0.1),
        "*.bias *.norm.* encoder.*": (0.5, 0),
        "other": (1.0, 0.1),
        "*.bias": (1.0, 0),
    }
    names = {name: group["name"] for name, group in settings_by_name(module, groups).items()}
    assert names["encoder.first.weight"] == "encoder.*"
    assert names["encoder.norm.weight"] == "*.bias *.norm.* encoder.*"
    assert names["head.weight"] == "other"
    assert names["head.bias"] == "*.bias"


def test_the_first_match_wins():
    for patterns, rate in (
        ({"head.weight": 1.0, "head.*": 2.0, "*": 3.0}, 1.0),
        ({"head.*": 2.0, "head.weight": 1.0, "*": 3.0}, 2.0),
        ({"*": 3.0, "head.weight": 1.0, "head.*": 2.0}, 3.0),
    ):
        module = network()
        groups = settings_by_name(module, parameter_groups(module, OptimizerConfig(lr_by_name=patterns)))
        assert groups["head.weight"]["lr"] == rate


BY_NAME = st.none() | st.lists(
    st.tuples(st.sampled_from(PATTERNS), st.sampled_from([0.1, 0.2, 0.4])), max_size=4, unique_by=lambda item: item[0]
).map(dict)
VALUES = st.none() | st.sampled_from([0.1, 0.2, 0.8])


@given(BY_NAME, BY_NAME, st.sampled_from([0.1, 0.8]), VALUES, st.none() | st.just(0.5), st.sets(st.sampled_from(NAMES)))
def test_every_trainable_parameter_has_the_settings_of_its_first_pattern(rates, decays, lr, decay, scale, frozen):
    module = network()
    for name in frozen:
        module.get_parameter(name).requires_grad_(False)
    trainable = [name for name in NAMES if name not in frozen]
    config = OptimizerConfig(lr=lr, lr_by_name=rates, lr_scale=scale, weight_decay=decay, weight_decay_by_name=decays)
    useless = [
        pattern
        for pattern in {**(rates or {}), **(decays or {})}
        if not any(fnmatchcase(n, pattern) for n in trainable)
    ]
    if useless:
        with pytest.raises(InputError, match="matches no trainable parameter"):
            parameter_groups(module, config)
        return
    groups = parameter_groups(module, config)
    assert len({group["name"] for group in groups}) == len(groups), "Lightning's monitor wants a name for each"
    found = settings_by_name(module, groups)
    assert sorted(found) == sorted(trainable)
    for name, group in found.items():
        expected_lr = next((rate for pattern, rate in (rates or {}).items() if fnmatchcase(name, pattern)), lr)
        expected_decay = next((rate for pattern, rate in (decays or {}).items() if fnmatchcase(name, pattern)), decay)
        assert group["lr"] == pytest.approx(expected_lr * (scale or 1))
        assert group.get("weight_decay") == expected_decay


def test_a_pattern_that_matches_nothing_is_named():
    for field in ("lr_by_name", "weight_decay_by_name"):
        with pytest.raises(InputError, match=r"'bert\.\*' matches no trainable parameter.*encoder\.\*, head\.\*"):
            parameter_groups(network(), OptimizerConfig(lr=0.1, **{field: {"head.*": 0.1, "bert.*": 0.2}}))


@given(
    st.none()
    | st.lists(st.tuples(st.sampled_from(PATTERNS), st.booleans()), max_size=4, unique_by=lambda item: item[0]).map(
        dict
    ),
    st.sets(st.sampled_from(NAMES)),
)
def test_the_first_pattern_says_what_is_trained_and_else_the_module(by_name, frozen):
    module = network()
    for name in frozen:
        module.get_parameter(name).requires_grad_(False)
    expected = {
        name: next(
            (value for pattern, value in (by_name or {}).items() if fnmatchcase(name, pattern)), name not in frozen
        )
        for name in NAMES
    }
    assert trainable_parameters(module, by_name) == expected
    groups = parameter_groups(module, OptimizerConfig(lr=0.1, trainable_by_name=by_name))
    assert sorted(settings_by_name(module, groups)) == sorted(name for name in NAMES if expected[name])
    assert {name for name in NAMES if not module.get_parameter(name).requires_grad} == frozen, "it only looks"


def test_a_pattern_of_what_is_trained_that_matches_nothing_is_named():
    config = OptimizerConfig(lr=0.1, trainable_by_name={"head.*": False, "bert.*": True})
    with pytest.raises(InputError, match=r"'bert\.\*' matches no parameter; names look like encoder\.\*, head\.\*"):
        parameter_groups(network(), config)


def test_a_pattern_for_parameters_that_the_stage_freezes_matches_nothing():
    with pytest.raises(InputError, match=r"'head\.\*' matches no trainable parameter"):
        parameter_groups(
            network(), OptimizerConfig(lr=0.1, lr_by_name={"head.*": 1.0}, trainable_by_name={"head.*": False})
        )


def test_a_pattern_for_frozen_parameters_alone_matches_nothing():
    module = network()
    module["head"].requires_grad_(False)
    with pytest.raises(InputError, match=r"'head\.\*' matches no trainable parameter"):
        parameter_groups(module, OptimizerConfig(lr=0.1, lr_by_name={"head.*": 0.2}))


def test_a_parameter_without_a_rate_is_named():
    with pytest.raises(InputError, match=r"no pattern that matches the parameter 'head\.weight'"):
        parameter_groups(network(), OptimizerConfig(lr_by_name={"encoder.*": 0.1}))


def test_an_optimizer_is_configured_by_its_class_or_its_rates():
    for config in ({"class_path": "torch.optim.SGD"}, {"lr": 0.0}, {"lr_by_name": {"*": 0.1}}):
        assert is_configured(OptimizerConfig(**config))
    unconfigured = ({}, {"lr_scale": 0.5}, {"lr_by_name": {}}, {"weight_decay": 0.1}, {"init_args": {"eps": 1e-8}})
    for config in (*unconfigured, {"trainable_by_name": {"*": True}}):
        assert not is_configured(OptimizerConfig(**config))


# Optimizers


def test_the_default_is_adamw_in_its_fused_implementation():
    optimizer = build_optimizer(network(), OptimizerConfig(lr=0.1))
    assert type(optimizer) is AdamW
    assert [(group["lr"], group["fused"]) for group in optimizer.param_groups] == [(0.1, True)]


def test_the_class_and_its_arguments_are_as_configured():
    config = OptimizerConfig("torch.optim.Adam", lr=0.1, init_args={"betas": [0.5, 0.6], "eps": 1e-3, "amsgrad": True})
    optimizer = build_optimizer(network(), config)
    (group,) = optimizer.param_groups
    assert type(optimizer) is torch.optim.Adam
    assert (group["betas"], group["eps"], group["amsgrad"]) == ((0.5, 0.6), 1e-3, True)


@pytest.mark.parametrize("arguments", [{"fused": False}, {"foreach": True}, {"differentiable": True}])
def test_the_fused_implementation_is_not_forced(arguments):
    (group,) = build_optimizer(network(), OptimizerConfig(lr=0.1, init_args=arguments)).param_groups
    assert not group["fused"]
    assert all(group[name] == value for name, value in arguments.items())


def test_an_optimizer_without_a_fused_implementation_is_built():
    for class_path in ("torch.optim.RMSprop", "gradual.BertAdam"):
        (group,) = build_optimizer(network(), OptimizerConfig(class_path, lr=0.1)).param_groups
        assert not group.get("fused")
        assert group["lr"] == 0.1


def test_parameters_elsewhere_are_not_fused():
    (group,) = build_optimizer(network().to("meta"), OptimizerConfig(lr=0.1)).param_groups
    assert not group["fused"]


def test_a_scale_holds_for_every_learning_rate():
    for config, rate in (
        (OptimizerConfig(lr=0.2, lr_scale=0.5), 0.1),
        (OptimizerConfig(lr=0.2, lr_scale=0), 0.0),
        (OptimizerConfig("torch.optim.AdamW", lr_scale=0.5), AdamW([torch.zeros(1)]).defaults["lr"] / 2),
        (OptimizerConfig("torch.optim.AdamW", lr_scale=0.5, init_args={"lr": 0.2}), 0.1),
    ):
        for group in build_optimizer(network(), config).param_groups:
            assert group["lr"] == pytest.approx(rate)


def test_every_group_is_trained_at_its_rate():
    module = network()
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    config = OptimizerConfig("torch.optim.SGD", lr=1.0, lr_by_name={"encoder.*": 0.25}, lr_scale=0.5)
    optimizer = build_optimizer(module, config)
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    for name, parameter in module.named_parameters():
        moved = 0.125 if name.startswith("encoder.") else 0.5
        torch.testing.assert_close(parameter.detach(), before[name] - moved)


@pytest.mark.parametrize(
    ("class_path", "says"),
    [
        ("torch.optim.Adamm", "'torch.optim.Adamm', which cannot be imported"),
        ("no.such.module.Adam", "'no.such.module.Adam', which cannot be imported"),
        ("AdamW", "'AdamW', which cannot be imported: it must be the full path of a class"),
        ("torch.optim", "not a torch.optim.Optimizer"),
        ("torch.nn.Linear", "not a torch.optim.Optimizer"),
        ("math.sqrt", "not a torch.optim.Optimizer"),
    ],
)
def test_a_class_that_is_no_optimizer_is_refused(class_path, says):
    with pytest.raises(InputError) as caught:
        build_optimizer(network(), OptimizerConfig(class_path, lr=0.1))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [{"momentum": 0.9}, {"betas": [2, 3]}, {"eps": -1}, {"foreach": True, "fused": True}, {"betas": 0.9}],
    ids=str,
)
def test_arguments_that_the_class_does_not_take_are_refused(arguments):
    with pytest.raises(InputError, match=r"torch\.optim\.AdamW does not accept these arguments"):
        build_optimizer(network(), OptimizerConfig(lr=0.1, init_args=arguments))


class Fitted(LightningModule):
    def __init__(self, configure):
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.configure = configure

    def configure_optimizers(self):
        return self.configure(self)

    def training_step(self, batch, batch_index):
        return self.layer(batch.float().view(-1, 1)).sum()


def fit(configure, steps=3, **arguments):
    model = Fitted(configure)
    trainer = Trainer(
        accelerator="cpu", max_steps=steps, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, **arguments,
    )  # fmt: skip
    trainer.fit(model, torch.utils.data.DataLoader(list(range(1, steps + 1))))
    return model


def own_fused(module):
    return scale_learning_rates(torch.optim.AdamW(module.parameters(), 0.1, fused=True), 1.0)


@pytest.mark.parametrize("make", [lambda module: build_optimizer(module, OptimizerConfig(lr=0.1)), own_fused])
def test_gradients_can_be_clipped_in_mixed_precision(make):
    weight = fit(make, precision="bf16-mixed", gradient_clip_val=1.0).layer.weight
    assert weight.isfinite().all()


# BertAdam


def naive_bert_adam(weights, gradients, *, lr, betas, eps, weight_decay, max_grad_norm):
    """The first BERT release's update, one number after the other; returns the weights after each step."""
    weights = [float(weight) for weight in weights]
    means, squares = [0.0] * len(weights), [0.0] * len(weights)
    history = []
    for step_gradients in gradients:
        norm = math.sqrt(sum(float(g) ** 2 for g in step_gradients))
        factor = min(1.0, max_grad_norm / (norm + 1e-6)) if max_grad_norm > 0 else 1.0
        for i, gradient in enumerate(step_gradients):
            g = float(gradient) * factor
            means[i] = betas[0] * means[i] + (1 - betas[0]) * g
            squares[i] = betas[1] * squares[i] + (1 - betas[1]) * g * g
            update = means[i] / (math.sqrt(squares[i]) + eps) + weight_decay * weights[i]
            weights[i] -= lr * update
        history.append(list(weights))
    return np.array(history)


def trained_with(optimizer, parameter, gradients):
    history = []
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient).view_as(parameter)
        optimizer.step()
        history.append(parameter.detach().flatten().numpy().copy())
    return np.array(history)


@given(
    st.integers(0, 2**32 - 1),
    st.floats(1e-5, 1.0),
    st.tuples(st.floats(0, 0.99), st.floats(0, 0.9999)),
    st.floats(1e-8, 1e-3),
    st.floats(0, 0.5),
    st.sampled_from([0, 0.3, 1.0, 100.0]),
)
def test_bert_adam_is_the_update_of_its_definition(seed, lr, betas, eps, weight_decay, max_grad_norm):
    rng = np.random.default_rng(seed)
    start = rng.normal(size=6)
    gradients = rng.normal(size=(7, 6)) * rng.choice([0.01, 0.5, 5.0], size=(7, 1))
    parameter = nn.Parameter(torch.tensor(start).view(2, 3))
    arguments = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "max_grad_norm": max_grad_norm}
    found = trained_with(BertAdam([parameter], **arguments), parameter, gradients)
    np.testing.assert_allclose(found, naive_bert_adam(start, gradients, **arguments), rtol=1e-9, atol=1e-12)


def test_bert_adam_clips_each_parameter_by_itself_and_each_group_has_its_settings():
    rng = np.random.default_rng(0)
    starts, gradients = rng.normal(size=(3, 4)), rng.normal(size=(3, 5, 4)) * [[[10.0]], [[0.01]], [[10.0]]]
    parameters = [nn.Parameter(torch.tensor(start)) for start in starts]
    other = {"lr": 0.01, "weight_decay": 0.3, "max_grad_norm": 0.0}
    optimizer = BertAdam([{"params": parameters[:2]}, {"params": parameters[2:], **other}], lr=0.1)
    for step in range(5):
        for parameter, gradient in zip(parameters, gradients):
            parameter.grad = torch.tensor(gradient[step])
        optimizer.step()
    shared = {"lr": 0.1, "betas": (0.9, 0.999), "eps": 1e-6, "weight_decay": 0.01, "max_grad_norm": 1.0}
    for parameter, start, gradient, changes in zip(parameters, starts, gradients, ({}, {}, other)):
        expected = naive_bert_adam(start, gradient, **{**shared, **changes})[-1]
        np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=1e-9)


def test_bert_adam_leaves_parameters_without_a_gradient_alone():
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = BertAdam([used, unused], lr=0.1)
    used.grad = torch.ones(2)
    optimizer.step()
    assert torch.equal(unused, torch.ones(2))
    assert not torch.equal(used, torch.ones(2))
    assert optimizer.step(lambda: 7.0) == 7.0
    BertAdam([nn.Parameter(torch.ones(2))], lr=0.1).step()  # nothing to do


def test_bert_adam_goes_on_from_its_state():
    rng = np.random.default_rng(1)
    gradients = rng.normal(size=(6, 4))
    parameter = nn.Parameter(torch.zeros(4, dtype=torch.float64))
    uninterrupted = trained_with(BertAdam([parameter], lr=0.1), parameter, gradients)
    first = nn.Parameter(torch.zeros(4, dtype=torch.float64))
    optimizer = BertAdam([first], lr=0.1)
    trained_with(optimizer, first, gradients[:3])
    second = nn.Parameter(first.detach().clone())
    resumed = BertAdam([second], lr=9.9)
    resumed.load_state_dict(optimizer.state_dict())
    assert np.array_equal(trained_with(resumed, second, gradients[3:]), uninterrupted[3:])


# Learning-rate schedules


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


# Scaling what a module configures itself


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

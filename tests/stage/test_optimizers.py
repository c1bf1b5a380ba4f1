"""Optimizers made from configuration: class, arguments, rates, and what is refused."""

import pytest
import torch
from optimized_modules import fit, network
from recorded_runs import run
from torch.optim import AdamW

from gradual.errors import InputError
from gradual.settings import OptimizerConfig, is_configured
from gradual.stage.optim import build_optimizer, check_effects, scale_learning_rates


def test_an_optimizer_is_configured_by_its_class_or_its_rates():
    for config in ({"class_path": "torch.optim.SGD"}, {"lr": 0.0}, {"lr_by_name": {"*": 0.1}}):
        assert is_configured(OptimizerConfig(**config))
    unconfigured = ({}, {"lr_scale": 0.5}, {"lr_by_name": {}}, {"weight_decay": 0.1}, {"init_args": {"eps": 1e-8}})
    for config in (*unconfigured, {"trainable_by_name": {"*": True}}):
        assert not is_configured(OptimizerConfig(**config))


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


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"lr": 0.1, "init_args": {"lr": 0.2}}, "optimizer.init_args.lr has no effect beside optimizer.lr: "),
        (
            {"lr_by_name": {"*": 0.1}, "init_args": {"lr": 0.2}},
            "optimizer.init_args.lr has no effect beside optimizer.lr_by",
        ),
        (
            {"lr": 0.1, "weight_decay": 0.0, "init_args": {"weight_decay": 0.2}},
            "optimizer.init_args.weight_decay has no effect beside optimizer.weight_decay: ",
        ),
        (
            {"class_path": "torch.optim.Rprop", "lr": 0.1, "weight_decay": 0.1},
            "optimizer.weight_decay is set, but torch.optim.rprop.Rprop has no weight decay.",
        ),
        (
            {"class_path": "torch.optim.Rprop", "lr": 0.1, "weight_decay_by_name": {"*": 0.1}},
            "optimizer.weight_decay is set, but torch.optim.rprop.Rprop has no weight decay.",
        ),
    ],
)
def test_settings_without_effect_are_refused(settings, says):
    with pytest.raises(InputError) as caught:
        check_effects(OptimizerConfig(**settings))
    assert str(caught.value).startswith(says)


def test_a_stage_may_override_what_has_an_effect_before_it(tmp_path):
    """Only what is given together is refused, and before any stage is trained."""
    momentum = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1, "momentum": 0.9}}
    stages = [4, {"amount": 2, "optimizer": {"lr": 0.01}}]
    _, result = run(tmp_path / "rates", schedule=stages, optimizer=momentum)
    assert len(result.stages) == 2
    rprop = {"amount": 0, "optimizer": {"class_path": "torch.optim.Rprop"}}
    _, result = run(tmp_path / "class", schedule=[4, rprop], optimizer={"lr": 0.01, "weight_decay": 0.1})
    assert len(result.stages) == 2
    wrong = {"amount": 0, "optimizer": {"lr": 0.01, "init_args": {"lr": 0.2}}}
    with pytest.raises(InputError, match=r"init_args\.lr has no effect beside optimizer\.lr"):
        run(tmp_path / "wrong", schedule=[*stages, wrong], optimizer=momentum)
    assert not list((tmp_path / "wrong").rglob("result.json"))


def test_arguments_of_the_class_hold_where_no_setting_does():
    config = OptimizerConfig("torch.optim.SGD", init_args={"lr": 0.2, "weight_decay": 0.3})
    (group,) = build_optimizer(network(), config).param_groups
    assert (group["lr"], group["weight_decay"]) == (0.2, 0.3)
    (name, _), *others = network().named_parameters()
    config = OptimizerConfig("torch.optim.SGD", 0.1, weight_decay_by_name={name: 0.0}, init_args={"weight_decay": 0.3})
    assert sorted(group["weight_decay"] for group in build_optimizer(network(), config).param_groups) == [0.0, 0.3]
    assert others
    check_effects(OptimizerConfig("torch.optim.Rprop", lr=0.1, weight_decay=0.0))


def own_fused(module):
    return scale_learning_rates(torch.optim.AdamW(module.parameters(), 0.1, fused=True), 1.0)


@pytest.mark.parametrize("make", [lambda module: build_optimizer(module, OptimizerConfig(lr=0.1)), own_fused])
def test_gradients_can_be_clipped_in_mixed_precision(make):
    weight = fit(make, precision="bf16-mixed", gradient_clip_val=1.0).layer.weight
    assert weight.isfinite().all()

"""Optimizers, parameter groups and learning-rate schedules made from configuration."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import torch
from lightning.pytorch.cli import instantiate_class
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from gradual.errors import InputError
from gradual.nn.frozen import check_saved
from gradual.settings import LRScheduleConfig, OptimizerConfig
from gradual.stage.resume.lightning_internals import allow_clipping

DEFAULT_CLASS = "torch.optim.AdamW"
_EVERYTHING_ELSE = "other"
_BERT_LINEAR = "bert_linear"
# those of transformers that need neither arguments nor a metric, and our own
_SCHEDULES = (
    "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt",
    _BERT_LINEAR,
)  # fmt: skip
_ENDLESS = ("constant_with_warmup", "inverse_sqrt")


def trainable_parameters(module: nn.Module, by_name: Mapping[str, bool] | None) -> dict[str, bool]:
    """Whether each parameter of ``module`` is to be trained: as its first pattern says, or else as it is now.

    Raises:
        InputError: A pattern matches no parameter, or says that one is trained which checkpoints leave out.
    """
    names = [name for name, _ in module.named_parameters()]
    for pattern in by_name or {}:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise _matches_nothing(pattern, "parameter", names)
    trainable = {
        name: bool(_first_match(name, by_name, parameter.requires_grad)[1])
        for name, parameter in module.named_parameters()
    }
    check_saved(module, [name for name, p in module.named_parameters() if trainable[name] and not p.requires_grad])
    return trainable


def check_patterns(module: nn.Module, config: OptimizerConfig) -> None:
    """Check that no parameter-name pattern is without effect because patterns before it match all that it matches.

    It looks at all parameters, trained or not, so that the answer is the same for every stage. Patterns of stages are
    put before those of the experiment, and may match all that these match: check each of the two alone.

    Raises:
        InputError: One is never the first match, and those before it have other values.
    """
    names = [name for name, _ in module.named_parameters()]
    for setting in ("lr_by_name", "weight_decay_by_name", "trainable_by_name"):
        by_name: Mapping[str, float] = getattr(config, setting) or {}
        firsts = {name: _first_match(name, by_name, None)[0] or "" for name in names}
        for pattern, value in by_name.items():
            first = dict.fromkeys(firsts[name] for name in names if fnmatchcase(name, pattern))
            if pattern not in first and any(by_name[other] != value for other in first):
                before = " or ".join(f"'{other}'" for other in first)
                raise InputError(
                    f"optimizer.{setting}['{pattern}'] is never the first match: {before} before it takes all that it "
                    "matches. Put it first, or remove it."
                )


def parameter_groups(module: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Group the trainable parameters of ``module`` by learning rate and weight decay.

    Returns:
        Groups with ``name`` (the patterns that they match), ``params``, and ``lr`` and ``weight_decay`` if configured.

    Raises:
        InputError: A pattern matches no parameter, or a parameter has no learning rate.
    """
    unmatched = {pattern for by_name in (config.lr_by_name, config.weight_decay_by_name) for pattern in by_name or {}}
    groups: dict[tuple[float | None, float | None], dict[str, Any]] = {}
    trainable = trainable_parameters(module, config.trainable_by_name)
    for name, parameter in module.named_parameters():
        if not trainable[name]:
            continue
        lr_pattern, lr = _first_match(name, config.lr_by_name, config.lr)
        decay_pattern, weight_decay = _first_match(name, config.weight_decay_by_name, config.weight_decay)
        unmatched -= {pattern for pattern in unmatched if fnmatchcase(name, pattern)}
        if lr is None and config.lr_by_name:
            raise InputError(
                f"optimizer.lr_by_name has no pattern that matches the parameter '{name}': set optimizer.lr as well."
            )
        group = groups.setdefault((lr, weight_decay), {"name": set(), "params": []})
        group["name"] |= {pattern for pattern in (lr_pattern, decay_pattern) if pattern}
        group["params"].append(parameter)
        scale = config.lr_scale if config.lr_scale is not None else 1.0
        group.update({} if lr is None else {"lr": lr * scale})
        group.update({} if weight_decay is None else {"weight_decay": weight_decay})
    if unmatched:
        raise _matches_nothing(min(unmatched), "trainable parameter", trainable)
    return [{**group, "name": " ".join(sorted(group["name"])) or _EVERYTHING_ELSE} for group in groups.values()]


def build_optimizer(module: nn.Module, config: OptimizerConfig) -> Optimizer:
    """Make the configured optimizer for all trainable parameters of ``module``.

    The fused implementation, seven times as fast as the default one on a CPU, is used if the class has one for the
    parameters' device and ``init_args`` does not select another.

    Raises:
        InputError: The class does not exist, is not an optimizer, or does not accept the arguments.
    """
    class_path = config.class_path or DEFAULT_CLASS
    groups = parameter_groups(module, config)
    arguments = dict(config.init_args or {})
    cls = _optimizer_class(class_path)
    devices = {parameter.device.type for group in groups for parameter in group["params"]}
    asked = any(arguments.get(name) is not None for name in ("fused", "foreach")) or arguments.get("differentiable")
    fuse = "fused" in inspect.signature(cls).parameters and devices <= {"cpu", "cuda"} and not asked
    if fuse:
        arguments["fused"] = True
    if isinstance(arguments.get("betas"), list):
        arguments["betas"] = tuple(arguments["betas"])
    own_rate = ["lr" not in group for group in groups]
    try:
        optimizer: Optimizer = instantiate_class((groups,), {"class_path": class_path, "init_args": arguments})
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"optimizer: {class_path} does not accept these arguments: {error}.") from error
    for group, is_own in zip(optimizer.param_groups, own_rate):
        group["lr"] *= config.lr_scale if is_own and config.lr_scale is not None else 1.0
    if fuse:
        allow_clipping(optimizer)
    return optimizer


def build_lr_scheduler(optimizer: Optimizer, config: LRScheduleConfig, total_steps: float) -> dict[str, Any] | None:
    """Make the configured learning-rate schedule, in Lightning's form, to be stepped after every optimizer step.

    Args:
        optimizer: The optimizer to schedule.
        config: The schedule; None is returned if it is constant and has no warm-up.
        total_steps: Number of optimizer steps of the stage; infinite if neither epochs nor steps are limited.

    Raises:
        InputError: The schedule is unknown, or it needs the number of steps of a stage that has no limit.
    """
    from transformers.optimization import get_scheduler

    name, warmup = config.name or "constant", config.warmup or 0
    if name == "constant" and not warmup:
        return None
    if name == "constant":
        name = "constant_with_warmup"
    if name not in _SCHEDULES:
        raise InputError(f"lr_schedule.name is '{name}': it must be one of {', '.join(_SCHEDULES)}.")
    if math.isinf(total_steps) and depends_on_plan(config):
        raise InputError("The learning-rate schedule needs the stage's number of steps: set trainer.max_epochs.")
    is_fraction = _is_fraction(warmup)
    warmup_steps = math.ceil(warmup * total_steps) if is_fraction else int(warmup)
    steps = None if math.isinf(total_steps) else int(total_steps)
    if name == _BERT_LINEAR:
        length = warmup if is_fraction else warmup / total_steps
        scheduler = LambdaLR(optimizer, partial(_bert_linear, warmup=length, steps=total_steps))
    else:
        scheduler = get_scheduler(name, optimizer, num_warmup_steps=warmup_steps, num_training_steps=steps)
    if config.power is not None:
        raised: list[Callable[[int], float]] = [partial(_raised, each, config.power) for each in scheduler.lr_lambdas]
        scheduler = LambdaLR(optimizer, raised)  # takes the place of the one before
    return {"scheduler": scheduler, "interval": "step"}


def depends_on_plan(config: LRScheduleConfig) -> bool:
    """Whether a learning-rate schedule needs the number of steps of the stage."""
    name, warmup = config.name or "constant", config.warmup or 0
    return name not in ("constant", *_ENDLESS) or _is_fraction(warmup)


def _is_fraction(warmup: float) -> bool:
    """Whether a warm-up is a share of the steps of a stage, and not a number of them."""
    return isinstance(warmup, float) and warmup <= 1


def scale_learning_rates(configured: Any, factor: float) -> Any:
    """Multiply every learning rate in what a module's ``configure_optimizers`` returned by ``factor``.

    The base rates of schedulers, from which they compute the current ones, are multiplied as well. Fused optimizers may
    be clipped in mixed precision, as those that are configured.
    """
    parts = list(_parts(configured))
    for optimizer in (part for part in parts if isinstance(part, Optimizer)):
        if any(group.get("fused") for group in optimizer.param_groups):
            allow_clipping(optimizer)
        for group in optimizer.param_groups:
            for name in ("lr", "initial_lr", "max_lr", "min_lr"):  # the last two are OneCycleLR's
                if name in group:
                    group[name] *= factor
    for scheduler in (part for part in parts if not isinstance(part, Optimizer)):
        for name in ("base_lrs", "max_lrs", "min_lrs", "_last_lr"):
            if hasattr(scheduler, name):
                setattr(scheduler, name, [lr * factor for lr in getattr(scheduler, name)])
        if hasattr(scheduler, "eta_min"):
            scheduler.eta_min *= factor
    return configured


class BertAdam(Optimizer):
    """Adam with decoupled weight decay, without bias correction, and with the gradient of each parameter clipped.

    This is the optimizer of BERT's first release, used by SUMBT (Lee et al., 2019) and hence by the paper's dialogue
    experiment.

    Args:
        params: Parameters or groups.
        lr: Learning rate.
        betas: Decay rates of the running means of the gradient and of the squared gradient.
        eps: Added to the denominator.
        weight_decay: Decoupled weight decay.
        max_grad_norm: Maximum norm of the gradient of each parameter; 0 disables clipping.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        max_grad_norm: float = 1.0,
    ):
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "max_grad_norm": max_grad_norm}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._update([p for p in group["params"] if p.grad is not None], group)
        return loss

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        if not parameters:
            return
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] = {"mean": torch.zeros_like(parameter), "square": torch.zeros_like(parameter)}
        gradients: list[Tensor] = [p.grad for p in parameters]  # type: ignore[misc]
        means, squares = ([self.state[p][name] for p in parameters] for name in ("mean", "square"))
        beta1, beta2 = group["betas"]
        if group["max_grad_norm"] > 0:
            norms = torch._foreach_norm(gradients)
            factors = [torch.clamp(group["max_grad_norm"] / (norm + 1e-6), max=1.0) for norm in norms]
            gradients = list(torch._foreach_mul(gradients, factors))
        torch._foreach_lerp_(means, gradients, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - beta2)
        denominators = torch._foreach_sqrt(squares)
        torch._foreach_add_(denominators, group["eps"])
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_addcdiv_(parameters, means, denominators, value=-group["lr"])


def _bert_linear(step: int, warmup: float, steps: float) -> float:
    """The factor of a step, counted from 0, in the schedule of BERT's first release in PyTorch.

    Its decay begins with the first step, not with the last one of the warm-up, so it drops where that ends. ``warmup``
    is a fraction of the planned ``steps``.
    """
    done = step / steps
    return done / warmup if done < warmup else max(0.0, 1 - done)


def _raised(factor: Callable[[int], float], power: float, step: int) -> float:
    return float(factor(step) ** power)


def _matches_nothing(pattern: str, what: str, names: Iterable[str]) -> InputError:
    modules = ", ".join(sorted({name.split(".")[0] + ".*" for name in names}))
    return InputError(f"The parameter-name pattern '{pattern}' matches no {what}; names look like {modules}.")


def _first_match(
    name: str, by_name: Mapping[str, float] | None, default: float | None
) -> tuple[str | None, float | None]:
    for pattern, value in (by_name or {}).items():
        if fnmatchcase(name, pattern):
            return pattern, value
    return None, default


def _optimizer_class(class_path: str) -> type[Optimizer]:
    import importlib

    module, _, name = class_path.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        raise InputError(
            f"optimizer.class_path is '{class_path}', which cannot be imported: it must be the full path of a class, "
            f"such as {DEFAULT_CLASS}."
        ) from None
    if not (isinstance(cls, type) and issubclass(cls, Optimizer)):
        raise InputError(f"optimizer.class_path is '{class_path}', which is not a torch.optim.Optimizer.")
    return cls


def check_effects(config: OptimizerConfig) -> None:
    """Check that the settings of an optimizer that were given together do not make one another useless.

    Args:
        config: Those of the experiment, or those that a stage overrides. Not what a stage trains with in the end: there
            an override rightly takes the place of a setting.

    Raises:
        InputError: An argument of the class is given that another setting takes the place of, or a weight decay for a
            class of torch that has none.
    """
    # not weight_decay_by_name: parameters that no pattern matches have that of init_args
    replacing = {"lr": "lr", "lr_by_name": "lr", "weight_decay": "weight_decay"}
    for name, argument in replacing.items():
        if argument in (config.init_args or {}) and getattr(config, name) not in (None, {}):
            raise InputError(
                f"optimizer.init_args.{argument} has no effect beside optimizer.{name}: leave it out of init_args."
            )
    decays = [config.weight_decay, *(config.weight_decay_by_name or {}).values()]
    if config.class_path is None or not any(decays):
        return
    cls = _optimizer_class(config.class_path)
    if cls.__module__.startswith("torch.optim.") and "weight_decay" not in inspect.signature(cls).parameters:
        raise InputError(f"optimizer.weight_decay is set, but {cls.__module__}.{cls.__qualname__} has no weight decay.")


def _parts(configured: Any) -> Iterable[Any]:
    if isinstance(configured, dict):
        for value in configured.values():
            yield from _parts(value)
    elif isinstance(configured, list | tuple):
        for value in configured:
            yield from _parts(value)
    elif configured is not None:
        yield configured
        yield from _parts(getattr(configured, "_schedulers", None))  # of SequentialLR and ChainedScheduler

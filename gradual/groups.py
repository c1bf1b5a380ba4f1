"""Groups of settings where something else was given, such as an optimizer of torch's: what to write instead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from gradual.arguments import Accepted, did_you_mean, of_hint
from gradual.schedule import LRScheduleConfig, OptimizerConfig


def group(cls: type[Any], example: str, advice: Callable[[Any], str] = lambda value: "") -> Accepted:
    """A group of settings.

    Args:
        cls: Its dataclass.
        example: A mapping, as it would be written.
        advice: What to write instead of a value that is none.
    """
    return replace(of_hint(cls).advised(advice), words=f"a mapping of settings, such as {example}")


def _of_optimizer(value: Any) -> str:
    """The settings that an optimizer, its class, its name or a learning rate stands for."""
    from torch import optim

    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"write optimizer={{'lr': {value}}}"
    if isinstance(value, str):
        classes = {name.lower(): name for name in vars(optim) if name[:1].isupper() and name != "Optimizer"}
        if "." not in value and value.lower() not in classes:
            return did_you_mean(value.lower(), classes).strip().lower().removesuffix("?")
        class_path = value if "." in value else f"torch.optim.{classes[value.lower()]}"
    else:
        cls = value if isinstance(value, type) else type(value)
        if not issubclass(cls, optim.Optimizer):
            return ""
        of_torch = getattr(optim, cls.__name__, None) is cls
        class_path = f"torch.optim.{cls.__name__}" if of_torch else f"{cls.__module__}.{cls.__qualname__}"
    lr = value.defaults["lr"] if isinstance(value, optim.Optimizer) and "lr" in value.defaults else 0.001
    return f"each stage makes its own: write optimizer={{'class_path': '{class_path}', 'lr': {lr}}}"


def _of_lr_schedule(value: Any) -> str:
    return f"write lr_schedule={{'name': '{value}'}}" if isinstance(value, str) else ""


OPTIMIZER = group(OptimizerConfig, "{'lr': 0.0001}", _of_optimizer)
LR_SCHEDULE = group(LRScheduleConfig, "{'name': 'linear'}", _of_lr_schedule)

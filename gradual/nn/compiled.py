"""Modules that ``torch.compile`` wraps: their parameters have it in their names, and whole ones are of its type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.compile import from_compiled, to_uncompiled
from torch import nn
from torch._dynamo import OptimizedModule

_WRAPPER = "_orig_mod"


def lightning_module(model: Any) -> Any:
    """The LightningModule of a compiled one, whose steps run compiled; anything else as it is."""
    if not isinstance(model, OptimizedModule) or not isinstance(model._orig_mod, LightningModule):
        return model
    to_uncompiled(model)  # otherwise, from_compiled would wrap steps that it has wrapped before
    return from_compiled(model)


def plain_name(name: str) -> str:
    """The name that a parameter or a module has where nothing is compiled."""
    return ".".join(part for part in name.split(".") if part != _WRAPPER)


def named_as_in(module: nn.Module, state: Mapping[str, Any]) -> dict[str, Any]:
    """A ``state_dict`` with the names of ``module``, whether it or the module that it comes from is compiled."""
    own = {plain_name(name): name for name in module.state_dict()}
    return {own.get(plain_name(name), name): value for name, value in state.items()}

"""Modules compiled by ``torch.compile``, which wraps them and puts the wrapper into the names of their parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.compile import from_compiled, to_uncompiled
from torch import nn
from torch._dynamo import OptimizedModule

_WRAPPER = "_orig_mod"


def lightning_module(model: Any) -> Any:
    """Unwrap a compiled LightningModule into one whose steps run compiled; return anything else unchanged."""
    if not isinstance(model, OptimizedModule) or not isinstance(model._orig_mod, LightningModule):
        return model
    to_uncompiled(model)  # without this, from_compiled would wrap the steps a second time
    return from_compiled(model)


def plain_name(name: str) -> str:
    """Return the name of a parameter or module as it is without ``torch.compile``."""
    return ".".join(part for part in name.split(".") if part != _WRAPPER)


def named_as_in(module: nn.Module, state: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the entries of a ``state_dict`` to those of ``module``, where either of the two may be compiled."""
    own = {plain_name(name): name for name in module.state_dict()}
    return {own.get(plain_name(name), name): value for name, value in state.items()}

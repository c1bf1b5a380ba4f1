"""Modules compiled by ``torch.compile``, which wraps them and puts the wrapper into the names of their parameters."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.compile import from_compiled, to_uncompiled
from torch import nn
from torch._dynamo import OptimizedModule

_WRAPPER = "_orig_mod"
_VERSIONS = "_metadata"  # the attribute of a state_dict with the version of each module, which loading migrates from


def lightning_module(model: Any) -> Any:
    """Unwrap a compiled LightningModule into one whose steps run compiled; return anything else unchanged."""
    if not isinstance(model, OptimizedModule) or not isinstance(model._orig_mod, LightningModule):
        return model
    to_uncompiled(model)  # without this, from_compiled would wrap the steps a second time
    return from_compiled(model)


def plain_name(name: str) -> str:
    """Return the name of a parameter or module as it is without ``torch.compile``."""
    return ".".join(part for part in name.split(".") if part != _WRAPPER)


def plainly_named(state: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the entries of a ``state_dict`` to those of a module that is not compiled."""
    return with_versions({plain_name(name): value for name, value in state.items()}, state)


def named_as_in(module: nn.Module, state: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the entries of a ``state_dict`` to those of ``module``, where either of the two may be compiled."""
    own = module.state_dict()
    renamed = _renaming(own)
    named = {renamed(name): value for name, value in state.items()}
    return with_versions(named, state, _renaming(getattr(own, _VERSIONS, {})))


def with_versions(
    named: Mapping[str, Any], state: Mapping[str, Any], rename: Callable[[str], str] = plain_name
) -> dict[str, Any]:
    """Return ``named`` as a ``state_dict`` with the versions of the modules of another one.

    Modules whose state has changed its meaning (``torch.nn.Module._version``) migrate older states when they load them,
    and take a state without versions for an old one.

    Args:
        named: The entries.
        state: The ``state_dict`` that they come from.
        rename: Gives the name of a module in ``named`` from its name in ``state``.
    """
    made: dict[str, Any] = OrderedDict(named)
    versions = getattr(state, _VERSIONS, None)
    if versions is not None:
        setattr(made, _VERSIONS, OrderedDict((rename(name), version) for name, version in versions.items()))
    return made


def with_versions_of(module: nn.Module, state: dict[str, Any]) -> dict[str, Any]:
    """Give a ``state_dict`` of ``module`` the versions of its modules, which collecting it from shards loses."""
    if hasattr(state, _VERSIONS):
        return state
    found = OrderedDict(state)
    parts = module.named_modules(remove_duplicate=False)
    setattr(found, _VERSIONS, OrderedDict((name, {"version": part._version}) for name, part in parts))
    return found


def _renaming(own: Mapping[str, Any]) -> Callable[[str], str]:
    """Return what turns a name into the one that ``own`` has, which other names keep."""
    names = {plain_name(name): name for name in own}
    return lambda name: names.get(plain_name(name), name)

"""Frozen parameters that checkpoints leave out, such as those of a pretrained model under an adapter."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from torch import nn

from gradual.errors import InputError
from gradual.nn.compiled import plain_name

_LEFT_OUT = "_left_out"  # the attribute of a module with the names of these parameters in it
_SHOWN = 3  # names in a message


def leave_out(module: nn.Module, names: Iterable[str]) -> None:
    """Leave parameters that are never trained out of a module's ``state_dict``, and thus out of its checkpoints.

    ``load_state_dict`` does not miss them, even if it is strict; any other entry that is missing is still an error. The
    module must bring them itself, with the same values whenever it is made.

    Args:
        module: The module whose state is saved and loaded, not a part of it.
        names: Names of parameters in ``module``. Entries below such a name, which quantized weights have, are left out
            as well.
    """
    left_out = frozenset(map(plain_name, names))
    setattr(module, _LEFT_OUT, left_out | getattr(module, _LEFT_OUT, frozenset()))
    module.register_state_dict_post_hook(partial(_drop, left_out))
    module.register_load_state_dict_post_hook(partial(_excuse, left_out))


def saved_parameters(module: nn.Module) -> list[nn.Parameter]:
    """The parameters of a module that its checkpoints hold: all but those that ``leave_out`` was given."""
    held = {id(value) for value in module.state_dict(keep_vars=True).values()}
    return [parameter for parameter in module.parameters() if id(parameter) in held]


def leaves_out(module: nn.Module) -> bool:
    """Whether the checkpoints of a module hold only some of its parameters."""
    return len(saved_parameters(module)) < len(list(module.parameters()))


def check_saved(module: nn.Module, names: Iterable[str]) -> None:
    """Check that the checkpoints of a module hold parameters that are to be trained.

    Args:
        module: The module whose state is saved.
        names: Names of these parameters in it.

    Raises:
        InputError: Some of them are left out, so that what they learn would be lost.
    """
    # not by the state itself, which may be divided among processes
    parts = [(prefix, getattr(part, _LEFT_OUT, frozenset[str]())) for prefix, part in module.named_modules()]
    asked = [(f"{prefix}." if prefix else "", left_out) for prefix, left_out in parts if left_out]
    lost = [
        plain_name(name)
        for name in names
        if any(
            name.startswith(prefix) and _is_one_of(left_out, name.removeprefix(prefix)) for prefix, left_out in asked
        )
    ]
    if lost:
        listed = ", ".join([*lost[:_SHOWN], *(["..."] if len(lost) > _SHOWN else [])])
        raise InputError(
            f"Frozen weights that checkpoints leave out, as those under an adapter, would be trained ({listed}), and "
            "no later stage or saved model would have what they learn: keep them frozen, or train without lora."
        )


def _drop(left_out: frozenset[str], module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    """The hook of ``state_dict``."""
    for name in [name for name in state if _is_one_of(left_out, name.removeprefix(prefix))]:
        del state[name]


def _excuse(left_out: frozenset[str], module: nn.Module, keys: Any) -> None:
    """The hook of ``load_state_dict``, before it raises an error for ``keys.missing_keys``."""
    keys.missing_keys[:] = [name for name in keys.missing_keys if not _is_one_of(left_out, name)]


def _is_one_of(left_out: frozenset[str], name: str) -> bool:
    name = plain_name(name)
    while name and name not in left_out:
        name = name.rpartition(".")[0]
    return bool(name)

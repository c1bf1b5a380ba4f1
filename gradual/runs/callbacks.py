"""The user's callbacks in the identity of an experiment: their classes and arguments, as plain data."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import (
    BasePredictionWriter,
    DeviceStatsMonitor,
    LambdaCallback,
    LearningRateMonitor,
    ModelCheckpoint,
    ModelSummary,
    ProgressBar,
    ThroughputMonitor,
)

from gradual.digest import class_name
from gradual.runs.described import UNUSABLE, with_objects

_WATCHING = (
    *(BasePredictionWriter, DeviceStatsMonitor, LearningRateMonitor, ModelCheckpoint, ModelSummary, ProgressBar),
    ThroughputMonitor,
)
_OF_DISPLAY = ("verbose", "log_rank_zero_only")  # arguments


def callbacks_fingerprint(callbacks: Iterable[Callback]) -> dict[str, dict[str, Any]]:
    """Describe the callbacks that are Lightning's, or are derived from those, and change the training.

    ``GradientAccumulationScheduler``, ``EarlyStopping`` and ``BackboneFinetuning`` do; those that display, measure or
    save something do not, and are left out.

    Returns:
        The arguments of each callback, by the name of its class.
    """
    return _described(callback for callback in callbacks if _is_lightnings(callback))


def own_callbacks_fingerprint(callbacks: Iterable[Callback]) -> dict[str, dict[str, Any]]:
    """Describe the user's own callbacks, of which nothing tells whether they change the training."""
    return _described(callback for callback in callbacks if not _is_lightnings(callback))


def _is_lightnings(callback: Callback) -> bool:
    classes = [cls for cls in type(callback).__mro__ if cls not in (Callback, LambdaCallback)]
    return any(cls.__module__.startswith("lightning.pytorch.callbacks.") for cls in classes)


def _described(callbacks: Iterable[Callback]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for callback in callbacks:
        if isinstance(callback, _WATCHING) or type(callback) is Callback:
            continue
        name = same = class_name(type(callback))
        number = 1
        while name in found:
            number += 1
            name = f"{same} {number}"
        found[name] = _arguments(callback)
    return found


def _parameters(cls: type) -> list[str]:
    try:
        return list(inspect.signature(cls).parameters)
    except (TypeError, ValueError):  # a class that Python itself does not know the arguments of
        return []


def _arguments(callback: Callback) -> dict[str, Any]:
    """The arguments that a callback was made with, as far as it keeps them under their names.

    Other attributes may be what it has seen, such as when it was made.
    """
    kept, found = vars(callback), {}
    for cls in type(callback).__mro__[:-1]:
        for name in _parameters(cls):
            if name in _OF_DISPLAY or not (name in kept or f"_{name}" in kept):
                continue
            with suppress(*UNUSABLE):
                found[name] = with_objects(kept.get(name, kept.get(f"_{name}")))
    return found

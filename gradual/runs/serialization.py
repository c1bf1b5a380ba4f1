"""Checkpoints of plain data, from which states are restored exactly and without running code.

``torch.load(weights_only=True)`` reads tensors and Python's own types. States contain more: a scheduler's NumPy
numbers, a callback's path, a data module's array of indices. In a checkpoint these become the nearest plain value (a
number, text, a tensor), and a table of their original types allows them to be restored.
"""

from __future__ import annotations

import collections
import datetime
import decimal
import io
import pathlib
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from gradual.errors import InputError

TABLE = "gradual_types"
"""The table's key in a checkpoint."""

_PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes, bytearray})
_ACCEPTED = "tensors, numbers, text, lists, dicts, sets, NumPy numbers and arrays, paths and dates"

# by type: the plain value of a container
_CONTENT: dict[type, Callable[[Any], list[Any]]] = {
    frozenset: list,
    range: lambda value: [value.start, value.stop, value.step],
    collections.deque: lambda value: [list(value), value.maxlen],
}
# by kind: restores the original from the plain value
_MAKE: dict[str, Callable[[Any], Any]] = {
    "bytes": str.encode,
    "frozenset": frozenset,
    "range": lambda value: range(*value),
    "deque": lambda value: collections.deque(*value),
    "datetime": datetime.datetime.fromisoformat,
    "date": datetime.date.fromisoformat,
    "time": datetime.time.fromisoformat,
    "timedelta": lambda value: datetime.timedelta(*value),
    "uuid.UUID": uuid.UUID,
    "decimal.Decimal": decimal.Decimal,
    **{name: getattr(pathlib, name) for name in ("Path", "PurePosixPath", "PureWindowsPath")},
}


def to_plain(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a checkpoint to plain data, from which ``from_plain`` restores it; tensors are not copied.

    Raises:
        InputError: A state contains something that cannot be read back; the message says which state, and where.
    """
    plain, types = _Writer().convert(dict(checkpoint), ())
    return {**plain, TABLE: types} if types else plain


def from_plain(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Restore the checkpoint that ``to_plain`` converted."""
    types = checkpoint.get(TABLE)
    plain = {name: value for name, value in checkpoint.items() if name != TABLE}
    return _restored(plain, types) if types else plain


class _Writer:
    """Converts values; each method returns the plain value and the table of what it was, None if it was plain."""

    def convert(self, value: Any, path: tuple[Any, ...]) -> tuple[Any, dict[str, Any] | None]:
        cls = type(value)
        if cls is bytes and not value:  # torch cannot read an empty one
            return "", {"kind": "bytes"}
        if cls in _PLAIN or isinstance(value, torch.Tensor):
            return value, None
        if cls in (dict, collections.OrderedDict):
            return self._mapping(value, path)
        if cls in (list, tuple, set):
            return self._sequence(value, path)
        return self._other(value, path)

    def _mapping(self, value: Mapping[Any, Any], path: tuple[Any, ...]) -> tuple[Any, dict[str, Any] | None]:
        plain: dict[Any, Any] = collections.OrderedDict() if type(value) is collections.OrderedDict else {}
        inside, changed = {}, False
        for key, part in value.items():
            name = key.item() if isinstance(key, np.generic) else key  # equal, with the same hash
            if not _can_be_key(name):
                raise _refusal(key, (*path, "its keys"))
            plain[name], types = self.convert(part, (*path, name))
            changed = changed or plain[name] is not part or name is not key
            if types:
                inside[name] = types
        return (plain if changed else value), ({"inside": inside} if inside else None)

    def _sequence(self, value: Any, path: tuple[Any, ...]) -> tuple[Any, dict[str, Any] | None]:
        if set(map(type, value)) <= _PLAIN - {bytes}:  # long lists of numbers are common
            return value, None
        parts = list(value)
        converted = [self.convert(part, (*path, number)) for number, part in enumerate(parts)]
        inside = {number: types for number, (_, types) in enumerate(converted) if types}
        if not inside and all(plain is part for (plain, _), part in zip(converted, parts)):
            return value, None
        plain = [plain for plain, _ in converted]
        if isinstance(value, set):  # it has no order by which the table could refer to its elements
            return plain, {"kind": "set", "inside": inside}
        return type(value)(plain), ({"inside": inside} if inside else None)

    def _other(self, value: Any, path: tuple[Any, ...]) -> tuple[Any, dict[str, Any] | None]:
        cls = type(value)
        if isinstance(value, np.generic | np.ndarray):
            converted = _from_numpy(value)
        elif isinstance(value, pathlib.PurePath):
            name = "Path" if isinstance(value, pathlib.Path) else cls.__name__
            converted = (str(value), name)
        elif cls in _CONTENT:
            plain, types = self.convert(_CONTENT[cls](value), path)
            return plain, {"kind": cls.__name__, **(types or {})}
        elif isinstance(value, datetime.date | datetime.time) and cls.__module__ == "datetime":
            zone = getattr(value, "tzinfo", None)
            converted = (value.isoformat(), cls.__name__) if zone is None or type(zone) is datetime.timezone else None
        elif cls is datetime.timedelta:
            converted = ([value.days, value.seconds, value.microseconds], "timedelta")
        elif cls in (uuid.UUID, decimal.Decimal):
            converted = (str(value), f"{cls.__module__}.{cls.__name__}")
        else:
            converted = None
        if converted is not None:
            plain, types = self.convert(converted[0], path)
            return plain, {"kind": converted[1], **(types or {})}
        if not _can_be_read_back(value):
            raise _refusal(value, path)
        return value, None


def _from_numpy(value: Any) -> tuple[Any, str] | None:
    """Return the plain value of a NumPy number or array, and its type; None where there is no plain value."""
    kind, letter = value.dtype.str, value.dtype.kind
    if isinstance(value, np.generic):
        plain = value.item()
        return (
            (plain, f"numpy.number {kind}") if type(plain) in _PLAIN and plain != b"" and letter not in "VO" else None
        )
    if type(value) is not np.ndarray or letter not in "biufcmMUS":
        return None
    if letter in "US":
        return value.tolist(), f"numpy.array {kind}"
    native = np.array(value, dtype=value.dtype.newbyteorder("="), copy=True, order="C")
    try:
        return torch.from_numpy(native.view(np.int64) if letter in "mM" else native), f"numpy.array {kind}"
    except TypeError:  # a type that torch does not have
        return None


def _to_numpy(value: Any, kind: str) -> Any:
    what, _, name = kind.partition(" ")
    dtype = np.dtype(name)
    if what == "numpy.number":
        return dtype.type(value)
    if not isinstance(value, torch.Tensor):
        return np.array(value, dtype=dtype)
    array = value.cpu().numpy().copy()  # the tensor may be mapped from the file
    return array.view(dtype) if dtype.kind in "mM" else array.astype(dtype, copy=False)


def _restored(value: Any, types: Mapping[str, Any]) -> Any:
    inside = types.get("inside") or {}
    if isinstance(value, dict):
        for name, part in inside.items():
            value[name] = _restored(value[name], part)
    elif inside:
        value = type(value)(
            _restored(part, inside[number]) if number in inside else part for number, part in enumerate(value)
        )
    kind = types.get("kind")
    if kind is None:
        return value
    if kind == "set":
        return set(value)
    return _to_numpy(value, kind) if kind.startswith("numpy.") else _MAKE[kind](value)


def _can_be_key(key: Any) -> bool:
    return (type(key) in _PLAIN and key != b"") or (type(key) is tuple and all(map(_can_be_key, key)))


def _can_be_read_back(value: Any) -> bool:
    """Whether torch reads a value of any other type (its own, a Counter) without running code."""
    file = io.BytesIO()
    try:
        torch.save(value, file)
        file.seek(0)
        torch.load(file, weights_only=True)
    except Exception:  # pickling anything may raise anything
        return False
    return True


_PARTS = {
    "optimizer_states": "The state of the optimizer",
    "lr_schedulers": "The state of the learning-rate scheduler",
    "state_dict": "The state of the module",
    "hyper_parameters": "The hyperparameters",
    "datamodule_hyper_parameters": "The hyperparameters of the data module",
}


def _refusal(value: Any, path: tuple[Any, ...]) -> InputError:
    """Make the error for a value that cannot be read back, with its place."""
    part, inside = path[0], path[1:]
    if part == "callbacks" and inside:
        name = str(inside[0]).partition("{")[0].rpartition(".")[2]  # Lightning's key of it
        owner = f"The state of the callback {name}"
        inside = inside[1:]
    elif part in _PARTS:
        owner = _PARTS[part]
    else:
        owner = "What on_save_checkpoint or a data module's state_dict adds to the checkpoint"
        inside = path
    cls = type(value)
    name = cls.__name__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__name__}"
    if isinstance(value, np.ndarray):
        name += f" of {value.dtype}"
    where = f" under {'.'.join(map(str, inside))!r:.100}" if inside else ""
    return InputError(f"{owner} holds a {name}{where}, which cannot be read back from a checkpoint: use {_ACCEPTED}.")

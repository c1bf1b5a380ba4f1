"""Hyperparameters as plain data: what an attribute or an argument is, to be compared with that of a later run."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import enum
import functools
import math
import types
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradual.digest import Undigestible, class_name, digest

_LONG = 50  # values with more elements are represented by a digest; mappings and texts with four times as many
_HISTORY = 10_000  # of collections with more elements, only the number of elements is compared
_OF_VERSIONS = {"transformers_version", "_name_or_path"}  # of a configuration of transformers


class Nothing(Exception):
    """The value is not a hyperparameter."""


UNUSABLE = (Nothing, Undigestible, RecursionError)
"""Exceptions with which a value shows that it is not a hyperparameter."""


def is_configuration(value: Any) -> bool:
    """Whether the value is a configuration of transformers or a similar library."""
    named = any(cls.__name__.endswith("Config") for cls in type(value).__mro__)
    return named and callable(getattr(value, "to_dict", None))


def plain(value: Any) -> Any:
    """Convert a hyperparameter to JSON types: long values to a digest, and mappings without unsuitable entries.

    Raises:
        Nothing: The value is not a hyperparameter.
        Undigestible: Part of a long value has no content that would be the same in another process.
    """
    return _plain(value, objects=False)


def with_objects(value: Any) -> Any:
    """Convert a hyperparameter like ``plain``, and with it objects that are little more than their attributes.

    These are partial functions, bound methods, namespaces, and objects of classes made with attrs or pydantic.

    Raises:
        Nothing: The value is not a hyperparameter.
        Undigestible: Part of a long value has no content that would be the same in another process.
    """
    return _plain(value, objects=True)


def _plain(value: Any, objects: bool) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, str):
        return value if len(value) <= 4 * _LONG else f"text {digest(value)}"
    if isinstance(value, np.generic):
        return _plain(value.item(), objects)
    if isinstance(value, torch.dtype | datetime.timedelta):
        return str(value)
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType):
        return class_name(value)
    return _plain_parts(value, objects)


def _plain_parts(value: Any, objects: bool) -> Any:
    if isinstance(value, Tensor | np.ndarray):
        return f"{value.dtype} {list(value.shape)} {digest(value)}"
    if is_configuration(value):
        value = {name: part for name, part in value.to_dict().items() if name not in _OF_VERSIONS}
    elif dataclasses.is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    elif objects:
        value = _parts_of_object(value)
    if isinstance(value, Mapping):
        if len(value) > _HISTORY:
            return f"{len(value)} entries"
        found = {}
        for name, part in value.items():
            try:
                found[str(name)] = _plain(part, objects)
            except (Nothing, Undigestible):  # but a value that contains itself is unsuitable as a whole
                continue
        return found if len(found) <= 4 * _LONG else f"{len(found)} entries {digest(found)}"
    if isinstance(value, list | tuple | set | frozenset):
        if len(value) > _HISTORY:
            return f"{len(value)} values"
        parts = [_plain(part, objects) for part in value]
        if isinstance(value, set | frozenset):
            parts.sort(key=digest)
        return parts if len(parts) <= _LONG else f"{len(parts)} values {digest(parts)}"
    raise Nothing


def _parts_of_object(value: Any) -> Any:
    """Return the attributes of an object that is little more than these, and anything else unchanged."""
    if isinstance(value, functools.partial):
        arguments = dict(enumerate(value.args)) | value.keywords
        return {"class": class_name(value.func), **arguments}
    if isinstance(value, types.MethodType):
        return {"class": class_name(value), "of": value.__self__}
    if isinstance(value, types.SimpleNamespace | argparse.Namespace):  # also those of jsonargparse
        return vars(value)
    if hasattr(type(value), "__attrs_attrs__"):
        names = [attribute.name for attribute in type(value).__attrs_attrs__]
        return {"class": class_name(type(value)), **{name: getattr(value, name, None) for name in names}}
    if hasattr(type(value), "__pydantic_fields__"):
        return {"class": class_name(type(value)), **dict(value)}
    return value

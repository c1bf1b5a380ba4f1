"""Operations on configuration dataclasses: merge them, and convert them from mappings and to plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from gradual.checks import check, type_hints
from gradual.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")


def merge(default: Config, override: Config) -> Config:
    """Return ``default`` with every field that is set in ``override``.

    Nested configurations are merged in the same way. Mappings are merged with the entries of ``override`` first, since
    the first pattern that matches applies.
    """
    changes: dict[str, Any] = {}
    for config_field in fields(override):
        value, old = getattr(override, config_field.name), getattr(default, config_field.name)
        if isinstance(value, dict):
            value = {**value, **{key: entry for key, entry in (old or {}).items() if key not in value}}
        elif is_dataclass(value):
            value = merge(old, value)
        if value is not None:
            changes[config_field.name] = value
    return replace(default, **changes)


def as_plain(config: Any) -> dict[str, Any]:
    """The fields of a dataclass that are set, as plain data for YAML and JSON."""
    plain = {}
    for config_field in fields(config):
        value = getattr(config, config_field.name)
        value = as_plain(value) if is_dataclass(value) else value
        if value is not None and value != {}:
            plain[config_field.name] = value
    return plain


def from_mapping(cls: type[Any], values: Mapping[str, Any], where: str) -> Any:
    """Make a configuration dataclass, with the nested ones, from a mapping.

    Args:
        cls: The dataclass.
        values: The mapping.
        where: What the mapping belongs to, for messages.

    Raises:
        InputError: A name is no field of the class, or a value has the wrong type.
    """
    hints = type_hints(cls)
    arguments = {}
    for name, value in values.items():
        if name not in hints:
            hint = did_you_mean(name, hints)
            raise InputError(f"{where} has no setting '{name}'; its settings are {', '.join(hints)}.{hint}")
        if is_dataclass(hints[name]) and value is None:
            continue  # a YAML key without a value
        if is_dataclass(hints[name]) and isinstance(value, Mapping):
            value = from_mapping(hints[name], value, f"{where}, {name}")
        arguments[name] = _as_type(value, hints[name], f"{where}: {name}")
    try:
        return cls(**arguments)
    except TypeError as error:
        raise InputError(f"{where} is incomplete: {error}.") from error
    except InputError as error:
        if str(error).startswith(where):  # as groups of the experiment, such as optimizer
            raise
        raise InputError(f"{where}: {error}") from error


def _as_type(value: Any, hint: Any, where: str) -> Any:
    """Check ``value`` against a field's type; text such as ``1e-4``, which YAML 1.1 reads as text, becomes a number."""
    accepted = getattr(hint, "__args__", (hint,))
    if isinstance(value, str) and float in accepted and str not in accepted:
        return _number(value, int in accepted, where)
    if isinstance(value, Mapping) and dict[str, float] in accepted:
        return {
            key: _number(text, False, f"{where}['{key}']") if isinstance(text, str) else text
            for key, text in value.items()
        }
    if isinstance(value, Mapping) and dict[str, bool] in accepted:  # whose class names the entry that is wrong
        return dict(value)
    return check(where, value, hint)


def _number(text: str, may_be_int: bool, where: str) -> int | float:
    for kind in (int, float) if may_be_int else (float,):
        try:
            return kind(text)
        except ValueError:
            continue
    raise InputError(f"{where} is {text!r}: it must be a number.")

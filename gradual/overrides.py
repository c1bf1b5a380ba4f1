"""Configuration dataclasses: merged field by field, from mappings and to plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from gradual.checks import check
from gradual.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")


def merge(default: Config, override: Config) -> Config:
    """``default`` with every field that ``override`` sets; mappings are merged, the override's entries first.

    Fields that are configurations themselves are merged likewise.
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
    """The fields of a dataclass that are set, as plain data that YAML and JSON can hold."""
    plain = {}
    for config_field in fields(config):
        value = getattr(config, config_field.name)
        value = as_plain(value) if is_dataclass(value) else value
        if value is not None and value != {}:
            plain[config_field.name] = value
    return plain


def from_mapping(cls: type[Any], values: Mapping[str, Any], where: str) -> Any:
    """A configuration dataclass from a mapping, nested ones included.

    Raises:
        InputError: A name that is no field (with the closest one), or a value of another type; ``where`` says in what.
    """
    hints = get_type_hints(cls)
    arguments = {}
    for name, value in values.items():
        if name not in hints:
            hint = did_you_mean(name, hints)
            raise InputError(f"{where} has no setting '{name}'; accepted are {', '.join(hints)}.{hint}")
        if is_dataclass(hints[name]) and value is None:
            continue  # a YAML key with nothing behind it
        if is_dataclass(hints[name]) and isinstance(value, Mapping):
            value = from_mapping(hints[name], value, f"{where}, {name}")
        arguments[name] = _as_type(value, hints[name], f"{where}: {name}")
    try:
        return cls(**arguments)
    except TypeError as error:
        raise InputError(f"{where} lacks a setting: {error}.") from error


def _as_type(value: Any, hint: Any, where: str) -> Any:
    """``value`` checked against a field's type; YAML 1.1 reads ``1e-4`` as text, so such text becomes a number."""
    accepted = getattr(hint, "__args__", (hint,))
    if isinstance(value, str) and float in accepted and str not in accepted:
        return _number(value, int in accepted, where)
    if isinstance(value, Mapping) and dict[str, float] in accepted:
        return {
            key: _number(text, False, f"{where}['{key}']") if isinstance(text, str) else text
            for key, text in value.items()
        }
    return check(where, value, hint)


def _number(text: str, may_be_int: bool, where: str) -> int | float:
    for kind in (int, float) if may_be_int else (float,):
        try:
            return kind(text)
        except ValueError:
            continue
    raise InputError(f"{where} is {text!r}: accepted is a number.")

"""The classes of model and data before anything is parsed: short names, and the data module that a model brings."""

from __future__ import annotations

import os
import pkgutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from gradual.cli.class_paths import OWN_CLASSES


def import_chosen(command: str, arguments: Sequence[str]) -> str | None:
    """Import the classes of the package that are named without their modules, for the parser to find them.

    Args:
        command: The command.
        arguments: Its arguments.

    Returns:
        The class path of the data module that belongs to the model; None for a model that brings none. It is the
        default, which options and files may replace.
    """
    model: str | None = None
    for group, own in OWN_CLASSES.items():
        short = {path.rpartition(".")[2]: path for path in own}
        for name in _named(group, command, arguments):
            if name in short:
                pkgutil.resolve_name(short[name])
            if group == "model":
                model = short.get(name, name)
    return None if model is None else _data_of(model)


def _data_of(path: str) -> str | None:
    """The data module of a class of models."""
    try:
        return getattr(pkgutil.resolve_name(path), "datamodule_class", None)
    except Exception:  # the parser reports what is wrong with the path
        return None


def _named(group: str, command: str, arguments: Sequence[str]) -> Iterator[str]:
    """The classes that are given for ``model`` or ``data``; the one that applies last."""
    variable = os.environ.get(f"GRADUAL_{command.upper()}__{group.upper()}")
    if variable:
        yield from _class_in(_parsed(variable))
    options = list(_options(arguments))
    for name, value in options:
        if name in ("--config", "-c"):
            content = _content(value)
            yield from _class_in(content.get(group) if isinstance(content, dict) else None)
    for name, value in options:
        if name in (f"--{group}", f"--{group}.class_path", f"--{group}.help"):
            yield from _class_in(_parsed(value))


def _options(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    for position, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        yield name, value if equals else "".join(arguments[position + 1 : position + 2])


def _class_in(value: Any) -> Iterator[str]:
    path = value.get("class_path") if isinstance(value, dict) else value
    if isinstance(path, str):
        yield path


def _content(file: str) -> Any:
    """A configuration, from a file or as text; None for what the parser refuses."""
    try:
        return _parsed(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return _parsed(file)


def _parsed(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError):
        return None

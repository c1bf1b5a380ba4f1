"""Checks of configuration files before they are parsed, with file and line in every message."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from gradual.data.text import read_text
from gradual.errors import InputError

GROUPS = ("optimizer", "lr_schedule", "collapse", "later_stages", "last_stage", "search", "trainer")
"""Settings that are groups of settings."""

OBJECTS = ("model", "data", "logger", "callbacks", "plugins", "profiler", "strategy", "accelerator")
"""Settings that may be objects, written as a class_path with init_args."""


def check_configuration(path: Path) -> None:
    """Refuse a file that is not a configuration, without making or running anything in it.

    Raises:
        InputError: The file cannot be read, is not UTF-8, YAML or a mapping, asks for Python objects, has a setting
            twice, has no mapping for a group of settings, or has the settings of a class beside its path.
    """
    accepted = "it must be a mapping from settings to values"
    try:
        top = yaml.compose(read_text(path), Loader=yaml.SafeLoader)
        if top is None:
            return
        if not isinstance(top, yaml.MappingNode):
            raise InputError(f"{path} is {'a list' if isinstance(top, yaml.SequenceNode) else 'text'}: {accepted}.")
        _check(top, path, set())
        _check_groups(top, path)
        _check_classes(top, path)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InputError(f"{path}:{line}: not valid YAML ({error.problem}); {accepted}.") from error
    except (yaml.YAMLError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: not valid YAML ({reason}); {accepted}.") from error


def strategies_in(files: Sequence[Any]) -> dict[str, Any] | None:
    """The strategies in the last of several configuration files that has any; None if no file has."""
    for path in reversed(files):
        if path is None:  # given as text instead of a file
            continue
        found = (yaml.safe_load(Path(str(path)).read_text(encoding="utf-8")) or {}).get("strategies")
        if isinstance(found, dict):
            return found
    return None


def _check_groups(node: yaml.MappingNode, path: Path) -> None:
    for key, value in node.value:
        if key.value not in GROUPS:
            continue
        if isinstance(value, yaml.MappingNode):
            _check_groups(value, path)
        elif value.tag != "tag:yaml.org,2002:str":  # text may be the name of a file
            line = key.start_mark.line + 1
            raise InputError(f"{path}:{line}: {key.value} has no settings: it must be a mapping, or be left out.")


def _check_classes(node: yaml.MappingNode, path: Path) -> None:
    for key, value in node.value:
        if key.value == "trainer" and isinstance(value, yaml.MappingNode):
            _check_classes(value, path)
        for item in value.value if isinstance(value, yaml.SequenceNode) else [value]:
            _check_class(key.value, item, path)


def _check_class(name: str, node: yaml.Node, path: Path) -> None:
    """Refuse the settings of a class beside its class_path instead of in init_args."""
    if name not in OBJECTS or not isinstance(node, yaml.MappingNode):
        return
    keys = {key.value: key for key, _ in node.value}
    others = [key for key in keys if key not in ("class_path", "init_args", "dict_kwargs")]
    if "class_path" in keys and others:
        line = keys[others[0]].start_mark.line + 1
        raise InputError(f"{path}:{line}: {name} has {others[0]!r:.80} beside class_path; they belong in init_args.")


def _check(node: yaml.Node, path: Path, seen: set[int]) -> None:
    if id(node) in seen:  # an alias
        return
    seen.add(id(node))
    where = f"{path}:{node.start_mark.line + 1}"
    if "python/" in node.tag:
        raise InputError(f"{where}: the tag {node.tag!r:.80} asks for a Python object, but only plain data is allowed.")
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check(item, path, seen)
    elif isinstance(node, yaml.MappingNode):
        names: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in names and key.value != "<<":
                    line = key.start_mark.line + 1
                    raise InputError(f"{path}:{line}: the setting {key.value!r:.80} appears twice.")
                names.add(key.value)
            _check(key, path, seen)
            _check(value, path, seen)

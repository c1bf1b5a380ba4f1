"""Plain data from JSON files, checked as it is read: what does not fit ends in a sentence that names the file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gradual.errors import InputError
from gradual.runs.files import read_json


def read_mapping(file: Path) -> dict[str, Any]:
    """The content of a JSON file that holds a mapping."""
    content = read_json(file)
    if not isinstance(content, dict):
        raise InputError(f"{file} holds {kind_of(content)}: accepted is a mapping.")
    return content


def read_lines(file: Path, still_written: bool = False) -> Iterator[tuple[int, dict[str, Any]]]:
    """The mappings of a file of JSON lines, counted from 1; a last line that is still being written is left out."""
    try:
        *whole, rest = file.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read: {error}.") from error
    if rest and not still_written:
        whole.append(rest)
    for number, line in enumerate(whole, start=1):
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise InputError(f"{file}, line {number} is no JSON: {error}.") from error
        if not isinstance(entry, dict):
            raise InputError(f"{file}, line {number} holds {kind_of(entry)}: accepted is a mapping.")
        yield number, entry


def mapping_in(content: Mapping[str, Any], name: str, file: Path) -> dict[str, Any]:
    """The mapping called ``name`` in what was read from ``file``."""
    found = content.get(name)
    if not isinstance(found, dict):
        raise InputError(f"{file}: '{name}' is {kind_of(found)}: accepted is a mapping.")
    return found


def list_in(content: Mapping[str, Any], name: str, kind: type, file: Path) -> list[Any]:
    """The list called ``name`` in what was read from ``file``, its entries of one kind."""
    found = content.get(name)
    if not isinstance(found, list):
        raise InputError(f"{file}: '{name}' is {kind_of(found)}: accepted is a list.")
    for value in found:
        if not isinstance(value, kind) or isinstance(value, bool):
            accepted = {int: "whole numbers", str: "texts"}[kind]
            raise InputError(f"{file}: '{name}' holds {value!r}: accepted are {accepted}.")
    return found


def is_number(value: Any) -> bool:
    """Whether ``value`` is a number, and not true or false."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def kind_of(value: Any) -> str:
    """What ``value`` is, in words."""
    for kind, words in ((dict, "a mapping"), (list, "a list"), (str, "a text"), (type(None), "missing")):
        if isinstance(value, kind):
            return words
    return repr(value)

"""Reads plain data from JSON files and checks it; invalid content raises an error that names the file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gradual.errors import InputError
from gradual.files import read_json


def read_mapping(file: Path) -> dict[str, Any]:
    """The content of a JSON file that holds a mapping."""
    content = read_json(file)
    if not isinstance(content, dict):
        raise InputError(f"{file} holds {kind_of(content)}: it must hold a mapping.")
    return content


def read_lines(file: Path, still_written: bool = False) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the mappings of a JSON lines file with their line numbers, from 1.

    Args:
        file: The file.
        still_written: Whether it may still be growing; a last line without a line end is then left out.
    """
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
            raise InputError(f"{file}, line {number} is not JSON: {error}.") from error
        if not isinstance(entry, dict):
            raise InputError(f"{file}, line {number} holds {kind_of(entry)}: it must hold a mapping.")
        yield number, entry


def mapping_in(content: Mapping[str, Any], name: str, file: Path) -> dict[str, Any]:
    """The mapping under ``name`` in the content of ``file``."""
    found = content.get(name)
    if not isinstance(found, dict):
        raise InputError(f"{file}: '{name}' is {kind_of(found)}: it must be a mapping.")
    return found


def list_in(content: Mapping[str, Any], name: str, kind: type, file: Path) -> list[Any]:
    """The list under ``name`` in the content of ``file``, with entries of type ``kind``."""
    found = content.get(name)
    if not isinstance(found, list):
        raise InputError(f"{file}: '{name}' is {kind_of(found)}: it must be a list.")
    for value in found:
        if not isinstance(value, kind) or isinstance(value, bool):
            expected = {int: "integers", str: "text", list: "lists"}[kind]
            raise InputError(f"{file}: '{name}' holds {value!r}: it must hold only {expected}.")
    return found


def kind_of(value: Any) -> str:
    """The type of ``value`` in words, or the value itself if it is a number or a Boolean."""
    for kind, words in ((dict, "a mapping"), (list, "a list"), (str, "text"), (type(None), "missing")):
        if isinstance(value, kind):
            return words
    return repr(value)

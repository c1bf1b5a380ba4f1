"""Text files that users give, read whole."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from gradual.errors import InputError


class JSONError(Exception):
    """A text is not JSON that can be used; the message says why, without its place.

    Attributes:
        line: The line, counted from 1; 0 where it is not known.
    """

    def __init__(self, problem: str, line: int = 0):
        super().__init__(problem)
        self.line = line


def read_text(path: Path) -> str:
    """The content of a UTF-8 file, without a byte order mark; line ends stay as they are.

    Raises:
        InputError: The file cannot be read, or is not UTF-8; the message names the line.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path}:{line}: not UTF-8 (byte 0x{error.object[error.start]:02x}); convert the file."
        ) from None
    except (OSError, ValueError) as error:  # a path may have a character that none can have
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}.") from None


def parse_json(text: str) -> Any:
    """What a text says in JSON, where it says it without doubt.

    Raises:
        JSONError: It is not JSON, names a field twice, has a number or a nesting that Python does not take, or half of
            a character.
    """
    try:
        content = _DECODER.decode(text)
        if "\\u" in text:
            _check_characters(text, content)
    except (ValueError, RecursionError) as error:
        raise _json_error(error) from error
    return content


def parse_json_array(text: str) -> Iterator[tuple[int, Any]]:
    """The entries of a text that is one JSON array, each with its line; parsed one after the other.

    Raises:
        JSONError: The text, or an entry, is nothing that ``parse_json`` would take; with the line.
    """
    line, start, close, escapes = 1, 0, False, "\\u" in text
    end = _space(text, _space(text, 0) + 1)  # behind the bracket
    try:
        while text[end : end + 1] != "]" or close:
            line, start = line + text.count("\n", start, end), end
            value, end = _DECODER.raw_decode(text, start)
            if escapes:
                _check_characters(text[start:end], value)
            yield line, value
            end = _space(text, end)
            close = text[end : end + 1] == ","
            if close:
                end = _space(text, end + 1)
            elif text[end : end + 1] != "]":
                raise json.JSONDecodeError("Expecting ',' delimiter", text, end)
        if _space(text, end + 1) != len(text):
            raise json.JSONDecodeError("Extra data", text, _space(text, end + 1))
    except (ValueError, RecursionError) as error:
        raise _json_error(error, line) from error


def is_line(text: str) -> bool:
    """Whether a text has something to see and no line end inside: a list of such texts can be written one a line."""
    return bool(text.strip()) and text.splitlines() == [text]


def _space(text: str, start: int) -> int:
    """The end of the white space from ``start`` on."""
    while text[start : start + 1] in _SPACES:
        start += 1
    return start


def _check_characters(text: str, content: Any) -> None:
    if _SURROGATE.search(text):
        json.dumps(content, ensure_ascii=False).encode()


def _json_error(error: Exception, line: int = 0) -> JSONError:
    if isinstance(error, json.JSONDecodeError):
        return JSONError(f"not JSON ({error.msg}, column {error.colno})", error.lineno)
    if isinstance(error, UnicodeEncodeError):
        escape = f"\\u{ord(error.object[error.start]):04x}"
        return JSONError(f"has the escape {escape} alone, half of a character", line)
    return JSONError(f"not JSON that can be read ({error})", line)


def _not_a_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {twice!r:.80} comes twice")
    return content


_DECODER = json.JSONDecoder(parse_constant=_not_a_number, object_pairs_hook=_object)
_SPACES = tuple(" \t\n\r")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")  # JSON can escape one half of a pair alone, which is no character

"""Strict reading of text and JSON that users provide."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from gradual.errors import InputError


class JSONError(Exception):
    """A text is not JSON that can be used; the message says why, but not where.

    Attributes:
        line: The line, counted from 1; 0 if it is unknown.
    """

    def __init__(self, problem: str, line: int = 0):
        super().__init__(problem)
        self.line = line


def read_text(path: Path) -> str:
    """Read a UTF-8 file, without its byte order mark and with line ends unchanged.

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
    except (OSError, ValueError) as error:  # the path may contain a character that is not allowed
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}.") from None


def parse_json(text: str) -> Any:
    """Parse JSON, and reject what different parsers read differently.

    Raises:
        JSONError: The text is not JSON, has the same field twice, a number or nesting that Python does not support, or
            half of a surrogate pair.
    """
    try:
        content = _DECODER.decode(text)
        if "\\u" in text:
            _check_characters(text, content)
    except (ValueError, RecursionError) as error:
        raise _json_error(error) from error
    return content


def parse_json_array(text: str) -> Iterator[tuple[int, Any]]:
    """Parse the entries of a JSON array one by one, each with its line.

    Raises:
        JSONError: The text, or an entry, is not what ``parse_json`` accepts; with the line.
    """
    line, start, close, escapes = 1, 0, False, "\\u" in text
    end = _space(text, _space(text, 0) + 1)  # after the bracket
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
    """Whether a text is a single line that is not blank, so that a list of such texts can be written one per line."""
    return bool(text.strip()) and text.splitlines() == [text]


def _space(text: str, start: int) -> int:
    """Return the end of the white space that begins at ``start``."""
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
    raise ValueError(f"{name} is not a JSON number")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {twice!r:.80} comes twice")
    return content


_DECODER = json.JSONDecoder(parse_constant=_not_a_number, object_pairs_hook=_object)
_SPACES = tuple(" \t\n\r")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")  # half of a surrogate pair, which JSON can escape alone

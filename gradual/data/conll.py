"""CoNLL files: a word per line in columns, a blank line after each sentence.

The columns are separated by tabs if the first line of words has one, and otherwise by spaces. Every line has the same
number of columns. A sentence is one example, and each of its columns a list of text. The columns are named

- by a comment ``# global.columns = FORM UPOS ...`` or, in ``.conllu`` files, by that format, in lower case; ``form`` is
  called ``tokens``, and ``id`` ``index``;
- otherwise ``tokens`` for the first one, ``tags`` for the last one and ``2``, ``3``, ... for those between;
- and by their numbers from 1 wherever a column is asked for.

Not part of a sentence are ``-DOCSTART-`` lines and comments, which stand before the first word of a sentence and begin
with ``# ``: they have another number of columns, or name something (``# sent_id = 7``). In ``.conllu`` files, words of
several tokens (``1-2``) and words that are not written (``1.1``) are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gradual.data.arrow import pa
from gradual.data.formats import Columns
from gradual.data.rows import ROWS, Rows, chosen, listed, open_text
from gradual.errors import InputError

_CONLLU = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
_RENAMED = {"form": "tokens", "id": "index"}
_DOCUMENT = "-DOCSTART-"
_GLOBAL = re.compile(r"#\s*global\.columns\s*=\s*(.*)")
_NAMING = re.compile(r"#\s*\S+\s*=\s")


@dataclass(frozen=True)
class _Layout:
    """How the lines of a file are divided.

    Attributes:
        names: The names of its columns.
        tabs: Whether tabs separate them.
        line: The line that says how many there are; 0 if the columns have names of their own.
        numbered: Whether words have numbers (CoNLL-U), so that some lines are no words of the sentence.
    """

    names: list[str]
    tabs: bool
    line: int
    numbered: bool

    def fields(self, text: str) -> list[str]:
        """Divide a line."""
        return _fields(text, self.tabs)


def read_conll(path: Path, columns: Columns) -> Iterator[Rows]:
    """Read the sentences of a file.

    Raises:
        InputError: The file cannot be read, lacks a column, or has a line with another number of columns.
    """
    layout = _layout(path)
    if layout is None:
        return
    width = len(layout.names)
    numbers = {str(number): name for number, name in enumerate(layout.names, start=1)}
    asked = [name for name in columns.names or () if name in numbers and name not in layout.names]
    names = [*layout.names, *asked]
    wanted = chosen(path, names, layout.names if columns.names is None else columns.names)
    read = {name: names.index(numbers.get(name, name) if name in asked else name) for name in wanted}
    words: list[list[str]] = []
    sizes: list[int] = []
    places: list[int] = []
    for place, sentence in _sentences(path, layout, width):
        words += sentence
        sizes.append(len(sentence))
        places.append(place)
        if len(places) == ROWS:
            yield Rows(_lists(words, sizes, read), places, names)
            words, sizes, places = [], [], []
    if places:
        yield Rows(_lists(words, sizes, read), places, names)


def _lists(words: Sequence[Sequence[str]], sizes: Sequence[int], columns: dict[str, int]) -> dict[str, pa.Array]:
    ends = [0]
    for size in sizes:
        ends.append(ends[-1] + size)
    by_column = list(zip(*words))
    offsets = pa.array(ends, pa.int32())
    return {
        name: pa.ListArray.from_arrays(offsets, pa.array(by_column[index], pa.string()))
        for name, index in columns.items()
    }


def _fields(text: str, tabs: bool) -> list[str]:
    return text.split("\t") if tabs else list(filter(None, text.split(" ")))


def is_conllu(path: Path) -> bool:
    """Whether a file has the columns of CoNLL-U, by its name."""
    return path.suffix.lower() == ".conllu"


def _layout(path: Path) -> _Layout | None:
    """Find how a file is divided; None for one without words."""
    named = list(_CONLLU) if is_conllu(path) else None
    with open_text(path, "\n") as file:
        for line, text in enumerate(map(_without_end, file), start=1):
            stated = _GLOBAL.fullmatch(text)
            if stated:
                named = stated[1].lower().split() or None
            elif not _is_outside(text) and not _may_be_comment(text):
                tabs = "\t" in text
                if named is not None:
                    return _Layout([_RENAMED.get(name, name) for name in named], tabs, 0, named[0] == "id")
                width = len(_fields(text, tabs))
                return _Layout(["tokens", *map(str, range(2, width)), "tags"][:width], tabs, line, False)
    return None


def _sentences(path: Path, layout: _Layout, width: int) -> Iterator[tuple[int, list[list[str]]]]:
    """Yield the line of each sentence's first word, and the columns of its words."""
    first = 0
    words: list[list[str]] = []
    with open_text(path, "\n") as file:
        for line, text in enumerate(map(_without_end, file), start=1):
            if _is_outside(text):
                if words:
                    yield first, words
                words = []
                continue
            fields = layout.fields(text)
            if not words and _is_comment(text, len(fields), layout, width):
                continue
            if len(fields) != width or "" in fields:
                raise InputError(_malformed(path, line, fields, layout))
            if layout.numbered and not fields[0].isdigit():
                _check_number(path, line, fields[0])
                continue
            if not words:
                first = line
            words.append(fields)
    if words:
        yield first, words


def _without_end(text: str) -> str:
    return text.removesuffix("\n").removesuffix("\r")


def _is_outside(text: str) -> bool:
    """Whether a line belongs to no sentence."""
    return not text.strip() or text.split(None, 1)[0] == _DOCUMENT


def _may_be_comment(text: str) -> bool:
    return text == "#" or text.startswith("# ")


def _is_comment(text: str, fields: int, layout: _Layout, width: int) -> bool:
    if fields != width:
        return _may_be_comment(text)
    return not layout.tabs and _NAMING.match(text) is not None


def _check_number(path: Path, line: int, number: str) -> None:
    if not re.fullmatch(r"\d+[-.]\d+", number):
        raise InputError(f"{path}:{line}: found the word number {number!r:.40}, expected one such as 7, 7-8 or 7.1.")


def _malformed(path: Path, line: int, fields: Sequence[str], layout: _Layout) -> str:
    by = "tabs" if layout.tabs else "spaces"
    width = len(layout.names)
    if len(fields) == width:
        return f"{path}:{line}: column {fields.index('') + 1} is empty; a word without a value has '_' in CoNLL files."
    expected = f"{width} ({listed(layout.names)})" + (f" as in line {layout.line}" if layout.line else "")
    return (
        f"{path}:{line}: found {len(fields)} columns separated by {by}, expected {expected}; a line must be one word "
        "with its columns, and a blank line must follow each sentence."
    )

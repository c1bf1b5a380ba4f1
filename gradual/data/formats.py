"""Formats of example files, and which of their columns are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

FORMATS = {
    **{".jsonl": "JSON lines", ".json": "JSON lines", ".csv": "CSV", ".tsv": "TSV", ".parquet": "Parquet"},
    **dict.fromkeys((".txt", ".conll", ".conllu", ".iob", ".bio"), "CoNLL"),
}
"""The formats of files that can be read, by file name extension; folders are those of ``datasets``."""

_WITH_TYPES = ("Parquet", "datasets")


@dataclass(frozen=True)
class Columns:
    """Which columns of files are read, and how they are used.

    Attributes:
        names: Columns to read; None for all. The content of other columns does not matter.
        needed: Columns that must have a value in every example.
        text: Columns that must be text; in these an empty cell of CSV or TSV is empty text.
        ids: The column of ids, which are text: integers become their digits; None for none.
        lengths: A column that must hold integers; None for none.
        own: For files that call columns by other names, their own name of each; they are read under the names above.
    """

    names: tuple[str, ...] | None = None
    needed: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    ids: str | None = None
    lengths: str | None = None
    own: Mapping[Path, Mapping[str, str]] = field(default_factory=dict)

    def of(self, path: Path) -> Columns:
        """The same columns by the names that a file has for them."""
        own = self.own.get(path, {})
        names, needed, text = (
            given and tuple(own.get(name, name) for name in given) for given in (self.names, self.needed, self.text)
        )
        ids, lengths = (name and own.get(name, name) for name in (self.ids, self.lengths))
        return Columns(names, needed or (), text or (), ids, lengths)

    def unused(self, name: str) -> bool:
        """Whether a column is read only because all are."""
        return self.names is None and name not in (*self.needed, *self.text, self.ids, self.lengths)


def format_of(path: Path) -> str:
    """Return the format of a file, by the extension of its name."""
    return "datasets" if path.is_dir() else FORMATS[path.suffix.lower()]


def has_types(path: Path) -> bool:
    """Whether the columns of a file have types, and its examples rows instead of lines."""
    return format_of(path) in _WITH_TYPES


def files_of(path: Path) -> list[Path]:
    """List the files that an example file consists of: itself, or those of a folder, sorted."""
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def size_of(path: Path) -> int:
    """Return the size of an example file in bytes."""
    return sum(file.stat().st_size for file in files_of(path))


def at(path: Path, place: int) -> str:
    """Name a place in a file for a message: a line, or a row where there are no lines."""
    return f"{path}, row {place}" if has_types(path) else f"{path}:{place}"


def describe(files: Sequence[Path]) -> str:
    """Name files in a message: the first one, and how many there are besides."""
    more = len(files) - 1
    return f"{files[0]}{f' and {more} more' if more else ''}"

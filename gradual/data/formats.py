"""Files of examples: their formats, and which of their columns are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FORMATS = {".jsonl": "JSON lines", ".json": "JSON lines", ".csv": "CSV", ".tsv": "TSV", ".parquet": "Parquet"}
"""What is read, by the end of a file's name."""


@dataclass(frozen=True)
class Columns:
    """Which columns of files are read, and what for.

    Attributes:
        names: Columns to read; None for all. What others hold does not matter.
        needed: Columns that must have a value in every example.
        text: Columns that must be text, in which an empty cell of CSV and TSV is empty text.
        ids: The column of ids, which are text: integers become their digits; None for none.
        lengths: A column that must hold integers; None for none.
    """

    names: tuple[str, ...] | None = None
    needed: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    ids: str | None = None
    lengths: str | None = None


def format_of(path: Path) -> str:
    """The format of a file, by the end of its name."""
    return FORMATS[path.suffix.lower()]


def at(path: Path, place: int) -> str:
    """A place in a file, for messages: a line, or a row of Parquet."""
    return f"{path}, row {place}" if format_of(path) == "Parquet" else f"{path}:{place}"

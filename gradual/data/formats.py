"""Formats of example files, and which of their columns are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FORMATS = {".jsonl": "JSON lines", ".json": "JSON lines", ".csv": "CSV", ".tsv": "TSV", ".parquet": "Parquet"}
"""The formats that can be read, by file name extension."""


@dataclass(frozen=True)
class Columns:
    """Which columns of files are read, and how they are used.

    Attributes:
        names: Columns to read; None for all. The content of other columns does not matter.
        needed: Columns that must have a value in every example.
        text: Columns that must be text; in these an empty cell of CSV or TSV is empty text.
        ids: The column of ids, which are text: integers become their digits; None for none.
        lengths: A column that must hold integers; None for none.
    """

    names: tuple[str, ...] | None = None
    needed: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    ids: str | None = None
    lengths: str | None = None


def format_of(path: Path) -> str:
    """Return the format of a file, by the extension of its name."""
    return FORMATS[path.suffix.lower()]


def at(path: Path, place: int) -> str:
    """Name a place in a file for a message: a line, or a row of Parquet."""
    return f"{path}, row {place}" if format_of(path) == "Parquet" else f"{path}:{place}"


def describe(files: Sequence[Path]) -> str:
    """Name files in a message: the first one, and how many there are besides."""
    return str(files[0]) if len(files) == 1 else f"{files[0]} (or one of the {len(files) - 1} files after it)"

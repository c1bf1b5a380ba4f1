"""Example files as memory-mapped Arrow tables, converted and tokenized once and then kept in the cache folder.

A table's key is made of the content of its files, the types of its columns, the tokenizer and the settings. Processes
that read the same files map the same pages.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradual.data.cache_folder import (
    content_of,
    datasets_library,
    digest,
    kept,
    making,
    opened,
    versions,
    writing_into,
)
from gradual.data.conll import is_conllu
from gradual.data.features import tokenizer_key
from gradual.data.formats import Columns, describe, files_of, format_of
from gradual.data.tokenization import cores, tokenize
from gradual.errors import InputError
from gradual.files import write_atomically
from gradual.lock import Held, lock

if TYPE_CHECKING:  # it imports pyarrow, which comes with gradual[files] only
    from gradual.data.tables import Found, Part

log = logging.getLogger(__name__)

_LAYOUT = 2  # incremented whenever the content of a cached table changes


@dataclass(frozen=True)
class ReadOptions:
    """How files are turned into tables.

    Attributes:
        cache: Folder in which the tables are kept.
        tokenizer: A fast tokenizer for the text columns; None leaves them as they are.
        max_length: Maximum number of tokens per example; None for no limit.
        processes: Number of processes that convert and tokenize; None for one per core.
    """

    cache: Path
    tokenizer: Any = None
    max_length: int | None = None
    processes: int | None = None


def read_tables(
    files: Mapping[str, Sequence[Path]], columns: Mapping[str, Columns], options: ReadOptions, label: str | None
) -> dict[str, Any]:
    """Read the examples of each part, in the order of its files, as ``datasets.Dataset``s mapped from the cache.

    A column has one type in all files of all parts, except that ``predict`` takes the types of the others.

    Args:
        files: The files of each part; those of one part have the same format.
        columns: The columns to read of each part.
        options: How the files are turned into tables.
        label: The column of labels, which ``predict`` may have in another form or not at all.

    Raises:
        InputError: A file cannot be read, its columns differ from those of the others, or a value is missing or of
            another kind than others in its column.
    """
    datasets_library()
    from gradual.data.tables import Part, common_types, different_columns, require_values, types_to_predict

    keys = {name: _scan_key(files[name], columns[name], options.cache) for name in files}
    try:
        parts = {
            name: Part(files[name], columns[name], _scanned(files[name], columns[name], options, keys[name]))
            for name in files
        }
        others = [part for name, part in parts.items() if name != "predict"]
        for part in others[1:]:
            kinds, first = part.found.kinds, others[0].found.kinds
            if part.columns.names is None and set(kinds) != set(first):
                raise InputError(different_columns(part.files[0], kinds, others[0].files[0], first))
        types = common_types(others)
        tables = {}
        for name, part in parts.items():
            own = types_to_predict(part, types, label) if name == "predict" else types
            own = {column: own[column] for column in part.found.kinds if column in own}
            tables[name] = _read_table(part, own, options, keys[name])
            for column in part.columns.needed:
                require_values(tables[name], column, part)
        return tables
    finally:
        for key in keys.values():
            _remove_rows(options.cache, key)


# Scanning: files become rows, and the kinds of their columns are recorded


def _scanned(files: Sequence[Path], columns: Columns, options: ReadOptions, key: str) -> Found:
    record = options.cache / f"{key}.found"

    def make() -> None:
        _scan(files, columns, options, key)

    return kept(lambda: _recorded(record), options.cache / f"{key}.lock", files, make)


def _recorded(record: Path) -> Found | None:
    from gradual.data.tables import Found

    try:
        return Found.from_bytes(record.read_bytes())
    except (OSError, ValueError, LookupError, TypeError):  # it is missing or damaged
        return None


def _scan(files: Sequence[Path], columns: Columns, options: ReadOptions, key: str) -> None:
    """Parse the files of a part into rows, and record what was found."""
    from gradual.data.tables import scan

    rows = _rows(options.cache, key)
    work = rows.with_suffix(".tmp")
    shutil.rmtree(work, ignore_errors=True)
    shutil.rmtree(rows, ignore_errors=True)
    log.info("Reading %s.", describe(files))
    try:
        with writing_into(options.cache):
            found = scan(files, columns, work, options.processes or cores())
            work.replace(rows)
            write_atomically(options.cache / f"{key}.found", found.to_bytes())
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _rows(cache: Path, key: str) -> Path:
    """Return the folder for the rows of a scan, which exists until they are in a table."""
    return cache / f"{key}.rows"


def _remove_rows(cache: Path, key: str) -> None:
    if _rows(cache, key).exists():
        with suppress(OSError, Held), lock(cache / f"{key}.lock"):  # if it is held, another process needs the rows
            shutil.rmtree(_rows(cache, key), ignore_errors=True)


# Tables: rows are fitted to the types of their columns and tokenized


def _read_table(part: Part, types: Mapping[str, Any], options: ReadOptions, key: str) -> Any:
    folder = options.cache / _table_key(part, types, options, key)

    def make() -> None:
        if not _rows(options.cache, key).exists():
            _scan(part.files, part.columns, options, key)
        _make(part, types, options, _rows(options.cache, key), folder)

    return kept(lambda: opened(folder), options.cache / f"{key}.lock", part.files, make)


def _make(part: Part, types: Mapping[str, Any], options: ReadOptions, rows: Path, folder: Path) -> None:
    """Fit and tokenize the rows."""
    from gradual.data.tables import fit, require_values

    text = part.columns.text
    with making(folder, part.files) as work:
        library = datasets_library()
        paths = fit(part, types, rows, work)
        table = library.concatenate_datasets([library.Dataset.from_file(str(path)) for path in paths])
        assert len(table) == sum(part.found.rows), "no example is lost"
        for column in text:
            require_values(table, column, part)
        if text and options.tokenizer is not None:
            table = tokenize(table, text, options.tokenizer, options.max_length, options.processes, part.files, work)
        table.save_to_disk(str(work / "table"))


# Keys


def _scan_key(files: Sequence[Path], columns: Columns, cache: Path) -> str:
    """Compute the key of a scan."""
    parts = [
        _LAYOUT,
        version("pyarrow"),
        format_of(files[0]),
        *([True] if any(is_conllu(path) for path in files) else []),
        [content_of(file, cache) for path in files for file in files_of(path)],
        [columns.names, columns.text, columns.ids],
        *([[dict(columns.own.get(path, {})) for path in files]] if columns.own else []),
    ]
    return digest(parts)


def _table_key(part: Part, types: Mapping[str, Any], options: ReadOptions, scan_key: str) -> str:
    """Compute the key of a table."""
    parts = [
        scan_key,
        versions(),
        {name: str(type_) for name, type_ in types.items()},
        options.max_length if part.columns.text else None,
        tokenizer_key(options.tokenizer) if part.columns.text and options.tokenizer is not None else None,
    ]
    return digest(parts)

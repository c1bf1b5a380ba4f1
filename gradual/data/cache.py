"""Example files as memory-mapped Arrow tables, converted and tokenized once and then kept in a cache folder.

A table's key is made of the content of its files, the types of its columns, the tokenizer and the settings, so that
neither a file's name nor its date decides whether there is work to do. One process does the work; others wait for it
and map the same pages.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradual.data.arrow import MISSING
from gradual.data.conll import is_conllu
from gradual.data.features import LENGTH, Features, RowError, tokenizer_key
from gradual.data.formats import Columns, describe, files_of, format_of, size_of
from gradual.data.tokenization import cores, processes_for, quiet_datasets, tokenize
from gradual.errors import InputError
from gradual.files import sha256, write_atomically
from gradual.lock import Held, lock

if TYPE_CHECKING:  # it imports pyarrow, which comes with gradual[files] only
    from gradual.data.tables import Found, Part

log = logging.getLogger(__name__)

_LAYOUT = 2  # incremented whenever the content of a cached table changes
_ROW = "row: "  # before the names of columns that features are made of


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
    _datasets_library()
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
    found = _recorded(record)
    if found is None:
        with _one_process(options.cache / f"{key}.lock", files):
            found = _recorded(record)
            if found is None:
                _scan(files, columns, options, key)
                found = _recorded(record)
    assert found is not None
    return found


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
        with _writing_into(options.cache):
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
    table = _opened(folder)
    if table is None:
        with _one_process(options.cache / f"{key}.lock", part.files):
            table = _opened(folder)
            if table is None:
                if not _rows(options.cache, key).exists():
                    _scan(part.files, part.columns, options, key)
                _make(part, types, options, _rows(options.cache, key), folder)
                table = _opened(folder)
    assert table is not None
    return table


def _opened(folder: Path) -> Any:
    if not folder.exists():
        return None
    try:
        return _datasets_library().Dataset.load_from_disk(str(folder))
    except Exception as error:  # a damaged file may raise anything in the libraries that read it
        log.warning("%s is damaged and is created again (%s).", folder, _reason(error))
        return None


def _make(part: Part, types: Mapping[str, Any], options: ReadOptions, rows: Path, folder: Path) -> None:
    """Fit and tokenize the rows."""
    from gradual.data.tables import fit, require_values

    text = part.columns.text
    with _making(folder, part.files) as work:
        library = _datasets_library()
        paths = fit(part, types, rows, work)
        table = library.concatenate_datasets([library.Dataset.from_file(str(path)) for path in paths])
        assert len(table) == sum(part.found.rows), "no example is lost"
        for column in text:
            require_values(table, column, part)
        if text and options.tokenizer is not None:
            table = tokenize(table, text, options.tokenizer, options.max_length, options.processes, part.files, work)
        table.save_to_disk(str(work / "table"))


@contextmanager
def _making(folder: Path, files: Sequence[Path]) -> Iterator[Path]:
    """Provide a temporary folder, whose ``table`` gets the name ``folder`` when it is complete."""
    work = folder.with_suffix(".tmp")
    for old in (work, folder):  # left by a killed process, or damaged
        shutil.rmtree(old, ignore_errors=True)
    size = sum(map(size_of, files))
    try:
        with _writing_into(folder.parent), quiet_datasets(_datasets_library(), size):
            work.mkdir(parents=True)
            yield work
            (work / "table").replace(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


# Features: computed from a table


def read_features(
    table: Any,
    columns: Mapping[str, str],
    features: Features,
    files: Sequence[Path],
    options: ReadOptions,
    read: Columns,
) -> Any:
    """Compute the features of a table, or find them in the cache, as a ``datasets.Dataset`` mapped from there.

    Args:
        table: One of the tables that ``read_tables`` returns.
        columns: For each column that ``features`` reads, its name in the table. A column ``id`` is kept.
        features: Turns rows into features.
        files: The files of the table, for messages.
        options: How files are turned into tables.
        read: The columns that were read of them.

    Raises:
        InputError: A row has no features; the message names its place.
    """
    source = Path(table.cache_files[0]["filename"]).parent.name  # the key of the table
    key = _digest([source, dict(columns), features.key(), _versions()])
    folder = options.cache / key
    found = _opened(folder)
    if found is None:
        with _one_process(options.cache / f"{key}.lock", files):
            found = _opened(folder)
            if found is None:
                _make_features(table, columns, features, files, options, folder, read)
                found = _opened(folder)
    assert found is not None
    return found


def _make_features(
    table: Any,
    columns: Mapping[str, str],
    features: Features,
    files: Sequence[Path],
    options: ReadOptions,
    folder: Path,
    read: Columns,
) -> None:
    from gradual.data.tables import place_of

    # names that no feature has: datasets gives a feature the type of the column of its name
    named = {name: role if role == "id" else f"{_ROW}{role}" for role, name in columns.items()}
    rows = table.select_columns(list(columns.values())).rename_columns(named)
    with _making(folder, files) as work:
        try:
            made = rows.map(
                _featurize,
                batched=True,
                with_indices=True,
                remove_columns=[name for name in named.values() if name != "id"],
                fn_kwargs={"features": features},
                num_proc=processes_for(rows, options.processes),
                cache_file_name=str(work / "features.arrow"),
                load_from_cache_file=False,
                new_fingerprint="features",  # any constant, as for tokens
                desc=f"Preparing {describe(files)}",
            )
        except RowError as error:
            place = place_of(files, error.position, next(iter(columns.values())), read)
            raise InputError(f"{place}: {error.problem}.") from None
        made.save_to_disk(str(work / "table"))


def _featurize(batch: Mapping[str, list[Any]], indices: list[int], features: Features) -> dict[str, Any]:
    try:
        found = features({name.removeprefix(_ROW): values for name, values in batch.items()})
    except RowError as error:
        raise RowError(indices[error.position], error.problem) from None
    return found if LENGTH in found else {**found, LENGTH: [len(tokens) for tokens in found["input_ids"]]}


# The cache folder


def default_cache() -> Path:
    """Return the default cache folder, beside the tables that ``datasets`` itself keeps."""
    return Path(_datasets_library().config.HF_DATASETS_CACHE) / "gradual"


def _datasets_library() -> Any:
    try:
        import datasets
    except ImportError:
        raise InputError(MISSING.format(package="datasets")) from None
    return datasets


@contextmanager
def _one_process(path: Path, files: Sequence[Path]) -> Iterator[None]:
    with ExitStack() as stack:
        with _writing_into(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            waits = lock(path, lambda: log.info("Waiting for the process that reads %s.", describe(files)))
            stack.enter_context(waits)
        yield


@contextmanager
def _writing_into(cache: Path) -> Iterator[None]:
    """Report what cannot be written as a problem of this folder."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or _reason(error)
        raise InputError(
            f"The cache folder {cache} cannot be written to ({reason}): make room, or choose another cache_dir."
        ) from error


def _reason(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")


# Keys


def _scan_key(files: Sequence[Path], columns: Columns, cache: Path) -> str:
    """Compute the key of a scan."""
    parts = [
        _LAYOUT,
        version("pyarrow"),
        format_of(files[0]),
        *([True] if any(is_conllu(path) for path in files) else []),
        [_content(file, cache) for path in files for file in files_of(path)],
        [columns.names, columns.text, columns.ids],
        *([[dict(columns.own.get(path, {})) for path in files]] if columns.own else []),
    ]
    return _digest(parts)


def _table_key(part: Part, types: Mapping[str, Any], options: ReadOptions, scan_key: str) -> str:
    """Compute the key of a table."""
    parts = [
        scan_key,
        _versions(),
        {name: str(type_) for name, type_ in types.items()},
        options.max_length if part.columns.text else None,
        tokenizer_key(options.tokenizer) if part.columns.text and options.tokenizer is not None else None,
    ]
    return _digest(parts)


def _versions() -> dict[str, str]:
    return {package: version(package) for package in ("datasets", "tokenizers", "transformers")}


def _digest(parts: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def content_of_files(files: Sequence[Path], cache: Path) -> str:
    """Compute a digest of all bytes of ``files``, in their order, without reading unchanged files again."""
    contents = [_content(file, cache) for path in files for file in files_of(path)]
    return hashlib.sha256("".join(contents).encode()).hexdigest()[:16]


def _content(path: Path, cache: Path) -> str:
    """Return the digest of a file, from a record as long as size and date of the file have not changed.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        status = path.stat()
    except OSError as error:  # such as a link to nothing, or to itself
        raise InputError(f"{path}: {error.strerror or error}.") from None
    state = [status.st_size, status.st_mtime_ns, status.st_ino]
    record = cache / "content" / f"{hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:32]}.json"
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
        if known["state"] == state:
            return str(known["content"])
    except (OSError, ValueError, LookupError, TypeError):
        pass
    content = sha256(path)
    if time.time_ns() - status.st_mtime_ns > 2e9:  # a file may change again within the resolution of its date
        with suppress(OSError):  # without a record the file is read again next time
            record.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(record, json.dumps({"state": state, "content": content}))
    return content

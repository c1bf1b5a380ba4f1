"""Files of examples as memory-mapped Arrow tables: converted and tokenized once, kept by what is in them.

The key of a table is the content of its files, the tokenizer and the settings, so that neither a file's name nor its
date decides whether there is work to do. One process does it; the others wait and map the same pages.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gradual.errors import InputError
from gradual.runs import write_atomically

log = logging.getLogger(__name__)

FORMATS = {".jsonl": "JSON lines", ".json": "JSON lines", ".csv": "CSV", ".tsv": "TSV", ".parquet": "Parquet"}
"""What is read, by the end of a file's name."""

LENGTH = "length"
"""The column with the tokens of each example, where text was tokenized."""

_MADE = ("input_ids", "attention_mask", "token_type_ids", LENGTH)
_LAYOUT = 1  # goes up with every change of what a cached table holds
_ROWS_A_PROCESS = 10_000  # below that a process costs more than it gains
_SHOW_PROGRESS_FROM = 10_000_000  # bytes
_ISIN_ROWS = 1 << 20


@dataclass(frozen=True)
class Reading:
    """How files become a table.

    Attributes:
        cache: Folder that keeps the tables.
        columns: Columns to keep; None for all.
        text: Columns that are tokenized, one or a pair; none for none.
        ids: Column of ids, which CSV files would otherwise turn into numbers.
        tokenizer: A fast tokenizer; needed for ``text``.
        max_length: Tokens of an example at most; None for no limit.
        processes: Processes that convert and tokenize; None for one a core.
    """

    cache: Path
    columns: Sequence[str] | None = None
    text: Sequence[str] = ()
    ids: str | None = None
    tokenizer: Any = None
    max_length: int | None = None
    processes: int | None = None


class ArrowColumn:
    """A column that stays in its file: whatever is asked of it costs memory for the answer alone."""

    def __init__(self, table: Any, name: str):
        self._values = table.data.column(name)

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[Any]:
        for chunk in self._values.chunks:
            yield from chunk.to_pylist()

    def __getitem__(self, index: Any) -> Any:
        """The entry at an index, or those at an array of indices as an array."""
        if isinstance(index, np.ndarray):
            return self._values.take(_pyarrow().array(index)).to_numpy(zero_copy_only=False)
        return self._values[int(index)].as_py()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(self._values.to_numpy(zero_copy_only=False), dtype)

    def sum(self) -> Any:
        """The sum of its entries."""
        return _pyarrow().compute.sum(self._values).as_py()

    def isin(self, values: Sequence[Any]) -> npt.NDArray[np.bool_]:
        """Which entries are among ``values``; numbers and their decimals as text are the same."""
        pa = _pyarrow()
        wanted = pa.array([str(value) for value in values], pa.string())
        found = np.zeros(len(self), dtype=np.bool_)
        for start in range(0, len(self), _ISIN_ROWS):
            part = self._values.slice(start, _ISIN_ROWS).cast(pa.string())
            found[start : start + _ISIN_ROWS] = pa.compute.is_in(part, value_set=wanted).to_numpy()
        return found


def read_table(files: Sequence[Path], how: Reading) -> Any:
    """The examples of ``files``, in their order, as a ``datasets.Dataset`` mapped from the cache.

    Args:
        files: All of one format, see ``FORMATS``.
        how: What is kept of them.

    Raises:
        InputError: A file cannot be read, its columns are not those of the others, or text to tokenize is missing.
    """
    folder = how.cache / _key(files, how)
    table = _opened(folder)
    if table is None:
        with _one_process(folder.with_suffix(".lock"), files):
            table = _opened(folder)
            if table is None:
                _make(files, how, folder)
                table = _opened(folder)
    assert table is not None
    return table


def require(table: Any, column: str, files: Sequence[Path]) -> None:
    """Check that a table has a column with a value for every example.

    Raises:
        InputError: It has not; the message names the files.
    """
    if column not in table.column_names:
        raise InputError(f"{_named(files)} has no column '{column}'; its columns are {', '.join(table.column_names)}.")
    values = table.data.column(column)
    if values.null_count:
        first = int(np.flatnonzero(values.is_null().to_numpy())[0]) + 1
        raise InputError(
            f"{_named(files)}: '{column}' is empty in {values.null_count} examples, first in number {first}; "
            "it needs a value in every one."
        )


def _library() -> Any:
    try:
        import datasets
    except ImportError:
        raise InputError("Reading files needs the package datasets: pip install 'gradual[files]'.") from None
    return datasets


def _pyarrow() -> Any:
    import pyarrow
    import pyarrow.compute

    return pyarrow


def default_cache() -> Path:
    """Beside the tables that ``datasets`` itself keeps."""
    return Path(_library().config.HF_DATASETS_CACHE) / "gradual"


def _key(files: Sequence[Path], how: Reading) -> str:
    tokenizer = None
    if how.text:
        state = json.loads(how.tokenizer.backend_tokenizer.to_str())
        tokenizer = {name: value for name, value in state.items() if name not in ("truncation", "padding")}
    parts = [
        _LAYOUT,
        {package: version(package) for package in ("datasets", "tokenizers", "transformers")},
        files[0].suffix.lower(),
        [_content(path, how.cache) for path in files],
        [how.columns, how.text, how.ids, how.max_length if how.text else None],
        tokenizer,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _content(path: Path, cache: Path) -> str:
    """A digest of a file; remembered, so that a file that was not touched is not read again to learn that."""
    status = path.stat()
    state = [status.st_size, status.st_mtime_ns, status.st_ino]
    note = cache / "content" / f"{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32]}.json"
    try:
        known = json.loads(note.read_text(encoding="utf-8"))
        if known["state"] == state:
            return str(known["content"])
    except (OSError, ValueError, LookupError, TypeError):
        pass
    try:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}.") from None
    if time.time_ns() - status.st_mtime_ns > 2e9:  # one that is just being written may change within its date
        with suppress(OSError):  # then it is read again the next time
            note.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(note, json.dumps({"state": state, "content": content}))
    return content


def _opened(folder: Path) -> Any:
    if not folder.exists():
        return None
    try:
        return _library().Dataset.load_from_disk(str(folder))
    except Exception as error:  # whatever a damaged file may raise in the libraries that read it
        log.warning("%s is damaged and is made anew (%s).", folder, _reason(error))
        return None


@contextmanager
def _writing_into(cache: Path) -> Iterator[None]:
    """What cannot be written here is said of this folder."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or _reason(error)
        raise InputError(
            f"The cache folder {cache} cannot be written to ({reason}): make room, or give another as cache_dir."
        ) from error


@contextmanager
def _one_process(path: Path, files: Sequence[Path]) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    with _writing_into(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=1)
        except Timeout:
            log.info("Waiting for the process that reads %s.", _named(files))
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _make(files: Sequence[Path], how: Reading, folder: Path) -> None:
    """Convert and tokenize into a folder of its own, which gets its name when all is there."""
    work = folder.with_suffix(".tmp")
    for old in (work, folder):  # what a killed process left, or is damaged
        shutil.rmtree(old, ignore_errors=True)
    size = sum(path.stat().st_size for path in files)
    try:
        with _writing_into(folder.parent), _reported_by_us(size):
            table = _converted(files, how, work)
            if how.columns is not None:
                for name in how.columns:
                    if name not in table.column_names:
                        require(table, name, files)
                table = table.select_columns(list(how.columns))
            if how.text:
                table = _tokenized(table, files, how, work)
            table.save_to_disk(str(work / "table"))
            (work / "table").replace(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextmanager
def _reported_by_us(size: int) -> Iterator[None]:
    """Mistakes are reported in our words, once; progress is shown where there is time to look at it."""
    library = _library()
    verbosity, hidden = library.logging.get_verbosity(), library.utils.are_progress_bars_disabled()
    parallelism = os.environ.get("TOKENIZERS_PARALLELISM")
    library.logging.set_verbosity(logging.CRITICAL)
    if size < _SHOW_PROGRESS_FROM:
        library.disable_progress_bars()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # processes are parallel here, and threads do not survive a fork
    try:
        yield
    finally:
        library.logging.set_verbosity(verbosity)
        if not hidden:
            library.enable_progress_bars()
        if parallelism is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = parallelism


def _converted(files: Sequence[Path], how: Reading, work: Path) -> Any:
    for path in files:
        if not path.stat().st_size:
            raise InputError(f"{path} is empty.")
    try:
        return _parsed(files, how, work / "files")
    except Exception as error:  # each format has its own
        cause = _innermost(error)
        if "corresponds to no data" in str(cause):
            raise InputError(f"{_named(files)} holds no examples.") from error
        if isinstance(cause, OSError) and cause.errno is not None:
            raise InputError(f"{_named(files)} cannot be converted in {work.parent}: {cause.strerror}.") from error
        raise InputError(_mistake(files, how, work, error)) from error


def _parsed(files: Sequence[Path], how: Reading, work: Path) -> Any:
    table = _read(files, how, work)
    table.data.table.validate(full=True)  # Arrow takes any bytes for text until they are looked at
    return table


def _read(files: Sequence[Path], how: Reading, work: Path) -> Any:
    dataset, suffix, paths = _library().Dataset, files[0].suffix.lower(), [str(path) for path in files]
    settings: dict[str, Any] = {"cache_dir": str(work)}
    processes = min(len(files), how.processes or _cores())
    if processes > 1:
        settings["num_proc"] = processes
    if suffix == ".parquet":
        return dataset.from_parquet(paths, **settings)
    if suffix in (".csv", ".tsv"):
        strings = [*how.text, *([] if how.ids is None else [how.ids])]
        # a cell is empty or it is not: words like None and NA are words
        return dataset.from_csv(
            paths,
            sep="\t" if suffix == ".tsv" else ",",
            keep_default_na=False,
            na_values=[""],
            converters=dict.fromkeys(strings, str),
            **settings,
        )
    return dataset.from_json(paths, **settings)


def _tokenized(table: Any, files: Sequence[Path], how: Reading, work: Path) -> Any:
    for name in how.text:
        require(table, name, files)
        if table.features[name].dtype not in ("string", "large_string"):
            raise InputError(f"{_named(files)}: '{name}' holds {table.features[name].dtype}, but text is tokenized.")
    taken = sorted(set(_MADE) & (set(table.column_names) - set(how.text)))
    if taken:
        raise InputError(
            f"{_named(files)} has a column '{taken[0]}', which tokenizing makes: rename it, or leave it out of columns."
        )
    processes = min(how.processes or _cores(), len(table) // _ROWS_A_PROCESS)
    return table.map(
        _encode,
        batched=True,
        remove_columns=list(how.text),
        fn_kwargs={"tokenizer": how.tokenizer, "text": list(how.text), "max_length": how.max_length},
        num_proc=processes if processes > 1 else None,
        cache_file_name=str(work / "tokens.arrow"),
        load_from_cache_file=False,
        new_fingerprint="tokens",  # the key is ours: nothing is looked up by this
        desc=f"Tokenizing {_named(files)}",
    )


def _encode(batch: Mapping[str, list[str]], tokenizer: Any, text: list[str], max_length: int | None) -> dict[str, Any]:
    encoded = tokenizer(*(batch[name] for name in text), truncation=max_length is not None, max_length=max_length)
    return {**encoded, LENGTH: [len(tokens) for tokens in encoded["input_ids"]]}


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# What is wrong with a file: looked for only when reading has failed


def _mistake(files: Sequence[Path], how: Reading, work: Path, error: Exception) -> str:
    columns: dict[Path, list[str]] = {}
    for number, path in enumerate(files):
        bad_line = _bad_line(path) if FORMATS[path.suffix.lower()] == "JSON lines" else None
        if bad_line:
            return bad_line
        try:
            columns[path] = sorted(_parsed([path], how, work / f"file-{number}").column_names)
        except Exception as alone:
            return f"{path} cannot be read as {FORMATS[path.suffix.lower()]}: {_reason(alone)}."
        if columns[path] != columns[files[0]]:
            return different_columns(path, columns[path], files[0], columns[files[0]])
    return f"{_named(files)} cannot be read together: {_reason(error)}."


def different_columns(path: Path, columns: Sequence[str], other: Path, other_columns: Sequence[str]) -> str:
    """The sentence for two files whose columns are not the same."""
    more, less = sorted(set(columns) - set(other_columns)), sorted(set(other_columns) - set(columns))
    found = [f"has '{more[0]}'"] if more else []
    found += [f"lacks '{less[0]}'"] if less else []
    return f"{path} {' and '.join(found)}, other than {other}: name the columns to read with columns."


def _bad_line(path: Path) -> str | None:
    with path.open("rb") as file:
        if file.read(1) == b"[":  # an array of objects is read too
            return None
        file.seek(0)
        for number, line in enumerate(file, start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip()
                value = json.loads(text) if text else {}
            except UnicodeDecodeError as error:
                return f"{path}:{number}: not UTF-8 (byte 0x{line[error.start]:02x}); convert the file."
            except json.JSONDecodeError as error:
                return f"{path}:{number}: no JSON object in one line ({error.msg}, column {error.colno})."
            if not isinstance(value, dict):
                return f'{path}:{number}: {text[:40]} is no JSON object, such as {{"text": "..."}}.'
    return None


def _innermost(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _reason(error: BaseException) -> str:
    cause = _innermost(error)
    return next(iter(str(cause).strip().splitlines()), type(cause).__name__).rstrip(".")


def _named(files: Sequence[Path]) -> str:
    return str(files[0]) if len(files) == 1 else f"{files[0]} (or one of the {len(files) - 1} files after it)"

"""Files of examples as memory-mapped Arrow tables: converted and tokenized once, kept by what is in them.

The key of a table is the content of its files, the types of its columns, the tokenizer and the settings, so that
neither a file's name nor its date decides whether there is work to do. One process does it; the others wait and map the
same pages.
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
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gradual.data.formats import Columns, format_of
from gradual.errors import InputError
from gradual.runs.files import write_atomically

if TYPE_CHECKING:  # they import pyarrow, which comes with gradual[files] alone
    from gradual.data.tables import Found, Part

log = logging.getLogger(__name__)

LENGTH = "length"
"""The column with the tokens of each example, where text was tokenized."""

_MADE = ("input_ids", "attention_mask", "token_type_ids", LENGTH)
_LAYOUT = 2  # goes up with every change of what a cached table holds
_ROWS_A_PROCESS = 10_000  # below that a process costs more than it gains
_SHOW_PROGRESS_FROM = 10_000_000  # bytes
_ISIN_ROWS = 1 << 20


@dataclass(frozen=True)
class Reading:
    """How files become a table.

    Attributes:
        cache: Folder that keeps the tables.
        tokenizer: A fast tokenizer for the columns of text; None where there are none.
        max_length: Tokens of an example at most; None for no limit.
        processes: Processes that convert and tokenize; None for one a core.
    """

    cache: Path
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


def read_tables(
    files: Mapping[str, Sequence[Path]], columns: Mapping[str, Columns], how: Reading, label: str | None
) -> dict[str, Any]:
    """The examples of each part, in the order of its files, as ``datasets.Dataset``s mapped from the cache.

    A column is of one type in all files of all parts but ``predict``, which has the types of the others.

    Args:
        files: The files of each part, those of a part of one format.
        columns: What is read of each part.
        how: How they become tables.
        label: The column of labels, which ``predict`` may have in another form, or not at all.

    Raises:
        InputError: A file cannot be read, its columns are not those of the others, or a value is missing or of another
            kind than others of its column.
    """
    _library()
    from gradual.data.tables import Part, common_types, different_columns, require_values, types_to_predict

    keys = {name: _scan_key(files[name], columns[name], how.cache) for name in files}
    try:
        parts = {
            name: Part(files[name], columns[name], _scanned(files[name], columns[name], how, keys[name]))
            for name in files
        }
        others = [part for name, part in parts.items() if name != "predict"]
        for part in others[1:]:
            kinds, first = part.found.kinds, others[0].found.kinds
            if set(kinds) != set(first):
                raise InputError(different_columns(part.files[0], kinds, others[0].files[0], first))
        types = common_types(others)
        tables = {}
        for name, part in parts.items():
            own = types_to_predict(part, types, label) if name == "predict" else types
            own = {column: own[column] for column in part.found.kinds if column in own}
            tables[name] = _read_table(part, own, how, keys[name])
            for column in part.columns.needed:
                require_values(tables[name], column, part)
        return tables
    finally:
        for key in keys.values():
            _forget_rows(how.cache, key)


def _scanned(files: Sequence[Path], columns: Columns, how: Reading, key: str) -> Found:
    note = how.cache / f"{key}.found"
    found = _noted(note)
    if found is None:
        with _one_process(how.cache / f"{key}.lock", files):
            found = _noted(note)
            if found is None:
                _scan(files, columns, how, key)
                found = _noted(note)
    assert found is not None
    return found


def _noted(note: Path) -> Found | None:
    from gradual.data.tables import Found

    try:
        return Found.from_bytes(note.read_bytes())
    except (OSError, ValueError, LookupError, TypeError):  # there is none, or it is damaged
        return None


def _scan(files: Sequence[Path], columns: Columns, how: Reading, key: str) -> None:
    """Parse the files of a part into rows, and note what was found."""
    from gradual.data.tables import scan

    rows = _rows(how.cache, key)
    work = rows.with_suffix(".tmp")
    shutil.rmtree(work, ignore_errors=True)
    shutil.rmtree(rows, ignore_errors=True)
    log.info("Reading %s.", _named(files))
    try:
        with _writing_into(how.cache):
            found = scan(files, columns, work, how.processes or _cores())
            work.replace(rows)
            write_atomically(how.cache / f"{key}.found", found.to_bytes())
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _rows(cache: Path, key: str) -> Path:
    """The folder of the rows of a scan, until they are in a table."""
    return cache / f"{key}.rows"


def _forget_rows(cache: Path, key: str) -> None:
    from filelock import FileLock, Timeout

    if _rows(cache, key).exists():
        with suppress(OSError, Timeout), FileLock(cache / f"{key}.lock", timeout=0):  # else another process needs them
            shutil.rmtree(_rows(cache, key), ignore_errors=True)


def _read_table(part: Part, types: Mapping[str, Any], how: Reading, key: str) -> Any:
    folder = how.cache / _key(part, types, how, key)
    table = _opened(folder)
    if table is None:
        with _one_process(how.cache / f"{key}.lock", part.files):
            table = _opened(folder)
            if table is None:
                if not _rows(how.cache, key).exists():
                    _scan(part.files, part.columns, how, key)
                _make(part, types, how, _rows(how.cache, key), folder)
                table = _opened(folder)
    assert table is not None
    return table


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


def _scan_key(files: Sequence[Path], columns: Columns, cache: Path) -> str:
    """Names what a scan finds."""
    parts = [
        _LAYOUT,
        version("pyarrow"),
        format_of(files[0]),
        [_content(path, cache) for path in files],
        [columns.names, columns.text, columns.ids],
    ]
    return _digest(parts)


def _key(part: Part, types: Mapping[str, Any], how: Reading, scan: str) -> str:
    """Names a table."""
    tokenizer = None
    if part.columns.text:
        state = json.loads(how.tokenizer.backend_tokenizer.to_str())
        tokenizer = {name: value for name, value in state.items() if name not in ("truncation", "padding")}
    parts = [
        scan,
        {package: version(package) for package in ("datasets", "tokenizers", "transformers")},
        {name: str(type_) for name, type_ in types.items()},
        how.max_length if part.columns.text else None,
        tokenizer,
    ]
    return _digest(parts)


def _digest(parts: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def content_of_files(files: Sequence[Path], cache: Path) -> str:
    """A digest of all bytes of ``files``, in their order; those that were not touched are not read again."""
    return hashlib.sha256("".join(_content(path, cache) for path in files).encode()).hexdigest()[:16]


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


def _make(part: Part, types: Mapping[str, Any], how: Reading, rows: Path, folder: Path) -> None:
    """Fit and tokenize into a folder of its own, which gets its name when all is there."""
    from gradual.data.tables import fit, require_values

    library, work = _library(), folder.with_suffix(".tmp")
    for old in (work, folder):  # what a killed process left, or is damaged
        shutil.rmtree(old, ignore_errors=True)
    size = sum(path.stat().st_size for path in part.files)
    try:
        with _writing_into(folder.parent), _reported_by_us(size):
            work.mkdir(parents=True)
            paths = fit(part, types, rows, work)
            table = library.concatenate_datasets([library.Dataset.from_file(str(path)) for path in paths])
            assert len(table) == sum(part.found.rows), "no example is lost"
            if part.columns.text:
                for column in part.columns.text:
                    require_values(table, column, part)
                table = _tokenized(table, part, how, work)
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


def _tokenized(table: Any, part: Part, how: Reading, work: Path) -> Any:
    text = list(part.columns.text)
    taken = sorted(set(_MADE) & (set(table.column_names) - set(text)))
    if taken:
        raise InputError(
            f"{_named(part.files)} has a column '{taken[0]}', which tokenizing makes: rename it, or leave it out of "
            "columns."
        )
    processes = min(how.processes or _cores(), len(table) // _ROWS_A_PROCESS)
    return table.map(
        _encode,
        batched=True,
        remove_columns=text,
        fn_kwargs={"tokenizer": how.tokenizer, "text": text, "max_length": how.max_length},
        num_proc=processes if processes > 1 else None,
        cache_file_name=str(work / "tokens.arrow"),
        load_from_cache_file=False,
        new_fingerprint="tokens",  # the key is ours: nothing is looked up by this
        desc=f"Tokenizing {_named(part.files)}",
    )


def _encode(batch: Mapping[str, list[str]], tokenizer: Any, text: list[str], max_length: int | None) -> dict[str, Any]:
    encoded = tokenizer(*(batch[name] for name in text), truncation=max_length is not None, max_length=max_length)
    return {**encoded, LENGTH: [len(tokens) for tokens in encoded["input_ids"]]}


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _innermost(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _reason(error: BaseException) -> str:
    cause = _innermost(error)
    return next(iter(str(cause).strip().splitlines()), type(cause).__name__).rstrip(".")


def _named(files: Sequence[Path]) -> str:
    return str(files[0]) if len(files) == 1 else f"{files[0]} (or one of the {len(files) - 1} files after it)"

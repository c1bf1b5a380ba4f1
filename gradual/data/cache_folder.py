"""The folder of cached tables, each of which is complete or absent and is made by one process.

A table's key is a digest of all that it is made of, so that neither a file's name nor its date decides whether there is
work to do.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from gradual.data.arrow import MISSING
from gradual.data.formats import describe, files_of, size_of
from gradual.data.tokenization import quiet_datasets
from gradual.errors import InputError
from gradual.files import sha256, write_atomically
from gradual.lock import lock

log = logging.getLogger(__name__)

T = TypeVar("T")


def default_cache() -> Path:
    """Return the default cache folder, beside the tables that ``datasets`` itself keeps."""
    return Path(datasets_library().config.HF_DATASETS_CACHE) / "gradual"


def datasets_library() -> Any:
    """Import ``datasets``, or say which extra has it."""
    try:
        import datasets
    except ImportError:
        raise InputError(MISSING.format(package="datasets")) from None
    return datasets


@contextmanager
def _one_process(path: Path, files: Sequence[Path]) -> Iterator[None]:
    """Hold the lock ``path`` while ``files`` are read; other processes wait for it."""
    with ExitStack() as stack:
        with writing_into(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            waits = lock(path, lambda: log.info("Waiting for the process that reads %s.", describe(files)))
            stack.enter_context(waits)
        yield


@contextmanager
def writing_into(cache: Path) -> Iterator[None]:
    """Report what cannot be written as a problem of this folder."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"The cache folder {cache} cannot be written to ({error.strerror or _reason(error)}): make room, or choose "
            "another cache_dir."
        ) from error


def _reason(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")


def kept(find: Callable[[], T | None], lock_file: Path, files: Sequence[Path], make: Callable[[], None]) -> T:
    """Find what is in the cache; if it is not there, or damaged, one process makes it first.

    Args:
        find: Returns it, or None.
        lock_file: The lock of the process that makes it.
        files: The files that it is made of, for messages.
        make: Makes it.
    """
    found = find()
    if found is None:
        with _one_process(lock_file, files):
            found = find()  # which another process may have made
            if found is None:
                make()
                found = find()
    assert found is not None
    return found


def opened(folder: Path) -> Any:
    """Open the table in ``folder``; None if there is none, or a damaged one."""
    if not folder.exists():
        return None
    try:
        return datasets_library().Dataset.load_from_disk(str(folder))
    except Exception as error:  # a damaged file may raise anything in the libraries that read it
        log.warning("%s is damaged and is created again (%s).", folder, _reason(error))
        return None


@contextmanager
def making(folder: Path, files: Sequence[Path]) -> Iterator[Path]:
    """Provide a temporary folder, whose ``table`` gets the name ``folder`` when it is complete."""
    work = folder.with_suffix(".tmp")
    for old in (work, folder):  # left by a killed process, or damaged
        shutil.rmtree(old, ignore_errors=True)
    size = sum(map(size_of, files))
    try:
        with writing_into(folder.parent), quiet_datasets(datasets_library(), size):
            work.mkdir(parents=True)
            yield work
            (work / "table").replace(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def versions() -> dict[str, str]:
    """The versions of the packages that make tables, which are part of their keys."""
    return {package: version(package) for package in ("datasets", "tokenizers", "transformers")}


def digest(parts: Sequence[Any]) -> str:
    """Return a key made of plain data."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def content_of_files(files: Sequence[Path], cache: Path) -> str:
    """Compute a digest of all bytes of ``files``, in their order, without reading unchanged files again."""
    contents = [content_of(file, cache) for path in files for file in files_of(path)]
    return hashlib.sha256("".join(contents).encode()).hexdigest()[:16]


def content_of(path: Path, cache: Path) -> str:
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

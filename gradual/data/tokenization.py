"""Tokenization of the text columns of a table, in several processes where that pays off."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gradual.data.features import LENGTH
from gradual.data.formats import describe
from gradual.errors import InputError

_CREATED = ("input_ids", "attention_mask", "token_type_ids", LENGTH)
_ROWS_PER_PROCESS = 10_000  # with fewer, starting a process costs more than it saves
_SHOW_PROGRESS_FROM = 10_000_000  # bytes


def tokenize(
    table: Any,
    text: Sequence[str],
    tokenizer: Any,
    max_length: int | None,
    processes: int | None,
    files: Sequence[Path],
    work: Path,
) -> Any:
    """Replace the text columns of a table by the tokenizer's output and the number of tokens.

    Args:
        table: A ``datasets.Dataset``.
        text: Its columns of text, one or two.
        tokenizer: A fast tokenizer.
        max_length: Maximum number of tokens per example; None for no limit.
        processes: Number of processes; None for one per core.
        files: The files that the table was read from, for messages.
        work: A folder for the tokens.

    Raises:
        InputError: The table has a column that would be overwritten.
    """
    taken = sorted(set(_CREATED) & (set(table.column_names) - set(text)))
    if taken:
        raise InputError(
            f"{describe(files)} has a column '{taken[0]}', which tokenization creates: rename it, or leave it out of "
            "columns."
        )
    return table.map(
        _encode,
        batched=True,
        remove_columns=list(text),
        fn_kwargs={"tokenizer": tokenizer, "text": list(text), "max_length": max_length},
        num_proc=processes_for(table, processes),
        cache_file_name=str(work / "tokens.arrow"),
        load_from_cache_file=False,
        new_fingerprint="tokens",  # any constant: our own cache finds tables by another key
        desc=f"Tokenizing {describe(files)}",
    )


def _encode(batch: Mapping[str, list[str]], tokenizer: Any, text: list[str], max_length: int | None) -> dict[str, Any]:
    encoded = tokenizer(*(batch[name] for name in text), truncation=max_length is not None, max_length=max_length)
    return {**encoded, LENGTH: [len(tokens) for tokens in encoded["input_ids"]]}


def processes_for(table: Any, processes: int | None) -> int | None:
    """Return the number of processes that a table is worth; None for this one alone.

    Args:
        table: A ``datasets.Dataset``.
        processes: At most so many; None for one per core.
    """
    processes = min(processes or cores(), len(table) // _ROWS_PER_PROCESS)
    return processes if processes > 1 else None


@contextmanager
def quiet_datasets(library: Any, size: int) -> Iterator[None]:
    """Silence ``datasets``, whose errors are reported in our words, and hide its progress bars for small files.

    Args:
        library: The package.
        size: Bytes of the files.
    """
    verbosity, hidden = library.logging.get_verbosity(), library.utils.are_progress_bars_disabled()
    parallelism = os.environ.get("TOKENIZERS_PARALLELISM")
    library.logging.set_verbosity(logging.CRITICAL)
    if size < _SHOW_PROGRESS_FROM:
        library.disable_progress_bars()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # we use processes, and threads do not survive a fork
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


def cores() -> int:
    """Number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

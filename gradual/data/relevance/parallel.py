"""Work on chunks of examples in several threads, with progress and little memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

Progress = Callable[[int], None]
"""Is told how many more examples are done."""


def map_chunks(
    work: Callable[[int, int], Any],
    chunks: Sequence[tuple[int, int]],
    threads: int,
    progress: Progress | None = None,
    take: Callable[[Any], Any] = lambda result: None,
) -> None:
    """Do some work on each chunk; NumPy's own loops let other threads run.

    Args:
        work: Gets the start and the end of a chunk.
        chunks: The chunks.
        threads: The number of threads; a few chunks more than that are in memory at once.
        progress: Told of the examples of each chunk that is done.
        take: Gets the results, in the order of the chunks.
    """
    waiting: deque[tuple[tuple[int, int], Future[Any]]] = deque()

    def finish() -> None:
        (start, stop), future = waiting.popleft()
        take(future.result())
        if progress is not None:
            progress(stop - start)

    with ThreadPoolExecutor(max(1, threads)) as executor:
        for chunk in chunks:
            waiting.append((chunk, executor.submit(work, *chunk)))
            if len(waiting) > 2 * threads:
                finish()
        while waiting:
            finish()


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Progress]:
    """Show a bar on standard error while it is a terminal.

    Args:
        title: What is done.
        total: The number of examples to be done.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.advance(task, done)

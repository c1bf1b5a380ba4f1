"""Time and memory as the pool grows but the sample does not: the order, a stage, held-out ids, and real files.

python benchmarks/pool_scale.py [--largest 1000000] [--sample 10000] [--orders-only] [--classifier-only SIZE ...]

With ``--orders-only`` only the orders of a pool of 10 million are measured: drawn, divided among sources, and by
relevance. With ``--classifier-only`` only the scores of a classifier are, of pools of some sizes.

All data is generated in a temporary folder. Memory is the peak of what Python and numpy allocate (tracemalloc), in a
separate run from the timed one; for files it is the growth of the process, with and without the pages of the files that
it maps, which the system reclaims when it needs them.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import sys
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import datasets  # noqa: F401 - imported here so that no timed run imports it
import numpy as np
import pandas as pd
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.utils.data import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from gradual import FileDataModule, MixedDomainDataModule
from gradual.data.order import draw
from gradual.data.pool_order import UniformOrder
from gradual.data.relevance.ranking import ranked
from gradual.data.relevance.scores import Scorer
from gradual.data.relevance.settings import Order
from gradual.data.relevance.tokens import Corpus, Tokens

IN_DOMAIN = 1000
WORDS = [f"word{index}" for index in range(5000)]
MB = 1e6


class Numbers(Dataset[int]):
    """A pool of any size that takes no memory."""

    def __init__(self, size: int, ids: Any = None):
        self.size = size
        if ids is not None:
            self.ids = ids

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> int:
        return index


def seconds(work: Callable[[], Any], repeats: int = 3) -> float:
    """The minimum time of a few runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def allocated(work: Callable[[], Any]) -> float:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / MB
    finally:
        tracemalloc.stop()


def table(title: str, heads: list[str], rows: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    print(f"\n{title}\n")
    print("| " + " | ".join(head.rjust(width) for head, width in zip(heads, widths, strict=True)) + " |")
    print("| " + " | ".join("-" * (width - 1) + ":" for width in widths) + " |")
    for row in rows:
        print("| " + " | ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) + " |", flush=True)


def one_stage(data: MixedDomainDataModule, k: int) -> None:
    """Do what a stage does with its data before the first step: draw the sample, list its ids, and load a batch."""
    data.set_stage(k)
    data.sample_ids()
    next(iter(data.train_dataloader()))


def stages(sample: int) -> None:
    rows = []
    for exponent in range(4, 10):
        size = 10**exponent
        amount = min(sample, size)
        data = MixedDomainDataModule(Numbers(IN_DOMAIN), Numbers(size), schedule=[amount, amount // 2])
        data.setup()
        works: list[Callable[[], Any]] = [
            partial(draw, size, amount, seed=0),
            partial(data.set_stage, 1),
            partial(one_stage, data, 1),
        ]
        rows.append([f"{size:,}", *(cell for work in works for cell in (ms(seconds(work)), f"{allocated(work):.2f}"))])
    heads = ["pool", "draw, ms", "MB", "set_stage, ms", "MB", "to the first batch, ms", "MB"]
    table(f"A sample of {sample:,} (draw) and of {sample // 2:,} (stage), as the pool grows", heads, rows)
    rows = []
    for exponent in range(4, 8):
        size = 10**exponent
        data = MixedDomainDataModule(Numbers(IN_DOMAIN), Numbers(10**9), schedule=[size])
        data.setup()
        works = [partial(draw, 10**9, size, seed=0), data.train_dataloader]
        rows.append(
            [f"{size:,}", *(cell for work in works for cell in (ms(seconds(work, 1)), f"{allocated(work):.1f}"))]
        )
    table("A pool of a billion, as the sample grows", ["sample", "draw, ms", "MB", "train_dataloader, ms", "MB"], rows)


def held_out(largest: int) -> None:
    rows = []
    val = Numbers(1000, [f"example-{index}" for index in range(0, 10**9, 10**6)])
    for exponent in range(4, len(str(largest))):
        size = 10**exponent
        names = [f"example-{index}" for index in range(size)]
        row = [f"{size:,}"]
        for ids in (names, pd.Index(names, dtype="string[pyarrow]")):
            pool = Numbers(size, ids)

            def setup(pool: Numbers = pool) -> None:
                MixedDomainDataModule(Numbers(1), pool, val, schedule=[0]).setup()

            row += [ms(seconds(setup, 1)), f"{allocated(setup):.2f}"]
        rows.append(row)
    table("Ids compared with 1,000 held-out ones, once", ["pool", "list, ms", "MB", "Arrow, ms", "MB"], rows)


def files(largest: int, sample: int) -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        vocabulary = {word: index for index, word in enumerate(["[PAD]", "[UNK]", *WORDS])}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(root)
        AutoTokenizer.from_pretrained(root)  # imports its dependencies
        write_examples(root / "in.jsonl", IN_DOMAIN, "in")
        for exponent in range(3, len(str(largest))):
            size = 10**exponent
            pool = root / f"pool-{size}.jsonl"
            write_examples(pool, size, "out")
            first, second = (in_a_process(read_files, root, pool, min(sample, size)) for _ in range(2))
            rows.append([f"{size:,}", f"{pool.stat().st_size / MB:.1f}", f"{first['open']:.2f}"])
            rows[-1] += [f"{size / first['open']:,.0f}", f"{second['open'] * 1000:.0f}", f"{second['mb_open']:.1f}"]
            rows[-1] += [ms(second["stage"]), f"{second['epoch']:.2f}"]
            rows[-1] += [f"{second['mb_own']:.1f}", f"{second['mb']:.1f}"]
            pool.unlink()
    heads = ["examples", "file, MB", "first run, s", "examples/s", "second, ms", "MB", "set_stage and sample, ms"]
    heads += ["an epoch, s", "own MB", "with pages, MB"]
    table(f"JSON lines of 5 to 35 words, tokenized; a sample of {sample:,} and {IN_DOMAIN:,} in-domain", heads, rows)


ORDERED, LENGTH = 10**7, 20  # examples, and tokens of each


class Generated(Numbers):
    """A pool whose tokens are made when they are read, some of them more often than others."""

    def token_ids(self, start: int, stop: int) -> Tokens:
        """The tokens of some examples, always the same."""
        random = np.random.default_rng(start)
        ids = random.integers(0, 1000, (stop - start) * LENGTH) ** 2 // 33
        return Tokens(ids, np.full(stop - start, LENGTH))

    @property
    def token_key(self) -> str:
        """What tells the pool from others."""
        return str(self.size)


def orders() -> None:
    """Draw and order a pool of 10 million examples, each in a process of its own."""
    rows = []
    for name, work in (
        ("uniform, all of it", _uniform), ("uniform, 3 sources, half of it", _sources),
        ("by weights, 3 sources, half of it", _weighted), ("by given scores, all of it", _ranked),
        ("the same with noise", _noisy), ("n-grams scored", _ngrams),
    ):  # fmt: skip
        took, _, peak = in_a_process(_measured, work)
        rows.append([name, f"{took:.1f}", f"{peak:.0f}", f"{peak * MB / ORDERED:.0f}"])
        print(*rows[-1], sep=", ", file=sys.stderr, flush=True)
    heads = ["order", "s", "MB", "bytes per example"]
    table(f"A pool of {ORDERED:,}, of {LENGTH} tokens each where these are read; growth of the process", heads, rows)


def classifier(sizes: Sequence[int]) -> None:
    """Score pools of several sizes by a classifier, each in a process of its own."""
    rows = []
    for size in sizes:
        took, busy, peak = in_a_process(_measured, _scored, "classifier", size)
        rows.append([f"{size:,}", f"{took:.0f}", f"{busy:.0f}", f"{peak:.0f}"])
        print(*rows[-1], sep=", ", file=sys.stderr, flush=True)
    title = f"Scored by a classifier, {IN_DOMAIN:,} in-domain examples, {LENGTH} tokens each; growth of the process"
    table(title, ["pool", "s", "s of CPU", "MB"], rows)


def _measured(work: Callable[..., Any], *arguments: Any) -> tuple[float, float, float]:
    """Seconds, those of the CPU, and the growth of the peak of the process in MB, without pages of files."""
    peak, start_memory, ended = [0.0], resident()[0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            peak[0] = max(peak[0], resident()[0])

    watcher = threading.Thread(target=watch)
    watcher.start()
    start, start_busy = time.perf_counter(), time.process_time()
    work(*arguments)
    took, busy = time.perf_counter() - start, time.process_time() - start_busy
    ended.set()
    watcher.join()
    return took, busy, peak[0] - start_memory


def _uniform() -> None:
    UniformOrder({"": ORDERED}, None, 0).first(ORDERED)


SIZES = {"a": ORDERED // 2, "b": ORDERED // 4, "c": ORDERED // 4}


def _sources() -> None:
    order = UniformOrder(SIZES, None, 0)
    order.of_each(order.counts(ORDERED // 2))


def _weighted() -> None:
    order = UniformOrder(SIZES, [1.0, 5.0, 2.0], 0)
    order.of_each(order.counts(ORDERED // 2))


def _ranked(noise: float = 0.0) -> None:
    scores = np.random.default_rng(0).random(ORDERED, dtype=np.float32)
    ranked(scores, {"": ORDERED}, None, 0, noise).first(ORDERED)


def _noisy() -> None:
    _ranked(0.5)


def _scored(by: Literal["classifier", "ngrams"], pool: int = ORDERED) -> None:
    with tempfile.TemporaryDirectory() as folder:
        empty = np.empty(0, dtype=np.int64)
        parts = (Corpus(Generated(size), empty, None, None, "the pool") for size in (IN_DOMAIN, pool))
        Scorer(Order(by), Path(folder), processes=1).scores(*parts)


def _ngrams() -> None:
    _scored("ngrams")


def write_examples(path: Path, size: int, name: str) -> None:
    random = np.random.default_rng(0)
    lengths = random.integers(5, 36, size)
    with path.open("w") as file:
        for index, length in enumerate(lengths):
            text = " ".join(WORDS[word] for word in random.integers(0, len(WORDS), length))
            file.write(json.dumps({"id": f"{name}-{index}", "text": text, "label": int(length) % 3}) + "\n")
    os.utime(path, (time.time() - 60,) * 2)  # an older file, so that its digest is cached


def read_files(root: Path, pool: Path, sample: int) -> dict[str, float]:
    own, mapped = resident()
    start = time.perf_counter()
    data = FileDataModule(
        str(root / "in.jsonl"), str(pool), str(root / "in.jsonl"), text_column="text", tokenizer=str(root),
        cache_dir=str(root / "cache"), label_column="label", batch_tokens=4096,
    )  # fmt: skip
    data.schedule = [sample, 0]
    data.prepare_data()
    data.setup()
    opened, own_opened = time.perf_counter(), resident()[0]
    data.set_stage(0)
    data.sample()
    staged = time.perf_counter()
    for _ in data.train_dataloader():
        pass
    end, (own_end, mapped_end) = time.perf_counter(), resident()
    return {
        "open": opened - start, "mb_open": own_opened - own, "stage": staged - opened, "epoch": end - staged,
        "mb_own": own_end - own, "mb": own_end + mapped_end - own - mapped,
    }  # fmt: skip


def resident() -> tuple[float, float]:
    """The resident memory of this process in MB: its own, and pages of files."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    found = {line[0]: int(line[1]) * 1024 / MB for line in lines if line[0] in ("RssAnon:", "RssFile:")}
    return found["RssAnon:"], found["RssFile:"]


def in_a_process(work: Callable[..., Any], *arguments: Any) -> Any:
    context = multiprocessing.get_context("fork")
    with context.Pool(1) as pool:
        return pool.apply(_not_daemonic, (work, *arguments))


def _not_daemonic(work: Callable[..., Any], *arguments: Any) -> Any:
    multiprocessing.process.current_process().daemon = False  # tokenizing starts further processes
    return work(*arguments)


def ms(value: float) -> str:
    return f"{value * 1000:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", type=int, default=10**6, help="examples in the largest file, a power of ten")
    parser.add_argument("--largest-ids", type=int, default=10**7, help="most ids to compare, a power of ten")
    parser.add_argument("--sample", type=int, default=10_000, help="out-of-domain examples of a stage")
    parser.add_argument("--orders-only", action="store_true", help="measure the orders of 10 million examples only")
    parser.add_argument("--classifier-only", type=int, nargs="+", metavar="SIZE", help="pools to score by a classifier")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    if arguments.classifier_only:
        classifier(arguments.classifier_only)
        return
    orders()
    if arguments.orders_only:
        return
    classifier((200_000, 1_000_000, ORDERED))
    stages(arguments.sample)
    files(arguments.largest, arguments.sample)  # first, since the size of this process is measured
    held_out(arguments.largest_ids)


if __name__ == "__main__":
    main()

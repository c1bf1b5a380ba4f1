"""The tokens of examples, which scorers of relevance read: a chunk at a time, from wherever they are kept."""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from gradual.data.subsets import size_of
from gradual.errors import InputError

Ints = npt.NDArray[np.int64]

CHUNK = 8192
"""Examples that are read at once."""

_WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class Tokens:
    """The tokens of several examples.

    Attributes:
        ids: Their ids, one example after the other, shape ``(tokens,)``.
        lengths: The number of tokens of each example, shape ``(examples,)``.
    """

    ids: Ints
    lengths: Ints

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def example(self) -> Ints:
        """The example of each token, an index, shape ``(tokens,)``."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    def lists(self) -> list[list[int]]:
        """The ids of each example."""
        return [part.tolist() for part in np.split(self.ids, np.cumsum(self.lengths)[:-1])]

    @classmethod
    def of(cls, lists: Sequence[Sequence[int]]) -> Tokens:
        """Join the ids of examples."""
        lengths = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
        return cls(np.fromiter(chain.from_iterable(lists), dtype=np.int64, count=int(lengths.sum())), lengths)


class Corpus:
    """The examples of a dataset as tokens.

    A dataset that has tokens has a method ``token_ids(start, stop)``, which returns the ``Tokens`` of consecutive
    examples, such as those that are kept in the cache of files. Otherwise the words of ``text_of`` are taken.

    Args:
        dataset: The dataset.
        left_out: The sorted positions of examples that are left out of training; nothing is learned from them.
        text_of: Returns the text of an example; None for datasets that have tokens.
        tokenizer: Turns the tokens into text, see ``texts``; None for no tokens.
        where: What the dataset is called in messages.

    Raises:
        InputError: There are neither tokens nor ``text_of``.
    """

    def __init__(self, dataset: Any, left_out: Ints, text_of: Callable[[Any], str] | None, tokenizer: Any, where: str):
        self.dataset, self.left_out, self.text_of, self.tokenizer = dataset, left_out, text_of, tokenizer
        self.has_tokens = text_of is None
        if self.has_tokens and not hasattr(dataset, "token_ids"):
            raise InputError(
                f"An order by relevance needs the text of each example, but {where} has none: pass text_of, which "
                "returns it, or set text_column for files."
            )

    def __len__(self) -> int:
        return size_of(self.dataset)

    def read(self, start: int, stop: int) -> Tokens:
        """Read the tokens of consecutive examples."""
        if self.has_tokens:
            found: Tokens = self.dataset.token_ids(start, stop)
            return found
        words = (_WORD.findall(text.lower()) for text in self.texts(start, stop))
        return Tokens.of([[zlib.crc32(word.encode("utf-8", "surrogatepass")) for word in each] for each in words])

    def texts(self, start: int, stop: int) -> list[str]:
        """Read consecutive examples as text; what tokens do not tell, such as white space, is lost."""
        if self.text_of is not None:
            return [self.text_of(self.dataset[index]) for index in range(start, stop)]
        decoded: list[str] = self.tokenizer.batch_decode(
            self.dataset.token_ids(start, stop).lists(), skip_special_tokens=True
        )
        return decoded

    def chunks(self) -> list[tuple[int, int]]:
        """The starts and ends of chunks of examples."""
        return [(start, min(start + CHUNK, len(self))) for start in range(0, len(self), CHUNK)]

    def kept(self, start: int, stop: int) -> npt.NDArray[np.bool_]:
        """Which of consecutive examples are not left out, shape ``(examples,)``."""
        found = np.ones(stop - start, dtype=np.bool_)
        found[self.left_out[slice(*np.searchsorted(self.left_out, (start, stop)))] - start] = False
        return found

    def at(self, positions: Sequence[int]) -> Tokens:
        """Read the tokens of examples at sorted positions, chunk by chunk."""
        wanted, found = np.asarray(positions, dtype=np.int64), []
        for start, stop in self.chunks():
            inside = wanted[slice(*np.searchsorted(wanted, (start, stop)))] - start
            if len(inside):
                tokens = self.read(start, stop)
                ends = np.cumsum(tokens.lengths)
                begins = ends - tokens.lengths
                lengths = tokens.lengths[inside]
                within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
                found.append(Tokens(tokens.ids[np.repeat(begins[inside], lengths) + within], lengths))
        return Tokens(
            np.concatenate([np.empty(0, dtype=np.int64), *(part.ids for part in found)]),
            np.concatenate([np.empty(0, dtype=np.int64), *(part.lengths for part in found)]),
        )

    def key(self, of_texts: bool = False) -> str:
        """Return a digest of all tokens or texts, or what the dataset says identifies its tokens (``token_key``)."""
        digest = hashlib.sha256(self.left_out.tobytes())
        known = getattr(self.dataset, "token_key", None) if self.has_tokens else None
        if known is not None:
            digest.update(str(known).encode())
            return digest.hexdigest()
        for start, stop in self.chunks():
            tokens = self._bytes_of_texts(start, stop) if of_texts else self.read(start, stop)
            digest.update(tokens.lengths.tobytes())
            digest.update(tokens.ids.tobytes())
        return digest.hexdigest()

    def _bytes_of_texts(self, start: int, stop: int) -> Tokens:
        encoded = [text.encode("utf-8", "surrogatepass") for text in self.texts(start, stop)]
        lengths = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
        return Tokens(np.frombuffer(b"".join(encoded), dtype=np.uint8), lengths)


class JoinedCorpus(Corpus):
    """Several corpora as one, such as the sources of a pool.

    Args:
        parts: The corpora.
    """

    def __init__(self, parts: Sequence[Corpus]):
        self.parts = list(parts)
        self.has_tokens, self.tokenizer = parts[0].has_tokens, parts[0].tokenizer
        self.starts = np.cumsum([0, *(len(part) for part in parts)])
        self.left_out = np.concatenate([part.left_out + start for part, start in zip(parts, self.starts)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def read(self, start: int, stop: int) -> Tokens:
        """Read the tokens of consecutive examples."""
        found = [part.read(*inside) for part, inside in self._inside(start, stop)]
        return Tokens(np.concatenate([each.ids for each in found]), np.concatenate([each.lengths for each in found]))

    def texts(self, start: int, stop: int) -> list[str]:
        """Read consecutive examples as text."""
        return [text for part, inside in self._inside(start, stop) for text in part.texts(*inside)]

    def key(self, of_texts: bool = False) -> str:
        """Return a digest of all tokens or texts."""
        return hashlib.sha256("".join(part.key(of_texts) for part in self.parts).encode()).hexdigest()

    def _inside(self, start: int, stop: int) -> Iterator[tuple[Corpus, tuple[int, int]]]:
        for part, begin in zip(self.parts, self.starts.tolist()):
            inside = max(start - begin, 0), min(stop - begin, len(part))
            if inside[0] < inside[1]:
                yield part, inside

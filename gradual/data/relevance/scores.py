"""The relevance of each example of a pool: computed once by one process, and then kept in a cache folder.

The key of the scores is made of the content of in-domain data and pool and of the settings, so that they are found
again whatever the files are called. They stay in their file, which is mapped, not loaded.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gradual.data.relevance.classifier import classifier_scores
from gradual.data.relevance.embedding import MeanStates, embedding_scores
from gradual.data.relevance.ngrams import importance_scores
from gradual.data.relevance.parallel import progress_bar
from gradual.data.relevance.settings import Order
from gradual.data.relevance.tokens import Corpus
from gradual.data.tokenization import cores
from gradual.digest import digest_of_files
from gradual.errors import InputError
from gradual.files import whole_file
from gradual.lock import lock
from gradual.logging import note
from gradual.nn.encoder import weights_of

log = logging.getLogger(__name__)

Scores = npt.NDArray[np.float32]

_SETTINGS = (".json", ".txt", ".model", ".bpe", ".py")  # of the files of tokenizers, configurations and code
_VERSION = 1  # incremented whenever a scorer returns something else for the same data


@dataclass(frozen=True)
class Scorer:
    """Scores a pool by its relevance to in-domain data, which knows nothing of validation and test data.

    Attributes:
        order: What relevance is measured by: an embedding, a classifier or n-grams.
        cache: Folder in which the scores are kept.
        tokenizer: Folder or name of the tokenizer that tokens come from; "" for texts.
        processes: The number of threads; None for one per core.
        trust_remote_code: Run Python code that comes with an encoder.
    """

    order: Order
    cache: Path
    tokenizer: str = ""
    processes: int | None = None
    trust_remote_code: bool = False

    def scores(self, in_domain: Corpus, pool: Corpus) -> Scores:
        """Compute the score of each example, higher for those that are more like in-domain data.

        Args:
            in_domain: The in-domain training data.
            pool: The pool.

        Returns:
            Shape ``(examples,)``, mapped from the cache. Examples that are left out have scores, too, but none depends
            on them.

        Raises:
            InputError: The scorer lacks a package, an encoder or examples.
        """
        path = self.cache / "relevance" / f"{self._key(in_domain, pool)}.npy"
        found = _opened(path, len(pool))
        if found is None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with lock(path.with_suffix(".lock"), lambda: log.info("Waiting for the process that orders the pool.")):
                    found = _opened(path, len(pool))
                    if found is None:
                        with whole_file(path) as temporary:
                            self._compute(in_domain, pool, temporary)
                        found = _opened(path, len(pool))
            except OSError as error:
                raise InputError(
                    f"The cache folder {self.cache} cannot be written to ({error.strerror or error}): make room, or "
                    "choose another cache_dir."
                ) from error
        assert found is not None
        return found

    def _compute(self, in_domain: Corpus, pool: Corpus, target: Path) -> None:
        by, threads = self.order.by, self.processes or cores()
        note("Scoring %d out-of-domain examples by relevance (%s).", len(pool), by)
        passes = 2 if by == "ngrams" else 1
        scorers: dict[str, Callable[..., None]] = {"ngrams": importance_scores, "classifier": classifier_scores}
        with target.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (len(pool),)})
            start = file.tell()
            file.truncate(start + 4 * len(pool))
        out: Scores = np.memmap(target, dtype=np.float32, mode="r+", offset=start, shape=(len(pool),))
        with progress_bar("Scoring the pool", passes * len(pool)) as progress:
            if by == "embedding":
                embedding_scores(in_domain, pool, out, self._states(), progress)
            else:
                scorers[by](in_domain, pool, out, threads, progress)
        out.flush()  # type: ignore[attr-defined]

    def _states(self) -> MeanStates:
        return MeanStates(self._encoder, self.tokenizer, self.trust_remote_code)

    @property
    def _encoder(self) -> str:
        encoder = self.order.encoder or self.tokenizer
        if not encoder:
            raise InputError("An order by embedding needs an encoder: set order.encoder to a folder or a hub name.")
        return encoder

    def _key(self, in_domain: Corpus, pool: Corpus) -> str:
        """A digest of all that the scores depend on."""
        if self.order.by == "embedding":
            encoder, takes_tokens = self._encoder, self.order.encoder in (None, self.tokenizer)
            keys = [corpus.key(of_texts=not (takes_tokens and corpus.has_tokens)) for corpus in (in_domain, pool)]
            made_of = [weights_of(encoder), _settings_of(encoder)] if Path(encoder).is_dir() else encoder
            return _digest([_VERSION, self.order.by, *keys, made_of, takes_tokens])
        parts: list[Any] = [_VERSION, self.order.by, in_domain.key(), pool.key()]
        if self.order.by == "classifier":
            with suppress(Exception):  # without it there is an error later, which says so
                parts.append(version("scikit-learn"))
        return _digest(parts)


def _settings_of(folder: str) -> str:
    """A digest of what a folder has besides the weights of an encoder: its tokenizer, configuration and code."""
    return digest_of_files(
        sorted(path for path in Path(folder).iterdir() if path.suffix in _SETTINGS and path.is_file())
    )


def _digest(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _opened(path: Path, size: int) -> Scores | None:
    """The scores in a file; None if there is none, or it is damaged."""
    if not path.exists():
        return None
    try:
        found: Scores = np.load(path, mmap_mode="r")
        if found.shape == (size,) and found.dtype == np.float32:
            return found
    except (OSError, ValueError):
        pass
    log.warning("%s is damaged and is created again.", path)
    return None

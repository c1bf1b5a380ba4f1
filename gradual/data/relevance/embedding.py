"""Scores by the hidden states of an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from gradual.data.relevance.parallel import Progress, map_chunks
from gradual.data.relevance.tokens import Corpus
from gradual.nn.encoder import load_encoder, load_tokenizer, resolve_max_length

_TOKENS_AT_ONCE = 8192  # with padding


class MeanStates:
    """Mean hidden states of texts: those of the last layer, averaged over all tokens, as in Sentence-BERT.

    Args:
        encoder: Folder of a pretrained model, or its name on the hub. Of an encoder-decoder model the encoder is taken.
        tokenizer: The folder or name of the tokenizer that the examples' tokens come from; "" for texts.
        trust_remote_code: Run Python code that comes with the encoder.
    """

    def __init__(self, encoder: str, tokenizer: str, trust_remote_code: bool):
        model = load_encoder(encoder, trust_remote_code=trust_remote_code)
        if getattr(model.config, "is_encoder_decoder", False):
            model = model.get_encoder()
        self._model = model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
        self._takes_tokens = encoder == tokenizer
        self._tokenizer = load_tokenizer(encoder, trust_remote_code=trust_remote_code)
        self._longest = resolve_max_length(self._tokenizer, encoder, None, trust_remote_code)

    def of(self, corpus: Corpus, start: int, stop: int) -> npt.NDArray[np.float64]:
        """Return a vector of length 1 for each of consecutive examples, shape ``(examples, d)``; 0 for no tokens."""
        if self._takes_tokens and corpus.has_tokens:
            lists = [ids[: self._longest] for ids in corpus.read(start, stop).lists()]
        else:
            texts, longest = corpus.texts(start, stop), self._longest
            lists = self._tokenizer(texts, truncation=longest is not None, max_length=longest)["input_ids"]
        return self._means(lists)

    @torch.inference_mode()
    def _means(self, lists: Sequence[Sequence[int]]) -> npt.NDArray[np.float64]:
        lengths = np.array([len(ids) for ids in lists])
        order = np.argsort(-lengths, kind="stable")
        found, at = np.zeros((len(lists), self._model.config.hidden_size)), 0
        while at < len(order) and lengths[order[at]]:
            rows = order[at : at + max(1, _TOKENS_AT_ONCE // int(lengths[order[at]]))]
            rows = rows[lengths[rows] > 0]
            found[rows] = self._batch([torch.tensor(lists[row]) for row in rows]).cpu().numpy()
            at += len(rows)
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)

    def _batch(self, ids: list[Tensor]) -> Tensor:
        padded = pad_sequence(ids, batch_first=True).to(self._model.device)
        mask = pad_sequence([torch.ones_like(each) for each in ids], batch_first=True).to(self._model.device)
        states: Any = self._model(input_ids=padded, attention_mask=mask).last_hidden_state
        return (states.double() * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def embedding_scores(
    in_domain: Corpus, pool: Corpus, out: npt.NDArray[np.float32], states: MeanStates, progress: Progress
) -> None:
    """Score the examples of a pool by the cosine to the mean of the in-domain examples (Aharoni and Goldberg, 2020).

    Args:
        in_domain: The in-domain training data.
        pool: The pool.
        out: Where the scores go, shape ``(examples,)``.
        states: Turns examples into vectors.
        progress: Told of each example that is done.
    """
    total: Any = 0.0
    for start, stop in in_domain.chunks():
        total = total + states.of(in_domain, start, stop)[in_domain.kept(start, stop)].sum(0)
    target = total / max(float(np.linalg.norm(total)), 1e-12)

    def score(start: int, stop: int) -> None:
        out[start:stop] = states.of(pool, start, stop) @ target

    map_chunks(score, pool.chunks(), 1, progress)  # one at a time: torch has threads of its own

"""DyGIE++ computed the plain way, one document a batch, as a reference for the package's model.

The sentences of a document are padded to its longest, and so are their spans; the vector ``[start; end; width]`` of
every span is computed, and so is that of every pair of kept candidates.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from gradual.tasks.events.batch import Pruning
from gradual.tasks.events.features import EncodedDocument, EncodedSentence
from gradual.tasks.events.loss import LossWeights
from gradual.tasks.events.model import Dygie

BUCKET_ENDS = torch.tensor([0, 1, 2, 3, 4, 7, 15, 31, 63])


class PlainDygie(nn.Module):
    """Computes entities, triggers and arguments of a document the plain way.

    Args:
        model: The model whose weights to use.
        pad_token_id: The tokenizer's padding token.
    """

    def __init__(self, model: Dygie, pad_token_id: int):
        super().__init__()
        self.encoder, self.widths, self.distances = model.encoder, model.widths, model.distances
        self.encoder.set_attn_implementation("eager")
        self.scorers, self.pad_token_id = model.scorers, pad_token_id
        self.max_width = model.widths.num_embeddings

    def forward(self, document: EncodedDocument) -> Tensor:
        """The loss of a document in which all layers are annotated."""
        sentences = document.sentences
        tokens = self.encode(sentences)  # sentences, most tokens, d
        spans = [_spans(sentence.length, self.max_width) for sentence in sentences]
        inside = pad_sequence([torch.ones(len(s), dtype=torch.bool) for s in spans], batch_first=True)
        padded = pad_sequence(spans, batch_first=True)  # sentences, most spans, 2
        vectors = torch.cat(
            [
                _pick(tokens, padded[..., 0]),
                _pick(tokens, padded[..., 1]),
                self.widths(padded[..., 1] - padded[..., 0]),
            ],
            dim=-1,
        )
        weights, total = LossWeights(), tokens.new_zeros(())
        if "ner" in self.scorers:
            labels = [_span_labels(s.ner, pairs) for s, pairs in zip(sentences, spans)]
            total = total + weights.ner * _loss(self.score("ner", vectors)[inside], torch.cat(labels))
        if "triggers" in self.scorers:
            real = pad_sequence([torch.ones(s.length, dtype=torch.bool) for s in sentences], batch_first=True)
            labels = [_trigger_labels(s) for s in sentences]
            scores = self.score("triggers", tokens)[real]
            total = total + weights.events * weights.triggers * _loss(scores, torch.cat(labels))
        if "arguments" in self.scorers:
            part = self.arguments(sentences, spans, tokens, vectors)
            total = total + weights.events * weights.arguments * part
        return document.weight * total

    def encode(self, sentences: list[EncodedSentence]) -> Tensor:
        """Token vectors, shape ``(sentences, most tokens, d)``; every sentence must fit into the encoder."""
        pieces = [torch.from_numpy(sentence.windows[0].astype("int64")) for sentence in sentences]
        ids = pad_sequence(pieces, batch_first=True, padding_value=self.pad_token_id)
        mask = torch.arange(ids.shape[1]) < torch.tensor([len(p) for p in pieces])[:, None]
        states = self.encoder(ids, attention_mask=mask.long()).last_hidden_state
        vectors = []
        for sentence, own in zip(sentences, states):
            token = torch.from_numpy(sentence.token)
            sums = own.new_zeros(sentence.length, own.shape[1])
            sums = sums.index_add(0, token, own[torch.from_numpy(sentence.column)])
            vectors.append(sums / torch.bincount(token)[:, None])
        return pad_sequence(vectors, batch_first=True)

    def arguments(
        self, sentences: list[EncodedSentence], spans: list[Tensor], tokens: Tensor, vectors: Tensor
    ) -> Tensor:
        """The loss of arguments over all pairs of a sentence's kept tokens and kept spans."""
        lengths = torch.tensor([sentence.length for sentence in sentences])
        counts = torch.tensor([len(pairs) for pairs in spans])
        rates = Pruning()
        few = (rates.triggers * lengths).long().clamp(1, rates.max_triggers)
        many = (rates.arguments * lengths).long().clamp(1, rates.max_arguments).minimum(counts)
        trigger, trigger_scores = _kept(self.score("trigger_candidates", tokens), lengths, few)
        span, span_scores = _kept(self.score("argument_candidates", vectors), counts, many)
        shape = (*trigger.shape, span.shape[1])  # sentences, most triggers, most spans
        start, end = pad_sequence(spans, batch_first=True).unbind(-1)
        start, end = (x.gather(1, span)[:, None].expand(shape) for x in (start, end))
        at = trigger[:, :, None].expand(shape)
        within = (at >= start) & (at <= end)
        distance = torch.minimum((at - start).abs(), (at - end).abs()).masked_fill(within, 0)
        place = torch.stack([at < start, within], dim=-1).to(tokens.dtype)
        pairs = torch.cat(
            [
                _pick(tokens, trigger)[:, :, None].expand(*shape, -1),
                _pick(vectors, span)[:, None].expand(*shape, -1),
                self.distances(torch.bucketize(distance, BUCKET_ENDS)),
                place,
            ],
            dim=-1,
        )
        scores = self.score("arguments", pairs) + trigger_scores[:, :, None] + span_scores[:, None]
        real = (torch.arange(shape[1]) < few[:, None])[:, :, None] & (torch.arange(shape[2]) < many[:, None])[:, None]
        labels = [
            _role_labels(sentence, at[i][own], start[i][own], end[i][own])
            for i, (sentence, own) in enumerate(zip(sentences, real))
        ]
        return _loss(scores[real], torch.cat(labels))

    def score(self, name: str, vectors: Tensor) -> Tensor:
        """Apply a scorer to full vectors; its first layer concatenates the weights of the parts."""
        scorer: Any = self.scorers[name]
        weight, bias = _whole(scorer.first)
        rows = scorer.dropout(F.relu(F.linear(vectors, weight, bias)))
        return scorer.output(scorer.dropout(F.relu(scorer.second(rows))))


def _whole(first: Any) -> tuple[Tensor, Tensor]:
    if isinstance(first, nn.Linear):
        return first.weight, first.bias
    span = getattr(first, "span", first)
    parts = [span.start, span.end, span.width]
    if span is not first:  # [trigger; span; distance and place]
        parts = [first.trigger, *parts, first.place]
    return torch.cat([part.weight for part in parts], dim=1), span.start.bias


def _kept(scores: Tensor, counts: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """The positions and scores of each sentence's best items, as many as the sentence that keeps the most."""
    real = torch.arange(scores.shape[1]) < counts[:, None]
    places = scores[..., 0].masked_fill(~real, -torch.inf).topk(int(keep.max()), dim=1).indices
    return places, _pick(scores, places)


def _spans(length: int, max_width: int) -> Tensor:
    return torch.tensor([(a, b) for a in range(length) for b in range(a, min(length, a + max_width))])


def _pick(tokens: Tensor, index: Tensor) -> Tensor:
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[-1]))


def _loss(scores: Tensor, labels: Tensor) -> Tensor:
    """The summed cross-entropy with a null class whose score is 0."""
    return F.cross_entropy(F.pad(scores, (1, 0)), labels, reduction="sum")


def _span_labels(rows: object, spans: Tensor) -> Tensor:
    place = {(a, b): at for at, (a, b) in enumerate(spans.tolist())}
    labels = torch.zeros(len(spans), dtype=torch.long)
    for start, end, label in reversed(rows.tolist()):  # type: ignore[attr-defined]
        if (start, end) in place:
            labels[place[start, end]] = label + 1
    return labels


def _trigger_labels(sentence: EncodedSentence) -> Tensor:
    labels = torch.zeros(sentence.length, dtype=torch.long)
    for token, label in reversed(sentence.triggers.tolist()):
        labels[token] = label + 1
    return labels


def _role_labels(sentence: EncodedSentence, trigger: Tensor, start: Tensor, end: Tensor) -> Tensor:
    roles = {(token, a, b): role + 1 for token, _, a, b, role in reversed(sentence.arguments.tolist())}
    places = zip(trigger.tolist(), start.tolist(), end.tolist())
    return torch.tensor([roles.get(place, 0) for place in places])

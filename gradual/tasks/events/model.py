"""DyGIE++ (Wadden et al., 2019): entities, relations and events from shared token and span vectors.

Shapes: ``T`` tokens and ``M`` spans in a batch, ``P`` pairs of kept candidates, ``d`` the width of the encoder. Scorers
have outputs for the real classes only; the null class always scores 0.

Memory for a training batch, besides the encoder's: each scorer on spans (entities, argument candidates, relation
candidates) needs four tensors of ``M x hidden`` floats, for its two layers after ReLU and after dropout, and two masks
of bytes. ``M`` is at most ``max_span_width`` times ``T``: with spans of up to 8 tokens and 150 hidden units, that is 22
kB per token and scorer. Pairs need the same with ``P`` instead of ``M``; pairs of spans for relations additionally need
three span vectors each for their product. The vectors ``[start; end; width]`` of all spans, with more than ``2 d``
floats each, are never materialized: see ``SpanLinear``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradual.nn.fast_cpu import QuickDropout, QuickLinear
from gradual.nn.packing import Packing, encode, take_rows
from gradual.tasks.events.batch import Candidates, SentenceBatch
from gradual.tasks.events.documents import LAYERS
from gradual.tasks.events.labels import LabelSpace

DISTANCES = 10
"""Buckets of distances: 0, 1, 2, 3, 4, 5-7, 8-15, 16-31, 32-63, 64 and more."""
_BUCKET_ENDS = (0, 1, 2, 3, 4, 7, 15, 31, 63)


@dataclass
class Scores:
    """The scores of a batch; None where the model has no scorer.

    Attributes:
        ner: Scores of every span, shape ``(M, entity types)``.
        triggers: Scores of every token, shape ``(T, event types)``.
        arguments: Scores of every kept pair of token and span, shape ``(P, roles)``.
        argument_pairs: The tokens and the spans of these pairs, two tensors of shape ``(P,)``.
        relations: Scores of every kept pair of spans, shape ``(pairs, relation types)``.
        relation_pairs: The first and the second spans of these pairs.
    """

    ner: Tensor | None = None
    triggers: Tensor | None = None
    arguments: Tensor | None = None
    argument_pairs: tuple[Tensor, Tensor] | None = None
    relations: Tensor | None = None
    relation_pairs: tuple[Tensor, Tensor] | None = None


class Scorer(nn.Module):
    """Two hidden layers with ReLU and dropout, and one output per class.

    All weights are initialized Xavier-normal, as in the published code.

    Args:
        first: The first hidden layer, ``hidden`` wide; called with the scorer's own inputs.
        hidden: Width of the hidden layers.
        classes: Number of outputs.
        dropout: Dropout rate after each hidden layer.
    """

    def __init__(self, first: nn.Module, hidden: int, classes: int, dropout: float):
        super().__init__()
        self.first = first
        self.second = QuickLinear(hidden, hidden)
        self.output = QuickLinear(hidden, classes)
        self.dropout = QuickDropout(dropout)
        for layer in (first, self.second, self.output):
            if isinstance(layer, nn.Linear):  # the others initialize themselves
                nn.init.xavier_normal_(layer.weight)

    def forward(self, *inputs: Any) -> Tensor:
        """Return scores, shape ``(rows, classes)``."""
        rows = self.dropout(F.relu(self.first(*inputs)))
        return self.output(self.dropout(F.relu(self.second(rows))))


class SpanLinear(nn.Module):
    """A linear layer on span vectors ``[x_start; x_end; width]`` that never materializes them.

    The product with the whole vector is the sum of products with its parts. Products with tokens are computed once per
    token rather than once per span, of which there are up to ``max_span_width`` times as many.

    Args:
        width: ``d``.
        features: Width of the embedding of a span's width.
        hidden: Number of outputs.
        bias: Whether to add a bias.
    """

    def __init__(self, width: int, features: int, hidden: int, bias: bool = True):
        super().__init__()
        self.start = QuickLinear(width, hidden, bias=bias)
        self.end = QuickLinear(width, hidden, bias=False)
        self.width = QuickLinear(features, hidden, bias=False)
        _initialise_as_one(self.start, self.end, self.width)

    def forward(self, tokens: Tensor, widths: Tensor, start: Tensor, end: Tensor) -> Tensor:
        """Return the outputs of the layer, shape ``(rows, hidden)``.

        Args:
            tokens: Token vectors, shape ``(T, d)``.
            widths: Embedding of each width, shape ``(widths, features)``.
            start: First token of each span, shape ``(rows,)``.
            end: Last token of each span, same shape.

        Returns:
            Shape ``(rows, hidden)``.
        """
        starts, ends, by_width = self.start(tokens), self.end(tokens), self.width(widths)
        return _take(starts, start) + _take(ends, end) + _take(by_width, end - start)


class ArgumentLinear(nn.Module):
    """A linear layer on ``[trigger; span; distance; trigger before span; trigger inside span]``, as a sum of products.

    Args:
        width: ``d``.
        features: Width of the embeddings of span widths and of distances.
        hidden: Number of outputs.
    """

    def __init__(self, width: int, features: int, hidden: int):
        super().__init__()
        self.trigger = QuickLinear(width, hidden, bias=False)
        self.span = SpanLinear(width, features, hidden)
        self.place = QuickLinear(features + 2, hidden, bias=False)
        _initialise_as_one(self.span.start, self.span.end, self.span.width, self.trigger, self.place)

    def forward(
        self, tokens: Tensor, widths: Tensor, distances: Tensor, trigger: Tensor, start: Tensor, end: Tensor
    ) -> Tensor:
        """Return the outputs for pairs of a trigger and a span; ``distances`` holds the embedding of every bucket."""
        before, inside = trigger < start, (trigger >= start) & (trigger <= end)
        distance = torch.minimum((trigger - start).abs(), (trigger - end).abs()).masked_fill(inside, 0)
        bucket = torch.bucketize(distance, torch.tensor(_BUCKET_ENDS, device=distance.device))
        # bucket, before and inside have few combinations: compute the layer's product once for each, then look it up
        cases = torch.cat(
            [distances.repeat_interleave(3, 0), _PLACES.to(distances).repeat(len(distances), 1)], 1
        )  # buckets * 3, features + 2
        case = bucket * 3 + before + 2 * inside
        pairs = self.span(tokens, widths, start, end) + _take(self.trigger(tokens), trigger)
        return pairs + _take(self.place(cases), case)


_PLACES = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
"""Trigger after the span, before it, inside it."""


class RelationLinear(nn.Module):
    """A linear layer on ``[a; b; a * b]`` for two span vectors; only the products of kept pairs are computed.

    Args:
        width: ``d``.
        features: Width of the embedding of a span's width.
        hidden: Number of outputs.
    """

    def __init__(self, width: int, features: int, hidden: int):
        super().__init__()
        self.first, self.second = (SpanLinear(width, features, hidden, bias) for bias in (True, False))
        self.product = QuickLinear(2 * width + features, hidden, bias=False)
        parts = [layer for span in (self.first, self.second) for layer in (span.start, span.end, span.width)]
        _initialise_as_one(*parts, self.product)

    def forward(
        self, tokens: Tensor, widths: Tensor, start: Tensor, end: Tensor, first: Tensor, second: Tensor
    ) -> Tensor:
        """Return the outputs for pairs of kept spans, given as positions in ``start`` and ``end``."""
        spans = torch.cat([_take(tokens, start), _take(tokens, end), _take(widths, end - start)], 1)
        products = self.product(_take(spans, first) * _take(spans, second))
        one = self.first(tokens, widths, start, end)
        other = self.second(tokens, widths, start, end)
        return products + _take(one, first) + _take(other, second)


class Dygie(nn.Module):
    """Scores spans as entities, tokens as triggers, and pairs of kept candidates as arguments and relations.

    Args:
        encoder: A pretrained encoder from ``transformers``, to be fine-tuned.
        features: Width of the embeddings of span widths and of distances.
        hidden: Width of the hidden layers of the scorers.
        dropout: Dropout rate in the scorers.

    Attributes:
        scorers: The scorers by name; empty until ``add_scorers`` is called.
    """

    def __init__(self, encoder: Any, features: int = 20, hidden: int = 150, dropout: float = 0.4):
        super().__init__()
        self.encoder = encoder
        take_rows(encoder)
        self.hidden, self.dropout, self.features = hidden, dropout, features
        self.scorers = nn.ModuleDict()

    def add_scorers(self, labels: LabelSpace, max_span_width: int, layers: Sequence[str] = LAYERS) -> None:
        """Make the scorers, once the labels are known.

        Args:
            labels: The label space.
            max_span_width: Maximum length of a span in tokens.
            layers: The layers to train; those without labels get no scorer.
        """
        width = self.encoder.config.hidden_size

        def span() -> nn.Module:
            return SpanLinear(width, self.features, self.hidden)

        def add(name: str, first: nn.Module, classes: int) -> None:
            self.scorers[name] = Scorer(first, self.hidden, classes, self.dropout)

        if "ner" in layers and labels.ner:
            add("ner", span(), len(labels.ner))
        if "relations" in layers and labels.relations:
            add("relation_candidates", span(), 1)
            add("relations", RelationLinear(width, self.features, self.hidden), len(labels.relations))
        if "events" in layers and labels.triggers:
            add("triggers", QuickLinear(width, self.hidden), len(labels.triggers))
            if labels.roles:
                add("trigger_candidates", QuickLinear(width, self.hidden), 1)
                add("argument_candidates", span(), 1)
                add("arguments", ArgumentLinear(width, self.features, self.hidden), len(labels.roles))
        # distributed training waits for the gradient of every parameter: make none that is not used
        if set(self.scorers) - {"triggers"}:
            self.widths = nn.Embedding(max_span_width, self.features)
            nn.init.xavier_normal_(self.widths.weight)
        if "arguments" in self.scorers:
            self.distances = nn.Embedding(DISTANCES, self.features)
            nn.init.xavier_normal_(self.distances.weight)

    def forward(self, batch: SentenceBatch) -> Scores:
        """Return the scores of a batch."""
        tokens, scorers, scores = self.encode(batch), self.scorers, Scores()
        if "triggers" in scorers:
            scores.triggers = scorers["triggers"](tokens)
        if not hasattr(self, "widths"):  # no scorer on spans
            return scores
        widths, start, end = self.widths.weight, batch.span_start, batch.span_end
        if "ner" in scorers:
            scores.ner = scorers["ner"](tokens, widths, start, end)
        if "arguments" in scorers:
            triggers, trigger_scores = keep(scorers["trigger_candidates"](tokens), batch.trigger_candidates)
            spans, span_scores = keep(
                scorers["argument_candidates"](tokens, widths, start, end), batch.argument_candidates
            )
            first, second = batch.argument_pairs.first, batch.argument_pairs.second
            trigger, span = triggers[first], spans[second]
            scores.argument_pairs = (trigger, span)
            scores.arguments = (
                scorers["arguments"](tokens, widths, self.distances.weight, trigger, start[span], end[span])
                + _take(trigger_scores, first)
                + _take(span_scores, second)
            )
        if "relations" in scorers:
            spans, span_scores = keep(
                scorers["relation_candidates"](tokens, widths, start, end), batch.relation_candidates
            )
            first, second = batch.relation_pairs.first, batch.relation_pairs.second
            scores.relation_pairs = (spans[first], spans[second])
            scores.relations = (
                scorers["relations"](tokens, widths, start[spans], end[spans], first, second)
                + _take(span_scores, first)
                + _take(span_scores, second)
            )
        return scores

    def encode(self, batch: SentenceBatch) -> Tensor:
        """Return token vectors, the mean of the last-layer states of each token's word pieces; shape ``(T, d)``."""
        packing = Packing([group.attention_mask.bool() for group in batch.groups], batch.cells)
        ids = torch.cat([group.input_ids.flatten() for group in batch.groups])[batch.cells]
        words = self.encoder.get_input_embeddings()(
            ids
        )  # a single look-up, as its gradient has the size of the vocabulary
        segments = torch.zeros_like(ids) if getattr(self.encoder.config, "type_vocab_size", 0) > 1 else None
        # compute the mean in single precision, then convert it to the type of the scorers' weights
        states = packing.spread(encode(self.encoder, words, segments, packing).float())
        pieces = _take(states, batch.piece) * batch.piece_share[:, None]
        tokens = pieces.new_zeros(len(batch.token_sentence), pieces.shape[1])
        return tokens.index_add(0, batch.piece_token, pieces).to(words.dtype)


def keep(scores: Tensor, candidates: Candidates) -> tuple[Tensor, Tensor]:
    """Keep the items with the highest scores in each sentence.

    Args:
        scores: Scores of all items, shape ``(items, 1)``.
        candidates: How many items each sentence keeps.

    Returns:
        The kept items in sentence order, shape ``(kept,)``, and their scores, shape ``(kept, 1)``.
    """
    rows, columns = candidates.shape
    table = scores.detach().new_full((rows * columns,), -torch.inf)
    table[candidates.slot] = scores.detach().flatten()
    best = table.view(rows, columns).topk(candidates.most, dim=1).indices
    cells = best + torch.arange(rows, device=best.device)[:, None] * columns
    items = torch.zeros(rows * columns, dtype=torch.long, device=best.device)
    items[candidates.slot] = torch.arange(len(candidates.slot), device=best.device)
    kept = items[cells.flatten()[candidates.kept]]
    return kept, _take(scores, kept)


class _Take(torch.autograd.Function):
    """``rows[index]``; the gradients of a row are summed in single precision at least.

    There are few widths and distances, and a sum of thousands of gradients in bfloat16 stops growing.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.rows = len(rows)
        return F.embedding(index, rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (index,), (gradient,) = ctx.saved_tensors, gradients
        exact = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
        summed = torch.ops.aten.embedding_dense_backward(exact, index, ctx.rows, -1, False)
        return summed.to(gradient.dtype), None


def _take(rows: Tensor, index: Tensor) -> Tensor:
    """Return ``rows[index]``; its gradient is summed row by row, faster than by a general scatter."""
    taken: Tensor = _Take.apply(rows, index)
    return taken


def _initialise_as_one(*layers: nn.Linear) -> None:
    """Initialize layers on parts of a vector as a single Xavier-normal layer on the whole vector would be."""
    whole = nn.Linear(sum(layer.in_features for layer in layers), layers[0].out_features)
    nn.init.xavier_normal_(whole.weight)
    for layer, weight in zip(layers, whole.weight.split([layer.in_features for layer in layers], dim=1)):
        layer.weight.data.copy_(weight)
        if layer.bias is not None:
            layer.bias.data.copy_(whole.bias)

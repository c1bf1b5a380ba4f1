"""A batch's indices against loops over documents, sentences, tokens and spans."""

import math
from fractions import Fraction

import pytest
import torch
from events_examples import encoded_documents
from hypothesis import given
from hypothesis import strategies as st

from gradual.tasks.events.batch import Pruning, SentenceCollator
from gradual.tasks.events.model import keep

PAD = 1
LENGTHS = st.lists(st.lists(st.integers(1, 14), min_size=1, max_size=3), min_size=1, max_size=4)
SHARES = st.integers(0, 125).map(lambda part: part / 100)
PRUNING = st.builds(Pruning, SHARES, st.integers(1, 5), SHARES, st.integers(1, 8), SHARES)


def collate(documents, width=8, pruning=None, relations=True, max_padding=0.1):
    return SentenceCollator(PAD, width, pruning, relations, max_padding)(documents)


class Naive:
    """The batch as lists: its sentences, its tokens and its spans, each with where it comes from."""

    def __init__(self, documents, width):
        self.sentences = [(d, sentence) for d, document in enumerate(documents) for sentence in document.sentences]
        self.tokens = [(s, t) for s, (_, sentence) in enumerate(self.sentences) for t in range(sentence.length)]
        self.spans = [
            (s, start, end)
            for s, (_, sentence) in enumerate(self.sentences)
            for start in range(sentence.length)
            for end in range(start, min(start + width, sentence.length))
        ]
        self.token = {token: at for at, token in enumerate(self.tokens)}
        self.span = {span: at for at, span in enumerate(self.spans)}

    def gold(self, kind):
        """Rows with the sentence in front."""
        return [(s, *row) for s, (_, sentence) in enumerate(self.sentences) for row in getattr(sentence, kind).tolist()]


@given(lengths=LENGTHS, seed=st.integers(0, 9), max_padding=st.sampled_from([0, 0.1, 0.5, 1]))
def test_every_word_piece_is_encoded_in_its_window_and_belongs_to_its_token(lengths, seed, max_padding):
    documents = encoded_documents(lengths, seed, room=12)
    batch, naive = collate(documents, max_padding=max_padding), Naive(documents, 8)
    windows = [window.tolist() for _, sentence in naive.sentences for window in sentence.windows]
    rows = [
        row[: int(mask.sum())].tolist()
        for group in batch.groups
        for row, mask in zip(group.input_ids, group.attention_mask, strict=True)
    ]
    assert sorted(rows) == sorted(windows)
    for group in batch.groups:
        width = group.input_ids.shape[1]
        assert (group.input_ids[group.attention_mask == 0] == PAD).all()
        assert group.attention_mask.tolist() == [
            [int(at < sum(own)) for at in range(width)] for own in group.attention_mask.tolist()
        ]
        assert group.attention_mask.sum(1).max() == width
    cells = sum(group.input_ids.numel() for group in batch.groups)
    assert cells - sum(map(len, windows)) <= max_padding * cells

    flat = torch.cat([group.input_ids.flatten() for group in batch.groups])
    expected = [
        (sentence.windows[row][column], naive.token[s, token])
        for s, (_, sentence) in enumerate(naive.sentences)
        for row, column, token in zip(sentence.row, sentence.column, sentence.token)
    ]
    assert list(zip(flat[batch.piece].tolist(), batch.piece_token.tolist(), strict=True)) == expected
    assert batch.piece.unique().numel() == len(expected), "no two pieces from one cell"
    own = batch.piece_token.tolist()
    assert batch.piece_share.tolist() == pytest.approx([1 / own.count(token) for token in own])


@given(lengths=LENGTHS, seed=st.integers(0, 9), width=st.integers(1, 9))
def test_tokens_and_spans(lengths, seed, width):
    documents = encoded_documents(lengths, seed)
    batch, naive = collate(documents, width), Naive(documents, width)
    assert list(zip(batch.token_sentence.tolist(), batch.token_position.tolist(), strict=True)) == naive.tokens
    spans = [(naive.token[s, start], naive.token[s, end]) for s, start, end in naive.spans]
    assert list(zip(batch.span_start.tolist(), batch.span_end.tolist(), strict=True)) == spans


@given(lengths=LENGTHS, seed=st.integers(0, 9), width=st.integers(1, 9))
def test_labels_are_looked_up_by_place_and_the_first_of_several_counts(lengths, seed, width):
    documents = encoded_documents(lengths, seed, density=0.7)
    batch, naive = collate(documents, width), Naive(documents, width)
    ner, triggers = {}, {}
    for *place, label in naive.gold("ner"):
        ner.setdefault(tuple(place), label + 1)
    for *place, label in naive.gold("triggers"):
        triggers.setdefault(tuple(place), label + 1)
    assert batch.ner_labels.tolist() == [ner.get(span, 0) for span in naive.spans]
    assert batch.trigger_labels.tolist() == [triggers.get(token, 0) for token in naive.tokens]

    arguments, relations = {}, {}
    for s, token, _, start, end, role in naive.gold("arguments"):
        if (s, start, end) in naive.span:
            key = naive.token[s, token] * len(naive.spans) + naive.span[s, start, end]
            arguments.setdefault(key, role + 1)
    for s, *first_and_second, label in naive.gold("relations"):
        first, second = (s, *first_and_second[:2]), (s, *first_and_second[2:])
        if first in naive.span and second in naive.span:
            relations.setdefault(naive.span[first] * len(naive.spans) + naive.span[second], label + 1)
    assert list(map(tuple, batch.argument_labels.tolist())) == sorted(arguments.items())
    assert list(map(tuple, batch.relation_labels.tolist())) == sorted(relations.items())


@given(lengths=LENGTHS, seed=st.integers(0, 9))
def test_gold_annotations_are_all_there_wide_and_double_ones_too(lengths, seed):
    documents = encoded_documents(lengths, seed)
    batch, naive = collate(documents, width=1), Naive(documents, 1)
    for kind in ("ner", "relations", "triggers", "arguments"):
        assert list(map(tuple, getattr(batch.gold, kind).tolist())) == naive.gold(kind)


@given(lengths=LENGTHS)
def test_weights_schemas_and_documents_are_those_of_each_sentence(lengths):
    documents = encoded_documents(lengths)
    batch, naive = collate(documents), Naive(documents, 8)
    own = [documents[d] for d, _ in naive.sentences]
    assert batch.weights.tolist() == [[d.weight if known else 0.0 for known in d.layers] for d in own]
    assert batch.weights.dtype == torch.float32
    assert batch.schema.tolist() == [d.schema for d in own]
    assert batch.document.tolist() == [d for d, _ in naive.sentences]
    assert batch.ids == [d.id for d in documents]


# ---------------------------------------------------------------------------------------------- candidates and pairs


def counts(pruning, length, spans):
    """Candidates that a sentence keeps: triggers, arguments, relations; with fractions, not floats."""
    share = {name: Fraction(str(getattr(pruning, name))) for name in ("triggers", "arguments", "relations")}
    triggers = min(max(math.floor(share["triggers"] * length), 1), pruning.max_triggers, length)
    arguments = min(max(math.floor(share["arguments"] * length), 1), pruning.max_arguments, spans)
    return triggers, arguments, min(math.ceil(share["relations"] * length), spans)


def assert_best_kept(candidates, owners, numbers):
    """The best of each sentence by a sort, sentence after sentence, with the scores that they were kept for."""
    scores = torch.randn(len(owners), 1, generator=torch.Generator().manual_seed(0)) - 5
    kept, kept_scores = keep(scores, candidates)
    assert torch.equal(kept_scores, scores[kept])
    remaining = kept.tolist()
    for sentence, number in enumerate(numbers):
        own = sorted((item for item, owner in enumerate(owners) if owner == sentence), key=lambda item: -scores[item])
        mine, remaining = remaining[:number], remaining[number:]
        assert sorted(mine) == sorted(own[:number])
    assert not remaining


@given(lengths=LENGTHS, pruning=st.just(Pruning()) | PRUNING, width=st.integers(1, 8))
def test_each_sentence_keeps_its_best_candidates(lengths, pruning, width):
    documents = encoded_documents(lengths, density=0)
    batch, naive = collate(documents, width, pruning), Naive(documents, width)
    token_owner, span_owner = [s for s, _ in naive.tokens], [s for s, *_ in naive.spans]
    expected = [counts(pruning, token_owner.count(s), span_owner.count(s)) for s in range(len(naive.sentences))]
    triggers, arguments, relations = zip(*expected)
    assert_best_kept(batch.trigger_candidates, token_owner, triggers)
    assert_best_kept(batch.argument_candidates, span_owner, arguments)
    assert_best_kept(batch.relation_candidates, span_owner, relations)


def test_a_long_sentence_keeps_so_many_at_most_and_a_short_one_at_least_one():
    for length, expected in [
        (1, (1, 1, 1)),
        (2, (1, 1, 1)),
        (3, (1, 2, 2)),
        (10, (3, 8, 5)),
        (37, (11, 29, 19)),
        (40, (12, 30, 20)),
        (49, (14, 30, 25)),
        (50, (15, 30, 25)),
        (300, (15, 30, 150)),
    ]:
        batch = collate(encoded_documents([[length]], density=0))
        kinds = (batch.trigger_candidates, batch.argument_candidates, batch.relation_candidates)
        assert tuple(len(candidates.kept) for candidates in kinds) == expected
        assert tuple(candidates.most for candidates in kinds) == expected


@given(lengths=LENGTHS, pruning=st.just(Pruning()) | PRUNING)
def test_pairs_are_all_of_a_sentences_candidates_with_each_other(lengths, pruning):
    documents = encoded_documents(lengths, density=0)
    batch, naive = collate(documents, 8, pruning), Naive(documents, 8)
    token_owner, span_owner = [s for s, _ in naive.tokens], [s for s, *_ in naive.spans]
    for pairs, (first, first_owner), (second, second_owner) in [
        (batch.argument_pairs, (batch.trigger_candidates, token_owner), (batch.argument_candidates, span_owner)),
        (batch.relation_pairs, (batch.relation_candidates, span_owner), (batch.relation_candidates, span_owner)),
    ]:
        owners = []
        for candidates, owner in ((first, first_owner), (second, second_owner)):
            kept, _ = keep(torch.randn(len(owner), 1), candidates)
            owners.append([owner[item] for item in kept.tolist()])
        expected = [(a, b) for a, one in enumerate(owners[0]) for b, other in enumerate(owners[1]) if one == other]
        assert sorted(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == expected


def test_without_relations_in_the_data_no_pairs_of_spans_are_made():
    batch = collate(encoded_documents([[5, 3]]), relations=False)
    assert len(batch.relation_candidates.kept) == len(batch.relation_pairs.first) == 0
    assert len(batch.argument_pairs.first)


def test_a_batch_moves_to_a_device_whole():
    from lightning.pytorch.utilities import move_data_to_device

    batch = move_data_to_device(collate(encoded_documents([[4, 2]])), torch.device("meta"))
    nested = [*batch.groups, batch.trigger_candidates, batch.argument_pairs, batch.relation_candidates, batch.gold]
    tensors = [value for part in (batch, *nested) for value in vars(part).values() if isinstance(value, torch.Tensor)]
    assert len(tensors) > 20
    assert {tensor.device.type for tensor in tensors} == {"meta"}

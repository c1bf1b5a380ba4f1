"""An encoder on sequences in one row against the same encoder on each of them alone."""

import pytest
import torch
from dialogue_files import tiny_bert
from transformers import (
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    ElectraConfig,
    ElectraModel,
    RobertaConfig,
    RobertaModel,
)

from gradual.nn.packing import Packing, attend, encode, take_rows

SIZES = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
SIZES |= {"max_position_embeddings": 64, "initializer_range": 0.3}
LENGTHS = [[9, 9, 4], [3], [2, 1]]


def electra():
    torch.manual_seed(0)
    return ElectraModel(ElectraConfig(embedding_size=16, **SIZES)).eval()


def roberta():
    """It has no segments, and counts positions from 2."""
    torch.manual_seed(0)
    return RobertaModel(RobertaConfig(type_vocab_size=1, pad_token_id=1, **SIZES), add_pooling_layer=False).eval()


def distilbert():
    """It has no segments."""
    torch.manual_seed(0)
    config = DistilBertConfig(vocab_size=40, dim=16, n_layers=2, n_heads=2, hidden_dim=24, initializer_range=0.3)
    return DistilBertModel(config).eval()


class Stranger(BertModel):
    """An encoder with code of its own, under the name of the type that it is made from."""


def decoder():
    """It attends to earlier tokens alone."""
    return tiny_bert(is_decoder=True)


def stranger():
    torch.manual_seed(0)
    return Stranger(tiny_bert().config, add_pooling_layer=False).eval()


def packing_of(lengths):
    masks = [torch.arange(max(group)) < torch.tensor(group)[:, None] for group in lengths]
    return Packing(masks, torch.cat([mask.flatten() for mask in masks]).nonzero().flatten())


@pytest.mark.parametrize(
    ("make", "packed"),
    [(tiny_bert, True), (electra, True), (roberta, True), (distilbert, False), (stranger, False), (decoder, False)],
)
def test_each_sequence_is_encoded_as_if_it_were_alone(make, packed):
    encoder, alone = make(), make()
    assert take_rows(encoder) is packed
    torch.manual_seed(1)
    flat = [length for group in LENGTHS for length in group]
    ids, segments = torch.randint(2, 40, (sum(flat),)), torch.randint(0, 2, (sum(flat),))
    has_segments = getattr(encoder.config, "type_vocab_size", 0) > 1
    words = encoder.get_input_embeddings()(ids)
    found = encode(encoder, words, segments if has_segments else None, packing_of(LENGTHS))
    expected = torch.cat(
        [
            alone(part[None], **({"token_type_ids": types[None]} if has_segments else {})).last_hidden_state[0]
            for part, types in zip(ids.split(flat), segments.split(flat))
        ]
    )
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    weights = torch.randn_like(expected)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    for mine, theirs in zip(encoder.parameters(), alone.parameters(), strict=True):
        if mine.grad is not None:
            torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-4)


def test_nothing_is_computed_for_padding():
    encoder = tiny_bert()
    take_rows(encoder)
    shapes = []
    encoder.encoder.layer[1].intermediate.dense.register_forward_hook(
        lambda _, inputs, __: shapes.append(inputs[0].shape)
    )
    encode(encoder, torch.randn(28, 16), torch.zeros(28, dtype=torch.long), packing_of(LENGTHS))
    assert shapes == [(1, 28, 16)]


@torch.no_grad()
def test_a_prepared_encoder_still_takes_padded_sequences():
    encoder, plain = tiny_bert(), tiny_bert()
    take_rows(encoder)
    ids, mask = torch.randint(2, 40, (2, 7)), torch.tensor([[1] * 7, [1] * 3 + [0] * 4])
    found, expected = (model(ids, attention_mask=mask).last_hidden_state for model in (encoder, plain))
    torch.testing.assert_close(found[mask.bool()], expected[mask.bool()])


def test_dropout_inside_attention_is_active_in_training():
    encoder = tiny_bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.5).train()
    take_rows(encoder)
    words, segments, packing = torch.randn(28, 16), torch.zeros(28, dtype=torch.long), packing_of(LENGTHS)
    first, second = (encode(encoder, words, segments, packing) for _ in range(2))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("scaling", [None, 0.7])
@pytest.mark.parametrize("queries", [5, 3])
def test_attention_with_dropout_is_the_sum_over_what_was_kept(monkeypatch, scaling, queries):
    torch.manual_seed(0)
    shapes = (3, 2, queries, 4), (3, 2, 5, 4), (3, 2, 5, 4)
    query, key, value = (torch.randn(shape, requires_grad=True) for shape in shapes)
    mask = torch.tensor([[True] * 5, [True] * 2 + [False] * 3])
    kept = []

    def half(weights, p):  # a dropout whose mask is known
        kept.append((torch.rand_like(weights) < 0.5).float() * 2)
        return weights * kept[0]

    monkeypatch.setattr("gradual.nn.packing.quick_dropout", half)
    found = attend(query, key, value, mask, 0.5, scaling)
    expected = []
    for head in range(3):
        for i in range(2):
            length = int(mask[i].sum())
            scores = query[head, i] @ key[head, i, :length].T * (4**-0.5 if scaling is None else scaling)
            weights = scores.softmax(-1) * kept[0].unflatten(0, (3, 2))[head, i, :, :length]
            expected.append(weights @ value[head, i, :length])
    expected = torch.stack(expected).unflatten(0, (3, 2))
    torch.testing.assert_close(found, expected)
    ours, theirs = (torch.autograd.grad(x.square().sum(), (query, key, value)) for x in (found, expected))
    torch.testing.assert_close(ours, theirs)


def test_rows_are_spread_over_groups_and_gathered_again():
    packing = packing_of(LENGTHS)
    rows = torch.randn(28, 3)
    parts = packing.split(packing.spread(rows))
    assert [part.shape for part in parts] == [(3, 9, 3), (1, 3, 3), (2, 2, 3)]
    assert all((part[~mask] == 0).all() for part, mask in zip(parts, packing.masks))
    assert torch.equal(packing.spread(rows)[packing.cells], rows)
    assert packing.positions().tolist() == [*range(9), *range(9), *range(4), *range(3), *range(2), *range(1)]


def test_heads_are_spread_as_rows_are_each_for_itself():
    packing = packing_of(LENGTHS)
    for heads, size in ((4, 3), (1, 3), (2, 5), (4, 3)):
        rows = torch.randn(28, heads, size)
        groups = packing.spread_heads(rows)
        for head in range(heads):
            for group, alone in zip(groups, packing.split(packing.spread(rows[:, head])), strict=True):
                assert torch.equal(group[head], alone)
        assert all(group.flatten(0, 1).is_contiguous() for group in groups)
        assert torch.equal(packing.gather_heads(groups), rows)

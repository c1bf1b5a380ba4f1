"""SUMBT against the description of it, written out turn by turn, slot by slot and head by head."""

import copy
import itertools
import math

import pytest
import torch
from dialogue_files import encoded, tiny_bert
from naive_sumbt import naive_logits, naive_loss
from torch import nn
from trained_parameters import trained
from transformers import DistilBertConfig, DistilBertModel, RobertaConfig, RobertaModel

from gradual.nn.packing import Packing
from gradual.tasks.dialogue import (
    BeliefScores,
    Sumbt,
)
from gradual.tasks.dialogue.features import MISSING, TurnCollator
from gradual.tasks.dialogue.model import SlotAttention, batch_loss, turn_losses

CANDIDATES = (3, 5, 2)
LENGTHS = [[4, 9, 6], [12], [7, 7, 3, 20, 5], [2, 15]]
# A key's bias shifts all scores of a softmax alike: its gradient is zero but for rounding.
UNTRAINED = "key.bias"


def make_model(encoder=None, distance="euclidean", hidden=11, train_vectors=False):
    """A small model in evaluation mode, no parameter of which is zero, and its value vectors by slot."""
    encoder = encoder or tiny_bert()
    torch.manual_seed(1)
    model = Sumbt(encoder, heads=4, hidden=hidden, distance=distance).eval()
    with torch.no_grad():
        for parameter in (*model.attention.parameters(), *model.tracker.parameters()):
            parameter.add_(torch.randn_like(parameter) * 0.2)
    width = encoder.config.hidden_size
    values = [torch.randn(count, width) for count in CANDIDATES]
    model.set_vectors(torch.randn(len(CANDIDATES), width), values)
    for vectors in (model.slot_vectors, model.value_vectors):
        vectors.requires_grad_(train_vectors)
    return model, values


def collate(dialogues, max_padding=0.1):
    return TurnCollator(pad_token_id=0, max_padding=max_padding)(dialogues)


def logits_by_turn(model, batch):
    """Logits by dialogue id, each of shape `(turns, slots, values)`."""
    logits = model(batch)
    return {
        id_: logits[[position for position, dialogue in enumerate(batch.dialogue) if dialogue == index]]
        for index, id_ in enumerate(batch.ids)
    }


def assert_equal_logits(found, expected, tolerance=1e-5):
    assert len(found) == len(expected)
    for turn, turn_expected in zip(found, expected):
        for scores, own in zip(turn, turn_expected, strict=True):
            torch.testing.assert_close(scores[: len(own)], own, rtol=tolerance, atol=tolerance)
            assert torch.equal(scores[len(own) :], torch.full_like(scores[len(own) :], -math.inf))


def distilbert():
    torch.manual_seed(0)
    config = DistilBertConfig(vocab_size=40, dim=16, n_layers=2, n_heads=2, hidden_dim=24, initializer_range=0.3)
    return DistilBertModel(config).eval()


def roberta():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    config = RobertaConfig(vocab_size=40, type_vocab_size=1, pad_token_id=1, initializer_range=0.3, **sizes)
    return RobertaModel(config, add_pooling_layer=False).eval()


@pytest.mark.parametrize("max_padding", [0, 0.1, 1])
@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@torch.no_grad()
def test_logits_and_loss_are_those_of_the_description(distance, max_padding):
    model, values = make_model(distance=distance)
    dialogues = encoded(LENGTHS, CANDIDATES)
    batch = collate(dialogues, max_padding)
    expected = [naive_logits(model, dialogue, values) for dialogue in dialogues]
    found = logits_by_turn(model, batch)
    for dialogue, turns in zip(dialogues, expected):
        assert_equal_logits(found[dialogue.id], turns)
    loss = batch_loss(turn_losses(model(batch), batch.labels), batch.labels)
    torch.testing.assert_close(loss, naive_loss(expected, dialogues), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("make", [distilbert, roberta])
@torch.no_grad()
def test_encoders_without_segments_work_alike(make):
    model, values = make_model(make())
    dialogues = encoded(LENGTHS, CANDIDATES)
    found = logits_by_turn(model, TurnCollator(pad_token_id=make().config.pad_token_id, max_padding=1)(dialogues))
    for dialogue in dialogues:
        assert_equal_logits(found[dialogue.id], naive_logits(model, dialogue, values))


@torch.no_grad()
def test_a_dialogues_logits_do_not_depend_on_its_batch():
    model, _ = make_model()
    dialogues = encoded(LENGTHS, CANDIDATES)
    alone = {dialogue.id: logits_by_turn(model, collate([dialogue]))[dialogue.id] for dialogue in dialogues}
    for size in (2, 3, 4):
        for members in itertools.permutations(dialogues, size):
            for id_, logits in logits_by_turn(model, collate(list(members), max_padding=0.5)).items():
                torch.testing.assert_close(logits, alone[id_], rtol=1e-5, atol=1e-5)
    different = list(alone.values())
    assert not any(torch.allclose(a[0], b[0], atol=1e-2) for a, b in itertools.combinations(different, 2))


@torch.no_grad()
def test_missing_labels_are_left_out_of_the_loss():
    model, values = make_model()
    dialogues = encoded(LENGTHS, CANDIDATES, missing=0.5)
    for dialogue in dialogues:
        dialogue.labels[:, 2] = MISSING  # a slot that no turn knows
    batch = collate(dialogues)
    losses = turn_losses(model(batch), batch.labels)
    assert torch.equal(losses == 0, batch.labels == MISSING)
    expected = naive_loss([naive_logits(model, dialogue, values) for dialogue in dialogues], dialogues)
    torch.testing.assert_close(batch_loss(losses, batch.labels), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_the_validation_loss_is_the_mean_over_all_turns():
    """Of batches of different sizes: not the mean of their losses."""
    model, values = make_model()
    dialogues = encoded(LENGTHS, CANDIDATES, missing=0.3)
    scores = BeliefScores(("a-x", "a-y", "b-z"), [0, 1])
    for batch in (collate(dialogues[:3]), collate(dialogues[3:])):
        logits = model(batch)
        scores.update(logits.argmax(-1), batch.labels, turn_losses(logits, batch.labels))
    expected = naive_loss([naive_logits(model, dialogue, values) for dialogue in dialogues], dialogues)
    torch.testing.assert_close(scores.compute()["loss"], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("train_vectors", [False, True])
@pytest.mark.parametrize("missing", [0, 0.4])
@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_gradients_are_those_of_the_description(distance, missing, train_vectors):
    model, _ = make_model(distance=distance, train_vectors=train_vectors)
    model = model.double()
    values = [vectors[:count] for vectors, count in zip(model.value_vectors, CANDIDATES)]
    dialogues = encoded(LENGTHS, CANDIDATES, missing=missing)
    names, parameters = zip(*trained(model).items())
    assert ({"slot_vectors", "value_vectors"} <= set(names)) == train_vectors
    batch = collate(dialogues)
    loss = batch_loss(turn_losses(model(batch), batch.labels), batch.labels)
    expected = naive_loss([naive_logits(model, dialogue, values) for dialogue in dialogues], dialogues)
    found = torch.autograd.grad(loss, parameters)
    expected = torch.autograd.grad(expected, parameters)
    largest = max(gradient.abs().max() for gradient in expected)
    for name, mine, naive in zip(names, found, expected):
        close = torch.isclose(mine, naive, rtol=1e-4, atol=1e-6 * largest.item())
        assert close.all(), name
        assert name.endswith(UNTRAINED) or naive.abs().max() > 1e-6 * largest, f"{name} is not trained at all"


def test_gradients_in_single_precision_are_close_too():
    """As training computes them; the distances' gradients are where precision could be lost."""
    model, _ = make_model()
    exact = copy.deepcopy(model).double()
    batch = collate(encoded(LENGTHS, CANDIDATES))
    for each in (model, exact):
        batch_loss(turn_losses(each(batch), batch.labels), batch.labels).backward()
    for (name, mine), theirs in zip(trained(model).items(), trained(exact).values()):
        if not name.endswith(UNTRAINED):
            error = torch.linalg.vector_norm(mine.grad - theirs.grad) / torch.linalg.vector_norm(theirs.grad)
            assert error < 1e-4, name


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_values_beyond_a_slots_own_cannot_be_chosen(distance):
    model, _ = make_model(distance=distance)
    batch = collate(encoded(LENGTHS, CANDIDATES))
    logits = model(batch)
    assert logits.shape == (len(batch.labels), len(CANDIDATES), max(CANDIDATES))
    for slot, count in enumerate(CANDIDATES):
        assert logits[:, slot, :count].isfinite().all()
        assert (logits[:, slot, count:] == -math.inf).all()
    batch_loss(turn_losses(logits, batch.labels), batch.labels).backward()
    assert all(parameter.grad.isfinite().all() for parameter in trained(model).values())


def test_slot_and_value_vectors_are_kept_but_not_trained():
    model, _ = make_model()
    names = ("slot_vectors", "value_vectors", "value_mask")
    assert set(names) <= set(model.state_dict())
    assert not set(names) & set(trained(model))
    before = {name: getattr(model, name).clone() for name in names}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    batch = collate(encoded(LENGTHS, CANDIDATES))
    first = batch_loss(turn_losses(model(batch), batch.labels), batch.labels)
    first.backward()
    optimizer.step()
    assert all(torch.equal(getattr(model, name), before[name]) for name in names)
    assert not torch.equal(batch_loss(turn_losses(model(batch), batch.labels), batch.labels), first)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_where_vectors_are_trained_all_of_them_move_and_padding_stays_zero(distance):
    """Also of values that no turn has: every candidate is part of the softmax. And weight decay moves all."""
    model, _ = make_model(distance=distance, train_vectors=True)
    before = {name: getattr(model, name).detach().clone() for name in ("slot_vectors", "value_vectors")}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    batch = collate(encoded(LENGTHS, CANDIDATES))
    for _ in range(3):
        batch_loss(turn_losses(model(batch), batch.labels), batch.labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    moved = (model.value_vectors != before["value_vectors"]).all(-1)
    assert torch.equal(moved, model.value_mask)
    assert not model.value_vectors[~model.value_mask].any()
    assert (model.slot_vectors != before["slot_vectors"]).all()


def test_at_a_value_s_own_place_the_gradient_is_finite():
    model, _ = make_model()
    beliefs = model.value_vectors[:, :1].transpose(0, 1).clone().requires_grad_()  # one turn, in each slot right
    logits = model.score(beliefs)
    assert logits[0, :, 0].tolist() == pytest.approx([0.0] * logits.shape[1], abs=1e-3)
    logits[logits.isfinite()].sum().backward()
    assert beliefs.grad.isfinite().all()


@torch.no_grad()
def test_keys_and_values_are_computed_once_a_turn():
    """However many slots there are: with 3 slots, a third of what the slot by slot way computes."""
    model, _ = make_model()
    batch = collate(encoded(LENGTHS, CANDIDATES), max_padding=0.2)
    assert len(batch.groups) > 1
    for layer in (model.attention.key, model.attention.value):
        shapes = []
        layer.register_forward_hook(lambda _, inputs, output, shapes=shapes: shapes.append(inputs[0].shape[:-1]))
        model(batch)
        assert shapes == [(sum(map(sum, LENGTHS)),)], "nor for padding"


@torch.no_grad()
def test_the_content_of_padding_does_not_matter():
    model, _ = make_model()
    batch = collate(encoded(LENGTHS, CANDIDATES), max_padding=1)
    before = model(batch)
    (group,) = batch.groups
    padding = group.attention_mask == 0
    assert padding.any()
    group.input_ids[padding] = 7
    torch.testing.assert_close(model(batch), before, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_slot_attention_is_torchs_multi_head_attention():
    attention = SlotAttention(width=12, heads=3)
    theirs = nn.MultiheadAttention(12, 3, batch_first=True)
    parts = (attention.query, attention.key, attention.value)
    theirs.in_proj_weight.copy_(torch.cat([layer.weight for layer in parts]))
    theirs.in_proj_bias.copy_(torch.cat([layer.bias for layer in parts]))
    theirs.out_proj.load_state_dict(attention.output.state_dict())
    slots, states = torch.randn(5, 12), torch.randn(4, 7, 12)
    mask = torch.arange(7) < torch.tensor([[7], [3], [1], [5]])
    expected, _ = theirs(slots.expand(4, -1, -1), states, states, key_padding_mask=~mask)
    packing = Packing([mask[:2], mask[2:]], mask.flatten().nonzero().flatten())
    torch.testing.assert_close(attention(slots, states[mask], packing), expected)


def test_the_tracker_starts_xavier_normal_without_biases():
    torch.manual_seed(0)
    gru = Sumbt(tiny_bert(hidden_size=64), hidden=300).tracker.gru
    for name, parameter in gru.named_parameters():
        if "bias" in name:
            assert not parameter.any()
        else:
            rows, columns = parameter.shape
            assert rows == 3 * 300
            assert parameter.std().item() == pytest.approx(math.sqrt(2 / (rows + columns)), rel=0.02)
            kurtosis = (parameter / parameter.std()).pow(4).mean().item()
            assert kurtosis == pytest.approx(3, rel=0.1), "normal, not uniform (1.8)"

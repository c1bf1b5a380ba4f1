"""Causal language models on sequences in one row against the same models on each sequence alone."""

import pytest
import torch
from language_files import model_of
from transformers import AutoConfig, AutoModelForCausalLM, LlamaForCausalLM

from gradual.nn import causal
from gradual.nn.causal import attend_causally, states_at, take_rows, takes_rows
from gradual.nn.pieces import lay_out

LENGTHS = (4, 9, 3, 9, 1, 2)
# all families together: each takes what it knows
SIZES = {
    **{"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2},
    **{"intermediate_size": 24, "max_position_embeddings": 64, "initializer_range": 0.3, "head_dim": 4},
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_inner": 24},
    **{"ffn_dim": 24, "word_embed_proj_dim": 16, "sliding_window": 6, "use_sliding_window": True},
    **{"max_window_layers": 0, "partial_rotary_factor": 0.5},
}


def pair_of(family):
    """The same random model twice; the second computes attention as transformers does, step by step."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **SIZES)
    model, alone = (AutoModelForCausalLM.from_config(config).eval() for _ in range(2))
    alone.load_state_dict(model.state_dict())
    alone.set_attn_implementation("eager")
    return model, alone


def sequences(lengths=LENGTHS, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, 50, (length,), generator=generator) for length in lengths]


def test_a_model_that_attends_in_both_directions_is_not_packed():
    config = AutoConfig.for_model("gemma3_text", use_bidirectional_attention=True, **SIZES)
    assert not take_rows(AutoModelForCausalLM.from_config(config))


@pytest.mark.parametrize("family", causal._TAKES_ROWS)
def test_each_sequence_is_read_as_if_it_were_alone(family):
    model, alone = pair_of(family)
    assert take_rows(model)
    parts = sequences()
    pieces = lay_out([part.tolist() for part in parts], max_padding=0.2)
    assert len(pieces.packing.masks) > 1
    states = states_at(model, pieces.ids, pieces.packing, torch.arange(len(pieces.ids)))
    found = model.get_output_embeddings()(states)
    expected = torch.cat([alone(part[None], attention_mask=torch.ones(1, len(part))).logits[0] for part in parts])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2))
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    for mine, theirs in zip(model.parameters(), alone.parameters(), strict=True):
        scale = max(1.0, theirs.grad.abs().max().item())
        torch.testing.assert_close(mine.grad / scale, theirs.grad / scale, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_layers_see_no_padding_and_the_head_only_what_was_asked_for(family):
    model = model_of(family)
    take_rows(model)
    shapes = []
    layers = model.base_model.layers if family == "llama" else model.base_model.h
    layers[1].mlp.register_forward_hook(lambda _, inputs, __: shapes.append(inputs[0].shape[:2]))
    model.lm_head.register_forward_hook(lambda _, inputs, __: shapes.append(inputs[0].shape[:2]))
    pieces = lay_out([part.tolist() for part in sequences()])
    places = torch.tensor([5, 0, 5])
    all_states = states_at(model, pieces.ids, pieces.packing, torch.arange(sum(LENGTHS)))
    states = states_at(model, pieces.ids, pieces.packing, places)
    assert torch.equal(states, all_states[places])
    assert shapes == [(1, sum(LENGTHS)), (1, 0)] * 2


@torch.no_grad()
def test_attention_costs_what_the_sequences_cost_alone(monkeypatch):
    """Not the square of the row's length, neither for scores nor for masks."""
    model = model_of("llama")
    take_rows(model)
    shapes, masks = [], []
    monkeypatch.setattr(causal, "attend_causally", lambda query, *_: shapes.append(query.shape[1:3]) or query)
    monkeypatch.setattr("transformers.masking_utils.find_packed_sequence_indices", masks.append)
    pieces = lay_out([part.tolist() for part in sequences((20, 20, 5, 5, 5, 4))])
    states_at(model, pieces.ids, pieces.packing, torch.tensor([0]))
    assert shapes == [(2, 20), (4, 5)] * 2
    assert not masks


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_gradient_checkpointing_changes_no_gradient(family):
    gradients = []
    for checkpointing in (False, True):
        model = model_of(family).train()
        take_rows(model)
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        pieces = lay_out([part.tolist() for part in sequences()])
        states_at(model, pieces.ids, pieces.packing, torch.tensor([3, 8])).square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(*gradients)


@torch.no_grad()
def test_a_prepared_model_still_takes_padded_sequences_and_generates():
    for family in ("llama", "gpt2"):
        model, plain = model_of(family), model_of(family)
        take_rows(model)
        ids = torch.cat(sequences((7, 7))).view(2, 7)
        mask = torch.tensor([[1] * 7, [0] * 4 + [1] * 3])
        found, expected = (m.generate(ids, attention_mask=mask, max_new_tokens=6) for m in (model, plain))
        assert torch.equal(found, expected)


class Stranger(LlamaForCausalLM):
    """A model with code of its own, under the name of the type that it is made from."""


def test_other_models_are_left_as_they_are():
    config = AutoConfig.for_model("gemma3_text", **SIZES, final_logit_softcapping=30.0)
    assert not take_rows(AutoModelForCausalLM.from_config(config))
    for model in (Stranger(model_of("llama").config), AutoModelForCausalLM.from_config(AutoConfig.for_model("bloom"))):
        before = model.config._attn_implementation
        assert not take_rows(model)
        assert not takes_rows(model)
        assert model.config._attn_implementation == before


@pytest.mark.parametrize("window", [None, 3, 50])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_attention_is_a_sum_over_earlier_tokens(monkeypatch, window, dropout):
    torch.manual_seed(0)
    query, key, value = (torch.randn(3, 2, 5, 4, requires_grad=True) for _ in range(3))
    kept = []

    def half(weights, p):  # a dropout whose mask is known
        kept.append((torch.rand_like(weights) < 0.5).float() * 2)
        return weights * kept[0]

    monkeypatch.setattr("gradual.nn.causal.quick_dropout", half)
    found = attend_causally(query, key, value, dropout, 0.7, window)
    expected = torch.zeros(3, 2, 5, 4)
    for head in range(3):
        for row in range(2):
            for i in range(5):
                first = 0 if window is None else max(0, i - window + 1)
                scores = key[head, row, first : i + 1] @ query[head, row, i] * 0.7
                weights = scores.softmax(0)
                if dropout:
                    weights = weights * kept[0].unflatten(0, (3, 2))[head, row, i, first : i + 1]
                expected[head, row, i] = weights @ value[head, row, first : i + 1]
    torch.testing.assert_close(found, expected)
    ours, theirs = (torch.autograd.grad(x.square().sum(), (query, key, value)) for x in (found, expected))
    torch.testing.assert_close(ours, theirs)


def test_dropout_inside_attention_is_active_in_training():
    model = model_of("gpt2", attn_pdrop=0.5).train()
    take_rows(model)
    pieces = lay_out([part.tolist() for part in sequences()])
    first, second = (states_at(model, pieces.ids, pieces.packing, torch.arange(10)) for _ in range(2))
    assert not torch.equal(first, second)

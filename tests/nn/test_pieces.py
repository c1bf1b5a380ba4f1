"""Models with a head on sequences laid out without padding against plain ``transformers`` on each of them alone."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import config_of
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

from gradual.nn.pieces import _in_one_group, lay_out, logits_of, prepare_for_pieces

LENGTHS = [5, 9, 1, 2, 9, 30, 3]
AUTO = {True: AutoModelForTokenClassification, False: AutoModelForSequenceClassification}


def model_of(kind, by_token):
    config = config_of(kind, 40)
    config.num_labels = 3
    torch.manual_seed(0)
    return AUTO[by_token].from_config(config).eval()


def sequences():
    torch.manual_seed(1)
    ids = [torch.randint(4, 40, (length,)).tolist() for length in LENGTHS]
    return ids, [[0] * (len(one) // 2) + [1] * (len(one) - len(one) // 2) for one in ids]


@pytest.mark.parametrize("by_token", [True, False])
@pytest.mark.parametrize(
    ("kind", "packed"),
    [("bert", True), ("roberta", True), ("electra", True), ("modernbert", False), ("distilbert", False)],
)
def test_logits_and_gradients_are_those_of_each_sequence_alone(kind, packed, by_token, tmp_path):
    model, plain = model_of(kind, by_token), model_of(kind, by_token)
    prepare_for_pieces(model, by_token)
    assert (model.config._attn_implementation == "packed") is packed
    ids, segments = sequences()
    found = logits_of(model, lay_out(ids, segments), by_token)
    has_segments = getattr(plain.config, "type_vocab_size", 0) > 1
    alone = [
        plain(torch.tensor([one]), **({"token_type_ids": torch.tensor([types])} if has_segments else {})).logits
        for one, types in zip(ids, segments)
    ]
    expected = torch.cat([logits[0] if by_token else logits for logits in alone])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    weights = torch.randn_like(expected)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    for mine, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        if theirs.grad is not None:
            torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-4)
    model.save_pretrained(tmp_path)
    assert "packed" not in json.dumps(json.loads((tmp_path / "config.json").read_text()))


def test_a_prepared_model_reads_padded_batches_as_before():
    model, plain = model_of("bert", False), model_of("bert", False)
    prepare_for_pieces(model, by_token=False)
    ids = torch.randint(4, 40, (3, 7))
    mask = (torch.arange(7) < torch.tensor([[7], [4], [2]])).long()
    torch.testing.assert_close(model(ids, mask).logits, plain(ids, mask).logits, rtol=1e-5, atol=1e-5)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=9), st.sampled_from([0.0, 0.1, 1.0]))
def test_every_word_piece_has_its_cell(lengths, max_padding):
    ids = [[100 * number + place for place in range(length)] for number, length in enumerate(lengths)]
    pieces = lay_out(ids, max_padding=max_padding)
    for laid in (pieces, _in_one_group(pieces)):
        cells = laid.packing.spread(laid.ids[:, None] + 1)[:, 0]
        rows = [row[row > 0].sub(1).tolist() for group in laid.packing.split(cells) for row in group]
        assert [rows[row] for row in laid.row.tolist()] == ids
        assert laid.ids[laid.first].tolist() == [one[0] for one in ids]
    cells = sum(mask.numel() for mask in pieces.packing.masks)
    assert max_padding == 1 or cells * (1 - max_padding) <= sum(lengths) + 1e-9

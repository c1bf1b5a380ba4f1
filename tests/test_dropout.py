import pytest
import torch
from dialogue_files import tiny_bert
from torch import nn

from gradual.dropout import QuickDropout, quicken_dropout


@pytest.mark.parametrize("p", [0.1, 0.4, 0.5, 0.9])
def test_so_many_are_dropped_and_the_others_scaled(p):
    torch.manual_seed(0)
    x = torch.rand(301, 333) + 0.5  # no multiple of four, and no zero of its own
    y = QuickDropout(p)(x)
    dropped = y == 0
    assert dropped.float().mean().item() == pytest.approx(p, abs=4 * (p * (1 - p) / x.numel()) ** 0.5)
    torch.testing.assert_close(y[~dropped], x[~dropped] / (1 - p), rtol=1e-3, atol=0)
    for shift in (1, 2, 3, 4):  # neighbours, which share random numbers, are dropped independently
        both = (dropped.flatten()[shift:] & dropped.flatten()[:-shift]).float().mean().item()
        assert both == pytest.approx(p * p, abs=0.01)


def test_the_gradient_goes_where_the_values_went():
    x = torch.ones(50, 40, requires_grad=True)
    y = QuickDropout(0.3)(x)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_masks_differ_and_follow_the_seed():
    layer, x = QuickDropout(0.5), torch.ones(100)
    torch.manual_seed(1)
    first, second = layer(x), layer(x)
    assert not torch.equal(first, second)
    torch.manual_seed(1)
    assert torch.equal(layer(x), first)


def test_the_ends_and_evaluation_are_torchs():
    x = torch.randn(10)
    assert torch.equal(QuickDropout(0.0)(x), x)
    assert not QuickDropout(1.0)(x).any()
    assert not QuickDropout(1 - 1e-6)(x).any()
    assert torch.equal(QuickDropout(0.5).eval()(x), x)
    assert QuickDropout(0.5)(x.bfloat16()).dtype == torch.bfloat16


def test_an_encoder_gets_it_everywhere_with_its_own_probabilities():
    encoder = tiny_bert(hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.3)
    before = {name: m.p for name, m in encoder.named_modules() if isinstance(m, nn.Dropout)}
    quicken_dropout(encoder)
    after = {name: m for name, m in encoder.named_modules() if isinstance(m, nn.Dropout)}
    assert {name: m.p for name, m in after.items()} == before
    assert all(type(m) is QuickDropout and not m.training for m in after.values())

"""The loss of tokens, computed in parts, against all logits at once."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gradual.nn.fast_cpu import QuickLinear
from gradual.tasks.causal_lm.loss import losses_of_logits, token_losses

WIDTH, VOCABULARY, TOKENS = 6, 11, 23


def made(bias=True, layer=nn.Linear):
    torch.manual_seed(0)
    states = torch.randn(TOKENS, WIDTH, requires_grad=True)
    return states, torch.randint(VOCABULARY, (TOKENS,)), layer(WIDTH, VOCABULARY, bias=bias)


def by_hand(states, targets, head):
    logits = states @ head.weight.T + (0 if head.bias is None else head.bias)
    return torch.stack([row.logsumexp(0) - row[target] for row, target in zip(logits, targets)])


@pytest.mark.parametrize("at_once", [1, 5 * VOCABULARY, 22 * VOCABULARY, 23 * VOCABULARY, 10**6])
@pytest.mark.parametrize(("bias", "layer"), [(True, nn.Linear), (False, QuickLinear)])
def test_losses_and_gradients_do_not_depend_on_the_parts(at_once, bias, layer):
    states, targets, head = made(bias, layer)
    total, losses = token_losses(states, targets, head, at_once)
    expected = by_hand(states, targets, head)
    torch.testing.assert_close(losses, expected.detach())
    torch.testing.assert_close(total, expected.sum())
    assert not losses.requires_grad
    inputs = [states, *head.parameters()]
    ours, theirs = (torch.autograd.grad(loss / 3, inputs) for loss in (total, expected.sum()))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("frozen", ["states", "head"])
def test_what_is_frozen_has_no_gradient(frozen):
    states, targets, head = made()
    (states if frozen == "states" else head).requires_grad_(False)
    total, _ = token_losses(states, targets, head, 5 * VOCABULARY)
    expected = by_hand(states, targets, head).sum()
    inputs = list(head.parameters()) if frozen == "states" else [states]
    torch.testing.assert_close(*(torch.autograd.grad(loss, inputs) for loss in (total, expected)))


def test_a_head_that_shares_its_weights_gets_the_sum_of_both_gradients():
    _, targets, head = made(bias=False)
    gradients = []
    for at_once in (4 * VOCABULARY, 10**6):
        head.zero_grad()
        token_losses(F.embedding(targets, head.weight), targets, head, at_once)[0].backward()
        gradients.append(head.weight.grad)
    torch.testing.assert_close(*gradients)


def test_without_gradients_nothing_is_kept():
    states, targets, head = made()
    rows = []
    head.register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
    with torch.no_grad():
        total, losses = token_losses(states, targets, head, 10 * VOCABULARY)
    assert rows == [10, 10, 3]
    assert not total.requires_grad
    torch.testing.assert_close(losses, by_hand(states, targets, head).detach())


def test_gradients_in_low_precision_are_summed_in_single_precision():
    states, targets, head = made()
    states, head = states.detach().bfloat16().requires_grad_(), head.bfloat16()
    total, losses = token_losses(states, targets, head, VOCABULARY)
    assert losses.dtype == total.dtype == torch.float32
    exact = made()[2]
    exact.load_state_dict(head.state_dict())
    (expected,) = torch.autograd.grad(by_hand(states.float(), targets, exact).sum(), [exact.weight])
    (found,) = torch.autograd.grad(total, [head.weight])
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=2e-2, atol=2e-2)


def test_autocast_reaches_the_parts():
    states, targets, head = made()
    with torch.autocast("cpu", torch.bfloat16):
        parts = token_losses(states, targets, head, 5 * VOCABULARY)
        whole = token_losses(states, targets, head)
    torch.testing.assert_close(parts[0], whole[0])
    inputs = [states, head.weight]
    ours, theirs = (torch.autograd.grad(total, inputs) for total, _ in (parts, whole))
    assert all(gradient.dtype == torch.float32 for gradient in ours)
    torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("at_once", [VOCABULARY, 10**6])
def test_no_tokens_have_no_loss(at_once):
    states, targets, head = made()
    total, losses = token_losses(states[:0], targets[:0], head, at_once)
    total.backward()
    assert total == 0
    assert losses.shape == (0,)
    assert not states.grad.any()


def test_losses_of_logits_are_negative_log_likelihoods():
    logits = torch.tensor([[0.0, 1.0], [2.0, 2.0]])
    probabilities = torch.tensor([torch.e / (1 + torch.e), 0.5])
    torch.testing.assert_close(losses_of_logits(logits, torch.tensor([1, 0])), -probabilities.log())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_losses_and_gradients_of_extreme_logits_are_those_of_torch(dtype):
    torch.manual_seed(0)
    logits, targets = (torch.randn(7, 50) * 100).to(dtype), torch.randint(50, (7,))
    logits[0] += 1e4
    logits[1, targets[1]] = -1e4
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    found = losses_of_logits(ours * 1, targets)
    expected = F.cross_entropy((theirs * 1).to(found.dtype), targets, reduction="none")
    torch.testing.assert_close(found, expected)
    factors = torch.randn(7, dtype=found.dtype)
    for losses in (found, expected):
        losses.backward(factors)
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_gradients_take_the_memory_of_the_logits():
    logits = torch.randn(3, 5, requires_grad=True)
    between = logits * 1
    gradients = []
    between.register_hook(gradients.append)
    losses_of_logits(between, torch.tensor([0, 1, 2])).sum().backward()
    assert gradients[0].data_ptr() == between.data_ptr()

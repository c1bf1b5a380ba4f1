"""Starting weights are compared by a sample: the same up to their last bits."""

import pytest
import torch
from torch import nn

from gradual.runs.fingerprint import same_weights, starting_weights


def test_weights_are_the_same_up_to_their_last_bits_and_no_further():
    model = nn.Module()
    model.weight = nn.Parameter(torch.randn(300, 400))
    model.register_buffer("count", torch.tensor(3))
    before = starting_weights(model)
    with torch.no_grad():
        model.weight *= 1 + 1e-7 * torch.randn(300, 400)  # as another processor draws them
    after = starting_weights(model)
    assert all(same_weights(before[name], after[name]) for name in before)
    with torch.no_grad():
        model.weight *= 1 + 1e-3 * torch.randn(300, 400)  # a step of training
    model.count += 1
    after = starting_weights(model)
    assert not any(same_weights(before[name], after[name]) for name in before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.complex64, torch.uint8, torch.bool])
def test_weights_of_any_type_are_looked_at(dtype):
    model = nn.Module()
    model.register_buffer("ones", torch.ones(50, 60).to(dtype))
    model.register_buffer("zeros", torch.zeros(50, 60).to(dtype))
    found = starting_weights(model)
    assert not same_weights(found["ones"], found["zeros"])
    assert same_weights(found["ones"], found["ones"])


def test_weights_that_are_nowhere_are_left_out_and_broken_numbers_are_numbers():
    model = nn.Module()
    model.nowhere = nn.Parameter(torch.empty(10**6, 10**6, device="meta"))
    model.broken = nn.Parameter(torch.tensor([float("nan"), float("inf"), 1.0]))
    found = starting_weights(model)
    assert list(found) == ["broken"]
    assert same_weights(found["broken"], found["broken"])

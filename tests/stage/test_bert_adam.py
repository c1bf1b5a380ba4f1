"""BertAdam against the update of the first BERT release, one number after the other."""

import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gradual.stage.optim import BertAdam


def naive_bert_adam(weights, gradients, *, lr, betas, eps, weight_decay, max_grad_norm):
    """The first BERT release's update, one number after the other; returns the weights after each step."""
    weights = [float(weight) for weight in weights]
    means, squares = [0.0] * len(weights), [0.0] * len(weights)
    history = []
    for step_gradients in gradients:
        norm = math.sqrt(sum(float(g) ** 2 for g in step_gradients))
        factor = min(1.0, max_grad_norm / (norm + 1e-6)) if max_grad_norm > 0 else 1.0
        for i, gradient in enumerate(step_gradients):
            g = float(gradient) * factor
            means[i] = betas[0] * means[i] + (1 - betas[0]) * g
            squares[i] = betas[1] * squares[i] + (1 - betas[1]) * g * g
            update = means[i] / (math.sqrt(squares[i]) + eps) + weight_decay * weights[i]
            weights[i] -= lr * update
        history.append(list(weights))
    return np.array(history)


def trained_with(optimizer, parameter, gradients):
    history = []
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient).view_as(parameter)
        optimizer.step()
        history.append(parameter.detach().flatten().numpy().copy())
    return np.array(history)


@given(
    st.integers(0, 2**32 - 1),
    st.floats(1e-5, 1.0),
    st.tuples(st.floats(0, 0.99), st.floats(0, 0.9999)),
    st.floats(1e-8, 1e-3),
    st.floats(0, 0.5),
    st.sampled_from([0, 0.3, 1.0, 100.0]),
)
def test_bert_adam_is_the_update_of_its_definition(seed, lr, betas, eps, weight_decay, max_grad_norm):
    rng = np.random.default_rng(seed)
    start = rng.normal(size=6)
    gradients = rng.normal(size=(7, 6)) * rng.choice([0.01, 0.5, 5.0], size=(7, 1))
    parameter = nn.Parameter(torch.tensor(start).view(2, 3))
    arguments = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "max_grad_norm": max_grad_norm}
    found = trained_with(BertAdam([parameter], **arguments), parameter, gradients)
    np.testing.assert_allclose(found, naive_bert_adam(start, gradients, **arguments), rtol=1e-9, atol=1e-12)


def test_bert_adam_clips_each_parameter_by_itself_and_each_group_has_its_settings():
    rng = np.random.default_rng(0)
    starts, gradients = rng.normal(size=(3, 4)), rng.normal(size=(3, 5, 4)) * [[[10.0]], [[0.01]], [[10.0]]]
    parameters = [nn.Parameter(torch.tensor(start)) for start in starts]
    other = {"lr": 0.01, "weight_decay": 0.3, "max_grad_norm": 0.0}
    optimizer = BertAdam([{"params": parameters[:2]}, {"params": parameters[2:], **other}], lr=0.1)
    for step in range(5):
        for parameter, gradient in zip(parameters, gradients):
            parameter.grad = torch.tensor(gradient[step])
        optimizer.step()
    shared = {"lr": 0.1, "betas": (0.9, 0.999), "eps": 1e-6, "weight_decay": 0.01, "max_grad_norm": 1.0}
    for parameter, start, gradient, changes in zip(parameters, starts, gradients, ({}, {}, other)):
        expected = naive_bert_adam(start, gradient, **{**shared, **changes})[-1]
        np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=1e-9)


def test_bert_adam_leaves_parameters_without_a_gradient_alone():
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = BertAdam([used, unused], lr=0.1)
    used.grad = torch.ones(2)
    optimizer.step()
    assert torch.equal(unused, torch.ones(2))
    assert not torch.equal(used, torch.ones(2))
    assert optimizer.step(lambda: 7.0) == 7.0
    BertAdam([nn.Parameter(torch.ones(2))], lr=0.1).step()  # nothing to do


def test_bert_adam_goes_on_from_its_state():
    rng = np.random.default_rng(1)
    gradients = rng.normal(size=(6, 4))
    parameter = nn.Parameter(torch.zeros(4, dtype=torch.float64))
    uninterrupted = trained_with(BertAdam([parameter], lr=0.1), parameter, gradients)
    first = nn.Parameter(torch.zeros(4, dtype=torch.float64))
    optimizer = BertAdam([first], lr=0.1)
    trained_with(optimizer, first, gradients[:3])
    second = nn.Parameter(first.detach().clone())
    resumed = BertAdam([second], lr=9.9)
    resumed.load_state_dict(optimizer.state_dict())
    assert np.array_equal(trained_with(resumed, second, gradients[3:]), uninterrupted[3:])

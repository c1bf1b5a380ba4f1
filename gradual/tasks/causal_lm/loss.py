"""The negative log likelihood of tokens, without the logits of all of them in memory at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

LOGITS_AT_ONCE = 2**25
"""The number of logits computed at once: in float32 128 MB, and as much again for each of two copies."""


def token_losses(
    states: Tensor, targets: Tensor, head: nn.Module, at_once: int = LOGITS_AT_ONCE
) -> tuple[Tensor, Tensor]:
    """Compute the negative log likelihoods of tokens, in at least single precision.

    Where there are more logits than ``at_once``, those of a part of the tokens are computed at a time, and turned into
    gradients before the next part: nothing is computed twice, and only the gradients are kept for the backward pass.

    Args:
        states: The states that the tokens are predicted from, shape ``(K, d)``.
        targets: The tokens, shape ``(K,)``.
        head: Turns states into logits, shape ``(..., V)``.
        at_once: Number of logits to compute at once.

    Returns:
        Their sum, a scalar whose gradient can be computed once, and each of them without a gradient, shape ``(K,)``.
    """
    rows = max(1, at_once // _vocabulary(head))
    if len(targets) <= rows:
        losses = losses_of_logits(head(states), targets)
        return losses.sum(), losses.detach()
    parameters = [parameter for parameter in head.parameters() if parameter.requires_grad]
    if not torch.is_grad_enabled() or not (parameters or states.requires_grad):
        parts = zip(states.split(rows), targets.split(rows))
        losses = torch.cat([losses_of_logits(head(part), wanted) for part, wanted in parts])
        return losses.sum(), losses
    total, losses = _InParts.apply(states, targets, head, rows, *parameters)
    return total, losses


def losses_of_logits(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute the negative log likelihoods of tokens, in at least single precision.

    Everything is computed in place, gradients included, because logits are the largest tensors of a step.

    Args:
        logits: Shape ``(K, V)``; overwritten where it is in single or double precision, so nothing else may need it.
        targets: The tokens, shape ``(K,)``.

    Returns:
        Shape ``(K,)``.
    """
    found: Tensor = _Losses.apply(logits.to(torch.promote_types(logits.dtype, torch.float32)), targets)
    return found


class _Losses(torch.autograd.Function):
    """Negative log likelihoods, and probabilities in place of logits."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        values, places = logits.detach(), targets[:, None]
        values -= values.amax(1, keepdim=True)
        wanted = values.gather(1, places)
        sums = values.exp_().sum(1, keepdim=True)
        if ctx.needs_input_grad[0]:
            values /= sums
            ctx.gradient = values.scatter_add_(1, places, values.new_full((len(targets), 1), -1.0))
        return (sums.log() - wanted)[:, 0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factors: Tensor) -> tuple[Tensor, None]:
        gradient = ctx.gradient
        del ctx.gradient
        return gradient.mul_(factors[:, None]), None


def _vocabulary(head: nn.Module) -> int:
    """The number of logits of a token; a linear layer that is wrapped knows it, too."""
    return int(head.out_features)  # type: ignore[arg-type]


class _InParts(torch.autograd.Function):
    """The sum of losses, whose gradients are computed with it."""

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, targets: Tensor, head: nn.Module, rows: int, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        of_states = torch.empty_like(states) if ctx.needs_input_grad[0] else None
        # sums over parts in lower precision would lose digits that one product over all tokens keeps
        of_parameters = [
            torch.zeros_like(parameter, dtype=torch.promote_types(parameter.dtype, torch.float32))
            for parameter in parameters
        ]
        losses = []
        for start in range(0, len(targets), rows):
            part = states[start : start + rows].detach().requires_grad_(of_states is not None)
            inputs = [*([] if of_states is None else [part]), *parameters]
            with torch.enable_grad():
                found = losses_of_logits(head(part), targets[start : start + rows])
                gradients = list(torch.autograd.grad(found.sum(), inputs))
            losses.append(found.detach())
            if of_states is not None:
                of_states[start : start + rows] = gradients.pop(0)
            for total, gradient in zip(of_parameters, gradients):
                total += gradient
        ctx.of_states = of_states
        ctx.of_parameters = [total.to(parameter.dtype) for total, parameter in zip(of_parameters, parameters)]
        each = torch.cat(losses)
        ctx.mark_non_differentiable(each)
        return each.sum(), each

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        of_states, of_parameters = ctx.of_states, ctx.of_parameters
        del ctx.of_states, ctx.of_parameters  # scaled in place, so that they are not in memory twice
        found = [None if gradient is None else gradient.mul_(factor) for gradient in (of_states, *of_parameters)]
        return (found[0], None, None, None, *found[1:])

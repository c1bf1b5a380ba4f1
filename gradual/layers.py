"""Layers of torch that take less time on a CPU, with the same parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_BITS = 16
# For products in single precision torch takes MKL, which uses instructions of half the width on processors that are not
# Intel's. oneDNN, which torch takes for bfloat16 and for compiled code, uses the whole width on all.
_WIDE = torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"
_FEW_PRODUCTS = 2**21  # of fewer, the calls take longer than they save


def quick_dropout(input: Tensor, p: float) -> Tensor:
    """Zero elements of a CPU tensor with probability ``p``, by 16 random bits an element and a mask of one byte.

    The probability is rounded to a multiple of 2^-16, and what is kept is scaled by exactly its inverse.
    """
    dropped = round(p * 2**_BITS)
    if dropped == 2**_BITS:
        return input * 0.0
    bits = torch.empty(-(-input.numel() * _BITS // 64), dtype=torch.int64).random_(-(2**63), None)
    kept = bits.view(torch.int16)[: input.numel()].view(input.shape) >= dropped - 2 ** (_BITS - 1)
    return input * kept.view(torch.uint8) * (2**_BITS / (2**_BITS - dropped))  # bytes convert faster than booleans


class QuickDropout(nn.Dropout):
    """``nn.Dropout`` by ``quick_dropout`` on a CPU; torch's own on other devices."""

    def forward(self, input: Tensor) -> Tensor:
        """Zero elements at random in training."""
        if not self.training or not self.p or input.device.type != "cpu":
            return super().forward(input)
        return quick_dropout(input, self.p)


class QuickLinear(nn.Linear):
    """``nn.Linear`` by oneDNN in single precision on a CPU with AVX-512; torch's own everywhere else, and where small.

    With ``torch.backends.mkldnn.enabled = False`` it is torch's own there, too.
    """

    def forward(self, input: Tensor) -> Tensor:
        """The layer's outputs, shape ``(..., out_features)``."""
        quick = (
            _WIDE
            and torch.backends.mkldnn.enabled
            and not torch.compiler.is_compiling()  # a compiler makes its own choice
            and not torch.jit.is_tracing()
            and not torch.is_autocast_enabled("cpu")
            and input.device.type == "cpu"
            and input.dtype == self.weight.dtype == torch.float32
            and input.numel() * self.out_features >= _FEW_PRODUCTS
        )
        if not quick:
            return super().forward(input)
        rows = input.reshape(-1, self.in_features).contiguous()
        outputs: Tensor = _Linear.apply(rows, self.weight, self.bias)
        return outputs.view(*input.shape[:-1], self.out_features)


class _Linear(torch.autograd.Function):
    """A linear layer's outputs and gradients; matrices that are contiguous, or their transposes, need no copy."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return onednn_product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad
        gradient = gradient.contiguous()
        return (
            onednn_product(gradient, weight.t()) if for_x else None,
            onednn_product(gradient.t(), x.t()) if for_weight else None,
            gradient.sum(0) if for_bias else None,
        )


def onednn_product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.t() + bias`` of matrices on a CPU."""
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return found


def quicken(module: nn.Module) -> None:
    """Make the dropouts and linear layers inside a module those of here."""
    change_classes(module, {nn.Dropout: QuickDropout, nn.Linear: QuickLinear})


def change_classes(module: nn.Module, classes: Mapping[type[nn.Module], type[nn.Module]]) -> None:
    """Let layers inside a module that are of exactly one class be of another that has the same attributes."""
    for layer in module.modules():
        layer.__class__ = classes.get(type(layer), type(layer))

"""Layers of torch that take less time on a CPU, with the same parameters."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# The rows of a batch are of another number in every step. torch and oneDNN each keep what they have prepared for the
# last 1,024 shapes, about a megabyte a shape, unless they are told otherwise before the first of them.
for _name in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
    os.environ.setdefault(_name, "64")


def _is_wide() -> bool:
    """Whether this processor has wider instructions than torch uses for products in single precision.

    torch takes MKL for them, which leaves AVX-512 to Intel's processors. oneDNN, which torch takes for bfloat16, has it
    for all.
    """
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    intel = "Intel" in capabilities.get("cpu_name", "")
    return torch.backends.mkldnn.is_available() and capabilities.get("avx512_f", False) and not intel


_BITS = 16
_WIDE = _is_wide()
_FEW_PRODUCTS = 2**25  # fewer are done before oneDNN has prepared itself for a new number of rows


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
    """``nn.Linear`` by oneDNN where that is quicker: large, in single precision, on a CPU with AVX-512, but Intel's.

    It is torch's own everywhere else, in compiled code and under ``torch.func``, too, and everywhere with
    ``torch.backends.mkldnn.enabled = False``.
    """

    def forward(self, input: Tensor) -> Tensor:
        """The layer's outputs, shape ``(..., out_features)``."""
        weight, bias = self.weight, self.bias
        quick = (
            _WIDE
            and not torch.compiler.is_compiling()  # a compiler makes its own choice
            and not torch.jit.is_tracing()
            and not torch._C._are_functorch_transforms_active()
            and not torch.is_autocast_enabled("cpu")
            and torch.backends.mkldnn.enabled
            and type(weight) in (nn.Parameter, Tensor)
            and input.device.type == "cpu"
            and input.dtype == weight.dtype == torch.float32
            and input.shape[-1] == weight.shape[1]
            and input.numel() * len(weight) >= _FEW_PRODUCTS
        )
        if not quick:
            return F.linear(input, weight, bias)
        outputs: Tensor = _Linear.apply(input.reshape(-1, weight.shape[1]).contiguous(), weight, bias)
        return outputs.view(*input.shape[:-1], len(weight))


class _Linear(torch.autograd.Function):
    """A linear layer's outputs and gradients; matrices that are contiguous, or their transposes, need no copy."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return onednn_product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad
        gradient = gradient.contiguous()
        product = F.linear if torch.is_grad_enabled() else onednn_product  # the first for gradients of gradients
        return (
            product(gradient, weight.t()) if for_x else None,
            product(gradient.t(), x.t()) if for_weight else None,
            gradient.sum(0) if for_bias else None,
        )


def onednn_product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.t() + bias`` of matrices on a CPU."""
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return found


def quicken(module: nn.Module) -> None:
    """Make the dropouts and linear layers inside a module those of here.

    What looks for layers of exactly torch's classes, such as its quantization, wants them back: ``change_classes``.
    """
    change_classes(module, {nn.Dropout: QuickDropout, nn.Linear: QuickLinear})


def change_classes(module: nn.Module, classes: Mapping[type[nn.Module], type[nn.Module]]) -> None:
    """Let layers inside a module that are of exactly one class be of another that has the same attributes."""
    for layer in module.modules():
        if type(layer) in classes:
            layer.__class__ = classes[type(layer)]

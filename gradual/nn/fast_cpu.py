"""Faster training on a CPU: oneDNN products, dropout masks of bytes, and memory that is kept between steps.

``GRADUAL_FAST_CPU=0`` in the environment turns all of it off, in this process and in its workers: layers then compute
as torch's own do, with the same parameters.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SWITCH = "GRADUAL_FAST_CPU"
_OFF = ("0", "false", "no", "off")


def fast_cpu_enabled() -> bool:
    """Whether the faster paths may be taken; read from the environment whenever it matters."""
    return os.environ.get(SWITCH, "1").lower() not in _OFF


# Layers


def _cpu_capabilities() -> dict[str, Any]:
    """What torch knows of this CPU; nothing where this release of torch cannot tell."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return capabilities


def _has_unused_avx512() -> bool:
    """Whether this CPU has wider instructions than torch uses for float32 products.

    torch computes these with MKL, which uses AVX-512 on Intel's CPUs only. oneDNN, which torch calls for bfloat16, uses
    it on all that have it.
    """
    capabilities = _cpu_capabilities()
    intel = "Intel" in capabilities.get("cpu_name", "")
    return torch.backends.mkldnn.is_available() and capabilities.get("avx512_f", False) and not intel


def has_slow_bfloat16() -> bool:
    """Whether this CPU lacks the instructions with which oneDNN computes products in bfloat16.

    torch then computes them in a loop of its own: one of 512 by 384 by 1,536 took 37 times as long as in float32 (AMD
    EPYC with AVX2, one thread).
    """
    capabilities = _cpu_capabilities()
    avx512 = all(capabilities.get(name, False) for name in ("avx512_bw", "avx512_vl", "avx512_dq"))
    return capabilities.get("architecture") == "x86_64" and not avx512 and not capabilities.get("avx_ne_convert", False)


_BITS = 16
_WIDE = _has_unused_avx512()
_MIN_PRODUCTS = 2**25  # multiplications; below this, preparing oneDNN for a new number of rows costs more than it saves


def quick_dropout(input: Tensor, p: float) -> Tensor:
    """Zero elements of a CPU tensor with probability ``p``, using 16 random bits per element and a mask of bytes.

    The probability is rounded to a multiple of 2^-16; the elements that are kept are scaled by exactly the inverse of
    the probability of keeping one.
    """
    dropped = round(p * 2**_BITS)
    if dropped == 2**_BITS:
        return input * 0.0
    bits = torch.empty(-(-input.numel() * _BITS // 64), dtype=torch.int64).random_(-(2**63), None)
    kept = bits.view(torch.int16)[: input.numel()].view(input.shape) >= dropped - 2 ** (_BITS - 1)
    return input * kept.view(torch.uint8) * (2**_BITS / (2**_BITS - dropped))  # bytes convert faster than booleans


class QuickDropout(nn.Dropout):
    """``nn.Dropout`` that uses ``quick_dropout`` on a CPU and torch's own on other devices."""

    def forward(self, input: Tensor) -> Tensor:
        """Zero elements at random during training."""
        if not self.training or not self.p or input.device.type != "cpu" or not fast_cpu_enabled():
            return super().forward(input)
        return quick_dropout(input, self.p)


class QuickLinear(nn.Linear):
    """``nn.Linear`` that calls oneDNN where that is faster: large float32 products on a CPU with AVX-512, not Intel's.

    Everywhere else it is torch's own: in compiled code, under ``torch.func``, with ``torch.backends.mkldnn.enabled =
    False``, and where this release of torch lacks the private operator that calls oneDNN.
    """

    def forward(self, input: Tensor) -> Tensor:
        """The layer's outputs, shape ``(..., out_features)``."""
        weight, bias = self.weight, self.bias
        quick = (
            _WIDE
            and not torch.compiler.is_compiling()  # a compiler makes its own choice
            and not torch.jit.is_tracing()
            and not _is_transforming()
            and not torch.is_autocast_enabled("cpu")
            and torch.backends.mkldnn.enabled
            and type(weight) in (nn.Parameter, Tensor)
            and input.device.type == "cpu"
            and input.dtype == weight.dtype == torch.float32
            and input.shape[-1] == weight.shape[1]
            and input.numel() * len(weight) >= _MIN_PRODUCTS
            and fast_cpu_enabled()
            and _linear_operator() is not None
        )
        if not quick:
            return F.linear(input, weight, bias)
        outputs: Tensor = _Linear.apply(input.reshape(-1, weight.shape[1]).contiguous(), weight, bias)
        return outputs.view(*input.shape[:-1], len(weight))


class _Linear(torch.autograd.Function):
    """Outputs and gradients of a linear layer; contiguous matrices and their transposes are not copied."""

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
    """``x @ weight.t() + bias`` for matrices on a CPU."""
    operator = _linear_operator()
    assert operator is not None, "this release of torch lacks the operator"
    product: Tensor = operator(x, weight, bias, "none", [], "")
    return product


@functools.cache
def _linear_operator() -> Any:
    """Find torch's private operator for oneDNN's product; None where this release has none with these arguments."""
    one = torch.ones(1, 1, dtype=torch.float32, device="cpu")
    try:
        operator = torch.ops.mkldnn._linear_pointwise
        operator(one, one, None, "none", [], "")
    except (AttributeError, RuntimeError, TypeError):
        return None
    return operator


def _is_transforming() -> bool:
    """Whether ``torch.func`` transforms what runs; assumed where this release of torch cannot tell."""
    is_active = getattr(torch._C, "_are_functorch_transforms_active", None)
    return is_active is None or is_active()


def quicken(module: nn.Module) -> None:
    """Turn the dropout and linear layers inside a module into ``QuickDropout`` and ``QuickLinear``.

    Code that looks for exactly torch's classes, such as its quantization, needs them back: see ``change_classes``.
    """
    limit_shape_caches()
    change_classes(module, {nn.Dropout: QuickDropout, nn.Linear: QuickLinear})


def change_classes(module: nn.Module, classes: Mapping[type[nn.Module], type[nn.Module]]) -> None:
    """Change the class of the layers inside a module whose class is exactly a key of ``classes``.

    The two classes must have the same attributes.
    """
    for layer in module.modules():
        if type(layer) in classes:
            layer.__class__ = classes[type(layer)]


# Memory

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # of mallopt
_LARGE = 2**26  # bytes of a parameter
_SHAPE_CACHES = ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")


def limit_shape_caches() -> None:
    """Let torch and oneDNN keep what they prepared for the last 64 shapes, not for the last 1,024.

    Almost every batch has a number of rows that was not seen before, and each costs about a megabyte in these caches.
    Both libraries read the limit once, with their first product, so this must come before it. A limit that the
    environment already sets is left alone.
    """
    if fast_cpu_enabled():
        for name in _SHAPE_CACHES:
            os.environ.setdefault(name, "64")


def keep_memory() -> None:
    """Tell Linux's C library to keep up to 512 MB of free memory, in one block that serves all allocations.

    A training step on a CPU allocates and frees the same hundreds of megabytes again and again. What is returned to the
    system must be cleared by it, page by page, when it is allocated anew: 20 ms for the gradient of 30,000 word vectors
    of 384 dimensions. Where the environment says what is kept (``MALLOC_TRIM_THRESHOLD_``, ``GLIBC_TUNABLES``), that is
    left alone.
    """
    mallopt = malloc_function("mallopt") if fast_cpu_enabled() else None
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, 512 * 2**20)
        mallopt(_MMAP_MAX, 0)


def return_large_tensors(module: nn.Module) -> None:
    """After ``keep_memory``, return tensors of 32 MB and more to the system, for a module with parameters above 64 MB.

    The word vectors' gradient would rarely fit into the memory of the one before, which smaller tensors have taken a
    part of, so memory would grow by several of them: with two layers of SmolLM2-135M, whose word vectors have 108 MB,
    and batches of four reviews, to 2.7 GB instead of 1.7. In models of this size, clearing it is a small part of a
    step: that training took 0.98 of the time without this (median of 5 rounds in one process, 0.96 to 1.03).
    """
    mallopt = malloc_function("mallopt") if fast_cpu_enabled() else None
    sizes = (parameter.numel() * parameter.element_size() for parameter in module.parameters())
    if mallopt is not None and max(sizes, default=0) > _LARGE:
        mallopt(_MMAP_THRESHOLD, 2**25)  # the highest that the C library accepts
        mallopt(_MMAP_MAX, 2**16)


def malloc_function(name: str) -> Any:
    """A function of Linux's C library that manages free memory.

    None where the environment says how free memory is managed, and in other C libraries, which lack such functions.
    """
    is_set = any(variable.startswith(("MALLOC_TRIM_", "MALLOC_MMAP_")) for variable in os.environ)
    if sys.platform != "linux" or is_set or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return None
    return getattr(ctypes.CDLL(None), name, None)

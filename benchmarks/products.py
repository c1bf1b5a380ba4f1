"""The matrix products of a training step, and nothing else: the rate that a step of a model comes close to at best."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from statistics import median

import torch
import torch.nn.functional as F
from variants import clock

from gradual.nn.fast_cpu import keep_memory, onednn_product

Shape = tuple[int, int, int]
"""The numbers of rows, inputs and outputs of a linear layer."""
Operands = Sequence[tuple[torch.Tensor, ...]]


def encoder_shapes(tokens: int, width: int, inner: int, layers: int) -> list[Shape]:
    """The shapes of an encoder's linear layers."""
    inside = ([(width, width)] * 4 + [(width, inner), (inner, width)]) * layers
    return [(tokens, inputs, outputs) for inputs, outputs in inside]


def operations(shapes: Sequence[Shape]) -> int:
    """The number of floating-point operations of these products, forward and backward."""
    return sum(6 * rows * inputs * outputs for rows, inputs, outputs in shapes)


def make_operands(shapes: Sequence[Shape], dtype: torch.dtype, device: torch.device | str = "cpu") -> Operands:
    """Random inputs, weights and outputs of all linear layers; as in training, each has its own."""
    return [
        tuple(
            torch.randn(size, dtype=dtype, device=device)
            for size in ((rows, inputs), (outputs, inputs), (rows, outputs))
        )
        for rows, inputs, outputs in shapes
    ]


def multiply(operands: Operands, product: Callable[..., torch.Tensor] = F.linear) -> None:
    """Compute their products, forward and backward, once."""
    for x, weight, y in operands:
        product(x, weight)
        product(y, weight.t())
        product(y.t(), x.t())


def product_rate(shapes: Sequence[Shape], dtype: torch.dtype, device: torch.device | str, repeats: int = 7) -> float:
    """Floating-point operations per second of these products alone: the median of several times, after one more."""
    operands, now = make_operands(shapes, dtype, device), clock("wall", str(device))
    seconds = []
    for _ in range(1 + repeats):
        start = now()
        multiply(operands)
        seconds.append(now() - start)
    return operations(shapes) / median(seconds[1:])


class Products:
    """These products on a CPU, by torch and by oneDNN.

    Args:
        options: The options of a script.
    """

    def __init__(self, options: argparse.Namespace):
        torch.set_num_threads(options.threads)
        keep_memory()
        self.clock, self.dtype = clock(options.clock), torch.bfloat16 if options.bf16 else torch.float32

    def rates(self, shapes: Sequence[Shape], rounds: int = 8) -> tuple[float, float]:
        """Floating-point operations per second of torch's own product, and of oneDNN's if torch has it.

        The rate is all operations over all the time they took.
        """
        operands = make_operands(shapes, self.dtype)
        rates = []
        for product in (F.linear, onednn_product if torch.backends.mkldnn.is_available() else F.linear):
            start = 0.0
            for number in range(1 + rounds):
                if number == 1:  # round 0 touches the memory for the first time
                    start = self.clock()
                multiply(operands, product)
            rates.append(rounds * operations(shapes) / (self.clock() - start))
        return rates[0], rates[1]

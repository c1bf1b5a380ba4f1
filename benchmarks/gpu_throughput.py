"""Training throughput of the dialogue model on a GPU, by batch size, precision and compilation.

Each row is measured in its own process. Besides real word pieces per second, it shows how close a step comes to the
machine's limit: the rate of floating-point operations that real word pieces need, divided by the rate of bfloat16
products in the model's own shapes, measured in the same process.

    python benchmarks/gpu_throughput.py --root DIR --domain restaurant --pool train2000.tsv --encoder PATH
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from statistics import median
from typing import Any

import torch
from dialogue_throughput import Ours, add_data_arguments, make_data, training_flops
from lightning.fabric.utilities import move_data_to_device
from products import product_rate
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from variants import Variant, clock

COMPILATIONS = ("none", "default", "reduce-overhead")


class OnDevice(Ours):
    """The package's model in training on a device, at one batch size, precision and compilation.

    Args:
        options: The script's options, with the ``precision`` and the ``compilation`` of this row.
    """

    def __init__(self, options: argparse.Namespace):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = options.precision == "tf32"
        self.device = torch.device(options.device)
        super().__init__(options)
        self.clock = clock("wall", options.device)
        if options.compilation != "none":
            mode = None if options.compilation == "default" else options.compilation
            self.model.encoder.compile(dynamic=True, mode=mode)

    def make_network(self, model: Any) -> torch.nn.Module:
        """The network to train."""
        return model.to(self.device)

    def train(self, batches: Sequence[Sequence[int]]) -> dict[str, float]:
        """Train on batches that are collated beforehand, and return the time spent and the work done."""
        chosen = [self._of(indices) for indices in batches]
        made = [self.collate(dialogues) for dialogues in chosen]
        bf16 = self.options.precision == "bf16"
        start = self.clock()
        for batch in made:
            batch = move_data_to_device(batch, self.device)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
                loss = self.loss(batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
        seconds = self.clock() - start
        tokens = sum(len(turn) for dialogues in chosen for dialogue in dialogues for turn in dialogue.tokens)
        flops = sum(training_flops(self.model, dialogues) for dialogues in chosen)
        return {"seconds": seconds, "steps": len(batches), "tokens": tokens, "flops": flops}

    def product_rate(self, indices: Sequence[int]) -> float:
        """Floating-point operations per second of bfloat16 products alone, in the shapes of a batch."""
        return product_rate(self.shapes(indices), torch.bfloat16, self.device)

    def launches(self, indices: Sequence[int]) -> int:
        """The number of kernels and copies that a step launches; on a CPU, of operator calls."""
        cuda = self.device.type == "cuda"
        with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as profiled:
            self.train([indices])
        kind = DeviceType.CUDA if cuda else DeviceType.CPU
        return sum(event.count for event in profiled.key_averages() if event.device_type == kind)

    def peak(self) -> float:
        """The device's peak memory in MB; 0 for a CPU."""
        return torch.cuda.max_memory_allocated() / 2**20 if self.device.type == "cuda" else 0.0


def main() -> None:
    options = _options()
    print(f"{_name(options.device)}, torch {torch.__version__}; medians of {options.rounds} rounds.\n")
    print(
        "| precision | compiled | batch | steps/s | real tokens/s | share of bf16 products, % | launches | memory, MB |"
    )
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for precision, compilation, batch in itertools.product(options.precisions, options.compile, options.batch_sizes):
        variant = Variant(OnDevice, argparse.Namespace(**vars(options), precision=precision, compilation=compilation))
        size = variant.sizes()[0]
        order = torch.randperm(size, generator=torch.Generator().manual_seed(0)).tolist()
        drawn = [[order[(step * batch + i) % size] for i in range(batch)] for step in range(options.steps)]
        variant.train(drawn)  # compiles, and creates the optimizer's state
        rate = variant.product_rate(drawn[0])
        rounds = [variant.train(drawn) for _ in range(options.rounds)]
        steps, tokens, flops = (
            median([r[what] / r["seconds"] for r in rounds]) for what in ("steps", "tokens", "flops")
        )
        numbers = f"{steps:.1f} | {tokens:,.0f} | {100 * flops / rate:.1f} | {variant.launches(drawn[0]):,}"
        print(f"| {precision} | {compilation} | {batch} | {numbers} | {variant.peak():.0f} |", flush=True)
        variant.close()


def _name(device: str) -> str:
    return torch.cuda.get_device_name() if device.startswith("cuda") else "CPU"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add_data_arguments(parser)
    add("--encoder-layers", type=int, help="keep only this many layers, from the first")
    add("--device", default="cuda", help="(%(default)s)")
    add("--batch-sizes", type=int, nargs="+", default=[8, 32, 128, 256], help="batch sizes (%(default)s)")
    add("--precisions", nargs="+", default=["fp32", "tf32", "bf16"], choices=("fp32", "tf32", "bf16"))
    add("--compile", nargs="+", default=["none", "default"], choices=COMPILATIONS, help="of the encoder (%(default)s)")
    add("--steps", type=int, default=10, help="steps in a round (%(default)s)")
    add("--rounds", type=int, default=3, help="(%(default)s)")
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("there is no GPU here; --device cpu runs the same on the CPU.")
    options.threads, options.clock, options.bf16 = torch.get_num_threads(), "wall", False
    make_data(parser, options)
    return options


if __name__ == "__main__":
    main()

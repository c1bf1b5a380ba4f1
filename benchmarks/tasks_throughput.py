"""Training throughput of text classification, tagging and language modeling, compared with the trainers in use today.

Each variant trains in its own process, with the same weights, optimizer and examples, alternating with the others;
ratios are computed within a round. First, all train ten steps on the same batches without dropout: their losses must
be equal. These steps also show how long it takes from the start of a process to the end of its first step.

    python benchmarks/tasks_throughput.py classification --data FILE --pretrained PATH
    python benchmarks/tasks_throughput.py tagging --data FILE --pretrained PATH
    python benchmarks/tasks_throughput.py language-modeling --data FILE --pretrained PATH --batch-size 4

The data is in any format that the task reads; language modeling takes texts. A folder without weights, with a
``config.json`` and a tokenizer, gives a model with random weights. The other trainers need
``pip install 'gradual[benchmarks]'``.

On a GPU (``--device cuda --bf16``), clocks are read when the GPU has done its work, memory is that of its tensors, and
the ten steps are compared in fp32 without TF32, then in bfloat16. The share of products is the rate of floating-point
operations that real tokens need, divided by that of matrix products alone, in the model's shapes for a batch and of
large matrices, measured by the same process.
"""

from __future__ import annotations

import argparse
import importlib
import os
import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from variants import Variant, add_round_arguments, spread

STEPS = 10
TOLERANCE = 1e-4
TOLERANCE_BF16 = 5e-2  # looser: numbers of eight bits are apart by up to 0.8 per cent, and differences grow
TASKS = ("classification", "tagging", "language-modeling")
# imported where they are used: a variant's process must not load what another one needs
VARIANTS = {
    "gradual": ("gradual_tasks", "Ours"),
    "Trainer": ("plain_tasks", "PlainTrainer"),
    "Trainer, grouped by length": ("plain_tasks", "GroupedTrainer"),
    "SFTTrainer": ("plain_tasks", "PlainSft"),
    "SFTTrainer, packing": ("plain_tasks", "PackedSft"),
}


def make(module: str, name: str, *arguments: Any) -> Any:
    """Make an object of a class of another script."""
    return getattr(importlib.import_module(module), name)(*arguments)


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as name:
        compare(options, Path(name))


def compare(options: argparse.Namespace, folder: Path) -> None:
    """Compare the variants, and print the table."""
    preparation = Variant(make, "gradual_tasks", "Preparation", options, folder)
    lengths = preparation.write()
    preparation.close()
    per_round = options.steps * options.batch_size
    needed = max(per_round, STEPS * options.batch_size)
    if len(lengths) < needed:
        raise SystemExit(f"The data has {len(lengths)} examples of at most {options.max_length} tokens, not {needed}.")
    order = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(0)).tolist()
    options.row_tokens = max(round(options.batch_size * mean(lengths)), max(lengths))
    print(f"{options.task}: {len(lengths)} examples of {mean(lengths):.0f} tokens, batches of {options.batch_size}")

    variants: dict[str, Any] = {}
    checks: dict[str, dict[str, Any]] = {}
    chosen = order[: STEPS * options.batch_size]
    for name in options.variants:
        started = time.perf_counter() if options.clock == "wall" else 0.0
        variants[name] = Variant(make, *VARIANTS[name], options, folder, started)
        if options.device == "cpu":  # otherwise the processes get ready while another one computes
            checks[name] = variants[name].check(chosen, False)
    for name in [name for name in variants if name not in checks]:
        checks[name] = variants[name].check(chosen, False)
    agree = _agree({name: checks[name]["losses"] for name in variants}, TOLERANCE)
    print("peak memory of these steps, MB: " + ", ".join(f"{name} {checks[name]['peak']:.0f}" for name in variants))
    if agree and options.bf16:
        losses = {name: variant.check(chosen, True)["losses"] for name, variant in variants.items()}
        agree = _agree(losses, TOLERANCE_BF16, " in bfloat16")
    if not agree:
        for variant in variants.values():
            variant.close()
        raise SystemExit("The variants do not compute the same.")

    seconds: dict[str, list[float]] = {name: [] for name in variants}
    drawn_lengths = []
    for number in range(options.rounds):
        drawn = [order[(number * per_round + i) % len(order)] for i in range(per_round)]
        drawn_lengths.append([lengths[at] for at in drawn])
        for name in list(variants)[:: 1 if number % 2 else -1]:
            seconds[name].append(variants[name].train(drawn, number))
        found = ", ".join(f"{name} {per_round / times[-1]:.1f}" for name, times in seconds.items())
        print(f"round {number + 1}, examples/s: {found}", flush=True)  # what is left of a run that is cut short
    peaks = {name: variant.peak() for name, variant in variants.items()}
    (ours, *_) = variants
    batch = [lengths[at] for at in order[: options.batch_size]]
    work = [variants[ours].operations(each) for each in drawn_lengths]
    own, large = variants[ours].product_rates(batch)
    for variant in variants.values():
        variant.close()

    print(f"\nproducts alone, TFLOP/s: {own / 1e12:.2f} in the model's shapes, {large / 1e12:.2f} of large matrices")
    print(f"Medians of {options.rounds} rounds of {options.steps} steps, minimum and maximum in parentheses.\n")
    print(
        "| | examples/s | real tokens/s | gradual is faster by a factor of | peak memory, MB | gradual needs "
        "| first step after, s | gradual needs | share of products, % | of large products, % |"
    )
    print("| --- |" + " ---: |" * 9)
    for name, times in seconds.items():
        cells = [
            spread([per_round / each for each in times]),
            spread([sum(each) / took for each, took in zip(drawn_lengths, times)], 0),
            spread([theirs / mine for theirs, mine in zip(times, seconds[ours])], 2),
            f"{peaks[name]:.0f}",
            f"{peaks[ours] / peaks[name]:.2f}",
            f"{checks[name]['first step']:.1f}",
            f"{checks[ours]['first step'] / checks[name]['first step']:.2f}",
            *(spread([100 * each / took / rate for each, took in zip(work, times)]) for rate in (own, large)),
        ]
        print(f"| {name} | {' | '.join(cells)} |")


def _agree(found: dict[str, list[float]], tolerance: float, precision: str = "") -> bool:
    """Print the losses of the first variant, and how far the others are from them; returns whether they are equal."""
    ours, *others = (torch.tensor(losses, dtype=torch.float64) for losses in found.values())
    print(f"losses of {len(ours)} steps{precision}: {', '.join(f'{loss:.5f}' for loss in ours.tolist())}")
    off = [float(((theirs - ours) / ours).abs().max()) for theirs in others]
    differences = ", ".join(f"{name} {each:.0e}" for name, each in zip(list(found)[1:], off))
    print(f"relative differences at most: {differences}")
    return len(ours) == STEPS and max(off) <= tolerance


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("task", choices=TASKS)
    add("--data", required=True, nargs="+", help="files of training examples")
    add("--pretrained", required=True, help="folder or hub name of the model")
    add("--layers", type=int, help="keep only this many layers, from the first")
    add("--batch-size", type=int, default=16, help="examples in a batch (%(default)s)")
    add("--max-length", type=int, default=512, help="tokens of an example at most (%(default)s)")
    add("--steps", type=int, default=8, help="steps in a round (%(default)s)")
    add("--against", nargs="+", choices=list(VARIANTS)[1:], metavar="TRAINER", help="the others; default: all")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="(%(default)s)")
    add_round_arguments(parser)
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU here; --device cpu runs the same on the CPU.")
    if options.device == "cuda" and options.clock == "cpu":
        parser.error("--clock cpu tells nothing of the work of a GPU.")
    if options.device == "cuda":
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # the Trainer would use all
    known = [name for name in VARIANTS if options.task == "language-modeling" or not name.startswith("SFT")]
    options.variants = [name for name in known if name == "gradual" or name in (options.against or known)]
    return options


if __name__ == "__main__":
    main()

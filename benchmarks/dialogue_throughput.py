"""Training throughput of the dialogue model, compared with the same model computed as its published code computes it.

Each variant trains in its own process, with the same weights, alternating with the others; ratios are computed within a
round. The same rounds measure how close the model comes to the machine's limit: the rate of floating-point operations
that real word pieces need, divided by the rate of matrix products in the model's own shapes.

    python benchmarks/dialogue_throughput.py --root DIR --domain restaurant --pool train2000.tsv --encoder PATH
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from plain_sumbt import PlainSumbt, pad
from products import Products, Shape, encoder_shapes
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import ConcatDataset
from variants import Variant, add_arguments, as_torch_has_it, clock, spread

from gradual.nn.encoder import load_encoder, load_tokenizer
from gradual.nn.fast_cpu import keep_memory
from gradual.settings import OptimizerConfig
from gradual.stage.optim import build_optimizer
from gradual.tasks.dialogue import DialogueDataModule, Sumbt
from gradual.tasks.dialogue.data import Ontology
from gradual.tasks.dialogue.demo import write_demo_data
from gradual.tasks.dialogue.features import EncodedDialogue
from gradual.tasks.dialogue.model import batch_loss, turn_losses
from gradual.tasks.dialogue.vectors import text_vectors


class Ours:
    """The package's model in training.

    Args:
        options: The script's options.
    """

    keeps_memory = True

    def __init__(self, options: argparse.Namespace):
        torch.set_num_threads(options.threads)
        if self.keeps_memory:
            keep_memory()  # as in every stage
        self.options, self.clock = options, clock(options.clock)
        data = DialogueDataModule(options.root, options.domain, options.encoder, options.pool)
        data.setup()
        domains = data.domains
        parts = [part for part in (domains.in_domain, domains.out_of_domain) if part is not None]
        self.dialogues: Any = ConcatDataset(parts)
        self.collate: Any = data.collate_fn
        torch.manual_seed(0)
        model = Sumbt(load_encoder(options.encoder, options.encoder_layers))
        _set_vectors(model, options.encoder, data.ontology)
        self.model = model
        self.network = self.make_network(model).train()
        self.optimizer = self.make_optimizer()

    def make_network(self, model: Sumbt) -> torch.nn.Module:
        """The network to train."""
        return model

    def make_optimizer(self) -> torch.optim.Optimizer:
        """The optimizer that trains it."""
        return build_optimizer(self.network, OptimizerConfig(lr=1e-5))

    def make_batch(self, dialogues: list[EncodedDialogue]) -> Any:
        """The network's input for these dialogues."""
        return self.collate(dialogues)

    def loss(self, batch: Any) -> torch.Tensor:
        """The loss of a batch."""
        return batch_loss(turn_losses(self.network(batch), batch.labels), batch.labels)

    def sizes(self) -> tuple[int, int]:
        """The numbers of dialogues and of trained parameters."""
        trained = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        return len(self.dialogues), sum(parameter.numel() for parameter in trained)

    @torch.no_grad()
    def loss_without_dropout(self, indices: Sequence[int]) -> float:
        """The loss of a batch before any training."""
        self.network.eval()
        loss = float(self.loss(self.make_batch(self._of(indices))))
        self.network.train()
        return loss

    def train(self, batches: Sequence[Sequence[int]]) -> dict[str, float]:
        """Train on batches of dialogues, and return the time spent and the work done."""
        spent = {"seconds": 0.0, "optimizer": 0.0, "tokens": 0.0, "dialogues": 0.0, "steps": 0.0, "flops": 0.0}
        for indices in batches:
            dialogues = self._of(indices)
            start = self.clock()
            batch = self.make_batch(dialogues)
            with torch.autocast("cpu", torch.bfloat16, enabled=self.options.bf16):
                loss = self.loss(batch)
            loss.backward()
            middle = self.clock()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
            end = self.clock()
            spent["seconds"] += end - start
            spent["optimizer"] += end - middle
            spent["tokens"] += sum(len(turn) for dialogue in dialogues for turn in dialogue.tokens)
            spent["dialogues"] += len(dialogues)
            spent["steps"] += 1
            spent["flops"] += training_flops(self.model, dialogues)
        return spent

    def shapes(self, indices: Sequence[int]) -> list[Shape]:
        """The shapes of the encoder's linear layers for a batch."""
        config = self.model.encoder.config
        tokens = sum(len(turn) for dialogue in self._of(indices) for turn in dialogue.tokens)
        return encoder_shapes(tokens, config.hidden_size, config.intermediate_size, config.num_hidden_layers)

    def profile(self, batches: Sequence[Sequence[int]]) -> str:
        """A table of training time by operator."""
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            self.train(batches)
        return profiled.key_averages().table(sort_by="self_cpu_time_total", row_limit=40, max_name_column_width=50)

    def _of(self, indices: Sequence[int]) -> list[EncodedDialogue]:
        return [self.dialogues[index] for index in indices]


class Plain(Ours):
    """The plain model, with torch's own dropout and optimizer and the encoder of slots and values kept in memory."""

    keeps_memory = False
    stepwise = True

    def make_network(self, model: Sumbt) -> torch.nn.Module:
        """The network to train."""
        self.frozen = load_encoder(self.options.encoder)
        self.turns = max(len(dialogue.tokens) for dialogue in self.dialogues)
        return as_torch_has_it(PlainSumbt(model, self.stepwise))

    def make_optimizer(self) -> torch.optim.Optimizer:
        """The optimizer that trains it."""
        return torch.optim.AdamW(self.network.parameters(), lr=1e-5)

    def padded_turns(self) -> int:
        """The turns to which each dialogue is padded: those of the longest one of the file, at most ``max_turns``."""
        return self.turns

    def make_batch(self, dialogues: list[EncodedDialogue]) -> Any:
        """The network's input for these dialogues."""
        return pad(dialogues, self.turns, 64, self.collate.pad_token_id)

    def loss(self, batch: Any) -> torch.Tensor:
        """The loss of a batch."""
        return self.network(batch)


class PlainFused(Plain):
    """The plain model with torch's own GELU and layer normalisation, which take less time and memory."""

    stepwise = False


def training_flops(model: Sumbt, dialogues: Sequence[EncodedDialogue]) -> float:
    """Floating-point operations of a training step's matrix products, for real word pieces and turns only.

    A product of ``n x k`` and ``k x m`` counts ``2 n k m``, and so does each of its two products in the backward pass.
    Element-wise operations and the optimizer are not counted.
    """
    assert model.slot_vectors is not None
    assert model.value_mask is not None
    config, gru = model.encoder.config, model.tracker.gru
    d, inner, hidden, slots = config.hidden_size, config.intermediate_size, gru.hidden_size, len(model.slot_vectors)
    lengths = [len(turn) for dialogue in dialogues for turn in dialogue.tokens]
    turns, tokens = len(lengths), sum(lengths)
    attended = sum(length * length for length in lengths)
    encoder = config.num_hidden_layers * (tokens * (8 * d * d + 4 * d * inner) + 4 * d * attended)
    attention = tokens * (4 * d * d + 4 * slots * d) + turns * slots * 2 * d * d
    start = len(dialogues) * slots * 2 * d * hidden
    tracker = start + turns * slots * (6 * hidden * (d + hidden) + 2 * hidden * d)
    distances = turns * int(model.value_mask.sum()) * 2 * d
    return 3 * (encoder + attention + tracker) + 2 * distances  # the values get no gradient


def _set_vectors(model: Sumbt, encoder: str, ontology: Ontology) -> None:
    texts = list(dict.fromkeys([*ontology.slots, *(value for values in ontology.values for value in values)]))
    vectors = text_vectors(load_encoder(encoder), load_tokenizer(encoder), texts, "mean")
    row = {text: index for index, text in enumerate(texts)}
    model.set_vectors(
        vectors[[row[slot] for slot in ontology.slots]],
        [vectors[[row[value] for value in values]] for values in ontology.values],
    )


def main() -> None:
    options = _options()
    ours, fused, plain = (Variant(kind, options) for kind in (Ours, PlainFused, Plain))
    size, parameters = ours.sizes()
    order = torch.randperm(size, generator=torch.Generator().manual_seed(0)).tolist()
    losses = [variant.loss_without_dropout(order[:3]) for variant in (ours, fused, plain)]
    print(f"{size} dialogues, {parameters / 1e6:.1f} M parameters, threads: {options.threads}, clock: {options.clock}")
    print(f"the plain model pads each dialogue to {plain.padded_turns()} turns, the longest of them")
    print("loss of one batch without dropout: ours {:.6f}, plain with fused steps {:.6f}, plain {:.6f}".format(*losses))
    assert max(losses) - min(losses) <= 1e-4 * abs(losses[-1]), "the variants do not compute the same model"

    products = Variant(Products, options)
    more = [Variant(Ours, options) for _ in options.batch_sizes[1:]]  # each in its own process, for its peak memory
    plain_size = options.plain_batch_size
    names = [f"ours, batch {size}" for size in options.batch_sizes]
    names += [f"plain with torch's GELU and layer norm, batch {plain_size}", f"plain, batch {plain_size}"]
    variants, sizes = [ours, *more, fused, plain], [*options.batch_sizes, plain_size, plain_size]
    for variant, batch in zip(variants, sizes):
        variant.train([order[:batch]])  # the first step creates the optimizer's state
    results: list[list[dict[str, float]]] = [[] for _ in variants]
    rates: list[list[list[float]]] = [[] for _ in options.batch_sizes]
    for number in range(options.rounds):
        drawn = [order[(number * options.dialogues + i) % size] for i in range(options.dialogues)]
        for place, (variant, batch) in enumerate(zip(variants, sizes)):
            batches = [drawn[start : start + batch] for start in range(0, len(drawn), batch)]
            if place >= len(rates):
                batches = batches[: options.plain_steps]  # all of its steps take equally long
                results[place].append(variant.train(batches))
            else:  # the machine's speed may change from minute to minute
                shapes = variant.shapes(batches[0])
                before = products.rates(shapes)
                results[place].append(variant.train(batches))
                rates[place].append([(a + b) / 2 for a, b in zip(before, products.rates(shapes))])
    products.close()
    peaks = [variant.close() for variant in variants]

    print(f"\nMedians of {options.rounds} rounds, minimum and maximum in parentheses.\n")
    print("| | steps/s | dialogues/s | speedup | real tokens/s | peak memory, MB | memory ratio |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, rounds, peak in zip(names, results, peaks):
        speeds = [r["dialogues"] / r["seconds"] for r in rounds]
        times = [speed * p["seconds"] / p["dialogues"] for speed, p in zip(speeds, results[-1])]
        steps, tokens = ([r[what] / r["seconds"] for r in rounds] for what in ("steps", "tokens"))
        cells = [spread(steps, 2), spread(speeds, 2), spread(times), spread(tokens, 0)]
        print(f"| {name} | {' | '.join(cells)} | {peak:.0f} | {peak / peaks[-1]:.2f} |")
    print("\n| | torch's products, GFLOP/s | oneDNN's | model | % of torch's | % of oneDNN's | without optimizer |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, rounds, pairs in zip(names, results, rates):
        own, wide = ([pair[i] / 1e9 for pair in pairs] for i in (0, 1))
        model = [r["flops"] / r["seconds"] / 1e9 for r in rounds]
        without = [r["flops"] / (r["seconds"] - r["optimizer"]) / 1e9 for r in rounds]
        shares = [[100 * m / r for m, r in zip(*both)] for both in ((model, own), (model, wide), (without, wide))]
        print(f"| {name} | {' | '.join(map(spread, (own, wide, model, *shares)))} |")


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options for data and encoder."""
    add = parser.add_argument
    add("--root", help="folder that contains domains/; default: create a demo corpus and a tiny encoder")
    add("--domain", default="restaurant")
    add("--pool", help="file with the out-of-domain dialogues; default: the one with the highest number")
    add("--encoder", help="folder or hub name of the encoder")


def make_data(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Create demo data if no data is given."""
    if options.root is None:
        options.root = tempfile.mkdtemp()
        write_demo_data(Path(options.root))
        options.domain, options.encoder = "hostel", str(Path(options.root) / "encoder")
    if options.encoder is None:
        parser.error("--root needs --encoder")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add_data_arguments(parser)
    add("--batch-sizes", type=int, nargs="+", default=[3, 8], help="batch sizes of our model (%(default)s)")
    add("--plain-batch-size", type=int, default=3, help="batch size of the plain model (%(default)s)")
    add("--plain-steps", type=int, default=1, help="training steps of the plain model in a round (%(default)s)")
    add("--dialogues", type=int, default=24, help="dialogues that our model trains on in a round (%(default)s)")
    add_arguments(parser)
    add("--profile", action="store_true", help="only show the time of our model by operator")
    options = parser.parse_args()
    make_data(parser, options)
    if options.profile:
        ours = Ours(options)
        order = torch.randperm(len(ours.dialogues), generator=torch.Generator().manual_seed(0)).tolist()
        batch = options.batch_sizes[-1]
        ours.train([order[:batch]])
        batches = [order[start : start + batch] for start in range(0, options.dialogues, batch)]
        print(ours.profile(batches))
        parser.exit()
    return options


if __name__ == "__main__":
    main()

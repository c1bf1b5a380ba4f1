"""Training throughput of the event model, compared with one document a batch and a vector for every span.

Each variant trains in its own process, with the same weights and on the same documents, alternating with the other;
ratios are computed within a round.

    python benchmarks/events_throughput.py --root DIR --encoder PATH

``DIR`` contains ``fulltext.train.json`` (in-domain) and ``abstracts.train.json`` (out-of-domain).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from plain_dygie import PlainDygie
from torch.utils.data import ConcatDataset
from variants import Variant, add_arguments, as_torch_has_it, clock, spread

from gradual.data.loader import EpochBatches
from gradual.nn.encoder import load_encoder
from gradual.nn.fast_cpu import keep_memory
from gradual.settings import OptimizerConfig
from gradual.stage.optim import build_optimizer
from gradual.tasks.events import EventDataModule
from gradual.tasks.events.features import EncodedDocument
from gradual.tasks.events.loss import LossWeights, heads, loss_of
from gradual.tasks.events.model import Dygie


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
        root = Path(options.root)
        train, pool = str(root / options.in_domain), str(root / options.out_of_domain)
        data = EventDataModule(train, val=train, out_of_domain=pool, tokenizer=options.encoder)
        domains = data.load()
        parts: Any = [domains.in_domain, domains.out_of_domain]
        self.documents: Any = ConcatDataset(parts)
        self.lengths = torch.cat([torch.from_numpy(part.lengths) for part in parts])
        self.collate: Any = data.collate_fn
        torch.manual_seed(0)
        model = Dygie(load_encoder(options.encoder, options.encoder_layers))
        model.add_scorers(data.labels, data.max_span_width, LossWeights().layers)
        self.network = self.make_network(model).train()
        self.optimizer = self.make_optimizer()

    def make_network(self, model: Dygie) -> torch.nn.Module:
        """The network to train."""
        return model

    def make_optimizer(self) -> torch.optim.Optimizer:
        """The optimizer that trains it."""
        return build_optimizer(self.network, OptimizerConfig(lr=1e-5))

    def batches(self, indices: Sequence[int]) -> list[list[int]]:
        """Documents in batches of about ``batch_tokens`` word pieces, as the data module makes them."""
        made = EpochBatches(
            len(indices), self.options.batch_tokens, 0, train=True, lengths=self.lengths[list(indices)].numpy()
        )
        return [[indices[place] for place in batch] for batch in made]

    def loss(self, documents: list[EncodedDocument]) -> torch.Tensor:
        """The loss of a batch: the mean over its documents."""
        batch = self.collate(documents)
        weights = LossWeights()
        factors = {
            "ner": weights.ner,
            "relations": weights.relations,
            "triggers": weights.events * weights.triggers,
            "arguments": weights.events * weights.arguments,
        }
        parts = [factors[head.name] * loss_of(head, batch) for head in heads(self.network(batch), batch, {})]
        return torch.stack(parts).sum() / len(documents)

    def size(self) -> int:
        """The number of documents."""
        return len(self.documents)

    @torch.no_grad()
    def loss_without_dropout(self, indices: Sequence[int]) -> float:
        """The mean loss of documents before any training."""
        self.network.eval()
        losses = [float(self.loss(self._of(batch))) * len(batch) for batch in self.batches(indices)]
        self.network.train()
        return sum(losses) / len(indices)

    def train(self, indices: Sequence[int]) -> dict[str, float]:
        """Train on documents, and return the time spent and the work done."""
        batches = self.batches(indices)
        start = self.clock()
        for batch in batches:
            with torch.autocast("cpu", torch.bfloat16, enabled=self.options.bf16):
                loss = self.loss(self._of(batch))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
        seconds = self.clock() - start
        tokens = float(self.lengths[list(indices)].sum())
        return {"seconds": seconds, "steps": len(batches), "documents": len(indices), "tokens": tokens}

    def _of(self, indices: Sequence[int]) -> list[EncodedDocument]:
        return [self.documents[index] for index in indices]


class Plain(Ours):
    """The plain model, one document a batch, with torch's own dropout and optimizer."""

    keeps_memory = False

    def make_network(self, model: Dygie) -> torch.nn.Module:
        """The network to train."""
        return as_torch_has_it(PlainDygie(model, self.collate.pad_token_id))

    def make_optimizer(self) -> torch.optim.Optimizer:
        """The optimizer that trains it."""
        return torch.optim.AdamW(self.network.parameters(), lr=1e-5)

    def batches(self, indices: Sequence[int]) -> list[list[int]]:
        """A document each."""
        return [[index] for index in indices]

    def loss(self, documents: list[EncodedDocument]) -> torch.Tensor:
        """The loss of a document."""
        (document,) = documents
        return self.network(document)


def main() -> None:
    options = _options()
    ours, plain = Variant(Ours, options), Variant(Plain, options)
    size = ours.size()
    order = torch.randperm(size, generator=torch.Generator().manual_seed(0)).tolist()
    losses = [variant.loss_without_dropout(order[:4]) for variant in (ours, plain)]
    print(f"{size} documents, threads: {options.threads}, clock: {options.clock}")
    print(f"mean loss of four documents without dropout: ours {losses[0]:.6f}, plain {losses[1]:.6f}")
    assert abs(losses[0] - losses[1]) <= 1e-4 * abs(losses[1]), "the variants do not compute the same model"

    results: list[list[dict[str, float]]] = [[], []]
    for variant in (ours, plain):
        variant.train(order[:1])  # the first step creates the optimizer's state
    for number in range(options.rounds):
        drawn = [order[(number * options.documents + i) % size] for i in range(options.documents)]
        for variant, rounds in zip((ours, plain), results):
            rounds.append(variant.train(drawn))
    peaks = [ours.close(), plain.close()]

    print(f"\nMedians of {options.rounds} rounds, minimum and maximum in parentheses.\n")
    print("| | steps/s | documents/s | speedup | word pieces/s | peak memory, MB | memory ratio |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    names = (f"ours, {options.batch_tokens} word pieces a batch", "plain, one document a batch")
    for name, rounds, peak in zip(names, results, peaks):
        steps, documents, tokens = (
            [r[what] / r["seconds"] for r in rounds] for what in ("steps", "documents", "tokens")
        )
        times = [p["seconds"] / r["seconds"] for r, p in zip(rounds, results[-1])]
        cells = [spread(steps, 2), spread(documents, 2), spread(times, 2), spread(tokens, 0)]
        print(f"| {name} | {' | '.join(cells)} | {peak:.0f} | {peak / peaks[-1]:.2f} |")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--root", required=True, help="folder with the files")
    add("--in-domain", default="fulltext.train.json", help="file in that folder (%(default)s)")
    add("--out-of-domain", default="abstracts.train.json", help="file in that folder (%(default)s)")
    add("--encoder", required=True, help="folder or hub name of the encoder")
    add("--batch-tokens", type=int, default=2000, help="word pieces in a batch of our model (%(default)s)")
    add("--documents", type=int, default=24, help="documents in a round (%(default)s)")
    add_arguments(parser)
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""The cost of fingerprinting what a run is made of: relative to a stage of the demo, and for 7 billion parameters.

    python benchmarks/identity.py

For the demo, the time of a fingerprint is divided by that of the demo's shortest stage. The large model has the layers
of Llama 2 7B. Its weights are measured in memory, and mapped from a sparse file that has not been read yet; neither
takes memory or disk space beyond what is read.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from lightning.pytorch import LightningModule
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig
from variants import clock, spread

import gradual
from gradual.data.module import MixedDomainDataModule
from gradual.runs.directory import RunDirectory
from gradual.runs.fingerprint import data_fingerprint, model_fingerprint, settings_fingerprint, starting_weights
from gradual.runs.identity import changed, claim
from gradual.settings import TrainSettings
from gradual.tasks.dialogue import DialogueDataModule, DialogueStateTracker
from gradual.tasks.dialogue.demo import write_demo_data

PARTS = ("in_domain", "out_of_domain", "val", "test")


def fingerprint(model: LightningModule, data: MixedDomainDataModule) -> dict:
    """Everything that a run directory is compared with."""
    return {
        "model": model_fingerprint(model),
        "starting_weights": {"seed-0": starting_weights(model)},
        "data": data_fingerprint(data),
        "settings": settings_fingerprint(TrainSettings(), {}),
    }


def of_the_demo(rounds: int, now: Callable[[], float]) -> None:
    """Print the time to fingerprint the demo, by its files and by a sample of examples, relative to its last stage."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_demo_data(root)
        data = DialogueDataModule(str(root), "hostel", str(root / "encoder"), batch_size=8)
        data.setup()
        sampled = MixedDomainDataModule(**{part: getattr(data.domains, part) for part in PARTS})
        seconds: dict[str, list[float]] = {"files": [], "examples": [], "stage": []}
        for number in range(rounds):
            torch.manual_seed(0)
            model = DialogueStateTracker(str(root / "encoder"), encoder_layers=1, vectors="mean", hidden=100)
            for name, module in (("files", data), ("examples", sampled)):
                start = now()
                claim(RunDirectory(root / f"{name}-{number}"), fingerprint(model, module), "")
                seconds[name].append(now() - start)
            start = now()
            gradual.fit(
                model,
                data,
                [0],
                root / f"run-{number}",
                optimizer={"lr": 2e-3},
                max_epochs=15,
                patience=15,
                enable_progress_bar=False,
            )
            seconds["stage"].append(now() - start)
    for name, what in (("files", "its files"), ("examples", "a sample of its examples")):
        ratios = [mine / stage for mine, stage in zip(seconds[name], seconds["stage"])]
        print(f"demo, by {what}: {spread(seconds[name], 3)} s, relative to its last stage {spread(ratios, 4)}")
    print(f"the stage: {spread(seconds['stage'], 1)} s")


class Large(LightningModule):
    """The layers of Llama 2 7B, with all weights in one tensor.

    Args:
        weights: Creates that tensor, given the number of entries.
    """

    def __init__(self, weights: Callable[[int], torch.Tensor]):
        super().__init__()
        config = LlamaConfig(hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32)
        with torch.device("meta"):
            self.model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        flat, place = weights(sum(parameter.numel() for parameter in self.model.parameters())), 0
        for module in self.model.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                part = flat[place : place + parameter.numel()].view(parameter.shape)
                setattr(module, name, nn.Parameter(part, requires_grad=False))
                place += parameter.numel()


def in_memory(size: int) -> torch.Tensor:
    """A tensor that takes memory only where it is read."""
    return torch.empty(size, dtype=torch.bfloat16)


def mapped(file: Path) -> Callable[[int], torch.Tensor]:
    """A function that maps a tensor from a new file, which takes no disk space."""

    def make(size: int) -> torch.Tensor:
        with file.open("wb") as made:
            made.truncate(2 * size)
        return torch.from_file(str(file), shared=False, size=size, dtype=torch.bfloat16)

    return make


def of_a_large_model(rounds: int) -> None:
    """Print the time to fingerprint 7 billion parameters."""
    with tempfile.TemporaryDirectory() as folder:
        for where in ("in memory", "mapped from a file"):
            seconds: dict[str, list[float]] = {"attributes": [], "weights": [], "comparison": []}
            for number in range(rounds):
                model = Large(in_memory if where == "in memory" else mapped(Path(folder) / f"weights-{number}"))
                start = time.perf_counter()
                attributes = model_fingerprint(model)
                middle = time.perf_counter()
                weights = starting_weights(model)
                end = time.perf_counter()
                identity = {"model": attributes, "starting_weights": {"seed-0": weights}, "settings": {}}
                identity["data"] = {"class": "", "batch_size": 1, "batch_tokens": None, **dict.fromkeys(PARTS)}
                assert not changed(identity, identity)
                seconds["attributes"].append(middle - start)
                seconds["weights"].append(end - middle)
                seconds["comparison"].append(time.perf_counter() - end)
            tensors = list(model.parameters())
            count = sum(tensor.numel() for tensor in tensors)
            print(f"{count / 1e9:.2f} billion parameters in {len(tensors)} tensors, {where}: ", end="")
            print(", ".join(f"{name} {spread(values, 2)} s" for name, values in seconds.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each (%(default)s)")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: for a busy machine (%(default)s)"
    )
    options = parser.parse_args()
    of_the_demo(options.rounds, clock(options.clock))
    of_a_large_model(options.rounds)


if __name__ == "__main__":
    main()

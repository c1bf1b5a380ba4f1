"""The package's tasks in training, and what they are compared on."""

from __future__ import annotations

import argparse
import json
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer
from torch.utils.data import Subset
from variants import clock, peak_memory, without_dropout

from gradual.data.loader import EpochBatches, ResumableLoader
from gradual.data.subsets import lengths_of
from gradual.nn.encoder import load_model, load_tokenizer
from gradual.stage.memory import stage_memory
from gradual.stage.resume.lightning_internals import allow_clipping
from gradual.tasks import (
    CausalLM,
    CausalLMData,
    TextClassificationData,
    TextClassifier,
    TokenClassificationData,
    TokenClassifier,
)

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", module="lightning")
TASKS: dict[str, tuple[Any, Any]] = {
    "classification": (TextClassifier, TextClassificationData),
    "tagging": (TokenClassifier, TokenClassificationData),
    "language-modeling": (CausalLM, CausalLMData),
}


class Preparation:
    """Writes what all variants start from: a model with its head, and training data.

    Args:
        options: The script's options.
        folder: Where to.
    """

    def __init__(self, options: argparse.Namespace, folder: Path):
        self.options, self.folder = options, folder

    def write(self) -> list[int]:
        """Write the model in ``model`` and the examples in ``train.jsonl``; returns the length of each in tokens."""
        options = self.options
        model_class, data_class = TASKS[options.task]
        data = data_class(
            options.data,
            tokenizer=options.pretrained,
            max_length=options.max_length,
            cache_dir=str(self.folder / "read"),
        )
        data.setup()
        if getattr(data, "form", "text") != "text":
            raise SystemExit(f"The data has {data.form}: this benchmark needs texts.")
        spec, model = data.spec(), model_class(options.pretrained)
        torch.manual_seed(0)
        changes = model.model_config(spec)
        if options.layers is not None:
            changes["num_hidden_layers"] = options.layers
        load_model(options.pretrained, model_class.auto_class, changes)[0].save_pretrained(self.folder / "model")
        load_tokenizer(options.pretrained, words=options.task == "tagging").save_pretrained(self.folder / "model")
        examples = data.domains.in_domain
        lengths = lengths_of(examples)
        fits = np.flatnonzero(lengths <= options.max_length)  # a longer sentence would be tagged in windows
        table = data.tables["in_domain"].select(fits)
        roles = {role: column for role, column in data.column_of.items() if role != "id"}
        with (self.folder / "train.jsonl").open("w", encoding="utf-8") as file:
            for at, row in zip(fits.tolist(), table):
                chosen = {role: row[column] for role, column in roles.items()}
                file.write(json.dumps(chosen | self.target(examples[at], spec)) + "\n")
        return lengths[fits].tolist()

    def target(self, example: dict[str, Any], spec: Any) -> dict[str, Any]:
        """What an example's labels or tags are for the model of ``transformers``."""
        if self.options.task == "tagging":
            return {"target": example["tags"]}
        if self.options.task == "classification":
            several = spec.target == "labels"
            label = example["label"]
            return {"target": [float(at in label) for at in range(len(spec.labels))] if several else label}
        return {}


class Timer(Callback):
    """Measures a training run from the end of its first step, and when the first step of the process has ended."""

    def __init__(self, name: str, started: float):
        self.clock, self.started = clock(name), started
        self.seconds = self.first_step = 0.0
        self.losses: list[Any] = []

    def on_train_start(self, *_: Any) -> None:
        """Forget the losses of an earlier run."""
        self.losses = []

    def on_train_batch_end(self, trainer: Any, model: Any, outputs: Any, *_: Any) -> None:
        """Keep a loss, and start measuring after the first step."""
        self.losses.append(outputs["loss"].detach())
        self.first_step = self.first_step or self.clock() - self.started
        if len(self.losses) == 1:
            self.seconds = -self.clock()

    def on_train_end(self, *_: Any) -> None:
        """Stop measuring."""
        self.seconds += self.clock()


class Ours:
    """The package's model in training, with its data module's batches.

    Args:
        options: The script's options.
        folder: What ``Preparation`` has written.
        started: When the process was started, by the clock that is used.
    """

    def __init__(self, options: argparse.Namespace, folder: Path, started: float):
        torch.set_num_threads(options.threads)
        self.options = options
        self.timer = Timer(options.clock, started)
        model_class, data_class = TASKS[options.task]
        self.data = data_class(
            str(folder / "train.jsonl"),
            tokenizer=str(folder / "model"),
            max_length=options.max_length,
            cache_dir=str(folder / "cache"),
            num_proc=1,
        )
        self.data.setup()
        self.model = model_class(str(folder / "model"))
        self.data.configure(self.model)
        self.model.configure_model()

    def check(self, positions: Sequence[int]) -> dict[str, Any]:
        """Train on examples in order, without dropout; returns losses, the time to the first one and memory."""
        with without_dropout(self.model):
            self.fit(positions, check=True)
        losses = [float(loss) for loss in self.timer.losses]
        return {"losses": losses, "first step": self.timer.first_step, "peak": peak_memory()}

    def train(self, positions: Sequence[int], seed: int) -> float:
        """Train on examples for an epoch, after a step to warm up, and return the time that it took."""
        self.fit(positions, check=False)
        return self.timer.seconds

    def fit(self, positions: Sequence[int], check: bool) -> None:
        """Train for an epoch with a Trainer of Lightning, as a stage does."""
        warm_up = [] if check else positions[: self.options.batch_size]
        with stage_memory():
            self._fit([*warm_up, *positions], bf16=self.options.bf16 and not check)
            self.model.trainer = None  # what the model holds is not released

    def _fit(self, positions: Sequence[int], bf16: bool) -> None:
        batches = EpochBatches(len(positions), self.options.batch_size, 0, train=False)
        chosen = Subset(self.data.domains.in_domain, positions)
        trainer = Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=1,
            precision="bf16-mixed" if bf16 else "32-true",
            gradient_clip_val=1.0,
            use_distributed_sampler=False,
            callbacks=[self.timer, _Clipping()],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(self.model, ResumableLoader(chosen, batches, collate_fn=self.data.collate_fn))


class _Clipping(Callback):
    """Lets gradients be clipped in mixed precision, as in a stage."""

    def on_fit_start(self, trainer: Any, model: Any) -> None:
        for optimizer in trainer.optimizers:
            allow_clipping(optimizer)

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
from products import Shape, operations, product_rate
from torch.utils.data import Subset
from transformers import AutoConfig
from transformers.pytorch_utils import Conv1D
from variants import StepTimer, forget_peak, peak_memory, without_dropout

from gradual.data.loader import EpochBatches, ResumableLoader
from gradual.data.subsets import lengths_of
from gradual.nn.encoder import load_model, load_tokenizer, model_from_config, weights_of
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
        self.make_model(model_class.auto_class, changes).save_pretrained(self.folder / "model")
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

    def make_model(self, auto_class: str, changes: dict[str, Any]) -> Any:
        """Load the model, or make it with random weights if its folder has none."""
        name = self.options.pretrained
        if not Path(name).is_dir() or weights_of(name):
            return load_model(name, auto_class, changes).model
        config = AutoConfig.from_pretrained(name)
        config.update({**changes, "dtype": "float32"})
        return model_from_config(config.to_dict(), auto_class)

    def target(self, example: dict[str, Any], spec: Any) -> dict[str, Any]:
        """What an example's labels or tags are for the model of ``transformers``."""
        if self.options.task == "tagging":
            return {"target": example["tags"]}
        if self.options.task == "classification":
            several = spec.target == "labels"
            label = example["label"]
            return {"target": [float(at in label) for at in range(len(spec.labels))] if several else label}
        return {}


class Timer(StepTimer, Callback):
    """Measures a training run, and keeps its losses."""

    losses: list[Any]

    def on_train_start(self, *_: Any) -> None:
        """Forget the losses of an earlier run."""
        self.losses = []

    def on_train_batch_end(self, trainer: Any, model: Any, outputs: Any, *_: Any) -> None:
        """Keep a loss, and start measuring after the first step."""
        self.losses.append(outputs["loss"].detach())
        if len(self.losses) == 1:
            self.start()

    def on_train_end(self, *_: Any) -> None:
        """Stop measuring."""
        self.stop()


class Ours:
    """The package's model in training, with its data module's batches.

    Args:
        options: The script's options.
        folder: What ``Preparation`` has written.
        started: When the process was started, by the clock that is used.
    """

    def __init__(self, options: argparse.Namespace, folder: Path, started: float):
        torch.set_num_threads(options.threads)
        torch.set_float32_matmul_precision("highest")  # no TF32, so that losses are equal
        self.options = options
        self.timer = Timer(options, started)
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
        self.timer.wait()

    def check(self, positions: Sequence[int], bf16: bool) -> dict[str, Any]:
        """Train on examples in order, without dropout; returns losses, the time to the first one and memory."""
        self.timer.go()
        with without_dropout(self.model):
            self.fit(positions, bf16)
        losses = [float(loss) for loss in self.timer.losses]
        found = {"losses": losses, "first step": self.timer.first_step, "peak": self.peak()}
        forget_peak(self.options.device)
        return found

    def train(self, positions: Sequence[int], seed: int) -> float:
        """Train on examples for an epoch, after a step to warm up, and return the time that it took."""
        self.fit([*positions[: self.options.batch_size], *positions], self.options.bf16)
        return self.timer.seconds

    def peak(self) -> float:
        """The peak memory in MB."""
        return peak_memory(self.options.device)

    def fit(self, positions: Sequence[int], bf16: bool) -> None:
        """Train for an epoch with a Trainer of Lightning, as a stage does."""
        with stage_memory():
            self._fit(positions, bf16)
            self.model.trainer = None  # what the model holds is not released

    def _fit(self, positions: Sequence[int], bf16: bool) -> None:
        batches = EpochBatches(len(positions), self.options.batch_size, 0, train=False)
        chosen = Subset(self.data.domains.in_domain, positions)
        trainer = Trainer(
            accelerator=self.options.device,
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

    def operations(self, lengths: Sequence[int]) -> float:
        """Floating-point operations of training on examples of these lengths once: matrix products of real tokens.

        A product of ``n x k`` and ``k x m`` counts ``2 n k m``, and so does each of its two products in the backward
        pass. Element-wise operations and the optimizer are not counted.
        """
        config = self.model.model.config
        heads = config.num_attention_heads
        width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
        attended = sum(length * length for length in lengths) / (2 if self._is_causal else 1)
        return operations(self.shapes(lengths)) + 12 * config.num_hidden_layers * width * attended

    def shapes(self, lengths: Sequence[int]) -> list[Shape]:
        """The shapes of the linear layers for the real tokens of examples of these lengths."""
        tokens, examples = sum(lengths), len(lengths)
        rows_of_head = {"classification": examples, "tagging": tokens, "language-modeling": tokens - examples}
        rows = {True: tokens, False: rows_of_head[self.options.task]}
        shapes = []
        for name, layer in self.model.model.named_modules():
            if isinstance(layer, torch.nn.Linear | Conv1D):
                in_block = any(part.isdigit() for part in name.split("."))
                outputs, inputs = layer.weight.shape
                shapes.append((rows[in_block], inputs, outputs))
        return shapes

    def product_rates(self, lengths: Sequence[int]) -> tuple[float, float]:
        """Floating-point operations per second of products alone, in the shapes of a batch and of large matrices."""
        on_gpu = self.options.device == "cuda"
        dtype = torch.bfloat16 if self.options.bf16 else torch.float32
        size, repeats = (8192, 7) if on_gpu else (1024, 2)
        shapes = (self.shapes(lengths), [(size, size, size)])
        own, large = (product_rate(each, dtype, self.options.device, repeats) for each in shapes)
        return own, large

    @property
    def _is_causal(self) -> bool:
        return self.options.task == "language-modeling"


class _Clipping(Callback):
    """Lets gradients be clipped in mixed precision, as in a stage."""

    def on_fit_start(self, trainer: Any, model: Any) -> None:
        for optimizer in trainer.optimizers:
            allow_clipping(optimizer)

"""The trainers that people fine-tune with today: the ``Trainer`` of ``transformers`` and the ``SFTTrainer`` of TRL."""

from __future__ import annotations

import argparse
import gc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer_pt_utils import get_length_grouped_indices
from transformers.utils.logging import disable_progress_bar
from variants import StepTimer, forget_peak, peak_memory, without_dropout

datasets.disable_progress_bars()
disable_progress_bar()
_MEGA_BATCH = 50  # batches that are sorted by length together, as in an epoch of 200 batches or more


class Timer(StepTimer, TrainerCallback):
    """Measures a training run."""

    def on_step_end(self, arguments: Any, state: Any, *_: Any, **__: Any) -> None:
        """Start measuring after the first step."""
        if state.global_step == 1:
            self.start()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Stop measuring."""
        self.stop()


class PlainTrainer:
    """Training with the ``Trainer``, as in the examples of ``transformers``: batches padded to their longest text.

    Args:
        options: The script's options.
        folder: What ``gradual_tasks.prepare`` has written.
        started: When the process was started, by the clock that is used.
    """

    grouped = False
    """Whether batches consist of texts of similar length."""

    def __init__(self, options: argparse.Namespace, folder: Path, started: float):
        torch.set_num_threads(options.threads)
        torch.set_float32_matmul_precision("highest")  # no TF32, so that losses are equal
        self.options, self.folder = options, folder
        self.timer = Timer(options, started)
        self.tokenizer = AutoTokenizer.from_pretrained(folder / "model")
        self.model = self.auto_class().from_pretrained(folder / "model")
        self.data = self.read()
        self.timer.wait()

    def auto_class(self) -> Any:
        """The class that loads the model."""
        return {
            "classification": AutoModelForSequenceClassification,
            "tagging": AutoModelForTokenClassification,
            "language-modeling": AutoModelForCausalLM,
        }[self.options.task]

    def read(self) -> Any:
        """The training data."""
        folder = str(self.folder)
        rows = datasets.Dataset.from_json(f"{folder}/train.jsonl", cache_dir=f"{folder}/datasets-{type(self).__name__}")
        features = {"classification": self._texts, "tagging": self._tags, "language-modeling": self._tokens}
        return rows.map(features[self.options.task], batched=True, remove_columns=rows.column_names)

    def _texts(self, rows: Mapping[str, list[Any]]) -> dict[str, Any]:
        texts = [rows[name] for name in ("text", "text_pair") if name in rows]
        encoded = self.tokenizer(*texts, truncation=True, max_length=self.options.max_length)
        return {**encoded, "labels": rows["target"]}

    def _tags(self, rows: Mapping[str, list[Any]]) -> dict[str, Any]:
        encoded = self.tokenizer(
            rows["tokens"], is_split_into_words=True, truncation=True, max_length=self.options.max_length
        )
        labels = []
        for sentence, tags in enumerate(rows["target"]):
            words = encoded.word_ids(sentence)
            first = [word is not None and word != before for before, word in zip([None, *words], words)]
            labels.append([tags[word] if is_first else -100 for word, is_first in zip(words, first)])
        return {**encoded, "labels": labels}

    def _tokens(self, rows: Mapping[str, list[Any]]) -> dict[str, Any]:
        texts = [text + self.tokenizer.eos_token for text in rows["text"]]
        encoded = self.tokenizer(texts, truncation=True, max_length=self.options.max_length)
        return {**encoded, "labels": encoded["input_ids"]}

    def collator(self) -> Any:
        """What pads the examples of a batch."""
        kinds = {
            "classification": DataCollatorWithPadding,
            "tagging": DataCollatorForTokenClassification,
            "language-modeling": DataCollatorForSeq2Seq,  # the one for language models would mask the end of a text
        }
        return kinds[self.options.task](self.tokenizer)

    def arguments(self, check: bool, bf16: bool) -> dict[str, Any]:
        """The settings of training: the optimizer is that of ``gradual``; nothing is saved or reported."""
        return {
            "output_dir": str(self.folder / "output"),
            "per_device_train_batch_size": self.options.batch_size,
            "num_train_epochs": 1,
            "learning_rate": 5e-5,
            "weight_decay": 0.01,
            "lr_scheduler_type": "constant",
            "train_sampling_strategy": "sequential",
            "logging_steps": 1 if check else 500,
            "bf16": bf16,
            "use_cpu": self.options.device == "cpu",
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
        }

    def trainer(self, positions: Sequence[int], check: bool, bf16: bool) -> Any:
        """The trainer of one epoch over examples."""
        arguments = TrainingArguments(**self.arguments(check, bf16))
        return Trainer(
            self.model,
            arguments,
            self.collator(),
            self.data.select(positions),
            processing_class=self.tokenizer,
            callbacks=[self.timer],
        )

    def check(self, positions: Sequence[int], bf16: bool) -> dict[str, Any]:
        """Train on examples in order, without dropout; returns losses, the time to the first one and memory."""
        self.timer.go()
        with without_dropout(self.model):
            trainer = self.run(positions, check=True, bf16=bf16)
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        found = {"losses": losses, "first step": self.timer.first_step, "peak": self.peak()}
        forget_peak(self.options.device)
        return found

    def train(self, positions: Sequence[int], seed: int) -> float:
        """Train on examples for an epoch, after a step to warm up, and return the time that it took."""
        self.run(self.ordered(positions, seed), check=False, bf16=self.options.bf16)
        return self.timer.seconds

    def peak(self) -> float:
        """The peak memory in MB."""
        return peak_memory(self.options.device)

    def run(self, positions: Sequence[int], check: bool, bf16: bool) -> Any:
        """Train on examples for an epoch; returns the trainer."""
        trainer = self.trainer(positions, check, bf16)
        trainer.remove_callback(PrinterCallback)
        if not check:
            first = trainer.train_dataset.select(range(trainer.args.train_batch_size))
            trainer.train_dataset = datasets.concatenate_datasets([first, trainer.train_dataset])
        trainer.train()
        gc.collect()  # of earlier trainers, as the memory of one is of interest
        return trainer

    def ordered(self, positions: Sequence[int], seed: int) -> Sequence[int]:
        """The examples in the order in which batches take them."""
        return positions


class GroupedTrainer(PlainTrainer):
    """The same, grouped by length."""

    grouped = True

    def ordered(self, positions: Sequence[int], seed: int) -> Sequence[int]:
        """The examples, grouped by length as the sampler of ``transformers`` does it."""
        lengths = [len(ids) for ids in self.data.select(positions)["input_ids"]]
        generator = torch.Generator().manual_seed(seed)
        order = get_length_grouped_indices(lengths, self.options.batch_size, _MEGA_BATCH, generator)
        return [positions[at] for at in order]


class PlainSft(PlainTrainer):
    """Training with TRL's ``SFTTrainer``, which tokenizes the texts."""

    packing = False
    """Whether texts are packed into rows."""

    def read(self) -> Any:
        """The texts."""
        folder = str(self.folder)
        return datasets.Dataset.from_json(f"{folder}/train.jsonl", cache_dir=f"{folder}/datasets-{type(self).__name__}")

    def trainer(self, positions: Sequence[int], check: bool, bf16: bool) -> Any:
        """The trainer of one epoch over examples, or in rows of as many tokens as those of a batch have on average."""
        from trl import SFTConfig, SFTTrainer

        arguments = self.arguments(check, bf16) | {
            "max_length": self.options.max_length,
            "gradient_checkpointing": False,
        }
        data = self.data
        if self.packing and check:  # what packing turns a batch into, but with the same texts in it as in the others
            arguments |= {"padding_free": True, "max_length": None}
            data = PlainTrainer.read(self)  # which cuts what is too long; this setting does not
        elif self.packing:
            rows = {"per_device_train_batch_size": 1, "max_length": self.options.row_tokens}
            arguments |= {"packing": True, **rows}
        return SFTTrainer(
            self.model,
            SFTConfig(**arguments),
            train_dataset=data.select(positions),
            processing_class=self.tokenizer,
            callbacks=[self.timer],
        )


class PackedSft(PlainSft):
    """The same, packed into rows without padding."""

    packing = True

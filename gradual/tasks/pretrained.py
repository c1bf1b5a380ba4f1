"""The base class of the tasks whose model is one of ``transformers`` as it is: an Auto class with its own head.

A new task is a package with

- a spec, a frozen dataclass of plain data (text, numbers, tuples of these), that says what a model must know of the
  data, such as its labels;
- a data module, a ``TaskFileDataModule`` (see ``gradual.data.task_files``), whose ``spec`` returns it;
- a ``PretrainedTask``, as a sketch::

    class TextClassifier(PretrainedTask):
        auto_class = "AutoModelForSequenceClassification"
        datamodule_class = "gradual.tasks.TextClassificationData"
        spec_class = TextSpec

        def __init__(self, pretrained: str, per_label_scores: bool = False, **settings: Any):
            super().__init__(pretrained, **settings)  # saves the hyperparameters of both
            ...

        def model_config(self, spec):      # what differs from the pretrained model's configuration
            return {"num_labels": len(spec.labels), "id2label": dict(enumerate(spec.labels)), ...}

        def make_scores(self, spec):       # a TaskScores
            return LabelScores(...)

        def main_score(self, spec):        # optional: the score that `gradual init` proposes to monitor
            return "macro_f1"

        def prepare_model(self, model):    # optional: before LoRA and before training
            prepare_for_pieces(model, by_token=False)

        def _step(self, batch, split): ... # returns the loss of a batch; updates self.scores_of(split)
        def test_step(self, batch, batch_idx): ...     # {"id": ..., SCORE: [numerator, denominator]} per example
        def predict_step(self, batch, batch_idx): ...  # returns a JSON object per example

and a line in ``OWN_CLASSES`` of ``gradual.cli.class_paths`` and in ``gradual.tasks``. Everything else is done here:
loading, checkpoints, sharding, logging. A loss that is a mean over examples divides its sum by
``self.mean_count(number of examples)``, so that several processes average to the loss of all their examples.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from gradual.distributed import mean_over_processes
from gradual.errors import InputError
from gradual.logging import say_once
from gradual.nn.encoder import load_model, model_from_config, weights_of
from gradual.nn.fast_cpu import quicken, return_large_tensors
from gradual.nn.frozen import leave_out
from gradual.tasks.adapters import Adapter, LoRA
from gradual.tasks.base import TaskModule
from gradual.tasks.scores import TaskScores


class PretrainedTask(TaskModule):
    """A task that fine-tunes a model of ``transformers`` with its own head.

    Logs ``train/loss`` in each step and, for ``train``, ``val`` and ``test``, the scores of the task at the end of an
    epoch. Checkpoints hold the configuration of the model and the spec as plain data, so that ``load_from_checkpoint``
    needs neither the data nor the pretrained folder. With ``lora`` they hold the adapter and the head alone, and the
    pretrained folder is needed.

    Args:
        pretrained: A pretrained model for ``transformers``: a folder, or a name on the Hugging Face Hub.
        lora: Train a LoRA adapter beside the frozen pretrained weights, with these settings (``{}`` for the defaults);
            None to train all weights.
        gradient_checkpointing: Compute the layers' activations again in the backward pass instead of keeping them,
            which takes less memory and more time.
        trust_remote_code: Run Python code that comes with the model, from its folder or the Hub. If off, such models
            are refused.

    Attributes:
        model: The model, of its class in ``transformers``; None before ``configure_model``. The layers of an adapter
            are inside it.
        spec: What is known of the data; None before ``configure_data``.
        adapter: The adapter; None without ``lora``. A stage may merge it (``adapter: merge``).
        pretrained_weights: What tells the pretrained weights from others, for run directories and checkpoints.
    """

    auto_class: ClassVar[str]
    """The class of ``transformers`` that loads the model."""
    spec_class: ClassVar[type]
    """The dataclass of the spec."""
    default_lr: ClassVar[float] = 5e-5
    """The learning rate where neither a stage nor the run sets one."""
    _remarks: tuple[str, ...] = ()  # on what is random in the model that was loaded last

    def __init__(
        self,
        pretrained: str,
        *,
        lora: LoRA | dict[str, Any] | None = None,
        gradient_checkpointing: bool = False,
        trust_remote_code: bool = False,
    ):
        super().__init__()
        settings = LoRA.of(lora)
        self.save_hyperparameters(ignore=["trust_remote_code", "lora"])
        self.save_hyperparameters({"lora": settings and settings.to_plain()})
        self.adapter = Adapter(settings, self._load, self.auto_class) if settings else None
        self.pretrained_weights = weights_of(pretrained)
        self.pretrained, self.gradient_checkpointing = pretrained, gradient_checkpointing
        self.trust_remote_code = trust_remote_code
        self.model: Any = None
        self.spec: Any = None

    @abstractmethod
    def model_config(self, spec: Any) -> dict[str, Any]:
        """Return the entries of the model's configuration that the task sets, such as ``num_labels``."""

    @abstractmethod
    def make_scores(self, spec: Any) -> TaskScores:
        """Return a new metric for a split, whose ``compute`` returns scores by name, among them ``loss``."""

    def main_score(self, spec: Any) -> str:
        """Return the name of the score that a run should watch on validation unless it is told another one."""
        return "loss"

    def predicted_in_words(self, spec: Any) -> str:
        """Say what is predicted where that depends on the data, such as "one of 2 labels"; empty where it does not."""
        return ""

    def begins_on_plateau(self, spec: Any) -> bool:
        """Return whether the main score hardly changes at first, so that ending a stage takes more patience."""
        return False

    def prepare_model(self, model: Any) -> None:
        """Prepare a new model of ``transformers``, before anything wraps it; does nothing by default."""

    def difference(self, trained: Any, data: Any) -> str | None:
        """Say in words how the spec of the data differs from the one that the model was trained with.

        By default specs must be equal.

        Returns:
            A clause such as "only the data has the label 'x'"; None if the model can be used on the data.
        """
        return None if trained == data else f"it was trained with {trained}, but the data has {data}"

    def configure_data(self, spec: Any) -> None:
        """Take the spec, or check that the model suits it."""
        spec = self.expect(spec, self.spec_class)
        if self.spec is not None and (difference := self.difference(self.spec, spec)):
            raise InputError(f"The model does not suit the data: {difference}.")
        if self.spec is None:
            self.add_scores(lambda: self.make_scores(spec))
        self.spec = spec

    def configure_model(self) -> None:
        """Load the model once the data is known, and divide it among processes where the strategy asks for it."""
        if self.model is None and self.spec is not None:
            self._take(self._new_model)
            for remark in self._remarks:
                say_once(logging.INFO, remark)
        if self.model is not None and self.device_mesh is not None:
            shard(self.model, self.device_mesh)

    def _new_model(self) -> Any:
        return self._load()[0] if self.adapter is None else self.adapter.load()

    def _load(self, **arguments: Any) -> tuple[Any, set[str]]:
        """Load the pretrained model; returns the names of what is random in it as well."""
        changes, trusted = self.model_config(self.spec), self.trust_remote_code
        loaded = load_model(self.pretrained, self.auto_class, changes, trusted, **arguments)
        self._remarks = loaded.remarks
        return loaded.model, loaded.new

    def _take(self, make: Callable[[], Any]) -> None:
        """Make and prepare the model; a stage draws the same random numbers afterwards whether it existed or not."""
        with isolate_rng(include_cuda=torch.cuda.is_initialized()):
            model = make()
        quicken(model)
        self.prepare_model(model)
        if self.gradient_checkpointing:
            _checkpoint_activations(model)
        self.model = model.train()  # transformers loads models in evaluation mode
        if self.adapter is None or not self.adapter.lora.load_in_4bit:  # weights in 4 bits are on their GPU
            self.model.to(self.device)
        if self.adapter is not None:
            leave_out(self, [f"model.{name}" for name in self.adapter.frozen()])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the model's configuration and the spec, and what the adapter needs."""
        if self.model is not None:
            checkpoint["pretrained_config"] = json.loads(self.model.config.to_json_string(use_diff=False))
            if self.model.can_generate():
                config = self.model.generation_config
                checkpoint["generation_config"] = json.loads(config.to_json_string(use_diff=False))
            checkpoint["spec"] = dataclasses.asdict(self.spec)
        if self.adapter is not None:
            checkpoint["pretrained_weights"] = self.pretrained_weights
            checkpoint["merged_adapters"] = self.adapter.earlier

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make the model from its configuration, unless it exists; with an adapter, from the pretrained folder.

        Raises:
            InputError: The checkpoint comes from another class, its spec differs from that of the data, or its adapter
                was trained beside other weights.
        """
        try:
            spec = self.spec_class(**_tuples(checkpoint["spec"]))
            config = dict(checkpoint["pretrained_config"])
        except (KeyError, TypeError, ValueError):
            raise InputError(
                f"The checkpoint has no model of this task: it must come from a {type(self).__name__}."
            ) from None
        if self.spec is None:
            self.configure_data(spec)
        elif difference := self.difference(spec, self.spec):
            raise InputError(f"The checkpoint does not suit the data: {difference}.")
        if (self.adapter is None) == ("merged_adapters" in checkpoint):
            raise InputError(f"The checkpoint was trained with{'out' if self.adapter else ''} lora, unlike this model.")
        if self.adapter is not None:
            self._restore(self.adapter, checkpoint)
        elif self.model is None:
            generation = checkpoint.get("generation_config")
            self._take(lambda: model_from_config(config, self.auto_class, generation))

    def _restore(self, adapter: Adapter, checkpoint: Mapping[str, Any]) -> None:
        """Make the model from the pretrained folder, unless it exists, with the adapters that were merged."""
        saved = checkpoint["pretrained_weights"]
        if saved and self.pretrained_weights and saved != self.pretrained_weights:
            raise InputError(f"The adapter was trained beside other weights than those in '{self.pretrained}'.")
        if self.model is None:
            self._take(self._new_model)
        adapter.restore(checkpoint["merged_adapters"])

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder that ``transformers`` loads: weights as safetensors, and a configuration with label names.

        An adapter is merged into the weights; ``adapter.save(folder)`` writes the adapter alone.
        """
        model = self.model if self.adapter is None else self.adapter.merged()
        model.save_pretrained(folder)

    def mean_count(self, loss: Tensor, count: int | Tensor) -> Tensor:
        """Return the mean over processes of what each has a ``count`` of, to divide sums by; never 0.

        Averaged over processes, sums divided by it are those of all processes divided by all that they have.
        """
        mine = loss.detach().new_zeros(()) + count
        return mean_over_processes(mine).clamp_min(1e-9) if self.training else mine.clamp_min(1e-9)

    def configure_optimizers(self) -> Any:
        """Return AdamW with ``default_lr``, and without weight decay on biases and norms; for runs that set none."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        groups = [
            {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": 0.01},
            {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
        ]
        fused = {parameter.device.type for parameter in trained} <= {"cpu", "cuda"}
        return torch.optim.AdamW([group for group in groups if group["params"]], self.default_lr, fused=fused or None)

    def on_fit_start(self) -> None:
        """Choose how memory is managed on a CPU."""
        return_large_tensors(self)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of a batch, and log it."""
        loss: Tensor = self._step(batch, "train")
        self.log_loss(loss)
        return loss


def _checkpoint_activations(model: Any) -> None:
    name = "activation_checkpointing_enable"  # as transformers calls it from 5.20 on
    enable = getattr(model, name, None) or model.gradient_checkpointing_enable
    try:
        enable({"use_reentrant": False})
    except ValueError as error:
        raise InputError(f"gradient_checkpointing: {type(model).__name__} has none; set it to false.") from error


def shard(model: Any, mesh: Any) -> None:
    """Divide a model's parameters among the processes of a mesh, block by block (FSDP2), unless it is divided.

    Args:
        model: A model of ``transformers``, or a wrapper around one.
        mesh: The device mesh of Lightning's ``ModelParallelStrategy``.
    """
    from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

    if isinstance(model, FSDPModule):
        return
    names = {name for part in model.modules() for name in getattr(part, "_no_split_modules", None) or ()}
    for part in model.modules():
        if type(part).__name__ in names and any(True for _ in part.parameters()):
            fully_shard(part, mesh=mesh["data_parallel"])
    fully_shard(model, mesh=mesh["data_parallel"])
    if model.can_generate():
        register_fsdp_forward_method(model, "generate")  # it gathers weights, as a forward pass does


def _tuples(value: Any) -> Any:
    """Turn the lists in plain data into the tuples that a frozen dataclass has."""
    if isinstance(value, list | tuple):
        return tuple(map(_tuples, value))
    return {name: _tuples(part) for name, part in value.items()} if isinstance(value, Mapping) else value

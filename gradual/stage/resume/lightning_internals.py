"""The private parts of Lightning and torchmetrics that training in stages relies on, one function per purpose.

Lightning promises nothing about these names. pyproject.toml therefore allows only the releases that they were tested
with, and test_lightning_internals.py names each one that a new release has moved. To let that test find them, a private
attribute is always written with its full path from an argument: ``trainer.fit_loop._data_fetcher``.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from lightning.fabric.plugins.environments import ClusterEnvironment
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.core.optimizer import _init_optimizers_and_lr_schedulers
from lightning.pytorch.loggers import Logger, MLFlowLogger, WandbLogger
from lightning.pytorch.strategies.launchers.multiprocessing import _MultiProcessingLauncher
from lightning.pytorch.trainer.call import _call_lightning_module_hook
from lightning.pytorch.trainer.configuration_validator import _verify_loop_configurations
from lightning.pytorch.trainer.connectors.logger_connector.result import _Metadata, _ResultMetric, _Sync
from torch.optim import Optimizer
from torchmetrics import Metric

# The place in an epoch


def restore_loader_position(trainer: Trainer) -> None:
    """Pass the training loader its state from the checkpoint again.

    Lightning does this when it makes the loader. It makes the loader early, and the state is lost, if the optimizer
    asks for ``estimated_stepping_batches``; no public method restores it later.
    """
    trainer.fit_loop._load_combined_loader_states()


def restart_validation(trainer: Trainer) -> None:
    """Run a validation that a checkpoint interrupted from its first batch.

    ``restarted_mid_evaluation`` and the progress of a loop are not underscored, but are not documented either.
    """
    if trainer.fit_loop.epoch_loop.val_loop.restarted_mid_evaluation:
        trainer.fit_loop.epoch_loop.val_loop.batch_progress.reset()


def finish_restarted_epoch(trainer: Trainer) -> None:
    """Begin the epoch after the one at whose end a checkpoint was saved.

    Lightning does so by itself, but not where ``max_steps`` is set: it then continues the finished epoch, runs the
    hooks of its end again, and skips the order of the next one. No public method says that the epoch is over.
    """
    if trainer.fit_loop.restarted_on_epoch_end:
        trainer.fit_loop.epoch_progress.increment_completed()
        trainer.fit_loop._restarting = False
        trainer.fit_loop.epoch_loop.restarting = False
        trainer.fit_loop.reset_restart_stage()
        trainer.fit_loop.epoch_loop.reset_restart_stage()
        trainer.fit_loop.epoch_loop.val_loop.reset_restart_stage()


def mark_validation_as_pending(checkpoint: dict[str, Any]) -> None:
    """Make a checkpoint that is saved during a validation resume at the start of that validation.

    Lightning decides this by the batch counts in the state of its loops: a validation that is ready and started, but of
    which no batch is counted. A hook can change them in the checkpoint; nothing public sets them.
    """
    checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"] = {
        "total": {"ready": 1, "started": 1, "processed": 0, "completed": 0},
        "current": {"ready": 0, "started": 0, "processed": 0, "completed": 0},
        "is_last_batch": False,
    }


def is_between_steps(trainer: Trainer) -> bool:
    """Whether the next thing that a running epoch does is a training batch with empty gradients.

    Only there can a checkpoint inside an epoch be resumed exactly. The Trainer does not say whether gradients are being
    accumulated, nor whether a validation or the end of the epoch comes next.
    """
    fetcher = trainer.fit_loop._data_fetcher
    assert fetcher is not None
    return not (
        trainer.fit_loop.epoch_loop._should_accumulate()
        or trainer.fit_loop.epoch_loop._num_ready_batches_reached()
        or trainer.fit_loop.epoch_loop._is_training_done
        or trainer.fit_loop.epoch_loop._should_check_val_fx(fetcher)
    )


def call_module_hook(trainer: Trainer, name: str) -> None:
    """Call a hook of the module as Lightning does, so that what it logs is that of this hook."""
    _call_lightning_module_hook(trainer, name)


# Logged values


def epoch_results(trainer: Trainer) -> dict[str, dict[str, Any]]:
    """Describe what ``self.log`` has accumulated for the averages of the running epoch; tensors are not copied.

    Lightning keeps these sums out of its checkpoints, and publishes nothing before the epoch ends.
    """
    results: Mapping[str, _ResultMetric] = trainer.fit_loop.epoch_loop._results
    return {key: _described(result) for key, result in results.items() if not result.has_reset}


def metrics_reset_by_lightning(trainer: Trainer) -> list[Metric]:
    """The module's metrics that were passed to ``self.log`` as objects, which Lightning resets after an epoch."""
    results: Mapping[str, _ResultMetric] = trainer.fit_loop.epoch_loop._results
    return [result.value for result in results.values() if not result.is_tensor]


def restore_epoch_results(trainer: Trainer, saved: Mapping[str, Any], metrics: Mapping[str, Metric]) -> None:
    """Continue the averages of an epoch with what ``epoch_results`` described.

    Args:
        trainer: The Trainer, with its module on the device.
        saved: What was described; empty changes nothing.
        metrics: The module's metrics, by name.
    """
    if not saved:
        return
    for key, description in saved.items():
        trainer.fit_loop.epoch_loop._results[key] = _restored(description, trainer, metrics)
    trainer._logger_connector._first_loop_iter = False  # the first batch of an epoch starts the averages anew


def before_computing(trainer: Trainer, prepare: Callable[[], None]) -> None:
    """Call ``prepare`` whenever an evaluation has logged all that it computes next, until ``compute_as_before``.

    That is after the last batch, and after the hooks of the epoch's end. No hook comes after those of the module.
    """

    def after_it(computes: Callable[[], None]) -> Any:
        def prepared() -> None:
            prepare()
            computes()

        return prepared

    connector: Any = trainer._logger_connector
    connector.epoch_end_reached = after_it(trainer._logger_connector.epoch_end_reached)
    connector.on_epoch_end = after_it(trainer._logger_connector.on_epoch_end)


def compute_as_before(trainer: Trainer) -> None:
    """Undo ``before_computing``."""
    for name in ("epoch_end_reached", "on_epoch_end"):
        vars(trainer._logger_connector).pop(name, None)


def results_to_compute(trainer: Trainer, computed: Container[str]) -> dict[str, dict[str, Any]]:
    """Describe what an evaluation has logged and computes next, for processes that have not logged it.

    Args:
        trainer: The Trainer.
        computed: The keys of what it has computed before.
    """
    found = {}
    for key, result in _results(trainer).items():
        here = result.meta.dataloader_idx == _results(trainer).dataloader_idx
        if key not in computed and here and not result.has_reset and not result.meta.sync.rank_zero_only:
            state: dict[str, Any] = result.metric_state if result.is_tensor else {}
            types = {name: value.dtype for name, value in state.items()}
            found[key] = {**_described(result), "state": types, "step": None}
    return found


def share_result(trainer: Trainer, key: str, described: Sequence[Mapping[str, Any]]) -> bool:
    """Let a logged value be computed over all processes, after those that were shared before it.

    Lightning reduces value by value, in the order in which a process has logged its own, if the module asks for it.

    Args:
        trainer: The Trainer.
        key: The value's key. If this process has not logged it, it gets one that has no weight.
        described: What the processes that have it say of it.

    Returns:
        Whether the module has asked for it; ``unshare_result`` needs to know.
    """
    results = _results(trainer)
    result = results.pop(key, None)
    if result is None or result.has_reset:
        module: Any = trainer.lightning_module
        metrics = {name: part for name, part in module.named_modules() if isinstance(part, Metric)}
        result = _restored({**described[0], "state": {}}, trainer, metrics)
    results[key] = result
    for name, value in result.metric_state.items() if result.is_tensor else ():
        types = [each["state"][name] for each in described]
        setattr(result, name, value.to(functools.reduce(torch.promote_types, types)))
    result._computed = None
    asked: bool = result.meta.sync.should
    result.meta.sync.should = result.is_tensor
    return asked


def unshare_result(trainer: Trainer, key: str, asked: bool) -> None:
    """Let Lightning recognize a value that was shared when it is logged again."""
    _results(trainer)[key].meta.sync.should = asked


def _results(trainer: Trainer) -> Any:
    return trainer._results


def restore_metric(metric: Metric, state: Mapping[str, Any], count: int) -> None:
    """Set the state of a metric and the number of its updates, without which it would warn and return nothing.

    ``Metric.load_state_dict`` restores only states that were declared persistent, and never the number of updates.
    """
    for name, value in state.items():
        current = getattr(metric, name)
        if isinstance(value, list):
            setattr(metric, name, [part.to(metric.device) for part in value])
        else:
            setattr(metric, name, value.to(current))  # to its type as well: not every device has float64
    metric._update_count = count
    metric._computed = None


_PLAIN = [field.name for field in fields(_Metadata) if field.name not in ("reduce_fx", "_sync")]


def _described(result: _ResultMetric) -> dict[str, Any]:
    metadata = {name: getattr(result.meta, name) for name in _PLAIN}
    return {
        "meta": {**metadata, "reduce_fx": result.meta.reduce_fx.__name__},
        "sync": {"should": result.meta.sync.should, "rank_zero_only": result.meta.sync.rank_zero_only},
        "is_tensor": result.is_tensor,  # otherwise the sums are those of one of the module's metrics
        "count": result._update_count,
        "state": result.metric_state if result.is_tensor else {},
        "step": result._forward_cache,
    }


def _restored(saved: Mapping[str, Any], trainer: Trainer, metrics: Mapping[str, Metric]) -> _ResultMetric:
    metadata = _Metadata(**saved["meta"])
    metadata.sync = _Sync(trainer.strategy.reduce, saved["sync"]["should"], saved["sync"]["rank_zero_only"])
    result = _ResultMetric(metadata, saved["is_tensor"]).to(trainer.strategy.root_device)
    if not result.is_tensor:
        result.value = metrics[str(metadata.metric_attribute)]
    restore_metric(result, saved["state"], saved["count"])
    if saved["step"] is not None:
        result._forward_cache = saved["step"].to(trainer.strategy.root_device)
    return result


# What a fit would refuse


def attach_data(trainer: Trainer, model: LightningModule, datamodule: LightningDataModule) -> None:
    """Connect a module and its data to a Trainer as ``fit`` does, without starting a fit."""
    trainer._data_connector.attach_data(model, datamodule=datamodule)


def verify_loop_configuration(trainer: Trainer) -> None:
    """Apply the checks with which Lightning begins a fit; they can be run in no other way.

    Raises:
        MisconfigurationException: A setting does not fit the module.
    """
    _verify_loop_configurations(trainer)


def make_optimizers(model: LightningModule) -> list[Optimizer]:
    """Call the module's ``configure_optimizers`` and check what it returns, as ``fit`` does; the Trainer needs none.

    Raises:
        MisconfigurationException: The result has a form that Lightning does not accept.
    """
    optimizers, _ = _init_optimizers_and_lr_schedulers(model)
    return optimizers


# What a Trainer is made of


def forks_or_spawns(trainer: Trainer) -> bool:
    """Whether the Trainer's strategy forks or spawns processes, which take their weights with them when a fit ends.

    All of its launcher classes are private, and a strategy names no other sign of what it launches.
    """
    return isinstance(trainer.strategy.launcher, _MultiProcessingLauncher)


def cluster_environment(trainer: Trainer) -> ClusterEnvironment | None:
    """The cluster in which the Trainer runs; strategies for a single device have no attribute for it."""
    return trainer._accelerator_connector.cluster_environment


def allow_clipping(optimizer: Optimizer) -> None:
    """Let Lightning clip the gradients of a fused optimizer in mixed precision.

    It refuses optimizers with this mark of torch's, which unscale gradients within their step. Without the mark the
    gradient scaler unscales them before, and they can be clipped.
    """
    optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]


# What a logger was made with


def logger_arguments(logger: Logger, kind: type[Logger], **known: Any) -> dict[str, Any] | None:
    """Recover the arguments that a logger was made with; None if one of them cannot be found.

    Loggers offer no copy under another name. By convention, they keep an argument ``name`` as ``_name`` or ``name``.

    Args:
        logger: The logger.
        kind: The class whose ``__init__`` takes the arguments.
        **known: Arguments that the logger keeps elsewhere; ``kwargs`` is for those without a parameter of their own.
    """
    kept = vars(logger)
    arguments: dict[str, Any] = {}
    for name, parameter in list(inspect.signature(kind.__init__).parameters.items())[1:]:
        if name in known:
            value = known[name]
        elif f"_{name}" in kept or name in kept:
            value = kept.get(f"_{name}", kept.get(name))
        elif isinstance(getattr(kind, name, None), property):
            value = getattr(logger, name)
        else:
            return None
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            arguments |= value
        elif parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
            arguments[name] = value
    return arguments


def mlflow_synchronous(logger: MLFlowLogger) -> bool | None:
    """The logger's argument ``synchronous``, which it keeps only as part of the arguments of a request."""
    return vars(logger).get("_log_batch_kwargs", {}).get("synchronous")


def wandb_settings(logger: WandbLogger) -> dict[str, Any]:
    """The arguments with which the logger will call ``wandb.init``; empty if it keeps none."""
    return dict(vars(logger).get("_wandb_init", {}))

"""The arguments of Lightning's Trainer with their types, for editors and type checkers."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Literal, TypedDict

from lightning.fabric.plugins import CheckpointIO, ClusterEnvironment
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import LayerSync, Precision
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.strategies import Strategy

Plugin = Precision | ClusterEnvironment | CheckpointIO | LayerSync


class TrainerArguments(TypedDict, total=False):
    """The arguments of ``lightning.Trainer``, which its documentation describes."""

    accelerator: str | Accelerator
    strategy: str | Strategy
    devices: list[int] | str | int
    num_nodes: int
    precision: (
        Literal[64, 32, 16]
        | Literal["transformer-engine", "transformer-engine-float16", "16-true", "16-mixed", "bf16-true", "bf16-mixed"]
        | Literal["32-true", "64-true", "64", "32", "16", "bf16"]
        | None
    )
    logger: Logger | Iterable[Logger] | bool | None
    callbacks: list[Callback] | Callback | None
    fast_dev_run: int | bool
    max_epochs: int | None
    min_epochs: int | None
    max_steps: int
    min_steps: int | None
    max_time: str | timedelta | dict[str, int] | None
    limit_train_batches: int | float | None
    limit_val_batches: int | float | None
    limit_test_batches: int | float | None
    limit_predict_batches: int | float | None
    overfit_batches: int | float
    val_check_interval: int | float | str | timedelta | dict[str, int] | None
    check_val_every_n_epoch: int | None
    num_sanity_val_steps: int | None
    log_every_n_steps: int | None
    enable_checkpointing: bool | None
    enable_progress_bar: bool | None
    enable_model_summary: bool | None
    accumulate_grad_batches: int
    gradient_clip_val: int | float | None
    gradient_clip_algorithm: str | None
    deterministic: bool | Literal["warn"] | None
    benchmark: bool | None
    inference_mode: bool
    use_distributed_sampler: bool
    profiler: Profiler | str | None
    detect_anomaly: bool
    barebones: bool
    plugins: Plugin | list[Plugin] | None
    sync_batchnorm: bool
    reload_dataloaders_every_n_epochs: int
    default_root_dir: str | Path | None
    enable_autolog_hparams: bool
    model_registry: str | None

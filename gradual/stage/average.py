"""The average of the weights of several stages: validated and tested like a stage, and never trained."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, seed_everything
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.model_helpers import is_overridden

from gradual.data.order import derive_seed
from gradual.errors import InputError
from gradual.nn.compiled import plainly_named, with_versions
from gradual.runs.checkpoint import WholeCheckpointIO, damage, read_checkpoint
from gradual.runs.directory import StageDirectory
from gradual.runs.fingerprint import digest_of_test_data
from gradual.runs.result import StageResult
from gradual.score_names import named_scores
from gradual.stage.callbacks.best_checkpoint import OF_BEST
from gradual.stage.callbacks.distributed_metrics import DistributedMetrics
from gradual.stage.callbacks.history import ExampleScores
from gradual.stage.callbacks.weights import LoadWeights, is_sharded
from gradual.stage.loggers import finish_runs
from gradual.stage.train import StageTraining
from gradual.stage.trainer import stage_trainer


def average_of(training: StageTraining, stages: Sequence[StageDirectory]) -> StageResult:
    """Average the weights of finished stages, and measure the scores of the average.

    The mean is taken of each weight and buffer of floating-point numbers; all else is that of the last of the stages.
    Afterwards the model has the average. In a distributed run, all processes must call it.

    Args:
        training: What it is measured with; its directory gets the checkpoint and the result.
        stages: The folders of the stages.

    Returns:
        The result, also written to the directory.

    Raises:
        InputError: The stages do not have the same weights.
    """
    directory, datamodule, model = training.directory, training.datamodule, training.model
    rank_zero_only(directory.begin)(training.settings, datamodule.sample_ids())
    rank_zero_only(_write_average)(training, stages)
    seed_everything(derive_seed(training.defaults.seed, "average", *training.amounts), verbose=False)
    callbacks: list[Callback] = [
        LoadWeights(None, directory.best),
        DistributedMetrics(),
        ExampleScores(directory.test_examples),
    ]
    trainer = stage_trainer(model, training.stage, directory, callbacks, training.trainer_arguments())
    module = copy.deepcopy(model) if is_sharded(trainer) else model
    tested: Sequence[Any] = ()
    try:
        trainer.validate(module, datamodule=datamodule, ckpt_path=str(directory.best), weights_only=True, verbose=False)
        val = named_scores(trainer.callback_metrics, "val", training.defaults.monitor)
        if datamodule.domains.test is not None and is_overridden("test_step", model):
            module = copy.deepcopy(model) if is_sharded(trainer) else model
            tested = trainer.test(module, datamodule=datamodule, verbose=False)
    finally:
        model.trainer = datamodule.trainer = None
    results = [result for stage in stages if (result := stage.result())]
    result = replace(
        results[-1],
        index=results[-1].index + 1,
        epochs=0,
        best_epoch=0,
        seconds=0.0,
        val=val,
        test=named_scores(tested[0], "test") if tested else {},
        collapses=[],
        converged=all(result.converged for result in results),
        ended_by="",
        test_data=digest_of_test_data(datamodule),
        steps=0,
        planned_steps=None,
        validations=1,
        examples_seen=0,
        averaged=len(stages),
    )
    rank_zero_only(directory.finish)(result)
    finish_runs()
    trainer.strategy.barrier()
    return result


def _write_average(training: StageTraining, stages: Sequence[StageDirectory]) -> None:
    """Write the checkpoint of the average, unless an interrupted attempt has written it."""
    best = training.directory.best
    if best.exists() and damage(best) is None:
        return
    contents = [read_checkpoint(stage.best) for stage in stages]
    content = {name: value for name, value in contents[-1].items() if name not in _OF_TRAINING}
    weights = [plainly_named(one["state_dict"]) for one in contents]
    mean = _mean(weights, [stage.best for stage in stages])
    content["state_dict"] = with_versions(mean, weights[-1])
    WholeCheckpointIO({}, training.model).save_checkpoint(content, best)


_OF_TRAINING = ("optimizer_states", "lr_schedulers", "callbacks", "loops", OF_BEST)


def _mean(weights: Sequence[dict[str, torch.Tensor]], files: Sequence[Path]) -> dict[str, torch.Tensor]:
    shapes = [{name: value.shape for name, value in one.items()} for one in weights]
    for path, found in zip(files, shapes):
        if found != shapes[-1]:
            raise InputError(f"{path} and {files[-1]} have different weights, which have no average.")
    mean = {}
    for name, last in weights[-1].items():
        if not last.is_floating_point():
            mean[name] = last.clone()
            continue
        total = torch.zeros(last.shape, dtype=torch.float64)
        for one in weights:
            total += one[name]
        mean[name] = (total / len(weights)).to(last.dtype)
    return mean

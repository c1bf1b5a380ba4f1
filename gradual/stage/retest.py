"""Tests of finished stages whose test data is new or has changed."""

from __future__ import annotations

import copy
import logging
from dataclasses import replace
from pathlib import Path

from lightning.pytorch import Callback
from lightning.pytorch.utilities import rank_zero_only

from gradual.data.module import MixedDomainDataModule
from gradual.runs.directory import StageDirectory
from gradual.runs.fingerprint import digest_of_test_data
from gradual.runs.result import StageResult
from gradual.score_names import named_scores
from gradual.stage.callbacks.distributed_metrics import DistributedMetrics
from gradual.stage.callbacks.history import ExampleScores
from gradual.stage.callbacks.weights import LoadWeights, is_sharded
from gradual.stage.loggers import finish_runs
from gradual.stage.requirements import check_requirements
from gradual.stage.train import StageTraining
from gradual.stage.trainer import stage_trainer

_log = logging.getLogger(__name__)


def lacks_test(result: StageResult, datamodule: MixedDomainDataModule) -> bool:
    """Whether there is test data on which the finished stage has not been tested."""
    now = digest_of_test_data(datamodule)
    unknown = result.test and not result.test_data  # from an earlier version, in a run that has not been resumed since
    return bool(now) and now != result.test_data and not unknown


def tested_again(training: StageTraining, result: StageResult) -> StageResult:
    """Test a finished stage on the current test data if it has not been, and return its result, which is also saved.

    In a distributed run, all processes must call it.
    """
    model, datamodule, directory = training.model, training.datamodule, training.directory
    if not lacks_test(result, datamodule):
        return result
    check_requirements(model, datamodule, training.defaults.monitor)
    amount = datamodule.amounts[datamodule.stage]
    why = "changed" if result.test else "new"
    rank_zero_only(_log.info)(
        "%sstage %d (%d out-of-domain): testing on %s test data.", training.label, datamodule.stage + 1, amount, why
    )
    # the folder is not changed before the test has ended: processes that Lightning starts must find the stage finished
    examples = directory.test_examples.with_name("new_test_examples.jsonl")
    rank_zero_only(examples.unlink)(missing_ok=True)
    callbacks: list[Callback] = [LoadWeights(None, directory.best), DistributedMetrics(), ExampleScores(examples)]
    trainer = stage_trainer(model, training.stage, directory, callbacks, training.trainer_arguments())
    module = copy.deepcopy(model) if is_sharded(trainer) else model
    try:
        tested = trainer.test(module, datamodule=datamodule, verbose=False)
    finally:
        model.trainer = datamodule.trainer = None
    test = named_scores(tested[0], "test") if tested else {}
    result = replace(result, test=test, test_data=digest_of_test_data(datamodule))
    rank_zero_only(_finish)(directory, result, examples)
    finish_runs()
    trainer.strategy.barrier()
    return result


def _finish(directory: StageDirectory, result: StageResult, examples: Path) -> None:
    if examples.exists():
        examples.replace(directory.test_examples)
    else:
        directory.test_examples.unlink(missing_ok=True)
    directory.finish(result)

"""How numbers are logged so that the scores of several processes are those of one."""

from types import SimpleNamespace

import pytest
import torch
from stand_in_trainer import stand_in_trainer
from torch import nn
from torchmetrics import MeanMetric

from gradual.data.loader import EpochBatches
from gradual.stage.callbacks import distributed_metrics
from gradual.stage.callbacks.distributed_metrics import DistributedMetrics

BORROWED = SimpleNamespace(batch_sampler=EpochBatches(0, 2, seed=0, train=False))  # none of its batches counts


class Module(nn.Module):
    """Notes what reaches Lightning's ``log``."""

    def __init__(self):
        super().__init__()
        self.metric = MeanMetric()
        self.logged = []

    def log(self, name, value, **options):
        self.logged.append((name, float(value), options))


@pytest.fixture
def two_processes(monkeypatch):
    monkeypatch.setattr(distributed_metrics, "rank_and_world_size", lambda: (0, 2))


def log_in_validation(*arguments, loader=None, **options):
    """What Lightning is told when a module logs in a validation step of three examples."""
    module, callback = Module(), DistributedMetrics()
    trainer = stand_in_trainer(val_dataloaders=loader)
    callback.on_validation_start(trainer, module)
    callback.on_validation_batch_start(trainer, module, torch.zeros(3), 0)
    module.log(*arguments, **options)
    callback.on_validation_batch_end()
    callback.on_validation_end(trainer, module)
    (logged,) = module.logged
    return logged


def test_one_process_logs_as_the_module_says():
    assert log_in_validation("loss", 2.0) == ("loss", 2.0, {})


def test_a_mean_is_weighted_by_the_size_of_the_batch(two_processes):
    assert log_in_validation("loss", 2.0) == ("loss", 2.0, {"batch_size": 3.0})
    assert log_in_validation("loss", 2.0, batch_size=7)[2] == {"batch_size": 7.0}


def test_a_sum_has_no_weight(two_processes):
    assert log_in_validation("n", 2.0, reduce_fx="sum")[2] == {"reduce_fx": "sum"}


def test_values_logged_by_one_process_alone_stay_as_they_are(two_processes):
    assert log_in_validation("loss", 2.0, rank_zero_only=True)[2] == {"rank_zero_only": True}


def test_a_batch_that_only_keeps_the_processes_in_step_has_no_weight(two_processes):
    _, value, options = log_in_validation("loss", 2.0, loader=BORROWED)
    assert (value, options["batch_size"]) == (0.0, 0.0)
    assert log_in_validation("worst", 2.0, loader=BORROWED, reduce_fx="max")[1] == 2.0


@pytest.mark.parametrize("kind", ["validation", "test"])
def test_a_metric_forgets_such_a_batch(two_processes, kind):
    module, callback = Module(), DistributedMetrics()
    trainer = stand_in_trainer(val_dataloaders=BORROWED, test_dataloaders=BORROWED)
    module.metric.update(1.0)
    getattr(callback, f"on_{kind}_start")(trainer, module)
    getattr(callback, f"on_{kind}_batch_start")(trainer, module, torch.zeros(3), 0)
    module.metric.update(5.0)
    getattr(callback, f"on_{kind}_batch_end")()
    assert module.metric.compute() == 1.0


def test_after_an_evaluation_the_module_logs_as_before(two_processes):
    module, callback = Module(), DistributedMetrics()
    callback.on_validation_start(stand_in_trainer(), module)
    callback.on_validation_end(stand_in_trainer(), module)
    module.log("loss", 2.0)
    assert module.logged == [("loss", 2.0, {})]

"""W&B and MLflow as far as Lightning's loggers call them: runs that are kept in memory, by their ids."""

from __future__ import annotations

import sys
import types
from types import SimpleNamespace

import pytest


class WandbRun:
    """A run of W&B; a process has one at a time, and another ``init`` gives the same."""

    def __init__(self, wandb, settings):
        self.wandb, self.settings = wandb, settings
        self.id = settings["id"] or f"id{len(wandb.runs)}"
        self.name, self.rows, self.finished = settings["name"], [], 0
        self.config = SimpleNamespace(update=lambda *args, **kwargs: None)

    def log(self, row):
        assert self.wandb.run is self, "a run that is finished takes nothing"
        self.rows.append(row)

    def define_metric(self, *args, **kwargs):
        pass


def fake_wandb(monkeypatch):
    """The module, in place of the package."""
    wandb = types.ModuleType("wandb")
    wandb.run, wandb.runs = None, {}

    def init(**settings):
        if wandb.run is None:
            run = WandbRun(wandb, settings)
            wandb.run = wandb.runs.setdefault(run.id, run)  # resume: allow
        return wandb.run

    def finish():
        wandb.run.finished += 1
        wandb.run = None

    wandb.init, wandb.finish = init, finish
    wandb.require = lambda name: pytest.fail("a logger was copied, which opens its run")
    sdk, lib, run = (
        types.ModuleType("wandb.sdk"),
        types.ModuleType("wandb.sdk.lib"),
        types.ModuleType("wandb.wandb_run"),
    )
    lib.RunDisabled, run.Run = type("RunDisabled", (), {}), WandbRun
    for module in (wandb, sdk, lib, run):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr("lightning.pytorch.loggers.wandb._WANDB_AVAILABLE", True)
    return wandb


class MlflowClient:
    """A server of MLflow."""

    runs: dict[str, SimpleNamespace]

    def __init__(self, tracking_uri):
        pass

    def get_experiment_by_name(self, name):
        return SimpleNamespace(experiment_id="1", lifecycle_stage="active")

    def create_run(self, experiment_id, tags):
        run_id = f"run{len(self.runs)}"
        info = SimpleNamespace(run_id=run_id, experiment_id=experiment_id)
        self.runs[run_id] = SimpleNamespace(info=info, tags=dict(tags), metrics=[], ended=[])
        return self.runs[run_id]

    def get_run(self, run_id):
        return self.runs[run_id]

    def log_batch(self, run_id, metrics=(), params=()):
        self.runs[run_id].metrics += metrics

    def set_terminated(self, run_id, status):
        self.runs[run_id].ended.append(status)


def fake_mlflow(monkeypatch):
    """The class of the client, with the runs of this test."""
    client = type("Client", (MlflowClient,), {"runs": {}})
    names = ("mlflow", "mlflow.tracking", "mlflow.tracking.context", "mlflow.entities", "mlflow.utils")
    modules = {name: types.ModuleType(name) for name in (*names, "mlflow.utils.mlflow_tags")}
    modules["mlflow"].set_tracking_uri = lambda uri: None
    modules["mlflow.tracking"].MlflowClient = client
    modules["mlflow.tracking"].context = modules["mlflow.tracking.context"]
    modules["mlflow.entities"].Metric = modules["mlflow.entities"].Param = lambda **values: values
    modules["mlflow.utils.mlflow_tags"].MLFLOW_RUN_NAME = "mlflow.runName"
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("lightning.pytorch.loggers.mlflow._MLFLOW_AVAILABLE", True)
    return client

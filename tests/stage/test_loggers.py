"""Loggers of one's own: a run or a version a stage, named by seed and path, that a resumed stage goes on in."""

import csv
import gc
import json
import logging
import sys
from pathlib import Path

import pytest
import torch
from fake_trackers import fake_mlflow, fake_wandb
from lightning.pytorch import LightningModule
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from linear_model import LinearModel, make_data
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

import gradual
from gradual.__main__ import main

STAGES = ["seed-0/20", "seed-0/20/5", "seed-0/20/5/0"]


class Stopped(Exception):
    """Something outside of the training."""


stop: list[tuple[str, int]] = []
"""Where training stops: a stage's amount and a step."""


class Net(LinearModel):
    """Logs its training loss, and stops where it is told to."""

    def on_train_batch_start(self, batch, batch_idx):
        if (Path(self.trainer.checkpoint_callback.dirpath).name, self.trainer.global_step) in stop:
            stop.clear()
            raise Stopped

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.log("train/loss", loss)
        return loss


SETTINGS = {
    "optimizer": {"lr": 0.05}, "max_epochs": 3, "accelerator": "cpu", "enable_progress_bar": False,
    "log_every_n_steps": 1,
}  # fmt: skip


def fit(root: Path, logger, *, run="mine", schedule=(20, 5, 0), **settings):
    torch.manual_seed(0)  # its starting weights are part of the experiment
    model = Net(root / "trained.txt")
    return gradual.fit(model, make_data({"batch_size": 8}), schedule, root / run, logger=logger, **SETTINGS, **settings)


def stop_in(root: Path, amount: str, step: int, logger, **settings) -> None:
    """A run that stops."""
    stop.append((amount, step))
    with pytest.raises(Stopped):
        fit(root, logger, **settings)


def interrupted(root: Path, make) -> None:
    """A run that stops in its second stage, in the second epoch, and goes on in what is a new process for it."""
    stop_in(root, "5", 3, make())
    gc.collect()  # nothing rests on a Trainer that is still about
    fit(root, make())


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def losses(table: list[dict[str, str]], name: str = "val/loss") -> list[str]:
    return [row[name] for row in table if row[name]]


# Files


def test_csv_has_a_version_a_stage_with_all_of_its_epochs(tmp_path):
    given = CSVLogger(tmp_path / "logs", name="csv")
    fit(tmp_path, given)
    files = sorted((tmp_path / "logs").rglob("metrics.csv"))
    assert files == sorted(tmp_path / "logs/csv/mine" / stage / "metrics.csv" for stage in STAGES)
    for path in files:
        assert len(losses(rows(path))) == 3
        assert len(losses(rows(path), "test/loss")) == 1
    assert not (tmp_path / "logs/csv/version_0").exists()


@pytest.mark.slow
def test_a_resumed_stage_appends_to_its_csv(tmp_path):
    interrupted(tmp_path, lambda: CSVLogger(tmp_path / "logs"))
    found = rows(tmp_path / "logs/lightning_logs/mine" / STAGES[1] / "metrics.csv")
    whole_root = tmp_path / "whole"
    whole_root.mkdir()
    fit(whole_root, CSVLogger(whole_root / "logs"))
    whole = rows(whole_root / "logs/lightning_logs/mine" / STAGES[1] / "metrics.csv")
    assert losses(found) == losses(whole)
    assert set(whole[0]) == set(found[0])
    steps = {row["step"] for row in whole}
    assert {row["step"] for row in found} == steps, "nothing of it is lost"
    assert len(list((tmp_path / "logs").rglob("metrics.csv*"))) == 3


def test_a_csv_left_in_the_temporary_place_by_a_kill_is_found_again(tmp_path):
    stop_in(tmp_path, "20", 5, CSVLogger(tmp_path / "logs"), schedule=[20])
    path = tmp_path / "logs/lightning_logs/mine/seed-0/20/metrics.csv"
    before = losses(rows(path))
    assert before
    path.rename(path.with_name("metrics.csv.before"))
    fit(tmp_path, CSVLogger(tmp_path / "logs"), schedule=[20])
    assert losses(rows(path))[: len(before)] == before
    assert len(losses(rows(path))) == 3


def test_another_experiment_does_not_touch_the_files_of_the_first(tmp_path):
    fit(tmp_path, CSVLogger(tmp_path / "logs"), schedule=[0])
    first = tmp_path / "logs/lightning_logs/mine/seed-0/0/metrics.csv"
    before = first.read_bytes()
    (tmp_path / "elsewhere").mkdir()
    fit(tmp_path / "elsewhere", CSVLogger(tmp_path / "logs"), schedule=[0])
    assert first.read_bytes() == before
    assert len(losses(rows(first.parents[1] / "0-2/metrics.csv"))) == 3


@pytest.mark.parametrize(("version", "folder"), [("tried", "tried"), (4, "version_4")])
def test_a_version_that_was_given_holds_those_of_the_stages(tmp_path, version, folder):
    fit(tmp_path, TensorBoardLogger(tmp_path / "logs", name="tb", version=version, sub_dir="below"), schedule=[5, 0])
    runs = EventMultiplexer().AddRunsFromDirectory(str(tmp_path / "logs/tb")).Reload().Runs()
    assert sorted(runs) == [f"{folder}/seed-0/5/0/below", f"{folder}/seed-0/5/below"]


@pytest.mark.slow
def test_a_resumed_stage_continues_its_tensorboard_run(tmp_path):
    interrupted(tmp_path, lambda: TensorBoardLogger(tmp_path / "logs"))
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(tmp_path / "logs/lightning_logs")).Reload()
    assert sorted(multiplexer.Runs()) == [f"mine/{stage}" for stage in STAGES]
    for stage in STAGES:
        assert len(multiplexer.Scalars(f"mine/{stage}", "val/loss")) == 3


def test_a_subclass_keeps_what_it_has_of_its_own(tmp_path):
    class Coloured(CSVLogger):
        def __init__(self, folder, colour):
            super().__init__(folder, name="coloured", prefix="p")
            self.colour = colour

        def log_metrics(self, metrics, step=None):
            super().log_metrics({**metrics, self.colour: 1.0}, step)

    fit(tmp_path, Coloured(tmp_path, "red"), schedule=[5, 0])
    for stage in STAGES[1:]:
        assert len(losses(rows(tmp_path / "coloured/mine" / stage.replace("/20", "") / "metrics.csv"), "p-red")) > 3


def test_several_loggers_each_have_a_version_a_stage(tmp_path):
    fit(tmp_path, [CSVLogger(tmp_path / "a"), TensorBoardLogger(tmp_path / "b")], schedule=[5, 0])
    assert len(list((tmp_path / "a").rglob("metrics.csv"))) == 2
    assert len(EventMultiplexer().AddRunsFromDirectory(str(tmp_path / "b")).Reload().Runs()) == 2


def test_a_comparison_logs_by_seed_and_path(tmp_path):
    gradual.compare(
        lambda: Net(tmp_path / "trained.txt"), make_data({}), [5, 0], tmp_path / "mine", seeds=[0, 1],
        strategies=["mixed", "gradual"], logger=CSVLogger(tmp_path / "logs", name=""), **SETTINGS,
    )  # fmt: skip
    found = {path.parent.relative_to(tmp_path / "logs/mine").as_posix() for path in tmp_path.rglob("metrics.csv")}
    assert found == {"seed-0/5", "seed-0/5/0", "seed-1/5", "seed-1/5/0"}


def test_the_command_line_names_a_logger_by_its_class(tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(
        "from linear_model import LinearModel, make_data\nfrom gradual import MixedDomainDataModule\n"
        "class Net(LinearModel):\n    def __init__(self): super().__init__(__import__('pathlib').Path('trained.txt'))\n"
        "class Data(MixedDomainDataModule):\n    def load(self): return make_data({}).load()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["gradual"])
    main(
        ["fit", "--model=own.Net", "--data=own.Data", "--schedule=[5, 0]", "--run_dir=runs/mine", "--optimizer.lr=0.1",
         "--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--trainer.logger=CSVLogger",
         "--trainer.logger.save_dir=logs"]
    )  # fmt: skip
    found = sorted(path.parent.as_posix() for path in Path("logs").rglob("metrics.csv"))
    assert found == ["logs/lightning_logs/mine/seed-0/5", "logs/lightning_logs/mine/seed-0/5/0"]


@pytest.mark.parametrize("name", ["WandbLogger", "MLFlowLogger", "CometLogger"])
def test_a_logger_whose_package_is_missing_is_one_sentence(tmp_path, monkeypatch, capfd, name):
    module = {"WandbLogger": "wandb._WANDB", "MLFlowLogger": "mlflow._MLFLOW", "CometLogger": "comet._COMET"}[name]
    package = {"WandbLogger": "wandb", "MLFlowLogger": "mlflow", "CometLogger": "comet-ml"}[name]

    class Missing:
        def __bool__(self):
            return False

        def __str__(self):
            return f"Requirement '{package}>=1.0.0' not met. HINT: Try running `pip install -U '{package}>=1.0.0'`"

    monkeypatch.setattr(f"lightning.pytorch.loggers.{module}_AVAILABLE", Missing())
    monkeypatch.setattr(sys, "argv", ["gradual"])
    with pytest.raises(SystemExit) as ended:
        main(
            ["fit", "--model=linear_model.LinearModel", f"--model.log={tmp_path}/trained.txt",
             f"--data={__name__}.Data", f"--run_dir={tmp_path}/run", "--optimizer.lr=0.1", f"--trainer.logger={name}"]
        )  # fmt: skip
    assert ended.value.code == 2
    error = capfd.readouterr().err
    said = f"{name} needs the package {package}, which is not installed: pip install {package}."
    assert f"gradual: lightning.pytorch.loggers.{said}" in error
    assert "Traceback" not in error


class Data(gradual.MixedDomainDataModule):
    def load(self):
        return make_data({}).load()


# Trackers


def test_wandb_has_a_run_a_stage_in_the_group_of_the_experiment(tmp_path, monkeypatch):
    wandb = fake_wandb(monkeypatch)
    fit(tmp_path, WandbLogger(project="p", save_dir=str(tmp_path), prefix="x", tags=["a"], offline=True))
    runs = list(wandb.runs.values())
    assert [run.name for run in runs] == STAGES
    for run in runs:
        assert run.settings["group"] == "mine"
        assert (run.settings["project"], run.settings["tags"]) == ("p", ["a"])
        assert len([row for row in run.rows if "x-val/loss" in row]) == 3
        assert len([row for row in run.rows if "x-test/loss" in row]) == 1
        assert run.finished == 1
    assert wandb.run is None


@pytest.mark.slow
def test_a_resumed_stage_continues_its_wandb_run(tmp_path, monkeypatch):
    wandb = fake_wandb(monkeypatch)
    interrupted(tmp_path, lambda: WandbLogger(name="big", group="g"))
    assert [run.name for run in wandb.runs.values()] == [f"big/{stage}" for stage in STAGES]
    assert {run.settings["group"] for run in wandb.runs.values()} == {"g"}
    second = list(wandb.runs.values())[1]
    assert second.finished == 2
    assert len([row for row in second.rows if "val/loss" in row]) == 3


def test_an_id_of_wandb_that_was_given_is_that_of_no_two_stages(tmp_path, monkeypatch):
    wandb = fake_wandb(monkeypatch)
    fit(tmp_path, WandbLogger(id="abc"), schedule=[5, 0])
    assert list(wandb.runs) == ["abc-seed-0-5", "abc-seed-0-5-0"]


def test_an_open_wandb_run_takes_all_stages_with_one_note(tmp_path, monkeypatch, caplog):
    wandb = fake_wandb(monkeypatch)
    own = wandb.init(id=None, name="own")
    with caplog.at_level(logging.WARNING, logger="gradual"):
        fit(tmp_path, WandbLogger())
    assert list(wandb.runs.values()) == [own]
    assert wandb.run is own, "it is not ours to finish"
    assert len([row for row in own.rows if "val/loss" in row]) == 9
    assert [record.message for record in caplog.records if "All stages share one WandbLogger" in record.message] != []
    assert caplog.text.count("All stages share one") == 1


def test_mlflow_has_a_run_a_stage(tmp_path, monkeypatch):
    client = fake_mlflow(monkeypatch)
    fit(tmp_path, MLFlowLogger(experiment_name="e", tags={"a": "b"}, tracking_uri="file:x"))
    assert [run.tags["mlflow.runName"] for run in client.runs.values()] == [f"mine/{stage}" for stage in STAGES]
    for run in client.runs.values():
        assert run.tags["a"] == "b"
        assert len([metric for metric in run.metrics if metric["key"] == "val/loss"]) == 3
        assert run.ended[-1] == "FINISHED"


@pytest.mark.slow
def test_a_resumed_stage_continues_its_mlflow_run(tmp_path, monkeypatch):
    client = fake_mlflow(monkeypatch)
    interrupted(tmp_path, lambda: MLFlowLogger(run_name="big"))
    assert [run.tags["mlflow.runName"] for run in client.runs.values()] == [f"big/{stage}" for stage in STAGES]
    second = list(client.runs.values())[1]
    assert len([metric for metric in second.metrics if metric["key"] == "val/loss"]) == 3


def test_a_run_of_mlflow_that_was_given_is_the_parent_of_the_stages(tmp_path, monkeypatch):
    client = fake_mlflow(monkeypatch)
    parent = MLFlowLogger(run_name="whole")
    fit(tmp_path, MLFlowLogger(run_id=parent.run_id), schedule=[5, 0])
    whole, *stages = client.runs.values()
    assert not whole.metrics
    assert [run.tags["mlflow.parentRunId"] for run in stages] == [whole.info.run_id] * 2


# Others


class Recorder(Logger):
    """A logger that no name tells apart; it has a lock, which cannot be copied."""

    name = version = "recorder"

    def __init__(self):
        super().__init__()
        import threading

        self.lock = threading.Lock()
        self.rows = []

    def log_metrics(self, metrics, step=None):
        self.rows.append(metrics)

    def log_hyperparams(self, params, *args, **kwargs):
        pass


class Named(Recorder):
    """A logger that takes the name of a run."""

    made: list[str] = []

    def __init__(self, folder, run_name=None):
        super().__init__()
        self._folder, self._run_name = folder, run_name
        self.made.append(run_name)


def test_a_logger_that_cannot_be_copied_takes_all_stages_with_one_note(tmp_path, caplog):
    recorder = Recorder()
    with caplog.at_level(logging.WARNING, logger="gradual"):
        fit(tmp_path, recorder)
    assert len([row for row in recorder.rows if "val/loss" in row]) == 9
    assert caplog.text.count("All stages share one Recorder") == 1


def test_a_single_stage_uses_its_logger_without_a_note(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="gradual"):
        fit(tmp_path, Recorder(), schedule=[0])
    assert "All stages" not in caplog.text


def test_a_logger_that_takes_a_name_is_made_anew_for_each_stage(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(Named, "made", [])
    with caplog.at_level(logging.WARNING, logger="gradual"):
        fit(tmp_path, Named("x"))
    assert Named.made == [None, *(f"mine/{stage}" for stage in STAGES)]
    assert "All stages" not in caplog.text


def test_no_logger_means_none_and_true_that_of_the_stage_s_folder(tmp_path):
    fit(tmp_path, False, schedule=[5, 0])
    assert not list((tmp_path / "mine/seed-0/5").rglob("events*"))
    fit(tmp_path, True, schedule=[5, 0], run="other")
    for stage in ("seed-0/5", "seed-0/5/0"):
        assert list((tmp_path / "other" / stage).glob("events*"))
        assert not (tmp_path / "other" / stage / "loggers.json").exists()


def test_the_loggers_of_a_stage_are_recorded_and_a_damaged_record_is_replaced(tmp_path, caplog):
    stop_in(tmp_path, "20", 5, CSVLogger(tmp_path / "logs"), schedule=[20])
    record = tmp_path / "mine/seed-0/20/loggers.json"
    assert json.loads(record.read_text()) == [{"class": "CSVLogger", "version": "mine/seed-0/20"}]
    record.write_text("[1")
    with caplog.at_level(logging.WARNING, logger="gradual"):
        fit(tmp_path, CSVLogger(tmp_path / "logs"), schedule=[20])
    assert "the stage's loggers start from scratch" in caplog.text
    assert len(list((tmp_path / "logs").rglob("metrics.csv"))) == 2


def test_values_that_cannot_be_copied_for_each_stage_are_refused_in_one_sentence(tmp_path):
    from lightning.pytorch import Callback

    class Holding(Callback):
        def __init__(self, path):
            self.file = path.open("w")

    with pytest.raises(gradual.InputError, match=r"^callbacks cannot be copied .*each stage needs its own copy"):
        fit(tmp_path, False, callbacks=[Holding(tmp_path / "held")])


assert issubclass(Net, LightningModule)

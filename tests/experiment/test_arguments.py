"""Arguments of fit are checked where they enter: a wrong call is one sentence, before anything is made."""

import functools
import inspect

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.loggers import CSVLogger
from linear_model import Examples
from refused_calls import Net, Plain, compare, fit, refusal, small
from torch import nn
from torch.utils.data import DataLoader

import gradual
from gradual import FileDataModule, MixedDomainDataModule
from gradual.experiment.arguments import check_trainer


class Forgetful(MixedDomainDataModule):
    def __init__(self):
        LightningDataModule.__init__(self)


MODULE = "wrap it in a lightning.pytorch.LightningModule"
OPTIMIZER = "each stage makes its own: write optimizer={'class_path': 'torch.optim.AdamW', 'lr': 0.01}"

FIT = {
    "an nn.Module": ({"model": Plain()}, f"model is a Plain: it must be a LightningModule; {MODULE}"),
    "a compiled nn.Module": ({"model": torch.compile(Plain())}, MODULE),
    "a class": ({"model": Net}, "model is the class Net: it must be a LightningModule; make an instance: Net(...)."),
    "a function that makes a model": ({"model": lambda: Net()}, "model is a function: it must be a LightningModule"),
    "a name": ({"model": "bert"}, "model is 'bert': it must be a LightningModule."),
    "models": ({"model": [Net()]}, "model is a list"),
    "the data as the model": ({"model": small()}, "the model comes first, then the data module"),
    "a dataset": ({"data": Examples("in", 8, 2.0, 1)}, "put datasets into gradual.MixedDomainDataModule(in_domain=..."),
    "a loader": ({"data": DataLoader([1])}, "put the datasets of loaders into gradual.MixedDomainDataModule"),
    "datasets by name": ({"data": {"in_domain": [1]}}, "datamodule is a dict: it must be a gradual.MixedDomainData"),
    "Lightning's own data module": ({"data": LightningDataModule()}, "datamodule is a LightningDataModule"),
    "a class of data": ({"data": MixedDomainDataModule}, "make an instance: MixedDomainDataModule(...)"),
    "a path of data": ({"data": "train.jsonl"}, "files are read by gradual.FileDataModule"),
    "the model as the data": ({"data": Net()}, "the model comes first"),
    "a data module that is not set up": ({"data": Forgetful()}, "Forgetful.__init__ must call super().__init__()"),
    "the text of a schedule": ({"schedule": "[4, 0]"}, "schedule is '[4, 0]': it must be a list of amounts, such as"),
    "one amount": ({"schedule": 4}, "schedule is 4: it must be a list of amounts, such as [4000, 2000, 500, 0]; wr"),
    "a set": ({"schedule": {4, 0}}, "it must be a list of amounts"),
    "None for a schedule": ({"schedule": None}, "schedule is None"),
    "no run_dir": ({"run_dir": None}, "run_dir is None: it must be the path of a folder."),
    "an empty run_dir": ({"run_dir": ""}, "run_dir is ''"),
    "a number as run_dir": ({"run_dir": 3}, "run_dir is 3"),
    "an optimizer": ({"optimizer": torch.optim.AdamW(Net().parameters(), lr=0.01)}, f"is an AdamW: {{}}; {OPTIMIZER}"),
    "an optimizer's class": ({"optimizer": torch.optim.AdamW}, "optimizer is the class AdamW: {}; each stage makes"),
    "an optimizer's name": ({"optimizer": "adamw"}, "write optimizer={'class_path': 'torch.optim.AdamW', 'lr': 0.001}"),
    "an optimizer's wrong name": ({"optimizer": "adamv"}, "optimizer is 'adamv': {}; did you mean 'adam"),
    "a rate as optimizer": ({"optimizer": 0.001}, "optimizer is 0.001: {}; write optimizer={'lr': 0.001}."),
    "a list as optimizer": ({"optimizer": ["adamw"]}, "optimizer is ['adamw']: {}."),
    "a class in the optimizer": ({"optimizer": {"class_path": torch.optim.SGD}}, "class_path is the class SGD: it m"),
    "text for a rate": ({"optimizer": {"lr": "fast"}}, "lr is 'fast'"),
    "True for a rate": ({"optimizer": {"lr": True}}, "lr is True: it must be a number"),
    "a schedule's name": ({"lr_schedule": "linear"}, "write lr_schedule={'name': 'linear'}."),
    "a scheduler": ({"lr_schedule": torch.optim.lr_scheduler.StepLR}, "lr_schedule is the class StepLR"),
    "True for a group": ({"collapse": True}, "collapse is True: it must be a mapping of settings, such as {'attempts'"),
    "text in a group": ({"collapse": {"attempts": "3"}}, "attempts is '3': it must be an integer"),
    "text for a number": ({"patience": "3"}, "patience is '3': it must be an integer of at least 0."),
    "half of a number": ({"patience": 2.5}, "patience is 2.5"),
    "None for a number": ({"patience": None}, "patience is None"),
    "True for a number": ({"patience": True}, "patience is True"),
    "NaN for a number": ({"patience": float("nan")}, "patience is nan"),
    "a list for a number": ({"patience": [3]}, "patience is [3]"),
    "below zero": ({"patience": -1}, "patience is -1"),
    "no improvement at all": ({"min_delta": -0.1}, "min_delta is -0.1: it must be a number of at least 0."),
    "NaN for a least change": ({"min_delta": float("nan")}, "min_delta is nan"),
    "text for a decay": ({"weight_averaging": "0.9"}, "it must be a number from 0 to below 1, or None."),
    "True for a window": ({"smoothing": True}, "smoothing is True"),
    "None for minutes": ({"checkpoint_every": None}, "checkpoint_every is None"),
    "None as monitor": ({"monitor": None}, "monitor is None: it must be text."),
    "monitors": ({"monitor": ["val/loss"]}, "monitor is ['val/loss']"),
    "a mode that is none": ({"mode": 1}, "mode is 1"),
    "text as seed": ({"seed": "0"}, "seed is '0': it must be an integer from 0 to 4294967295."),
    "a real number as seed": ({"seed": 1.0}, "seed is 1.0"),
    "a negative seed": ({"seed": -1}, "seed is -1"),
    "a seed that is too large": ({"seed": 2**32}, "seed is 4294967296"),
    "seeds": ({"seed": [0]}, "seed is [0]"),
    "a callback's class": ({"callbacks": Timer}, "callbacks is the class Timer: {}; make an instance: Timer(...)."),
    "a callback's class in a list": ({"callbacks": [Timer]}, "it holds the class Timer, make an instance: Timer(...)."),
    "a callback's name": ({"callbacks": "early_stopping"}, "it must be a list of Callbacks, a Callback or None."),
    "callbacks by name": ({"callbacks": {"timer": Timer()}}, "callbacks is a dict"),
    "a logger's name": ({"logger": "tensorboard"}, "make an instance: lightning.pytorch.loggers.TensorBoardLogger("),
    "a logger's class": ({"logger": CSVLogger}, "logger is the class CSVLogger: {}; make an instance: CSVLogger(...)."),
    "a logger's class in a list": ({"logger": [CSVLogger]}, "it holds the class CSVLogger"),
    "text for epochs": ({"max_epochs": "3"}, "max_epochs is '3': it must be an integer of at least 1, or -1 for no"),
    "no epoch": ({"max_epochs": 0}, "max_epochs is 0"),
    "text for steps": ({"max_steps": "3"}, "max_steps is '3'"),
    "text for clipping": ({"gradient_clip_val": "1"}, "gradient_clip_val is '1'"),
    "clipping below zero": ({"gradient_clip_val": -1}, "gradient_clip_val is -1"),
    "no batch to accumulate": ({"accumulate_grad_batches": 0}, "accumulate_grad_batches is 0"),
    "no epoch between validations": ({"check_val_every_n_epoch": 0}, "check_val_every_n_epoch is 0"),
    "text for a limit": ({"limit_train_batches": "a"}, "limit_train_batches is 'a': it must be a number or None."),
    "text for a switch": ({"enable_progress_bar": "no"}, "enable_progress_bar is 'no': it must be True, False or"),
    "a number for a time": ({"max_time": 3}, "max_time is 3: it must be text, a timedelta, a mapping or None."),
    "half a device": ({"devices": 1.5}, "devices is 1.5: it must be a list of integers, text or an integer."),
    "another precision": ({"precision": 17}, "precision is 17: it must be 64, 32, 16, 'transformer-engine'"),
    "another profiler": ({"profiler": 3}, "profiler is 3"),
    "a rate": ({"lr": 0.1}, "There is no setting 'lr'. Did you mean optimizer={'lr': ...}?"),
    "a rate by its long name": ({"learning_rate": 0.1}, "Did you mean optimizer={'lr': ...}?"),
    "epochs": ({"epochs": 3}, "There is no setting 'epochs'. Did you mean 'max_epochs'?"),
    "a batch size": ({"batch_size": 4}, "It is an argument of the data module: MixedDomainDataModule(batch_size=...)."),
    "validation data": ({"val": [1]}, "It is an argument of the data module"),
    "a setting that is none": ({"zzz": 3}, "There is no setting 'zzz'."),
}  # fmt: skip


@pytest.mark.parametrize("kind", FIT)
def test_a_wrong_call_of_fit_is_one_sentence_and_makes_nothing(tmp_path, kind):
    changes, said = FIT[kind]
    before, _, after = said.partition("{}")
    sentence = refusal(functools.partial(fit, tmp_path, **changes))
    assert before in sentence
    assert after in sentence
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("devices", ["two", -3, [7]])
def test_devices_that_are_not_there_are_one_sentence(tmp_path, devices):
    assert "The Trainer cannot be made: " in refusal(functools.partial(fit, tmp_path, devices=devices))


def test_a_module_of_the_other_package_is_told_from_lightning_s(tmp_path):
    other = type("LightningModule", (nn.Module,), {"__module__": "pytorch_lightning.core.module"})
    mine = type("Mine", (other,), {})
    for call in (lambda: fit(tmp_path, model=mine()), lambda: compare(tmp_path, model=mine)):
        assert "import it from lightning.pytorch: pytorch_lightning is another package" in refusal(call)


def test_calls_that_do_not_fit_are_one_sentence(tmp_path):
    data = small()
    takes = "it takes model, datamodule, schedule, run_dir and settings by name."
    for call, said in (
        (lambda: gradual.fit(), f"gradual.fit: missing a required argument: 'model'; {takes}"),
        (lambda: gradual.fit(Net(), data, [0]), f"gradual.fit: missing a required argument: 'run_dir'; {takes}"),
        (lambda: gradual.fit(Net(), data, [0], tmp_path, "val/loss"), f"too many positional arguments; {takes}"),
        (lambda: gradual.fit(Net(), data, [0], tmp_path, model=Net()), "multiple values for argument 'model'"),
        (lambda: gradual.compare(Net, data, [0], tmp_path, ["gradual"]), "gradual.compare: too many positional"),
        (lambda: MixedDomainDataModule([1], [1], [1], [1], 4), "MixedDomainDataModule: too many positional arguments"),
        (lambda: MixedDomainDataModule([1], batchsize=4), "has no argument 'batchsize'; it takes in_domain, out_of_do"),
        (lambda: MixedDomainDataModule([1], batchsize=4), "Did you mean 'batch_size'?"),
        (lambda: FileDataModule("a.csv", textcolumn="x"), "Did you mean 'text_column'?"),
        (lambda: FileDataModule(), "FileDataModule: missing a required argument: 'in_domain'"),
    ):
        assert said in refusal(call)


def test_numbers_of_numpy_s_are_numbers(tmp_path):
    data = small(batch_size=np.int64(512), num_workers=np.int32(0))
    assert (type(data.batch_size), data.batch_size) == (int, 512)
    numbers = {"patience": np.int64(1), "max_epochs": np.int64(2), "seed": np.uint8(3), "min_delta": np.float32(0.5)}
    result = fit(tmp_path, data=data, schedule=np.array([4, 0]), gradient_clip_val=np.float64(1), **numbers)
    assert [stage.amount for stage in result.stages] == [4, 0]
    assert result.seed == 3


def test_a_model_that_was_trained_before_is_trained_again(tmp_path):
    model = Net()
    fit(tmp_path, model=model, schedule=[0])
    assert fit(tmp_path, model=model, schedule=[0], run_dir=str(tmp_path / "again")).stages[0].epochs == 1


@pytest.mark.parametrize("name", inspect.signature(Trainer).parameters)
def test_every_default_of_lightning_s_trainer_is_accepted(name):
    value = inspect.signature(Trainer).parameters[name].default
    assert check_trainer({name: value}) == {name: value}

"""Arguments are checked where they enter: whatever is wrong with a call is one sentence, before anything is made."""

import functools
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import datasets
import lightning
import numpy as np
import pandas as pd
import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.loggers import CSVLogger
from linear_model import Examples, make_data
from slow_cases import fast_one_in
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset, TensorDataset

import gradual
from gradual import Domains, FileDataModule, InputError, MixedDomainDataModule
from gradual.checks import check_fields, checked, found, integer, number, of_hint


class Net(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def _loss(self, batch):
        return (self.layer(batch[0]) - batch[1]).square().mean()

    def training_step(self, batch, batch_idx):
        return self._loss(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self._loss(batch), batch_size=len(batch[0]))

    def test_step(self, batch, batch_idx):
        self.log("test/loss", self._loss(batch), batch_size=len(batch[0]))


class Plain(nn.Module):
    pass


class Stream(IterableDataset):
    def __iter__(self):
        yield from ()


class Unnumbered:
    def __getitem__(self, index):
        return index


class Forgetful(MixedDomainDataModule):
    def __init__(self):
        LightningDataModule.__init__(self)


def small(**changes) -> MixedDomainDataModule:
    return make_data({"out_of_domain": Examples("out", 8, 1.0, 2), "batch_size": 8, **changes})


pytestmark = pytest.mark.usefixtures("undrawn_figures")
SETTINGS = {
    "optimizer": {"lr": 0.1}, "max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False, "logger": False,
}  # fmt: skip


def refusal(call: Callable[[], Any]) -> str:
    """The sentence that a call ends in."""
    with pytest.raises(InputError) as refused:
        call()
    sentence = str(refused.value)
    assert "\n" not in sentence
    assert sentence.endswith((".", "?"))
    return sentence


def fit(root, *, model=None, data=None, schedule=(4, 0), run_dir=..., **settings):
    model, data = Net() if model is None else model, small() if data is None else data
    return gradual.fit(model, data, schedule, root / "run" if run_dir is ... else run_dir, **SETTINGS | settings)


def compare(root, *, model=Net, data=None, schedule=(4, 0), run_dir=..., **settings):
    data = small() if data is None else data
    run_dir = root / "run" if run_dir is ... else run_dir
    return gradual.compare(model, data, schedule, run_dir, **SETTINGS | {"seeds": [0]} | settings)


# gradual.fit

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


# gradual.compare

COMPARE = {
    "a model": ({"model": Net()}, "every stage gets a model of its own: pass Net, or a function such as lambda"),
    "a name": ({"model": "net"}, "model is 'net': it must be a class or a function that returns a LightningModule."),
    "a function that makes nothing": ({"model": lambda: None}, "What model() returns is None: it must be a Lightning"),
    "a function that makes an nn.Module": ({"model": lambda: Plain()}, "What model() returns is a Plain"),
    "a function that asks for something": ({"model": lambda seed: Net()}, "missing a required argument: 'seed'"),
    "a class of nn.Module": ({"model": Plain}, "Plain is not a LightningModule"),
    "one seed": ({"seeds": 0}, "seeds is 0: it must be a list of integers from 0 to 4294967295; write seeds=[0]."),
    "the text of seeds": ({"seeds": "[0, 1]"}, "write it without quotation marks"),
    "text": ({"seeds": ["a"]}, "it holds 'a'"),
    "real numbers": ({"seeds": [0, 1.5]}, "it holds 1.5"),
    "numbers from a generator": ({"seeds": (seed for seed in [0, -1])}, "it holds -1"),
    "True": ({"seeds": [True]}, "it holds True"),
    "no seed": ({"seeds": []}, "it is empty"),
    "None": ({"seeds": None}, "seeds is None"),
    "seeds by name": ({"seeds": {"a": 1}}, "seeds is {'a': 1}"),
    "the seed of fit": ({"seed": 3}, "A comparison takes several seeds: write seeds=[3] instead of seed."),
    "a number of strategies": ({"strategies": 4}, "strategies is 4: it must be a mapping from names to schedules"),
    "one metric": ({"metrics": "loss"}, "metrics is 'loss': it must be a list of names, or None; write ['loss']."),
    "a metric that is none": ({"metrics": [3]}, "metrics is [3]"),
    "no metric": ({"metrics": []}, "metrics is []"),
    "several baselines": ({"baseline": ["gradual"]}, "baseline is ['gradual']: it must be text or None."),
    "a class of data": ({"data": MixedDomainDataModule}, "make an instance: MixedDomainDataModule(...)"),
    "a function that makes data": ({"data": make_data}, "datamodule is the function make_data"),
    "no run_dir": ({"run_dir": None}, "run_dir is None"),
    "the text of a schedule": ({"schedule": "[4, 0]"}, "schedule is '[4, 0]'"),
    "text for a number": ({"patience": "3"}, "patience is '3'"),
}  # fmt: skip


@pytest.mark.parametrize("kind", COMPARE)
def test_a_wrong_call_of_compare_is_one_sentence_and_trains_nothing(tmp_path, kind):
    changes, said = COMPARE[kind]
    assert said in refusal(functools.partial(compare, tmp_path, **changes))
    assert not list(tmp_path.rglob("seed-*"))


def test_a_function_that_makes_one_model_over_and_over_is_refused(tmp_path):
    """Else the second strategy would start from what the first has learnt."""
    model = Net()
    said = refusal(lambda: compare(tmp_path, model=lambda: model))
    assert said.startswith("model() returned the same Net twice")


# Data modules

SOURCES = "join several datasets into one, such as torch.utils.data.ConcatDataset"
FEW = Examples("in", 4, 2.0, 1)

DATASETS = {
    "a loader": (DataLoader([1]), "pass the loader's dataset"),
    "a stream": (Stream(), "a stage draws examples by index"),
    "a stream of datasets": (datasets.Dataset.from_list([{"a": 1}]).to_iterable_dataset(), "a stage draws examples by"),
    "a path": (Path("train.jsonl"), "files are read by gradual.FileDataModule"),
    "the text of a path": ("train.jsonl", "files are read by gradual.FileDataModule"),
    "paths": (["a.jsonl", "b.jsonl"], "files are read by gradual.FileDataModule"),
    "a list of datasets": ([FEW, FEW], SOURCES),
    "a tuple of datasets": ((TensorDataset(torch.zeros(3)), TensorDataset(torch.zeros(3))), SOURCES),
    "datasets of datasets": ([datasets.Dataset.from_list([{"a": 1}])], SOURCES),
    "a dict of datasets": ({"web": FEW, "news": FEW}, SOURCES),
    "splits": (datasets.DatasetDict({"train": datasets.Dataset.from_list([{"a": 1}])}), SOURCES),
    "a class": (Examples, "make an instance: Examples(...)"),
    "a number": (3, "it must be a map-style dataset (with __len__ and __getitem__) or a list of examples"),
    "a set": ({1, 2}, "it has no length or cannot be indexed"),
    "a generator": ((number for number in [1]), "it has no length"),
    "a function": (len, "is the function len"),
    "one without a length": (Unnumbered(), "is an Unnumbered: it must be a map-style dataset"),
    "an array without a dimension": (np.array(3), "is a ndarray"),
    "a data frame": (pd.DataFrame({"a": [1]}), "frame.to_dict('records')"),
    "a series": (pd.Series([1, 2], index=[5, 6]), "series.tolist()"),
    "a data module": (LightningDataModule(), "is a LightningDataModule"),
}


MAPPINGS = ("a dict of datasets", "splits")  # a pool of named sources


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        (kind, part)
        for kind in DATASETS
        for part in ("in_domain", "out_of_domain", "val", "test")
        if part != "out_of_domain" or kind not in MAPPINGS
    ],
)
def test_values_that_are_no_map_style_dataset_are_refused_in_one_sentence(kind, part):
    value, said = DATASETS[kind]
    sentence = refusal(lambda: MixedDomainDataModule(**{part: value}))
    assert sentence.startswith(f"{part} is ")
    assert said in sentence


@pytest.mark.parametrize("kind", ["a loader", "a list of datasets", "a path"])
def test_data_from_load_is_checked_in_the_same_way(kind):
    class Loading(MixedDomainDataModule):
        def load(self):
            return Domains([1], val=DATASETS[kind][0])

    assert refusal(Loading().setup).startswith("val is ")
    Loading.load = lambda self: {"in_domain": [1]}
    assert "Loading.load() returned a dict: it must return a gradual.Domains." in refusal(Loading().setup)


MAP_STYLE = {
    "a list": [1, 2],
    "a tuple": (1, 2),
    "a range": range(2),
    "an array": np.arange(2),
    "a tensor": torch.arange(2),
    "texts": ["a b", "what is in train.csv?"],
    "lists": [[1, 2], [3]],
    "tensors": [torch.zeros(2), torch.ones(2)],
    "dicts": [{"ids": [1], "lengths": 1}, {"ids": [2], "lengths": 1}],
    "a dataset of torch": TensorDataset(torch.arange(2)),
    "several as one": ConcatDataset([[1], [2]]),
    "a part": Subset([1, 2, 3], [0, 1]),
    "a dataset of datasets": datasets.Dataset.from_list([{"a": 1}, {"a": 2}]),
    "nothing": [],
}


@pytest.mark.parametrize("kind", MAP_STYLE)
def test_examples_of_any_kind_are_a_dataset(kind):
    value = MAP_STYLE[kind]
    data = MixedDomainDataModule([0], value, collate_fn=list)
    assert data.domains.out_of_domain is value
    assert data.pool_size == len(value)


NUMBERS = {
    "batch_size": (["8", 2.5, None, True, 0, float("nan"), 4.0, [4]], "an integer of at least 1"),
    "eval_batch_size": (["8", True, 0, 2.5], "an integer of at least 1, or None"),
    "batch_tokens": (["8", True, 2.5, 0], "an integer of at least 1, or None"),
    "num_workers": (["2", -1, None, True, 1.5], "an integer of at least 0"),
    "seed": (["0", 1.5, None, -1, True, 2**32], "an integer from 0 to 4294967295"),
    "collate_fn": (["pad", 3, [len]], "a function or None"),
    "id_of": (["id", 3], "a function or None"),
    "schedule": (["[4, 0]", 3, None], "a list of amounts, such as [4000, 2000, 500, 0]"),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_and_functions_of_the_data_module(name):
    values, accepted = NUMBERS[name]
    for value in values:
        sentence = refusal(lambda value=value: MixedDomainDataModule([1], **{name: value}))
        assert sentence.startswith(f"{name} is {found(value)}: ")
        assert f"it must be {accepted}" in sentence


FILES = {
    "in_domain": ([None, 3, FEW, ["a.csv", 3], {"web": "a.csv"}, True, [["a.csv"]]], "a file, a pattern or a list of"),
    "val": ([3, DataLoader([1])], "a file, a pattern or a list of these, or None"),
    "text_column": ([3, ["a", 3], {"a": 1}], "text, a list of texts or None"),
    "tokenizer": ([3, object()], "a path, or None"),
    "max_length": (["5", 2.5, 0, True], "an integer of at least 1, or None"),
    "label_column": ([3, ["label"]], "text or None"),
    "columns": (["x", [3], 3], "a list of texts or None"),
    "cache_dir": ([3], "a path, or None"),
    "num_proc": (["2", 0, True, 1.5], "an integer of at least 1, or None"),
    "batch_size": (["8", 2.5, True], "an integer of at least 1"),
    "collate_fn": ([3], "a function or None"),
}


@pytest.mark.parametrize("name", FILES)
def test_arguments_of_the_data_module_of_files(name):
    values, accepted = FILES[name]
    for value in values:
        sentence = refusal(lambda value=value: FileDataModule(**{"in_domain": "a.csv", name: value}))
        assert sentence.startswith(f"{name} is ")
        assert f"it must be {accepted}" in sentence


def test_the_parser_of_the_command_line_sees_through_the_check():
    class Mine(MixedDomainDataModule):
        def __init__(self, root: str, **further):
            super().__init__(**further)
            self.root = root

    assert "batch_size" in inspect.signature(MixedDomainDataModule).parameters
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Mine, "data")
    made = parser.instantiate_classes(parser.parse_args(["--data.root=x", "--data.batch_size=3"])).data
    assert (made.root, made.batch_size, made.num_workers) == ("x", 3, 0)


# What goes on working


def test_numbers_of_numpy_s_are_numbers(tmp_path):
    data = small(batch_size=np.int64(512), num_workers=np.int32(0))
    assert (type(data.batch_size), data.batch_size) == (int, 512)
    numbers = {"patience": np.int64(1), "max_epochs": np.int64(2), "seed": np.uint8(3), "min_delta": np.float32(0.5)}
    result = fit(tmp_path, data=data, schedule=np.array([4, 0]), gradient_clip_val=np.float64(1), **numbers)
    assert [stage.amount for stage in result.stages] == [4, 0]
    assert result.seed == 3


@pytest.mark.parametrize("seeds", fast_one_in(4, [np.array([0]), ((0,),), range(1), iter([0])]))
def test_a_comparison_takes_seeds_of_any_kind_of_list(tmp_path, seeds):
    page = compare(tmp_path, seeds=seeds, strategies=["in-domain only"])
    assert (page.parents[1] / "seed-0/0/result.json").exists()


def test_a_model_that_was_trained_before_is_trained_again(tmp_path):
    model = Net()
    fit(tmp_path, model=model, schedule=[0])
    assert fit(tmp_path, model=model, schedule=[0], run_dir=str(tmp_path / "again")).stages[0].epochs == 1


# What a model and its data need


def without(step: str) -> LightningModule:
    return type("Lacking", (Net,), {step: getattr(LightningModule, step)})()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": without("training_step")}, "Lacking has no training_step: add one that returns the loss"),
        ({"model": without("validation_step")}, "Lacking has no validation_step, which is needed to detect"),
        ({"model": without("test_step")}, "There is test data, but Lacking has no test_step: add one, or leave the"),
        ({"data": small(val=None)}, "There is no validation data"),
        ({"data": small(val=[])}, "has no validation examples"),
    ],
)  # fmt: skip
def test_missing_requirements_of_any_stage_are_reported_before_training(tmp_path, changes, said):
    assert said in refusal(functools.partial(fit, tmp_path, **changes))
    assert not list(tmp_path.glob("run/seed-0/*"))
    factory = {"model": lambda: type(changes["model"])()} if "model" in changes else changes
    assert said in refusal(functools.partial(compare, tmp_path / "compared", **factory))


def test_without_test_data_no_test_step_is_needed(tmp_path):
    result = fit(tmp_path, model=without("test_step"), data=small(test=None), schedule=[0])
    assert result.final["test"] == {}


def test_a_model_that_a_trainer_is_training_is_refused(tmp_path):
    said = []

    class Within(Callback):
        def on_train_start(self, trainer, pl_module):
            said.append(refusal(lambda: fit(tmp_path, model=pl_module, schedule=[0])))

    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    model, data = Net(), small()
    model.configure_optimizers = lambda: torch.optim.SGD(model.parameters(), lr=0.1)
    Trainer(accelerator="cpu", max_epochs=1, callbacks=[Within()], **quiet).fit(model, datamodule=data)
    assert said == ["This Net is already being trained by a Trainer: each stage makes its own Trainer."]


class Silent(Net):
    def validation_step(self, batch, batch_idx):
        pass


def test_a_monitor_that_is_not_logged_is_named_with_those_that_are(tmp_path):
    said = (
        "monitor is 'val/los', which validation does not log; the names logged are val/loss. Did you mean 'val/loss'?"
    )
    assert refusal(lambda: fit(tmp_path, monitor="val/los", mode="min")) == said
    said = "monitor is 'val/loss', which validation does not log; it logs nothing."
    assert refusal(lambda: fit(tmp_path, model=Silent(), run_dir=tmp_path / "silent")) == said


# The mechanism


@dataclass(frozen=True)
class Config:
    count: int = 1
    share: float | None = None
    names: list[str] | None = None
    rates: dict[str, float] | None = None
    kind: Literal["a", "b"] = "a"
    switch: bool = False
    make: Callable[[], Any] = dict
    any: Any = None

    def __post_init__(self):
        check_fields(self, "config.{}", count=integer(1, 5), share=number(0, below=1))


def test_fields_are_checked_by_type_and_by_table():
    for field, values, said in (
        ("count", [0, 6, "1", None, True, 1.0], "an integer from 1 to 5."),
        ("share", [1, -0.1, "0", float("nan"), True], "a number from 0 to below 1, or None."),
        ("names", ["a", {"a"}, 3], "a list of texts or None."),
        ("names", [["a", 3]], "a list of texts or None; it holds 3."),
        ("rates", [{"a": "b"}, [1], {1: 1}], "a mapping or None."),
        ("kind", ["c", 1, None], "'a' or 'b'."),
        ("switch", [1, "yes", None], "True or False."),
        ("make", [3, {}], "a function."),
    ):
        for value in values:
            sentence = refusal(lambda value=value, field=field: Config(**{field: value}))
            assert sentence.startswith(f"config.{field} is ")
            assert sentence.endswith(f": it must be {said}")
    whole = Config(np.int8(2), 0, ("a", "b"), {"a": np.float32(0.5), "b": 1}, "b", True, list, object())
    assert (whole.count, whole.share, whole.names, whole.rates) == (2, 0.0, ["a", "b"], {"a": 0.5, "b": 1.0})
    kinds = [type(value) for value in (whole.count, whole.share, whole.names, *whole.rates.values())]
    assert kinds == [int, float, list, float, float]


def test_a_function_is_checked_by_its_hints_and_runs_with_what_was_converted():
    @checked(least=number(0))
    def twice(value: int, names: Iterable[str] = (), least: float | None = None) -> Any:
        """Twice."""
        return value * 2, names, least

    assert twice(np.int64(2), iter(["a"]), 1) == (4, ["a"], 1.0)
    assert (twice.__doc__, list(inspect.signature(twice).parameters)) == ("Twice.", ["value", "names", "least"])
    assert refusal(lambda: twice("2")) == "value is '2': it must be an integer."
    assert refusal(lambda: twice(2, "a")) == "names is 'a': it must be a list of texts."
    assert refusal(lambda: twice(2, least=-1)) == "least is -1: it must be a number of at least 0, or None."
    assert "Did you mean 'least'?" in refusal(lambda: twice(2, leats=1))

    @checked()
    def failing(value: int) -> None:
        raise TypeError("of its own")

    with pytest.raises(TypeError, match="of its own"):
        failing(1)


@pytest.mark.parametrize("name", inspect.signature(Trainer.__init__).parameters)
def test_every_default_of_lightning_s_trainer_is_accepted(name):
    if name != "self":
        from gradual.experiment.arguments import check_trainer

        value = inspect.signature(Trainer.__init__).parameters[name].default
        assert check_trainer({name: value}) == {name: value}


def test_messages_show_plain_values_and_name_the_type_of_others():
    assert found("a" * 500) == f"'{'a' * 79}..."
    for value, text in (
        (None, "None"), ([1, "a"], "[1, 'a']"), ([object()], "a list"), ({"a": object()}, "a dict"),
        (len, "the function len"),
        (lambda: 1, "a function"), (Net, "the class Net"), (Path("a"), "the path 'a'"), (torch.zeros(2), "a Tensor"),
        (lightning.Trainer, "the class Trainer"), (np.int64(3), "np.int64(3)"), (list(range(500)), "a list"),
    ):  # fmt: skip
        assert found(value) == text


def test_a_class_passed_instead_of_an_instance_is_reported():
    assert of_hint(Timer).wrong(Timer) == "make an instance: Timer(...)"
    assert of_hint(Callback | None).wrong(Timer) == "make an instance: Timer(...)"
    assert of_hint(type).wrong(Timer) is None

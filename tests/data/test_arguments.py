"""Arguments of data modules: what is no dataset, file or number is one sentence; any examples are a dataset."""

import inspect
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningDataModule
from linear_model import Examples
from refused_calls import refusal
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset, TensorDataset

from gradual import Domains, FileDataModule, MixedDomainDataModule
from gradual.checks import found


class Stream(IterableDataset):
    def __iter__(self):
        yield from ()


class Unnumbered:
    def __getitem__(self, index):
        return index


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

"""Digests: equal for equal content in every process, different for different content, refused for what has none."""

import collections
import dataclasses
import datetime
import decimal
import enum
import json
import mmap
import os
import pathlib
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers import BatchEncoding

from gradual.digest import Undigestible, digest, digest_of_files, entries, sample_positions
from gradual.errors import InputError


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclasses.dataclass
class Example:
    text: str
    labels: list[int]


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    tensor: torch.Tensor


class Plain:
    def __init__(self, **attributes):
        vars(self).update(attributes)


Pair = collections.namedtuple("Pair", ["left", "right"])


def values() -> dict[str, object]:
    """Values of all kinds, made anew at each call; no two have the same content."""
    numbers = torch.arange(6.0).reshape(2, 3)
    return {
        "none": None, "true": True, "one": 1, "one as a float": 1.0, "minus zero": -0.0, "zero": 0.0,
        "nan": float("nan"), "text of one": "1", "bytes": b"1", "empty": "", "no bytes": b"", "a surrogate": "\ud800",
        "large": 10**40,
        "list": [1, 2], "turned": [2, 1], "tuple": (1, 2), "nested": [[1], 2], "nested otherwise": [1, [2]],
        "split": ["ab", "c"], "split otherwise": ["a", "bc"], "empty list": [], "mapping": {"b": 2, "a": 1},
        "set": {"x", "y", "z"}, "another set": {"x", "y"}, "colour": Colour.RED, "blue": Colour.BLUE,
        "date": datetime.date(2020, 1, 2), "decimal": decimal.Decimal("1.10"), "path": pathlib.PurePosixPath("a/b"),
        "id": uuid.UUID(int=5), "pair": Pair(3, 4), "example": Example("a", [1]), "label": Example("a", [2]),
        "object": Plain(a=numbers), "others": Plain(b=numbers), "ordered": collections.deque([1, 2]),
        "tensor": numbers, "transposed": numbers.T, "flat": numbers.reshape(6), "whole": numbers.long(),
        "half": numbers.to(torch.bfloat16), "bools": numbers > 2, "complex": torch.complex(numbers, numbers),
        "sparse": torch.eye(3).to_sparse(), "rows": torch.ones(3, 3).to_sparse_csr(), "scalar": torch.tensor(3.0),
        "none of them": torch.empty(0, 3), "slotted": Slotted(numbers),
        "conjugate": torch.complex(numbers, numbers).conj(),
        "array": np.arange(6.0).reshape(2, 3), "words": np.array(["a", "b"]),
        "objects": np.array([1, "a", None], object),
        "record": np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]), "number": np.float32(1), "large array": LARGE,
        "encoding": BatchEncoding({"input_ids": [1, 2]}), "frame": pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}),
        "series": pd.Series([1, 2]), "red image": Image.new("RGB", (2, 2), "red"),
        "blue image": Image.new("RGB", (2, 2), "blue"),
        "class": Example, "function": values, "dtype": torch.float32,
    }  # fmt: skip


LARGE = np.arange(300_000.0)


def test_values_that_differ_have_different_digests():
    digests = {name: digest(value) for name, value in values().items()}
    assert len(set(digests.values())) == len(digests)


@pytest.mark.slow
def test_digests_are_the_same_in_another_process_whatever_the_order_of_its_sets():
    code = f"import json, {__name__} as t; print(json.dumps({{k: t.digest(v) for k, v in t.values().items()}}))"
    here = {name: digest(value) for name, value in values().items()}
    paths = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    environment = os.environ | {"PYTHONHASHSEED": "77", "PYTHONPATH": paths}
    printed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(printed.stdout) == here


def test_the_order_of_mappings_and_the_class_of_arrays_make_no_difference(tmp_path):
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    mapped = np.memmap(tmp_path / "numbers", dtype=np.float64, mode="w+", shape=(3, 4))
    mapped[:] = np.arange(12).reshape(3, 4)
    assert digest({"x": mapped}) == digest({"x": np.arange(12.0).reshape(3, 4)})
    assert digest(torch.arange(6).reshape(2, 3).T.contiguous()) == digest(torch.arange(6).reshape(2, 3).T)


def test_mapped_files_go_by_their_content(tmp_path):
    digests = []
    for content in (b"a" * 3_000_000, b"b" * 3_000_000, b"a" * 3_000_000):
        path = tmp_path / "file"
        path.write_bytes(content)
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            digests.append(digest([mapped]))
    assert digests[0] == digests[2] != digests[1]


def test_a_value_that_contains_itself_has_a_digest():
    looped: list = [1]
    looped.append(looped)
    assert digest(looped) == digest(looped)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ((number for number in [1]), "a generator"),
        (threading.Lock(), "a lock"),
        ({"deep": [sys.__stdout__]}, "a TextIOWrapper"),
    ],
    ids=["generator", "lock", "file"],
)
def test_objects_that_no_other_process_can_have_are_named(value, said):
    with pytest.raises(Undigestible, match=f"^{said}$"):
        digest(value)


def test_data_nested_too_deeply_is_named():
    nested: list = []
    for _ in range(10_000):
        nested = [nested]
    with pytest.raises(Undigestible, match="nested too deeply"):
        digest(nested)


def test_files_go_by_all_their_bytes_and_their_order(tmp_path):
    one, two, same = (tmp_path / name for name in ("one", "two", "same"))
    one.write_bytes(b"a" * 2_000_000 + b"b")
    two.write_bytes(b"a" * 2_000_000 + b"c")
    same.write_bytes(one.read_bytes())
    assert digest_of_files([one]) == digest_of_files([same])
    assert len({digest_of_files(files) for files in ([one], [two], [one, two], [two, one], [])}) == 5
    with pytest.raises(InputError, match="missing: No such file"):
        digest_of_files([tmp_path / "missing"])


@given(st.integers(1, 20_000), st.integers(1, 20))
def test_a_sample_is_sorted_and_inside_and_whole_where_there_is_little(size, runs):
    number = 128 * runs
    positions = sample_positions(size, number)
    assert len(positions) == len(set(positions.tolist()))
    assert positions.tolist() == sorted(positions.tolist())
    assert positions[0] >= 0
    assert positions[-1] < size
    assert len(positions) == size if size <= 4 * number else number / 2 < len(positions) <= number


def test_a_sample_of_a_tensor_holds_its_entries_wherever_they_lie():
    tensor = torch.arange(120_000.0).reshape(300, 400)
    sample = entries(tensor, 1024)
    assert sample.tolist() == sample_positions(120_000, 1024).tolist()
    assert len({int(value) % 400 for value in sample}) > 200, "not the same few columns of a matrix"
    transposed = tensor.T.contiguous().T
    assert torch.equal(entries(transposed, 1024), sample)
    assert entries(torch.tensor(7.0), 4).tolist() == [7.0]

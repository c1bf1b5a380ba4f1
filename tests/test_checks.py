"""Checks of arguments by their hints and by tables, and how a message shows a value."""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import Timer
from refused_calls import Net, refusal

from gradual.checks import check_fields, checked, found, integer, number, of_hint


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

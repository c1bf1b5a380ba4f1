"""The hint at the name that was probably meant."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradual.errors import did_you_mean, nearest


def test_the_nearest_name_is_asked_for():
    assert did_you_mean("patients", ["max_epochs", "patience"]) == " Did you mean 'patience'?"
    assert did_you_mean("epochs", ["min_epoch", "max_epochs"]) == " Did you mean 'max_epochs'?"
    assert did_you_mean("zzz", ["max_epochs", "patience"]) == ""
    assert did_you_mean("any", []) == ""


@pytest.mark.parametrize(
    ("typed", "meant", "others"),
    [
        ("modle", "model", ["mode", "monitor", "data"]),
        ("moed", "mode", ["model", "monitor"]),
        ("sheduel", "schedule", ["seeds", "sched"]),
        ("run_dri", "run_dir", ["rundri", "root_dir"]),
    ],
)
def test_swapped_letters_are_one_mistake(typed, meant, others):
    assert nearest(typed, [*others, meant]) == nearest(typed, [meant, *others]) == meant


def edits(one, other):
    """The number of edits, by trying all."""

    @cache
    def rest(i, j):
        if i == len(one) or j == len(other):
            return len(one) - i + len(other) - j
        ways = [1 + rest(i + 1, j), 1 + rest(i, j + 1), (one[i] != other[j]) + rest(i + 1, j + 1)]
        if one[i : i + 2] == other[j : j + 2][::-1] and len(one) > i + 1:
            ways.append(1 + rest(i + 2, j + 2))
        return min(ways)

    return rest(0, 0)


@given(st.text("abc", max_size=6), st.lists(st.text("abc", max_size=6), min_size=1, unique=True))
def test_no_other_name_needs_fewer_edits(name, names):
    assert edits(name, nearest(name, names, cutoff=0)) == min(edits(name, other) for other in names)

"""Groups of examples that are several sequences each; those of single sequences are tested with the dialogues."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradual.nn.grouping import group_by_length


def padded_size(lengths, groups):
    return sum((end - start) * sum(max(each) for each in zip(*lengths[start:end])) for start, end in groups)


def best_cut(lengths, max_padding):
    """The smallest number of groups that limits padding, and the fewest tokens with it, by trying all cuts."""
    tokens = sum(map(sum, lengths))
    for cuts in range(len(lengths)):
        places = itertools.combinations(range(1, len(lengths)), cuts)
        size = min(padded_size(lengths, itertools.pairwise([0, *chosen, len(lengths)])) for chosen in places)
        if size - tokens <= max_padding * size:
            return cuts + 1, size
    raise AssertionError("a group for each example needs no padding")


@given(
    pairs=st.lists(st.tuples(st.integers(1, 32), st.integers(1, 32)), min_size=1, max_size=8),
    max_padding=st.sampled_from([0, 1 / 16, 1 / 4, 1 / 2, 1]),
)
def test_groups_are_the_fewest_and_of_those_the_least_padded(pairs, max_padding):
    pairs = sorted(pairs, key=sum, reverse=True)
    groups = group_by_length(np.array(pairs), max_padding)
    assert [start for start, _ in groups] + [len(pairs)] == [0] + [end for _, end in groups], "one after the other"
    assert (len(groups), padded_size(pairs, groups)) == best_cut(pairs, max_padding)


@pytest.mark.parametrize(("max_padding", "groups"), [(0.5, [(0, 4)]), (0.2, [(0, 2), (2, 4)])])
def test_groups_by_hand(max_padding, groups):
    lengths = np.array([[9, 2], [8, 2], [2, 3], [2, 1]])  # 29 tokens; one group pads to 48, two to 22 + 10
    assert group_by_length(lengths, max_padding) == groups

"""Grouping of sequences by length, so that each group needs little padding."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def group_by_length(lengths: npt.NDArray[np.int64], max_padding: float) -> list[tuple[int, int]]:
    """Cut sorted lengths into the smallest number of groups that limits padding.

    Args:
        lengths: Token counts in descending order, shape ``(n,)``. Examples that are each several sequences, such as a
            source and a target, have shape ``(n, k)``, with similar ones next to each other.
        max_padding: Largest allowed share of padding among all tokens, padding included.

    Returns:
        ``(start, end)`` of each group. Of all ways to cut into this number of groups, the one with the least padding.
    """
    rows = lengths.reshape(len(lengths), -1)
    starts = np.flatnonzero(np.append(True, (np.diff(rows, axis=0) != 0).any(1)))  # of each run of equal lengths
    values, ends = rows[starts], np.append(starts[1:], len(rows))
    # tokens[i, j]: tokens, padding included, of a group with the runs i..j; each row has widths[i, j] tokens
    inside = np.arange(len(values))[:, None] <= np.arange(len(values))
    widths = sum(np.maximum.accumulate(np.where(inside, each, 0), axis=1) for each in values.T)
    tokens = np.where(inside, widths * (ends[None, :] - starts[:, None]), np.inf)
    allowed = rows.sum() / (1 - max_padding) if max_padding < 1 else np.inf
    best = tokens[0]
    cuts: list[npt.NDArray[np.int64]] = []
    while best[-1] > allowed and len(cuts) + 1 < len(values):
        totals = best[:-1, None] + tokens[1:]  # the last group begins at i + 1, for every i
        cuts.append(totals.argmin(axis=0))
        best = totals.min(axis=0)
    groups, last = [], len(values) - 1
    for cut in reversed(cuts):
        before = int(cut[last])
        groups.append((int(ends[before]), int(ends[last])))
        last = before
    return [(0, int(ends[last])), *reversed(groups)]

"""Grouping of sequences by length, so that each group needs little padding."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def group_by_length(lengths: npt.NDArray[np.int64], max_padding: float) -> list[tuple[int, int]]:
    """Cut sorted lengths into the smallest number of groups that limits padding.

    Args:
        lengths: Token counts in descending order.
        max_padding: Largest allowed share of padding among all tokens, padding included.

    Returns:
        ``(start, end)`` of each group. Of all ways to cut into this number of groups, the one with the least padding.
    """
    values, counts = np.unique(-lengths, return_counts=True)
    values, ends = -values, np.cumsum(counts)
    starts = np.concatenate([[0], ends[:-1]])
    # tokens[i, j]: tokens, padding included, of a group with the distinct lengths i..j; each row has values[i] tokens
    tokens = np.where(starts[:, None] < ends[None, :], values[:, None] * (ends[None, :] - starts[:, None]), np.inf)
    allowed = lengths.sum() / (1 - max_padding) if max_padding < 1 else np.inf
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

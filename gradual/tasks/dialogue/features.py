"""Dialogues to features and batches: tokenized once, turns grouped by length, no padding turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from gradual.data.relevance.tokens import Tokens
from gradual.nn.grouping import group_by_length
from gradual.tasks.dialogue.data import Dialogue

MISSING = -100
"""Label of a slot with an unknown value, which counts neither in the loss nor in the scores."""


class EncodedDialogue(NamedTuple):
    """A dialogue as the model reads it.

    Attributes:
        id: Its id.
        tokens: Word-piece ids of each turn.
        segments: Segment ids of each turn: 0 for the user's utterance, 1 for the system's.
        labels: Value index for each turn and slot, or ``MISSING``; shape ``(turns, slots)``.
    """

    id: str
    tokens: list[npt.NDArray[np.int32]]
    segments: list[npt.NDArray[np.int8]]
    labels: npt.NDArray[np.int16]


class DialogueFeatures(Dataset[EncodedDialogue]):
    """Tokenized dialogues, stored in a few flat arrays.

    A turn is encoded as ``[CLS] user [SEP] system [SEP]``, truncating the longer part first, or as ``[CLS] user [SEP]``
    if the system has said nothing.

    Args:
        dialogues: The dialogues to encode.
        tokenizer: A fast tokenizer from ``transformers``.
        max_length: Maximum length of a turn in word pieces.
        max_turns: Maximum number of turns in a dialogue; later turns are left out. None for no limit.
        missing_slots: Slots whose labels are set to ``MISSING`` (footnote 3 of the paper).

    Attributes:
        ids: The ids of the dialogues.
        truncated: Number of turns that were longer than ``max_length``.
    """

    def __init__(
        self,
        dialogues: Sequence[Dialogue],
        tokenizer: Any,
        max_length: int = 64,
        max_turns: int | None = None,
        missing_slots: Sequence[int] = (),
    ):
        self.ids = [dialogue.id for dialogue in dialogues]
        turns = [turn for dialogue in dialogues for turn in dialogue.turns[:max_turns]]
        self._first_turn = np.cumsum([0, *(len(dialogue.turns[:max_turns]) for dialogue in dialogues)])
        self._labels = np.array([turn.values for turn in turns], dtype=np.int16)
        self._labels[:, list(missing_slots)] = MISSING
        encoded: list[Any] = [None] * len(turns)
        self.truncated = 0
        for has_system in (False, True):
            positions = [i for i, turn in enumerate(turns) if bool(turn.system.strip()) == has_system]
            if not positions:
                continue
            texts = [[turns[i].user for i in positions]]
            if has_system:
                texts.append([turns[i].system for i in positions])
            batch = tokenizer(*texts, truncation="longest_first", max_length=max_length, return_token_type_ids=True)
            for position, encoding in zip(positions, batch.encodings):
                encoded[position] = (encoding.ids, encoding.type_ids)
                self.truncated += bool(encoding.overflowing)
        self._first_token = np.cumsum([0, *(len(ids) for ids, _ in encoded)])
        self._tokens = np.fromiter((i for ids, _ in encoded for i in ids), dtype=np.int32)
        self._segments = np.fromiter((i for _, types in encoded for i in types), dtype=np.int8)

    def token_ids(self, start: int, stop: int) -> Tokens:
        """Return the word pieces of consecutive dialogues."""
        ends = self._first_token[self._first_turn[start : stop + 1]]
        return Tokens(self._tokens[ends[0] : ends[-1]].astype(np.int64), np.diff(ends))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> EncodedDialogue:
        first, end = int(self._first_turn[index]), int(self._first_turn[index + 1])
        spans = list(pairwise(self._first_token[first : end + 1].tolist()))
        return EncodedDialogue(
            self.ids[index],
            [self._tokens[a:b] for a, b in spans],
            [self._segments[a:b] for a, b in spans],
            self._labels[first:end],
        )


@dataclass
class TurnGroup:
    """Turns of similar length, padded to the longest.

    Attributes:
        input_ids: Word-piece ids, shape ``(turns, length)``.
        token_type_ids: Segment ids, same shape.
        attention_mask: 1 for word pieces, 0 for padding, same shape.
    """

    input_ids: Tensor
    token_type_ids: Tensor
    attention_mask: Tensor


@dataclass
class TurnBatch:
    """The turns of a batch of dialogues: no padding turns, and little padding within turns.

    Turns are in packed order, as recurrent networks read them: all first turns, then all second turns, and so on, the
    longest dialogue first.

    Attributes:
        groups: The turns, grouped by length.
        cells: For each word piece, its cell in the flattened, concatenated groups; shape ``(word pieces,)``.
        order: For each turn in packed order, its row in the concatenated groups; shape ``(turns,)``.
        active: For each turn index, the number of dialogues that have such a turn; non-increasing.
        labels: Value indices or ``MISSING`` in packed order, shape ``(turns, slots)``.
        ids: The ids of the dialogues, the longest first.
        positions: For each of ``ids``, the position of its dialogue among those given to the collator.
        dialogue: For each turn in packed order, the index of its dialogue in ``ids``.
    """

    groups: list[TurnGroup]
    cells: Tensor
    order: Tensor
    active: list[int]
    labels: Tensor
    ids: list[str]
    positions: list[int]
    dialogue: list[int]


class TurnCollator:
    """Makes a ``TurnBatch`` from dialogues.

    Args:
        pad_token_id: The tokenizer's padding token.
        max_padding: Maximum share of padding among the cells of the groups.
    """

    def __init__(self, pad_token_id: int, max_padding: float = 0.1):
        self.pad_token_id = pad_token_id
        self.max_padding = max_padding

    def __call__(self, dialogues: list[EncodedDialogue]) -> TurnBatch:
        """Group, pad and pack the turns."""
        # sorted is stable: dialogues of the same length keep their order
        positions = sorted(range(len(dialogues)), key=lambda position: -len(dialogues[position].tokens))
        dialogues = [dialogues[position] for position in positions]
        longest = len(dialogues[0].tokens)
        active = [sum(len(dialogue.tokens) > t for dialogue in dialogues) for t in range(longest)]
        packed = [(d, t) for t, count in enumerate(active) for d in range(count)]
        lengths = np.array([len(dialogues[d].tokens[t]) for d, t in packed])
        by_length = np.argsort(-lengths, kind="stable")
        groups = []
        for start, end in group_by_length(lengths[by_length], self.max_padding):
            rows = [packed[i] for i in by_length[start:end]]
            groups.append(self._group([(dialogues[d].tokens[t], dialogues[d].segments[t]) for d, t in rows]))
        cells = torch.cat([group.attention_mask.flatten() for group in groups]).nonzero().flatten()
        order = np.empty(len(packed), dtype=np.int64)
        order[by_length] = np.arange(len(packed))
        labels = np.stack([dialogues[d].labels[t] for d, t in packed]).astype(np.int64)
        return TurnBatch(
            groups,
            cells,
            torch.from_numpy(order),
            active,
            torch.from_numpy(labels),
            [dialogue.id for dialogue in dialogues],
            positions,
            [d for d, _ in packed],
        )

    def _group(self, turns: list[tuple[npt.NDArray[np.int32], npt.NDArray[np.int8]]]) -> TurnGroup:
        shape = (len(turns), len(turns[0][0]))  # the first turn is the longest
        tokens = np.full(shape, self.pad_token_id, dtype=np.int64)
        segments, mask = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        for row, (ids, types) in enumerate(turns):
            tokens[row, : len(ids)], segments[row, : len(ids)], mask[row, : len(ids)] = ids, types, 1
        return TurnGroup(torch.from_numpy(tokens), torch.from_numpy(segments), torch.from_numpy(mask))

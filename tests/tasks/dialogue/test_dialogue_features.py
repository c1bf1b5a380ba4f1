"""Features and batches: every word piece of every turn once, in its place, and little padding."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from dialogue_files import encoded
from hypothesis import given
from hypothesis import strategies as st

from gradual.nn.encoder import load_tokenizer
from gradual.nn.grouping import group_by_length
from gradual.tasks.dialogue.data import Dialogue, Turn
from gradual.tasks.dialogue.demo import write_demo_data
from gradual.tasks.dialogue.features import MISSING, DialogueFeatures, TurnCollator

WORDS = ["i", "need", "a", "cheap", "bed", "for", "two", "nights", "in", "the", "north", "please", "which", "day", "7"]


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    write_demo_data(folder, train=2, dev=1, test=1, out_of_domain=2)
    return load_tokenizer(str(folder / "encoder"))


def text(length, seed):
    return " ".join(np.random.default_rng(seed).choice(WORDS, length))


def dialogues(sizes):
    """Dialogues of turns with so many words of user and system, and values that tell all turns and slots apart."""
    numbers = itertools.count()
    return [
        Dialogue(f"D{d}", [Turn(text(u, n), text(s, n + 1000), (n, n + 100, n + 200)) for n, (u, s) in zip(numbers, t)])
        for d, t in enumerate(sizes)
    ]


SIZES = [
    [(3, 0), (5, 9), (1, 2)],
    [(90, 0), (90, 4), (4, 90), (70, 80), (40, 40), (30, 31), (35, 60), (61, 1), (62, 1)],
    [(0, 0), (0, 5), (0, 100)],
    [(62, 0), (63, 0)],
]


# ---------------------------------------------------------------------------------------------------------- features


def test_turns_are_what_the_tokenizer_makes_of_each_alone(tokenizer):
    corpus = dialogues(SIZES)
    features = DialogueFeatures(corpus, tokenizer)
    assert len(features) == len(corpus)
    assert features.ids == [dialogue.id for dialogue in corpus]
    longer = 0
    for index, dialogue in enumerate(corpus):
        example = features[index]
        assert example.id == dialogue.id
        assert len(example.tokens) == len(example.segments) == len(dialogue.turns)
        for turn, tokens, segments in zip(dialogue.turns, example.tokens, example.segments):
            pair = (turn.user, turn.system) if turn.system else (turn.user,)
            alone = tokenizer(*pair, truncation="longest_first", max_length=64)
            assert tokens.tolist() == alone["input_ids"]
            assert segments.tolist() == alone["token_type_ids"]
            longer += len(tokenizer(*pair)["input_ids"]) > 64
        assert example.labels.tolist() == [list(turn.values) for turn in dialogue.turns]
    assert features.truncated == longer > 0


@pytest.mark.parametrize("max_length", [64, 20, 9])
def test_the_longer_part_is_cut_first(tokenizer, max_length):
    """From the description: cut at the end, to exactly the limit, and only the part that is longer than the other."""
    start, end = tokenizer.cls_token_id, tokenizer.sep_token_id
    corpus = dialogues(SIZES)
    features = DialogueFeatures(corpus, tokenizer, max_length)
    for index, dialogue in enumerate(corpus):
        for turn, tokens, segments in zip(dialogue.turns, features[index].tokens, features[index].segments):
            parts = [tokenizer(part, add_special_tokens=False)["input_ids"] for part in (turn.user, turn.system)]
            tokens = tokens.tolist()
            ends = [i for i, token in enumerate(tokens) if token == end]
            assert tokens[0] == start
            assert ends[-1] == len(tokens) - 1
            kept = [tokens[1 : ends[0]], tokens[ends[0] + 1 : -1]]
            assert len(ends) == (2 if turn.system else 1)
            assert segments.tolist() == [0] * (ends[0] + 1) + [1] * (len(tokens) - ends[0] - 1)
            for part, rest in zip(kept, parts):
                assert part == rest[: len(part)]
            assert len(tokens) == min(max_length, 1 + sum(map(len, parts)) + len(ends))
            for (part, whole), other in zip(zip(kept, parts), reversed(kept)):
                assert len(part) == len(whole) or len(part) >= len(other) - 1


def test_a_system_response_of_blanks_is_none(tokenizer):
    features = DialogueFeatures([Dialogue("D", [Turn("i need a bed", "  ", (0,))])], tokenizer)
    assert features[0].tokens[0].tolist() == tokenizer("i need a bed")["input_ids"]


def test_later_turns_are_left_out(tokenizer):
    corpus = dialogues([[(n + 1, n) for n in range(turns)] for turns in (3, 1, 5, 2)])
    whole, cut = DialogueFeatures(corpus, tokenizer), DialogueFeatures(corpus, tokenizer, max_turns=2)
    for index, turns in enumerate((2, 1, 2, 2)):
        assert len(cut[index].tokens) == len(cut[index].segments) == len(cut[index].labels) == turns
        for part in ("tokens", "segments"):
            for mine, same in zip(getattr(cut[index], part), getattr(whole[index], part)):
                assert mine.tolist() == same.tolist()
        assert cut[index].labels.tolist() == whole[index].labels[:turns].tolist()
    long = DialogueFeatures(dialogues([[(1, 1)] * 30]), tokenizer)
    assert len(long[0].tokens) == len(long[0].labels) == 30


def test_missing_slots_have_no_label_anywhere(tokenizer):
    corpus = dialogues(SIZES)
    features = DialogueFeatures(corpus, tokenizer, missing_slots=[0, 2])
    for index, dialogue in enumerate(corpus):
        assert features[index].labels.tolist() == [[MISSING, turn.values[1], MISSING] for turn in dialogue.turns]


# ----------------------------------------------------------------------------------------------------------- batches

lengths_of_turns = st.lists(st.lists(st.integers(1, 64), min_size=1, max_size=6), min_size=1, max_size=6)
shares = st.one_of(st.sampled_from([0.0, 0.1, 1.0]), st.floats(0, 1))


def unpack(batch):
    """The turns of each dialogue as (word pieces, segments, labels), rebuilt from groups, order and active."""
    rows = []
    for group in batch.groups:
        assert group.input_ids.shape == group.token_type_ids.shape == group.attention_mask.shape
        for ids, segments, mask in zip(group.input_ids, group.token_type_ids, group.attention_mask):
            length = int(mask.sum())
            assert mask.tolist() == [1] * length + [0] * (len(mask) - length), "padding only at the end"
            rows.append((ids[:length].tolist(), segments[:length].tolist()))
    assert sorted(batch.order.tolist()) == list(range(len(rows)))
    turns = [[] for _ in batch.ids]
    position = 0
    for count in batch.active:
        for dialogue in range(count):
            turns[dialogue].append((*rows[batch.order[position]], batch.labels[position].tolist()))
            assert batch.dialogue[position] == dialogue
            position += 1
    assert position == len(rows) == len(batch.labels) == len(batch.dialogue)
    return dict(zip(batch.ids, turns, strict=True))


@given(lengths=lengths_of_turns, max_padding=shares)
def test_every_word_piece_is_in_its_place_and_padding_within_its_share(lengths, max_padding):
    examples = encoded(lengths, missing=0.2)
    batch = TurnCollator(pad_token_id=3, max_padding=max_padding)(examples)
    expected = {
        example.id: [
            (tokens.tolist(), segments.tolist(), labels.tolist())
            for tokens, segments, labels in zip(example.tokens, example.segments, example.labels)
        ]
        for example in examples
    }
    assert unpack(batch) == expected
    real = sum(map(sum, lengths))
    total = sum(group.input_ids.numel() for group in batch.groups)
    assert (total - real) / total <= max_padding + 1e-9
    if max_padding == 1:
        assert len(batch.groups) == 1


def test_padding_is_the_tokenizers_and_of_the_first_segment():
    batch = TurnCollator(pad_token_id=3, max_padding=1)(encoded([[2, 7], [4]]))
    (group,) = batch.groups
    assert group.input_ids.shape == (3, 7)
    padded = group.attention_mask == 0
    assert padded.sum() == 3 * 7 - 2 - 7 - 4
    assert group.input_ids[padded].unique().tolist() == [3]
    assert group.token_type_ids[padded].unique().tolist() == [0]


def test_packed_order_is_what_torch_packs():
    """The longest dialogue first; of equally long ones, the one that came first."""
    examples = encoded([[5, 5], [5, 5, 5, 5], [5], [5, 5]])
    batch = TurnCollator(pad_token_id=0)(examples)
    by_length = [examples[i] for i in (1, 0, 3, 2)]
    assert batch.ids == [example.id for example in by_length]
    assert batch.positions == [1, 0, 3, 2]
    labels = [torch.from_numpy(example.labels.astype(np.int64)) for example in by_length]
    packed = torch.nn.utils.rnn.pack_sequence(labels)
    assert batch.active == packed.batch_sizes.tolist() == [4, 3, 1, 1]
    assert batch.labels.dtype == torch.int64
    assert torch.equal(batch.labels, packed.data)


# ------------------------------------------------------------------------------------------------------------ groups


def padded_size(lengths, groups):
    return sum((end - start) * lengths[start] for start, end in groups)


def best_cut(lengths, max_padding):
    """The fewest groups and the least number of tokens for so many, from all cuts there are."""
    for cuts in range(len(lengths)):
        sizes = [
            padded_size(lengths, itertools.pairwise([0, *places, len(lengths)]))
            for places in itertools.combinations(range(1, len(lengths)), cuts)
        ]
        if Fraction(min(sizes) - sum(lengths), min(sizes)) <= Fraction(max_padding):
            return cuts + 1, min(sizes)
    raise AssertionError("a group for each turn needs no padding")


# shares that floats hold exactly: none of them is a question of rounding
@given(
    lengths=st.lists(st.integers(1, 64), min_size=1, max_size=9),
    max_padding=st.sampled_from([0, 1 / 64, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1]),
)
def test_groups_are_the_fewest_and_of_those_the_least_padded(lengths, max_padding):
    lengths = sorted(lengths, reverse=True)
    groups = group_by_length(np.array(lengths), max_padding)
    assert [start for start, _ in groups] + [len(lengths)] == [0] + [end for _, end in groups], "one after the other"
    assert all(start < end for start, end in groups)
    assert (len(groups), padded_size(lengths, groups)) == best_cut(lengths, max_padding)


def test_groups_by_hand():
    lengths = np.array([10, 10, 9, 5, 5, 4])  # 43 tokens; one group pads to 60, cut after the third to 30 + 15
    assert group_by_length(lengths, 0.3) == [(0, 6)]
    assert group_by_length(lengths, 0.1) == [(0, 3), (3, 6)]
    assert group_by_length(lengths, 0) == [(0, 2), (2, 3), (3, 5), (5, 6)]
    assert group_by_length(np.array([8, 6]), 2 / 16) == [(0, 2)], "its share may be used up"

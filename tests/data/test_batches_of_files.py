"""Batches of examples from files: how many tokens they hold, padding, types and labels."""

import numpy as np
import pytest
import torch
from tokenized_files import ROWS, WORDS, save_tokenizer, write
from transformers import AutoTokenizer

from gradual.data.collate import PaddingCollator


def test_integers_that_no_tensor_holds_stay_a_list(module, put):
    file = put("a.jsonl", f'{{"n": {2**64 - 1}, "m": [1]}}\n{{"n": 0, "m": [{2**62}, 2]}}\n')
    (batch,) = module(in_domain=file, val=file).val_dataloader()
    assert batch["n"] == [2**64 - 1, 0]
    assert np.array_equal(batch["m"], [[1, 0], [2**62, 2]])


def test_batches_may_hold_a_number_of_tokens(make, tmp_path):
    file, pool = write(tmp_path / "a.jsonl", ROWS[:5]), write(tmp_path / "pool.jsonl", ROWS)
    data = make(file, pool, tokens=True, batch_tokens=20)
    data.schedule = [8]
    tokens = [int(batch["attention_mask"].sum()) for batch in data.train_dataloader()]
    drawn = [min(6, 1 + index % 7) for index in [*range(5), *data.sample()]]
    assert sum(tokens) == sum(drawn)
    assert len(tokens) == -(-sum(drawn) // 20)
    given = make(write(tmp_path / "b.jsonl", [{"n": 3}, {"n": 2}]), length_column="n", batch_tokens=3)
    assert sorted(batch["n"].sum().item() for batch in given.train_dataloader()) == [2, 3]


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_batch_is_padded_to_its_longest(tmp_path, side):
    save_tokenizer(tmp_path, ["[UNK]", "[PAD]", *WORDS], padding_side=side)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    texts = ["the cat", "a b c d", "dog"]
    batch = PaddingCollator(tokenizer)([{**tokenizer(text), "text": text, "label": 1.5, "ok": True} for text in texts])
    expected = tokenizer(texts, padding=True, return_tensors="pt")
    assert set(batch) == {*expected, "text", "label", "ok"}
    for name, tensor in expected.items():
        assert torch.equal(batch[name], tensor), name
    assert batch["text"] == texts
    assert batch["label"].tolist() == [1.5] * 3
    assert batch["ok"].tolist() == [True] * 3


def test_labels_of_tokens_are_padded_with_what_the_loss_leaves_out():
    batch = PaddingCollator()([{"labels": [1], "extra": [1]}, {"labels": [2, 3], "extra": []}])
    assert batch["labels"].tolist() == [[1, -100], [2, 3]]
    assert batch["extra"].tolist() == [[1], [0]]
    ragged = PaddingCollator()([{"nested": [[1]], "missing": None}, {"nested": [], "missing": 1}])
    assert ragged == {"nested": [[[1]], []], "missing": [None, 1]}


@pytest.mark.parametrize(
    ("rows", "dtype"),
    [
        ([[], [1, 2]], torch.int64),
        ([[1], []], torch.int64),
        ([[], []], torch.int64),
        ([[1], [2.5]], torch.float32),
        ([[], [2.5], [1]], torch.float32),
        ([[True], [False, True]], torch.bool),
        ([[True], [3]], torch.int64),
    ],
    ids=str,
)
def test_a_column_of_lists_is_of_one_type_whichever_comes_first(rows, dtype):
    column = PaddingCollator()([{"x": row} for row in rows])["x"]
    assert column.dtype == dtype
    longest = max(map(len, rows))
    assert column.tolist() == [row + [0] * (longest - len(row)) for row in rows]


def test_the_label_column_is_padded_as_labels_are_whatever_its_name(make, tmp_path):
    rows = [{"text": "a b", "tags": [1, 2], "other": [1, 2]}, {"text": "a", "tags": [3], "other": [3]}]
    data = make(write(tmp_path / "a.jsonl", rows), val=write(tmp_path / "b.jsonl", rows), label_column="tags")
    (batch,) = data.val_dataloader()
    assert batch["tags"].tolist() == [[1, 2], [3, -100]]
    assert batch["other"].tolist() == [[1, 2], [3, 0]]

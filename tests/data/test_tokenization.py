"""Texts in files are tokenized as their tokenizer does it, and cut to what the model takes."""

import shutil

import numpy as np
import pytest
from row_files import refused
from tokenized_files import ROWS, write
from transformers import AutoTokenizer, BertConfig

import gradual.data.tokenization


def test_text_is_tokenized_as_the_tokenizer_does_it(make, tmp_path, tokenizer_folder):
    data = make(write(tmp_path / "a.jsonl", ROWS), tokens=True)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    for index, row in enumerate(ROWS):
        expected = tokenizer(row["text"], truncation=True, max_length=6)
        assert data.domains.in_domain[index] == {"id": row["id"], "label": row["label"], **expected}
    lengths = [min(6, len(row["text"].split())) for row in ROWS]
    assert data.domains.in_domain.lengths[np.arange(20)].tolist() == lengths
    assert data.statistics()["tokens"]["train (in-domain)"] == sum(lengths)
    short = make(str(tmp_path / "a.jsonl"), tokens=True, max_length=2)
    assert max(short.domains.in_domain.lengths) == 2


def test_two_columns_are_a_pair(make, tmp_path, tokenizer_folder):
    file = write(tmp_path / "a.jsonl", [{"question": "the cat", "text": "sat on"}])
    data = make(file, tokens=True, text_column=["question", "text"])
    expected = AutoTokenizer.from_pretrained(tokenizer_folder)("the cat", "sat on")
    assert data.domains.in_domain[0] == dict(expected)


@pytest.mark.parametrize("processes", [1, 2])
def test_several_processes_tokenize_to_the_same_result(make, tmp_path, monkeypatch, processes):
    monkeypatch.setattr(gradual.data.tokenization, "_ROWS_PER_PROCESS", 5)
    file = write(tmp_path / "a.jsonl", ROWS)
    many = make(file, tokens=True, num_proc=processes).domains.in_domain
    assert [len(row["input_ids"]) for row in many.__getitems__(list(range(20)))] == list(many.lengths)
    assert list(many.lengths) == [min(6, 1 + i % 7) for i in range(20)]


def test_more_tokens_than_the_model_takes(make, tmp_path):
    assert "max_length is 7: " in refused(make(write(tmp_path / "a.jsonl", ROWS), tokens=True, max_length=7))


def test_texts_are_cut_to_what_the_encoder_takes(make, tmp_path, tokenizer_folder):
    shutil.copytree(tokenizer_folder, tmp_path / "encoder")
    BertConfig(max_position_embeddings=4).save_pretrained(tmp_path / "encoder")
    data = make(write(tmp_path / "a.jsonl", ROWS), tokens=True, tokenizer=str(tmp_path / "encoder"))
    assert max(data.domains.in_domain.lengths) == 4

"""Rows of words, files of them, and a tokenizer that knows the words."""

from pathlib import Path

import row_files
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

WORDS = ["a", "b", "c", "d", "the", "cat", "dog", "sat", "ran", "on", "mat"]
ROWS = [{"id": f"n{i}", "text": " ".join(WORDS[: 1 + i % 7]), "label": i % 3} for i in range(20)]


def write(path: Path, rows: list[dict]) -> str:
    """Write a file in the format of its name; returns the name."""
    return str(row_files.write(path, rows, ensure_ascii=False))


def save_tokenizer(folder, words, **settings):
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=6, **settings
    ).save_pretrained(folder)

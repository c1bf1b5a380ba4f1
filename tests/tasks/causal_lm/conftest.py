"""Files of rows in each form and tiny language models."""

import pytest
import torch
from causal_lm_models import ROWS, numbered
from language_files import tokenizer_of, write_model, write_rows
from transformers import BloomConfig, BloomForCausalLM


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The files of an experiment, and a tiny model of each family."""
    folder = tmp_path_factory.mktemp("language")
    for family in ("llama", "gpt2"):
        write_model(folder / family, family)
    write_model(folder / "untied", "gpt2", tie_word_embeddings=False)
    torch.manual_seed(0)
    config = BloomConfig(vocab_size=300, hidden_size=16, n_layer=2, n_head=2, initializer_range=0.2, eos_token_id=1)
    BloomForCausalLM(config).save_pretrained(folder / "bloom")
    tokenizer_of("gpt2").save_pretrained(folder / "bloom")
    for form, rows in ROWS.items():
        for part in ("train", "dev", "test"):
            write_rows(folder / f"{form}.{part}.jsonl", numbered(rows, part))
        write_rows(folder / f"{form}.pool.jsonl", numbered(rows, "pool"))
    return folder

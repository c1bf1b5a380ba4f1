"""What tests of sequence-to-sequence tasks share: tiny random T5 and BART models with tokenizers, and their files."""

import json

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

WORDS = ["ein", "zwei", "drei", "vier", "plus", "und", "one", "two", "three", "four", "and", "translate", ":", "the"]
SPECIAL = ["<pad>", "</s>", "<unk>", "<s>"]
PAIRS = [
    ("ein plus zwei", "one plus two"),
    ("drei", "three"),
    ("zwei und vier und ein plus drei", "two and four and one plus three"),
    ("vier plus vier plus ein", "the four"),
    ("zwei", "two and two and two and two and two"),
    ("ein und ein und ein und ein und ein und ein", "one"),
]


def tokenizer_of(family, **changes):
    """Whole words; T5 ends texts with a token of its own, BART begins them with one, too."""
    known = {word: at for at, word in enumerate(dict.fromkeys([*SPECIAL, *WORDS]))}
    made = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    marks = [(token, known[token]) for token in ("<s>", "</s>")]
    frame = "$A </s>" if family.endswith("t5") else "<s> $A </s>"
    made.post_processor = processors.TemplateProcessing(frame, special_tokens=marks)
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "bos_token": "<s>"}
    return PreTrainedTokenizerFast(tokenizer_object=made, **{**names, "model_max_length": 32, **changes})


def model_of(family, dropout=0.0, **changes):
    """A random model in evaluation mode; one with large weights, as ``large t5``, generates various texts."""
    torch.manual_seed(0)
    size, large = len(tokenizer_of(family)), family.startswith("large")
    if family.endswith("t5"):
        own = {"vocab_size": size, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 2}
        marks = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
        config = T5Config(
            **{**own, **marks, "dropout_rate": dropout, "initializer_factor": 3.0 if large else 1.0, **changes}
        )
        return T5ForConditionalGeneration(config).eval()
    own = {"vocab_size": size, "d_model": 32, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48}
    own |= {f"{part}_{name}": 2 for part in ("encoder", "decoder") for name in ("layers", "attention_heads")}
    marks = {"pad_token_id": 0, "bos_token_id": 3, "eos_token_id": 1, "decoder_start_token_id": 1}
    marks |= {"forced_eos_token_id": None, "max_position_embeddings": 32, "init_std": 0.3 if large else 0.1}
    noise = {"dropout": dropout, "attention_dropout": dropout, "activation_dropout": dropout}
    return BartForConditionalGeneration(BartConfig(**{**own, **marks, **noise, **changes})).eval()


def write_model(folder, family, dropout=0.0, **changes):
    """A folder with a tiny random model and its tokenizer."""
    model_of(family, dropout, **changes).save_pretrained(folder)
    tokenizer_of(family).save_pretrained(folder)
    return folder


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_parts(folder):
    """Files of an experiment in the folder: each part has all pairs."""
    for part in ("train", "pool", "dev", "test"):
        rows = [{"id": f"{part}{at}", "source": s, "target": t} for at, (s, t) in enumerate(PAIRS)]
        write_rows(folder / f"{part}.jsonl", rows)

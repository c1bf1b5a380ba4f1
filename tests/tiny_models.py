"""Folders of tiny random models of ``transformers``, each with a tokenizer of given words, for tests of tasks."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModel,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
)

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
SIZES |= {"max_position_embeddings": 66, "initializer_range": 0.2}
QUIET = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
MARKS = {"pad_token_id": 0, "bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}


def word_tokenizer(words, max_length=64):
    """A tokenizer of whole words, which frames a text as BERT's does."""
    known = {word: at for at, word in enumerate(dict.fromkeys([*SPECIAL, *words]))}
    tokenizer = Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=max_length, **names)


def config_of(kind, size, dropout=False):
    """A configuration of an encoder without dropout, unless it is asked for."""
    quiet = {} if dropout else QUIET
    if kind == "bert":
        return BertConfig(vocab_size=size, **SIZES, **quiet)
    if kind == "electra":
        return ElectraConfig(vocab_size=size, embedding_size=16, summary_last_dropout=0.0, **SIZES, **quiet)
    if kind == "roberta":
        return RobertaConfig(vocab_size=size, type_vocab_size=1, **{**MARKS, "pad_token_id": 0}, **SIZES, **quiet)
    if kind == "modernbert":
        local = {"local_attention": 8, "global_attn_every_n_layers": 2}
        return ModernBertConfig(vocab_size=size, **MARKS, **SIZES, **local)
    assert kind == "distilbert"
    sizes = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 48, "max_position_embeddings": 66}
    return DistilBertConfig(vocab_size=size, **sizes, dropout=0.0, attention_dropout=0.0, seq_classif_dropout=0.0)


def write_model(folder, kind, words, dropout=False, auto=AutoModel):
    """Write a random model of this kind and its tokenizer; returns the folder as text."""
    tokenizer = word_tokenizer(words)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    auto.from_config(config_of(kind, len(tokenizer), dropout)).save_pretrained(folder)
    return str(Path(folder))

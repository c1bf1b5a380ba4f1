"""Encoders and tokenizers as they come from a folder: their type, their spaces, and how much text they take."""

import json

import pytest
import torch
from dialogue_files import tiny_bert
from events_examples import SPECIAL, TEXT, write_bert_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoModel, BertConfig, DebertaV2Config, PreTrainedTokenizerFast, RobertaConfig

from gradual import InputError
from gradual.nn.encoder import (
    architecture_of,
    load_encoder,
    load_model,
    load_tokenizer,
    padding_piece,
    resolve_max_length,
)
from gradual.tasks.dialogue.vectors import text_vectors

WORDS = ["rebels", "shot", "two", "men"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_in_half_precision_are_trained_in_single(tmp_path, dtype):
    size = write_bert_tokenizer(tmp_path, WORDS)
    tiny_bert(vocab_size=size).to(dtype).save_pretrained(tmp_path)
    assert AutoModel.from_pretrained(tmp_path).dtype == dtype, "what transformers makes of such a folder"
    encoder = load_encoder(str(tmp_path))
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}
    assert text_vectors(encoder, load_tokenizer(str(tmp_path)), ["two men"], "mean").dtype == torch.float32


def byte_level(*before):
    """A pre-tokenizer as ModernBERT's: a space belongs to the word behind it, and a text gets none at its start."""
    part = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return pre_tokenizers.Sequence([*before, part]) if before else part


def write_generic_tokenizer(folder, pre_tokenizer, **settings):
    """A tokenizer of no class of its own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=SPECIAL, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(TEXT, trainer)
    settings = {"pad_token": "[PAD]", **settings}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **settings).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("says", [False, True])
@pytest.mark.parametrize(
    "before",
    [[], [pre_tokenizers.Digits()], [pre_tokenizers.Sequence([pre_tokenizers.Digits()]), pre_tokenizers.Digits()]],
    ids=["alone", "in a sequence", "in a sequence of sequences"],
)
def test_words_have_the_space_before_them_in_a_tokenizer_of_the_generic_class(tmp_path, before, says):
    folder = write_generic_tokenizer(tmp_path, byte_level(*before), add_prefix_space=says)
    words, texts = load_tokenizer(folder, words=True), load_tokenizer(folder)
    assert type(words) is type(texts)
    found = words([["shot", "men"]], is_split_into_words=True, add_special_tokens=False)["input_ids"][0]
    assert words.convert_ids_to_tokens(found) == texts.tokenize(" shot men") == ["Ġshot", "Ġmen"]
    assert texts.tokenize("shot men")[0] != "Ġshot", "for texts the tokenizer stays as it was saved"


def tokenizer_of(folder, config, max_length=2000):
    write_bert_tokenizer(folder, WORDS, max_length)
    if config is not None:
        config.save_pretrained(folder)
    return load_tokenizer(str(folder))


LIMITS = {
    "the encoder's": (BertConfig(max_position_embeddings=100), 2000, 100),
    "the tokenizer's": (BertConfig(max_position_embeddings=100), 50, 50),
    "RoBERTa's, which begins behind the padding": (
        RobertaConfig(max_position_embeddings=102, pad_token_id=1),
        2000,
        100,
    ),
    "a tokenizer alone": (None, 2000, 2000),
    "relative positions": (DebertaV2Config(max_position_embeddings=100, position_biased_input=False), 2000, 2000),
    "none": (None, None, None),
}


@pytest.mark.parametrize("kind", LIMITS)
def test_texts_are_no_longer_than_tokenizer_and_encoder_take(tmp_path, kind):
    config, own, limit = LIMITS[kind]
    tokenizer = tokenizer_of(tmp_path, config, 10**30 if own is None else own)
    assert resolve_max_length(tokenizer, str(tmp_path)) == limit
    assert resolve_max_length(tokenizer, str(tmp_path), 30) == 30
    if limit is not None:
        assert resolve_max_length(tokenizer, str(tmp_path), limit) == limit
        with pytest.raises(InputError, match=rf"^max_length is {limit + 1}: '.*' takes at most {limit} word pieces\.$"):
            resolve_max_length(tokenizer, str(tmp_path), limit + 1)


def test_a_tokenizer_without_a_padding_token_is_told_what_it_lacks(tmp_path):
    folder = write_generic_tokenizer(tmp_path, byte_level(), pad_token=None)
    with pytest.raises(InputError, match=r"has no padding token, .* pad_token in its tokenizer_config\.json\.$"):
        padding_piece(load_tokenizer(folder), folder)
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "pad_token": "[MASK]"}))
    assert padding_piece(load_tokenizer(folder), folder) == SPECIAL.index("[MASK]"), "the advice works"


def test_a_model_of_another_type_is_told_from_a_folder_that_holds_none(tmp_path):
    """The same for `init`, which needs no weights, and for training, which loads them."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    said = rf"^'{tmp_path}' is a model of the type bert, which is no AutoModelForSeq2SeqLM\.$"
    with pytest.raises(InputError, match=said):
        architecture_of(str(tmp_path), "AutoModelForSeq2SeqLM")
    with pytest.raises(InputError, match=said):
        load_model(str(tmp_path), "AutoModelForSeq2SeqLM", {})


def test_a_model_whose_code_alone_loads_it_is_told_from_one_of_another_type(tmp_path):
    code = {"model_type": "bert", "auto_map": {"AutoModelForSeq2SeqLM": "own.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(code))
    for refused in (architecture_of, lambda *given: load_model(*given, {})):
        with pytest.raises(InputError, match="comes with Python code of its own, which is not run"):
            refused(str(tmp_path), "AutoModelForSeq2SeqLM")

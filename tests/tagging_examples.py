"""What the tagging tests share: sentences, CoNLL files, and tiny random encoders with tokenizers of their own."""

import random

import torch
from dialogue_files import tiny_bert
from events_examples import write_bert_tokenizer, write_roberta_tokenizer
from transformers import AutoTokenizer, ModernBertConfig, ModernBertModel, RobertaConfig, RobertaModel

PLACES, PEOPLE = ["basra", "mosul", "paris"], ["rebels", "sam", "police"]
OTHERS = ["shot", "met", "in", "near", "two", "men", "and"]
WORDS = [*PLACES, *PEOPLE, *OTHERS]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
QUIET = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def write_encoder(folder, kind="bert", max_length=64, **changes):
    """A folder with a random encoder, of which some words have several pieces, and its tokenizer."""
    torch.manual_seed(0)
    if kind == "roberta":
        write_roberta_tokenizer(folder, max_length)
        sizes = {"vocab_size": 320, "max_position_embeddings": max_length + 2, "pad_token_id": 1}
        model = RobertaModel(RobertaConfig(**SIZES | sizes | changes), add_pooling_layer=False)
    else:
        vocabulary = write_bert_tokenizer(folder, WORDS[::2], max_length)
        sizes = {"vocab_size": vocabulary, "max_position_embeddings": max_length}
        if kind == "bert":
            model = tiny_bert(**SIZES | sizes | {"initializer_range": 0.1} | changes)
        else:
            special = {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
            local = {"global_attn_every_n_layers": 2, "local_attention": 16}
            model = ModernBertModel(ModernBertConfig(**SIZES | sizes | special | local | changes))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    return str(folder)


def sentence(generator, length, types=("PER", "LOC")):
    """Words with tags in IOB2 that follow from the words: names of one or two words, and others."""
    words, tags = [], []
    while len(words) < length:
        kind = generator.choice([*types, None])
        names = {"PER": PEOPLE, "LOC": PLACES, None: OTHERS}[kind]
        size = generator.choice([1, 2]) if kind else 1
        words += [generator.choice(names) for _ in range(size)]
        tags += ["O"] if kind is None else [f"B-{kind}", *[f"I-{kind}"] * (size - 1)]
        if kind:  # so that a name ends where the next one begins
            words.append(generator.choice(OTHERS))
            tags.append("O")
    return words, tags


def sentences(count, seed=0, longest=9, **settings):
    generator = random.Random(seed)
    return [sentence(generator, generator.randint(1, longest), **settings) for _ in range(count)]


def write_conll(path, sentences):
    path.write_text("\n".join("".join(f"{word}\t{tag}\n" for word, tag in zip(*each)) for each in sentences))
    return str(path)

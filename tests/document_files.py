"""The files and models that the documents name, small ones made on the spot: train.jsonl, roberta-base and so on."""

import random

import language_files
import pair_files
import tagging_examples
import tiny_models
from transformers import AutoModelForMaskedLM

GOOD, BAD, OTHER = ["spotless", "kind", "fine"], ["cold", "loud", "broken"], ["the", "room", "was", "and", "staff"]
SIZES = {"train": 40, "pool": 240, "dev": 20, "test": 20, "new": 10}


def write_files(folder, kind):
    """Write the files and the pretrained model of a page about ``texts``, ``tags``, ``pairs`` or ``answers``."""
    {"texts": _texts, "tags": _tags, "pairs": _pairs, "answers": _answers}[kind](folder)


def _texts(folder):
    generator = random.Random(0)
    for part, size in SIZES.items():
        rows = [_review(generator, n) for n in range(size)]
        language_files.write_rows(folder / f"{part}.jsonl", rows)
    for name in ("roberta-base", "PATH"):
        words = [*GOOD, *BAD, *OTHER]
        tiny_models.write_model(folder / name, "roberta", words, auto=AutoModelForMaskedLM)
    language_files.write_model(folder / "Qwen/Qwen3-0.6B", "llama")


def _review(generator, number):
    label = ("positive", "negative")[number % 2]
    words = generator.choices(OTHER, k=4) + generator.choices(GOOD if number % 2 == 0 else BAD, k=2)
    return {"text": " ".join(words), "label": label}


def _tags(folder):
    for seed, (part, size) in enumerate(SIZES.items()):
        tagging_examples.write_conll(folder / f"{part}.txt", tagging_examples.sentences(size, seed=seed))
    tagging_examples.write_encoder(folder / "roberta-base", "roberta")


def _pairs(folder):
    generator = random.Random(0)
    for part, size in SIZES.items():
        words = [generator.choices(pair_files.WORDS, k=3) for _ in range(size)]
        rows = [{"source": " ".join(some), "target": " ".join(reversed(some))} for some in words]
        pair_files.write_rows(folder / f"{part}.jsonl", rows)
    pair_files.write_model(folder / "t5-small", "t5")


def _answers(folder):
    generator = random.Random(0)
    for part, size in SIZES.items():
        texts = generator.choices(language_files.TEXTS, k=size)
        rows = [{"prompt": text.partition(" is")[0], "completion": f" {text.rpartition(' ')[2]}"} for text in texts]
        language_files.write_rows(folder / f"{part}.jsonl", rows)
    language_files.write_model(folder / "HuggingFaceTB/SmolLM2-135M", "llama")

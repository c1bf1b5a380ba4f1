"""What the dialogue tests make and share: a small ontology, writers of the file formats, a tiny random encoder."""

import itertools
import json

import numpy as np
import torch
from transformers import BertConfig, BertModel

from gradual.tasks.dialogue.features import EncodedDialogue

# Neither sorted nor without repetitions, as the real ontology is not.
ONTOLOGY = {
    "hotel-name": ["acorn guest house", "worth house", "do not care", "acorn guest house"],
    "bus-day": ["monday", "tuesday", "none", "do not care", "monday"],
    "hotel-area": ["north", "south", "do not care"],
    "bus-people": ["1", "2", "3"],
}
SLOTS = ["bus-day", "bus-people", "hotel-area", "hotel-name"]
CANDIDATES = {
    "bus-day": ["monday", "tuesday", "do not care", "none"],
    "bus-people": ["1", "2", "3", "none"],
    "hotel-area": ["north", "south", "do not care", "none"],
    "hotel-name": ["acorn guest house", "worth house", "do not care", "none"],
}
HEADER = "\t".join(["# Dialogue ID", "Turn Index", "User Utterance", "System Response", *SLOTS, ""])


def row(id_, index, user, system, state):
    """A row of a dialogue file; `state` maps filled slots to what stands in the file."""
    return "\t".join([id_, str(index), user, system, *(state.get(slot, "none") for slot in SLOTS)])


def rows(dialogues):
    """All rows of `(id, [(user, system, state), ...])`."""
    return [row(id_, index, *turn) for id_, turns in dialogues for index, turn in enumerate(turns)]


def write_dialogues(path, dialogues):
    path.write_text("\n".join([HEADER, *rows(dialogues)]) + "\n", encoding="utf-8")


def write_ontology(path, content=None):
    path.write_text(json.dumps(ONTOLOGY if content is None else content), encoding="utf-8")


def state_of(turn):
    """The filled slots of a turn that was read, without the package's own help."""
    named = {slot: CANDIDATES[slot][index] for slot, index in zip(SLOTS, turn.values, strict=True)}
    return {slot: value for slot, value in named.items() if value != "none"}


def as_written(dialogues):
    """Dialogues that were read, in the form that `write_dialogues` takes."""
    return [(d.id, [(turn.user, turn.system, state_of(turn)) for turn in d.turns]) for d in dialogues]


def tiny_bert(**changes):
    """A random BERT of width 16 without dropout's randomness: in evaluation mode."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 24, "max_position_embeddings": 64, "initializer_range": 0.3}
    return BertModel(BertConfig(**sizes | changes), add_pooling_layer=False).eval()


def encoded(turn_lengths, candidates=(3, 5, 2), seed=0, missing=0.0):
    """Dialogues of random word pieces, their turns of the given lengths, with random labels.

    Args:
        turn_lengths: For each dialogue the lengths of its turns.
        candidates: Number of candidate values of each slot.
        seed: Of the word pieces and labels.
        missing: Share of the labels that are missing.
    """
    random = np.random.default_rng(seed)
    numbers = itertools.count()

    def dialogue(lengths):
        tokens = [random.integers(5, 40, length).astype(np.int32) for length in lengths]
        segments = [(np.arange(length) >= random.integers(1, length + 1)).astype(np.int8) for length in lengths]
        labels = random.integers(0, candidates, (len(lengths), len(candidates)))
        labels[random.random(labels.shape) < missing] = -100
        return EncodedDialogue(f"D{next(numbers)}", tokens, segments, labels.astype(np.int16))

    return [dialogue(lengths) for lengths in turn_lengths]

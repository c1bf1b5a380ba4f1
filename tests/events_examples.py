"""What the event tests make and share beside files: tiny tokenizers and encoders, and random encoded documents."""

import json
import string

import numpy as np
from dialogue_files import tiny_bert
from tokenizers import ByteLevelBPETokenizer, SentencePieceUnigramTokenizer, processors
from transformers import BertTokenizerFast

from gradual.tasks.events.features import EncodedDocument, EncodedSentence
from gradual.tasks.events.labels import LabelSpace

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXT = ["Rebels shot two men near Basra .", "They died in the city , not far from the river ."] * 5
LABELS = LabelSpace(("A", "B", "C"), ("R", "S"), ("E", "F", "G"), ("p", "q", "r", "s"))
OWN = {"ner": 2, "relations": 1, "triggers": 2, "roles": 3}
"""The first so many labels are those of the documents of schema 1."""
ALLOWED = {
    kind: [[True] * len(labels), [at < OWN[kind] for at in range(len(labels))]]
    for kind, labels in LABELS.to_dict().items()
}


# ------------------------------------------------------------------------------------------- tokenizers and encoders


def write_bert_tokenizer(folder, words=(), max_length=64):
    """WordPiece over these words, and over the letters of every other one."""
    letters = string.ascii_lowercase + string.digits + string.punctuation
    vocabulary = dict.fromkeys([*SPECIAL, *letters, *("##" + letter for letter in letters), *words])
    tokenizer = BertTokenizerFast(
        vocab={piece: at for at, piece in enumerate(vocabulary)}, do_lower_case=True, model_max_length=max_length
    )
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def write_encoder(folder, words=(), **changes):
    """A folder with a tokenizer of these words and a random BERT."""
    size = write_bert_tokenizer(folder, words)
    tiny_bert(vocab_size=size, **changes).save_pretrained(folder)
    return str(folder)


def write_roberta_tokenizer(folder, max_length=64):
    """Byte-level BPE, whose words begin with the space before them."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(TEXT, vocab_size=300, special_tokens=special, show_progress=False)
    trained._tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    _write_as_on_a_hub(folder, trained, "roberta", "RobertaTokenizer", max_length)


def write_xlm_roberta_tokenizer(folder, max_length=64):
    """A unigram model, in whose pieces a space is a character of its own kind."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained = SentencePieceUnigramTokenizer()
    trained.train_from_iterator(TEXT, vocab_size=60, special_tokens=special, unk_token="<unk>", show_progress=False)
    trained._tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    _write_as_on_a_hub(folder, trained, "xlm-roberta", "XLMRobertaTokenizer", max_length)


def _write_as_on_a_hub(folder, trained, model_type, tokenizer_class, max_length):
    folder.mkdir(parents=True, exist_ok=True)
    trained.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": tokenizer_class, "model_max_length": max_length}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))


# ------------------------------------------------------------------------------------------ random encoded documents


def encoded_sentence(random, length, room=24, density=0.3, schema=0):
    """A sentence of random word pieces, one to three a token, with random annotations.

    Args:
        random: A generator of numpy.
        length: Tokens.
        room: Word pieces of a window, special ones included; a longer sentence is in overlapping windows.
        density: Annotations of each kind by tokens. Some spans are wider than any model's, some places have two labels.
        schema: Of its labels.
    """
    token = np.repeat(np.arange(length), random.integers(1, 4, length))
    pieces = random.integers(5, 40, len(token)).astype(np.int32)
    inner = room - 2
    starts = [*range(0, max(1, len(pieces) - inner), inner // 2), max(0, len(pieces) - inner)]
    windows = [np.concatenate([[2], pieces[start : start + inner], [3]]).astype(np.int32) for start in starts]
    holders = [[w for w, start in enumerate(starts) if start <= at < start + inner] for at in range(len(pieces))]
    row = np.array([random.choice(those) for those in holders])
    column = np.arange(len(pieces)) - np.array(starts)[row] + 1

    def span():
        return sorted(random.integers(0, length, 2).tolist())

    counts = {kind: sum(rows[schema]) for kind, rows in ALLOWED.items()}

    def label(kind):
        return int(random.integers(counts[kind]))

    count = int(np.ceil(density * length)) if density else 0
    ner = [(*span(), label("ner")) for _ in range(count)]
    relations = [(*span(), *span(), label("relations")) for _ in range(count)]
    triggers = [(int(random.integers(length)), label("triggers")) for _ in range(count)]
    arguments = [(*trigger, *span(), label("roles")) for trigger in triggers for _ in range(2)]
    if triggers:  # one more role of one argument, and one more type of one entity
        arguments.append((*arguments[0][:-1], (arguments[0][-1] + 1) % counts["roles"]))
        ner.append((*ner[0][:-1], (ner[0][-1] + 1) % counts["ner"]))
    rows = [(ner, 3), (relations, 5), (triggers, 2), (arguments, 5)]
    annotations = [np.array(items, dtype=np.int64).reshape(-1, columns) for items, columns in rows]
    return EncodedSentence(windows, row, column, token, length, *annotations)


def encoded_documents(lengths, seed=0, **sentences):
    """Documents whose sentences have these lengths; weights, annotated layers and schemas differ.

    Args:
        lengths: For each document the lengths of its sentences.
        seed: Of everything random.
        sentences: Further arguments of ``encoded_sentence``.
    """
    random = np.random.default_rng(seed)
    layers = [(True, True, True), (True, False, True), (False, True, True), (True, True, False)]
    return [
        EncodedDocument(
            f"D{number}",
            [encoded_sentence(random, length, schema=number % 2, **sentences) for length in own],
            weight=(1.0, 0.5, 2.0)[number % 3],
            layers=layers[number % len(layers)],
            schema=number % 2,
            record="{}",
        )
        for number, own in enumerate(lengths)
    ]

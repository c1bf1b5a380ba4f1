"""What the event tests make and share: documents from plain words, and files of them."""

import json

from gradual.tasks.events.documents import LAYERS, Document, Event, Sentence


def sentence(text, ner=(), relations=(), events=()):
    """A sentence of the words of a text, or of a list of tokens.

    Indices count from its start; an event is `(1, "Die", [(0, 0, "Victim")])`.
    """
    return Sentence(
        text.split() if isinstance(text, str) else list(text), list(ner), list(relations), [Event(*e) for e in events]
    )


def document(id_, *sentences, layers=LAYERS, trigger_end=False, **fields):
    """A document with the record that a file has of it.

    Args:
        id_: Its `doc_key`.
        sentences: What `sentence` makes, or its text.
        layers: Those that the record has.
        trigger_end: Whether a trigger is written as `[start, end, type]`.
        fields: More of the record, such as `weight`.
    """
    sentences = [sentence(s) if isinstance(s, str) else s for s in sentences]
    record = {"doc_key": id_, "sentences": [s.tokens for s in sentences], **{layer: [] for layer in layers}, **fields}
    start = 0
    for s in sentences:
        written = {
            "ner": [[start + a, start + b, label] for a, b, label in s.ner],
            "relations": [[*(start + index for index in spans), label] for *spans, label in s.relations],
            "events": [
                [
                    [start + e.trigger] * (1 + trigger_end) + [e.type],
                    *([start + a, start + b, role] for a, b, role in e.arguments),
                ]
                for e in s.events
            ],
        }
        for layer in layers:
            record[layer].append(written[layer])
        start += len(s.tokens)
    return Document(id_, sentences, fields.get("weight", 1.0), frozenset(layers), record)


def write_documents(path, documents):
    path.write_text("".join(json.dumps(d.record) + "\n" for d in documents), encoding="utf-8")

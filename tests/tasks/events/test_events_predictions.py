"""The records that are predicted are what is decoded, whatever the model has learnt."""

from itertools import chain

import pytest
import torch
from events_corpus import configured, data, predicted

from gradual.tasks.events.loss import decode, heads

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # Lightning's advice


def test_predictions_are_what_is_decoded(folder):
    """Of an untrained model, which is often wrong, in batches of several documents."""
    datamodule = data(folder, eval_batch_size=3)
    model = configured(folder, datamodule)
    with torch.no_grad():
        for name in ("ner", "triggers", "arguments", "relations"):
            model.model.scorers[name].output.bias.normal_(0, 0.3).add_(0.3)
    records = predicted(model, datamodule)
    documents = [datamodule.domains.test[at] for at in range(3)]
    labels = datamodule.labels
    total = 0
    for example, record in zip(documents, records, strict=True):
        batch = datamodule.collate_fn([example])  # alone: a token of the batch is one of the document
        with torch.no_grad():
            found = decode({head.name: head for head in heads(model.model(batch), batch, {})}, batch)
        spans = list(zip(batch.span_start.tolist(), batch.span_end.tolist()))
        tokens = [(token,) for token in range(len(batch.token_sentence))]
        written = {layer: list(chain(*record[f"predicted_{layer}"])) for layer in ("ner", "relations", "events")}
        events = written["events"]
        pairs = [[*event[0][:1], *argument] for event in events for argument in event[1:]]
        for name, kinds, names, rows in [
            ("ner", [spans], labels.ner, written["ner"]),
            ("relations", [spans, spans], labels.relations, written["relations"]),
            ("triggers", [tokens], labels.triggers, [event[0] for event in events]),
            ("arguments", [tokens, spans], labels.roles, pairs),
        ]:
            part = found[name]
            places = zip(*([kind[at] for at in own.tolist()] for kind, own in zip(kinds, part.places, strict=True)))
            expected = {
                (*chain(*place), names[label]): numbers
                for place, label, *numbers in zip(
                    places, part.label.tolist(), part.logit.tolist(), part.probability.tolist(), strict=True
                )
            }
            assert sorted(tuple(row[:-2]) for row in rows) == sorted(expected)
            for row in rows:
                assert row[-2:] == pytest.approx(expected[tuple(row[:-2])], abs=1e-3)
        total += len(pairs)

        bounds = [0]
        for tokens in record["sentences"]:
            bounds.append(bounds[-1] + len(tokens))
        for layer in ("ner", "relations", "events"):
            assert len(record[f"predicted_{layer}"]) == len(record["sentences"])
            for at, own in enumerate(record[f"predicted_{layer}"]):
                for row in own:
                    tokens = row[0][:1] if layer == "events" else [i for i in row if type(i) is int]
                    assert all(bounds[at] <= token < bounds[at + 1] for token in tokens)
    assert total > 5

"""DyGIE++ against the description of it: scores, candidates, losses, predictions and gradients of batches."""

import pytest
import torch
from events_examples import ALLOWED, encoded_documents
from naive_dygie import HEADS, WIDTH, Naive, bucket, naive_gold, place_vector, token_vectors, whole_layer
from tiny_dygie import LENGTHS, collate, make_model
from transformers import RobertaConfig, RobertaModel

from gradual.tasks.events.batch import Pruning
from gradual.tasks.events.loss import as_annotations, decode, heads, loss_of
from gradual.tasks.events.model import ArgumentLinear


def by_place(batch, places):
    """For each row the batch's sentence and the place in it, as the naive model names it."""
    position, sentence = batch.token_position.tolist(), batch.token_sentence.tolist()
    start, end = batch.span_start.tolist(), batch.span_end.tolist()

    def token(index):
        return sentence[index], (position[index],)

    def span(index):
        assert sentence[start[index]] == sentence[end[index]]
        return sentence[start[index]], (position[start[index]], position[end[index]])

    named = [[kind(index) for index in rows.tolist()] for kind, rows in zip(parts(span, token, places), places)]
    for row in zip(*named):
        (owner,) = {sentence for sentence, _ in row}
        yield owner, sum((place for _, place in row), ())


def parts(span, token, places):
    return {"ner": [span], "triggers": [token], "arguments": [token, span], "relations": [span, span]}[places.name]


class Places(tuple):
    """The places of a head, with its name."""

    def __new__(cls, name, places):
        made = super().__new__(cls, places)
        made.name = name
        return made


def assert_as_described(model, documents, naive, allowed, max_padding=0.1, pruning=None):
    """Scores, kept candidates, losses and predictions of a batch are those of each of its sentences alone."""
    batch = collate(documents, max_padding, pruning)
    masks = {kind: torch.tensor(rows) for kind, rows in allowed.items()}
    found = {head.name: head for head in heads(model(batch), batch, masks)}
    assert set(found) == set(HEADS)
    expected = [sentence for document in documents for sentence in naive.logits[document.id]]
    for name, head in found.items():
        scores = [{} for _ in expected]
        for (owner, place), row in zip(by_place(batch, Places(name, head.places)), head.logits, strict=True):
            assert place not in scores[owner], "no row comes twice"
            scores[owner][place] = row
        for own, other in zip(scores, expected):
            assert set(own) == set(other[name]), "other candidates were kept"
            for place, logits in other[name].items():
                torch.testing.assert_close(own[place], logits, rtol=1e-5, atol=1e-5)
        total = sum(naive.losses[document.id][name] for document in documents)
        torch.testing.assert_close(loss_of(head, batch), total, rtol=1e-5, atol=1e-5)

    predicted = [sentence for document in documents for sentence in naive.predicted[document.id]]
    decoded = decode(found, batch)
    for name, rows in decoded.items():
        columns = zip(rows.label.tolist(), rows.logit.tolist(), rows.probability.tolist())
        seen = dict(zip(by_place(batch, Places(name, rows.places)), columns, strict=True))
        naively = {(owner, place): row for owner, own in enumerate(predicted) for place, row in own[name].items()}
        assert set(seen) == set(naively)
        for place, row in seen.items():
            assert row == pytest.approx(naively[place], rel=1e-4, abs=1e-5)
    assert_annotations(as_annotations(decoded, batch), predicted)


def assert_annotations(found, predicted):
    """The rows that the scores compare hold sentence, places and labels, an argument its trigger's type."""
    every = list(enumerate(predicted))
    rows = {
        "ner": {(s, *place, label) for s, own in every for place, (label, *_) in own["ner"].items()},
        "relations": {(s, *place, label) for s, own in every for place, (label, *_) in own["relations"].items()},
        "triggers": {(s, *place, label) for s, own in every for place, (label, *_) in own["triggers"].items()},
        "arguments": {
            (s, token, own["triggers"][token,][0], *span, role)
            for s, own in every
            for (token, *span), (role, *_) in own["arguments"].items()
        },
    }
    for kind, expected in rows.items():
        items = list(map(tuple, getattr(found, kind).tolist()))
        assert sorted(items) == sorted(expected)


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module", params=[False, True], ids=["all labels", "own labels"])
def described(request, model):
    """Documents, what the description says of them, and the masks of their schemas."""
    allowed = ALLOWED if request.param else {}
    documents = encoded_documents(LENGTHS, seed=3)
    with torch.no_grad():
        return documents, Naive(model, documents, Pruning(), allowed), allowed


def test_the_example_is_worth_comparing(described):
    """Something of every kind is predicted and something is not, right and wrong, and something is pruned."""
    documents, naive, allowed = described
    for name in HEADS:
        predicted = sum(len(s[name]) for own in naive.predicted.values() for s in own)
        scored = sum(len(s[name]) for own in naive.logits.values() for s in own)
        labelled = {
            (document.id, at, place)
            for document in documents
            for at, sentence in enumerate(document.sentences)
            for place in naive_gold(sentence)[name]
            if place in naive.logits[document.id][at][name]
        }
        assert 0 < predicted < scored
        assert labelled
        assert any(naive.losses[document.id][name] == 0 for document in documents), "a layer is not annotated"
    infinite = [row.isinf().any() for own in naive.logits.values() for s in own for row in s["ner"].values()]
    assert any(infinite) == bool(allowed)
    assert not all(infinite)
    assert any(len(sentence.windows) > 1 for document in documents for sentence in document.sentences)
    assert {len(s["arguments"]) for own in naive.logits.values() for s in own} >= {1, 15 * 30}


@pytest.mark.parametrize("max_padding", [0, 0.1, 1])
@torch.no_grad()
def test_a_batch_gives_what_the_description_says(model, described, max_padding):
    documents, naive, allowed = described
    assert_as_described(model, documents, naive, allowed, max_padding)


@torch.no_grad()
def test_a_documents_results_do_not_depend_on_its_batch(model, described):
    documents, naive, allowed = described
    for members in [*([document] for document in documents), documents[::-1], documents[1:3], documents[::2]]:
        assert_as_described(model, members, naive, allowed, max_padding=0.5)


@torch.no_grad()
def test_other_numbers_of_candidates(model):
    pruning = Pruning(triggers=0.6, max_triggers=4, arguments=0.2, max_arguments=6, relations=0.25)
    documents = encoded_documents([[1, 13], [6]], seed=4)
    assert_as_described(model, documents, Naive(model, documents, pruning, {}), {}, pruning=pruning)


@torch.no_grad()
def test_an_encoder_that_counts_positions_from_its_padding_piece():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    config = RobertaConfig(vocab_size=40, type_vocab_size=1, pad_token_id=1, initializer_range=0.3, **sizes)
    model = make_model(RobertaModel(config, add_pooling_layer=False).eval())
    documents = encoded_documents([[4, 9], [2, 6]], seed=5)
    batch = collate(documents, max_padding=1, pad_token_id=1)
    assert (batch.groups[0].input_ids == 1).any()
    expected = torch.cat([token_vectors(model.encoder, s) for document in documents for s in document.sentences])
    torch.testing.assert_close(model.encode(batch), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_the_content_of_padding_does_not_matter(model):
    batch = collate(encoded_documents(LENGTHS, seed=3), max_padding=1)
    before = model(batch)
    assert any((group.attention_mask == 0).any() for group in batch.groups)
    for group in batch.groups:
        group.input_ids[group.attention_mask == 0] = 7
    torch.testing.assert_close(vars(model(batch)), vars(before), rtol=1e-5, atol=1e-5)


def test_gradients_are_those_of_the_description(model, described):
    """Of everything that learns: pruners are trained by the scores of the pairs that they keep."""
    documents, _, allowed = described
    documents = [documents[0], documents[1], documents[3]]
    factors = {"ner": 0.5, "triggers": 0.2, "arguments": 1.0, "relations": 0.7}
    batch = collate(documents)
    masks = {kind: torch.tensor(rows) for kind, rows in allowed.items()}
    loss = sum(factors[head.name] * loss_of(head, batch) for head in heads(model(batch), batch, masks))
    naive = Naive(model, documents, Pruning(), allowed)
    expected = sum(factors[name] * part for own in naive.losses.values() for name, part in own.items())
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    names, parameters = zip(*model.named_parameters())
    mine = torch.autograd.grad(loss, parameters)
    theirs = torch.autograd.grad(expected, parameters)
    for name, found, naively in zip(names, mine, theirs, strict=True):
        if name.endswith("key.bias"):  # it shifts all scores of a softmax alike
            continue
        assert naively.abs().max() > 0, f"{name} is not trained at all"
        error = torch.linalg.vector_norm(found - naively) / torch.linalg.vector_norm(naively)
        assert error < 1e-4, name


def test_half_precision_does_not_lose_gradients_of_widths_and_distances():
    """Thousands of spans share a width, and a sum of bfloat16 numbers stops growing at 256 times a number."""
    model = make_model(layers=("ner", "events"))
    every = Pruning(triggers=1, max_triggers=99, arguments=WIDTH, max_arguments=99)  # no choice that rounding changes
    batch = collate(encoded_documents([[20] * 12] * 2), pruning=every)
    gradients = []
    for half in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = sum(loss_of(head, batch) for head in heads(model(batch), batch, {}))
        gradients.append(dict(zip(dict(model.named_parameters()), torch.autograd.grad(loss, model.parameters()))))
    exact, rounded = gradients
    for name, gradient in exact.items():
        if not name.endswith("key.bias"):
            assert torch.linalg.vector_norm(rounded[name] - gradient) < 0.05 * torch.linalg.vector_norm(gradient), name


@torch.no_grad()
def test_the_distance_of_trigger_and_span_is_encoded():
    torch.manual_seed(0)
    layer = ArgumentLinear(width=6, features=5, hidden=7)
    tokens, widths, distances = torch.randn(141, 6), torch.randn(8, 5), torch.randn(10, 5)
    spans = [(start, start + width) for start in range(133) for width in (0, 3, 7)]
    trigger = torch.full((len(spans),), 70)
    start, end = torch.tensor(spans).T
    weight, bias = whole_layer(layer)
    rows = [
        torch.cat([tokens[70], tokens[s], tokens[e], widths[e - s], place_vector(distances, 70, s, e)])
        for s, e in spans
    ]
    expected = torch.stack(rows) @ weight.T + bias
    torch.testing.assert_close(layer(tokens, widths, distances, trigger, start, end), expected, rtol=1e-5, atol=1e-5)
    assert [bucket(distance) for distance in (0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 31, 32, 63, 64, 100)] == (
        [0, 1, 2, 3, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9]
    )

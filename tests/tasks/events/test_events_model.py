"""DyGIE++ against the description of it: each sentence alone, every vector in full, every loss item by item."""

import itertools
import math

import pytest
import torch
from dialogue_files import tiny_bert
from events_examples import ALLOWED, LABELS, encoded_documents
from torch import nn
from transformers import RobertaConfig, RobertaModel

from gradual.tasks.events.batch import Pruning, SentenceCollator
from gradual.tasks.events.documents import LAYERS
from gradual.tasks.events.labels import LabelSpace
from gradual.tasks.events.loss import as_annotations, decode, heads, loss_of
from gradual.tasks.events.model import ArgumentLinear, Dygie, RelationLinear, Scorer, SpanLinear

WIDTH = 4
"""Tokens of a span at most."""
# One token, one of each parity, one that every candidate count reaches its limit in, with every distance there is.
LENGTHS = [[1, 5], [12, 2, 9], [80], [7, 3]]
HEADS = ("ner", "triggers", "arguments", "relations")
LAYER = {"ner": "ner", "triggers": "events", "arguments": "events", "relations": "relations"}
KIND = {"ner": "ner", "triggers": "triggers", "arguments": "roles", "relations": "relations"}


# ------------------------------------------------------------------------------------------- the model, written out


def whole_layer(first):
    """Weight and bias of a first layer on whole vectors, from the parts."""
    if isinstance(first, nn.Linear):
        return first.weight, first.bias
    if isinstance(first, SpanLinear):
        return torch.cat([first.start.weight, first.end.weight, first.width.weight], 1), first.start.bias
    if isinstance(first, ArgumentLinear):
        span, bias = whole_layer(first.span)
        return torch.cat([first.trigger.weight, span, first.place.weight], 1), bias
    one, bias = whole_layer(first.first)
    other, _ = whole_layer(first.second)
    return torch.cat([one, other, first.product.weight], 1), bias


def feed_forward(scorer, vectors):
    """Scores of whole vectors, a row each."""
    weight, bias = whole_layer(scorer.first)
    hidden = (vectors @ weight.T + bias).clamp_min(0)
    hidden = (hidden @ scorer.second.weight.T + scorer.second.bias).clamp_min(0)
    return hidden @ scorer.output.weight.T + scorer.output.bias


def token_vectors(encoder, sentence):
    """Each the mean of its word pieces' states; every window is encoded alone, without padding."""
    states = [
        encoder(input_ids=torch.tensor(window[None].astype("int64"))).last_hidden_state[0]
        for window in sentence.windows
    ]
    pieces = [[] for _ in range(sentence.length)]
    for row, column, token in zip(sentence.row, sentence.column, sentence.token):
        pieces[token].append(states[row][column])
    return torch.stack([sum(own) / len(own) for own in pieces])


def bucket(distance):
    """0, 1, 2, 3, 4, 5-7, 8-15, 16-31, 32-63, 64+."""
    return distance if distance <= 4 else min(int(math.log2(distance)) + 3, 9)


def place_vector(distances, trigger, start, end):
    """The distance's embedding, and whether the trigger is before the span or inside it."""
    inside = start <= trigger <= end
    distance = 0 if inside else min(abs(trigger - start), abs(trigger - end))
    return torch.cat([distances[bucket(distance)], torch.tensor([float(trigger < start), float(inside)])])


def prune(scores, count):
    """The best, in the sentence's order."""
    return sorted(sorted(range(len(scores)), key=lambda item: -scores[item].item())[:count])


def naive_scores(model, sentence, pruning):
    """For each head the scores of the real classes, by what they are about."""
    scorers, widths, distances = model.scorers, model.widths.weight, model.distances.weight
    tokens = token_vectors(model.encoder, sentence)
    length = sentence.length
    spans = [(start, end) for start in range(length) for end in range(start, min(start + WIDTH, length))]
    vectors = torch.stack([torch.cat([tokens[start], tokens[end], widths[end - start]]) for start, end in spans])

    triggers = feed_forward(scorers["trigger_candidates"], tokens)[:, 0]
    kept_triggers = prune(triggers, min(max(int(pruning.triggers * length), 1), pruning.max_triggers))
    arguments = feed_forward(scorers["argument_candidates"], vectors)[:, 0]
    kept_arguments = prune(arguments, min(max(int(pruning.arguments * length), 1), pruning.max_arguments))
    pairs = list(itertools.product(kept_triggers, kept_arguments))
    places = [place_vector(distances, trigger, *spans[span]) for trigger, span in pairs]
    rows = [torch.cat([tokens[t], vectors[span], place]) for (t, span), place in zip(pairs, places)]
    found = feed_forward(scorers["arguments"], torch.stack(rows))
    found = [scores + triggers[trigger] + arguments[span] for scores, (trigger, span) in zip(found, pairs)]

    related = feed_forward(scorers["relation_candidates"], vectors)[:, 0]
    kept = prune(related, math.ceil(pruning.relations * length))
    both = list(itertools.product(kept, kept))
    rows = [torch.cat([vectors[a], vectors[b], vectors[a] * vectors[b]]) for a, b in both]
    relations = feed_forward(scorers["relations"], torch.stack(rows))
    relations = [scores + related[a] + related[b] for scores, (a, b) in zip(relations, both)]
    return {
        "ner": dict(zip(spans, feed_forward(scorers["ner"], vectors))),
        "triggers": dict(zip([(token,) for token in range(length)], feed_forward(scorers["triggers"], tokens))),
        "arguments": {(trigger, *spans[span]): scores for (trigger, span), scores in zip(pairs, found)},
        "relations": {(*spans[a], *spans[b]): scores for (a, b), scores in zip(both, relations)},
    }


def with_null(name, scores, schema, allowed):
    """The null class's score is 0; a class that the schema lacks cannot be."""
    logits = torch.cat([torch.zeros(1), scores])
    if allowed:
        own = [True, *allowed[KIND[name]][schema]]
        logits = torch.where(torch.tensor(own), logits, -math.inf)
    return logits


def naive_gold(sentence):
    """The first label of each place, by head."""
    gold = {name: {} for name in HEADS}
    for *place, label in sentence.ner.tolist():
        gold["ner"].setdefault(tuple(place), label)
    for *place, label in sentence.relations.tolist():
        gold["relations"].setdefault(tuple(place), label)
    for token, label in sentence.triggers.tolist():
        gold["triggers"].setdefault((token,), label)
    for token, _, start, end, role in sentence.arguments.tolist():
        gold["arguments"].setdefault((token, start, end), role)
    return gold


class Naive:
    """What the description says of some documents: logits, losses and predictions of each, a sentence at a time."""

    def __init__(self, model, documents, pruning, allowed):
        self.logits, self.losses, self.predicted = {}, {}, {}
        for document in documents:
            logits = [
                {
                    name: {place: with_null(name, scores, document.schema, allowed) for place, scores in own.items()}
                    for name, own in naive_scores(model, sentence, pruning).items()
                }
                for sentence in document.sentences
            ]
            self.logits[document.id] = logits
            self.losses[document.id] = {name: self.loss(document, logits, name) for name in HEADS}
            self.predicted[document.id] = [self.decode(own) for own in logits]

    @staticmethod
    def loss(document, logits, name):
        total = torch.zeros(())
        for sentence, own in zip(document.sentences, logits):
            gold = naive_gold(sentence)[name]
            for place, scores in own[name].items():
                right = gold[place] + 1 if place in gold else 0
                if document.layers[LAYERS.index(LAYER[name])]:
                    total = total + document.weight * (scores.exp().sum().log() - scores[right])
        return total

    @staticmethod
    def decode(logits):
        """Rows of the best real classes with their logit and probability, by head."""
        found = {}
        for name in HEADS:
            found[name] = {}
            for place, scores in logits[name].items():
                best = max(range(len(scores)), key=lambda label: scores[label].item())
                if best and (name != "arguments" or place[:1] in found["triggers"]):
                    probability = scores[best].exp() / scores.exp().sum()
                    found[name][place] = (best - 1, scores[best].item(), probability.item())
        return found


# ------------------------------------------------------------------------------------------------ what is compared


def make_model(encoder=None, labels=LABELS, layers=LAYERS):
    """A small model in evaluation mode that predicts some of everything."""
    torch.manual_seed(1)
    model = Dygie(encoder or tiny_bert(max_position_embeddings=128), features=5, hidden=12)
    model.add_scorers(labels, WIDTH, layers)
    model.eval()
    with torch.no_grad():
        for parameter in model.scorers.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.4)
        batch = collate(encoded_documents(LENGTHS, seed=8), relations=bool(labels.relations))
        for head in heads(model(batch), batch, {}):
            model.scorers[head.name].output.bias -= head.logits[:, 1:].amax(1).median()  # half of the rows are null
    return model


def collate(documents, max_padding=0.1, pruning=None, relations=True, pad_token_id=0):
    return SentenceCollator(pad_token_id, WIDTH, pruning, relations, max_padding)(documents)


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


# ------------------------------------------------------------------------------------------------------- the tests


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


# ------------------------------------------------------------------------------------------- what there is to learn


@pytest.mark.parametrize(
    ("labels", "layers", "scorers"),
    [
        (LabelSpace(ner=("A",)), LAYERS, {"ner"}),
        (LabelSpace(triggers=("E",)), LAYERS, {"triggers"}),
        (LabelSpace(relations=("R",)), LAYERS, {"relation_candidates", "relations"}),
        (
            LabelSpace(triggers=("E",), roles=("p",)),
            LAYERS,
            {"triggers", "trigger_candidates", "argument_candidates", "arguments"},
        ),
        (LABELS, ("ner",), {"ner"}),
        (LABELS, ("events",), {"triggers", "trigger_candidates", "argument_candidates", "arguments"}),
    ],
    ids=["entities", "triggers", "relations", "arguments", "entities of all", "events of all"],
)
def test_layers_that_the_data_lacks_have_no_parameters(labels, layers, scorers):
    """There is no parameter for it, and every parameter that there is has a gradient, as distributed training needs."""
    model = make_model(labels=labels, layers=layers)
    assert set(model.scorers) == scorers
    documents = encoded_documents([[4, 6]], density=0)
    batch = collate(documents, relations=bool(labels.relations))
    found = {head.name: head for head in heads(model(batch), batch, {})}
    assert set(found) == scorers & set(HEADS)
    sum(loss_of(head, batch) for head in found.values()).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    decode(found, batch)


def test_dropout_is_the_trainings_alone():
    model = Dygie(tiny_bert(), features=5, hidden=9, dropout=0.4)
    model.add_scorers(LABELS, WIDTH)
    batch = collate(encoded_documents([[6, 3]]))
    with torch.no_grad():
        model.eval()
        evaluated = [model(batch).ner for _ in range(2)]
        assert torch.equal(*evaluated)
        model.train()
        assert not torch.equal(model(batch).ner, model(batch).ner)
        model.encoder.eval()
        tokens = model.encode(batch)
        assert torch.equal(tokens, model.encode(batch))
        assert not torch.equal(model(batch).ner, model(batch).ner), "the scorers' own"
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        torch.testing.assert_close(model(batch).ner, evaluated[0])


def test_a_layer_in_parts_begins_as_the_whole_would():
    """Uniform, with the bound of all inputs together; each part alone would begin larger."""
    torch.manual_seed(0)
    width, features, hidden = 100, 20, 150
    span = 2 * width + features
    for layer, inputs in [
        (SpanLinear(width, features, hidden), span),
        (ArgumentLinear(width, features, hidden), width + span + features + 2),
        (RelationLinear(width, features, hidden), 3 * span),
    ]:
        assert whole_layer(layer)[0].shape == (hidden, inputs)
        assert sum(p.numel() for p in layer.parameters()) == hidden * (inputs + 1), "one bias"
        bias_bound = 1 / math.sqrt(inputs)
        for parameter in layer.parameters():
            if parameter.dim() > 1:
                assert_xavier_normal(parameter, inputs + hidden, 0.05)
            else:
                assert 0.95 * bias_bound < parameter.abs().max() <= bias_bound
        parts = [parameter[:, :5] for parameter in layer.parameters() if parameter.dim() > 1]
        assert not any(torch.equal(a, b) for a, b in itertools.combinations(parts, 2))


def assert_xavier_normal(weight, inputs_and_outputs, tolerance=0.02):
    assert weight.std().item() == pytest.approx(math.sqrt(2 / inputs_and_outputs), rel=tolerance)
    kurtosis = (weight / weight.std()).pow(4).mean().item()
    assert kurtosis == pytest.approx(3, rel=3 * tolerance), "normal, not uniform (1.8)"


def test_a_scorers_weights_begin_xavier_normal():
    torch.manual_seed(0)
    scorer = Scorer(nn.Linear(400, 200), 200, 300, 0.4)
    for layer, size in ((scorer.first, 600), (scorer.second, 400), (scorer.output, 500)):
        assert_xavier_normal(layer.weight, size)


def test_embeddings_begin_xavier_normal():
    torch.manual_seed(0)
    model = Dygie(tiny_bert(), features=300)
    labels = LabelSpace(ner=["A"], relations=[], triggers=["T"], roles=["R"])
    model.add_scorers(labels, max_span_width=100)
    assert_xavier_normal(model.widths.weight, 400)
    assert_xavier_normal(model.distances.weight, 310, 0.05)


# ------------------------------------------------------------------------------------------------------------ memory


def kept_for_backward(function, *inputs):
    """Sizes in floats of the tensors that a training step keeps for its gradients, each storage once."""
    storages = {}

    def keep(tensor):
        if not isinstance(tensor, nn.Parameter):
            storages[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = function(*inputs)
    return output, [t.untyped_storage().nbytes() / 4 for t in storages.values()]


def test_span_scorers_keep_their_layers_and_no_span_vectors():
    """Four tensors of spans by hidden and two masks; ``[start; end; width]`` would be ten such tensors here."""
    width, features, hidden, length = 160, 20, 32, 40
    torch.manual_seed(0)
    scorer = Scorer(SpanLinear(width, features, hidden), hidden, 3, dropout=0.4).train()
    batch = SentenceCollator(0)(encoded_documents([[length]] * 4))
    tokens, widths = torch.randn(4 * length, width, requires_grad=True), torch.randn(8, features, requires_grad=True)
    spans = len(batch.span_start)
    assert 7 * 4 * length < spans < 8 * 4 * length
    _, kept = kept_for_backward(scorer, tokens, widths, batch.span_start, batch.span_end)
    assert sorted(kept)[-4:] == [spans * hidden] * 4
    assert kept.count(spans * hidden / 4) == 2, "a byte an element"
    assert sorted(kept)[-5] <= max(tokens.numel(), 2 * spans), "the tokens and indices"

"""The scorers of DyGIE++: which there are, how their weights begin, their dropout, and what they keep in memory."""

import itertools
import math

import pytest
import torch
from dialogue_files import tiny_bert
from events_examples import LABELS, encoded_documents
from naive_dygie import HEADS, WIDTH, whole_layer
from tiny_dygie import collate, make_model
from torch import nn

from gradual.tasks.events.batch import SentenceCollator
from gradual.tasks.events.documents import LAYERS
from gradual.tasks.events.labels import LabelSpace
from gradual.tasks.events.loss import decode, heads, loss_of
from gradual.tasks.events.model import ArgumentLinear, Dygie, RelationLinear, Scorer, SpanLinear


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

"""DyGIE++ written out: each sentence alone, every vector in full, every loss item by item, for comparison."""

import itertools
import math

import torch
from torch import nn

from gradual.tasks.events.documents import LAYERS
from gradual.tasks.events.model import ArgumentLinear, SpanLinear

WIDTH = 4
"""Tokens of a span at most."""
HEADS = ("ner", "triggers", "arguments", "relations")
LAYER = {"ner": "ner", "triggers": "events", "arguments": "events", "relations": "relations"}
KIND = {"ner": "ner", "triggers": "triggers", "arguments": "roles", "relations": "relations"}


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

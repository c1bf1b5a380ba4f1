"""Spans of tags: as seqeval reads them, as a count one by one finds them, and as each scheme writes them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import BILOU, IOB1, IOB2, IOBES, Entities

from gradual.tasks.token_classification.scores import SpanScores, TagScores
from gradual.tasks.token_classification.spans import (
    SchemeEvidence,
    SpanTags,
    are_spans,
    find_spans,
    parse_tag,
    tag_of,
    written_in,
)

STRICT = {"IOB1": IOB1, "IOB2": IOB2, "BIOES": IOBES, "BILOU": BILOU}
TAGS = ["O", *(f"{letter}-{type_}" for letter in "BIES" for type_ in ("PER", "a-b", "B"))]
SENTENCES = st.lists(st.lists(st.sampled_from(TAGS), max_size=8), min_size=1, max_size=4)
TYPES = ["LOC", "PER"]


def numbers(sentences, tags):
    """Sentences of tags as indices, and the sentence of each word."""
    flat = [tags.index(tag) for sentence in sentences for tag in sentence]
    owner = [index for index, sentence in enumerate(sentences) for _ in sentence]
    return torch.tensor(flat, dtype=torch.long), torch.tensor(owner, dtype=torch.long)


def positions(sentences):
    """Sentences of tags as positions and types, and the sentence of each word."""
    tags = sorted({tag for sentence in sentences for tag in sentence})
    flat, owner = numbers(sentences, tags)
    parsed = SpanTags.of(tags)
    return parsed.position[flat], parsed.type[flat], owner, parsed.types


def listed(sentences):
    """All spans: sentence, first word and last word in it, type."""
    position, type_, owner, types = positions(sentences)
    spans = find_spans(position, type_, owner)
    starts = {index: owner.tolist().index(index) for index in set(owner.tolist())}
    return [
        (
            owner[at].item(),
            at - starts[owner[at].item()],
            spans.end[at].item() - starts[owner[at].item()],
            types[type_[at]],
        )
        for at in spans.first.nonzero().flatten().tolist()
    ]


@given(SENTENCES)
def test_spans_are_those_that_seqeval_reads(sentences):
    expected = [
        (index, first, last, type_)
        for index, sentence in enumerate(sentences)
        for type_, first, last in get_entities(sentence)
    ]
    assert listed(sentences) == expected


@st.composite
def outlines(draw):
    """Sentences as lists of spans and of words outside: each a type or None, and a number of words."""
    piece = st.tuples(st.sampled_from([None, *TYPES]), st.integers(1, 3))
    return draw(st.lists(st.lists(piece, max_size=5), min_size=1, max_size=4))


def write(outline, scheme):
    """The tags of an outline, written piece by piece by the rules of a scheme."""
    tags, before = [], None
    for type_, size in outline:
        if type_ is None:
            letters = "O" * size
        elif scheme == "IOB1":
            letters = ("B" if before == type_ else "I") + "I" * (size - 1)
        elif scheme == "IOB2":
            letters = "B" + "I" * (size - 1)
        else:
            single, last = ("S", "E") if scheme == "BIOES" else ("U", "L")
            letters = single if size == 1 else "B" + "I" * (size - 2) + last
        tags += [letter if letter == "O" else f"{letter}-{type_}" for letter in letters]
        before = type_
    return tags


def spans_of(outline):
    place = 0
    for type_, size in outline:
        if type_ is not None:
            yield place, place + size - 1, type_
        place += size


@given(outlines())
def test_each_scheme_is_read_and_every_other_is_written_from_it(outline):
    expected = [(index, *span) for index, sentence in enumerate(outline) for span in spans_of(sentence)]
    for scheme in STRICT:
        sentences = [write(sentence, scheme) for sentence in outline]
        assert listed(sentences) == expected
        position, type_, owner, types = positions(sentences)
        spans = find_spans(position, type_, owner)
        for other in STRICT:
            tags = written_in(other, spans, owner)
            found = [tag_of(at, types[kind] if at else "", other) for at, kind in zip(tags.tolist(), type_.tolist())]
            assert found == [tag for sentence in outline for tag in write(sentence, other)]


@given(outlines(), st.sampled_from(sorted(STRICT)))
def test_the_scheme_is_found(outline, scheme):
    sentences = [write(sentence, scheme) for sentence in outline]
    tags = {tag for sentence in sentences for tag in sentence}
    evidence = SchemeEvidence.of(tags)
    for sentence in sentences:  # in two parts, which must not matter
        position, type_, owner, _ = positions([sentence])
        evidence.add(position, type_, owner)
    assert evidence.broken == 0
    if evidence.scheme != scheme:  # nothing tells them apart, so both read the same
        for name in (scheme, evidence.scheme):
            strict = Entities(sentences, STRICT[name]).entities
            assert [(e.start, e.end - 1, e.tag) for found in strict for e in found] == [
                (first, last, type_) for sentence in outline for first, last, type_ in spans_of(sentence)
            ]


@pytest.mark.parametrize(
    ("sentence", "scheme", "broken"),
    [
        ("I-PER I-PER O I-LOC", "IOB1", 0),
        ("I-PER B-PER O I-LOC", "IOB1", 0),
        ("B-PER I-PER O B-LOC O", "IOB2", 0),
        ("B-PER O", "IOB2", 0),
        ("B-PER I-PER O B-LOC O I-PER", "IOB2", 1),
        ("I-PER O I-PER O B-LOC", "IOB1", 1),
        ("B-PER E-PER S-LOC", "BIOES", 0),
        ("B-PER O I-PER E-PER", "BIOES", 2),
        ("U-PER B-LOC L-LOC", "BILOU", 0),
        ("O O", "IOB2", 0),
    ],
)
def test_the_scheme_of_a_sentence(sentence, scheme, broken):
    tags = sentence.split()
    evidence = SchemeEvidence.of(set(tags))
    position, type_, owner, _ = positions([tags])
    evidence.add(position, type_, owner)
    assert (evidence.scheme, evidence.broken) == (scheme, broken)


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ({"O", "B-PER"}, True),
        ({"I-PER", "B-PER"}, True),
        ({"O", "B", "I"}, True),
        ({"O"}, False),
        ({"NOUN", "VERB", "X"}, False),
        ({"B", "I"}, False),
        ({"O", "B-PER", "PER"}, False),
        ({"O", "B-PER", "I"}, False),
        ({"B-PER", "NN"}, False),
        ({"S-", "O"}, False),
    ],
)
def test_tags_that_are_spans(tags, spans):
    assert are_spans(tags) is spans


def test_what_a_tag_says():
    assert parse_tag("B-a-b") == (1, "a-b")
    assert parse_tag("L-x") == parse_tag("E-x") == (3, "x")
    assert parse_tag("S") == (4, "")
    assert parse_tag("O") == (0, "")
    assert parse_tag("NN") is parse_tag("B-") is parse_tag("X-PER") is None


# Scores


@st.composite
def two_readings(draw):
    """Predicted and gold tags of the same words."""
    words = st.lists(st.tuples(st.sampled_from(TAGS), st.sampled_from(TAGS)), max_size=7)
    return draw(st.lists(words, min_size=1, max_size=5))


def brute_force(predicted, gold):
    """Correct, predicted and gold spans, one by one."""
    found, right = set(listed(predicted)), set(listed(gold))
    return len(found & right), len(found), len(right)


def scores_of(predicted, gold, batches=1, **settings):
    """The scores, of batches that are summed as processes sum them."""
    parts = []
    for start in range(batches):
        metric = SpanScores(TAGS, **settings)
        (p, owner), (g, _) = (numbers(side[start::batches], TAGS) for side in (predicted, gold))
        metric.update(p, g, owner, torch.tensor(1.5 * len(p)))
        parts.append(metric)
    for other in parts[1:]:
        parts[0].merge_state(other)
    return {name: value.item() for name, value in parts[0].compute().items()}


@pytest.mark.filterwarnings("ignore:.*ill-defined.*")
@given(two_readings(), st.integers(1, 3))
def test_scores_are_those_of_seqeval_and_of_a_count(pairs, batches):
    predicted, gold = ([[pair[side] for pair in words] for words in pairs] for side in (0, 1))
    scores = scores_of(predicted, gold, batches, per_type=True)
    for name, score in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
        assert scores[name] == pytest.approx(score(gold, predicted, zero_division=0))
    right, found, wanted = brute_force(predicted, gold)
    assert scores["f1"] == pytest.approx(2 * right / max(1, found + wanted))
    for type_ in ("PER", "a-b", "B"):
        sides = [
            [[tag if tag.endswith(f"-{type_}") else "O" for tag in words] for words in side]
            for side in (predicted, gold)
        ]
        right, found, wanted = brute_force(*sides)
        assert scores[f"f1/{type_}"] == pytest.approx(2 * right / max(1, found + wanted))
        assert scores[f"precision/{type_}"] == pytest.approx(right / max(1, found))
        assert scores[f"recall/{type_}"] == pytest.approx(right / max(1, wanted))
    if any(pairs):
        assert scores["loss"] == pytest.approx(1.5)


@given(two_readings())
def test_the_scores_of_sentences_sum_to_those_of_the_data(pairs):
    predicted, gold = ([[pair[side] for pair in words] for words in pairs] for side in (0, 1))
    ids = [f"s{index}" for index in range(len(pairs))]
    (p, owner), (g, _) = (numbers(side, TAGS) for side in (predicted, gold))
    records = SpanScores(TAGS).of_examples(p, g, owner, ids)
    assert [record["id"] for record in records] == ids
    for record, one, other in zip(records, predicted, gold):
        right, found, wanted = brute_force([one], [other])
        assert record["f1"] == [2 * right, found + wanted]
    plain, metric = TagScores().of_examples(p, g, owner, ids), TagScores()
    metric.update(p, g, owner, torch.tensor(0.0))
    expected = [[sum(a == b for a, b in words), len(words)] for words in pairs]
    assert [record["accuracy"] for record in plain] == expected
    total = sum(len(words) for words in pairs)
    assert metric.compute()["accuracy"].item() == pytest.approx(sum(a for a, _ in expected) / max(1, total))


def test_the_shapes_do_not_depend_on_the_spans():
    """So that a step on a GPU need not wait: tensors without data know all shapes."""
    tags = torch.empty(7, dtype=torch.long, device="meta")
    spans = find_spans(tags, tags, tags)
    assert {getattr(spans, name).shape for name in ("inside", "first", "last", "end", "type")} == {(7,)}

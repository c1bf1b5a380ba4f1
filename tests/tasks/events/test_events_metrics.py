"""The scores of events, entities and relations against Python sets and matching by hand."""

import dataclasses
import io
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradual.tasks.events.documents import LAYERS
from gradual.tasks.events.metrics import Annotations, ExtractionScores, document_scores

LARGEST = 2**31 - 1
COLUMNS = {"ner": 4, "relations": 6, "triggers": 3, "arguments": 6}
EVENT_SCORES = ("trig_id", "trig_c", "arg_id", "arg_c")
SCORES = (*EVENT_SCORES, "ner", "relation")


def annotations(**rows):
    """Rows as the metric takes them; kinds that are not given have none."""
    return Annotations(
        **{
            kind: torch.tensor(rows.get(kind, []), dtype=torch.long).reshape(-1, columns)
            for kind, columns in COLUMNS.items()
        }
    )


def changed(side, change):
    return Annotations(**{kind: change(getattr(side, kind)) for kind in COLUMNS})


def scores_of(batches, layers=LAYERS):
    metric = ExtractionScores(layers)
    for batch in batches:
        metric.update(*batch)
    return {name: value.item() for name, value in metric.compute().items()}


# The same, slowly


def items_of(side, sentences):
    """For each score the items of some sentences, each with what has to agree."""
    rows = {kind: [tuple(row) for row in getattr(side, kind).tolist() if row[0] in sentences] for kind in COLUMNS}
    triggers, arguments = rows["triggers"], rows["arguments"]
    pairs = {(s, trigger, type_, start, end) for s, trigger, type_, start, end, _ in arguments}
    return {
        "trig_id": [(token, token) for token in {(s, token) for s, token, _ in triggers}],
        "trig_c": [(item, item) for item in set(triggers)],
        "arg_id": [(item, (item[0], *item[2:])) for item in pairs],
        "arg_c": [(item, (item[0], *item[2:])) for item in set(arguments)],
        "ner": [(item, item) for item in set(rows["ner"])],
        "relation": [(item, item) for item in set(rows["relations"])],
    }


def naive_counts(predicted, gold, sentences):
    """Right, predicted and gold items by score; a predicted item is right if a gold one agrees with it."""
    predicted, gold = items_of(predicted, sentences), items_of(gold, sentences)
    return {
        name: (
            sum(match in {other for _, other in gold[name]} for _, match in predicted[name]),
            len(predicted[name]),
            len(gold[name]),
        )
        for name in SCORES
    }


def naive_scores(batches):
    scores, losses, sentences = {}, 0.0, 0
    counts = [naive_counts(predicted, gold, range(number)) for predicted, gold, _, number in batches]
    for name in SCORES:
        right, predicted, gold = (sum(count[name][part] for count in counts) for part in range(3))
        precision, recall = right / predicted if predicted else 0, right / gold if gold else 0
        both = precision + recall
        scores |= {f"{name}_precision": precision, f"{name}_recall": min(1, recall)}
        scores[f"{name}_f1"] = min(1, 2 * precision * recall / both) if both else 0
    for *_, loss, number in batches:
        losses, sentences = losses + loss.item(), sentences + number
    return {"loss": losses / sentences if sentences else 0, **scores}


# Batches with few tokens and labels, so that annotations repeat, share triggers and arguments, and nearly match


def spans(draw):
    start = draw(st.integers(0, 2))
    return start, start + draw(st.integers(0, 1))


@st.composite
def rows_of(draw, kind, sentence):
    place, label = st.integers(0, 2), st.integers(0, 1)
    if kind == "ner":
        return sentence, *spans(draw), draw(label)
    if kind == "relations":
        return sentence, *spans(draw), *spans(draw), draw(label)
    if kind == "triggers":
        return sentence, draw(place), draw(label)
    return sentence, draw(place), draw(label), *spans(draw), draw(label)


@st.composite
def batches(draw):
    """What is predicted, what is gold, the loss and the number of sentences; any of them may be empty."""
    number = draw(st.integers(0, 4))
    sides = {"predicted": {}, "gold": {}}
    for kind in COLUMNS:
        rows = st.integers(0, number - 1).flatmap(lambda sentence, kind=kind: rows_of(kind, sentence))
        gold = draw(st.lists(rows, max_size=8)) if number else []
        found = [row for row in gold for _ in range(draw(st.integers(0, 2)))]
        other = draw(st.lists(rows, max_size=6)) if number else []
        sides["gold"][kind], sides["predicted"][kind] = gold, draw(st.permutations(found + other))
    loss = torch.tensor(draw(st.integers(0, 1000)) / 8 if number else 0.0)
    return annotations(**sides["predicted"]), annotations(**sides["gold"]), loss, number


@given(st.lists(batches(), min_size=1, max_size=3))
def test_scores_are_those_of_sets(data):
    scores = scores_of(data)
    assert scores == pytest.approx(naive_scores(data), rel=1e-6)
    assert all(0 <= score <= 1 for name, score in scores.items() if name != "loss")


# By hand

ATTACK, DIE = 0, 1
AGENT, TARGET, PLACE = 0, 1, 2


def test_an_example_by_hand():
    """0: Rebels(0) attacked(1) and(2) shelled(3) the(4) town(5) . 1: Two(0) soldiers(1) died(2) . 2: It rained ."""
    gold = annotations(
        ner=[(0, 0, 0, 0), (0, 4, 5, 1), (1, 0, 1, 0)],
        relations=[(0, 0, 0, 4, 5, 0)],
        triggers=[(0, 1, ATTACK), (0, 3, ATTACK), (1, 2, DIE)],
        arguments=[
            (0, 1, ATTACK, 0, 0, AGENT),
            (0, 1, ATTACK, 4, 5, TARGET),
            (0, 3, ATTACK, 4, 5, TARGET),  # one argument of two events: two items
            (1, 2, DIE, 0, 1, TARGET),
        ],
    )
    predicted = annotations(
        ner=[(0, 0, 0, 0), (0, 4, 5, 0), (1, 1, 1, 0), (2, 0, 0, 0)],  # right; type; span; nothing there
        relations=[(0, 4, 5, 0, 0, 0)],  # the other way round
        triggers=[(0, 1, DIE), (0, 2, ATTACK), (1, 2, DIE), (2, 1, DIE)],  # type; token; right; nothing there
        arguments=[
            (0, 2, ATTACK, 0, 0, AGENT),  # right, though the trigger is elsewhere
            (0, 2, ATTACK, 4, 5, PLACE),  # the role is not
            (0, 1, DIE, 0, 0, AGENT),  # the event type is not
            (1, 2, DIE, 0, 1, TARGET),  # right
            (2, 1, DIE, 0, 1, TARGET),  # right in another sentence
        ],
    )
    expected = {
        "trig_id": (2 / 4, 2 / 3, 4 / 7),
        "trig_c": (1 / 4, 1 / 3, 2 / 7),
        "arg_id": (3 / 5, 3 / 4, 6 / 9),
        "arg_c": (2 / 5, 2 / 4, 4 / 9),
        "ner": (1 / 4, 1 / 3, 2 / 7),
        "relation": (0, 0, 0),
    }
    scores = scores_of([(predicted, gold, torch.tensor(6.0), 3)])
    assert scores == pytest.approx(
        {"loss": 2.0}
        | {
            f"{name}_{what}": value
            for name, values in expected.items()
            for what, value in zip(("precision", "recall", "f1"), values)
        }
    )
    assert document_scores(predicted, gold, torch.tensor([1, 0, 1]), ["A", "B"]) == [
        {
            "id": "A",
            "trig_id_f1": [2, 2],
            "trig_c_f1": [2, 2],
            "arg_id_f1": [2, 2],
            "arg_c_f1": [2, 2],
            "ner_f1": [0, 2],
            "relation_f1": [0, 0],
        },
        {
            "id": "B",
            "trig_id_f1": [2, 5],
            "trig_c_f1": [0, 5],
            "arg_id_f1": [4, 7],
            "arg_c_f1": [2, 7],
            "ner_f1": [2, 5],
            "relation_f1": [0, 2],
        },
    ]


def counts(predicted, gold):
    """By event score: twice the right items, predicted and gold items together."""
    (record,) = document_scores(predicted, gold, torch.tensor([0]), ["A"], layers=["events"])
    return [record[f"{name}_f1"] for name in EVENT_SCORES]


def test_a_duplicate_annotation_is_one_item():
    once = annotations(triggers=[(0, 1, ATTACK)], arguments=[(0, 1, ATTACK, 2, 3, AGENT)])
    twice = changed(once, lambda rows: rows.repeat(2, 1))
    for predicted, gold in ((once, once), (once, twice), (twice, once), (twice, twice)):
        assert counts(predicted, gold) == [[2, 2]] * 4


def test_event_types_of_one_trigger_are_one_trigger_but_several_types():
    gold = annotations(triggers=[(0, 1, ATTACK), (0, 1, DIE)])
    predicted = annotations(triggers=[(0, 1, DIE)])
    assert counts(predicted, gold)[:2] == [[2, 2], [2, 3]]


def test_roles_of_one_pair_are_one_argument_but_several_roles():
    gold = annotations(arguments=[(0, 1, ATTACK, 2, 3, AGENT), (0, 1, ATTACK, 2, 3, TARGET)])
    predicted = annotations(arguments=[(0, 1, ATTACK, 2, 3, TARGET)])
    assert counts(predicted, gold)[2:] == [[2, 2], [2, 3]]


def test_an_argument_of_several_events_is_found_once_for_each():
    two = annotations(arguments=[(0, 1, ATTACK, 2, 3, AGENT), (0, 5, ATTACK, 2, 3, AGENT)])
    one = annotations(arguments=[(0, 9, ATTACK, 2, 3, AGENT)])
    assert counts(two, two)[2:] == [[4, 4]] * 2
    assert counts(one, two)[2:] == [[2, 3]] * 2
    assert counts(two, one)[2:] == [[4, 3]] * 2  # each finds its match, as in DyGIE++
    scores = scores_of([(two, one, torch.tensor(0.0), 1)])
    assert [scores[f"arg_c_{what}"] for what in ("precision", "recall", "f1")] == [1.0, 1.0, 1.0]


# Nothing there


@pytest.mark.parametrize("predicted", [False, True])
@pytest.mark.parametrize("gold", [False, True])
def test_without_predictions_or_gold_scores_are_zero(predicted, gold):
    full = annotations(**{kind: [range(columns)] for kind, columns in COLUMNS.items()})
    sides = [full if there else annotations() for there in (predicted, gold)]
    scores = scores_of([(*sides, torch.tensor(0.0), 1)])
    assert {score for name, score in scores.items() if name != "loss"} == {float(predicted and gold)}
    (record,) = document_scores(*sides, torch.tensor([0]), ["A"])
    assert {tuple(record[f"{name}_f1"]) for name in SCORES} == {(2 * (predicted and gold), predicted + gold)}


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_before_any_batch_scores_are_numbers():
    assert all(score == 0 and math.isfinite(score) for score in scores_of([]).values())
    assert document_scores(annotations(), annotations(), torch.zeros(0, dtype=torch.long), []) == []


@pytest.mark.parametrize("layers", [["events"], ["ner"], ["relations", "ner"], []], ids=str)
def test_only_layers_that_are_scored_have_scores(layers):
    of_layer = {"ner": ["ner"], "relations": ["relation"], "events": EVENT_SCORES}
    names = {name for layer in layers for name in of_layer[layer]}
    full = annotations(**{kind: [range(columns)] for kind, columns in COLUMNS.items()})
    scores = scores_of([(full, full, torch.tensor(3.0), 2)], layers)
    ratios = {f"{name}_{what}": 1.0 for name in names for what in ("precision", "recall", "f1")}
    assert scores == {"loss": 1.5, **ratios}
    (record,) = document_scores(full, full, torch.tensor([0]), ["A"], layers)
    assert record == {"id": "A"} | {f"{name}_f1": [2, 2] for name in names}


# How rows are compared


@given(batches(), st.permutations(range(8)))
def test_large_indices_are_told_apart_as_small_ones_are(batch, order):
    """Values only name things: others, up to the largest that there may be, give the same scores."""
    predicted, gold, loss, number = batch
    names = torch.tensor([0, 1, 2**16, 2**20 + 1, 2**30, 2**30 + 1, LARGEST - 1, LARGEST])[torch.tensor(order)]
    renamed = [changed(side, lambda rows: names[rows]) for side in (predicted, gold)]
    assert scores_of([(*renamed, loss, number)]) == scores_of([batch])


@pytest.mark.parametrize("kind", COLUMNS)
def test_one_largest_value_instead_of_zero_is_a_difference(kind):
    columns = COLUMNS[kind]
    rows = torch.cat([torch.zeros(1, columns, dtype=torch.long), torch.eye(columns, dtype=torch.long) * LARGEST])
    gold = annotations(**{kind: [[0] * columns]})
    scored = scores_of([(dataclasses.replace(gold, **{kind: rows}), gold, torch.tensor(0.0), 1)])
    strictest = {"ner": "ner", "relations": "relation", "triggers": "trig_c", "arguments": "arg_c"}[kind]
    agree = 2 if kind == "arguments" else 1  # the trigger's token need not
    assert scored[f"{strictest}_precision"] == pytest.approx(agree / (1 + columns))


@settings(max_examples=20)
@given(batches(), st.randoms(use_true_random=False))
def test_the_order_of_rows_and_their_integer_type_do_not_matter(batch, random):
    def shuffled(rows):
        order = random.sample(range(len(rows)), len(rows))
        return rows[torch.tensor(order, dtype=torch.long)].int()

    predicted, gold, *rest = batch
    assert scores_of([(changed(predicted, shuffled), changed(gold, shuffled), *rest)]) == scores_of([batch])


def test_an_update_reads_nothing_back_from_the_device():
    """Tensors without content: whatever needs to know it, such as a size that depends on it, fails on them."""
    full = annotations(**{kind: [range(columns)] * 3 for kind, columns in COLUMNS.items()})
    on_meta = changed(full, lambda rows: rows.to("meta"))
    ExtractionScores(LAYERS).to("meta").update(on_meta, on_meta, torch.zeros((), device="meta"), 2)


# Batches, processes, documents


def joined(data):
    """Several batches as one."""
    offset, parts, loss = 0, ([], []), torch.tensor(0.0)
    for *sides, more, number in data:
        for part, side in zip(parts, sides):
            shift = offset  # sentences are counted on

            def later(rows, shift=shift):
                return torch.cat([rows[:, :1] + shift, rows[:, 1:]], 1)

            part.append(changed(side, later))
        offset, loss = offset + number, loss + more
    whole = [
        Annotations(**{kind: torch.cat([getattr(side, kind) for side in part]) for kind in COLUMNS}) for part in parts
    ]
    return *whole, loss, offset


@given(st.lists(batches(), min_size=1, max_size=4))
def test_several_batches_score_as_one_large_batch(data):
    assert scores_of(data) == pytest.approx(scores_of([joined(data)]), rel=1e-6)


@given(st.lists(batches(), min_size=1, max_size=4))
def test_processes_sum_their_states(data):
    """Merged as torchmetrics gathers over processes; one of the two may have seen nothing."""
    parts = [ExtractionScores(LAYERS) for _ in range(2)]
    for index, batch in enumerate(data):
        parts[index % 2].update(*batch)
    merged = ExtractionScores(LAYERS)
    merged.update(annotations(), annotations(), torch.tensor(0.0), 0)
    for name, reduction in merged._reductions.items():
        setattr(merged, name, reduction(torch.stack([getattr(part, name) for part in parts])))
    parts[0].merge_state(parts[1])
    for metric in (merged, parts[0]):
        assert {name: score.item() for name, score in metric.compute().items()} == scores_of(data)


@given(st.data(), st.lists(batches(), min_size=1, max_size=3))
def test_scores_of_documents_are_counts_that_sum_to_the_scores_of_all(data, drawn):
    """Sentences of a document need not stand together, and a document need not have any."""
    records = []
    for number, batch in enumerate(drawn):
        predicted, gold, _, sentences = batch
        ids = [f"{number}-{index}" for index in range(data.draw(st.integers(bool(sentences), 3)))]
        document = [data.draw(st.integers(0, len(ids) - 1)) for _ in range(sentences)]
        found = document_scores(predicted, gold, torch.tensor(document, dtype=torch.long), ids)
        for index, record in enumerate(found):
            own = [sentence for sentence, owner in enumerate(document) if owner == index]
            expected = {
                f"{name}_f1": [2 * right, of + there]
                for name, (right, of, there) in naive_counts(predicted, gold, own).items()
            }
            assert record == {"id": ids[index], **expected}
        assert len(found) == len(ids)
        records += found
    scores = scores_of(drawn)
    for name in SCORES:
        right, of = (sum(record[f"{name}_f1"][part] for record in records) for part in (0, 1))
        assert scores[f"{name}_f1"] == pytest.approx(min(1.0, right / of) if of else 0.0)  # the score is capped


def test_a_state_is_restored_from_a_file_of_weights_alone():
    full = annotations(**{kind: [range(columns)] for kind, columns in COLUMNS.items()})
    first, second = (full, annotations(), torch.tensor(3.0), 2), (full, full, torch.tensor(5.0), 1)
    metric, other = ExtractionScores(LAYERS), ExtractionScores(LAYERS)
    assert not metric.state_dict()  # a model's checkpoint has no scores in it
    for one in (metric, other):
        one.persistent(True)
    metric.update(*first)
    file = io.BytesIO()
    torch.save(metric.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    other.update(*second)
    assert {name: score.item() for name, score in other.compute().items()} == scores_of([first, second])


def test_a_reset_forgets_all():
    full = annotations(**{kind: [range(columns)] for kind, columns in COLUMNS.items()})
    metric = ExtractionScores(LAYERS)
    metric.update(full, annotations(), torch.tensor(3.0), 2)
    metric.compute()
    metric.reset()
    second = (full, full, torch.tensor(5.0), 1)
    metric.update(*second)
    assert {name: score.item() for name, score in metric.compute().items()} == scores_of([second])

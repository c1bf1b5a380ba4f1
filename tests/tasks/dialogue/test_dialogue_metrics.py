"""The scores of belief states against naive loops and scikit-learn."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score

from gradual.tasks.dialogue.features import MISSING
from gradual.tasks.dialogue.metrics import BeliefScores, dialogue_scores

SLOTS = ("bus-day", "bus-people", "hotel-area", "hotel-name", "taxi-leave")
TARGET = [2, 3]


def batches(missing=0.3, seed=0, sizes=(5, 1, 17, 8)):
    """Predictions, labels and losses of a few batches of turns."""
    random = np.random.default_rng(seed)
    for turns in sizes:
        shape = (turns, len(SLOTS))
        labels, predicted = random.integers(0, 3, shape), random.integers(0, 3, shape)
        predicted = np.where(random.random(shape) < 0.7, labels, predicted)
        unknown = random.random(shape) < missing
        labels[unknown] = MISSING
        losses = np.where(unknown, 0, random.exponential(size=shape))
        yield torch.from_numpy(predicted), torch.from_numpy(labels), torch.from_numpy(losses).float()


def scores_of(data, target=TARGET, **arguments):
    metric = BeliefScores(SLOTS, target, **arguments)
    for batch in data:
        metric.update(*batch)
    return {name: value.item() for name, value in metric.compute().items()}


def naive(data, target):
    """Turn by turn and slot by slot, from the definitions."""
    turns = [turn for batch in data for turn in zip(*(part.tolist() for part in batch))]
    loss = 0.0
    for slot in range(len(SLOTS)):
        known = [losses[slot] for _, labels, losses in turns if labels[slot] != MISSING]
        loss += sum(known) / len(known) if known else 0.0
    scores = {"loss": loss}
    for ending, slots in (("", target), ("_all", range(len(SLOTS)))):
        right = decisions = right_turns = counted_turns = 0
        for predicted, labels, _ in turns:
            known = [slot for slot in slots if labels[slot] != MISSING]
            decisions += len(known)
            right += sum(predicted[slot] == labels[slot] for slot in known)
            counted_turns += len(known) > 0
            right_turns += len(known) > 0 and all(predicted[slot] == labels[slot] for slot in known)
        scores[f"slot_accuracy{ending}"] = right / decisions if decisions else 0.0
        scores[f"joint_accuracy{ending}"] = right_turns / counted_turns if counted_turns else 0.0
    return scores


@pytest.mark.parametrize("missing", [0, 0.3, 0.9])
@pytest.mark.parametrize("target", [TARGET, [4], [3, 0], [0, 1, 2, 3, 4]], ids=str)
def test_scores_are_those_of_a_naive_loop(missing, target):
    data = list(batches(missing))
    assert scores_of(data, target) == pytest.approx(naive(data, target), rel=1e-6)


def test_scores_are_scikit_learns_where_every_label_is_known():
    data = list(batches(missing=0))
    predicted, labels = (torch.cat(part).numpy() for part in list(zip(*data))[:2])
    scores = scores_of(data, per_slot=True)
    for ending, slots in (("", TARGET), ("_all", range(len(SLOTS)))):
        flat = accuracy_score(labels[:, slots].ravel(), predicted[:, slots].ravel())
        joint = accuracy_score([str(turn) for turn in labels[:, slots]], [str(turn) for turn in predicted[:, slots]])
        assert scores[f"slot_accuracy{ending}"] == pytest.approx(flat, rel=1e-6)
        assert scores[f"joint_accuracy{ending}"] == pytest.approx(joint, rel=1e-6)
    for slot in TARGET:
        expected = accuracy_score(labels[:, slot], predicted[:, slot])
        assert scores[f"slot_accuracy/{SLOTS[slot]}"] == pytest.approx(expected, rel=1e-6)


def test_scores_of_single_slots_are_of_the_target_and_its_known_labels():
    data = list(batches())
    predicted, labels = (torch.cat(part).numpy() for part in list(zip(*data))[:2])
    with_slots, without = scores_of(data, per_slot=True), scores_of(data)
    single = {name: score for name, score in with_slots.items() if name not in without}
    assert with_slots == {**without, **single}
    expected = {}
    for slot in TARGET:
        known = labels[:, slot] != MISSING
        expected[f"slot_accuracy/{SLOTS[slot]}"] = accuracy_score(labels[known, slot], predicted[known, slot])
    assert single == pytest.approx(expected)


def test_the_loss_weighs_turns_not_batches():
    """Two batches of one and three turns: the mean over the four turns of each slot, then the sum over slots."""
    losses = [[[4.0, 0.0]], [[1.0, 2.0], [1.0, 2.0], [2.0, 2.0]]]
    metric = BeliefScores(("a-x", "a-y"), [0])
    for batch in losses:
        shape = (len(batch), 2)
        metric.update(torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long), torch.tensor(batch))
    assert metric.compute()["loss"].item() == pytest.approx((4 + 1 + 1 + 2) / 4 + (0 + 2 + 2 + 2) / 4)


def test_a_turn_without_a_label_counts_nowhere():
    """The second turn's known slots are right though its third prediction differs; the third turn knows nothing."""
    predicted = torch.tensor([[0, 0, 0], [1, 1, 1], [2, 2, 2]])
    labels = torch.tensor([[0, 0, 1], [1, 1, MISSING], [MISSING, MISSING, MISSING]])
    metric = BeliefScores(("a-x", "a-y", "b-z"), [1, 2])
    metric.update(predicted, labels, torch.zeros(3, 3))
    assert {name: value.item() for name, value in metric.compute().items()} == pytest.approx(
        {
            "loss": 0,
            "slot_accuracy": 2 / 3,
            "joint_accuracy": 1 / 2,
            "slot_accuracy_all": 4 / 5,
            "joint_accuracy_all": 1 / 2,
        }
    )


def test_without_labels_scores_are_numbers():
    scores = scores_of(batches(missing=1), per_slot=True)
    assert all(math.isfinite(score) for score in scores.values())
    assert set(scores.values()) == {0.0}


def test_processes_sum_their_states():
    """Two metrics that saw different batches, merged as processes do, are one metric that saw all."""
    data = list(batches())
    parts = [BeliefScores(SLOTS, TARGET, per_slot=True) for _ in range(2)]
    for index, batch in enumerate(data):
        parts[index % 2].update(*batch)
    merged = BeliefScores(SLOTS, TARGET, per_slot=True)
    merged.update(*(part[:0] for part in data[0]))
    for name, reduction in merged._reductions.items():
        gathered = torch.stack([getattr(part, name) for part in parts])  # as torchmetrics gathers over processes
        setattr(merged, name, reduction(gathered))
    expected = scores_of(data, per_slot=True)
    assert {name: value.item() for name, value in merged.compute().items()} == pytest.approx(expected, rel=1e-7)
    assert all(part.compute()["slot_accuracy"].item() != expected["slot_accuracy"] for part in parts)


def test_a_reset_forgets_all():
    first, second = list(batches(seed=1)), list(batches(seed=2))
    metric = BeliefScores(SLOTS, TARGET)
    for batch in first:
        metric.update(*batch)
    metric.compute()
    metric.reset()
    for batch in second:
        metric.update(*batch)
    assert {name: value.item() for name, value in metric.compute().items()} == scores_of(second)


@pytest.mark.parametrize("missing", [0, 0.6])
def test_scores_of_dialogues_are_counts_that_sum_to_the_scores_of_all(missing):
    """Turns of a dialogue need not stand together: in a batch they stand in packed order."""
    data = list(batches(missing, sizes=(11, 7)))
    turns = [[3, 1, 0, 2, 3, 1, 0, 3, 1, 3, 3], [0, 1, 0, 1, 0, 1, 0]]
    ids = [["A", "B", "C", "D"], ["E", "F"]]
    records = []
    for (predicted, labels, losses), dialogue, names in zip(data, turns, ids):
        records += dialogue_scores(predicted, labels, torch.tensor(dialogue), names, torch.tensor(TARGET))
        for index, record in enumerate(records[-len(names) :]):
            own = [turn for turn, owner in enumerate(dialogue) if owner == index]
            assert record.pop("id") == names[index]
            alone = naive([(predicted[own], labels[own], losses[own])], TARGET)
            shares = {name: right / max(1, of) for name, (right, of) in record.items()}
            assert shares == pytest.approx({name: score for name, score in alone.items() if name != "loss"})
    for name, score in scores_of(data).items():
        if name != "loss":
            right, of = (sum(record[name][part] for record in records) for part in (0, 1))
            assert right / of == pytest.approx(score)

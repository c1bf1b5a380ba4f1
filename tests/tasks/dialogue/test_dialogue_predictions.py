"""What a tracker logs and predicts for the dialogues of files, through Lightning."""

import itertools
import shutil

import pytest
import torch
from dialogue_trackers import make_tracker
from naive_sumbt import naive_logits, naive_loss
from quiet_trainer import quiet_trainer
from slow_cases import fast_one_in

from gradual.tasks.dialogue import DialogueDataModule
from gradual.tasks.dialogue.data import DialogueSpec

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Lightning's advice on workers and devices


@pytest.mark.parametrize("distance", fast_one_in(2, ["euclidean", "cosine"]))
def test_validation_logs_what_the_description_gives(demo, datamodule, distance):
    """The whole way: files, features, batches of two, the model and the metric, through Lightning."""
    tracker = make_tracker(demo, datamodule, distance=distance)
    trainer = quiet_trainer()
    (logged,) = trainer.validate(tracker, datamodule, verbose=False)
    dialogues = [datamodule.domains.val[index] for index in range(3)]
    model, ontology = tracker.eval().model, datamodule.ontology
    values = [vectors[: len(own)] for vectors, own in zip(model.value_vectors, ontology.values)]
    with torch.no_grad():
        logits = [naive_logits(model, dialogue, values) for dialogue in dialogues]
    assert logged["val/loss"] == pytest.approx(naive_loss(logits, dialogues).item(), rel=1e-5)
    hostel = [index for index, slot in enumerate(ontology.slots) if slot.startswith("hostel-")]
    correct = [
        [[scores.argmax().item() == label for scores, label in zip(*turn)] for turn in zip(turns, dialogue.labels)]
        for turns, dialogue in zip(logits, dialogues)
    ]
    turns = [turn for dialogue in correct for turn in dialogue]
    for ending, slots in (("", hostel), ("_all", range(len(ontology.slots)))):
        slot_accuracy = sum(turn[slot] for turn in turns for slot in slots) / (len(turns) * len(slots))
        joint_accuracy = sum(all(turn[slot] for slot in slots) for turn in turns) / len(turns)
        assert logged[f"val/slot_accuracy{ending}"] == pytest.approx(slot_accuracy, rel=1e-6)
        assert logged[f"val/joint_accuracy{ending}"] == pytest.approx(joint_accuracy, rel=1e-6)

    predicted = [record for batch in trainer.predict(tracker, datamodule) for record in batch]
    assert [*dict.fromkeys(record["dialogue"] for record in predicted)] == [dialogue.id for dialogue in dialogues]
    expected = [
        {
            "dialogue": dialogue.id,
            "turn": turn,
            "state": {
                slot: own[scores.argmax()]
                for slot, own, scores in zip(ontology.slots, ontology.values, by_slot)
                if own[scores.argmax()] != "none"
            },
        }
        for dialogue, by_turn in zip(dialogues, logits)
        for turn, by_slot in enumerate(by_turn)
    ]
    assert sorted(map(str, predicted)) == sorted(map(str, expected))
    by_dialogue = [[record["turn"] for record in predicted if record["dialogue"] == d.id] for d in dialogues]
    assert by_dialogue == [list(range(len(dialogue.tokens))) for dialogue in dialogues]


def test_outputs_are_in_the_order_of_the_data(demo, tmp_path):
    """Short dialogues before long ones too, which a batch has the other way round."""
    root = tmp_path / "domains/hostel"
    shutil.copytree(demo / "domains/hostel", root)
    header, *rows = (root / "train4.tsv").read_text().splitlines()
    by_id = {}
    for row in rows:
        by_id.setdefault(row.split("\t")[0], []).append(f"TEST-{row}")
    by_length = sorted(by_id.values(), key=len)
    assert len({len(dialogue) for dialogue in by_length}) > 1
    (root / "test.tsv").write_text("\n".join([header, *itertools.chain(*by_length)]) + "\n")
    data = DialogueDataModule(str(tmp_path), "hostel", str(demo / "encoder"), eval_batch_size=5)
    data.setup()
    tracker, trainer = make_tracker(demo, data), quiet_trainer()
    ids = data.domains.test.ids

    predicted = [record for batch in trainer.predict(tracker, data) for record in batch]
    expected = [(id_, turn) for id_, dialogue in zip(ids, by_length) for turn in range(len(dialogue))]
    assert [(record["dialogue"], record["turn"]) for record in predicted] == expected

    tested = []
    tracker.on_test_batch_end = lambda outputs, *_: tested.extend(outputs)
    trainer.test(tracker, data, verbose=False)
    assert [record["id"] for record in tested] == ids
    slots = len(data.target_slots)
    assert [record["slot_accuracy"][1] for record in tested] == [slots * len(dialogue) for dialogue in by_length]


def test_a_tracker_is_scored_on_the_slots_of_the_domain_that_it_is_tested_on(demo, datamodule):
    tracker, ontology = make_tracker(demo, datamodule), datamodule.ontology
    assert tracker.test_scores.target.tolist() == datamodule.target_slots
    other = next(domain for domain in ontology.domains if domain != datamodule.domain)
    tracker.configure_data(DialogueSpec(ontology, tuple(ontology.slots_of(other))))
    assert tracker.test_scores.target.tolist() == ontology.slots_of(other)
    scores = tracker.test_scores
    tracker.configure_data(DialogueSpec(ontology, tuple(ontology.slots_of(other))))
    assert tracker.test_scores is scores

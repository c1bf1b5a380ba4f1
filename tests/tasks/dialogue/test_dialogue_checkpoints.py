"""A tracker and its checkpoints are for data with the ontology that they were trained with."""

import json
import re
import shutil

import pytest
import torch
from dialogue_trackers import make_tracker
from quiet_trainer import quiet_trainer

from gradual.errors import InputError
from gradual.tasks.dialogue import DialogueDataModule, DialogueStateTracker, Ontology, read_dialogues

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Lightning's advice on workers and devices


def with_ontology(demo, tmp_path, change):
    """The demo's data with a change in its ontology."""
    root = tmp_path / "domains/hostel"
    shutil.copytree(demo / "domains/hostel", root)
    content = json.loads((root / "ontology.json").read_text())
    change(content)
    (root / "ontology.json").write_text(json.dumps(content))
    old = read_dialogues(demo / "domains/hostel/test.tsv", Ontology.read(demo / "domains/hostel/ontology.json"))
    slots = sorted(content)
    for name in ("train", "train4", "dev", "test"):
        rows = ["\t".join([f"{name}-{d.id}", "0", "hello", "", *["none"] * len(slots)]) for d in old]
        (root / f"{name}.tsv").write_text("\n".join(rows) + "\n")
    return DialogueDataModule(str(tmp_path), "hostel", str(demo / "encoder"))


def rename(content):
    content["hostel-zone"] = content.pop("hostel-area")


def add_values(content):
    content["hostel-area"] += ["a", "b", "c", "d"]


def turn_round(content):
    content["hostel-area"] = content["hostel-area"][::-1]


CHANGES = {
    rename: "among the slots, only the model has 'hostel-area', and only the data has 'hostel-zone'",
    add_values: "among the values of 'hostel-area', only the data has 'a', 'b', 'c' and 1 more",
    turn_round: "the values of 'hostel-area' are in another order",
}


@pytest.fixture(scope="module")
def checkpoint(demo, datamodule, tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "tracker.ckpt"
    trainer = quiet_trainer()
    trainer.test(make_tracker(demo, datamodule), datamodule, verbose=False)
    trainer.save_checkpoint(path)
    return path


@pytest.mark.parametrize("change", CHANGES)
def test_a_checkpoint_is_for_data_with_its_ontology(demo, checkpoint, tmp_path, change):
    data = with_ontology(demo, tmp_path, change)
    said = re.escape(f"trained with another ontology than {data.root}/domains/hostel/ontology.json: {CHANGES[change]}.")
    with pytest.raises(InputError, match=said):
        quiet_trainer().test(DialogueStateTracker(str(demo / "encoder")), data, ckpt_path=checkpoint, verbose=False)
    with pytest.raises(InputError, match=said):
        quiet_trainer().test(DialogueStateTracker.load_from_checkpoint(checkpoint), data, verbose=False)


def test_a_tracker_is_for_data_with_its_ontology(demo, datamodule, tmp_path):
    tracker = make_tracker(demo, datamodule)
    with pytest.raises(InputError, match=f"trained with another ontology than .*: {CHANGES[rename]}"):
        quiet_trainer().test(tracker, with_ontology(demo, tmp_path, rename), verbose=False)


def test_a_checkpoint_says_its_ontology_and_older_ones_load_without(demo, datamodule, checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    assert content["slots"] == {s: list(v) for s, v in zip(datamodule.ontology.slots, datamodule.ontology.values)}
    del content["slots"]
    torch.save(content, tmp_path / "old.ckpt")
    scores = [
        quiet_trainer().test(DialogueStateTracker.load_from_checkpoint(path), datamodule, verbose=False)
        for path in (checkpoint, tmp_path / "old.ckpt")
    ]
    assert scores[0] == scores[1]
    torch.save({**content, "slots": ["hostel-area"]}, tmp_path / "foreign.ckpt")
    with pytest.raises(InputError, match="The checkpoint has no slots"):
        DialogueStateTracker.load_from_checkpoint(tmp_path / "foreign.ckpt")

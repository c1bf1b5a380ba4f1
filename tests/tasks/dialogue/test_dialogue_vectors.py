"""The vectors of slots and values: what the pretrained encoder makes of their texts."""

import shutil

import pytest
import torch
from dialogue_trackers import make_tracker
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer

from gradual.logging import saying_anew
from gradual.nn.encoder import load_encoder, load_tokenizer
from gradual.runs.fingerprint import model_fingerprint, starting_weights
from gradual.tasks.dialogue import DialogueStateTracker, Ontology
from gradual.tasks.dialogue.data import DialogueSpec
from gradual.tasks.dialogue.vectors import text_vectors


@pytest.mark.parametrize(("pooling", "scale"), [("cls", 1.0), ("mean", 2.0)])
@torch.no_grad()
def test_vectors_are_the_pretrained_encoders_of_each_text_alone(demo, datamodule, pooling, scale):
    """Of the whole encoder, also where the model keeps fewer layers."""
    tracker = make_tracker(demo, datamodule, vectors=pooling, vector_scale=scale, encoder_layers=1)
    encoder = AutoModel.from_pretrained(demo / "encoder").eval()
    tokenizer = AutoTokenizer.from_pretrained(demo / "encoder")

    def vector(text):
        states = encoder(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        return scale * (states[0] if pooling == "cls" else states.mean(0))

    ontology, model = datamodule.ontology, tracker.model
    for row, (slot, values) in enumerate(zip(ontology.slots, ontology.values)):
        torch.testing.assert_close(model.slot_vectors[row], vector(slot), rtol=1e-5, atol=1e-5)
        expected = torch.stack([vector(value) for value in values])
        torch.testing.assert_close(model.value_vectors[row, : len(values)], expected, rtol=1e-5, atol=1e-5)
        assert model.value_mask[row].tolist() == [i < len(values) for i in range(model.value_mask.shape[1])]


def test_values_that_the_tokenizer_cannot_tell_apart_are_named(demo, datamodule, caplog):
    """Their vectors are equal, so that the first of them is predicted instead of the others."""
    make_tracker(demo, datamodule)
    assert not caplog.records
    tracker = DialogueStateTracker(str(demo / "encoder"), hidden=20)
    tracker.configure_data(
        DialogueSpec(Ontology.from_mapping({"hostel-food": ["中餐", "North", "法餐", "north"]}), (0,))
    )
    with saying_anew():
        tracker.setup("fit")
    assert [record.getMessage() for record in caplog.records] == [
        f"ontology, slot 'hostel-food': the encoder's tokenizer cannot tell {one!r}, {other!r} apart, so that only "
        f"{one!r} is ever predicted."
        for one, other in (("中餐", "法餐"), ("North", "north"))
    ]
    first, second, third, fourth, *_ = tracker.model.value_vectors[0]
    assert torch.equal(first, third)
    assert torch.equal(second, fourth)
    assert not torch.equal(first, second)


def test_layers_that_only_the_vectors_come_from_are_part_of_a_run(demo, tmp_path):
    encoder = shutil.copytree(demo / "encoder", tmp_path / "encoder")

    def fingerprint():
        torch.manual_seed(0)
        tracker = DialogueStateTracker(str(encoder), encoder_layers=1, hidden=20)
        return model_fingerprint(tracker), starting_weights(tracker)

    before = fingerprint()
    weights = load_file(encoder / "model.safetensors")
    weights["encoder.layer.1.output.dense.bias"] += 1
    save_file(weights, encoder / "model.safetensors", {"format": "pt"})
    after = fingerprint()
    assert after[1] == before[1]
    assert after[0] != before[0]


def test_long_texts_are_cut_to_32_word_pieces(demo):
    encoder, tokenizer = load_encoder(str(demo / "encoder")), load_tokenizer(str(demo / "encoder"))
    texts = ["do not care", " ".join(["north"] * 50)]
    vectors = text_vectors(encoder, tokenizer, texts, "mean")
    assert vectors.shape == (2, 64)
    ids = torch.tensor([[tokenizer.cls_token_id, *[tokenizer.vocab["north"]] * 30, tokenizer.sep_token_id]])
    with torch.no_grad():
        torch.testing.assert_close(vectors[1], encoder(ids).last_hidden_state[0].mean(0), rtol=1e-5, atol=1e-5)


def test_the_ontology_is_encoded_once(demo, datamodule, monkeypatch):
    """A stage's fit, its validation and the test each set the module up."""
    tracker = make_tracker(demo, datamodule)
    vectors = tracker.model.value_vectors
    monkeypatch.setattr("gradual.tasks.dialogue.task.load_encoder", lambda *_: pytest.fail("loaded again"))
    for stage in ("fit", "validate", "test"):
        tracker.setup(stage)
    assert tracker.model.value_vectors is vectors

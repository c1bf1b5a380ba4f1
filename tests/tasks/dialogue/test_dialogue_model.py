"""SUMBT against the description of it, written out turn by turn, slot by slot and head by head."""

import copy
import itertools
import json
import math
import re
import shutil

import pytest
import torch
from dialogue_files import encoded, tiny_bert
from lightning.pytorch import Trainer
from safetensors.torch import load_file, save_file
from slow_cases import fast_one_in
from torch import nn
from transformers import AutoModel, AutoTokenizer, DistilBertConfig, DistilBertModel, RobertaConfig, RobertaModel
from transformers.utils import logging as transformers_logging

from gradual.errors import InputError
from gradual.logging import saying_anew
from gradual.nn.encoder import load_encoder, load_tokenizer
from gradual.nn.packing import Packing
from gradual.runs.fingerprint import model_fingerprint, starting_weights
from gradual.tasks.dialogue import (
    BeliefScores,
    DialogueDataModule,
    DialogueStateTracker,
    Ontology,
    Sumbt,
    read_dialogues,
)
from gradual.tasks.dialogue.data import DialogueSpec
from gradual.tasks.dialogue.demo import write_demo_data
from gradual.tasks.dialogue.features import MISSING, TurnCollator
from gradual.tasks.dialogue.model import SlotAttention, batch_loss, turn_losses
from gradual.tasks.dialogue.vectors import text_vectors

CANDIDATES = (3, 5, 2)
LENGTHS = [[4, 9, 6], [12], [7, 7, 3, 20, 5], [2, 15]]
# A key's bias shifts all scores of a softmax alike: its gradient is zero but for rounding.
UNTRAINED = "key.bias"

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Lightning's advice on workers and devices


# ------------------------------------------------------------------------------------------- the model, written out


def linear(layer, x):
    return layer.weight @ x + layer.bias


def attend(attention, slot, states):
    """One slot's attention over the `L x d` states of one turn, head by head."""
    query = linear(attention.query, slot)
    keys = [linear(attention.key, state) for state in states]
    values = [linear(attention.value, state) for state in states]
    size = len(query) // attention.heads
    heads = []
    for head in range(attention.heads):
        part = slice(head * size, (head + 1) * size)
        scores = torch.stack([query[part] @ key[part] / math.sqrt(size) for key in keys])
        weights = scores.exp() / scores.exp().sum()
        heads.append(sum(weight * value[part] for weight, value in zip(weights, values)))
    return linear(attention.output, torch.cat(heads))


def gru_cell(gru, x, hidden):
    from_input = gru.weight_ih_l0 @ x + gru.bias_ih_l0
    from_hidden = gru.weight_hh_l0 @ hidden + gru.bias_hh_l0
    size = len(hidden)
    reset = torch.sigmoid(from_input[:size] + from_hidden[:size])
    update = torch.sigmoid(from_input[size : 2 * size] + from_hidden[size : 2 * size])
    new = torch.tanh(from_input[2 * size :] + reset * from_hidden[2 * size :])
    return (1 - update) * new + update * hidden


def layer_norm(norm, x):
    deviation = x - x.mean()
    return deviation / (deviation.square().mean() + norm.eps).sqrt() * norm.weight + norm.bias


def closeness(distance, belief, value):
    if distance == "euclidean":
        return -torch.linalg.vector_norm(belief - value)
    return belief @ value / (torch.linalg.vector_norm(belief) * torch.linalg.vector_norm(value))


def token_states(model, tokens, segments):
    """The encoder on one turn alone, without padding, from word-piece ids."""
    arguments = {"input_ids": torch.tensor(tokens[None].astype("int64"))}
    if getattr(model.encoder.config, "type_vocab_size", 0) > 1:
        arguments["token_type_ids"] = torch.tensor(segments[None].astype("int64"))
    return model.encoder(**arguments).last_hidden_state[0]


def naive_logits(model, dialogue, values):
    """Logits of one dialogue: a tensor of the slot's own values for each turn and slot."""
    states = [token_states(model, *turn) for turn in zip(dialogue.tokens, dialogue.segments)]
    logits = [[] for _ in states]
    for slot, vectors in zip(model.slot_vectors, values):
        hidden = None
        for turn, turn_states in enumerate(states):
            found = attend(model.attention, slot, turn_states)
            if hidden is None:
                hidden = linear(model.tracker.start, found).clamp_min(0)
            hidden = gru_cell(model.tracker.gru, found, hidden)
            belief = layer_norm(model.tracker.norm, linear(model.tracker.output, hidden))
            logits[turn].append(torch.stack([closeness(model.distance, belief, vector) for vector in vectors]))
    return logits


def naive_loss(logits, dialogues):
    """For each slot the mean cross-entropy over the turns that know it; summed over slots."""
    total = 0.0
    for slot in range(dialogues[0].labels.shape[1]):
        losses = [
            torch.log(scores[slot].exp().sum()) - scores[slot][labels[slot]]
            for turns, dialogue in zip(logits, dialogues)
            for scores, labels in zip(turns, dialogue.labels.tolist())
            if labels[slot] != MISSING
        ]
        total = total + sum(losses) / max(1, len(losses))
    return total


# ---------------------------------------------------------------------------------------------------- the model alone


def make_model(encoder=None, distance="euclidean", hidden=11, train_vectors=False):
    """A small model in evaluation mode, no parameter of which is zero, and its value vectors by slot."""
    encoder = encoder or tiny_bert()
    torch.manual_seed(1)
    model = Sumbt(encoder, heads=4, hidden=hidden, distance=distance).eval()
    with torch.no_grad():
        for parameter in (*model.attention.parameters(), *model.tracker.parameters()):
            parameter.add_(torch.randn_like(parameter) * 0.2)
    width = encoder.config.hidden_size
    values = [torch.randn(count, width) for count in CANDIDATES]
    model.set_vectors(torch.randn(len(CANDIDATES), width), values)
    for vectors in (model.slot_vectors, model.value_vectors):
        vectors.requires_grad_(train_vectors)
    return model, values


def trained(model):
    """The parameters that are trained, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def collate(dialogues, max_padding=0.1):
    return TurnCollator(pad_token_id=0, max_padding=max_padding)(dialogues)


def logits_by_turn(model, batch):
    """Logits by dialogue id, each of shape `(turns, slots, values)`."""
    logits = model(batch)
    return {
        id_: logits[[position for position, dialogue in enumerate(batch.dialogue) if dialogue == index]]
        for index, id_ in enumerate(batch.ids)
    }


def assert_equal_logits(found, expected, tolerance=1e-5):
    assert len(found) == len(expected)
    for turn, turn_expected in zip(found, expected):
        for scores, own in zip(turn, turn_expected, strict=True):
            torch.testing.assert_close(scores[: len(own)], own, rtol=tolerance, atol=tolerance)
            assert torch.equal(scores[len(own) :], torch.full_like(scores[len(own) :], -math.inf))


def distilbert():
    torch.manual_seed(0)
    config = DistilBertConfig(vocab_size=40, dim=16, n_layers=2, n_heads=2, hidden_dim=24, initializer_range=0.3)
    return DistilBertModel(config).eval()


def roberta():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    config = RobertaConfig(vocab_size=40, type_vocab_size=1, pad_token_id=1, initializer_range=0.3, **sizes)
    return RobertaModel(config, add_pooling_layer=False).eval()


@pytest.mark.parametrize("max_padding", [0, 0.1, 1])
@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@torch.no_grad()
def test_logits_and_loss_are_those_of_the_description(distance, max_padding):
    model, values = make_model(distance=distance)
    dialogues = encoded(LENGTHS, CANDIDATES)
    batch = collate(dialogues, max_padding)
    expected = [naive_logits(model, dialogue, values) for dialogue in dialogues]
    found = logits_by_turn(model, batch)
    for dialogue, turns in zip(dialogues, expected):
        assert_equal_logits(found[dialogue.id], turns)
    loss = batch_loss(turn_losses(model(batch), batch.labels), batch.labels)
    torch.testing.assert_close(loss, naive_loss(expected, dialogues), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("make", [distilbert, roberta])
@torch.no_grad()
def test_encoders_without_segments_work_alike(make):
    model, values = make_model(make())
    dialogues = encoded(LENGTHS, CANDIDATES)
    found = logits_by_turn(model, TurnCollator(pad_token_id=make().config.pad_token_id, max_padding=1)(dialogues))
    for dialogue in dialogues:
        assert_equal_logits(found[dialogue.id], naive_logits(model, dialogue, values))


@torch.no_grad()
def test_a_dialogues_logits_do_not_depend_on_its_batch():
    model, _ = make_model()
    dialogues = encoded(LENGTHS, CANDIDATES)
    alone = {dialogue.id: logits_by_turn(model, collate([dialogue]))[dialogue.id] for dialogue in dialogues}
    for size in (2, 3, 4):
        for members in itertools.permutations(dialogues, size):
            for id_, logits in logits_by_turn(model, collate(list(members), max_padding=0.5)).items():
                torch.testing.assert_close(logits, alone[id_], rtol=1e-5, atol=1e-5)
    different = list(alone.values())
    assert not any(torch.allclose(a[0], b[0], atol=1e-2) for a, b in itertools.combinations(different, 2))


@torch.no_grad()
def test_missing_labels_are_left_out_of_the_loss():
    model, values = make_model()
    dialogues = encoded(LENGTHS, CANDIDATES, missing=0.5)
    for dialogue in dialogues:
        dialogue.labels[:, 2] = MISSING  # a slot that no turn knows
    batch = collate(dialogues)
    losses = turn_losses(model(batch), batch.labels)
    assert torch.equal(losses == 0, batch.labels == MISSING)
    expected = naive_loss([naive_logits(model, dialogue, values) for dialogue in dialogues], dialogues)
    torch.testing.assert_close(batch_loss(losses, batch.labels), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_the_validation_loss_is_the_mean_over_all_turns():
    """Of batches of different sizes: not the mean of their losses."""
    model, values = make_model()
    dialogues = encoded(LENGTHS, CANDIDATES, missing=0.3)
    scores = BeliefScores(("a-x", "a-y", "b-z"), [0, 1])
    for batch in (collate(dialogues[:3]), collate(dialogues[3:])):
        logits = model(batch)
        scores.update(logits.argmax(-1), batch.labels, turn_losses(logits, batch.labels))
    expected = naive_loss([naive_logits(model, dialogue, values) for dialogue in dialogues], dialogues)
    torch.testing.assert_close(scores.compute()["loss"], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("train_vectors", [False, True])
@pytest.mark.parametrize("missing", [0, 0.4])
@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_gradients_are_those_of_the_description(distance, missing, train_vectors):
    model, _ = make_model(distance=distance, train_vectors=train_vectors)
    model = model.double()
    values = [vectors[:count] for vectors, count in zip(model.value_vectors, CANDIDATES)]
    dialogues = encoded(LENGTHS, CANDIDATES, missing=missing)
    names, parameters = zip(*trained(model).items())
    assert ({"slot_vectors", "value_vectors"} <= set(names)) == train_vectors
    batch = collate(dialogues)
    loss = batch_loss(turn_losses(model(batch), batch.labels), batch.labels)
    expected = naive_loss([naive_logits(model, dialogue, values) for dialogue in dialogues], dialogues)
    found = torch.autograd.grad(loss, parameters)
    expected = torch.autograd.grad(expected, parameters)
    largest = max(gradient.abs().max() for gradient in expected)
    for name, mine, naive in zip(names, found, expected):
        close = torch.isclose(mine, naive, rtol=1e-4, atol=1e-6 * largest.item())
        assert close.all(), name
        assert name.endswith(UNTRAINED) or naive.abs().max() > 1e-6 * largest, f"{name} is not trained at all"


def test_gradients_in_single_precision_are_close_too():
    """As training computes them; the distances' gradients are where precision could be lost."""
    model, _ = make_model()
    exact = copy.deepcopy(model).double()
    batch = collate(encoded(LENGTHS, CANDIDATES))
    for each in (model, exact):
        batch_loss(turn_losses(each(batch), batch.labels), batch.labels).backward()
    for (name, mine), theirs in zip(trained(model).items(), trained(exact).values()):
        if not name.endswith(UNTRAINED):
            error = torch.linalg.vector_norm(mine.grad - theirs.grad) / torch.linalg.vector_norm(theirs.grad)
            assert error < 1e-4, name


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_values_beyond_a_slots_own_cannot_be_chosen(distance):
    model, _ = make_model(distance=distance)
    batch = collate(encoded(LENGTHS, CANDIDATES))
    logits = model(batch)
    assert logits.shape == (len(batch.labels), len(CANDIDATES), max(CANDIDATES))
    for slot, count in enumerate(CANDIDATES):
        assert logits[:, slot, :count].isfinite().all()
        assert (logits[:, slot, count:] == -math.inf).all()
    batch_loss(turn_losses(logits, batch.labels), batch.labels).backward()
    assert all(parameter.grad.isfinite().all() for parameter in trained(model).values())


def test_slot_and_value_vectors_are_kept_but_not_trained():
    model, _ = make_model()
    names = ("slot_vectors", "value_vectors", "value_mask")
    assert set(names) <= set(model.state_dict())
    assert not set(names) & set(trained(model))
    before = {name: getattr(model, name).clone() for name in names}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    batch = collate(encoded(LENGTHS, CANDIDATES))
    first = batch_loss(turn_losses(model(batch), batch.labels), batch.labels)
    first.backward()
    optimizer.step()
    assert all(torch.equal(getattr(model, name), before[name]) for name in names)
    assert not torch.equal(batch_loss(turn_losses(model(batch), batch.labels), batch.labels), first)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_where_vectors_are_trained_all_of_them_move_and_padding_stays_zero(distance):
    """Also of values that no turn has: every candidate is part of the softmax. And weight decay moves all."""
    model, _ = make_model(distance=distance, train_vectors=True)
    before = {name: getattr(model, name).detach().clone() for name in ("slot_vectors", "value_vectors")}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    batch = collate(encoded(LENGTHS, CANDIDATES))
    for _ in range(3):
        batch_loss(turn_losses(model(batch), batch.labels), batch.labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    moved = (model.value_vectors != before["value_vectors"]).all(-1)
    assert torch.equal(moved, model.value_mask)
    assert not model.value_vectors[~model.value_mask].any()
    assert (model.slot_vectors != before["slot_vectors"]).all()


def test_at_a_value_s_own_place_the_gradient_is_finite():
    model, _ = make_model()
    beliefs = model.value_vectors[:, :1].transpose(0, 1).clone().requires_grad_()  # one turn, in each slot right
    logits = model.score(beliefs)
    assert logits[0, :, 0].tolist() == pytest.approx([0.0] * logits.shape[1], abs=1e-3)
    logits[logits.isfinite()].sum().backward()
    assert beliefs.grad.isfinite().all()


@torch.no_grad()
def test_keys_and_values_are_computed_once_a_turn():
    """However many slots there are: with 3 slots, a third of what the slot by slot way computes."""
    model, _ = make_model()
    batch = collate(encoded(LENGTHS, CANDIDATES), max_padding=0.2)
    assert len(batch.groups) > 1
    for layer in (model.attention.key, model.attention.value):
        shapes = []
        layer.register_forward_hook(lambda _, inputs, output, shapes=shapes: shapes.append(inputs[0].shape[:-1]))
        model(batch)
        assert shapes == [(sum(map(sum, LENGTHS)),)], "nor for padding"


@torch.no_grad()
def test_the_content_of_padding_does_not_matter():
    model, _ = make_model()
    batch = collate(encoded(LENGTHS, CANDIDATES), max_padding=1)
    before = model(batch)
    (group,) = batch.groups
    group.input_ids[group.attention_mask == 0] = 7
    torch.testing.assert_close(model(batch), before, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_slot_attention_is_torchs_multi_head_attention():
    attention = SlotAttention(width=12, heads=3)
    theirs = nn.MultiheadAttention(12, 3, batch_first=True)
    parts = (attention.query, attention.key, attention.value)
    theirs.in_proj_weight.copy_(torch.cat([layer.weight for layer in parts]))
    theirs.in_proj_bias.copy_(torch.cat([layer.bias for layer in parts]))
    theirs.out_proj.load_state_dict(attention.output.state_dict())
    slots, states = torch.randn(5, 12), torch.randn(4, 7, 12)
    mask = torch.arange(7) < torch.tensor([[7], [3], [1], [5]])
    expected, _ = theirs(slots.expand(4, -1, -1), states, states, key_padding_mask=~mask)
    packing = Packing([mask[:2], mask[2:]], mask.flatten().nonzero().flatten())
    torch.testing.assert_close(attention(slots, states[mask], packing), expected)


def test_the_tracker_starts_xavier_normal_without_biases():
    torch.manual_seed(0)
    gru = Sumbt(tiny_bert(hidden_size=64), hidden=300).tracker.gru
    for name, parameter in gru.named_parameters():
        if "bias" in name:
            assert not parameter.any()
        else:
            rows, columns = parameter.shape
            assert rows == 3 * 300
            assert parameter.std().item() == pytest.approx(math.sqrt(2 / (rows + columns)), rel=0.02)
            kurtosis = (parameter / parameter.std()).pow(4).mean().item()
            assert kurtosis == pytest.approx(3, rel=0.1), "normal, not uniform (1.8)"


# ---------------------------------------------------------------------------------------------- the LightningModule


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    write_demo_data(folder, train=4, dev=3, test=2, out_of_domain=4)
    return folder


@pytest.fixture(scope="module")
def datamodule(demo):
    data = DialogueDataModule(
        str(demo),
        "hostel",
        str(demo / "encoder"),
        predict_file=str(demo / "domains/hostel/dev.tsv"),
        batch_size=2,
        eval_batch_size=2,
    )
    data.setup()
    return data


def make_tracker(demo, datamodule, **arguments):
    """A tracker that knows the ontology, in the mode that it was made in."""
    torch.manual_seed(0)
    tracker = DialogueStateTracker(str(demo / "encoder"), **{"hidden": 20, **arguments})
    datamodule.configure(tracker)
    tracker.setup("fit")
    return tracker


def make_trainer(**arguments):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(accelerator="cpu", **quiet, **{"enable_checkpointing": False, **arguments})


def test_a_trackers_parameters_are_one_encoder_and_the_head(demo, datamodule):
    """No second encoder, neither trained nor stored, and no pooling head; and the frozen vectors."""
    tracker = make_tracker(demo, datamodule)
    encoder = AutoModel.from_pretrained(demo / "encoder", add_pooling_layer=False)
    d, h = 64, 20
    head = {
        "attention": 4 * (d * d + d),
        "start": d * h + h,
        "gru": 3 * h * (d + h + 2),
        "output": h * d + d,
        "norm": 2 * d,
    }
    expected = encoder.num_parameters() + sum(head.values())
    assert sum(parameter.numel() for parameter in trained(tracker).values()) == expected
    ontology = datamodule.ontology
    slots, widest = len(ontology.slots), max(map(len, ontology.values))
    stored = slots * d + slots * widest * d + slots * widest
    assert sum(value.numel() for value in tracker.state_dict().values()) == expected + stored
    assert {name.split(".")[1] for name in tracker.state_dict()} == (
        {"encoder", "attention", "tracker", "slot_vectors", "value_vectors", "value_mask"}
    )


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


@pytest.mark.parametrize("distance", fast_one_in(2, ["euclidean", "cosine"]))
def test_validation_logs_what_the_description_gives(demo, datamodule, distance):
    """The whole way: files, features, batches of two, the model and the metric, through Lightning."""
    tracker = make_tracker(demo, datamodule, distance=distance)
    trainer = make_trainer()
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
    tracker, trainer = make_tracker(demo, data), make_trainer()
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
    trainer = make_trainer()
    trainer.test(make_tracker(demo, datamodule), datamodule, verbose=False)
    trainer.save_checkpoint(path)
    return path


@pytest.mark.parametrize("change", CHANGES)
def test_a_checkpoint_is_for_data_with_its_ontology(demo, checkpoint, tmp_path, change):
    data = with_ontology(demo, tmp_path, change)
    said = re.escape(f"trained with another ontology than {data.root}/domains/hostel/ontology.json: {CHANGES[change]}.")
    with pytest.raises(InputError, match=said):
        make_trainer().test(DialogueStateTracker(str(demo / "encoder")), data, ckpt_path=checkpoint, verbose=False)
    with pytest.raises(InputError, match=said):
        make_trainer().test(DialogueStateTracker.load_from_checkpoint(checkpoint), data, verbose=False)


def test_a_tracker_is_for_data_with_its_ontology(demo, datamodule, tmp_path):
    tracker = make_tracker(demo, datamodule)
    with pytest.raises(InputError, match=f"trained with another ontology than .*: {CHANGES[rename]}"):
        make_trainer().test(tracker, with_ontology(demo, tmp_path, rename), verbose=False)


def test_a_tracker_is_scored_on_the_slots_of_the_domain_that_it_is_tested_on(demo, datamodule):
    tracker, ontology = make_tracker(demo, datamodule), datamodule.ontology
    assert tracker.test_scores.target.tolist() == datamodule.target_slots
    other = next(domain for domain in ontology.domains if domain != datamodule.domain)
    tracker.configure_data(DialogueSpec(ontology, tuple(ontology.slots_of(other))))
    assert tracker.test_scores.target.tolist() == ontology.slots_of(other)
    scores = tracker.test_scores
    tracker.configure_data(DialogueSpec(ontology, tuple(ontology.slots_of(other))))
    assert tracker.test_scores is scores


def test_a_checkpoint_says_its_ontology_and_older_ones_load_without(demo, datamodule, checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    assert content["slots"] == {s: list(v) for s, v in zip(datamodule.ontology.slots, datamodule.ontology.values)}
    del content["slots"]
    torch.save(content, tmp_path / "old.ckpt")
    scores = [
        make_trainer().test(DialogueStateTracker.load_from_checkpoint(path), datamodule, verbose=False)
        for path in (checkpoint, tmp_path / "old.ckpt")
    ]
    assert scores[0] == scores[1]
    torch.save({**content, "slots": ["hostel-area"]}, tmp_path / "foreign.ckpt")
    with pytest.raises(InputError, match="The checkpoint has no slots"):
        DialogueStateTracker.load_from_checkpoint(tmp_path / "foreign.ckpt")


def test_the_encoders_dropout_is_active_in_training_and_only_there(demo, datamodule):
    tracker = make_tracker(demo, datamodule)
    assert all(module.training for module in tracker.modules())
    batch = next(iter(datamodule.val_dataloader()))
    assert not torch.equal(tracker(batch), tracker(batch))
    ids = batch.groups[0].input_ids
    first, second = (tracker.model.encoder(ids).last_hidden_state for _ in range(2))
    assert not torch.equal(first, second), "the encoder's own"
    tracker.eval()
    assert torch.equal(tracker(batch), tracker(batch))


def test_a_fit_trains_every_parameter_in_training_mode_and_a_checkpoint_keeps_it_all(
    demo, datamodule, tmp_path, monkeypatch
):
    class Watched(DialogueStateTracker):
        def training_step(self, batch, batch_idx):
            modes.append({module.training for module in self.modules() if not isinstance(module, BeliefScores)})
            return super().training_step(batch, batch_idx)

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=1e-2)

    modes = []
    torch.manual_seed(0)
    tracker = Watched(str(demo / "encoder"), hidden=20)
    before = {name: parameter.detach().clone() for name, parameter in trained(tracker).items()}
    # the second epoch comes after a validation, which puts all modules in evaluation mode for its time
    trainer = make_trainer(max_epochs=2)
    trainer.fit(tracker, datamodule)
    assert modes == [{True}] * 4
    assert set(trained(tracker)) == set(before)
    assert not any(torch.equal(parameter, before[name]) for name, parameter in trained(tracker).items())
    assert {"val/loss", "val/joint_accuracy", "train/loss", "train/slot_accuracy"} <= set(trainer.callback_metrics)
    trainer.save_checkpoint(tmp_path / "tracker.ckpt")

    # not set up with any data: what was trained and the slots' vectors come from the checkpoint
    loaded = DialogueStateTracker.load_from_checkpoint(tmp_path / "tracker.ckpt", weights_only=True).eval()
    batch = next(iter(datamodule.test_dataloader()))
    with torch.no_grad():
        assert torch.equal(loaded(batch), tracker.eval()(batch))
    monkeypatch.setattr("gradual.tasks.dialogue.task.text_vectors", lambda *_: pytest.fail("encoded again"))
    trainer = make_trainer()
    assert trainer.test(loaded, datamodule, verbose=False) == trainer.test(tracker, datamodule, verbose=False)


@pytest.mark.parametrize("precision", fast_one_in(2, ["bf16-true", "64-true"]))
def test_a_model_in_another_type_learns_and_its_loss_is_summed_exactly(demo, datamodule, tmp_path, precision):
    torch.manual_seed(0)
    tracker = DialogueStateTracker(str(demo / "encoder"), hidden=20)
    tracker.configure_optimizers = lambda: torch.optim.AdamW(tracker.parameters(), lr=1e-2)
    trainer = make_trainer(max_epochs=3, precision=precision, inference_mode=False)
    before = trainer.validate(tracker, datamodule, verbose=False)[0]["val/loss"]
    trainer.fit(tracker, datamodule)
    logged = trainer.validate(tracker, datamodule, verbose=False)[0]["val/loss"]
    dtype = {"bf16-true": torch.bfloat16, "64-true": torch.float64}[precision]
    assert {parameter.dtype for parameter in tracker.parameters()} == {dtype}
    assert logged < before
    batches = list(datamodule.val_dataloader())
    with torch.no_grad():
        losses = torch.cat([turn_losses(tracker.eval()(batch), batch.labels) for batch in batches]).double()
    assert logged == pytest.approx(losses.mean(0).sum().item(), rel=1e-6)

    trainer.save_checkpoint(tmp_path / "tracker.ckpt")
    loaded = DialogueStateTracker.load_from_checkpoint(tmp_path / "tracker.ckpt").eval()
    assert {value.dtype for value in loaded.state_dict().values()} == {torch.float32, torch.bool}
    assert len(loaded(batches[0])) == len(batches[0].labels)


def test_the_encoder_keeps_its_first_layers(demo, datamodule):
    whole = AutoModel.from_pretrained(demo / "encoder").eval()
    cut = DialogueStateTracker(str(demo / "encoder"), encoder_layers=1).model.encoder.eval()
    assert cut.config.num_hidden_layers == 1
    ids = next(iter(datamodule.val_dataloader())).groups[0].input_ids[:2]
    with torch.no_grad():
        after_first = whole(ids, output_hidden_states=True).hidden_states[1]
        torch.testing.assert_close(cut(ids).last_hidden_state, after_first)
    assert len(DialogueStateTracker(str(demo / "encoder")).model.encoder.encoder.layer) == 2


@pytest.mark.parametrize("layers", [0, -1, 3])
def test_a_wrong_number_of_layers_is_an_input_error(demo, layers):
    with pytest.raises(InputError, match=rf"encoder_layers is {layers}: it must be from 1 to 2, the layers of .*\.$"):
        DialogueStateTracker(str(demo / "encoder"), encoder_layers=layers)


@pytest.mark.parametrize("heads", [0, -1, 3, 128])
def test_a_wrong_number_of_heads_is_an_input_error(demo, heads):
    with pytest.raises(InputError, match=rf"heads is {heads}: it must divide the encoder's width, 64\.$"):
        DialogueStateTracker(str(demo / "encoder"), heads=heads)


def damage_weights(folder):
    (folder / "model.safetensors").write_bytes(b"cut sho")


def damage_config(folder):
    (folder / "config.json").write_text("{")


def drop_weights(folder):
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize("damage", [shutil.rmtree, damage_weights, damage_config, drop_weights])
def test_a_missing_or_damaged_encoder_is_an_input_error(demo, tmp_path, damage):
    folder = tmp_path / "encoder"
    shutil.copytree(demo / "encoder", folder)
    damage(folder)
    with pytest.raises(InputError, match="cannot be loaded as an encoder") as caught:
        DialogueStateTracker(str(folder))
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def drop_tokenizer(folder):
    for file in folder.glob("tokenizer*"):
        file.unlink()


def damage_tokenizer(folder):
    (folder / "tokenizer.json").write_text("{}")


@pytest.mark.parametrize("damage", [shutil.rmtree, drop_tokenizer, damage_tokenizer])
def test_a_missing_or_damaged_tokenizer_is_an_input_error(demo, tmp_path, damage):
    """A folder of weights alone would otherwise read every word as unknown."""
    folder = tmp_path / "encoder"
    shutil.copytree(demo / "encoder", folder)
    damage(folder)
    with pytest.raises(InputError) as caught:
        load_tokenizer(str(folder))
    assert str(folder) in str(caught.value)


def test_loading_leaves_the_librarys_logging_as_it_was(demo):
    before = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    load_encoder(str(demo / "encoder"))
    assert (transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()) == before


def test_the_ontology_is_encoded_once(demo, datamodule, monkeypatch):
    """A stage's fit, its validation and the test each set the module up."""
    tracker = make_tracker(demo, datamodule)
    vectors = tracker.model.value_vectors
    monkeypatch.setattr("gradual.tasks.dialogue.task.load_encoder", lambda *_: pytest.fail("loaded again"))
    for stage in ("fit", "validate", "test"):
        tracker.setup(stage)
    assert tracker.model.value_vectors is vectors

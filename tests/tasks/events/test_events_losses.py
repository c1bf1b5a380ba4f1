"""What counts in the losses of an event extractor, and how much."""

import math

import pytest
import torch
from events_corpus import NAMES, SENTENCES, configured, data, extractor, predicted
from events_files import document, write_documents
from quiet_trainer import quiet_trainer

from gradual.errors import InputError
from gradual.tasks.events import EventExtractor
from gradual.tasks.events.loss import LossWeights, heads

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # Lightning's advice


def test_the_loss_is_weighted_and_averaged_over_documents(folder):
    datamodule = data(folder)
    weights = LossWeights(ner=0.5, relations=0.3, events=2.0, triggers=0.2, arguments=0.7)
    model = configured(folder, datamodule, loss_weights=weights)
    documents = [datamodule.domains.in_domain[at] for at in range(3)]

    def loss(documents):
        return model.training_step(datamodule.collate_fn(documents), 0)

    with torch.no_grad():
        model.log = lambda *_, **__: None
        alone = [loss([example]).item() for example in documents]
        assert loss(documents).item() == pytest.approx(sum(alone) / 3, rel=1e-5)
        heavier = [example._replace(weight=3.0) for example in documents[:1]]
        assert loss(heavier).item() == pytest.approx(3 * alone[0], rel=1e-5)
        batch = datamodule.collate_fn(documents[:1])
        parts = {}
        for head in heads(model.model(batch), batch, {}):
            rows = head.logits.log_softmax(1)[range(len(head.labels)), head.labels]
            parts[head.name] = -rows.sum().item()
    factors = {"ner": 0.5, "relations": 0.3, "triggers": 0.4, "arguments": 1.4}
    assert alone[0] == pytest.approx(sum(factors[name] * part for name, part in parts.items()), rel=1e-5)


def test_a_checkpoint_has_the_weights_of_its_losses(folder, tmp_path):
    datamodule = data(folder)
    model = configured(folder, datamodule, loss_weights={"ner": 5.0, "triggers": 3.0})
    assert model.loss_weights == LossWeights(ner=5.0, triggers=3.0)
    tester = quiet_trainer()
    (scores,) = tester.test(model, datamodule, verbose=False)
    tester.save_checkpoint(tmp_path / "model.ckpt")
    loaded = EventExtractor.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    assert quiet_trainer().test(loaded, data(folder), verbose=False) == [pytest.approx(scores)]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"ner": -1}, "loss_weights.ner is -1.0: it must be a number of at least 0"),
        ({"nre": 1}, "loss_weights has no setting 'nre'"),
        ([1, 2], r"loss_weights is \[1, 2\]: it must be a mapping of weights, such as {ner: 0.5}"),
    ],
)
def test_wrong_weights_of_losses_are_an_input_error(folder, weights, message):
    with pytest.raises(InputError, match=message):
        extractor(folder, loss_weights=weights)


def test_a_layer_without_weight_is_neither_trained_nor_scored(folder):
    datamodule = data(folder)
    model = configured(folder, datamodule, loss_weights=LossWeights(ner=0, relations=0))
    assert set(model.model.scorers) == {"triggers", "trigger_candidates", "argument_candidates", "arguments"}
    (scores,) = quiet_trainer().test(model, datamodule, verbose=False)
    assert set(scores) == {f"test/{name}" for name in NAMES if not name.startswith(("ner_", "relation_"))}
    with torch.inference_mode():
        (record, *_) = model.test_step(next(iter(datamodule.test_dataloader())), 0)
    assert set(record) == {"id", "trig_id_f1", "trig_c_f1", "arg_id_f1", "arg_c_f1"}
    (record, *_) = predicted(model, datamodule)
    assert [name for name in record if name.startswith("predicted")] == ["predicted_events"]


def test_nothing_to_learn_is_an_input_error(folder, tmp_path):
    for name in ("train", "dev"):
        write_documents(tmp_path / f"{name}.json", [document(name, "two men")])
    plain = {"val": str(tmp_path / "dev.json"), "test": None, "out_of_domain": None}
    with pytest.raises(InputError, match="nothing to learn"):
        configured(folder, data(folder, in_domain=str(tmp_path / "train.json"), **plain))
    with pytest.raises(InputError, match="nothing to learn"):
        configured(folder, loss_weights=LossWeights(ner=0, relations=0, events=0))


def test_documents_without_a_layer_count_neither_in_its_loss_nor_in_its_scores(folder, tmp_path):
    """A pool with events alone says nothing about entities, even where entities are predicted in it."""
    whole = document("A", *SENTENCES[:2])
    events_only = document("B", *SENTENCES[:2], layers=["events"])
    results, losses = [], []
    for number, documents in enumerate(([whole], [whole, events_only])):
        write_documents(tmp_path / f"{number}.json", documents)
        datamodule = data(folder, test=str(tmp_path / f"{number}.json"))
        (scores,) = quiet_trainer().test(configured(folder, datamodule), datamodule, verbose=False)
        results.append(scores)
        model = configured(folder, datamodule, loss_weights=LossWeights(events=0))
        model.log = lambda *_, **__: None
        with torch.no_grad():
            losses.append(model.training_step(datamodule.collate_fn([*datamodule.domains.test]), 0).item())
    assert losses[1] == pytest.approx(losses[0] / 2, rel=1e-5)  # the mean over documents, one of which adds nothing
    assert results[0]["test/ner_f1"] > 0
    for name in ("ner", "relation"):
        for part in ("precision", "recall", "f1"):
            assert results[0][f"test/{name}_{part}"] == results[1][f"test/{name}_{part}"]


@pytest.mark.parametrize("labels", ["all", "own"])
def test_labels_that_the_pools_schema_lacks(folder, labels):
    """With ``own`` they cannot be predicted for its documents, and cost them nothing."""
    datamodule = data(folder, out_of_domain_labels=labels)
    model = configured(folder, datamodule)
    batch = datamodule.collate_fn([datamodule.domains.out_of_domain[1], datamodule.domains.in_domain[0]])
    with torch.no_grad():
        found = model(batch)
    own = {"ner": {"PER"}, "relations": set(), "triggers": {"Attack", "Die", "Arrest"}, "roles": {"Attacker", "Victim"}}
    for head in found.values():
        names = getattr(datamodule.labels, head.kind)
        for member, pool in ((0, True), (1, False)):
            rows = head.logits[batch.document[head.sentence] == member]
            for at, name in enumerate(names, start=1):
                masked = labels == "own" and pool and name not in own[head.kind]
                assert (rows[:, at] == -math.inf).all() if masked else rows[:, at].isfinite().all()
            assert not rows[:, 0].any()
    with torch.enable_grad():
        model.log = lambda *_, **__: None
        model.training_step(batch, 0).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())

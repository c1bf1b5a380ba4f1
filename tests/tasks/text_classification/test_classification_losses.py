"""Logits, losses and gradients of a text classifier, against plain transformers and by hand."""

import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from classification_files import configured, data, rows
from transformers import AutoModelForSequenceClassification, AutoTokenizer

TARGETS = ("label", "labels", "number")


@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", ["bert", "roberta", "modernbert"])
def test_loss_and_logits_are_those_of_plain_transformers(tmp_path, encoders, kind, target, pair):
    """The loss of a batch is what the model of ``transformers`` computes for the texts, padded by its tokenizer."""
    datamodule = data(tmp_path, encoders[kind], target, labels=("a", "b", "c"), pair=pair)
    model = configured(datamodule, encoders[kind])
    model.save_pretrained(tmp_path / "out")
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    tokenizer = AutoTokenizer.from_pretrained(encoders[kind])
    examples = rows("in_domain", 12, target, ("a", "b", "c"), pair)
    texts = [[example[name] for example in examples] for name in (["text", "text_pair"] if pair else ["text"])]
    inputs = tokenizer(*texts, padding=True, return_tensors="pt")
    if kind != "bert":
        inputs.pop("token_type_ids", None)
    known = {name: at for at, name in enumerate(model.spec.labels)}
    gold = torch.tensor(
        {
            "label": lambda: [known[example["label"]] for example in examples],
            "labels": lambda: [[float(name in example["label"]) for name in known] for example in examples],
            "number": lambda: [example["label"] for example in examples],
        }[target]()
    )
    expected = plain(**inputs, labels=gold)
    batch = datamodule.collate_fn(datamodule.domains.in_domain.__getitems__(list(range(12))))
    logits = model(batch)
    torch.testing.assert_close(logits, expected.logits.reshape(logits.shape), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model._step(batch, "train"), expected.loss, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_an_example_counts_alike_in_every_batch(tmp_path, encoders, kind):
    datamodule = data(tmp_path, encoders[kind])
    model, examples = configured(datamodule, encoders[kind]), datamodule.domains.in_domain
    together = model(datamodule.collate_fn(examples.__getitems__(list(range(12)))))
    for order in ([3], [11, 3, 0], list(reversed(range(12)))):
        found = model(datamodule.collate_fn(examples.__getitems__(order)))
        torch.testing.assert_close(found, together[order], rtol=1e-5, atol=1e-5)


def test_gradient_checkpointing_changes_no_gradient(tmp_path, encoders):
    datamodule = data(tmp_path, encoders["bert"])
    gradients = []
    for checkpointing in (False, True):
        with warnings.catch_warnings(action="error", category=FutureWarning):
            model = configured(datamodule, encoders["bert"], gradient_checkpointing=checkpointing).train()
        assert any(getattr(part, "gradient_checkpointing", False) for part in model.modules()) is checkpointing
        model._step(datamodule.collate_fn([datamodule.domains.in_domain[at] for at in range(5)]), "train").backward()
        gradients.append([parameter.grad for parameter in model.model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("target", ["label", "labels"])
def test_labels_that_the_pool_cannot_have_are_left_out_of_its_loss(tmp_path, encoders, target):
    pool = rows("pool", 6, target, ("a", "x", "c") if target == "label" else ("a", "x", "c", "d"))
    settings = {"pool": pool, "labels": ("a", "b", "c")}
    datamodule = data(tmp_path, encoders["bert"], target, out_of_domain_labels="own", **settings)
    model = configured(datamodule, encoders["bert"])
    labels = model.spec.labels
    own = ["a", "c", "x"]
    assert [label for label, is_own in zip(labels, model.spec.allowed[1]) if is_own] == own
    domains = datamodule.domains
    examples = [domains.in_domain[0], domains.in_domain[1], domains.out_of_domain[1], domains.out_of_domain[2]]
    batch = datamodule.collate_fn(examples)
    logits = model(batch)
    expected = []
    for row, (schema, gold) in enumerate(zip(batch.schema.tolist(), batch.gold.tolist())):
        counted = [at for at, label in enumerate(labels) if schema == 0 or label in own]
        if target == "label":
            total = math.log(sum(math.exp(logits[row, at].item()) for at in counted))
            expected.append(total - logits[row, gold.index(True)].item())
        else:
            each = [
                F.binary_cross_entropy_with_logits(logits[row, at], torch.tensor(float(gold[at]))) for at in counted
            ]
            expected.append(sum(one.item() for one in each) / len(counted))
    torch.testing.assert_close(model.losses(logits, batch), torch.tensor(expected), rtol=1e-5, atol=1e-5)
    everything = configured(data(tmp_path / "all", encoders["bert"], target, **settings), encoders["bert"])
    assert everything.spec.allowed == ()
    other = everything.losses(logits, batch)
    torch.testing.assert_close(other[:2], model.losses(logits, batch)[:2])  # of the target domain
    assert not torch.isclose(other[2:], model.losses(logits, batch)[2:], rtol=1e-3).any()

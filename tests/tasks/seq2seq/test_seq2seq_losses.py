"""Losses and gradients of sequence-to-sequence models, against each pair alone, one token at a time."""

import warnings

import pytest
import torch
from pair_files import PAIRS, model_of, tokenizer_of
from seq2seq_models import FAMILIES, LARGE, configured, naive
from slow_cases import fast_one_in
from trained_precision import trained_in, types_of_results

from gradual.tasks import Seq2Seq
from gradual.tasks.seq2seq.scores import MEANS

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # Lightning's advice


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("max_padding", fast_one_in(2, [0.99, 0.2, 0]))
def test_loss_and_gradients_are_those_of_the_pairs_alone(folder, family, max_padding):
    model, datamodule = configured(folder, family, {"max_padding": max_padding})
    alone = model_of(family)
    (batch,) = datamodule.train_dataloader()
    assert (len(batch.groups) == 1) is (max_padding == 0.99)
    loss = model.eval().training_step(batch, 0)
    sums = [naive(alone, tokenizer_of(family), *pair) for pair in PAIRS]
    expected = sum(total for total, _ in sums) / sum(count for _, count in sums)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    expected.backward()
    for mine, theirs in zip(model.model.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad.float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_has_the_loss_that_transformers_computes(folder, family):
    model, datamodule = configured(folder, family)
    (batch,) = datamodule.train_dataloader()
    expected = model_of(family)(input_ids=batch.source, attention_mask=batch.mask, labels=batch.labels).loss
    assert model.eval().training_step(batch, 0).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("family", fast_one_in(2, LARGE))
def test_records_do_not_depend_on_the_batch(folder, family):
    records = []
    for size, max_padding in ((1, 0.2), (2, 0), (8, 0.99)):
        settings = {"batch_size": size, "max_padding": max_padding}
        model, datamodule = configured(folder, family, settings, scores=MEANS)
        with torch.no_grad():
            batches = enumerate(datamodule.test_dataloader())
            records.append([record for i, batch in batches for record in model.eval().test_step(batch, i)])
    for other in records[1:]:
        assert [record["id"] for record in other] == [f"test{at}" for at in range(len(PAIRS))]
        for mine, theirs in zip(other, records[0], strict=True):
            assert mine.keys() == theirs.keys()
            assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
            assert {name: mine[name] for name in MEANS} == {name: theirs[name] for name in MEANS}


def test_an_architecture_that_shifts_targets_itself_reads_the_same(folder, tmp_path):
    """Some, like M2M100, have no method for it."""
    model, datamodule = configured(folder, "bart")
    (batch,) = datamodule.train_dataloader()
    expected = model.model.prepare_decoder_input_ids_from_labels(batch.labels)

    class Bare(torch.nn.Module):
        config = model.model.config

    model.model = Bare()
    assert torch.equal(model._decoder_inputs(batch.labels), expected)


def test_gradient_checkpointing_gives_the_same_gradients(folder):
    gradients = []
    for checkpointing in (False, True):
        with warnings.catch_warnings(action="error", category=FutureWarning):
            model, datamodule = configured(folder, gradient_checkpointing=checkpointing)
        assert any(getattr(part, "gradient_checkpointing", False) for part in model.modules()) is checkpointing
        (batch,) = datamodule.train_dataloader()
        model.training_step(batch, 0).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("precision", fast_one_in(2, ["bf16-true", "bf16-mixed"]))
def test_other_precisions_train(folder, precision):
    model, datamodule = configured(folder, val_scores=["exact_match"])
    model.log = Seq2Seq.log.__get__(model)
    computed = types_of_results(model)
    _, before, after = trained_in(precision, model, datamodule)
    assert after < before
    weights = torch.bfloat16 if precision == "bf16-true" else torch.float32
    assert {parameter.dtype for parameter in model.parameters()} == {weights}
    assert computed == {torch.bfloat16}


def test_a_prefix_stands_before_each_source(folder):
    model, datamodule = configured(folder, settings={"prefix": "translate : "})
    alone = model_of("t5")
    (batch,) = datamodule.val_dataloader()
    sums = [naive(alone, tokenizer_of("t5"), f"translate : {source}", target) for source, target in PAIRS]
    losses, counts = model.eval().losses(batch)
    assert losses.tolist() == pytest.approx([total.item() for total, _ in sums], rel=1e-5)
    assert counts.tolist() == [count for _, count in sums]

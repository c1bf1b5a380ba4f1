"""Losses and gradients of language models, against each row alone, one token at a time."""

import warnings
from functools import partial

import pytest
import torch
from causal_lm_models import ROWS, configured, naive
from language_files import model_of, tokenizer_of
from slow_cases import fast_one_in
from trained_precision import trained_in, types_of_results
from transformers import AutoModelForCausalLM

from gradual.nn.causal import takes_rows
from gradual.tasks import CausalLM
from gradual.tasks.causal_lm.loss import LOGITS_AT_ONCE, token_losses

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # Lightning's advice


@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom"])
@pytest.mark.parametrize("form", ["text", "completion", "messages"])
@pytest.mark.parametrize("at_once", [LOGITS_AT_ONCE, 900])
def test_loss_and_gradients_are_those_of_the_rows_alone(folder, monkeypatch, family, form, at_once):
    monkeypatch.setattr("gradual.tasks.causal_lm.task.token_losses", partial(token_losses, at_once=at_once))
    model, datamodule = configured(folder, form, family)
    assert takes_rows(model.model) is (family != "bloom")
    alone = AutoModelForCausalLM.from_pretrained(folder / family, attn_implementation="eager").eval()
    (batch,) = datamodule.train_dataloader()
    loss = model.eval().training_step(batch, 0)
    sums = [naive(alone, tokenizer_of(family), row) for row in ROWS[form]]
    expected = sum(total for total, _ in sums) / sum(count for _, count in sums)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    expected.backward()
    for mine, theirs in zip(model.model.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad.float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom"])
def test_the_loss_of_an_example_does_not_depend_on_its_batch(folder, family):
    records = []
    for size in (1, 2, 8):
        model, datamodule = configured(folder, "messages", family, {"batch_size": size})
        with torch.no_grad():
            records.append(
                [r for i, b in enumerate(datamodule.test_dataloader()) for r in model.eval().test_step(b, i)]
            )
    for one in records[1:]:
        for mine, theirs in zip(one, records[0], strict=True):
            assert mine["id"] == theirs["id"]
            assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-5)


@pytest.mark.parametrize("form", ["completion", "messages"])
def test_all_tokens_have_a_loss_where_asked_for(folder, form):
    model, datamodule = configured(folder, form, settings={"loss_on": "all"})
    (batch,) = datamodule.val_dataloader()
    assert len(batch.targets) == len(batch.pieces.ids) - len(batch.ids)  # all but the first
    if form == "completion":
        sums = [naive(model_of("llama"), tokenizer_of("llama"), row, "all") for row in ROWS[form]]
        expected = sum(total for total, _ in sums) / sum(count for _, count in sums)
        assert model.eval()._step(batch, "val").item() == pytest.approx(expected.item(), rel=1e-5)


def test_gradient_checkpointing_gives_the_same_gradients(folder):
    gradients = []
    for checkpointing in (False, True):
        with warnings.catch_warnings(action="error", category=FutureWarning):
            model, datamodule = configured(folder, family="gpt2", gradient_checkpointing=checkpointing)
        assert any(getattr(part, "gradient_checkpointing", False) for part in model.modules()) is checkpointing
        (batch,) = datamodule.train_dataloader()
        model.training_step(batch, 0).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("precision", fast_one_in(2, ["bf16-true", "bf16-mixed"]))
def test_other_precisions_train(folder, precision):
    model, datamodule = configured(folder, "text")
    model.log = CausalLM.log.__get__(model)
    computed = types_of_results(model)
    _, before, after = trained_in(precision, model, datamodule)
    assert after < before
    weights = torch.bfloat16 if precision == "bf16-true" else torch.float32
    assert {parameter.dtype for parameter in model.parameters()} == {weights}
    assert computed == {torch.bfloat16}

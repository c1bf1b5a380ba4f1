"""Language models with LoRA adapters, against peft and as transformers loads them."""

from functools import partial

import pytest
import torch
from causal_lm_models import PAIRS, ROWS, completions, configured, fit, naive
from language_files import tokenizer_of
from peft import LoraConfig, get_peft_model
from trained_parameters import trained
from transformers import AutoModelForCausalLM

from gradual.errors import InputError
from gradual.tasks import CausalLM
from gradual.tasks.causal_lm.loss import token_losses

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # Lightning's advice


@pytest.mark.parametrize(
    ("family", "targets"),
    [
        ("llama", "all-linear"),
        ("llama", ["lm_head"]),
        ("llama", ["q_proj", "embed_tokens"]),
        ("gpt2", "all-linear"),
        ("untied", ["lm_head"]),
    ],
)
def test_with_an_adapter_loss_and_gradients_are_those_of_peft(folder, monkeypatch, family, targets):
    monkeypatch.setattr("gradual.tasks.causal_lm.task.token_losses", partial(token_losses, at_once=900))
    lora = {"r": 3, "alpha": 3, "dropout": 0.0, "target_modules": targets}
    model, datamodule = configured(folder, family=family, lora=lora)
    config = LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=3, target_modules=targets)
    alone = get_peft_model(AutoModelForCausalLM.from_pretrained(folder / family), config)
    with torch.no_grad():
        for mine, theirs in zip(trained(model.model).values(), trained(alone).values(), strict=True):
            mine.copy_(theirs.normal_(std=0.3))
    (batch,) = datamodule.train_dataloader()
    loss = model.training_step(batch, 0)
    sums = [naive(alone, tokenizer_of(family), row) for row in ROWS["completion"]]
    expected = sum(total for total, _ in sums) / sum(count for _, count in sums)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    expected.backward()
    for mine, theirs in zip(trained(model.model).values(), trained(alone).values(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("target", ["lm_head", "wte"])
def test_a_layer_that_is_tied_to_the_embeddings_has_no_adapter_of_its_own(folder, target):
    with pytest.raises(InputError, match=rf"{target} shares its weights with .*: leave (transformer\.)?{target} out"):
        configured(folder, family="gpt2", lora={"target_modules": ["c_attn", target]})


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_an_adapter_memorizes_a_tiny_corpus_and_is_merged_for_transformers(folder, tmp_path, family):
    result = fit(folder, tmp_path, family, (0,), lora={"r": 16, "dropout": 0.0})
    final = result.stages[-1]
    assert final.test["exact_match"] == 1.0
    loaded = CausalLM.load_from_checkpoint(tmp_path / "run" / final.path / "best.ckpt")
    loaded.save_pretrained(tmp_path / "out")
    tokenizer_of(family).save_pretrained(tmp_path / "out")
    assert completions(tmp_path / "out") == [row["completion"] for row in PAIRS]

"""Sequence-to-sequence models with LoRA adapters, against peft and as transformers loads them."""

import pytest
import torch
from pair_files import PAIRS, model_of, tokenizer_of
from peft import LoraConfig, get_peft_model
from seq2seq_models import FAMILIES, configured, fit, naive, one_by_one
from slow_cases import fast_one_in
from trained_parameters import trained

from gradual.tasks import Seq2Seq

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # Lightning's advice


@pytest.mark.parametrize("family", fast_one_in(2, FAMILIES))
def test_with_an_adapter_loss_and_gradients_are_those_of_peft(folder, family):
    model, datamodule = configured(folder, family, lora={"r": 3, "alpha": 3, "dropout": 0.0})
    config = LoraConfig(task_type="SEQ_2_SEQ_LM", r=3, lora_alpha=3, target_modules="all-linear")
    alone = get_peft_model(model_of(family), config)
    with torch.no_grad():
        for mine, theirs in zip(trained(model.model).values(), trained(alone).values(), strict=True):
            mine.copy_(theirs.normal_(std=0.1))
    (batch,) = datamodule.train_dataloader()
    loss = model.training_step(batch, 0)
    sums = [naive(alone, tokenizer_of(family), *pair) for pair in PAIRS]
    expected = sum(total for total, _ in sums) / sum(count for _, count in sums)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    expected.backward()
    for mine, theirs in zip(trained(model.model).values(), trained(alone).values(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad.float(), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["t5", "large bart"])
def test_an_adapter_memorizes_pairs_and_is_merged_for_transformers(folder, tmp_path, family):
    model = Seq2Seq(str(folder / family), lora={"r": 16, "dropout": 0.0})
    settings = {"max_epochs": 60, "check_val_every_n_epoch": 60, "optimizer": {"lr": 5e-3}, "gradient_clip_val": 1.0}
    _, result = fit(folder, tmp_path, family, (0,), model, **settings)
    final = result.stages[-1]
    assert final.test["exact_match"] == 1.0
    loaded = Seq2Seq.load_from_checkpoint(tmp_path / "run" / final.path / "best.ckpt")
    loaded.save_pretrained(tmp_path / "out")
    tokenizer_of(family).save_pretrained(tmp_path / "out")
    assert one_by_one(tmp_path, "out", [source for source, _ in PAIRS]) == [target for _, target in PAIRS]

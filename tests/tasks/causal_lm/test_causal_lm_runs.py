"""Runs of language models: what is memorized, kept in checkpoints, and the same after a kill and on two processes."""

import json
from functools import partial

import pytest
import torch
from causal_lm_models import PAIRS, SUMS, completions, configured, data, fit
from interrupted_runs import At, in_a_process, outcome
from language_files import CHAT, THINKING, model_of, tokenizer_of, write_model, write_rows
from lightning.pytorch.strategies import ModelParallelStrategy
from memorized_runs import memorize
from quiet_trainer import quiet_trainer
from slow_cases import fast_one_in
from two_processes import in_two_processes

from gradual.tasks import CausalLM

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # Lightning's advice


@pytest.mark.parametrize("family", fast_one_in(2, ["llama", "gpt2"]))
def test_a_tiny_corpus_is_memorized_and_the_model_goes_back_to_transformers(folder, tmp_path, family):
    result = fit(folder, tmp_path, family)
    final = result.stages[-1]
    assert final.test["loss"] < 0.05
    assert {final.test[name] for name in ("exact_match", "rouge1", "rougeL")} == {1.0}
    assert set(final.val) == {"loss", "perplexity"}
    lines = (tmp_path / "run" / final.path / "test_examples.jsonl").read_text().splitlines()
    assert [json.loads(line)["exact_match"] for line in lines] == [[1.0, 1]] * len(lines)

    loaded = CausalLM.load_from_checkpoint(tmp_path / "run" / final.path / "best.ckpt")
    (scores,) = quiet_trainer().test(loaded, data(folder, family=family), verbose=False)
    assert scores == pytest.approx({f"test/{name}": value for name, value in final.test.items()})
    loaded.save_pretrained(tmp_path / "out")
    tokenizer_of(family).save_pretrained(tmp_path / "out")
    assert completions(tmp_path / "out") == [row["completion"] for row in PAIRS]


def test_a_checkpoint_needs_neither_the_data_nor_the_pretrained_folder(folder, tmp_path):
    write_model(tmp_path / "model", "gpt2")
    model, datamodule = configured(folder, family="gpt2")
    model.hparams["pretrained"] = model.pretrained = str(tmp_path / "gone")
    made = quiet_trainer(enable_checkpointing=True)
    made.strategy.connect(model)
    made.save_checkpoint(tmp_path / "model.ckpt")
    loaded = CausalLM.load_from_checkpoint(tmp_path / "model.ckpt")
    (batch,) = datamodule.val_dataloader()
    assert torch.equal(loaded.eval()._step(batch, "val"), model.eval()._step(batch, "val"))


@pytest.mark.parametrize(("end", "ends"), [(1, (1,)), (None, ())])
def test_a_checkpoint_of_an_older_version_has_one_end(folder, tmp_path, end, ends):
    model, _ = configured(folder)
    made = quiet_trainer(enable_checkpointing=True)
    made.strategy.connect(model)
    made.save_checkpoint(tmp_path / "model.ckpt")
    checkpoint = torch.load(tmp_path / "model.ckpt")
    checkpoint["spec"] = {"tokenizer": str(folder / "llama"), "vocabulary": 300, "padding": 3, "end": end}
    torch.save(checkpoint, tmp_path / "model.ckpt")
    loaded = CausalLM.load_from_checkpoint(tmp_path / "model.ckpt")
    assert (loaded.spec.end, loaded.spec.before, loaded.spec.markers) == (ends, "", ())
    assert loaded.generation().eos_token_id == [1]  # which the model has, too


@pytest.mark.parametrize(
    ("chat", "end", "ends"),
    [
        pytest.param(CHAT, "<|pad|>", [1, 3], id="turns end with another token than texts"),
        pytest.param(THINKING, "<|stop|>", [1], id="turns begin with an empty block of reasoning"),
    ],
)
def test_what_a_template_puts_around_answers_is_no_part_of_them(folder, tmp_path, chat, end, ends):
    tokenizer = tokenizer_of("llama", chat, eos_token=end)
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|start|>", "<|stop|>"]})
    tokenizer.save_pretrained(tmp_path / "llama")
    model_of("llama", eos_token_id=tokenizer.eos_token_id).save_pretrained(tmp_path / "llama")
    talks = [[{"role": "user", "content": f"{a} plus {b}"}, {"role": "assistant", "content": c}] for a, b, c in SUMS]
    file = str(write_rows(tmp_path / "talks.jsonl", [{"messages": talk} for talk in talks]))
    files = dict.fromkeys(("in_domain", "val", "test"), file)
    datamodule = data(folder, tokenizer=str(tmp_path / "llama"), batch_size=4, **files)
    torch.manual_seed(0)
    model = CausalLM(str(tmp_path / "llama"), generate={"max_new_tokens": 24})
    stage, loaded = memorize(model, datamodule, tmp_path / "run", epochs=40)
    assert stage.test["exact_match"] == stage.test["rougeL"] == 1.0
    (records,) = quiet_trainer().predict(loaded, datamodule)
    assert [record["text"] for record in records] == [c for _, _, c in SUMS]
    loaded.save_pretrained(tmp_path / "out")
    written = json.loads((tmp_path / "out/generation_config.json").read_text())["eos_token_id"]
    assert [*(written if isinstance(written, list) else [written])] == ends


@pytest.mark.slow
def test_a_killed_run_goes_on_bit_for_bit(folder, tmp_path):
    """With dropout everywhere, so that a random state that is not restored shows."""
    noisy = {"attn_pdrop": 0.2, "resid_pdrop": 0.2, "embd_pdrop": 0.2}
    model_of("gpt2", **noisy).save_pretrained(tmp_path / "gpt2")
    tokenizer_of("gpt2").save_pretrained(tmp_path / "gpt2")
    for form in ("train", "dev", "test", "pool"):
        (tmp_path / f"completion.{form}.jsonl").symlink_to(folder / f"completion.{form}.jsonl")
    settings = {"max_epochs": 3, "check_val_every_n_epoch": 1, "checkpoint_every": 0, "schedule": (2, 0)}

    def run(root, *callbacks):
        fit(tmp_path, root, "gpt2", callbacks=list(callbacks), **settings)

    for root in ("whole", "killed"):
        (tmp_path / root).mkdir()
    assert in_a_process(lambda: run(tmp_path / "whole")) == 0
    assert in_a_process(lambda: run(tmp_path / "killed", At("on_train_batch_end", 5))) == -9
    assert in_a_process(lambda: run(tmp_path / "killed")) == 0
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(("family", "kind"), [("llama", "ddp"), ("gpt2", "fsdp")])
def test_two_processes_train_and_generate_as_one(folder, tmp_path, family, kind):
    """With the model divided among them (FSDP2), too, whose embeddings GPT-2 shares with its head."""

    def train(root, processes):
        divided = partial(ModelParallelStrategy, 2, 1, save_distributed_checkpoint=False)
        strategy = "auto" if processes == 1 else divided() if kind == "fsdp" else "ddp"
        settings = {"max_epochs": 3, "check_val_every_n_epoch": 3, "devices": processes, "strategy": strategy}
        fit(folder, root, family, (0,), batch_size=8 // processes, **settings)

    for processes in (1, 2):
        (tmp_path / str(processes)).mkdir()
    assert in_a_process(lambda: train(tmp_path / "1", 1)) == 0
    in_two_processes(lambda: train(tmp_path / "2", 2), tmp_path / "2")
    folders = [tmp_path / str(processes) / "run/seed-0/0" for processes in (1, 2)]
    one, two = (json.loads((path / "result.json").read_text()) for path in folders)
    for split in ("val", "test"):
        assert two[split] == pytest.approx(one[split], rel=1e-3, abs=1e-4)
    one, two = ([json.loads(line) for line in (path / "test_examples.jsonl").open()] for path in folders)
    for mine, theirs in zip(one, two, strict=True):
        assert mine == {**theirs, "loss": pytest.approx(theirs["loss"], rel=1e-3, abs=1e-4)}

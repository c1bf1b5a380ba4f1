"""Runs of sequence-to-sequence models: what is memorized, kept, and the same after a kill and on two processes."""

import json
from functools import partial

import pytest
import torch
from interrupted_runs import At, in_a_process, outcome
from lightning.pytorch.strategies import ModelParallelStrategy
from pair_files import PAIRS, tokenizer_of, write_model, write_parts
from quiet_trainer import quiet_trainer
from seq2seq_models import FAMILIES, configured, data, fit, one_by_one
from slow_cases import fast_one_in
from two_processes import in_two_processes

from gradual.stage.callbacks.predictions import PredictionWriter
from gradual.tasks import Seq2Seq
from gradual.tasks.seq2seq.scores import SCORES

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # Lightning's advice


@pytest.mark.parametrize("family", fast_one_in(2, FAMILIES))
def test_pairs_are_memorized_and_the_model_goes_back_to_transformers(folder, tmp_path, family):
    _, result = fit(folder, tmp_path, family, (0,), max_epochs=50, check_val_every_n_epoch=50)
    final = result.stages[-1]
    assert final.test["loss"] < 0.1
    assert {final.test[name] for name in ("exact_match", "rougeL", "chrf")} == {1.0}
    assert set(final.val) == {"loss"}
    lines = (tmp_path / "run" / final.path / "test_examples.jsonl").read_text().splitlines()
    assert [json.loads(line)["exact_match"] for line in lines] == [[1.0, 1]] * len(PAIRS)

    loaded = Seq2Seq.load_from_checkpoint(tmp_path / "run" / final.path / "best.ckpt")
    (scores,) = quiet_trainer().test(loaded, data(folder, family, eval_batch_size=4), verbose=False)
    assert scores == pytest.approx({f"test/{name}": value for name, value in final.test.items()})
    loaded.save_pretrained(tmp_path / "out")
    tokenizer_of(family).save_pretrained(tmp_path / "out")
    assert one_by_one(tmp_path, "out", [source for source, _ in PAIRS]) == [target for _, target in PAIRS]


def test_a_checkpoint_needs_no_pretrained_folder_and_generates_as_the_pretrained_model(folder, tmp_path):
    """Its settings of generation are in a file of their own, which the configuration does not repeat."""
    write_model(tmp_path / "model", "large bart")
    settings = tmp_path / "model/generation_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "num_beams": 3, "no_repeat_ngram_size": 1}))
    datamodule = data(folder, "large bart")
    datamodule.setup()
    model = Seq2Seq(str(tmp_path / "model"))
    datamodule.configure(model)
    model.configure_model()
    (batch,) = datamodule.test_dataloader()
    texts = model.eval().texts(batch)
    assert texts != configured(folder, "large bart")[0].eval().texts(batch)
    model.hparams["pretrained"] = str(tmp_path / "gone")
    made = quiet_trainer(enable_checkpointing=True)
    made.strategy.connect(model)
    made.save_checkpoint(tmp_path / "model.ckpt")
    loaded = Seq2Seq.load_from_checkpoint(tmp_path / "model.ckpt").eval()
    assert loaded.texts(batch) == texts
    assert torch.equal(loaded._step(batch, "val"), model._step(batch, "val"))
    loaded.save_pretrained(tmp_path / "out")
    written = json.loads((tmp_path / "out/generation_config.json").read_text())
    assert (written["num_beams"], written["no_repeat_ngram_size"], written["max_new_tokens"]) == (3, 1, 9)


def test_settings_of_sampling_do_not_keep_a_model_from_being_saved(folder, tmp_path):
    model, _ = configured(folder)
    model.model.generation_config.update(do_sample=True, temperature=0.5, top_p=0.9, max_length=20)
    model.model.save_pretrained = lambda folder: None
    model.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "generation_config.json").read_text())
    assert written["do_sample"] is False
    assert not {"temperature", "top_p", "max_length"} & {*written}


@pytest.mark.slow
def test_a_killed_run_goes_on_bit_for_bit(folder, tmp_path):
    """With dropout, so that a random state that is not restored shows, and texts in validation."""
    write_model(tmp_path / "bart", "bart", dropout=0.2)
    write_parts(tmp_path)
    settings = {"max_epochs": 3, "check_val_every_n_epoch": 1, "checkpoint_every": 0, "batch_size": 4}
    settings |= {"monitor": "val/chrf", "mode": "max"}

    def run(root, *callbacks):
        model = Seq2Seq(str(tmp_path / "bart"), val_scores=["chrf"])
        fit(tmp_path, root, "bart", model=model, callbacks=list(callbacks), **settings)

    for root in ("whole", "killed"):
        (tmp_path / root).mkdir()
    assert in_a_process(lambda: run(tmp_path / "whole")) == 0
    assert in_a_process(lambda: run(tmp_path / "killed", At("on_train_batch_end", 7))) == -9
    assert in_a_process(lambda: run(tmp_path / "killed")) == 0
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(("family", "kind"), [("t5", "ddp"), ("bart", "fsdp")])
def test_two_processes_train_and_score_as_one(folder, tmp_path, family, kind):
    """With the model divided among them (FSDP2), too, where each needs the other for every step of generation."""

    def train(root, processes):
        divided = partial(ModelParallelStrategy, 2, 1, save_distributed_checkpoint=False)
        strategy = "auto" if processes == 1 else divided() if kind == "fsdp" else "ddp"
        model = Seq2Seq(str(folder / family), scores=SCORES, val_scores=["rougeL", "bleu"])
        changes = {"max_epochs": 6, "check_val_every_n_epoch": 3, "optimizer": {"lr": 5e-3}}
        several = {"devices": processes, "strategy": strategy}
        fit(folder, root, family, model=model, batch_size=6 // processes, **changes, **several)
        writer = PredictionWriter(root / "texts.jsonl")  # nothing but generation, with a model that is new
        datamodule = data(folder, f"large {family}", batch_size=4)
        new = Seq2Seq(str(folder / f"large {family}"))
        quiet_trainer(callbacks=[writer], use_distributed_sampler=False, **several).predict(
            new, datamodule, return_predictions=False
        )

    for processes in (1, 2):
        (tmp_path / str(processes)).mkdir()
    assert in_a_process(lambda: train(tmp_path / "1", 1)) == 0
    in_two_processes(lambda: train(tmp_path / "2", 2), tmp_path / "2")
    folders = [tmp_path / str(processes) / "run/seed-0/6/0" for processes in (1, 2)]
    one, two = (json.loads((path / "result.json").read_text()) for path in folders)
    for split in ("val", "test"):
        assert two[split] == pytest.approx(one[split], rel=1e-3, abs=1e-4)
    assert {*two["test"]} == {"loss", *SCORES}
    one, two = ([json.loads(line) for line in (path / "test_examples.jsonl").open()] for path in folders)
    for mine, theirs in zip(one, two, strict=True):
        assert mine == {**theirs, "loss": pytest.approx(theirs["loss"], rel=1e-3, abs=1e-4)}
    one, two = ((tmp_path / str(processes) / "texts.jsonl").read_text() for processes in (1, 2))
    assert one == two

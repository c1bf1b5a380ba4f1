"""Sequence-to-sequence tasks from files to losses, scores and generated texts."""

import json
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import sacrebleu
import torch
import yaml
from interrupted_runs import At, in_a_process, outcome
from lightning.pytorch import Trainer
from pair_files import PAIRS, model_of, tokenizer_of, write_model, write_parts, write_rows
from recorded_runs import path_results
from torchmetrics.functional.text import rouge_score
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

import gradual
from gradual.__main__ import main
from gradual.errors import InputError
from gradual.tasks import Seq2Seq, Seq2SeqData
from gradual.tasks.seq2seq.scores import MEANS, SCORES

CONFIG = Path(__file__).parents[3] / "configs" / "tasks" / "seq2seq.yaml"
FAMILIES = ("t5", "bart")

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # Lightning's advice


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files of an experiment, and a tiny model of each family."""
    folder = tmp_path_factory.mktemp("pairs")
    for family in FAMILIES:
        write_model(folder / family, family)
    write_parts(folder)
    return folder


def data(folder, family="t5", **changes):
    files = {"in_domain": "train", "val": "dev", "test": "test"}
    paths = {name: str(folder / f"{part}.jsonl") for name, part in files.items()}
    own = {"tokenizer": str(folder / family), "cache_dir": str(folder / "cache"), "batch_size": 8, "num_proc": 1}
    return Seq2SeqData(**{**paths, **own, **changes})


def trainer(**arguments):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(accelerator="cpu", **quiet, **{"enable_checkpointing": False, **arguments})


def configured(folder, family="t5", settings=None, **changes):
    """A model with its data, outside of a Trainer."""
    datamodule = data(folder, family, **(settings or {}))
    datamodule.setup()
    model = Seq2Seq(str(folder / family), **changes)
    datamodule.configure(model)
    model.configure_model()
    model.log = lambda *_, **__: None
    return model, datamodule


def naive(model, tokenizer, source, target):
    """The sum of negative log likelihoods of a target's tokens and their number, one token at a time."""
    ids = torch.tensor([tokenizer(source)["input_ids"]])
    wanted = tokenizer(target)["input_ids"]
    before, terms = [model.config.decoder_start_token_id], []
    for token in wanted:
        logits = model(input_ids=ids, decoder_input_ids=torch.tensor([before])).logits[0, -1]
        terms.append(-logits.double().log_softmax(-1)[token])
        before.append(token)
    return torch.stack(terms).sum(), len(terms)


# --------------------------------------------------------------------------------------------------------------- losses


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("max_padding", [0.99, 0.2, 0])
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


@pytest.mark.parametrize("family", FAMILIES)
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
        model, datamodule = configured(folder, gradient_checkpointing=checkpointing)
        assert model.model.is_gradient_checkpointing is checkpointing
        (batch,) = datamodule.train_dataloader()
        model.training_step(batch, 0).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("precision", ["bf16-true", "bf16-mixed"])
def test_other_precisions_train(folder, precision):
    model, datamodule = configured(folder, val_scores=["exact_match"])
    model.log = Seq2Seq.log.__get__(model)
    model.configure_optimizers = lambda: torch.optim.AdamW(model.parameters(), lr=1e-2)
    made = trainer(max_epochs=3, precision=precision, inference_mode=False)
    before = made.validate(model, datamodule, verbose=False)[0]["val/loss"]
    made.fit(model, datamodule)
    assert made.validate(model, datamodule, verbose=False)[0]["val/loss"] < before


# --------------------------------------------------------------------------------------------------- scores and texts


def one_by_one(folder, family, sources, **generate):
    """What plain transformers generates for each source alone."""
    model = AutoModelForSeq2SeqLM.from_pretrained(folder / family).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / family)
    texts = []
    for source in sources:
        ids = torch.tensor([tokenizer(source)["input_ids"]])
        made = model.generate(input_ids=ids, **{"max_new_tokens": 10, "do_sample": False, **generate})
        texts.append(tokenizer.decode(made[0], skip_special_tokens=True))
    return texts


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("generate", [{}, {"num_beams": 3, "max_new_tokens": 4}])
def test_generated_texts_are_those_of_transformers_one_by_one(folder, family, generate):
    model, datamodule = configured(folder, family, generate=generate)
    assert model.spec.longest_target == 10 + (family == "bart")
    model.log = Seq2Seq.log.__get__(model)
    (records,) = trainer().predict(model, datamodule)
    sources = [source for source, _ in PAIRS]
    defaults = {"max_new_tokens": model.spec.longest_target}
    assert [record["text"] for record in records] == one_by_one(folder, family, sources, **(defaults | generate))
    assert [record["id"] for record in records] == [f"test{at}" for at in range(len(PAIRS))]


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_those_of_the_libraries(folder, family):
    model, datamodule = configured(folder, family, {"batch_size": 4}, scores=SCORES, val_scores=["bleu"])
    model.log = Seq2Seq.log.__get__(model)
    (scores,) = trainer().test(model, datamodule, verbose=False)
    texts = one_by_one(folder, family, [source for source, _ in PAIRS], max_new_tokens=model.spec.longest_target)
    answers = [target for _, target in PAIRS]
    rouge = rouge_score(texts, answers, rouge_keys=("rouge1", "rouge2", "rougeL"))
    expected = {name: float(rouge[f"{name}_fmeasure"]) for name in ("rouge1", "rouge2", "rougeL")}
    sentences = [sacrebleu.sentence_chrf(text, [answer]).score for text, answer in zip(texts, answers)]
    expected |= {
        "exact_match": sum(text == answer for text, answer in zip(texts, answers)) / len(PAIRS),
        "sentence_chrf": sum(sentences) / len(sentences) / 100,
        "chrf": sacrebleu.corpus_chrf(texts, [answers]).score / 100,
        "bleu": sacrebleu.corpus_bleu(texts, [answers]).score / 100,
    }
    assert len({*texts}) > 1
    assert {name: scores[f"test/{name}"] for name in SCORES} == pytest.approx(expected)
    with torch.no_grad():
        batches = enumerate(datamodule.test_dataloader())
        records = [record for i, batch in batches for record in model.eval().test_step(batch, i)]
    for name in ("loss", *MEANS):
        pairs = [record[name] for record in records]
        assert scores[f"test/{name}"] == pytest.approx(sum(a for a, _ in pairs) / sum(b for _, b in pairs))
    (validated,) = trainer().validate(model, datamodule, verbose=False)
    assert validated == pytest.approx({"val/loss": scores["test/loss"], "val/bleu": scores["test/bleu"]})


def test_nothing_is_generated_where_no_score_is_wanted(folder, monkeypatch):
    model, datamodule = configured(folder, scores=[])
    model.log = Seq2Seq.log.__get__(model)
    monkeypatch.setattr(model.model, "generate", None)
    for run in (trainer().test, trainer().validate):
        (scores,) = run(model, datamodule, verbose=False)
        assert [name.partition("/")[2] for name in scores] == ["loss"]


def test_sources_without_targets_are_predicted(folder, tmp_path):
    file = write_rows(tmp_path / "new.jsonl", [{"source": "drei"}, {"source": ""}, {"source": "zwei plus zwei"}])
    model, datamodule = configured(folder, settings={"predict": str(file)}, generate={"max_new_tokens": 3})
    (records,) = trainer().predict(model, datamodule)
    assert [record["id"] for record in records] == ["0", "1", "2"]
    expected = one_by_one(folder, "t5", ["drei", "", "zwei plus zwei"], max_new_tokens=3)
    assert [record["text"] for record in records] == expected


def test_a_prefix_stands_before_each_source(folder):
    model, datamodule = configured(folder, settings={"prefix": "translate : "})
    alone = model_of("t5")
    (batch,) = datamodule.val_dataloader()
    sums = [naive(alone, tokenizer_of("t5"), f"translate : {source}", target) for source, target in PAIRS]
    losses, counts = model.eval().losses(batch)
    assert losses.tolist() == pytest.approx([total.item() for total, _ in sums], rel=1e-5)
    assert counts.tolist() == [count for _, count in sums]


def test_long_texts_lose_their_end_and_are_compared_as_a_whole(folder, caplog):
    with caplog.at_level("INFO", "gradual"):
        model, datamodule = configured(folder, "bart", {"max_length": 5, "max_target_length": 6})
    assert "3 of 6 examples of in_domain have a source of more than 5 tokens, which loses its end." in caplog.text
    assert "2 of 6 examples of test have a target of more than 6 tokens, which loses its end." in caplog.text
    assert model.spec.longest_target == 6
    (batch,) = datamodule.test_dataloader()
    assert batch.source.shape == (6, 5)
    assert batch.labels.shape == (6, 6)
    assert (batch.labels == 1).sum(1).tolist() == [1] * 6  # the end of a text stays
    assert batch.answers == [target for _, target in PAIRS]

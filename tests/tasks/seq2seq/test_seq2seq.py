"""Sequence-to-sequence tasks from files to losses, scores and generated texts."""

import json
import warnings
from functools import partial
from pathlib import Path

import pytest
import sacrebleu
import torch
from interrupted_runs import At, in_a_process, outcome
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from memorized_runs import memorize
from pair_files import PAIRS, model_of, tokenizer_of, write_model, write_parts, write_rows
from peft import LoraConfig, get_peft_model
from recorded_runs import path_results
from slow_cases import fast_one_in
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torchmetrics.functional.text import rouge_score
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedTokenizerFast
from two_processes import in_two_processes

import gradual
from gradual.__main__ import main
from gradual.errors import InputError
from gradual.logging import saying_anew
from gradual.stage.callbacks.predictions import PredictionWriter
from gradual.tasks import Seq2Seq, Seq2SeqData
from gradual.tasks.seq2seq.scores import MEANS, SCORES

CONFIG = Path(__file__).parents[3] / "configs" / "tasks" / "seq2seq.yaml"
FAMILIES = ("t5", "bart")
LARGE = ("large t5", "large bart")

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # Lightning's advice


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files of an experiment, and a tiny model of each family."""
    folder = tmp_path_factory.mktemp("pairs")
    for family in (*FAMILIES, *LARGE):
        write_model(folder / family, family)
    write_parts(folder)
    return folder


def data(folder, family="t5", **changes):
    files = {"in_domain": "train", "val": "dev", "test": "test"}
    paths = {name: str(folder / f"{part}.jsonl") for name, part in files.items()}
    own = {"tokenizer": str(folder / family), "cache_dir": str(folder / "cache"), "batch_size": 8, "num_proc": 1}
    return Seq2SeqData(**{**paths, **own, **changes})


def trainer(**arguments):
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
    }
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
        made = model.generate(input_ids=ids, **generate)
        texts.append(tokenizer.decode(made[0], skip_special_tokens=True))
    return texts


@pytest.mark.parametrize("family", fast_one_in(2, LARGE))
@pytest.mark.parametrize("generate", [{}, {"num_beams": 3, "max_new_tokens": 4}])
def test_generated_texts_are_those_of_transformers_one_by_one(folder, family, generate):
    model, datamodule = configured(folder, family, generate=generate)
    assert model.spec.longest_target == 8 + (family == "large bart")
    model.log = Seq2Seq.log.__get__(model)
    (records,) = trainer().predict(model, datamodule)
    sources = [source for source, _ in PAIRS]
    defaults = {"max_new_tokens": model.spec.longest_target}
    assert [record["text"] for record in records] == one_by_one(folder, family, sources, **(defaults | generate))
    assert [record["id"] for record in records] == [f"test{at}" for at in range(len(PAIRS))]


@pytest.mark.parametrize("family", fast_one_in(2, LARGE))
def test_scores_are_those_of_the_libraries(folder, family):
    model, datamodule = configured(folder, family, {"batch_size": 4}, scores=SCORES, val_scores=["bleu"])
    model.log = Seq2Seq.log.__get__(model)
    with torch.no_grad():
        batches = enumerate(datamodule.test_dataloader())
        records = [record for i, batch in batches for record in model.eval().test_step(batch, i)]
    model.scores_of("test").reset()
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
    for name in ("loss", *MEANS):
        pairs = [record[name] for record in records]
        assert scores[f"test/{name}"] == pytest.approx(sum(a for a, _ in pairs) / sum(b for _, b in pairs))
    (validated,) = trainer().validate(model, datamodule, verbose=False)
    assert validated == pytest.approx({"val/loss": scores["test/loss"], "val/bleu": scores["test/bleu"]})


@pytest.mark.parametrize(
    ("targets", "cleaned"),
    [
        pytest.param(["one , two .", "do n't one ."], True, id="cleaned by default"),
        pytest.param(["one <sep> two", "<sep> two"], False, id="special tokens"),
    ],
)
def test_texts_are_compared_as_they_are(folder, tmp_path, targets, cleaned):
    """Pairs that the model has memorized, with what decoding may change."""
    words = ["▁one", "▁two", "▁,", "▁.", "▁do", "▁n't", "▁ein", "▁drei", "▁"]
    known = {word: at for at, word in enumerate(["<pad>", "</s>", "<unk>", "<sep>", *words])}
    made = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    made.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "extra_special_tokens": ["<sep>"]}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, clean_up_tokenization_spaces=cleaned, **names)
    model_of("t5").save_pretrained(tmp_path / "t5")
    tokenizer.save_pretrained(tmp_path / "t5")
    rows = [{"source": source, "target": target} for source, target in zip(("ein", "drei"), targets)]
    files = dict.fromkeys(("in_domain", "val", "test"), str(write_rows(tmp_path / "pairs.jsonl", rows)))
    datamodule = data(folder, tokenizer=str(tmp_path / "t5"), **files)
    torch.manual_seed(0)
    model = Seq2Seq(str(tmp_path / "t5"), scores=["exact_match", "bleu"])
    stage, loaded = memorize(model, datamodule, tmp_path / "run", epochs=60)
    assert stage.test["exact_match"] == stage.test["bleu"] == 1.0
    (records,) = trainer().predict(loaded, datamodule)
    assert [record["text"] for record in records] == targets


@pytest.mark.parametrize(
    ("own", "said", "problem"),
    [
        ({"min_length": 8, "num_beams": 2}, "{num_beams: 2, min_length: 8}", None),
        ({"min_length": 56, "min_new_tokens": 2}, "{min_length: 56, min_new_tokens: 2}", None),  # the second holds
        ({"min_length": 56}, "{min_length: 56}", r"at least 56 tokens \(min_length\), but texts may have at most 8 "),
    ],
)
def test_what_a_pretrained_model_sets_for_generation_is_said(folder, tmp_path, caplog, own, said, problem):
    """A summarizer's texts have some length at least."""
    model = model_of("t5")
    model.generation_config.update(**own)
    model.save_pretrained(tmp_path / "t5")
    settings = {"tokenizer": str(folder / "t5"), "in_domain": str(folder / "train.jsonl")}
    write_parts(tmp_path)
    with caplog.at_level("INFO", "gradual"), saying_anew():
        if problem is None:
            configured(tmp_path, settings=settings)
        else:
            with pytest.raises(InputError, match=problem):
                configured(tmp_path, settings=settings)
        configured(tmp_path, settings=settings, generate={"num_beams": 3, "min_length": 0, "min_new_tokens": 0})
        configured(tmp_path, settings=settings, scores=[])
    assert caplog.text.count("Texts are generated with") == 1
    assert f"what the pretrained model sets: {said};" in caplog.text


def test_nothing_is_generated_where_no_score_is_wanted(folder, monkeypatch):
    model, datamodule = configured(folder, scores=[])
    model.log = Seq2Seq.log.__get__(model)
    monkeypatch.setattr(model.model, "generate", None)
    for run in (trainer().test, trainer().validate):
        (scores,) = run(model, datamodule, verbose=False)
        assert [name.partition("/")[2] for name in scores] == ["loss"]


def test_sources_without_targets_are_predicted(folder, tmp_path):
    file = write_rows(tmp_path / "new.jsonl", [{"source": "drei"}, {"source": ""}, {"source": "zwei plus zwei"}])
    model, datamodule = configured(folder, "large t5", settings={"predict": str(file)}, generate={"max_new_tokens": 3})
    (records,) = trainer().predict(model, datamodule)
    assert [record["id"] for record in records] == ["0", "1", "2"]
    expected = one_by_one(folder, "large t5", ["drei", "", "zwei plus zwei"], max_new_tokens=3)
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


# ------------------------------------------------------------------------------------------------------- training runs


def fit(folder, root, family="t5", schedule=(6, 0), model=None, batch_size=6, **changes):
    torch.manual_seed(0)
    model = model or Seq2Seq(str(folder / family), scores=["exact_match", "rougeL", "chrf"])
    pool = str(folder / "pool.jsonl")
    batches = {"batch_size": batch_size, "eval_batch_size": 4, "max_padding": 0.5}
    datamodule = data(folder, family, out_of_domain=pool, **batches)
    settings = {"monitor": "val/loss", "patience": 9, "max_epochs": 60, "check_val_every_n_epoch": 30}
    quiet = {"logger": False, "enable_progress_bar": False, "accelerator": "cpu", "optimizer": {"lr": 1e-2}}
    return model, gradual.fit(model, datamodule, schedule, root / "run", **{**settings, **quiet, **changes})


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
    (scores,) = trainer().test(loaded, data(folder, family, eval_batch_size=4), verbose=False)
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
    made = trainer(enable_checkpointing=True)
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
        trainer(callbacks=[writer], **several).predict(new, datamodule, return_predictions=False)

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


@pytest.mark.parametrize("family", fast_one_in(2, FAMILIES))
def test_with_an_adapter_loss_and_gradients_are_those_of_peft(folder, family):
    model, datamodule = configured(folder, family, lora={"r": 3, "alpha": 3, "dropout": 0.0})
    config = LoraConfig(task_type="SEQ_2_SEQ_LM", r=3, lora_alpha=3, target_modules="all-linear")
    alone = get_peft_model(model_of(family), config)
    with torch.no_grad():
        for mine, theirs in zip(trained(model.model), trained(alone), strict=True):
            mine.copy_(theirs.normal_(std=0.1))
    (batch,) = datamodule.train_dataloader()
    loss = model.training_step(batch, 0)
    sums = [naive(alone, tokenizer_of(family), *pair) for pair in PAIRS]
    expected = sum(total for total, _ in sums) / sum(count for _, count in sums)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    expected.backward()
    for mine, theirs in zip(trained(model.model), trained(alone), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad.float(), rtol=1e-4, atol=1e-5)


def trained(model):
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


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


# --------------------------------------------------------------------------------------------------- the command line


def command(name, folder, run_dir, *more, family="t5"):
    parts = {"in_domain": "train", "out_of_domain": "pool", "val": "dev", "test": "test"}
    files = [f"--data.{part}={folder}/{file}.jsonl" for part, file in parts.items()]
    fast = ["--trainer.accelerator=cpu", "--trainer.max_epochs=1", "--schedule=[2, 0]", "--trainer.logger=false"]
    own = [f"--model.pretrained={folder}/{family}", f"--data.cache_dir={folder}/cache", "--data.num_proc=1"]
    main([name, *files, *fast, *own, f"--run_dir={run_dir}", *more])


@pytest.fixture
def _command_line(monkeypatch):
    monkeypatch.setattr("sys.argv", ["gradual"])


@pytest.mark.slow
@pytest.mark.usefixtures("_command_line")
def test_every_command_works(folder, tmp_path, capsys, caplog):
    run_dir = tmp_path / "run"
    with caplog.at_level("INFO", "gradual"):
        command("fit", folder, run_dir, "--model=Seq2Seq", "--model.generate={max_new_tokens: 3}")
    for stage in path_results(run_dir)["stages"]:
        assert set(stage["val"]) == {"loss"}
        assert set(stage["test"]) == {"loss", "exact_match", "rougeL"}
    assert "Columns: source is 'source', target is 'target', id is 'id'." in caplog.text
    capsys.readouterr()
    checkpoint = f"--ckpt_path={run_dir}/seed-0/2/0/best.ckpt"
    main(["test", f"--config={run_dir}/config.yaml", checkpoint])
    assert "test/rougeL" in capsys.readouterr().out
    target = tmp_path / "texts.jsonl"
    main(["predict", f"--config={run_dir}/config.yaml", checkpoint, f"--predictions={target}"])
    records = [json.loads(line) for line in target.read_text().splitlines()]
    assert [record["id"] for record in records] == [f"test{at}" for at in range(len(PAIRS))]
    assert all(set(record) == {"id", "text"} and len(record["text"].split()) <= 3 for record in records)


@pytest.mark.slow
@pytest.mark.usefixtures("_command_line")
def test_the_configuration_that_comes_with_the_project_trains(folder, tmp_path):
    command("fit", folder, tmp_path / "run", f"--config={CONFIG}", "--lr_schedule.warmup=0")
    assert [set(stage["test"]) for stage in path_results(tmp_path / "run")["stages"]] == [
        {"loss", "exact_match", "rougeL"}
    ] * 2


@pytest.mark.usefixtures("_command_line")
@pytest.mark.parametrize(
    ("rows", "more", "problem"),
    fast_one_in(
        3,
        [
            ([{"words": "x"}], [], "new.jsonl has no column named source or input or document"),
            ([{"source": "x"}], [], "new.jsonl has no column named target or output"),
            ([{"source": "x", "target": None}], [], "new.jsonl:1: 'target' has no value"),
            ([{"source": "x", "target": 3}], [], "new.jsonl:1: 'target' is the number 3"),
            ([{"source": "x", "target": "y"}], ["--data.max_target_length=2"], "max_target_length is 2: it must be"),
            ([{"source": "x", "target": "y"}], ["--data.max_target_length=33"], "max_target_length is 33: "),
            (
                [{"source": "x", "target": "y"}],
                ["--model.generate={max_tokens: 3}"],
                "generate has no setting 'max_tokens'",
            ),
            (
                [{"source": "x", "target": "y"}],
                ["--model.scores=[rouge]"],
                "scores has 'rouge': it may have exact_match, ",
            ),
            ([{"source": "x", "target": "y"}], ["--model.val_scores=[bleurt]"], "val_scores has 'bleurt'"),
        ],
    ),
)
def test_a_mistake_is_one_sentence(folder, tmp_path, capfd, rows, more, problem):
    file = write_rows(tmp_path / "new.jsonl", rows)
    own = [f"--data.{part}={file}" for part in ("in_domain", "val", "test", "out_of_domain")]
    with pytest.raises(SystemExit):
        command("fit", folder, tmp_path / "run", "--model=Seq2Seq", *own, *more)
    error = capfd.readouterr().err
    assert problem in error
    assert "Traceback" not in error


def test_more_tokens_than_a_model_takes_are_refused(folder):
    model, datamodule = configured(folder, "bart", generate={"max_new_tokens": 33})
    with pytest.raises(InputError, match="max_new_tokens is 33: it must be at most 32"):
        model.texts(next(iter(datamodule.test_dataloader())))


def test_a_tokenizer_of_another_model_is_refused(folder, tmp_path):
    write_model(tmp_path / "small", "t5", vocab_size=9)
    write_parts(tmp_path)
    with pytest.raises(InputError, match="has 18 tokens, but the model knows 9"):
        configured(tmp_path, "small", {"tokenizer": str(folder / "t5")})


def test_a_score_whose_package_is_missing_says_so(folder, monkeypatch):
    monkeypatch.setattr("gradual.tasks.seq2seq.task.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"The score chrf needs the package sacrebleu: pip install 'gradual\[text\]'"):
        Seq2Seq(str(folder / "t5"), scores=["exact_match", "chrf"])

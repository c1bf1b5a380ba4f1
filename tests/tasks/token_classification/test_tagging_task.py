"""The tagger against plain ``transformers`` word by word, from files to scores and predictions, with every encoder."""

import json
import logging
import shutil
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from interrupted_runs import At, in_a_process, outcome
from lightning.pytorch import Trainer
from recorded_runs import path_results
from seqeval.metrics import f1_score
from slow_cases import fast_one_in
from tagging_examples import QUIET, WORDS, sentences, write_conll, write_encoder
from transformers import AutoModelForTokenClassification, AutoTokenizer
from two_processes import in_two_processes

import gradual
from gradual.__main__ import main
from gradual.errors import InputError
from gradual.tasks import TokenClassificationData, TokenClassifier

CONFIG = Path(__file__).parents[3] / "configs/tasks/token_classification.yaml"
KINDS = ("bert", "roberta", "modernbert")

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # Lightning's advice


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of an experiment, and an encoder of each kind."""
    folder = tmp_path_factory.mktemp("tagging")
    for kind in KINDS:
        quiet = QUIET if kind != "modernbert" else {"attention_dropout": 0.0, "mlp_dropout": 0.0}
        write_encoder(folder / kind, kind, **quiet)
    for name, seed in (("train", 1), ("dev", 2), ("test", 3)):
        write_conll(folder / f"{name}.txt", sentences(12, seed))
    write_conll(folder / "pool.txt", sentences(30, 4, types=("PER",)))
    return folder


def data(folder, kind="bert", parts=("in_domain", "val", "test", "out_of_domain"), **changes):
    files = {"in_domain": "train", "val": "dev", "test": "test", "out_of_domain": "pool"}
    given = {part: str(folder / f"{files[part]}.txt") for part in parts}
    settings = {"tokenizer": str(folder / kind), "cache_dir": str(folder / "cache"), "num_proc": 1}
    return TokenClassificationData(**given | settings | changes)


def tagger(folder, kind="bert", **changes):
    return TokenClassifier(str(folder / kind), **changes)


def configured(folder, kind="bert", parts=("in_domain", "val", "test", "out_of_domain"), **changes):
    """A tagger in evaluation mode, and its data."""
    module = data(folder, kind, parts, **changes)
    model = tagger(folder, kind)
    torch.manual_seed(1)
    module.configure(model)
    model.configure_model()
    return model.eval(), module


def plain(model, folder, kind):
    """The same model as ``transformers`` loads it, and its tokenizer."""
    model.save_pretrained(folder / f"saved-{kind}")
    options = {"add_prefix_space": True} if kind == "roberta" else {}
    return (
        AutoModelForTokenClassification.from_pretrained(folder / f"saved-{kind}").eval(),
        AutoTokenizer.from_pretrained(folder / kind, **options),
    )


def naive_logits(model, tokenizer, words, room):
    """The logits of the words of a sentence: each from its first piece, in the window with the most context."""
    pieces, first = [], []
    for word in words:
        first.append(len(pieces))
        found = tokenizer([word], is_split_into_words=True, add_special_tokens=False)["input_ids"]
        pieces += found or [tokenizer.unk_token_id]
    starts = [0] if len(pieces) <= room else [*range(0, len(pieces) - room, room // 2), len(pieces) - room]
    before, *_, after = tokenizer("a")["input_ids"]
    results = []
    for start in starts:
        ids = [before, *pieces[start : start + room], after]
        with torch.no_grad():
            results.append(model(input_ids=torch.tensor([ids])).logits[0, 1:-1])

    def context(at, start):
        left = at - start if start else len(pieces)
        return min(left, start + room - 1 - at if start + room < len(pieces) else len(pieces))

    logits = []
    for at in first:
        holders = [index for index, start in enumerate(starts) if start <= at < start + room]
        best = max(holders, key=lambda index, at=at: context(at, starts[index]))
        logits.append(results[best][at - starts[best]])
    return torch.stack(logits)


def read(path):
    """The sentences of a file, as words and tags."""
    found = []
    for block in path.read_text().split("\n\n"):
        rows = [line.split("\t") for line in block.splitlines() if line]
        found.append(([row[0] for row in rows], [row[1] for row in rows]))
    return found


@pytest.mark.parametrize("settings", [{}, {"lora": {"r": 2, "dropout": 0.0}}], ids=["all", "lora"])
def test_a_tagger_that_knows_the_tags_in_another_order_begins_as_good_as_it_is(tmp_path, folder, settings):
    """The tags of the data are its predictions, so that all of them are right."""
    known = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    trained = tmp_path / "trained"
    shutil.copytree(folder / "bert", trained)
    by_output = dict(enumerate(known))
    labels = {"id2label": by_output, "label2id": {tag: at for at, tag in by_output.items()}}
    torch.manual_seed(1)
    made = AutoModelForTokenClassification.from_pretrained(trained, **labels).eval()
    torch.nn.init.normal_(made.classifier.weight)
    made.save_pretrained(trained)
    tokenizer = AutoTokenizer.from_pretrained(trained)
    predicted = []
    for words, _ in read(folder / "train.txt"):
        best = naive_logits(made, tokenizer, words, 100).argmax(1).tolist()
        predicted.append((words, [known[at] for at in best]))
    assert {tag for _, tags in predicted for tag in tags} == set(known)
    write_conll(tmp_path / "train.txt", predicted)
    module = data(tmp_path, parts=("in_domain",), tokenizer=str(trained), val=str(tmp_path / "train.txt"))
    model = TokenClassifier(str(trained), **settings)
    trainer = Trainer(logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu")
    (scores,) = trainer.validate(model, module, verbose=False)
    assert scores["val/f1"] == 1
    assert model.spec.tags == tuple(sorted(known))
    model.save_pretrained(tmp_path / "saved")
    saved = AutoModelForTokenClassification.from_pretrained(tmp_path / "saved").eval()
    for words, tags in predicted:
        best = naive_logits(saved, tokenizer, words, 100).argmax(1).tolist()
        assert [saved.config.id2label[at] for at in best] == tags


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("max_length", [None, 10])
def test_losses_scores_and_predictions_are_those_of_plain_transformers(folder, kind, max_length):
    model, module = configured(folder, kind, max_length=max_length, eval_batch_size=5)
    reference, tokenizer = plain(model, folder, kind)
    tags = module.spec().tags
    assert reference.config.id2label == dict(enumerate(tags))
    assert reference.config.label2id == {tag: at for at, tag in enumerate(tags)}
    test = read(folder / "test.txt")
    logits = [naive_logits(reference, tokenizer, words, (max_length or 64) - 2) for words, _ in test]
    gold = [[tags.index(tag) for tag in sentence] for _, sentence in test]
    losses = [F.cross_entropy(one, torch.tensor(two), reduction="sum").item() for one, two in zip(logits, gold)]
    predicted = [[tags[at] for at in one.argmax(1).tolist()] for one in logits]
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    (scores,) = trainer.test(model, module, verbose=False)
    assert scores["test/loss"] == pytest.approx(sum(losses) / sum(map(len, gold)), abs=1e-5)
    assert scores["test/f1"] == pytest.approx(f1_score([sentence for _, sentence in test], predicted, zero_division=0))
    records = [record for batch in trainer.predict(model, module) for record in batch]
    assert records == [
        {"id": str(index), "tokens": words, "tags": own} for index, ((words, _), own) in enumerate(zip(test, predicted))
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_the_batch_does_not_matter(folder, kind):
    model, module = configured(folder, kind, max_length=10, max_padding=0.1)
    examples = [module.domains.out_of_domain[index] for index in range(20)]
    with torch.no_grad():
        one_by_one = torch.cat([model(module.collate_fn([example])) for example in examples])
        together = model(module.collate_fn(examples))
        shuffled = model(module.collate_fn(examples[::-1]))
    words = [len(example["word"]) for example in examples]
    assert any(len(example["windows"]) > 1 for example in examples)
    assert torch.allclose(together, one_by_one, atol=1e-5)
    assert torch.allclose(torch.cat(shuffled.split(words[::-1])[::-1]), together, atol=1e-5)


def test_the_records_of_sentences_sum_to_the_score(folder):
    model, module = configured(folder, eval_batch_size=5)
    with torch.no_grad():  # so that some spans are found
        model.model.classifier.weight.mul_(30)
        records = [
            record for index, batch in enumerate(module.test_dataloader()) for record in model.test_step(batch, index)
        ]
    scores = model.test_scores.compute()
    assert [record["id"] for record in records] == [str(index) for index in range(12)]
    numerators, denominators = zip(*(record["f1"] for record in records))
    assert scores["f1"].item() == pytest.approx(sum(numerators) / sum(denominators))
    assert 0 < scores["f1"] < 1


def test_tags_that_a_source_cannot_have_are_left_out_of_its_loss(folder):
    model, module = configured(folder, out_of_domain_labels="own")
    tags = module.spec().tags
    own = [tag for tag in tags if "LOC" not in tag]
    batch = module.collate_fn([module.domains.in_domain[0], module.domains.out_of_domain[0]])
    logits = model(batch).detach()
    expected = 0.0
    for word, (sentence, tag) in enumerate(zip(batch.sentence.tolist(), batch.tags.tolist())):
        allowed = own if sentence == 1 else tags
        scores = torch.stack([logits[word, tags.index(name)] for name in allowed])
        expected -= scores.log_softmax(0)[allowed.index(tags[tag])].item()
    assert model.loss(logits, batch).item() == pytest.approx(expected, rel=1e-5)
    spread = torch.full_like(logits, 1e4, requires_grad=True)
    (gradient,) = torch.autograd.grad(model.loss(spread * 1e-4, batch), spread)
    pool = batch.sentence == 1
    assert (gradient[pool][:, [tags.index(tag) for tag in tags if tag not in own]] == 0).all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("kind", fast_one_in(3, KINDS))
def test_a_few_sentences_are_learnt_to_perfection(folder, kind):
    model, module = configured(folder, kind, max_length=10)
    model.train().per_type_scores = True
    model.add_scores(lambda: model.make_scores(model.spec))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    batch = module.collate_fn([*module.domains.in_domain])
    scores = {}
    for _ in range(100):
        loss = model._step(batch, "train")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scores = model.train_scores.compute()
        model.train_scores.reset()
        if scores["f1"] == 1:
            break
    assert [scores[name].item() for name in ("f1", "precision", "recall", "f1/LOC", "f1/PER")] == [1.0] * 5


@pytest.mark.slow
def test_parts_of_speech_are_learnt_too(folder, tmp_path):
    rows = [
        {"id": f"s{k}", "tokens": words, "upos": [tag[-3:] for tag in tags]}
        for k, (words, tags) in enumerate(sentences(12, 1))
    ]
    (tmp_path / "pos.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = str(tmp_path / "pos.jsonl")
    other = tmp_path / "other.jsonl"
    other.write_text((tmp_path / "pos.jsonl").read_text().replace('"id": "s', '"id": "t'))
    module = data(folder, parts=(), in_domain=file, val=str(other), test=str(other), batch_size=2)
    result = gradual.fit(
        tagger(folder), module, [0], tmp_path / "run", monitor="val/accuracy", patience=100,
        optimizer={"lr": 5e-3}, max_epochs=9, accelerator="cpu", enable_progress_bar=False, logger=False,
    )  # fmt: skip
    assert result.stages[-1].test["accuracy"] == 1.0
    assert "f1" not in result.stages[-1].test
    lines = [json.loads(line) for path in (tmp_path / "run").rglob("*.jsonl") for line in path.read_text().splitlines()]
    records = [line for line in lines if "accuracy" in line and "id" in line]
    assert sorted(record["id"] for record in records) == sorted(f"t{k}" for k in range(12))
    assert all(right == words for right, words in (record["accuracy"] for record in records))


def test_checkpoints_need_neither_data_nor_the_pretrained_folder(folder, tmp_path):
    write_encoder(tmp_path / "encoder", **QUIET)
    module = data(folder, tokenizer=str(tmp_path / "encoder"))
    trainer = Trainer(
        accelerator="cpu", max_steps=2, logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, use_distributed_sampler=False, limit_val_batches=0,
    )  # fmt: skip
    model = TokenClassifier(str(tmp_path / "encoder"))
    model.configure_optimizers = lambda: torch.optim.SGD(model.parameters(), lr=0.1)
    trainer.fit(model, module)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    (tmp_path / "encoder/config.json").unlink()
    (tmp_path / "encoder/model.safetensors").unlink()
    loaded = TokenClassifier.load_from_checkpoint(tmp_path / "a.ckpt").eval()
    batch = module.collate_fn([module.domains.test[index] for index in range(12)])
    with torch.no_grad():
        assert torch.equal(loaded(batch), model.eval()(batch))
    assert loaded.predict_step(batch, 0) == model.predict_step(batch, 0)
    others = data(folder, tokenizer=str(folder / "bert"), in_domain=write_conll(tmp_path / "o.txt", [(["a"], ["B-X"])]))
    with pytest.raises(InputError, match=r"does not suit the data: only the data has the tags B-X\."):
        others.configure(loaded)


def fit(root, folder, *callbacks):
    settings = {
        "optimizer": {"lr": 1e-3}, "max_epochs": 2, "accelerator": "cpu", "enable_progress_bar": False, "logger": False,
        "callbacks": list(callbacks), "seed": 3,
    }  # fmt: skip
    module = data(folder, "noisy", batch_size=8, out_of_domain_labels="own")
    gradual.fit(tagger(folder, "noisy"), module, [16, 0], root / "run", checkpoint_every=0.0, **settings)


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bits(folder, tmp_path):
    write_encoder(folder / "noisy")  # with dropout
    assert in_a_process(lambda: fit(tmp_path / "one", folder)) == 0
    for count in (3, 7):  # in the first stage, and in the second one before its first checkpoint
        assert in_a_process(lambda: fit(tmp_path / "killed", folder, At("on_train_batch_end", count))) == -9  # noqa: B023
    assert in_a_process(lambda: fit(tmp_path / "killed", folder)) == 0
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "one")


def test_words_without_pieces_are_tagged(folder, tmp_path):
    model, module = configured(
        folder, predict=write_conll(tmp_path / "p.txt", [(["\x07", *WORDS[:2], "\x07"], ["O"] * 4)])
    )
    (batch,) = module.predict_dataloader()
    (record,) = model.predict_step(batch, 0)
    assert record["tokens"] == ["\x07", *WORDS[:2], "\x07"]
    assert len(record["tags"]) == 4


def test_a_sentence_without_words_is_tagged(folder, tmp_path):
    (tmp_path / "p.jsonl").write_text('{"tokens": []}\n{"tokens": ["sam"]}\n')
    model, module = configured(folder, predict=str(tmp_path / "p.jsonl"))
    (batch,) = module.predict_dataloader()
    empty, one = model.predict_step(batch, 0)
    assert (empty["tokens"], empty["tags"]) == ([], [])
    assert len(one["tags"]) == 1


def test_a_loss_needs_tags(folder, tmp_path):
    model, module = configured(folder, predict=write_conll(tmp_path / "p.txt", [(["sam"], ["O"])]))
    (batch,) = module.predict_dataloader()
    with pytest.raises(InputError, match="These sentences have no tags"):
        model.test_step(batch, 0)


def test_what_was_found_is_said_once(folder, caplog):
    caplog.set_level(logging.INFO)
    module = data(folder)
    module.setup()
    module.setup()
    assert [record.message for record in caplog.records].count("Column 'tags': spans of 2 types in IOB2.") == 1


# Several processes


def shared_step(folder, out):
    """The gradient of this process's share of a batch, averaged over processes, and the scores of all."""
    group = torch.distributed.is_initialized()
    rank, processes = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if group else (0, 1)
    model, module = configured(folder, out_of_domain_labels="own")
    model.train()
    examples = [*module.domains.in_domain, *(module.domains.out_of_domain[index] for index in range(9))]
    own = examples if processes == 1 else [examples[:7], examples[7:]][rank]
    model._step(module.collate_fn(own), "train").backward()
    gradient = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    if group:
        torch.distributed.all_reduce(gradient)
    scores = {name: value.item() for name, value in model.train_scores.compute().items()}
    if rank == 0:
        torch.save((gradient / processes, scores), out / f"{processes}.pt")


def test_two_processes_are_one(folder, tmp_path):
    def work():
        torch.distributed.init_process_group("gloo")
        shared_step(folder, tmp_path)

    shared_step(folder, tmp_path)
    in_two_processes(work, tmp_path)
    (one, one_scores), (two, two_scores) = (torch.load(tmp_path / f"{processes}.pt") for processes in (1, 2))
    assert torch.allclose(two, one, atol=1e-6)
    assert two_scores == pytest.approx(one_scores)


# The command line


@pytest.fixture(autouse=True)
def _command_line(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gradual"])


def command(name, folder, *more):
    files = [
        f"--data.{part}={folder / file}.txt"
        for part, file in [("in_domain", "train"), ("out_of_domain", "pool"), ("val", "dev"), ("test", "test")]
    ]
    fast = ["--trainer.accelerator=cpu", "--trainer.max_epochs=1", "--trainer.logger=false", "--schedule=[8, 0]"]
    encoder = ["--model.pretrained", str(folder / "bert"), f"--data.cache_dir={folder / 'cache'}"]
    main([name, *more, *files, *encoder, *fast])


def test_from_files_to_predictions_on_the_command_line(folder, tmp_path):
    command("fit", folder, "--model=TokenClassifier", "--monitor=val/f1", f"--run_dir={tmp_path}/run")
    stages = path_results(tmp_path / "run")["stages"]
    assert [(stage["in_domain"], stage["out_of_domain"]) for stage in stages] == [(12, 8), (12, 0)]
    assert all(set(stage["test"]) == {"loss", "precision", "recall", "f1"} for stage in stages)
    (tmp_path / "words.txt").write_text("sam\nmet\npolice\n\nparis\n")
    best, out = f"{tmp_path}/run/seed-0/8/0/best.ckpt", tmp_path / "predictions.jsonl"
    arguments = [f"--ckpt_path={best}", f"--predictions={out}", f"--data.predict={tmp_path}/words.txt"]
    main(["predict", f"--config={tmp_path}/run/config.yaml", *arguments])
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(record["id"], record["tokens"]) for record in records] == [
        ("0", ["sam", "met", "police"]),
        ("1", ["paris"]),
    ]
    known = {"O", "B-LOC", "I-LOC", "B-PER", "I-PER"}
    assert all(len(record["tags"]) == len(record["tokens"]) and {*record["tags"]} <= known for record in records)


def test_the_configuration_of_the_task_can_be_used(folder, capsys):
    command("plan", folder, f"--config={CONFIG}")
    rows = [line.split()[:4] for line in capsys.readouterr().out.splitlines() if line.strip()[:1].isdigit()]
    assert rows == [["1", "12", "8", "1:0.67"], ["2", "12", "0", "1:0.00"]]

"""Event extraction from files to scores and predictions, in Python and on the command line."""

import json
import math
import shutil
import sys
from itertools import chain
from pathlib import Path

import pytest
import torch
from events_examples import write_encoder
from events_files import document, sentence, write_documents
from lightning.pytorch import Trainer
from recorded_runs import path_results
from slow_cases import fast_one_in

import gradual
from gradual.__main__ import main
from gradual.errors import InputError
from gradual.tasks.events import EventDataModule, EventExtractor, read_documents
from gradual.tasks.events.batch import Pruning
from gradual.tasks.events.loss import LossWeights, decode, heads
from gradual.tasks.events.metrics import ExtractionScores

CONFIG = Path(__file__).parents[3] / "configs" / "events" / "genia.yaml"
SCORES = ("trig_id", "trig_c", "arg_id", "arg_c", "ner", "relation")
NAMES = {"loss", *(f"{score}_{part}" for score in SCORES for part in ("precision", "recall", "f1"))}
WORDS = ["rebels", "soldiers", "police", "shot", "killed", "arrested", "two", "men", "women", "in", "basra", "mosul"]
WORDS += ["died", "yesterday"]

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # Lightning's advice


def attack(who, did, whom, where, type_):
    """Who did what to whom and where: two events where it is an attack that killed."""
    arguments = [(0, 0, "Attacker"), (2, 3, "Target"), (5, 5, "Place")]
    events = [(1, type_, arguments)]
    if type_ == "Attack":
        events.append((6, "Die", [(2, 3, "Victim"), (5, 5, "Place")]))
    entities = [(0, 0, "PER"), (2, 3, "PER"), (5, 5, "GPE")]
    return sentence(f"{who} {did} two {whom} in {where} died", entities, [(2, 3, 5, 5, "PHYS")], events)


SENTENCES = [
    attack("rebels", "shot", "men", "basra", "Attack"),
    attack("police", "arrested", "women", "mosul", "Arrest"),
    attack("soldiers", "killed", "men", "mosul", "Attack"),
    sentence("two men in mosul yesterday", [(0, 1, "PER"), (3, 3, "GPE")]),
    sentence("yesterday"),
]


# Without dropout, a pruner that left something out may never try it.
WIDE = Pruning(arguments=3, relations=3)


def corpus(name):
    """The same sentences in documents of other keys: what is tested on is not trained on."""
    return [
        document(f"{name}0", *SENTENCES[:2], _source={"from": name}, dataset="demo"),
        document(f"{name}1", *SENTENCES[2:], trigger_end=True),
        document(f"{name}2", SENTENCES[4]),
    ]


POOL = [
    document("P0", sentence("police shot two women", events=[(1, "Attack", [(0, 0, "Attacker")])]), layers=["events"]),
    document("P1", sentence("men died in basra", [(0, 0, "PER")], events=[(1, "Die", [(0, 0, "Victim")])]), weight=0.5),
    *(document(f"P{n}", sentence("rebels arrested men", events=[(1, "Arrest", [])])) for n in range(2, 6)),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files of an experiment and a tiny encoder."""
    folder = tmp_path_factory.mktemp("events")
    for name in ("train", "dev", "test"):
        write_documents(folder / f"{name}.json", corpus(name))
    write_documents(folder / "pool.json", POOL)
    quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    write_encoder(folder / "encoder", WORDS, hidden_size=32, intermediate_size=64, initializer_range=0.1, **quiet)
    return folder


def data(folder, **changes):
    files = {
        name: str(folder / f"{file}.json")
        for name, file in [("in_domain", "train"), ("val", "dev"), ("test", "test"), ("out_of_domain", "pool")]
    }
    return EventDataModule(**{**files, "tokenizer": str(folder / "encoder"), "batch_tokens": 40, **changes})


def extractor(folder, **changes):
    return EventExtractor(str(folder / "encoder"), **{"hidden": 40, "features": 8, "dropout": 0.0, **changes})


def trainer(**arguments):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(accelerator="cpu", **quiet, **{"enable_checkpointing": False, **arguments})


def configured(folder, datamodule=None, **changes):
    """An extractor with its scorers, outside of a fit."""
    datamodule = datamodule or data(folder)
    datamodule.setup()
    torch.manual_seed(0)
    model = extractor(folder, **changes)
    datamodule.configure(model)
    model.configure_model()
    return model.eval()


def fit(folder, run_dir, schedule=(2, 0), pruning=None, dropout=0.0, **changes):
    torch.manual_seed(0)
    model = extractor(folder, dropout=dropout)
    settings = {"monitor": "val/loss", "patience": 60, "max_epochs": 24, "check_val_every_n_epoch": 8}
    quiet = {"logger": False, "enable_progress_bar": False, "accelerator": "cpu", "gradient_clip_val": 5.0}
    datamodule = data(folder, batch_tokens=200, pruning=pruning)
    return model, gradual.fit(model, datamodule, schedule, run_dir, **{**settings, **quiet, **changes})


@pytest.fixture(scope="module")
def fitted(folder, tmp_path_factory):
    """A model that knows the tiny corpus by heart, with its run."""
    run_dir = tmp_path_factory.mktemp("runs") / "tiny"
    model, result = fit(folder, run_dir, pruning=WIDE, optimizer={"lr": 5e-3})
    return model, run_dir, result


# ------------------------------------------------------------------------------------------------- learning by heart


def test_a_tiny_corpus_is_memorized(fitted):
    _, _, result = fitted
    final = result.stages[-1]
    for scores in (final.val, final.test):
        assert set(scores) == NAMES
        assert {name: value for name, value in scores.items() if name != "loss"} == dict.fromkeys(NAMES - {"loss"}, 1.0)
        assert scores["loss"] < 0.1


@pytest.mark.slow
def test_pruners_learn_what_to_keep(folder, tmp_path):
    """Of the 28 spans of a sentence 5 may be arguments, and 4 may be related."""
    settings = {"optimizer": {"lr": 2e-3}, "max_epochs": 250, "monitor": "val/arg_c_f1", "mode": "max"}
    settings["check_val_every_n_epoch"] = 10
    _, result = fit(folder, tmp_path / "run", [0], dropout=0.3, **settings)
    assert {name: value for name, value in result.final["test"].items() if name.endswith("f1")} == (
        {f"{score}_f1": 1.0 for score in SCORES}
    )


def test_a_checkpoint_gives_the_same_scores(fitted, folder):
    _, run_dir, result = fitted
    for stage in result.stages:
        loaded = EventExtractor.load_from_checkpoint(run_dir / stage.path / "best.ckpt", weights_only=True)
        assert loaded.labels.triggers == ("Arrest", "Attack", "Die")
        (scores,) = trainer().test(loaded, data(folder, pruning=WIDE), verbose=False)
        assert scores == pytest.approx({f"test/{name}": value for name, value in stage.test.items()})


def test_scores_of_documents_add_up_to_those_of_the_corpus(fitted):
    _, run_dir, result = fitted
    for stage in result.stages:
        lines = (run_dir / stage.path / "test_examples.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        assert sorted(record["id"] for record in records) == ["test0", "test1", "test2"]
        for score in SCORES:
            right, all_ = (sum(record[f"{score}_f1"][at] for record in records) for at in (0, 1))
            assert stage.test[f"{score}_f1"] == pytest.approx(right / all_)


def test_labels_of_other_files_than_the_checkpoints_are_an_input_error(fitted, folder, tmp_path):
    _, run_dir, result = fitted
    other = [document("O", sentence("police shot men", events=[(1, "Transport", [(0, 0, "Agent")])]))]
    write_documents(tmp_path / "other.json", other)
    checkpoint = run_dir / result.stages[-1].path / "best.ckpt"
    expected = (
        r"^The model was trained with other labels than those in the data files: only the data has triggers "
        r"Transport; only the data has roles Agent\.$"
    )
    for load in (
        lambda: trainer().test(extractor(folder), data(folder, val=str(tmp_path / "other.json")), str(checkpoint)),
        lambda: trainer().test(
            EventExtractor.load_from_checkpoint(checkpoint, weights_only=True),
            data(folder, val=str(tmp_path / "other.json")),
        ),
    ):
        with pytest.raises(InputError, match=expected):
            load()
    write_documents(tmp_path / "plain.json", [document("plain", "two men")])
    plain = str(tmp_path / "plain.json")
    fewer = data(folder, in_domain=str(folder / "pool.json"), out_of_domain=None, val=plain, test=plain)
    with pytest.raises(InputError, match=r"only the model has ner GPE; only the model has relations PHYS; "):
        trainer().test(extractor(folder), fewer, str(checkpoint))
    with pytest.raises(InputError, match=r"max_span_width 8, but the data module has 5\.$"):
        trainer().test(extractor(folder), data(folder, max_span_width=5), str(checkpoint))


# -------------------------------------------------------------------------------------------------------- predictions


def predicted(model, datamodule):
    return [record for batch in trainer().predict(model, datamodule) for record in batch]


def test_predictions_are_the_documents_in_their_format_with_what_was_found(fitted, folder, tmp_path):
    model, *_ = fitted
    records = predicted(model, data(folder, eval_batch_size=2, pruning=WIDE))
    gold = [d.record for d in corpus("test")]
    assert [{name: value for name, value in record.items() if "predicted" not in name} for record in records] == gold

    def bare(rows):
        """Without logit and probability, in any order."""
        for *_, logit, probability in rows:
            assert logit > 0, "the null class has 0"
            assert 0.5 < probability <= 1
        return sorted(tuple(row[:-2]) for row in rows)

    for record, own in zip(records, gold):
        for layer in ("ner", "relations"):
            assert list(map(bare, record[f"predicted_{layer}"])) == [sorted(map(tuple, rows)) for rows in own[layer]]
        for found, events in zip(record["predicted_events"], own["events"], strict=True):
            expected = sorted(((event[0][0], event[0][-1]), sorted(map(tuple, event[1:]))) for event in events)
            assert sorted((*bare(event[:1]), bare(event[1:])) for event in found) == expected

    path = tmp_path / "predictions.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    again = read_documents(path)
    assert [d.record for d in again] == records, "a file of predictions is a file of documents"
    rerun = predicted(model, data(folder, predict_file=str(path), pruning=WIDE))
    assert [r["predicted_events"] for r in rerun] == [r["predicted_events"] for r in records]


def test_predictions_are_what_is_decoded(folder):
    """Of an untrained model, which is often wrong, in batches of several documents."""
    datamodule = data(folder, eval_batch_size=3)
    model = configured(folder, datamodule)
    with torch.no_grad():
        for name in ("ner", "triggers", "arguments", "relations"):
            model.model.scorers[name].output.bias.normal_(0, 0.3).add_(0.3)
    records = predicted(model, datamodule)
    documents = [datamodule.domains.test[at] for at in range(3)]
    labels = datamodule.labels
    total = 0
    for example, record in zip(documents, records, strict=True):
        batch = datamodule.collate_fn([example])  # alone: a token of the batch is one of the document
        with torch.no_grad():
            found = decode({head.name: head for head in heads(model.model(batch), batch, {})}, batch)
        spans = list(zip(batch.span_start.tolist(), batch.span_end.tolist()))
        tokens = [(token,) for token in range(len(batch.token_sentence))]
        written = {layer: list(chain(*record[f"predicted_{layer}"])) for layer in ("ner", "relations", "events")}
        events = written["events"]
        pairs = [[*event[0][:1], *argument] for event in events for argument in event[1:]]
        for name, kinds, names, rows in [
            ("ner", [spans], labels.ner, written["ner"]),
            ("relations", [spans, spans], labels.relations, written["relations"]),
            ("triggers", [tokens], labels.triggers, [event[0] for event in events]),
            ("arguments", [tokens, spans], labels.roles, pairs),
        ]:
            part = found[name]
            places = zip(*([kind[at] for at in own.tolist()] for kind, own in zip(kinds, part.places, strict=True)))
            expected = {
                (*chain(*place), names[label]): numbers
                for place, label, *numbers in zip(
                    places, part.label.tolist(), part.logit.tolist(), part.probability.tolist(), strict=True
                )
            }
            assert sorted(tuple(row[:-2]) for row in rows) == sorted(expected)
            for row in rows:
                assert row[-2:] == pytest.approx(expected[tuple(row[:-2])], abs=1e-3)
        total += len(pairs)

        bounds = [0]
        for tokens in record["sentences"]:
            bounds.append(bounds[-1] + len(tokens))
        for layer in ("ner", "relations", "events"):
            assert len(record[f"predicted_{layer}"]) == len(record["sentences"])
            for at, own in enumerate(record[f"predicted_{layer}"]):
                for row in own:
                    tokens = row[0][:1] if layer == "events" else [i for i in row if type(i) is int]
                    assert all(bounds[at] <= token < bounds[at + 1] for token in tokens)
    assert total > 5


def test_an_unknown_label_in_a_file_to_predict_is_an_input_error(folder, tmp_path):
    write_documents(tmp_path / "new.json", [document("N", sentence("two men", [(0, 1, "PERSON")]))])
    unknown = "'PERSON' is not one of the 2 entity types that the model knows"
    with pytest.raises(InputError, match=rf"new\.json:1: .*{unknown}"):
        data(folder, predict_file=str(tmp_path / "new.json")).setup()


# ----------------------------------------------------------------------------------------- what counts in the losses


def test_the_loss_is_weighted_and_averaged_over_documents(folder):
    datamodule = data(folder)
    weights = LossWeights(ner=0.5, relations=0.3, events=2.0, triggers=0.2, arguments=0.7)
    model = configured(folder, datamodule, loss_weights=weights)
    documents = [datamodule.domains.in_domain[at] for at in range(3)]

    def loss(documents):
        return model.training_step(datamodule.collate_fn(documents), 0)

    with torch.no_grad():
        model.log = lambda *_, **__: None
        alone = [loss([example]).item() for example in documents]
        assert loss(documents).item() == pytest.approx(sum(alone) / 3, rel=1e-5)
        heavier = [example._replace(weight=3.0) for example in documents[:1]]
        assert loss(heavier).item() == pytest.approx(3 * alone[0], rel=1e-5)
        batch = datamodule.collate_fn(documents[:1])
        parts = {}
        for head in heads(model.model(batch), batch, {}):
            rows = head.logits.log_softmax(1)[range(len(head.labels)), head.labels]
            parts[head.name] = -rows.sum().item()
    factors = {"ner": 0.5, "relations": 0.3, "triggers": 0.4, "arguments": 1.4}
    assert alone[0] == pytest.approx(sum(factors[name] * part for name, part in parts.items()), rel=1e-5)


def test_a_checkpoint_has_the_weights_of_its_losses(folder, tmp_path):
    datamodule = data(folder)
    model = configured(folder, datamodule, loss_weights={"ner": 5.0, "triggers": 3.0})
    assert model.loss_weights == LossWeights(ner=5.0, triggers=3.0)
    tester = trainer()
    (scores,) = tester.test(model, datamodule, verbose=False)
    tester.save_checkpoint(tmp_path / "model.ckpt")
    loaded = EventExtractor.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    assert trainer().test(loaded, data(folder), verbose=False) == [pytest.approx(scores)]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"ner": -1}, "loss_weights.ner is -1.0: it must be a number of at least 0"),
        ({"nre": 1}, "loss_weights has no setting 'nre'"),
        ([1, 2], r"loss_weights is \[1, 2\]: it must be a mapping of weights, such as {ner: 0.5}"),
    ],
)
def test_wrong_weights_of_losses_are_an_input_error(folder, weights, message):
    with pytest.raises(InputError, match=message):
        extractor(folder, loss_weights=weights)


def test_a_layer_without_weight_is_neither_trained_nor_scored(folder):
    datamodule = data(folder)
    model = configured(folder, datamodule, loss_weights=LossWeights(ner=0, relations=0))
    assert set(model.model.scorers) == {"triggers", "trigger_candidates", "argument_candidates", "arguments"}
    (scores,) = trainer().test(model, datamodule, verbose=False)
    assert set(scores) == {f"test/{name}" for name in NAMES if not name.startswith(("ner_", "relation_"))}
    with torch.inference_mode():
        (record, *_) = model.test_step(next(iter(datamodule.test_dataloader())), 0)
    assert set(record) == {"id", "trig_id_f1", "trig_c_f1", "arg_id_f1", "arg_c_f1"}
    (record, *_) = predicted(model, datamodule)
    assert [name for name in record if name.startswith("predicted")] == ["predicted_events"]


def test_nothing_to_learn_is_an_input_error(folder, tmp_path):
    for name in ("train", "dev"):
        write_documents(tmp_path / f"{name}.json", [document(name, "two men")])
    plain = {"val": str(tmp_path / "dev.json"), "test": None, "out_of_domain": None}
    with pytest.raises(InputError, match="nothing to learn"):
        configured(folder, data(folder, in_domain=str(tmp_path / "train.json"), **plain))
    with pytest.raises(InputError, match="nothing to learn"):
        configured(folder, loss_weights=LossWeights(ner=0, relations=0, events=0))


def test_documents_without_a_layer_count_neither_in_its_loss_nor_in_its_scores(folder, tmp_path):
    """A pool with events alone says nothing about entities."""
    whole = document("A", *SENTENCES[:2])
    events_only = document("B", *SENTENCES[:2], layers=["events"])
    results = []
    for number, documents in enumerate(([whole], [whole, events_only])):
        write_documents(tmp_path / f"{number}.json", documents)
        datamodule = data(folder, test=str(tmp_path / f"{number}.json"))
        (scores,) = trainer().test(configured(folder, datamodule), datamodule, verbose=False)
        results.append(scores)
    for name in ("ner", "relation"):
        for part in ("precision", "recall", "f1"):
            assert results[0][f"test/{name}_{part}"] == results[1][f"test/{name}_{part}"]


@pytest.mark.parametrize("labels", ["all", "own"])
def test_labels_that_the_pools_schema_lacks(folder, labels):
    """With ``own`` they cannot be predicted for its documents, and cost them nothing."""
    datamodule = data(folder, out_of_domain_labels=labels)
    model = configured(folder, datamodule)
    batch = datamodule.collate_fn([datamodule.domains.out_of_domain[1], datamodule.domains.in_domain[0]])
    with torch.no_grad():
        found = model(batch)
    own = {"ner": {"PER"}, "relations": set(), "triggers": {"Attack", "Die", "Arrest"}, "roles": {"Attacker", "Victim"}}
    for head in found.values():
        names = getattr(datamodule.labels, head.kind)
        for member, pool in ((0, True), (1, False)):
            rows = head.logits[batch.document[head.sentence] == member]
            for at, name in enumerate(names, start=1):
                masked = labels == "own" and pool and name not in own[head.kind]
                assert (rows[:, at] == -math.inf).all() if masked else rows[:, at].isfinite().all()
            assert not rows[:, 0].any()
    with torch.enable_grad():
        model.log = lambda *_, **__: None
        model.training_step(batch, 0).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_windows_are_no_longer_than_the_encoder_takes(folder, tmp_path):
    shutil.copytree(folder / "encoder", tmp_path / "encoder")
    config = tmp_path / "encoder" / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "model_max_length": 1000, "pad_token": None}))
    with pytest.raises(InputError, match="takes at most 64 word pieces"):  # the encoder's positions
        data(folder, tokenizer=str(tmp_path / "encoder"), max_length=65).setup()
    with pytest.raises(InputError, match="no padding token"):
        data(folder, tokenizer=str(tmp_path / "encoder")).setup()


def test_a_wrong_choice_of_the_pools_labels_is_an_input_error(folder):
    with pytest.raises(InputError, match=r"out_of_domain_labels is 'some': it must be all or own\.$"):
        data(folder, out_of_domain_labels="some")


@pytest.mark.parametrize("precision", fast_one_in(2, ["bf16-true", "64-true"]))
def test_a_model_in_another_type_learns_and_its_loss_is_summed_exactly(folder, precision):
    torch.manual_seed(0)
    model, datamodule = extractor(folder), data(folder)
    datamodule.setup()
    model.configure_optimizers = lambda: torch.optim.AdamW(model.parameters(), lr=1e-2)
    made = trainer(max_epochs=3, precision=precision, inference_mode=False)
    before = made.validate(model, datamodule, verbose=False)[0]["val/loss"]
    made.fit(model, datamodule)
    logged = made.validate(model, datamodule, verbose=False)[0]["val/loss"]
    dtype = {"bf16-true": torch.bfloat16, "64-true": torch.float64}[precision]
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert logged < before
    with torch.no_grad():
        batches = [made.precision_plugin.convert_input(batch) for batch in datamodule.val_dataloader()]
        totals = [model.eval()._step(batch, "val")[0].double() for batch in batches]
    documents = sum(len(batch.ids) for batch in batches)
    assert logged == pytest.approx(torch.stack(totals).sum().item() / documents, rel=1e-6)


def test_the_encoder_is_in_training_mode_while_it_trains(folder):
    model = extractor(folder)
    assert all(module.training for module in model.modules() if not isinstance(module, ExtractionScores))


# --------------------------------------------------------------------------------------------------- the command line


@pytest.fixture(autouse=True)
def _command_line(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gradual"])


def command(name, folder, run_dir, *more):
    files = [
        f"--data.{part}={folder / file}.json"
        for part, file in [("in_domain", "train"), ("out_of_domain", "pool"), ("val", "dev"), ("test", "test")]
    ]
    fast = ["--trainer.accelerator=cpu", "--trainer.max_epochs=1", "--schedule=[3, 0]", "--trainer.logger=false"]
    encoder = [f"--model.encoder={folder / 'encoder'}", "--model.encoder_layers=1"]
    main([name, f"--config={CONFIG}", *files, *encoder, *fast, f"--run_dir={run_dir}", *more])


def test_every_command_works_on_files_of_events(folder, tmp_path, capsys):
    run_dir = tmp_path / "run"
    command("stats", folder, run_dir)
    rows = {line.split("  ")[0].strip(): line.split()[-4:] for line in capsys.readouterr().out.splitlines()}
    # training, pool, dev, test
    assert rows["documents"] == ["3", "6", "3", "3"]
    assert rows["sentences"] == ["6", "6", "6", "6"]
    assert rows["events"] == ["5", "6", "5", "5"]
    assert rows["arguments"] == ["13", "2", "13", "13"]
    assert rows["event types"] == ["3", "3", "3", "3"]

    command("plan", folder, run_dir)
    output = capsys.readouterr().out
    stages = [line.split() for line in output.splitlines() if line.strip()[:1].isdigit()]
    assert [row[:4] for row in stages] == [["1", "3", "3", "1:1.00"], ["2", "3", "0", "1:0.00"]]
    assert "model.encoder.*: 0.0001" in " ".join(stages[0])
    assert not run_dir.exists()

    command("fit", folder, run_dir)
    content = path_results(run_dir)
    assert [stage["path"] for stage in content["stages"]] == ["seed-0/3", "seed-0/3/0"]
    for stage in content["stages"]:
        assert set(stage["val"]) >= NAMES
        assert set(stage["test"]) == NAMES
    sampled = (run_dir / "seed-0/3/sample.txt").read_text().split()
    assert len(sampled) == 3
    assert set(sampled) <= {d.id for d in POOL}

    capsys.readouterr()
    checkpoint = f"--ckpt_path={run_dir}/seed-0/3/0/best.ckpt"
    main(["test", f"--config={run_dir}/config.yaml", checkpoint])
    output = capsys.readouterr().out
    for name in NAMES:
        assert f"test/{name}" in output
    target = tmp_path / "predictions.jsonl"
    main(["predict", f"--config={run_dir}/config.yaml", checkpoint, f"--predictions={target}"])
    assert [d.id for d in read_documents(target)] == ["test0", "test1", "test2"]
    assert all(
        {"predicted_ner", "predicted_relations", "predicted_events"} <= set(d.record) for d in read_documents(target)
    )


BRAT = """T1\tPER 0 6\tRebels
T2\tAttack 7 11\tshot
T3\tPER 12 19\ttwo men
E1\tAttack:T2 Attacker:T1 Victim:T3
"""


@pytest.mark.slow
def test_a_folder_of_annotated_texts_is_converted_and_trained_on(folder, tmp_path):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number in range(4):
        (corpus / f"text{number}.txt").write_text("Rebels shot two men near Basra.\nThey died in the city.\n")
        (corpus / f"text{number}.ann").write_text(BRAT)
    file = tmp_path / "converted" / "corpus.json"
    main(["convert", "standoff", str(corpus), f"--out={file}"])
    own = [f"--data.{part}={file}" for part in ("in_domain", "val", "test")]
    with pytest.raises(SystemExit):
        command("fit", folder, tmp_path / "run", *own)  # all of training is held out, and is left out of it
    other = tmp_path / "other"
    other.mkdir()
    for path in corpus.iterdir():
        (other / f"held-out-{path.name}").write_text(path.read_text())
    main(["convert", "standoff", str(other), f"--out={tmp_path}/other.json"])
    held_out = [f"--data.{part}={tmp_path}/other.json" for part in ("val", "test")]
    command("fit", folder, tmp_path / "run", f"--data.in_domain={file}", *held_out)
    stages = path_results(tmp_path / "run")["stages"]
    assert [(stage["in_domain"], stage["out_of_domain"]) for stage in stages] == [(4, 3), (4, 0)]
    assert set(stages[-1]["test"]) >= {"trig_c_f1", "arg_c_f1", "ner_f1"}


def test_a_damaged_file_is_one_sentence_on_the_command_line(folder, tmp_path, capfd):
    (tmp_path / "bad.json").write_text('{"doc_key": "A", "sentences": [["a"]], "ner": [[[0, 1, "PER"]]]}\n')
    with pytest.raises(SystemExit):
        command("fit", folder, tmp_path / "run", f"--data.val={tmp_path}/bad.json")
    error = capfd.readouterr().err
    assert f"gradual: {tmp_path}/bad.json:1: ner[0][0]: found the token index 1" in error
    assert "Traceback" not in error

"""Text classification against naive losses and scores, from files to scores and predictions."""

import json
import logging
import math
import warnings
from pathlib import Path

import language_files
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import torch
import torch.nn.functional as F
import yaml
from hypothesis import given
from hypothesis import strategies as st
from interrupted_runs import At, in_a_process, outcome
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from pair_files import write_model as write_pair_model
from peft import PeftModel
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score
from slow_cases import fast_one_in
from tiny_models import config_of, write_model
from tokenizers.processors import TemplateProcessing
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from two_processes import in_two_processes

import gradual
from gradual.errors import InputError
from gradual.logging import saying_anew
from gradual.settings import OptimizerConfig
from gradual.stage.optim import parameter_groups
from gradual.tasks import TextClassificationData, TextClassifier
from gradual.tasks.text_classification.scores import LabelScores, NumberScores

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # Lightning's advice

WORDS = ["good", "bad", "fine", "poor", "food", "room", "the", "was", "and", "not"]
TARGETS = ("label", "labels", "number")


def rows(name, count, target="label", labels=("pos", "neg"), pair=False):
    """Texts of several lengths, in which the first word decides."""
    found = []
    for number in range(count):
        first = number % len(labels)
        text = " ".join([WORDS[first], *(WORDS[4 + (number + place) % 6] for place in range(number % 7))])
        value = {"label": labels[first], "labels": list(labels[:first]), "number": first - 0.5}[target]
        found.append({"id": f"{name}{number}", "text": text, "label": value})
        if pair:
            found[-1]["text_pair"] = f"{WORDS[first]} the room"
    return found


def write(folder, name, examples):
    path = Path(folder) / f"{name}.jsonl"
    path.write_text("".join(json.dumps(example) + "\n" for example in examples))
    return str(path)


def data(folder, encoder, target="label", pool=(), **settings):
    """A data module of files that are written here; ``pool`` holds the rows of the pool."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = settings.pop("labels", ("pos", "neg"))
    pair = settings.pop("pair", False)
    files = {
        part: write(folder, part, rows(part, count, target, labels, pair))
        for part, count in (("in_domain", 12), ("val", 7), ("test", 9))
    }
    if pool:
        files["out_of_domain"] = write(folder, "pool", pool)
    return TextClassificationData(
        **files, tokenizer=encoder, cache_dir=str(folder / "cache"), **{"batch_size": 5, "num_proc": 1, **settings}
    )


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders")
    return {kind: write_model(folder / kind, kind, WORDS) for kind in ("bert", "roberta", "modernbert")} | {
        "dropout": write_model(folder / "dropout", "bert", WORDS, dropout=True)
    }


def configured(datamodule, encoder, **settings):
    """A classifier with its model, outside of a fit."""
    datamodule.setup()
    torch.manual_seed(0)
    model = TextClassifier(encoder, **settings)
    datamodule.configure(model)
    model.configure_model()
    return model.eval()


def fit(root, datamodule, encoder, schedule=(0,), callbacks=(), **settings):
    torch.manual_seed(0)
    quiet = {"logger": False, "enable_progress_bar": False, "accelerator": "cpu", "callbacks": list(callbacks)}
    defaults = {"optimizer": {"lr": 3e-3}, "max_epochs": 20, "patience": 20}
    model = TextClassifier(encoder)
    return gradual.fit(model, datamodule, list(schedule), root / "run", **quiet, **{**defaults, **settings})


# --------------------------------------------------------------------------------------------------- loss and logits


@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", ["bert", "roberta", "modernbert"])
def test_loss_and_logits_are_those_of_plain_transformers(tmp_path, encoders, kind, target, pair):
    """The loss of a batch is what the model of ``transformers`` computes for the texts, padded by its tokenizer."""
    datamodule = data(tmp_path, encoders[kind], target, labels=("a", "b", "c"), pair=pair)
    model = configured(datamodule, encoders[kind])
    model.save_pretrained(tmp_path / "out")
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    tokenizer = AutoTokenizer.from_pretrained(encoders[kind])
    examples = rows("in_domain", 12, target, ("a", "b", "c"), pair)
    texts = [[example[name] for example in examples] for name in (["text", "text_pair"] if pair else ["text"])]
    inputs = tokenizer(*texts, padding=True, return_tensors="pt")
    if kind != "bert":
        inputs.pop("token_type_ids", None)
    known = {name: at for at, name in enumerate(model.spec.labels)}
    gold = torch.tensor(
        {
            "label": lambda: [known[example["label"]] for example in examples],
            "labels": lambda: [[float(name in example["label"]) for name in known] for example in examples],
            "number": lambda: [example["label"] for example in examples],
        }[target]()
    )
    expected = plain(**inputs, labels=gold)
    batch = datamodule.collate_fn(datamodule.domains.in_domain.__getitems__(list(range(12))))
    logits = model(batch)
    torch.testing.assert_close(logits, expected.logits.reshape(logits.shape), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model._step(batch, "train"), expected.loss, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"lora": {"r": 2}}], ids=["all", "lora"])
def test_the_log_says_once_what_is_new(tmp_path, encoders, caplog, settings):
    datamodule = data(tmp_path, encoders["bert"])
    with saying_anew(), caplog.at_level(logging.INFO, logger="gradual"):
        for _ in range(2):
            configured(datamodule, encoders["bert"], **settings)
    assert [line for line in caplog.messages if "random" in line] == ["New layers, drawn at random: classifier."]


def write_trained(folder, kind, labels, texts=("good",)):
    """A classifier with a random head that knows these labels and predicts each of them, and its tokenizer."""
    if kind == "llama":
        language_files.write_model(folder, kind)
        config = language_files.config_of(kind)
    else:
        write_model(folder, kind, WORDS)
        config = config_of(kind, len(AutoTokenizer.from_pretrained(folder)))
    by_output = dict(enumerate(labels))
    config.update({"id2label": by_output, "label2id": {name: at for at, name in by_output.items()}})
    torch.manual_seed(1)
    made = AutoModelForSequenceClassification.from_config(config).eval()
    if kind != "llama":  # whose last layer has no bias
        *_, last = (part for part in made.modules() if isinstance(part, nn.Linear))
        with torch.no_grad():
            last.bias.copy_(-plain_logits(made, folder, texts).mean(0))
    made.save_pretrained(folder)
    return str(folder)


@torch.no_grad()
def plain_logits(model, folder, texts):
    """What ``transformers`` computes for each text alone."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    read = [tokenizer(text, return_tensors="pt") for text in texts]
    return torch.cat([model(each["input_ids"], attention_mask=each["attention_mask"]).logits for each in read])


def plain_labels(folder, texts):
    """What ``transformers`` predicts for each text."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    return [model.config.id2label[at] for at in plain_logits(model, folder, texts).argmax(1).tolist()]


LORA = {"r": 2, "dropout": 0.0}


@pytest.mark.parametrize("settings", [{}, {"lora": LORA}], ids=["all", "lora"])
@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "llama"])
def test_a_classifier_that_knows_the_labels_in_another_order_begins_as_good_as_it_is(tmp_path, kind, settings):
    """The labels of the data are its predictions, so all of them are right; so it stays when merged and exported."""
    texts = list(dict.fromkeys(f"{a} {b} {c}" for a in WORDS[:4] for b in WORDS[4:7] for c in WORDS[6:]))
    folder = write_trained(tmp_path / "trained", kind, ["rest", "good", "bad"], texts)
    labels = plain_labels(folder, texts)
    assert len(set(labels)) == 3
    examples = [{"text": text, "label": label} for text, label in zip(texts, labels)]
    parts = dict.fromkeys(("in_domain", "val"), write(tmp_path, "rows", examples))
    datamodule = TextClassificationData(**parts, tokenizer=folder, cache_dir=str(tmp_path / "cache"), num_proc=1)
    model = TextClassifier(folder, **settings)
    trainer = Trainer(logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu")
    (scores,) = trainer.validate(model, datamodule, verbose=False)
    assert scores["val/accuracy"] == 1
    assert model.model.config.id2label == {0: "bad", 1: "good", 2: "rest"}
    if model.adapter is not None:
        model.adapter.merge(0)
        model.adapter.save(tmp_path / "adapter")
        base = AutoModelForSequenceClassification.from_pretrained(folder)
        adapted = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
        best = plain_logits(adapted, folder, texts).argmax(1).tolist()
        assert [model.spec.labels[at] for at in best] == labels
    model.save_pretrained(tmp_path / "exported")
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "exported")
    assert plain_labels(tmp_path / "exported", texts) == labels


def test_a_classifier_of_other_labels_gets_a_new_last_layer_and_the_log_says_so(tmp_path, caplog):
    folder = write_trained(tmp_path / "trained", "bert", ["joy", "anger"])
    with saying_anew(), caplog.at_level(logging.INFO, logger="gradual"):
        model = configured(data(tmp_path, folder), folder)
    said = "The pretrained head was trained for other labels (joy, anger): classifier is drawn anew, at random."
    assert [line for line in caplog.messages if "random" in line] == [said]
    head = AutoModelForSequenceClassification.from_pretrained(folder).classifier.weight
    assert not torch.isclose(model.model.classifier.weight, head).any()


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_an_example_counts_alike_in_every_batch(tmp_path, encoders, kind):
    datamodule = data(tmp_path, encoders[kind])
    model, examples = configured(datamodule, encoders[kind]), datamodule.domains.in_domain
    together = model(datamodule.collate_fn(examples.__getitems__(list(range(12)))))
    for order in ([3], [11, 3, 0], list(reversed(range(12)))):
        found = model(datamodule.collate_fn(examples.__getitems__(order)))
        torch.testing.assert_close(found, together[order], rtol=1e-5, atol=1e-5)


def test_gradient_checkpointing_changes_no_gradient(tmp_path, encoders):
    datamodule = data(tmp_path, encoders["bert"])
    gradients = []
    for checkpointing in (False, True):
        with warnings.catch_warnings(action="error", category=FutureWarning):
            model = configured(datamodule, encoders["bert"], gradient_checkpointing=checkpointing).train()
        assert any(getattr(part, "gradient_checkpointing", False) for part in model.modules()) is checkpointing
        model._step(datamodule.collate_fn([datamodule.domains.in_domain[at] for at in range(5)]), "train").backward()
        gradients.append([parameter.grad for parameter in model.model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("target", ["label", "labels"])
def test_labels_that_the_pool_cannot_have_are_left_out_of_its_loss(tmp_path, encoders, target):
    pool = rows("pool", 6, target, ("a", "x", "c") if target == "label" else ("a", "x", "c", "d"))
    settings = {"pool": pool, "labels": ("a", "b", "c")}
    datamodule = data(tmp_path, encoders["bert"], target, out_of_domain_labels="own", **settings)
    model = configured(datamodule, encoders["bert"])
    labels = model.spec.labels
    own = ["a", "c", "x"]
    assert [label for label, is_own in zip(labels, model.spec.allowed[1]) if is_own] == own
    domains = datamodule.domains
    examples = [domains.in_domain[0], domains.in_domain[1], domains.out_of_domain[1], domains.out_of_domain[2]]
    batch = datamodule.collate_fn(examples)
    logits = model(batch)
    expected = []
    for row, (schema, gold) in enumerate(zip(batch.schema.tolist(), batch.gold.tolist())):
        counted = [at for at, label in enumerate(labels) if schema == 0 or label in own]
        if target == "label":
            total = math.log(sum(math.exp(logits[row, at].item()) for at in counted))
            expected.append(total - logits[row, gold.index(True)].item())
        else:
            each = [
                F.binary_cross_entropy_with_logits(logits[row, at], torch.tensor(float(gold[at]))) for at in counted
            ]
            expected.append(sum(map(float, each)) / len(counted))
    torch.testing.assert_close(model.losses(logits, batch), torch.tensor(expected), rtol=1e-5, atol=1e-5)
    everything = configured(data(tmp_path / "all", encoders["bert"], target, **settings), encoders["bert"])
    assert everything.spec.allowed == ()
    assert everything.losses(logits, batch)[2:].sum() > model.losses(logits, batch)[2:].sum() or target == "labels"


# ------------------------------------------------------------------------------------------------------------- scores


@given(st.data())
def test_scores_of_labels_are_those_of_scikit_learn(data):
    labels, count = data.draw(st.integers(2, 5)), data.draw(st.integers(1, 12))
    several = data.draw(st.booleans())
    one = st.lists(st.booleans(), min_size=labels, max_size=labels)
    if not several:
        one = st.integers(0, labels - 1).map(lambda at: [at == other for other in range(labels)])
    predicted, gold = (torch.tensor(data.draw(st.lists(one, min_size=count, max_size=count))) for _ in range(2))
    metric = LabelScores(list(map(str, range(labels))), per_label=True)
    losses = torch.arange(float(count))
    for part in torch.arange(count).split(5):
        metric.update(predicted[part], gold[part], losses[part])
    found = {name: value.item() for name, value in metric.compute().items()}
    if several:
        truth, guess = gold.numpy(), predicted.numpy()
        occurs = [at for at in range(labels) if (gold | predicted)[:, at].any()]
    else:
        truth, guess = gold.int().argmax(1).numpy(), predicted.int().argmax(1).numpy()
        occurs = sorted({*truth.tolist(), *guess.tolist()})
    expected = {"loss": losses.mean().item(), "accuracy": accuracy_score(truth, guess)}
    average = {name: f1_score(truth, guess, labels=occurs, average=name, zero_division=0) if occurs else 0.0
               for name in ("micro", "macro")}  # fmt: skip
    each = f1_score(truth, guess, labels=list(range(labels)), average=None, zero_division=0)
    expected |= {f"{name}_f1": value for name, value in average.items()}
    expected |= {f"f1/{at}": value for at, value in enumerate(each)}
    assert found == pytest.approx(expected, abs=1e-6)


@given(st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=1, max_size=20))
def test_scores_of_numbers_are_those_of_scipy(pairs):
    predicted, gold = (torch.tensor(side, dtype=torch.float32) / 3 for side in zip(*pairs))
    metric = NumberScores()
    for part in torch.arange(len(pairs)).split(6):
        metric.update(predicted[part], gold[part], (predicted - gold)[part].square())
    found = {name: value.item() for name, value in metric.compute().items()}
    error = sum((a - b) ** 2 for a, b in zip(predicted.tolist(), gold.tolist())) / len(pairs)
    expected = {"loss": error, "mse": error, "pearson": 0.0, "spearman": 0.0}
    if len(set(predicted.tolist())) > 1 and len(set(gold.tolist())) > 1:
        expected["pearson"] = stats.pearsonr(predicted, gold).statistic
        expected["spearman"] = stats.spearmanr(predicted, gold).statistic
    assert found == pytest.approx(expected, abs=1e-5)


def test_nothing_scored_is_zero():
    assert {*map(float, NumberScores().compute().values())} == {0.0}
    assert {*map(float, LabelScores(["a", "b"]).compute().values())} == {0.0}


# ------------------------------------------------------------------------------------------- from files to predictions


@pytest.mark.parametrize(
    ("kind", "target"),
    fast_one_in(4, [("roberta", "labels"), ("bert", "label"), ("modernbert", "label"), ("bert", "number")]),
)
def test_a_small_model_learns_it_all(tmp_path, encoders, kind, target):
    """What is trained on is learned, test records add up to the test scores, and a checkpoint predicts the same."""
    datamodule = data(tmp_path, encoders[kind], target, pool=rows("pool", 20, target))
    result = fit(tmp_path, datamodule, encoders[kind], (10, 0), check_val_every_n_epoch=5)
    test = result.stages[-1].test
    folder = tmp_path / "run/seed-0/10/0"
    records = [json.loads(line) for line in (folder / "test_examples.jsonl").read_text().splitlines()]
    assert [record["id"] for record in records] == [f"test{number}" for number in range(9)]
    for name in {*records[0]} - {"id"}:
        numerators, denominators = zip(*(record[name] for record in records))
        assert sum(numerators) / sum(denominators) == pytest.approx(test[name], abs=1e-5)
    if target == "number":
        assert test["mse"] < 0.05
        assert test["pearson"] > 0.95
    else:
        assert test["accuracy"] == test["macro_f1"] == test["micro_f1"] == 1
    loaded = TextClassifier.load_from_checkpoint(folder / "best.ckpt").eval()
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    predicted = [record for batch in trainer.predict(loaded, datamodule=datamodule) for record in batch]
    expected = rows("test", 9, target)
    assert [record["id"] for record in predicted] == [example["id"] for example in expected]
    for record, example in zip(predicted, expected, strict=True):
        if target == "number":
            assert record == {"id": example["id"], "score": pytest.approx(example["label"], abs=0.5)}
        else:
            assert record["label"] == example["label"]
            scores = record["score"] if target == "labels" else [record["score"]]
            assert all(0.5 <= score <= 1 for score in scores)
            assert len(scores) == (len(record["label"]) if target == "labels" else 1)


def test_a_checkpoint_needs_neither_data_nor_the_pretrained_folder(tmp_path, encoders):
    own = write_model(tmp_path / "gone", "bert", WORDS)
    datamodule = data(tmp_path, own)
    fit(tmp_path, datamodule, own, max_epochs=1, patience=1)
    trained = configured(datamodule, own)
    (tmp_path / "gone").rename(tmp_path / "away")
    loaded = TextClassifier.load_from_checkpoint(tmp_path / "run/seed-0/0/best.ckpt")
    assert loaded.spec == trained.spec
    assert loaded.model.config.id2label == {0: "neg", 1: "pos"}
    loaded.save_pretrained(tmp_path / "out")
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    for name, weight in plain.state_dict().items():
        assert torch.equal(weight, loaded.model.state_dict()[name])
    other = data(tmp_path / "other", encoders["bert"], labels=("pos", "neg", "other"))
    with pytest.raises(InputError, match="only the data has the labels other"):
        other.configure(loaded)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["label", "number"])
def test_a_run_that_was_killed_ends_as_if_it_had_not_been(tmp_path, encoders, target):
    def train(root, *callbacks):
        datamodule = data(root, encoders["dropout"], target, pool=rows("pool", 20, target))
        fit(root, datamodule, encoders["dropout"], (8, 0), callbacks, max_epochs=2, checkpoint_every=1)

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert in_a_process(lambda: train(whole)) == 0
    for count in (3, 4):  # in the middle of an epoch of the first stage, and in the second
        assert in_a_process(lambda count=count: train(killed, At("on_train_batch_end", count))) == -9
    assert in_a_process(lambda: train(killed)) == 0
    found, expected = outcome(killed), outcome(whole)
    assert found == expected


def divided():
    """The strategy that divides weights among processes (FSDP2)."""
    return ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=1, save_distributed_checkpoint=False)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "strategy"), [("bert", lambda: "ddp"), ("modernbert", divided)])
def test_two_processes_train_and_score_as_one(tmp_path, encoders, kind, strategy):
    def train(root, processes):
        settings = {"batch_size": 4 // processes, "eval_batch_size": 2}
        datamodule = data(root, encoders[kind], pool=rows("pool", 20), **settings)
        several = {"devices": processes, "strategy": strategy() if processes > 1 else "auto"}
        fit(root, datamodule, encoders[kind], (8, 0), max_epochs=2, **several)

    for processes in (1, 2):
        (tmp_path / str(processes)).mkdir()
    assert in_a_process(lambda: train(tmp_path / "1", 1)) == 0
    in_two_processes(lambda: train(tmp_path / "2", 2), tmp_path / "2")
    folders = [tmp_path / str(processes) / "run/seed-0/8/0" for processes in (1, 2)]
    one, two = (json.loads((folder / "result.json").read_text()) for folder in folders)
    for split in ("val", "test"):
        assert two[split] == pytest.approx(one[split], rel=1e-3, abs=1e-4)
    records = [(folder / "test_examples.jsonl").read_text().splitlines() for folder in folders]
    assert [json.loads(line)["id"] for line in records[0]] == [json.loads(line)["id"] for line in records[1]]


def test_the_configuration_fits_the_models(tmp_path, encoders):
    """Neither biases nor norms are decayed, and what is monitored is logged."""
    content = yaml.safe_load((Path(__file__).parents[3] / "configs/tasks/text_classification.yaml").read_text())
    for kind in ("bert", "roberta", "modernbert"):
        model = configured(data(tmp_path, encoders[kind]), encoders[kind])
        groups = parameter_groups(model, OptimizerConfig(**content["optimizer"]))
        decayed = {id(parameter) for group in groups if group["weight_decay"] for parameter in group["params"]}
        assert all((id(parameter) in decayed) is (parameter.ndim > 1) for parameter in model.parameters())
        assert {content["monitor"].removeprefix("val/"), *content["metrics"]} <= {*model.val_scores.compute()}


# --------------------------------------------------------------------------------------------------- what is in files


def test_what_is_predicted_follows_from_the_labels(tmp_path, encoders):
    kinds = {
        "label": ["b", "a", "b"],
        "labels": [["b"], [], ["a", "b"]],
        "number": [0.5, 2, 1],
    }
    for target, values in kinds.items():
        examples = [{"sentence": "good food", "label": value} for value in values]
        path = write(tmp_path, target, examples)
        datamodule = TextClassificationData(path, tokenizer=encoders["bert"], cache_dir=str(tmp_path / "cache"))
        datamodule.setup()
        spec = datamodule.spec()
        assert (spec.target, spec.labels) == (target, () if target == "number" else ("a", "b"))
        batch = datamodule.collate_fn(datamodule.domains.in_domain.__getitems__([0, 1, 2]))
        wanted = {
            "label": [[False, True], [True, False], [False, True]],
            "labels": [[False, True], [False, False], [True, True]],
            "number": [0.5, 2.0, 1.0],
        }[target]
        assert batch.gold.tolist() == wanted
        assert batch.ids == ["0", "1", "2"]


def test_integers_are_labels_in_their_order_unless_they_are_to_be_numbers(tmp_path, encoders):
    path = write(tmp_path, "stars", [{"text": "good", "label": stars} for stars in (10, 2, 1)])
    files = {"in_domain": path, "tokenizer": encoders["bert"], "cache_dir": str(tmp_path / "cache")}
    datamodule = TextClassificationData(**files)
    datamodule.setup()
    assert datamodule.spec().labels == ("1", "2", "10")
    datamodule = TextClassificationData(**files, target="number")
    datamodule.setup()
    assert datamodule.domains.in_domain[0]["label"] == 10


@pytest.mark.parametrize(
    ("values", "settings", "said"),
    [
        ([{"a": 1}, {"a": 2}], {}, "holds objects: it must hold text or integers"),
        (["a", "b"], {"target": "number"}, "holds text: .* The target is number"),
        (["a", "a"], {}, "Every example has the label 'a'"),
        ([[], []], {}, "holds no labels"),
        ([["a", None], []], {}, r"x\.jsonl:1: one of its labels is null"),
        (["a", None], {}, r"x\.jsonl:2: 'label' has no value"),
        (["a", "b"], {"label_column": "stars"}, "has no column 'stars'"),
        (["a", "b"], {"text_column": "label", "label_column": "id"}, "has no column 'id'"),
        ([0.5, 1e30], {}, r"x\.jsonl:2: its label is 1e\+30: it must be a number from -1e15 to 1e15"),
        ([1, 2.5], {"target": "label"}, r"x\.jsonl:2: 'label' is 2.5, but labels must be text or whole numbers"),
        (
            [1.0, 2.0],
            {},
            r"x\.jsonl: 'label' holds whole numbers, but written as 1\.0: set target to label if they are",
        ),
    ],
)
def test_labels_that_cannot_be_used(tmp_path, encoders, values, settings, said):
    path = write(tmp_path, "x", [{"text": "good", "label": value} for value in values])
    datamodule = TextClassificationData(path, tokenizer=encoders["bert"], cache_dir=str(tmp_path / "cache"), **settings)
    with pytest.raises(InputError, match=said):
        datamodule.setup()


def test_a_label_that_is_no_number_is_refused(tmp_path, encoders):
    """In Parquet, NaN is a value; such a loss would never be finite."""
    path = tmp_path / "x.parquet"
    parquet.write_table(pa.table({"text": ["good", "bad", "fine"], "label": [1.0, math.nan, 2.5]}), path)
    datamodule = TextClassificationData(str(path), tokenizer=encoders["bert"], cache_dir=str(tmp_path / "cache"))
    with pytest.raises(InputError, match=r"x\.parquet, row 2: its label is nan: it must be a number"):
        datamodule.setup()


def whole_numbers(folder, encoder, point_in, **settings):
    """A data module of texts whose labels are 0 and 1, written as 0.0 and 1.0 in one part."""
    files = {}
    for part in ("in_domain", "out_of_domain", "val"):
        kind = float if part == point_in else int
        examples = [{"text": WORDS[number], "label": kind(number % 2)} for number in range(4)]
        files[part] = write(folder, part, examples)
    return TextClassificationData(**files, tokenizer=encoder, cache_dir=str(folder / "cache"), **settings)


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_true_and_false_are_labels(tmp_path, encoders, kind):
    values = [True, False, False, True]
    path = write(tmp_path, "x", [{"text": "good", "label": value} for value in values])
    if kind == "parquet":
        path = str(tmp_path / "x.parquet")
        parquet.write_table(pa.table({"text": ["good"] * 4, "label": values}), path)
    datamodule = TextClassificationData(path, tokenizer=encoders["bert"], cache_dir=str(tmp_path / "cache"))
    datamodule.setup()
    assert datamodule.spec().labels == ("False", "True")
    assert gold(datamodule, datamodule.domains.in_domain) == [
        [False, True],
        [True, False],
        [True, False],
        [False, True],
    ]


def gold(datamodule, dataset):
    """The labels of a batch of the first four examples."""
    return datamodule.collate_fn(dataset.__getitems__([0, 1, 2, 3])).gold.tolist()


@pytest.mark.parametrize("part", ["in_domain", "out_of_domain", "val"])
def test_whole_numbers_with_a_point_may_be_labels_or_numbers(tmp_path, encoders, caplog, part):
    with pytest.raises(InputError, match=rf"{part}\.jsonl: 'label' holds whole numbers, .* \(as 1 in .*set target to"):
        whole_numbers(tmp_path, encoders["bert"], part).setup()
    with caplog.at_level("INFO", "gradual"):
        labels = whole_numbers(tmp_path, encoders["bert"], part, target="label", out_of_domain_labels="own")
        labels.setup()
        assert labels.spec().labels == ("0", "1")
        assert labels.spec().allowed == ((True, True), (True, True))
        for dataset in (labels.domains.in_domain, labels.domains.out_of_domain, labels.domains.val):
            assert gold(labels, dataset) == [[True, False], [False, True]] * 2
        assert "Column 'label': one of 2 labels." in caplog.text
        numbers = whole_numbers(tmp_path, encoders["bert"], part, target="number")
        numbers.setup()
        assert [numbers.domains.val[at]["label"] for at in range(4)] == [0.0, 1.0, 0.0, 1.0]
        assert "Column 'label': a number, from 0 to 1." in caplog.text


def test_the_log_says_that_a_text_may_have_several_labels(tmp_path, encoders, caplog):
    with caplog.at_level("INFO", "gradual"):
        data(tmp_path, encoders["bert"], "labels", labels=("a", "b", "c")).setup()
    assert "Column 'label': any of 2 labels." in caplog.text  # no text has the last one


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_texts_with_the_token_at_which_a_model_is_read_off_are_refused(tmp_path, family):
    """The heads of these models need the same number of them in each text of a batch, and would read off elsewhere."""
    model = str(write_pair_model(tmp_path / family, family))
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing("$A </s>", "$A </s> $B </s>", [("</s>", 1)])
    tokenizer.save_pretrained(model)
    good = [{"text": text, "text_pair": "vier", "label": text} for text in ("ein", "zwei plus")]
    settings = {"tokenizer": model, "cache_dir": str(tmp_path / "cache"), "num_proc": 1}
    for columns in ({"text_pair_column": None}, {"text_column": "text_pair", "text_pair_column": "text"}):
        TextClassificationData(write(tmp_path, "good", good), **settings, **columns).setup()
        bad = [*good, {"text": "ein </s> zwei", "text_pair": "vier", "label": "ein"}]
        with pytest.raises(InputError, match=r"bad\.jsonl:3: the text holds '</s>', by which this model finds the end"):
            TextClassificationData(write(tmp_path, "bad", bad), **settings, **columns).setup()
    alone = [{"text": row["text"], "label": row["label"]} for row in bad]
    with pytest.raises(InputError, match=r"alone\.jsonl:3: the text holds '</s>'"):
        TextClassificationData(write(tmp_path, "alone", alone), **settings).setup()


def test_settings_that_cannot_be_meant(encoders):
    with pytest.raises(InputError, match="out_of_domain_labels is 'some': it must be all or own"):
        TextClassificationData("x.jsonl", out_of_domain_labels="some")
    with pytest.raises(InputError, match="target is 'class': it must be label, labels, number or null"):
        TextClassificationData("x.jsonl", target="class")
    with pytest.raises(InputError, match=r"threshold is 1.5: it must be a number between 0 and 1"):
        TextClassifier(encoders["bert"], threshold=1.5)


def test_a_model_that_is_not_there(tmp_path):
    model = TextClassifier(str(tmp_path / "nothing"))
    datamodule = data(tmp_path, write_model(tmp_path / "bert", "bert", WORDS))
    datamodule.configure(model)
    with pytest.raises(InputError, match="cannot be loaded as a model"):
        model.configure_model()

"""What of a pretrained classifier is kept: a head for the same labels in any order, and for no others."""

import logging

import language_files
import pytest
import torch
from classification_files import WORDS, configured, data, write
from peft import PeftModel
from quiet_trainer import quiet_trainer
from tiny_models import config_of, write_model
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from gradual.errors import InputError
from gradual.logging import saying_anew
from gradual.tasks import TextClassificationData, TextClassifier

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # Lightning's advice


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
    trainer = quiet_trainer()
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


def test_a_model_that_is_not_there(tmp_path):
    model = TextClassifier(str(tmp_path / "nothing"))
    datamodule = data(tmp_path, write_model(tmp_path / "bert", "bert", WORDS))
    datamodule.configure(model)
    with pytest.raises(InputError, match="cannot be loaded as a model"):
        model.configure_model()

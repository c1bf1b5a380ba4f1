"""What the tests of text classification share: files of texts with labels, classifiers with their data, runs."""

import json
from pathlib import Path

import torch

import gradual
from gradual.tasks import TextClassificationData, TextClassifier

WORDS = ["good", "bad", "fine", "poor", "food", "room", "the", "was", "and", "not"]


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

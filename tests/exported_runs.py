"""Runs of each task and the folders that are exported from them, made when a test needs them."""

import json

import pytest
import tagging_examples
from language_files import write_model as write_language_model
from pair_files import PAIRS
from pair_files import write_model as write_pair_model
from tiny_models import write_model

from gradual.__main__ import main

WORDS = ["good", "bad", "fine", "poor", "food", "room", "the", "was", "and", "not"]
SIZES = {"in_domain": 6, "val": 5, "test": 9}
FAST = ["--trainer.max_epochs=1", "--data.num_proc=1", "--optimizer.lr=1e-2"]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def texts(count, several=False):
    for number in range(count):
        label = ("neg", "neutral", "pos")[number % 3]
        text = " ".join([WORDS[number % 3], *(WORDS[3 + (number + place) % 7] for place in range(number % 6))])
        yield {"id": f"{count}-{number}", "text": text, "label": ["any", label][: number % 3] if several else label}


def numbers(count):
    return [{**row, "label": len(row["text"].split()) / 4} for row in texts(count)]


def twos(count):
    """Pairs of texts, which say the same or not."""
    rows = list(texts(count))
    for number, row in enumerate(rows):
        other = rows[(number + number % 2) % count]["text"]
        yield {**row, "text_pair": f"{other} indeed", "label": ("same", "other")[number % 2]}


def fit(folder, model, pretrained, run, *more, command="fit", schedule="[0]", **files):
    data = [f"--data.{part}={path}" for part, path in files.items()]
    start = [command, f"--model={model}", f"--model.pretrained={pretrained}", f"--run_dir={folder / run}"]
    main([*start, f"--schedule={schedule}", *data, f"--data.cache_dir={folder / 'cache'}", *FAST, *more])
    return folder / run


def predictions(stage, folder):
    out = folder / "predictions.jsonl"
    main(["predict", str(stage), f"--predictions={out}"])
    return [json.loads(line) for line in out.read_text().splitlines()]


def export(stage, out, *more):
    main(["export", str(stage), "--out", str(out), *more])
    return out


class Trained(dict):
    """The stages to export, by the name of the folder that each is exported to; each is trained when it is needed."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def __missing__(self, name):
        self[name] = getattr(self, name)()
        return self[name]

    def bert(self):
        return write_model(self.folder / "bert", "bert", WORDS)

    def files(self, several=False):
        """Files of texts with a label, or with several."""
        sizes = SIZES | ({"val": 9} if several else {})
        return {
            part: write(self.folder / f"{part}-{several}.jsonl", texts(size, several)) for part, size in sizes.items()
        }

    def label(self):
        pool = {"out_of_domain": write(self.folder / "pool.jsonl", texts(12))}
        more = ["--strategies=[in-domain only, gradual]", "--seeds=[0, 1]"]
        given = {"command": "compare", "schedule": "[8, 4, 0]", **self.files(), **pool}
        return fit(self.folder, "TextClassifier", self["bert"], "compared", *more, **given) / "seed-1/8/4/0"

    def labels(self):
        files = self.files(several=True)
        files["predict"] = files.pop("test")
        return fit(self.folder, "TextClassifier", self["bert"], "labels", **files)

    def classifier(self, name, make):
        files = {part: write(self.folder / f"{part}-{name}.jsonl", make(size)) for part, size in SIZES.items()}
        return fit(self.folder, "TextClassifier", self["bert"], name, **files)

    def numbers(self):
        return self.classifier("numbers", numbers)

    def two(self):
        return self.classifier("two", twos)

    def lora(self):
        lora = "--model.lora={r: 2, dropout: 0.0}"
        return fit(self.folder, "TextClassifier", self["bert"], "lora", lora, **self.files())

    def merged(self):
        return self["lora"]

    def adapter(self):
        return self["lora"]

    def tagger(self, kind):
        files = {
            part: tagging_examples.write_conll(self.folder / f"{part}.conll", tagging_examples.sentences(size, seed))
            for part, size, seed in (("in_domain", 24, 0), ("val", 4, 1), ("test", 6, 2))
        }
        encoder = tagging_examples.write_encoder(self.folder / f"words-{kind}", kind)
        more = ["--trainer.max_epochs=6", "--data.batch_size=4"]
        return fit(self.folder, "TokenClassifier", encoder, f"tags-{kind}", *more, **files)

    def spans(self):
        return self.tagger("bert")

    def tags(self):
        return self.tagger("roberta")

    def pairs(self):
        t5 = str(write_pair_model(self.folder / "t5", "large t5"))
        rows = [{"source": source, "target": target} for source, target in PAIRS]
        files = {part: write(self.folder / f"{part}-pairs.jsonl", rows) for part in ("in_domain", "val", "test")}
        more = ["--data.prefix", "translate : ", "--model.generate={num_beams: 2}"]
        return fit(self.folder, "Seq2Seq", t5, "pairs", *more, **files)

    def texts(self):
        llama = write_language_model(self.folder / "llama", "llama")
        asked = [{"prompt": f"one plus {word} is", "completion": " two"} for word in ("one", "two", "you", "four")]
        files = {part: write(self.folder / f"{part}-lines.jsonl", asked) for part in ("in_domain", "val", "test")}
        return fit(self.folder, "CausalLM", llama, "texts", "--model.generate={max_new_tokens: 4}", **files)


class Exported(dict):
    """The folders with what was exported, by name; each is exported when it is needed."""

    def __init__(self, folder, trained):
        super().__init__()
        self.folder, self.trained = folder, trained

    def __missing__(self, name):
        more = ["--merge"] if name == "merged" else []
        self[name] = export(self.trained[name], self.folder / name, *more)
        return self[name]


def check_labels(found, expected):
    assert [row["label"] for row in found] == [row["label"] for row in expected]
    assert [row["score"] for row in found] == pytest.approx([row["score"] for row in expected], abs=1e-4)
    assert len({row["score"] for row in found}) > 3

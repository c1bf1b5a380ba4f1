"""In-domain texts and a pool that is more or less like them, in memory and in files."""

import json

import gradual.data.relevance.scores
from gradual import MixedDomainDataModule
from gradual.tasks import TextClassificationData

TARGET = ["the food was good", "bad food", "the food in the room was bad and poor", "good and fine food"]
POOL = [
    "the room was fine", "food", "a film not seen", "good good food", "the plot of the film", "bad food and bad room",
    "not a film", "fine food was the food", "a plot", "film film film",
]  # fmt: skip
WORDS = sorted({word for text in [*TARGET, *POOL] for word in text.split()})


class Texts(list):
    """Texts with ids."""

    def __init__(self, texts, name="x"):
        super().__init__(texts)
        self.ids = [f"{name}{at}" for at in range(len(texts))]


def module(order, pool=None, target=None, schedule=(1.0,), draws=True, **settings):
    """A data module of texts that has drawn a sample, unless it should not."""
    data = MixedDomainDataModule(
        Texts(target or TARGET, "in"), pool or Texts(POOL, "out"), settings.pop("val", None), schedule=schedule,
        order=order, text_of=str, collate_fn=list, **settings,
    )  # fmt: skip
    data.setup()
    if draws:
        data.sample()
    return data


def order_of(data):
    return data.sample().tolist()


def files(folder, data_class, encoder, order, pool=None, **settings):
    def rows(texts):
        for at, text in enumerate(texts):
            words = text.split()
            inputs = {"text": text} if data_class is TextClassificationData else {"tokens": words}
            gold = {"label": "ab"[at % 2]} if "text" in inputs else {"tags": ["ab"[at % 2]] * len(words)}
            yield {**inputs, **gold, "score": (7 * at) % 10}

    for part, texts in {"in": TARGET, "pool": pool or POOL, "val": TARGET}.items():
        (folder / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(texts)))
    data = data_class(
        str(folder / "in.jsonl"), out_of_domain=str(folder / "pool.jsonl"), val=str(folder / "val.jsonl"),
        tokenizer=encoder, cache_dir=str(folder / "cache"), num_proc=1, order=order, **settings,
    )  # fmt: skip
    data.schedule = [1.0]
    data.setup()
    return data


def count_of_computations(monkeypatch):
    made = []
    original = gradual.data.relevance.scores.Scorer._compute

    def compute(self, *arguments):
        made.append(self.order.by)
        return original(self, *arguments)

    monkeypatch.setattr(gradual.data.relevance.scores.Scorer, "_compute", compute)
    return made

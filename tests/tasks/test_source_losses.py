"""The training loss of each named source, in every task with files, against one example at a time."""

import json

import language_files
import pair_files
import pytest
import torch
from slow_cases import fast_one_in
from tiny_models import write_model

from gradual.tasks import (
    CausalLM,
    CausalLMData,
    Seq2Seq,
    Seq2SeqData,
    TextClassificationData,
    TextClassifier,
    TokenClassificationData,
    TokenClassifier,
)

WORDS = ["good", "bad", "food", "room", "the"]


def texts(at):
    return {"text": " ".join(WORDS[: 1 + at % 5]), "label": "ab"[at % 2]}


def sentences(at):
    return {"tokens": WORDS[: 1 + at % 5], "tags": ["ab"[(at + place) % 2] for place in range(1 + at % 5)]}


def pairs(at):
    source, target = pair_files.PAIRS[at % 6]
    return {"source": source, "target": target}


def prompts(at):
    return {"prompt": language_files.TEXTS[at % 5], "completion": " " + language_files.TEXTS[(at + 2) % 5]}


def bert(folder):
    return write_model(folder, "bert", WORDS)


TASKS = {
    "texts": (TextClassifier, TextClassificationData, texts, bert),
    "sentences": (TokenClassifier, TokenClassificationData, sentences, bert),
    "pairs": (Seq2Seq, Seq2SeqData, pairs, lambda folder: pair_files.write_model(folder, "t5")),
    "prompts": (CausalLM, CausalLMData, prompts, lambda folder: language_files.write_model(folder, "llama")),
}


@pytest.mark.parametrize("task", fast_one_in(2, TASKS))
def test_the_loss_of_each_source_is_the_mean_of_its_own_examples(tmp_path, task):
    model_class, data_class, row, make = TASKS[task]
    pretrained = str(make(tmp_path / "model"))
    files = {}
    for number, (part, count) in enumerate({"in": 5, "zoo": 4, "books": 6, "val": 2}.items()):
        files[part] = str(tmp_path / f"{part}.jsonl")
        rows = [json.dumps(row(at + number)) + "\n" for at in range(count)]
        (tmp_path / f"{part}.jsonl").write_text("".join(rows))
    data = data_class(
        files["in"], out_of_domain={"zoo": files["zoo"], "books": files["books"]}, val=files["val"],
        tokenizer=pretrained, cache_dir=str(tmp_path / "cache"), batch_size=4, num_proc=1,
    )  # fmt: skip
    data.schedule = [{"zoo": 3, "books": 6}]
    data.setup()
    model = model_class(pretrained)
    data.configure(model)
    model.configure_model()
    model.eval()
    by_source: dict[int, list[tuple[float, int]]] = {}
    with torch.no_grad():
        for batch in data.train_dataloader():
            model._step(batch, "train")
        for example in (example for at in data.train_dataloader().batch_sampler for example in at):
            one = data.train_dataloader().dataset.__getitems__([example])
            batch = data.collate_fn(one)
            tokens = {"texts": 1, "sentences": len(one[0].get("tags", [])), "pairs": len(one[0].get("labels", []))}
            count = tokens.get(task) or len(batch.targets)
            by_source.setdefault(one[0]["source"], []).append((float(model._step(batch, "val")) * count, count))
    assert [len(by_source[at]) for at in range(3)] == [5, 6, 3]
    wanted = {
        name: sum(loss for loss, _ in by_source[at]) / sum(count for _, count in by_source[at])
        for at, name in enumerate(("in-domain", "books", "zoo"))
    }
    found = {name: float(value) for name, value in model.source_losses.compute().items()}
    assert found == pytest.approx(wanted, rel=1e-5)


def test_without_names_there_are_no_sources(tmp_path):
    pretrained = bert(tmp_path / "model")
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(texts(at)) + "\n" for at in range(4)))
    data = TextClassificationData(str(path), out_of_domain=str(path), tokenizer=pretrained, cache_dir=str(tmp_path))
    model = TextClassifier(pretrained)
    data.configure(model)
    assert model.source_losses is None
    assert "source" not in data.domains.out_of_domain[0]
    assert next(iter(data.train_dataloader())).source is None


def test_each_source_has_labels_of_its_own(tmp_path):
    """Labels that the annotation of one source lacks are left out of the loss of that source's texts only."""
    pretrained = bert(tmp_path / "model")
    labels = {"in": "abc", "zoo": "ab", "books": "bc"}
    for name, own in labels.items():
        rows = [{"text": "good", "label": own[at % len(own)]} for at in range(6)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pool = {name: str(tmp_path / f"{name}.jsonl") for name in ("zoo", "books")}
    data = TextClassificationData(
        str(tmp_path / "in.jsonl"), out_of_domain=pool, out_of_domain_labels="own", tokenizer=pretrained,
        cache_dir=str(tmp_path / "cache"),
    )  # fmt: skip
    data.setup()
    assert data.spec().allowed == ((True, True, True), (False, True, True), (True, True, False))
    assert {data.domains.out_of_domain[at]["schema"] for at in range(6)} == {1}
    assert {data.domains.out_of_domain[at]["schema"] for at in range(6, 12)} == {2}

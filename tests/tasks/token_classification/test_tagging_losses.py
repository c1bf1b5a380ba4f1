"""Losses, scores and predictions of taggers, against plain `transformers` word by word, with every encoder."""

import shutil

import pytest
import torch
import torch.nn.functional as F
from quiet_trainer import quiet_trainer
from seqeval.metrics import f1_score
from tagger_models import KINDS, configured, data
from tagging_examples import WORDS, write_conll
from transformers import AutoModelForTokenClassification, AutoTokenizer

from gradual.errors import InputError
from gradual.tasks import TokenClassifier

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # Lightning's advice


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
    trainer = quiet_trainer()
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
    trainer = quiet_trainer()
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


def test_words_without_pieces_are_tagged(folder, tmp_path):
    model, module = configured(
        folder, predict=write_conll(tmp_path / "p.txt", [(["\x07", *WORDS[:2], "\x07"], ["O"] * 4)])
    )
    (batch,) = module.predict_dataloader()
    (record,) = model.predict_step(batch, 0)
    assert record["tokens"] == ["\x07", *WORDS[:2], "\x07"]
    found = naive_logits(*plain(model, folder, "bert"), record["tokens"], room=62)
    assert record["tags"] == [model.spec.tags[at] for at in found.argmax(1).tolist()]


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

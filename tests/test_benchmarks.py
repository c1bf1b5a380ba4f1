"""The plain implementations that benchmarks compare with compute the package's models."""

import json
import os
import subprocess
import sys
from pathlib import Path

import language_files
import numpy as np
import pytest
import torch
from dialogue_files import encoded, tiny_bert
from events_files import document, sentence
from plain_dygie import PlainDygie
from plain_sumbt import PlainSumbt, pad
from tiny_models import write_model

from gradual.tasks.dialogue import Sumbt
from gradual.tasks.dialogue.features import TurnCollator
from gradual.tasks.dialogue.model import batch_loss, turn_losses
from gradual.tasks.events.batch import SentenceCollator
from gradual.tasks.events.features import EncodedDocument, EncodedSentence
from gradual.tasks.events.labels import LabelSpace
from gradual.tasks.events.loss import LossWeights, heads, loss_of
from gradual.tasks.events.model import Dygie

CANDIDATES = (3, 5, 2)


def make_model():
    """In evaluation mode; of equal weights at each call."""
    encoder = tiny_bert()
    torch.manual_seed(1)
    model = Sumbt(encoder, heads=4, hidden=11).eval()
    model.set_vectors(torch.randn(3, 16), [torch.randn(count, 16) for count in CANDIDATES])
    return model


@pytest.mark.parametrize(("turns", "stepwise"), [(5, True), (22, True), (22, False)])
def test_the_plain_dialogue_model_has_our_loss_and_gradients(turns, stepwise):
    dialogues = encoded([[4, 9, 6], [12], [7, 7, 3, 20, 5]], CANDIDATES, missing=0.2)
    model, twin = make_model(), make_model()
    batch = TurnCollator(pad_token_id=0)(dialogues)
    ours = batch_loss(turn_losses(model(batch), batch.labels), batch.labels)
    plain = PlainSumbt(twin, stepwise)(pad(dialogues, turns, 64, 0))
    torch.testing.assert_close(plain, ours, rtol=1e-4, atol=1e-4)
    ours.backward()
    plain.backward()
    expected = {name: parameter.grad for name, parameter in model.named_parameters()}
    for name, parameter in twin.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-3, atol=1e-4)
    assert any(isinstance(module, torch.nn.LayerNorm) for module in twin.encoder.modules()) != stepwise


def make_extractor(labels):
    """In evaluation mode; of equal weights at each call."""
    encoder = tiny_bert()
    torch.manual_seed(1)
    model = Dygie(encoder, features=5, hidden=7)
    model.add_scorers(labels, 3, LossWeights().layers)
    return model.eval()


def test_the_plain_event_model_has_our_loss_and_gradients():
    documents = [
        document(
            "a",
            sentence("one two three four", ner=[(0, 1, "X")], events=[(2, "Hit", [(0, 1, "Who"), (3, 3, "What")])]),
            sentence("five six", ner=[(0, 0, "Y"), (0, 0, "X")]),
            sentence("seven eight nine ten eleven twelve", events=[(0, "Run", []), (4, "Hit", [(5, 5, "Who")])]),
        ),
        document("b", sentence("one nine", events=[(1, "Run", [(0, 1, "Who")])]), weight=0.5),
    ]
    labels = LabelSpace.of(documents)
    words = {
        word: 5 + i for i, word in enumerate(sorted({w for d in documents for s in d.sentences for w in s.tokens}))
    }
    features = [as_features(d, labels, words) for d in documents]
    model, twin = make_extractor(labels), make_extractor(labels)
    batch = SentenceCollator(0, max_span_width=3, relations=False)(features)
    factors = {"ner": 0.5, "triggers": 0.2, "arguments": 1.0}
    ours = torch.stack([factors[head.name] * loss_of(head, batch) for head in heads(model(batch), batch, {})]).sum()
    plain_model = PlainDygie(twin, pad_token_id=0)
    plain = sum(plain_model(features_of_one) for features_of_one in features)
    torch.testing.assert_close(plain, ours, rtol=1e-4, atol=1e-4)
    ours.backward()
    plain.backward()
    expected = {name: parameter.grad for name, parameter in model.named_parameters()}
    for name, parameter in twin.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-3, atol=1e-4)


def as_features(document, labels, words):
    """Every token one word piece, between two special ones."""
    index = {kind: labels.index(kind) for kind in ("ner", "triggers", "roles")}

    def encode(s):
        ids, place = [words[word] for word in s.tokens], np.arange(len(s.tokens))
        events = [(e.trigger, index["triggers"][e.type], e) for e in s.events]
        return EncodedSentence(
            windows=[np.array([2, *ids, 3], dtype=np.int32)],
            row=place * 0,
            column=place + 1,
            token=place,
            length=len(place),
            ner=rows([(a, b, index["ner"][label]) for a, b, label in s.ner], 3),
            relations=rows([], 5),
            triggers=rows([event[:2] for event in events], 2),
            arguments=rows([(t, k, a, b, index["roles"][r]) for t, k, e in events for a, b, r in e.arguments], 5),
        )

    return EncodedDocument(document.id, [encode(s) for s in document.sentences], document.weight, (True,) * 3, 0, "{}")


def rows(values, columns):
    return np.array(values, dtype=np.int64).reshape(-1, columns)


def on_device(*options):
    script = Path(__file__).parent.parent / "benchmarks/gpu_throughput.py"
    return subprocess.run([sys.executable, str(script), *options], capture_output=True, text=True)


@pytest.mark.slow
def test_the_benchmark_for_gpus_runs_on_a_cpu_too():
    options = ["--batch-sizes", "2", "4", "--precisions", "bf16", "--compile", "none", "--steps", "2", "--rounds", "1"]
    run = on_device("--device", "cpu", *options)
    assert run.returncode == 0, run.stderr
    lines = [line.strip("| ").split(" | ") for line in run.stdout.splitlines() if line.startswith("| bf16")]
    assert [line[:3] for line in lines] == [["bf16", "none", "2"], ["bf16", "none", "4"]]
    assert all(float(cell.replace(",", "")) > 0 for line in lines for cell in line[3:7])


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_benchmark_for_gpus_says_that_there_is_none():
    run = on_device()
    assert run.returncode == 2
    assert "there is no GPU here" in run.stderr


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classification", "tagging", "language-modeling"])
@pytest.mark.parametrize("options", [[], ["--bf16", "--device", "cuda"]], ids=["cpu", "gpu"])
def test_the_tasks_train_as_the_trainers_they_are_compared_with(task, options, tmp_path):
    if "cuda" in options and not torch.cuda.is_available():
        options = ["--bf16"]
    pytest.importorskip("trl")
    rows = [(f"w{i % 7} w{i % 5} " * (1 + i % 6)).split() for i in range(40)]
    labels = {"classification": lambda row: {"text": " ".join(row), "label": "even" if len(row) % 4 else "odd"}}
    labels["tagging"] = lambda row: {"tokens": row, "tags": ["B-X" if word == "w1" else "O" for word in row]}
    labels["language-modeling"] = lambda row: {"text": " ".join(row)}
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(labels[task](row)) + "\n" for row in rows), encoding="utf-8")
    model = str(tmp_path / "model")
    if task == "language-modeling":
        language_files.config_of("llama").save_pretrained(model)  # without weights, which are then random
        language_files.tokenizer_of("llama").save_pretrained(model)
    else:
        write_model(model, "bert", [f"w{i}" for i in range(7)], dropout=True)
    script = Path(__file__).parent.parent / "benchmarks/tasks_throughput.py"
    command = [task, "--data", data, "--pretrained", model, "--batch-size", "4", "--max-length", "64"]
    command += ["--steps", "2", "--rounds", "1", *options]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    run = subprocess.run([sys.executable, script, *command], capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    table = [line.split(" | ") for line in run.stdout.splitlines() if line.startswith("| ")][2:]
    assert len(table) == (5 if task == "language-modeling" else 3)
    assert all(float(cells[5]) > 0 for cells in table), "memory ratios"
    shares = [[float(cell.split()[0]) for cell in cells[8:]] for cells in table]
    assert all(share > 0 for row in shares for share in row)
    assert run.stdout.count("losses of 10 steps") == 1 + ("--bf16" in options)

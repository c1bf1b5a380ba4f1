"""Adapters beside weights of four bits, which takes a GPU and ``bitsandbytes``."""

import json

import language_files
import pytest
import torch
from tiny_models import write_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

import gradual
from gradual.runs.checkpoint import read_checkpoint
from gradual.tasks import CausalLM, CausalLMData, TextClassificationData, TextClassifier

if torch.cuda.is_available():
    pytest.importorskip("bitsandbytes")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="weights of four bits need a GPU")

WORDS = ["good", "fine", "bad", "poor", "the", "food", "was", "room"]
LORA = {"r": 4, "alpha": 8, "dropout": 0.0, "load_in_4bit": True}
KINDS = ("classification", "language-modeling")


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def task_and_data(kind, root):
    """A model with an adapter, and eight examples that it can learn by heart."""
    torch.manual_seed(0)
    if kind == "classification":
        folder = write_model(root / "model", "bert", WORDS)
        texts = [f"{WORDS[at % 4]} {WORDS[4 + at % 4]} {WORDS[4 + at // 2]}" for at in range(8)]
        rows = [{"text": text, "label": ("up", "down")[at % 4 // 2]} for at, text in enumerate(texts)]
        model, data_class = TextClassifier(folder, lora=LORA), TextClassificationData
    else:
        folder = str(language_files.write_model(root / "model", "llama"))
        rows = [{"text": text} for text in language_files.TEXTS]
        model, data_class = CausalLM(folder, lora=LORA), CausalLMData
    path = write(root / "rows.jsonl", rows)
    parts = dict.fromkeys(("in_domain", "out_of_domain", "val", "test"), path)
    data = data_class(**parts, tokenizer=str(root / "model"), batch_size=4, cache_dir=str(root / "cache"))
    return model, data


@pytest.fixture(scope="module", params=KINDS)
def run(request, tmp_path_factory):
    """The kind of task, its folder, the trained model, what its frozen weights were, and the run's result."""
    root = tmp_path_factory.mktemp("run")
    model, data = task_and_data(request.param, root)
    data.configure(model)
    model.configure_model()
    frozen = {name: value.detach().cpu().clone() for name, value in model.named_parameters() if not value.requires_grad}
    settings = {"accelerator": "gpu", "devices": 1, "precision": "bf16-mixed", "logger": False, "max_epochs": 20}
    settings |= {"enable_progress_bar": False, "checkpoint_every": 0, "optimizer": {"lr": 0.01}}
    result = gradual.fit(model, data, [5, 0], root / "run", **settings)
    return request.param, root, model, frozen, result


def score_of(result, name):
    return result.stages[-1].test[name]


def test_layers_have_four_bits_and_stay_as_they_are(run):
    from bitsandbytes.nn import Linear4bit, Params4bit

    _, _, model, frozen, _ = run
    assert any(isinstance(layer, Linear4bit) for layer in model.modules())
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (name not in frozen)
        if name in frozen:
            assert torch.equal(parameter.detach().cpu(), frozen[name]), name
        if isinstance(parameter, Params4bit):
            assert parameter.dtype == torch.uint8


def test_it_learns(run):
    kind, _, _, _, result = run
    if kind == "classification":
        assert score_of(result, "accuracy") == 1.0
    else:
        assert score_of(result, "loss") < 2.0, "about 5.7 before training"


def test_checkpoints_hold_what_is_trained_and_are_loaded_again(run):
    _, root, model, frozen, _ = run
    paths = sorted((root / "run").rglob("best.ckpt"))
    assert paths
    for path in paths:
        names = {name for name in read_checkpoint(path)["state_dict"] if "_scores." not in name}
        assert names == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    loaded = type(model).load_from_checkpoint(paths[-1])
    weights = dict(loaded.named_parameters())
    for name, value in frozen.items():
        if ".original_module." not in name:  # of the head, which is not used
            assert torch.equal(weights[name].detach().cpu(), value), name


def test_the_merged_model_is_a_plain_one_in_full_precision(run):
    kind, root, model, _, _ = run
    model.save_pretrained(root / "merged")
    auto = AutoModelForSequenceClassification if kind == "classification" else AutoModelForCausalLM
    plain = auto.from_pretrained(root / "merged")
    assert "quantization_config" not in json.loads((root / "merged/config.json").read_text(encoding="utf-8"))
    assert {parameter.dtype for parameter in plain.parameters()} == {torch.float32}

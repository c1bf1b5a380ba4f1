"""Pretrained heads that know the labels of the data in another order, or other labels, against ``transformers``."""

import language_files
import pair_files
import pytest
import tiny_models
import torch
import transformers
from safetensors.torch import load_file

from gradual.nn.encoder import load_model

SEQUENCE, TOKEN = "AutoModelForSequenceClassification", "AutoModelForTokenClassification"
THEIRS, OURS = ["neutral", "entailment", "contradiction"], ["contradiction", "entailment", "neutral"]
LAST = {
    ("bert", SEQUENCE): "classifier",
    ("roberta", SEQUENCE): "classifier.out_proj",
    ("distilbert", SEQUENCE): "classifier",
    ("modernbert", SEQUENCE): "classifier",
    ("llama", SEQUENCE): "score",
    ("gpt2", SEQUENCE): "score",
    ("t5", SEQUENCE): "classification_head.out_proj",
    ("bart", SEQUENCE): "classification_head.out_proj",
    ("bert", TOKEN): "classifier",
    ("roberta", TOKEN): "classifier",
    ("llama", TOKEN): "score",
    ("t5", TOKEN): "classifier",
}
heads = pytest.mark.parametrize(("family", "auto"), LAST)


def named(labels):
    by_output = dict(enumerate(labels))
    return {
        "num_labels": len(labels),
        "id2label": by_output,
        "label2id": {label: at for at, label in by_output.items()},
    }


def config_of(family):
    if family in ("llama", "gpt2"):
        return language_files.config_of(family)
    if family in ("t5", "bart"):
        return pair_files.model_of(family).config
    return tiny_models.config_of(family, 20)


def write(folder, family, auto, labels=THEIRS):
    """A folder with a random head whose biases are not 0; returns the model in ``transformers``."""
    config = config_of(family)
    config.update(named(labels))
    torch.manual_seed(0)
    made = getattr(transformers, auto).from_config(config)
    bias = made.get_submodule(LAST[family, auto]).bias
    if bias is not None:
        torch.nn.init.normal_(bias)
    made.save_pretrained(folder)
    return made.eval()


@torch.no_grad()
def logits(model):
    ids = torch.tensor([[5, 4, 7, 8, 9, 10, 6], [6, 8, 4, 5, 9, 7, 10]])
    end = getattr(model.config, "eos_token_id", None)
    ids[:, -1] = 2 if end is None else end
    return model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits


@heads
@pytest.mark.parametrize("spelled", [str, str.upper], ids=["same", "upper"])
def test_outputs_of_known_labels_are_put_in_our_order(tmp_path, family, auto, spelled):
    plain = logits(write(tmp_path, family, auto, list(map(spelled, THEIRS))))
    loaded = load_model(str(tmp_path), auto, named(OURS))
    columns = [THEIRS.index(label) for label in OURS]
    torch.testing.assert_close(logits(loaded.model), plain[..., columns])
    assert loaded.model.config.id2label == dict(enumerate(OURS))
    assert (loaded.new, loaded.remarks) == (set(), ())


@heads
def test_the_last_layer_of_a_head_for_other_labels_is_drawn_anew(tmp_path, family, auto):
    write(tmp_path, family, auto)
    last = LAST[family, auto]
    models = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        loaded = load_model(str(tmp_path), auto, named(["food", "room", "staff"]))
        said = (
            f"The pretrained head was trained for other labels ({', '.join(THEIRS)}): {last} is drawn anew, at random."
        )
        assert loaded.remarks == (said,)
        models.append(dict(loaded.model.named_parameters()))
        assert loaded.new == {name for name in models[0] if name.startswith(f"{last}.")}
    saved = load_file(tmp_path / "model.safetensors")
    for name in models[0]:
        if name not in saved:  # tied
            continue
        first, again, other = (model[name] for model in models)
        assert torch.equal(first, again)
        assert torch.equal(first, saved[name]) is (name not in loaded.new), name
        if name == f"{last}.weight":
            assert not torch.equal(first, other)
            assert first.std() > 0.001
        elif name == f"{last}.bias":
            assert not first.any()


@pytest.mark.parametrize(
    ("theirs", "ours", "said"),
    [
        (["LABEL_0", "LABEL_1"], ["neg", "pos"], "LABEL_0 is neg, LABEL_1 is pos"),
        (["negative", "positive"], ["0", "1"], "negative is 0, positive is 1"),
        (["down", "same", "up"], ["-1", "0", "1"], "down is -1, same is 0, up is 1"),
        ([f"{n} star" for n in range(1, 7)], [*"123456"],
         "1 star is 1, 2 star is 2, 3 star is 3, 4 star is 4, 5 star is 5 and 1 more"),
        (["LABEL_0", "LABEL_1"], ["0", "1"], None),
        (["a", "b"], ["a", "b"], None),
        (["A", "b"], ["a", "b"], None),
    ],
)  # fmt: skip
def test_labels_without_names_on_one_side_are_taken_in_order(tmp_path, theirs, ours, said):
    plain = logits(write(tmp_path, "bert", SEQUENCE, theirs))
    loaded = load_model(str(tmp_path), SEQUENCE, named(ours))
    torch.testing.assert_close(logits(loaded.model), plain)
    assert loaded.remarks == (
        (f"The outputs of the pretrained head are taken in their order: {said}.",) if said else ()
    )


def test_labels_that_differ_only_in_case_are_told_apart(tmp_path):
    plain = logits(write(tmp_path, "bert", SEQUENCE, ["b", "B", "a"]))
    loaded = load_model(str(tmp_path), SEQUENCE, named(["B", "a", "b"]))
    torch.testing.assert_close(logits(loaded.model), plain[:, [1, 2, 0]])


def test_a_number_has_no_name(tmp_path):
    plain = logits(write(tmp_path, "bert", SEQUENCE, ["similarity"]))
    loaded = load_model(str(tmp_path), SEQUENCE, named(["score"]))
    torch.testing.assert_close(logits(loaded.model), plain)


@pytest.mark.parametrize("family", ["bert", "roberta", "llama"])
def test_another_number_of_labels_is_a_new_last_layer(tmp_path, family):
    write(tmp_path, family, SEQUENCE)
    last = LAST[family, SEQUENCE]
    assert load_model(str(tmp_path), SEQUENCE, named(["a", "b"])).remarks == (f"New layers, drawn at random: {last}.",)


def test_names_of_labels_without_a_head_change_nothing(tmp_path):
    """The configuration of an encoder may have labels; what is drawn is what ``transformers`` draws."""
    config = config_of("bert")
    config.update(named(THEIRS))
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path)
    heads = []
    for labels in (OURS, THEIRS, ["food", "room", "staff"]):
        torch.manual_seed(1)
        loaded = load_model(str(tmp_path), SEQUENCE, named(labels))
        assert loaded.remarks == ("New layers, drawn at random: classifier.",)
        heads.append((loaded.model.classifier.weight, torch.rand(1)))
    torch.manual_seed(1)
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=3)
    heads.append((plain.classifier.weight, torch.rand(1)))
    assert all(torch.equal(weight, heads[0][0]) and after == heads[0][1] for weight, after in heads[1:])

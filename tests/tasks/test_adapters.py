"""LoRA adapters beside models of transformers: what is trained, merged, restored and written."""

import copy

import pytest
import torch
from peft import PeftModel
from slow_cases import fast_one_in
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from gradual import InputError
from gradual.tasks.adapters import Adapter, LoRA

TEXT = torch.arange(12).reshape(2, 6) % 9 + 1
_TINY = {"vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
MODELS = {
    "bert": lambda: BertModel(BertConfig(**_TINY), add_pooling_layer=False),  # so that the classifier's is random
    "distilbert": lambda: DistilBertModel(
        DistilBertConfig(vocab_size=32, dim=16, n_layers=2, n_heads=2, hidden_dim=24)
    ),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**_TINY)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=32, n_embd=16, n_layer=2, n_head=2)),
}
CLASSIFIERS, LANGUAGE_MODELS = ("bert", "distilbert"), ("llama", "gpt2")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of each architecture, with random weights."""
    root = tmp_path_factory.mktemp("pretrained")
    torch.manual_seed(0)
    for name, make in MODELS.items():
        make().save_pretrained(root / name)
    return root


def plain(folder):
    """The pretrained model, and the names of what it lacks."""
    cls = AutoModelForSequenceClassification if folder.name in CLASSIFIERS else AutoModelForCausalLM
    labels = {"num_labels": 3} if folder.name in CLASSIFIERS else {}
    config = AutoConfig.from_pretrained(folder, **labels)
    model, info = cls.from_pretrained(folder, config=config, output_loading_info=True)
    return model, info["missing_keys"]


def adapter_for(folder, **settings):
    """An adapter, and its model in evaluation mode."""
    kind = "SequenceClassification" if folder.name in CLASSIFIERS else "CausalLM"
    torch.manual_seed(1)
    adapter = Adapter(LoRA(**{"r": 2, "alpha": 4, **settings}), lambda: plain(folder), f"AutoModelFor{kind}")
    return adapter, adapter.load().eval()


def train(model, seed=0):
    """Changes everything that is trained, as training does."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


@torch.no_grad()
def logits(model):
    return model.eval()(input_ids=TEXT, attention_mask=torch.ones_like(TEXT)).logits


def trained(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def outside_of_layers(names):
    return {name for name in names if ".lora_" not in name}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_trains_the_adapter_and_all_that_is_not_pretrained(folders, name):
    adapter, model = adapter_for(folders / name)
    others = {name.replace(".modules_to_save.default", "") for name in outside_of_layers(trained(model))}
    expected = {
        "bert": {"classifier.weight", "classifier.bias", "bert.pooler.dense.weight", "bert.pooler.dense.bias"},
        "distilbert": {"classifier.weight", "classifier.bias", "pre_classifier.weight", "pre_classifier.bias"},
    }
    assert others == expected[name]
    assert len(trained(model)) - len(others) == 2 * 2 * 6  # A and B of six layers in each of two blocks
    assert set(adapter.frozen()) == {name for name, _ in model.named_parameters()} - trained(model)


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_a_language_model_trains_the_adapter_alone(folders, name):
    adapter, model = adapter_for(folders / name)
    assert not outside_of_layers(trained(model))
    assert "lm_head.weight" in adapter.frozen()
    torch.testing.assert_close(logits(model), logits(plain(folders / name)[0]))


@pytest.mark.parametrize("use_dora", [False, True])
@pytest.mark.parametrize("name", fast_one_in(2, MODELS))
def test_merging_changes_no_output_and_begins_anew_in_place(folders, name, use_dora):
    adapter, model = adapter_for(folders / name, use_dora=use_dora)
    before = logits(train(model))
    assert not torch.allclose(before, logits(adapter_for(folders / name, use_dora=use_dora)[1]), atol=1e-3)
    parameters, state = list(model.parameters()), torch.get_rng_state()
    adapter.merge(5)
    torch.testing.assert_close(logits(model), before, atol=1e-5, rtol=1e-5)
    assert all(old is new for old, new in zip(parameters, model.parameters(), strict=True))
    assert torch.equal(state, torch.get_rng_state())
    drawn = {name: value for name, value in model.named_parameters() if ".lora_" in name}
    assert not any(value.any() for name, value in drawn.items() if "lora_B" in name)
    other, again = (adapter_for(folders / name, use_dora=use_dora) for _ in range(2))
    for (each, its_model), seed in ((other, 6), (again, 5)):
        train(its_model)
        each.merge(seed)
    first = next(name for name in drawn if "lora_A" in name)
    assert torch.equal(dict(again[1].named_parameters())[first], drawn[first])
    assert not torch.equal(dict(other[1].named_parameters())[first], drawn[first])


@pytest.mark.parametrize("use_dora", [False, True])
def test_a_model_made_anew_becomes_the_same_to_the_bit(folders, use_dora):
    adapter, model = adapter_for(folders / "bert", use_dora=use_dora)
    for seed in range(2):
        train(model, seed)
        adapter.merge(seed)
    train(model, 2)
    frozen = set(adapter.frozen())
    trained_weights = {name: value for name, value in model.state_dict().items() if name not in frozen}
    again, anew = adapter_for(folders / "bert", use_dora=use_dora)
    again.restore(copy.deepcopy(adapter.earlier))
    anew.load_state_dict(trained_weights, strict=False)
    assert torch.equal(logits(anew), logits(model))
    again.restore([])
    pristine = dict(adapter_for(folders / "bert", use_dora=use_dora)[1].named_parameters())
    assert all(torch.equal(dict(anew.named_parameters())[name], pristine[name]) for name in frozen)


@pytest.mark.parametrize("merged", [0, 2])
@pytest.mark.parametrize("name", fast_one_in(2, MODELS))
def test_the_merged_model_and_the_adapter_folder_give_the_same_outputs(folders, name, merged, tmp_path):
    adapter, model = adapter_for(folders / name)
    train(model)
    for seed in range(merged):
        adapter.merge(seed)
        train(model, seed + 1)
    expected = logits(model)
    adapter.merged().save_pretrained(tmp_path / "merged")
    whole = type(model).from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(whole), expected, atol=1e-5, rtol=1e-5)
    adapter.save(tmp_path / "adapter")
    beside = PeftModel.from_pretrained(plain(folders / name)[0], tmp_path / "adapter")
    torch.testing.assert_close(logits(beside), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(logits(model), expected), "writing changes nothing"


def test_adapters_with_dora_are_no_single_adapter(folders, tmp_path):
    adapter, model = adapter_for(folders / "llama", use_dora=True)
    expected = logits(train(model))
    adapter.save(tmp_path)
    beside = PeftModel.from_pretrained(plain(folders / "llama")[0], tmp_path)
    torch.testing.assert_close(logits(beside), expected, atol=1e-5, rtol=1e-5)
    adapter.merge(0)
    torch.testing.assert_close(logits(adapter.merged()), expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(InputError, match="export the merged model"):
        adapter.save(tmp_path)


def test_other_layers_may_be_chosen(folders):
    _, model = adapter_for(folders / "llama", target_modules=["q_proj"])
    assert {name.rpartition(".lora_")[0].rpartition(".")[2] for name in trained(model)} == {"q_proj"}
    with pytest.raises(InputError, match=r"lora\.target_modules is \['query'\], which does not suit LlamaForCausalLM"):
        adapter_for(folders / "llama", target_modules=["query"])


def test_an_adapter_of_embeddings_is_merged_and_written_as_others(folders, tmp_path):
    adapter, model = adapter_for(folders / "llama", target_modules=["embed_tokens", "v_proj"])
    before = logits(train(model))
    adapter.merge(0)
    torch.testing.assert_close(logits(model), before, atol=1e-5, rtol=1e-5)
    expected = logits(train(model, 1))
    adapter.save(tmp_path)
    beside = PeftModel.from_pretrained(plain(folders / "llama")[0], tmp_path)
    torch.testing.assert_close(logits(beside), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("targets", [["v_proj", "lm_head"], ["embed_tokens", "v_proj"], r".*\.(v_proj|embed_tokens)"])
def test_layers_that_share_their_weights_are_refused(targets, tmp_path):
    """Merging the adapter of one would change the other, which has none."""
    tied = tmp_path / "tied"
    LlamaForCausalLM(LlamaConfig(**_TINY, tie_word_embeddings=True)).save_pretrained(tied)
    with pytest.raises(
        InputError, match=r"(lm_head|model\.embed_tokens) shares its weights with (?!\1)\w.*: leave \1 out"
    ):
        adapter_for(tied, target_modules=targets)
    adapter, model = adapter_for(tied)
    expected = logits(train(model))
    torch.testing.assert_close(logits(adapter.merged()), expected, atol=1e-5, rtol=1e-5)


def test_an_output_layer_of_its_own_may_be_chosen(folders):
    adapter, model = adapter_for(folders / "llama", target_modules=["v_proj", "lm_head"])
    expected = logits(train(model))
    torch.testing.assert_close(logits(adapter.merged()), expected, atol=1e-5, rtol=1e-5)
    adapter.merge(0)
    torch.testing.assert_close(logits(model), expected, atol=1e-5, rtol=1e-5)


def test_settings_are_made_from_a_mapping():
    assert LoRA.of(None) is None
    assert LoRA.of({"r": 8, "alpha": "1e1"}) == LoRA(r=8, alpha=10.0)
    assert LoRA.of(LoRA(dropout=0.0).to_plain()) == LoRA(dropout=0.0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rank": 8}, "lora has no setting 'rank'"),
        ({"r": 0}, r"lora\.r is 0: it must be an integer of at least 1"),
        ({"dropout": 1.0}, r"lora\.dropout is 1\.0: it must be a number from 0 to below 1"),
        (16, "lora is 16: it must be a mapping of settings"),
        ({"load_in_4bit": True}, r"lora\.load_in_4bit needs a CUDA GPU, and there is none"),
    ],
)
def test_wrong_settings_are_said(given, message, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=message):
        LoRA.of(given)


def test_a_missing_package_is_said(monkeypatch):
    monkeypatch.setattr("gradual.tasks.adapters.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"lora needs the package peft: pip install 'gradual\[lora\]'"):
        LoRA.of({})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for missing in ("bitsandbytes", "accelerate"):
        there = {"peft", "bitsandbytes", "accelerate"} - {missing}
        monkeypatch.setattr(
            "gradual.tasks.adapters.find_spec", lambda name, there=there: True if name in there else None
        )
        with pytest.raises(InputError, match=rf"load_in_4bit needs the package {missing}: pip install {missing}"):
            LoRA.of({"load_in_4bit": True})


def test_weights_of_four_bits_are_not_merged_into():
    adapter = Adapter(LoRA(load_in_4bit=True), lambda: None, "AutoModelForCausalLM")
    with pytest.raises(InputError, match="use adapter: continue"):
        adapter.check_merge()

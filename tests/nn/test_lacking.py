"""Pretrained folders that lack weights of their model, or have them in another shape."""

import json

import pytest
import torch
import transformers.dynamic_module_utils
from language_files import model_of
from safetensors.torch import load_file, save_file
from tiny_models import QUIET, SIZES, config_of
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    BertConfig,
    PegasusConfig,
    PegasusForConditionalGeneration,
    T5Config,
    T5EncoderModel,
    T5ForConditionalGeneration,
)

from gradual import InputError
from gradual.nn.encoder import load_encoder, load_model

CAUSAL, CLASSES = "AutoModelForCausalLM", "AutoModelForSequenceClassification"
SEQ2SEQ = "AutoModelForSeq2SeqLM"
T5 = {"d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 2, "num_heads": 2, "vocab_size": 50}
PEGASUS = {"d_model": 32, "vocab_size": 50, "encoder_layers": 1, "decoder_layers": 1, "max_position_embeddings": 40}
PEGASUS |= {
    f"{side}_{size}": n for side in ("encoder", "decoder") for size, n in (("ffn_dim", 48), ("attention_heads", 2))
}


def rewrite(folder, change):
    """Change the weights of a folder, by name."""
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, {"format": "pt"})


def prefixed(prefix):
    return lambda weights: {prefix + name: tensor for name, tensor in weights.items()}


def without(*parts):
    return lambda weights: {name: each for name, each in weights.items() if not any(part in name for part in parts)}


def configure(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def weights_named(folder, wanted):
    return next(tensor for name, tensor in load_file(folder / "model.safetensors").items() if name.endswith(wanted))


def save(folder, kind="bert", auto=AutoModel):
    torch.manual_seed(0)
    auto.from_config(config_of(kind, 50)).save_pretrained(folder)
    return folder


# ------------------------------------------------------------------------------------------------------------ refused


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("kind", ["encoder", CAUSAL, CLASSES])
def test_weights_saved_from_a_wrapper_are_refused_with_what_to_remove(tmp_path, kind, prefix):
    if kind == CAUSAL:
        model_of("llama").save_pretrained(tmp_path)
        count, example, cls = 21, "lm_head.weight", "LlamaForCausalLM"
    else:
        save(tmp_path)
        count = sum("pooler" not in name for name in load_file(tmp_path / "model.safetensors"))
        base, cls = {"encoder": ("", "BertModel"), CLASSES: ("bert.", "BertForSequenceClassification")}[kind]
        example = f"{base}embeddings.LayerNorm.bias"
    rewrite(tmp_path, prefixed(prefix))
    said = (
        rf"^'{tmp_path}' lacks {count} of the {count} weights that {cls} needs, such as {example}; its names begin "
        rf"with '{prefix}', which must be removed\.$"
    )
    with pytest.raises(InputError, match=said):
        load_encoder(str(tmp_path)) if kind == "encoder" else load_model(str(tmp_path), kind, {})
    rewrite(tmp_path, lambda weights: {name.removeprefix(prefix): tensor for name, tensor in weights.items()})
    load_encoder(str(tmp_path)) if kind == "encoder" else load_model(str(tmp_path), kind, {})


def test_weights_of_some_layers_are_not_enough(tmp_path):
    save(tmp_path)
    configure(tmp_path, num_hidden_layers=3)
    for load in (load_encoder, lambda name: load_model(name, CLASSES, {})):
        with pytest.raises(
            InputError, match=r"lacks 16 of the 53 weights that \w+ needs, such as \S*encoder\.layer\.2\.\S+\.$"
        ):
            load(str(tmp_path))


@pytest.mark.parametrize("kind", ["encoder", CAUSAL])
def test_weights_in_another_shape_than_the_configuration_says_are_refused(tmp_path, kind):
    model_of("llama").save_pretrained(tmp_path)
    configure(tmp_path, vocab_size=320)
    said = (
        r"has [12] of the 2[01] weights that \w+ needs in another shape than its config\.json says: \S+ is 300 x 32, "
        r"not 320 x 32\.$"
    )
    with pytest.raises(InputError, match=said):
        load_encoder(str(tmp_path)) if kind == "encoder" else load_model(str(tmp_path), kind, {})


def test_models_that_generate_texts_have_no_new_layers(tmp_path):
    AutoModel.from_config(model_of("llama").config).save_pretrained(tmp_path / "base")
    with pytest.raises(
        InputError, match=r"lacks 1 of the 21 weights that LlamaForCausalLM needs, such as lm_head\.weight\.$"
    ):
        load_model(str(tmp_path / "base"), CAUSAL, {})
    T5EncoderModel(T5Config(**T5)).save_pretrained(tmp_path / "t5")
    with pytest.raises(InputError, match=r"weights that T5ForConditionalGeneration needs, such as decoder\.\S+\.$"):
        load_model(str(tmp_path / "t5"), SEQ2SEQ, {})


# ----------------------------------------------------------------------------------------------------------- accepted


@pytest.mark.parametrize("auto", [AutoModel, AutoModelForMaskedLM], ids=["base", "masked"])
@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "electra", "modernbert"])
def test_a_classifier_has_a_new_head_and_what_its_pooler_lacks(tmp_path, kind, auto):
    """A masked language model also has a head that the classifier lacks, and no pooler."""
    save(tmp_path, kind, auto)
    loaded = load_model(str(tmp_path), CLASSES, {})
    known = load_file(tmp_path / "model.safetensors")
    pooler = "bert.pooler" if kind == "bert" and auto is AutoModelForMaskedLM else None
    heads = {"distilbert": ["classifier", "pre_classifier"], "modernbert": ["classifier", "head"]}
    layers = heads.get(kind, ["classifier"])
    if kind == "modernbert" and auto is AutoModelForMaskedLM:
        layers = ["classifier"]  # its prediction head is the classifier's
    layers = sorted([*layers, *([pooler] if pooler else [])])
    assert loaded.remarks == (f"New layers, drawn at random: {', '.join(layers)}.",)
    assert all(any(name.startswith(f"{layer}.") for layer in layers) for name in loaded.new)
    base = f"{loaded.model.base_model_prefix}."
    for name, parameter in loaded.model.named_parameters():
        file = known.get(name, known.get(name.removeprefix(base)))
        assert (name in loaded.new) == (file is None)
        assert file is None or torch.equal(parameter, file)


def test_an_encoder_needs_no_pooler(tmp_path):
    save(tmp_path)
    rewrite(tmp_path, without("pooler"))
    assert torch.equal(
        load_encoder(str(tmp_path)).embeddings.word_embeddings.weight,
        weights_named(tmp_path, "word_embeddings.weight"),
    )


def test_an_encoder_with_fewer_layers_leaves_the_others_in_the_file(tmp_path):
    save(tmp_path)
    assert len(load_encoder(str(tmp_path), layers=1).encoder.layer) == 1


def test_old_names_and_buffers_are_no_loss(tmp_path):
    """BERT's first weights have ``gamma`` and ``beta``; earlier versions also saved the numbers of positions."""
    save(tmp_path)
    norm = weights_named(tmp_path, "embeddings.LayerNorm.weight") + 1

    def old(weights):
        weights["embeddings.LayerNorm.weight"] = norm
        weights = {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
            for name, tensor in weights.items()
        }
        return {f"bert.{name}": tensor for name, tensor in weights.items()} | {
            "bert.embeddings.position_ids": torch.arange(66)[None]
        }

    rewrite(tmp_path, old)
    assert torch.equal(load_encoder(str(tmp_path)).embeddings.LayerNorm.weight, norm)
    assert torch.equal(load_model(str(tmp_path), CLASSES, {}).model.bert.embeddings.LayerNorm.weight, norm)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_tied_weights_are_saved_once(tmp_path, family):
    model = model_of(family, tie_word_embeddings=True)
    model.save_pretrained(tmp_path)
    assert not any("lm_head" in name for name in load_file(tmp_path / "model.safetensors"))
    loaded = load_model(str(tmp_path), CAUSAL, {})
    assert loaded.model.lm_head.weight is loaded.model.get_input_embeddings().weight
    assert (loaded.new, loaded.remarks) == (set(), ())


def test_a_decoder_under_another_head_lacks_nothing_but_the_head(tmp_path):
    model_of("llama").save_pretrained(tmp_path)
    assert load_model(str(tmp_path), CLASSES, {}).remarks == ("New layers, drawn at random: score.",)


def test_an_encoder_with_decoder_is_whole(tmp_path):
    T5ForConditionalGeneration(T5Config(**T5)).save_pretrained(tmp_path)
    assert load_model(str(tmp_path), SEQ2SEQ, {}).new == set()
    assert load_model(str(tmp_path), CLASSES, {}).remarks == ("New layers, drawn at random: classification_head.",)
    assert load_model(str(tmp_path), "AutoModelForTokenClassification", {}).remarks == (
        "New layers, drawn at random: classifier.",
    )


def test_tables_of_sines_are_computed(tmp_path):
    """As in Pegasus's weights on the hub."""
    model = PegasusForConditionalGeneration(PegasusConfig(**PEGASUS))
    model.save_pretrained(tmp_path)
    rewrite(tmp_path, without("embed_positions"))
    loaded = load_model(str(tmp_path), SEQ2SEQ, {})
    assert loaded.new == set()
    for mine, saved in zip(loaded.model.parameters(), model.parameters(), strict=True):
        assert torch.equal(mine, saved)


OWN = """
from torch import nn
from transformers import BertModel, PreTrainedModel, BertConfig
from transformers.modeling_outputs import SequenceClassifierOutput

class OwnConfig(BertConfig):
    model_type = "own"

class OwnClassifier(PreTrainedModel):
    config_class = OwnConfig
    base_model_prefix = "model"

    def __init__(self, config):
        super().__init__(config)
        self.encoder = BertModel(config)
        self.out = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()
"""


def test_code_that_does_not_say_which_part_is_pretrained_lacks_its_head_at_most(tmp_path, monkeypatch):
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    (tmp_path / "own.py").write_text(OWN)
    torch.manual_seed(0)
    encoder = AutoModel.from_config(BertConfig(vocab_size=50, **SIZES, **QUIET))
    encoder.save_pretrained(tmp_path)
    rewrite(tmp_path, prefixed("encoder."))
    configure(tmp_path, model_type="own", auto_map={"AutoConfig": "own.OwnConfig", CLASSES: "own.OwnClassifier"})
    loaded = load_model(str(tmp_path), CLASSES, {}, trust_remote_code=True)
    assert loaded.remarks == ("New layers, drawn at random: out.",)
    assert torch.equal(
        loaded.model.encoder.embeddings.word_embeddings.weight, encoder.embeddings.word_embeddings.weight
    )
    rewrite(tmp_path, prefixed("module."))
    with pytest.raises(InputError, match=r"its names begin with 'module\.', which must be removed"):
        load_model(str(tmp_path), CLASSES, {}, trust_remote_code=True)

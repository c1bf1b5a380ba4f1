"""The pretrained encoder of a tracker: its layers and heads, and folders that cannot be loaded."""

import shutil

import pytest
import torch
from transformers import AutoModel
from transformers.utils import logging as transformers_logging

from gradual.errors import InputError
from gradual.nn.encoder import load_encoder, load_tokenizer
from gradual.tasks.dialogue import DialogueStateTracker


def test_the_encoder_keeps_its_first_layers(demo, datamodule):
    whole = AutoModel.from_pretrained(demo / "encoder").eval()
    cut = DialogueStateTracker(str(demo / "encoder"), encoder_layers=1).model.encoder.eval()
    assert cut.config.num_hidden_layers == 1
    ids = next(iter(datamodule.val_dataloader())).groups[0].input_ids[:2]
    with torch.no_grad():
        after_first = whole(ids, output_hidden_states=True).hidden_states[1]
        torch.testing.assert_close(cut(ids).last_hidden_state, after_first)
    assert len(DialogueStateTracker(str(demo / "encoder")).model.encoder.encoder.layer) == 2


@pytest.mark.parametrize("layers", [0, -1, 3])
def test_a_wrong_number_of_layers_is_an_input_error(demo, layers):
    with pytest.raises(InputError, match=rf"encoder_layers is {layers}: it must be from 1 to 2, the layers of .*\.$"):
        DialogueStateTracker(str(demo / "encoder"), encoder_layers=layers)


@pytest.mark.parametrize("heads", [0, -1, 3, 128])
def test_a_wrong_number_of_heads_is_an_input_error(demo, heads):
    with pytest.raises(InputError, match=rf"heads is {heads}: it must divide the encoder's width, 64\.$"):
        DialogueStateTracker(str(demo / "encoder"), heads=heads)


def damage_weights(folder):
    (folder / "model.safetensors").write_bytes(b"cut sho")


def damage_config(folder):
    (folder / "config.json").write_text("{")


def drop_weights(folder):
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize("damage", [shutil.rmtree, damage_weights, damage_config, drop_weights])
def test_a_missing_or_damaged_encoder_is_an_input_error(demo, tmp_path, damage):
    folder = tmp_path / "encoder"
    shutil.copytree(demo / "encoder", folder)
    damage(folder)
    with pytest.raises(InputError, match="cannot be loaded as an encoder") as caught:
        DialogueStateTracker(str(folder))
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def drop_tokenizer(folder):
    for file in folder.glob("tokenizer*"):
        file.unlink()


def damage_tokenizer(folder):
    (folder / "tokenizer.json").write_text("{}")


@pytest.mark.parametrize("damage", [shutil.rmtree, drop_tokenizer, damage_tokenizer])
def test_a_missing_or_damaged_tokenizer_is_an_input_error(demo, tmp_path, damage):
    """A folder of weights alone would otherwise read every word as unknown."""
    folder = tmp_path / "encoder"
    shutil.copytree(demo / "encoder", folder)
    damage(folder)
    with pytest.raises(InputError) as caught:
        load_tokenizer(str(folder))
    assert str(folder) in str(caught.value)


def test_loading_leaves_the_librarys_logging_as_it_was(demo):
    before = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    load_encoder(str(demo / "encoder"))
    assert (transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()) == before

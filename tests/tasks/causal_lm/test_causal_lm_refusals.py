"""Language models, tokenizers and rows that do not fit together are refused or remarked on before training."""

import pytest
from causal_lm_models import data
from language_files import CHAT, tokenizer_of, write_model
from tiny_models import write_model as write_encoder

from gradual.errors import InputError
from gradual.tasks import CausalLM


def test_an_encoder_is_refused(tmp_path, folder):
    write_encoder(tmp_path / "bert", "bert", ["one", "two"])
    model = CausalLM(str(tmp_path / "bert"))
    datamodule = data(folder, "text", tokenizer=str(tmp_path / "bert"))
    datamodule.configure(model)
    with pytest.raises(InputError, match=r"bert' is a model of the type bert, which sees the tokens .* take a decoder"):
        model.configure_model()


def test_conversations_need_a_chat_template(folder, tmp_path):
    tokenizer_of("llama", chat=None).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="has no chat template"):
        data(folder, "messages", tokenizer=str(tmp_path)).setup()


def test_a_template_without_a_token_for_the_end_of_a_turn_is_remarked_on(folder, tmp_path, caplog):
    for name, chat in (("ends", CHAT), ("goes on", CHAT.replace("<|stop|>", ""))):
        tokenizer_of("llama", chat).save_pretrained(tmp_path / name)
        with caplog.at_level("INFO", "gradual"):
            data(folder, "messages", tokenizer=str(tmp_path / name)).setup()
        assert ("ends the assistant's turns with no special token" in caplog.text) is (name == "goes on")


def test_a_tokenizer_of_another_model_is_refused(folder, tmp_path):
    write_model(tmp_path, "llama", vocab_size=299)
    datamodule = data(folder)
    datamodule.setup()
    model = CausalLM(str(tmp_path))
    datamodule.configure(model)
    with pytest.raises(InputError, match="has 300 tokens, but the model knows 299"):
        model.configure_model()


def test_what_is_cut_and_what_has_no_loss_is_logged(folder, caplog):
    with caplog.at_level("INFO", "gradual"):
        data(folder, max_length=8).setup()  # the last prompt has nine
    assert "1 of 5 examples of in_domain have more than 8 tokens and lose their end." in caplog.text
    assert "1 of 5 examples of test have no token with a loss." in caplog.text

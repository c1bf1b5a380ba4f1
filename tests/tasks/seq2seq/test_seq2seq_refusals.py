"""Models, tokenizers and settings of sequence-to-sequence tasks that do not fit together are refused."""

import pytest
from pair_files import write_model, write_parts
from seq2seq_models import configured

from gradual.errors import InputError
from gradual.tasks import Seq2Seq


def test_more_tokens_than_a_model_takes_are_refused(folder):
    model, datamodule = configured(folder, "bart", generate={"max_new_tokens": 33})
    with pytest.raises(InputError, match="max_new_tokens is 33: it must be at most 32"):
        model.texts(next(iter(datamodule.test_dataloader())))


def test_a_tokenizer_of_another_model_is_refused(folder, tmp_path):
    write_model(tmp_path / "small", "t5", vocab_size=9)
    write_parts(tmp_path)
    with pytest.raises(InputError, match="has 18 tokens, but the model knows 9"):
        configured(tmp_path, "small", {"tokenizer": str(folder / "t5")})


def test_a_score_whose_package_is_missing_says_so(folder, monkeypatch):
    monkeypatch.setattr("gradual.tasks.seq2seq.task.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"The score chrf needs the package sacrebleu: pip install 'gradual\[text\]'"):
        Seq2Seq(str(folder / "t5"), scores=["exact_match", "chrf"])

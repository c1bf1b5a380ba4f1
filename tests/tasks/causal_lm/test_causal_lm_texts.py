"""The texts that language models generate, what they are compared with, and what is said about their settings."""

import math

import pytest
import torch
from causal_lm_models import ROWS, configured, numbered, records_of
from language_files import model_of, tokenizer_of, write_rows
from quiet_trainer import quiet_trainer
from transformers import pipeline

from gradual.errors import InputError
from gradual.logging import saying_anew
from gradual.tasks import CausalLM

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # Lightning's advice


def test_conversations_without_an_answer_have_no_score_of_texts_and_change_none(folder, tmp_path):
    question = {"role": "user", "content": "one plus two"}
    answered = [question, {"role": "assistant", "content": "three"}]
    talks = [answered, [*answered, question], answered]
    rows = [{"id": f"talk{number}", "messages": talk} for number, talk in enumerate(talks)]
    file = write_rows(tmp_path / "test.jsonl", rows)
    found = []
    for size in (1, 3):
        settings = {"test": str(file), "batch_size": size}
        model, datamodule = configured(folder, "messages", generate={"max_new_tokens": 5}, settings=settings)
        found.append(records_of(model, datamodule))
    texts = {"exact_match", "rouge1", "rouge2", "rougeL"}
    assert [record.keys() & texts for record in found[0]] == [texts, set(), texts]
    for one, other in zip(*found):
        assert one == {**other, "loss": [pytest.approx(other["loss"][0], rel=1e-5), other["loss"][1]]}


def test_test_records_add_up_to_the_scores(folder):
    model, datamodule = configured(folder, generate={"max_new_tokens": 5}, settings={"batch_size": 2})
    model.log = CausalLM.log.__get__(model)
    (scores,) = quiet_trainer(inference_mode=False).test(model, datamodule, verbose=False)
    records = records_of(model, datamodule)
    assert [record["id"] for record in records] == [f"test{number}" for number in range(len(ROWS["completion"]))]
    assert set(scores) == {f"test/{name}" for name in (*records[0], "perplexity") if name != "id"}
    for name in ("loss", "exact_match", "rouge1", "rouge2", "rougeL"):
        pairs = [record[name] for record in records]
        assert scores[f"test/{name}"] == pytest.approx(sum(a for a, _ in pairs) / sum(b for _, b in pairs))
    assert scores["test/perplexity"] == pytest.approx(math.exp(scores["test/loss"]))


@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom"])
def test_generated_texts_are_those_of_transformers_one_by_one(folder, family):
    model, datamodule = configured(folder, family=family, generate={"max_new_tokens": 6})
    model.log = CausalLM.log.__get__(model)
    (records,) = quiet_trainer().predict(model, datamodule)
    generate = pipeline("text-generation", str(folder / family), device="cpu")
    for record, row in zip(records, ROWS["completion"], strict=True):
        expected = generate(row["prompt"], max_new_tokens=6, do_sample=False, return_full_text=False)
        assert record["text"] == expected[0]["generated_text"]
    assert [record["id"] for record in records] == [f"test{number}" for number in range(len(records))]


@pytest.mark.parametrize("form", ["text", "completion", "messages"])
def test_what_has_no_answer_yet_is_predicted(folder, tmp_path, form):
    rows = {
        "text": [{"text": "one plus"}, {"text": "you"}],
        "completion": [{"prompt": "one plus"}, {"prompt": ""}],
        "messages": [{"messages": ROWS["messages"][0]["messages"][:1]}],
    }[form]
    file = write_rows(tmp_path / "new.jsonl", rows)
    model, datamodule = configured(folder, form, generate={"max_new_tokens": 3}, settings={"predict": str(file)})
    (records,) = quiet_trainer().predict(model, datamodule)
    assert [record["id"] for record in records] == [str(number) for number in range(len(rows))]
    generate = pipeline("text-generation", str(folder / "llama"), device="cpu")
    for record, row in zip(records, rows, strict=True):
        prompt = row.get("messages") or row.get("text") or row["prompt"]
        if prompt:  # the pipeline takes no empty prompt
            made = generate(prompt, max_new_tokens=3, do_sample=False, return_full_text=False)
            assert record["text"] == made[0]["generated_text"]
        else:
            assert record["text"]


def test_special_tokens_of_targets_stay_in_texts(folder, tmp_path):
    said = ["two", " two <|start|> three"]
    ids = torch.tensor([[2, *tokenizer_of("llama")(f"{said[1]} , 's", add_special_tokens=False)["input_ids"], 1, 3]])
    texts = []
    for completion in said:
        file = write_rows(tmp_path / "new.jsonl", [{"prompt": "one", "completion": completion}])
        model, _ = configured(folder, settings=dict.fromkeys(("in_domain", "val"), str(file)))
        texts += model.decoded(ids)
    assert texts == [" two  three , 's", "<|start|> two <|start|> three , 's"]


@pytest.mark.parametrize(
    ("own", "generate", "found"),
    [
        ({"repetition_penalty": 1.3, "num_beams": 1}, {}, "{repetition_penalty: 1.3}"),
        ({"repetition_penalty": 1.3, "num_beams": 3}, {"repetition_penalty": 1.0}, "{num_beams: 3}"),
        ({"repetition_penalty": 1.3}, None, None),
        ({"min_length": 99}, {}, "{min_length: 99}"),  # which counts the prompt
    ],
)
def test_what_a_pretrained_model_sets_for_generation_is_said_once(folder, tmp_path, caplog, own, generate, found):
    pretrained = with_generation(tmp_path, own)
    with caplog.at_level("INFO", "gradual"), saying_anew():
        made, datamodule = configured(folder, generate=generate, pretrained=pretrained)
        said = f"Texts are generated with what the pretrained model sets: {found}; generate overrides it."
        assert (said in caplog.text) is (found is not None)
        made.log = CausalLM.log.__get__(made)
        quiet_trainer().predict(made, datamodule)
    assert caplog.text.count("Texts are generated with") == 1


@pytest.mark.parametrize(
    ("own", "generate", "problem"),
    [
        (
            {"min_new_tokens": 65},
            {},
            r"generates at least 65 tokens \(min_new_tokens\), but texts may have at most 64 ",
        ),
        ({}, {"min_new_tokens": 9, "max_new_tokens": 8}, "generate.min_new_tokens is 9: it must be at most 8, the "),
    ],
)
def test_texts_that_must_be_longer_than_they_may_be_are_refused(folder, tmp_path, own, generate, problem):
    with pytest.raises(InputError, match=problem):
        configured(folder, generate=generate, pretrained=with_generation(tmp_path, own))


def with_generation(folder, settings):
    """A folder with a tiny model that has these settings of generation."""
    model = model_of("llama", max_position_embeddings=128)
    model.generation_config.update(**settings)
    model.save_pretrained(folder / "llama")
    return str(folder / "llama")


def test_texts_without_prompts_are_not_compared(folder):
    model, datamodule = configured(folder, "text", generate={"max_new_tokens": 3})
    model.log = CausalLM.log.__get__(model)
    (scores,) = quiet_trainer().test(model, datamodule, verbose=False)
    assert set(scores) == {"test/loss", "test/perplexity"}


def test_a_model_reads_as_much_of_a_prompt_as_fits(folder, tmp_path):
    row = {"prompt": "two plus " * 40 + "one plus one is", "completion": " two"}
    file = write_rows(tmp_path / "long.jsonl", numbered([row, ROWS["completion"][0]], "test"))
    model, datamodule = configured(folder, family="gpt2", generate={"max_new_tokens": 6}, settings={"test": str(file)})
    (batch,) = datamodule.test_dataloader()
    assert batch.prompts.ids.shape[1] > 64
    first, second = model.eval()._texts(batch.prompts)
    tokenizer = tokenizer_of("gpt2")
    end = torch.tensor([tokenizer(row["prompt"])["input_ids"][-58:]])
    expected = model_of("gpt2").generate(end, max_new_tokens=6, do_sample=False, eos_token_id=1, pad_token_id=3)
    assert first == tokenizer.decode(expected[0, 58:], skip_special_tokens=True)
    assert second == model._texts(datamodule.collate_fn([datamodule.domains.test[1]]).prompts)[0]
    model.generate = {"max_new_tokens": 64}
    with pytest.raises(InputError, match="max_new_tokens is 64: it must be below 64"):
        model._texts(batch.prompts)


def test_the_log_says_that_long_prompts_lose_their_start(folder, tmp_path, caplog):
    """Generation reads the end of a prompt, and less of it than the model reads at most."""
    words = (40, 70, 3)
    rows = [{"prompt": " plus" * count, "completion": " two"} for count in words]
    lengths = [len(tokenizer_of("gpt2")(row["prompt"])["input_ids"]) for row in rows]
    files = dict.fromkeys(("test", "predict"), str(write_rows(tmp_path / "long.jsonl", numbered(rows, "test"))))
    model, datamodule = configured(folder, family="gpt2", generate={"max_new_tokens": 30}, settings=files)
    cut = sum(length > 34 for length in lengths)
    assert cut == 2
    with caplog.at_level("INFO", "gradual"):
        quiet_trainer().predict(model, datamodule)
        said = "2 of 3 prompts have more than 34 tokens and lose their start: the model reads 64, 30 of which are kept"
        assert caplog.text.count(said) == 1
        assert "examples of predict" not in caplog.text
        quiet_trainer().test(model, datamodule, verbose=False)
        assert caplog.text.count(said) == 2

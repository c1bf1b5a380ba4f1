"""Language modeling from files to losses, scores and generated texts."""

import json
import math
import warnings
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from interrupted_runs import At, in_a_process, outcome
from language_files import CHAT, TEXTS, THINKING, model_of, tokenizer_of, write_model, write_rows
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from memorized_runs import memorize
from peft import LoraConfig, get_peft_model
from recorded_runs import path_results
from slow_cases import fast_one_in
from tiny_models import write_model as write_encoder
from transformers import AutoModelForCausalLM, BloomConfig, BloomForCausalLM, pipeline
from two_processes import in_two_processes

import gradual
from gradual.__main__ import main
from gradual.errors import InputError
from gradual.logging import saying_anew
from gradual.nn.causal import takes_rows
from gradual.tasks import CausalLM, CausalLMData
from gradual.tasks.causal_lm.loss import LOGITS_AT_ONCE, token_losses

CONFIG = Path(__file__).parents[3] / "configs" / "tasks" / "causal_lm.yaml"

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # Lightning's advice

SUMS = [("one", "one", "two"), ("one", "two", "three"), ("two", "two", "four"), ("two", "one", "three")]
PAIRS = [{"prompt": f"{a} plus {b} is", "completion": f" {c}"} for a, b, c in SUMS]
ROWS = {
    "text": [{"text": text} for text in TEXTS],
    "completion": [*PAIRS, {"prompt": "the answer is two plus", "completion": " two is four"}],
    "messages": [
        {"messages": [{"role": "user", "content": p["prompt"]}, {"role": "assistant", "content": p["completion"]}] * n}
        for p, n in zip(PAIRS, (1, 2, 1, 1))
    ],
}


def numbered(rows, name):
    return [{"id": f"{name}{number}", **row} for number, row in enumerate(rows)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files of an experiment, and a tiny model of each family."""
    folder = tmp_path_factory.mktemp("language")
    for family in ("llama", "gpt2"):
        write_model(folder / family, family)
    write_model(folder / "untied", "gpt2", tie_word_embeddings=False)
    torch.manual_seed(0)
    config = BloomConfig(vocab_size=300, hidden_size=16, n_layer=2, n_head=2, initializer_range=0.2, eos_token_id=1)
    BloomForCausalLM(config).save_pretrained(folder / "bloom")
    tokenizer_of("gpt2").save_pretrained(folder / "bloom")
    for form, rows in ROWS.items():
        for part in ("train", "dev", "test"):
            write_rows(folder / f"{form}.{part}.jsonl", numbered(rows, part))
        write_rows(folder / f"{form}.pool.jsonl", numbered(rows, "pool"))
    return folder


def data(folder, form="completion", family="llama", **changes):
    files = {"in_domain": "train", "val": "dev", "test": "test"}
    paths = {name: str(folder / f"{form}.{part}.jsonl") for name, part in files.items()}
    own = {"tokenizer": str(folder / family), "cache_dir": str(folder / "cache"), "batch_size": 8, "num_proc": 1}
    return CausalLMData(**{**paths, **own, **changes})


def trainer(**arguments):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(accelerator="cpu", **quiet, **{"enable_checkpointing": False, **arguments})


def configured(folder, form="completion", family="llama", settings=None, **changes):
    """A model with its data, outside of a Trainer."""
    datamodule = data(folder, form, family, **(settings or {}))
    datamodule.setup()
    model = CausalLM(**{"pretrained": str(folder / family), **changes})
    datamodule.configure(model)
    model.configure_model()
    model.log = lambda *_, **__: None
    return model, datamodule


@torch.no_grad()
def records_of(model, datamodule):
    return [
        record for i, batch in enumerate(datamodule.test_dataloader()) for record in model.eval().test_step(batch, i)
    ]


def naive(model, tokenizer, row, loss_on="answer"):
    """The sum of negative log likelihoods of a row and their number, one token at a time, without a batch."""
    end = [tokenizer.eos_token_id]
    if "text" in row:
        ids = tokenizer(row["text"])["input_ids"] + end
        start = [0] * len(ids)
    elif "prompt" in row:
        prompt = tokenizer(row["prompt"])["input_ids"]
        ids = prompt + tokenizer(row["completion"], add_special_tokens=False)["input_ids"] + end
        start = [0 if loss_on == "all" else 1] * len(prompt) + [0] * (len(ids) - len(prompt))
    else:
        ids, start = [], []
        for message in row["messages"]:
            head = tokenizer(f"<|start|>{message['role']}\n", add_special_tokens=False)["input_ids"]
            said = tokenizer(f"{message['content']}<|stop|>", add_special_tokens=False)["input_ids"]
            after = tokenizer("\n", add_special_tokens=False)["input_ids"]
            ids += head + said + after
            silent = 1 if message["role"] == "user" else 0
            start += [1] * len(head) + [silent] * len(said) + [1] * len(after)
    logits = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    terms = [-logits[i, b] for i, ((_, b), skipped) in enumerate(zip(pairwise(ids), start[1:])) if not skipped]
    return torch.stack(terms).sum(), len(terms)


# --------------------------------------------------------------------------------------------------------------- losses


@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom"])
@pytest.mark.parametrize("form", ["text", "completion", "messages"])
@pytest.mark.parametrize("at_once", [LOGITS_AT_ONCE, 900])
def test_loss_and_gradients_are_those_of_the_rows_alone(folder, monkeypatch, family, form, at_once):
    monkeypatch.setattr("gradual.tasks.causal_lm.task.token_losses", partial(token_losses, at_once=at_once))
    model, datamodule = configured(folder, form, family)
    assert takes_rows(model.model) is (family != "bloom")
    alone = AutoModelForCausalLM.from_pretrained(folder / family, attn_implementation="eager").eval()
    (batch,) = datamodule.train_dataloader()
    loss = model.eval().training_step(batch, 0)
    sums = [naive(alone, tokenizer_of(family), row) for row in ROWS[form]]
    expected = sum(total for total, _ in sums) / sum(count for _, count in sums)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    expected.backward()
    for mine, theirs in zip(model.model.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad.float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom"])
def test_the_loss_of_an_example_does_not_depend_on_its_batch(folder, family):
    records = []
    for size in (1, 2, 8):
        model, datamodule = configured(folder, "messages", family, {"batch_size": size})
        with torch.no_grad():
            records.append(
                [r for i, b in enumerate(datamodule.test_dataloader()) for r in model.eval().test_step(b, i)]
            )
    for one in records[1:]:
        for mine, theirs in zip(one, records[0], strict=True):
            assert mine["id"] == theirs["id"]
            assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-5)


@pytest.mark.parametrize("form", ["completion", "messages"])
def test_all_tokens_have_a_loss_where_asked_for(folder, form):
    model, datamodule = configured(folder, form, settings={"loss_on": "all"})
    (batch,) = datamodule.val_dataloader()
    assert len(batch.targets) == len(batch.pieces.ids) - len(batch.ids)  # all but the first
    if form == "completion":
        sums = [naive(model_of("llama"), tokenizer_of("llama"), row, "all") for row in ROWS[form]]
        expected = sum(total for total, _ in sums) / sum(count for _, count in sums)
        assert model.eval()._step(batch, "val").item() == pytest.approx(expected.item(), rel=1e-5)


def test_gradient_checkpointing_gives_the_same_gradients(folder):
    gradients = []
    for checkpointing in (False, True):
        with warnings.catch_warnings(action="error", category=FutureWarning):
            model, datamodule = configured(folder, family="gpt2", gradient_checkpointing=checkpointing)
        assert any(getattr(part, "gradient_checkpointing", False) for part in model.modules()) is checkpointing
        (batch,) = datamodule.train_dataloader()
        model.training_step(batch, 0).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(*gradients)


def test_an_encoder_is_refused(tmp_path, folder):
    write_encoder(tmp_path / "bert", "bert", ["one", "two"])
    model = CausalLM(str(tmp_path / "bert"))
    datamodule = data(folder, "text", tokenizer=str(tmp_path / "bert"))
    datamodule.configure(model)
    with pytest.raises(InputError, match=r"bert' is a model of the type bert, which sees the tokens .* take a decoder"):
        model.configure_model()


@pytest.mark.parametrize("precision", fast_one_in(2, ["bf16-true", "bf16-mixed"]))
def test_other_precisions_train(folder, precision):
    model, datamodule = configured(folder, "text")
    model.log = CausalLM.log.__get__(model)
    model.configure_optimizers = lambda: torch.optim.AdamW(model.parameters(), lr=1e-2)
    made = trainer(max_epochs=3, precision=precision, inference_mode=False)
    before = made.validate(model, datamodule, verbose=False)[0]["val/loss"]
    made.fit(model, datamodule)
    assert made.validate(model, datamodule, verbose=False)[0]["val/loss"] < before


# --------------------------------------------------------------------------------------------------- scores and texts


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
    (scores,) = trainer(inference_mode=False).test(model, datamodule, verbose=False)
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
    (records,) = trainer().predict(model, datamodule)
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
    (records,) = trainer().predict(model, datamodule)
    assert [record["id"] for record in records] == [str(number) for number in range(len(rows))]
    assert all(isinstance(record["text"], str) for record in records)


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
        trainer().predict(made, datamodule)
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
    (scores,) = trainer().test(model, datamodule, verbose=False)
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
        trainer().predict(model, datamodule)
        said = "2 of 3 prompts have more than 34 tokens and lose their start: the model reads 64, 30 of which are kept"
        assert caplog.text.count(said) == 1
        assert "examples of predict" not in caplog.text
        trainer().test(model, datamodule, verbose=False)
        assert caplog.text.count(said) == 2


# ------------------------------------------------------------------------------------------------------- training runs


def fit(folder, root, family="llama", schedule=(2, 0), lora=None, batch_size=8, **changes):
    torch.manual_seed(0)
    model = CausalLM(str(folder / family), generate={"max_new_tokens": 8}, lora=lora)
    pool = str(folder / "completion.pool.jsonl")
    datamodule = data(folder, family=family, out_of_domain=pool, batch_size=batch_size, eval_batch_size=2)
    settings = {"monitor": "val/loss", "patience": 9, "max_epochs": 24, "check_val_every_n_epoch": 12}
    quiet = {"logger": False, "enable_progress_bar": False, "accelerator": "cpu", "optimizer": {"lr": 1e-2}}
    return gradual.fit(model, datamodule, schedule, root / "run", **{**settings, **quiet, **changes})


@pytest.mark.parametrize("family", fast_one_in(2, ["llama", "gpt2"]))
def test_a_tiny_corpus_is_memorized_and_the_model_goes_back_to_transformers(folder, tmp_path, family):
    result = fit(folder, tmp_path, family)
    final = result.stages[-1]
    assert final.test["loss"] < 0.05
    assert {final.test[name] for name in ("exact_match", "rouge1", "rougeL")} == {1.0}
    assert set(final.val) == {"loss", "perplexity"}
    lines = (tmp_path / "run" / final.path / "test_examples.jsonl").read_text().splitlines()
    assert [json.loads(line)["exact_match"] for line in lines] == [[1.0, 1]] * len(lines)

    loaded = CausalLM.load_from_checkpoint(tmp_path / "run" / final.path / "best.ckpt")
    (scores,) = trainer().test(loaded, data(folder, family=family), verbose=False)
    assert scores == pytest.approx({f"test/{name}": value for name, value in final.test.items()})
    loaded.save_pretrained(tmp_path / "out")
    tokenizer_of(family).save_pretrained(tmp_path / "out")
    generate = pipeline("text-generation", str(tmp_path / "out"), device="cpu")
    for row in PAIRS:
        (found,) = generate(row["prompt"], max_new_tokens=8, do_sample=False, return_full_text=False)
        assert found["generated_text"] == row["completion"]


def test_a_checkpoint_needs_neither_the_data_nor_the_pretrained_folder(folder, tmp_path):
    write_model(tmp_path / "model", "gpt2")
    model, datamodule = configured(folder, family="gpt2")
    model.hparams["pretrained"] = model.pretrained = str(tmp_path / "gone")
    made = trainer(enable_checkpointing=True)
    made.strategy.connect(model)
    made.save_checkpoint(tmp_path / "model.ckpt")
    loaded = CausalLM.load_from_checkpoint(tmp_path / "model.ckpt")
    (batch,) = datamodule.val_dataloader()
    assert torch.equal(loaded.eval()._step(batch, "val"), model.eval()._step(batch, "val"))


@pytest.mark.parametrize(("end", "ends"), [(1, (1,)), (None, ())])
def test_a_checkpoint_of_an_older_version_has_one_end(folder, tmp_path, end, ends):
    model, _ = configured(folder)
    made = trainer(enable_checkpointing=True)
    made.strategy.connect(model)
    made.save_checkpoint(tmp_path / "model.ckpt")
    checkpoint = torch.load(tmp_path / "model.ckpt")
    checkpoint["spec"] = {"tokenizer": str(folder / "llama"), "vocabulary": 300, "padding": 3, "end": end}
    torch.save(checkpoint, tmp_path / "model.ckpt")
    loaded = CausalLM.load_from_checkpoint(tmp_path / "model.ckpt")
    assert (loaded.spec.end, loaded.spec.before, loaded.spec.markers) == (ends, "", ())
    assert loaded.generation().eos_token_id == [1]  # which the model has, too


@pytest.mark.parametrize(
    ("chat", "end", "ends"),
    [
        pytest.param(CHAT, "<|pad|>", [1, 3], id="turns end with another token than texts"),
        pytest.param(THINKING, "<|stop|>", [1], id="turns begin with an empty block of reasoning"),
    ],
)
def test_what_a_template_puts_around_answers_is_no_part_of_them(folder, tmp_path, chat, end, ends):
    tokenizer = tokenizer_of("llama", chat, eos_token=end)
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|start|>", "<|stop|>"]})
    tokenizer.save_pretrained(tmp_path / "llama")
    model_of("llama", eos_token_id=tokenizer.eos_token_id).save_pretrained(tmp_path / "llama")
    talks = [[{"role": "user", "content": f"{a} plus {b}"}, {"role": "assistant", "content": c}] for a, b, c in SUMS]
    file = str(write_rows(tmp_path / "talks.jsonl", [{"messages": talk} for talk in talks]))
    files = dict.fromkeys(("in_domain", "val", "test"), file)
    datamodule = data(folder, tokenizer=str(tmp_path / "llama"), batch_size=4, **files)
    torch.manual_seed(0)
    model = CausalLM(str(tmp_path / "llama"), generate={"max_new_tokens": 24})
    stage, loaded = memorize(model, datamodule, tmp_path / "run", epochs=40)
    assert stage.test["exact_match"] == stage.test["rougeL"] == 1.0
    (records,) = trainer().predict(loaded, datamodule)
    assert [record["text"] for record in records] == [c for _, _, c in SUMS]
    loaded.save_pretrained(tmp_path / "out")
    written = json.loads((tmp_path / "out/generation_config.json").read_text())["eos_token_id"]
    assert [*(written if isinstance(written, list) else [written])] == ends


@pytest.mark.slow
def test_a_killed_run_goes_on_bit_for_bit(folder, tmp_path):
    """With dropout everywhere, so that a random state that is not restored shows."""
    noisy = {"attn_pdrop": 0.2, "resid_pdrop": 0.2, "embd_pdrop": 0.2}
    model_of("gpt2", **noisy).save_pretrained(tmp_path / "gpt2")
    tokenizer_of("gpt2").save_pretrained(tmp_path / "gpt2")
    for form in ("train", "dev", "test", "pool"):
        (tmp_path / f"completion.{form}.jsonl").symlink_to(folder / f"completion.{form}.jsonl")
    settings = {"max_epochs": 3, "check_val_every_n_epoch": 1, "checkpoint_every": 0, "schedule": (2, 0)}

    def run(root, *callbacks):
        fit(tmp_path, root, "gpt2", callbacks=list(callbacks), **settings)

    for root in ("whole", "killed"):
        (tmp_path / root).mkdir()
    assert in_a_process(lambda: run(tmp_path / "whole")) == 0
    assert in_a_process(lambda: run(tmp_path / "killed", At("on_train_batch_end", 5))) == -9
    assert in_a_process(lambda: run(tmp_path / "killed")) == 0
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")


# ------------------------------------------------------------------------------------------ adapters, several processes


@pytest.mark.parametrize(
    ("family", "targets"),
    [
        ("llama", "all-linear"),
        ("llama", ["lm_head"]),
        ("llama", ["q_proj", "embed_tokens"]),
        ("gpt2", "all-linear"),
        ("untied", ["lm_head"]),
    ],
)
def test_with_an_adapter_loss_and_gradients_are_those_of_peft(folder, monkeypatch, family, targets):
    monkeypatch.setattr("gradual.tasks.causal_lm.task.token_losses", partial(token_losses, at_once=900))
    lora = {"r": 3, "alpha": 3, "dropout": 0.0, "target_modules": targets}
    model, datamodule = configured(folder, family=family, lora=lora)
    config = LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=3, target_modules=targets)
    alone = get_peft_model(AutoModelForCausalLM.from_pretrained(folder / family), config)
    with torch.no_grad():
        for mine, theirs in zip(trained(model.model), trained(alone), strict=True):
            mine.copy_(theirs.normal_(std=0.3))
    (batch,) = datamodule.train_dataloader()
    loss = model.training_step(batch, 0)
    sums = [naive(alone, tokenizer_of(family), row) for row in ROWS["completion"]]
    expected = sum(total for total, _ in sums) / sum(count for _, count in sums)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    expected.backward()
    for mine, theirs in zip(trained(model.model), trained(alone), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("target", ["lm_head", "wte"])
def test_a_layer_that_is_tied_to_the_embeddings_has_no_adapter_of_its_own(folder, target):
    with pytest.raises(InputError, match=rf"{target} shares its weights with .*: leave (transformer\.)?{target} out"):
        configured(folder, family="gpt2", lora={"target_modules": ["c_attn", target]})


def trained(model):
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_an_adapter_memorizes_a_tiny_corpus_and_is_merged_for_transformers(folder, tmp_path, family):
    result = fit(folder, tmp_path, family, (0,), lora={"r": 16, "dropout": 0.0})
    final = result.stages[-1]
    assert final.test["exact_match"] == 1.0
    loaded = CausalLM.load_from_checkpoint(tmp_path / "run" / final.path / "best.ckpt")
    loaded.save_pretrained(tmp_path / "out")
    tokenizer_of(family).save_pretrained(tmp_path / "out")
    generate = pipeline("text-generation", str(tmp_path / "out"), device="cpu")
    for row in PAIRS:
        (found,) = generate(row["prompt"], max_new_tokens=8, do_sample=False, return_full_text=False)
        assert found["generated_text"] == row["completion"]


@pytest.mark.slow
@pytest.mark.parametrize(("family", "kind"), [("llama", "ddp"), ("gpt2", "fsdp")])
def test_two_processes_train_and_generate_as_one(folder, tmp_path, family, kind):
    """With the model divided among them (FSDP2), too, whose embeddings GPT-2 shares with its head."""

    def train(root, processes):
        divided = partial(ModelParallelStrategy, 2, 1, save_distributed_checkpoint=False)
        strategy = "auto" if processes == 1 else divided() if kind == "fsdp" else "ddp"
        settings = {"max_epochs": 3, "check_val_every_n_epoch": 3, "devices": processes, "strategy": strategy}
        fit(folder, root, family, (0,), batch_size=8 // processes, **settings)

    for processes in (1, 2):
        (tmp_path / str(processes)).mkdir()
    assert in_a_process(lambda: train(tmp_path / "1", 1)) == 0
    in_two_processes(lambda: train(tmp_path / "2", 2), tmp_path / "2")
    folders = [tmp_path / str(processes) / "run/seed-0/0" for processes in (1, 2)]
    one, two = (json.loads((path / "result.json").read_text()) for path in folders)
    for split in ("val", "test"):
        assert two[split] == pytest.approx(one[split], rel=1e-3, abs=1e-4)
    one, two = ([json.loads(line) for line in (path / "test_examples.jsonl").open()] for path in folders)
    for mine, theirs in zip(one, two, strict=True):
        assert mine == {**theirs, "loss": pytest.approx(theirs["loss"], rel=1e-3, abs=1e-4)}


# --------------------------------------------------------------------------------------------------- the command line


def command(name, folder, run_dir, *more, form="messages"):
    parts = {"in_domain": "train", "out_of_domain": "pool", "val": "dev", "test": "test"}
    files = [f"--data.{part}={folder}/{form}.{file}.jsonl" for part, file in parts.items()]
    fast = ["--trainer.accelerator=cpu", "--trainer.max_epochs=1", "--schedule=[2, 0]", "--trainer.logger=false"]
    own = [f"--model.pretrained={folder}/llama", f"--data.cache_dir={folder}/cache", "--data.num_proc=1"]
    main([name, *files, *fast, *own, f"--run_dir={run_dir}", *more])


@pytest.fixture
def _command_line(monkeypatch):
    monkeypatch.setattr("sys.argv", ["gradual"])


@pytest.mark.usefixtures("_command_line")
def test_every_command_works_on_conversations(folder, tmp_path, capsys):
    run_dir = tmp_path / "run"
    command("fit", folder, run_dir, "--model=CausalLM", "--model.generate={max_new_tokens: 3}")
    for stage in path_results(run_dir)["stages"]:
        assert {"loss", "perplexity"} <= set(stage["val"])
        assert set(stage["test"]) == {"loss", "perplexity", "exact_match", "rouge1", "rouge2", "rougeL"}
    capsys.readouterr()
    checkpoint = f"--ckpt_path={run_dir}/seed-0/2/0/best.ckpt"
    main(["test", f"--config={run_dir}/config.yaml", checkpoint])
    assert "test/perplexity" in capsys.readouterr().out
    target = tmp_path / "texts.jsonl"
    main(["predict", f"--config={run_dir}/config.yaml", checkpoint, f"--predictions={target}"])
    records = [json.loads(line) for line in target.read_text().splitlines()]
    assert [set(record) for record in records] == [{"id", "text"}] * len(ROWS["messages"])


@pytest.mark.slow
@pytest.mark.usefixtures("_command_line")
def test_the_configuration_that_comes_with_the_project_trains(folder, tmp_path):
    command("fit", folder, tmp_path / "run", f"--config={CONFIG}", "--data.max_length=64", form="completion")
    stages = path_results(tmp_path / "run")["stages"]
    assert [(stage["in_domain"], stage["out_of_domain"]) for stage in stages] == [(5, 2), (5, 0)]
    assert all(set(stage["test"]) == {"loss", "perplexity"} for stage in stages)


@pytest.mark.usefixtures("_command_line")
@pytest.mark.parametrize(
    ("rows", "more", "problem"),
    fast_one_in(
        4,
        [
            (
                [{"words": "x"}],
                [],
                "new.jsonl has no column messages, none of prompt and completion, and none of text, but",
            ),
            ([{"text": "x"}], ["--data.prompt_column=text"], "new.jsonl has no column named completion, but text: set"),
            ([{"messages": [{"role": "user"}]}], [], "new.jsonl:1: message 1 has no text as its content."),
            ([{"text": "x"}], ["--model.generate={max_tokens: 3}"], "generate has no setting 'max_tokens'"),
            ([{"text": "x"}], ["--data.loss_on=none"], "loss_on"),
        ],
    ),
)
def test_a_mistake_is_one_sentence(folder, tmp_path, capfd, rows, more, problem):
    file = write_rows(tmp_path / "new.jsonl", rows)
    own = [f"--data.{part}={file}" for part in ("in_domain", "val", "test", "out_of_domain")]
    with pytest.raises(SystemExit):
        command("fit", folder, tmp_path / "run", "--model=CausalLM", *own, *more)
    error = capfd.readouterr().err
    assert problem in error
    assert "Traceback" not in error


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

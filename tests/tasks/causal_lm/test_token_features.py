"""Rows to tokens and batches: what has a loss, what is cut, what generation starts from."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from language_files import CHAT, tokenizer_of
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from gradual.data.features import RowError
from gradual.tasks.causal_lm.batch import TokenCollator
from gradual.tasks.causal_lm.features import TokenFeatures


def features(family="llama", form="completion", loss_on="answer", longest=None, prompts=True, **changes):
    return TokenFeatures(tokenizer_of(family, **changes), form, loss_on, longest, prompts)


def tokens(family, text, **changes):
    return tokenizer_of(family)(text, **changes)["input_ids"]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_text_has_a_loss_on_all_tokens_and_ends(family):
    texts = ["one plus two", "you are kind"]
    found = features(family, "text")({"text": texts})
    assert found["input_ids"] == [[*tokens(family, text), 1] for text in texts]
    assert found["loss_spans"] == [[0, len(ids)] for ids in found["input_ids"]]
    assert found["prompt_ids"] == [tokens(family, text) for text in texts]
    assert found["answer"] == [None, None]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_completion_follows_the_tokens_of_its_prompt_alone(family):
    found = features(family)({"prompt": ["one plus", ""], "completion": [" two", "kind"]})
    prompts = [tokens(family, "one plus"), [0]]  # something must be there to predict the first token from
    answers = [[*tokens(family, text, add_special_tokens=False), 1] for text in (" two", "kind")]
    assert found["input_ids"] == [[*prompt, *answer] for prompt, answer in zip(prompts, answers)]
    assert found["loss_spans"] == [[len(p), len(p) + len(a)] for p, a in zip(prompts, answers)]
    assert found["prompt_ids"] == prompts
    assert found["answer"] == [" two", "kind"]
    assert features(family, loss_on="all")({"prompt": ["one"], "completion": [" two"]})["loss_spans"][0][0] == 0


@pytest.mark.parametrize("before", ["normalizer", "pre_tokenizer"])
def test_a_space_before_a_completion_is_one_where_the_tokenizer_adds_its_own(before):
    """That of Llama 2 adds one to every text, which may have one already."""
    known = ["<s>", "</s>", "<unk>", "▁", "▁the", "▁answer", "▁is", "▁42", "▁43"]
    made = Tokenizer(models.Unigram([(word, -6.0 if word == "▁" else -1.0) for word in known], unk_id=2))
    if before == "normalizer":
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, **names)
    completions = [" 42", " 43 is", "42", "  42"]
    found = TokenFeatures(tokenizer, "completion", "answer", None, False)(
        {"prompt": ["the answer is"] * 4, "completion": completions}
    )
    joint = ["the answer is 42", "the answer is 43 is", "the answer is 42", "the answer is  42"]
    assert found["input_ids"] == [[*tokenizer(text)["input_ids"], 1] for text in joint]


def test_special_tokens_that_are_spelled_out_are_markers():
    """Not those for the beginning and the end of every text."""
    texts = ["one <|start|> two", "two", "<|begin|>one<|stop|>", "<|start|><|more|><|start|>"]
    changes = {"extra_special_tokens": ["<|start|>", "<|more|>"]}
    expected = ["2", "", "", "300 2"]
    for form in ("text", "completion", "messages"):
        tokenizer = tokenizer_of("llama")
        tokenizer.add_special_tokens(changes)
        rows = {
            "text": {"text": texts},
            "completion": {"prompt": ["<|start|>"] * 4, "completion": texts},
            "messages": {
                "messages": [
                    [{"role": "user", "content": "<|more|>"}, {"role": "assistant", "content": text}] for text in texts
                ]
            },
        }[form]
        assert TokenFeatures(tokenizer, form, "answer", None, False)(rows)["markers"] == expected
    assert features()({"prompt": ["<|start|>"]})["markers"] == [""]


def test_the_end_is_not_part_of_a_prompt_even_if_the_tokenizer_adds_it():
    from tokenizers.processors import TemplateProcessing

    tokenizer = tokenizer_of("llama")
    ends = TemplateProcessing("<|begin|> $A <|stop|>", special_tokens=[("<|begin|>", 0), ("<|stop|>", 1)])
    tokenizer.backend_tokenizer.post_processor = ends
    completion = TokenFeatures(tokenizer, "completion", "answer", None, True)
    assert completion({"prompt": ["one"], "completion": [" two"]}) == features()(
        {"prompt": ["one"], "completion": [" two"]}
    )
    text = TokenFeatures(tokenizer, "text", "answer", None, True)
    assert text({"text": ["one"]}) == features(form="text")({"text": ["one"]})


def test_without_a_token_for_the_end_nothing_is_added():
    found = features("gpt2", eos_token=None)({"prompt": ["one"], "completion": [" two"]})
    assert found["input_ids"] == [[*tokens("gpt2", "one"), *tokens("gpt2", " two")]]


def test_prompts_without_answers_have_no_loss():
    found = features(loss_on="all")({"prompt": ["one plus"]})
    assert found["input_ids"] == found["prompt_ids"] == [tokens("llama", "one plus")]
    assert found["loss_spans"] == [[]]


def test_what_is_too_long_loses_its_end_and_prompts_stay_whole():
    rows = {"prompt": ["one plus two is", "one"], "completion": [" three three three", " two"]}
    whole, cut = features()(rows), features(longest=6)(rows)
    assert cut["input_ids"] == [ids[:6] for ids in whole["input_ids"]]
    assert cut["loss_spans"] == [[5, 6], whole["loss_spans"][1]]
    assert cut["cut"] == [True, False]
    assert whole["cut"] == [False, False]
    assert cut["prompt_ids"] == whole["prompt_ids"]
    assert features(longest=4)(rows)["loss_spans"][0] == []
    assert "prompt_ids" not in features(prompts=False)(rows)


def test_conversations_are_rendered_and_wrong_ones_have_a_place():
    talk = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
    made = features(form="messages")
    found = made({"messages": [talk]})
    start, end = found["loss_spans"][0]
    assert made.tokenizer.decode(found["input_ids"][0][start:end]) == "two<|stop|>"
    whole = features(form="messages", loss_on="all")({"messages": [talk]})
    assert whole["loss_spans"] == [[0, len(found["input_ids"][0])]]
    with pytest.raises(RowError) as error:
        made({"messages": [talk, []]})
    assert (error.value.position, error.value.problem) == (1, "the conversation has no messages")


def test_a_text_without_tokens_has_a_place():
    with pytest.raises(RowError, match="the text has no tokens") as error:
        features("gpt2", "text", eos_token=None)({"text": ["one", ""]})
    assert error.value.position == 1


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_an_empty_prompt_can_be_answered(family):
    """It has the token for the beginning of a text, whether the tokenizer adds it to texts or not."""
    found = features(family)({"prompt": ["", "one"]})
    assert found["input_ids"] == found["prompt_ids"] == [[0], tokens(family, "one")]


def test_another_template_makes_other_features():
    assert features(chat=CHAT).key() == features(chat=CHAT).key() != features(chat=CHAT + " ").key()


# -------------------------------------------------------------------------------------------------------------- batches

rows = st.lists(
    st.integers(1, 9).flatmap(
        lambda length: st.tuples(st.just(length), st.lists(st.integers(0, length), max_size=4, unique=True).map(sorted))
    ),
    min_size=1,
    max_size=6,
)


@given(rows)
def test_a_batch_has_each_token_with_a_loss_once(drawn):
    """Naively: by looking at each token of each example."""
    examples, token = [], 0
    for length, edges in drawn:
        ids = list(range(token, token + length))
        spans = edges[: len(edges) // 2 * 2]
        examples.append({"id": f"E{len(examples)}", "input_ids": ids, "loss_spans": spans})
        token += length
    batch = TokenCollator(padding=0)(examples)
    expected = [
        (ids[place - 1], ids[place], index)
        for index, (ids, spans) in enumerate((e["input_ids"], e["loss_spans"]) for e in examples)
        for start, end in zip(spans[::2], spans[1::2])
        for place in range(max(start, 1), end)
    ]
    before = batch.pieces.ids[batch.before]
    assert list(zip(before.tolist(), batch.targets.tolist(), batch.example.tolist())) == expected
    assert batch.ids == [example["id"] for example in examples]
    assert batch.prompts is None


def test_prompts_are_padded_on_the_left():
    shared = {"input_ids": [5], "loss_spans": []}
    examples = [
        {"id": "a", **shared, "prompt_ids": [5, 6], "answer": "x"},
        {"id": "b", **shared, "prompt_ids": [7, 8, 9], "answer": None},
    ]
    prompts = TokenCollator(padding=3)(examples).prompts
    assert prompts.ids.tolist() == [[3, 5, 6], [7, 8, 9]]
    assert prompts.mask.tolist() == [[0, 1, 1], [1, 1, 1]]
    assert prompts.answers == ["x", None]


def test_a_batch_is_of_integers():
    batch = TokenCollator(0)([{"id": "a", "input_ids": np.array([4, 5], dtype=np.int32), "loss_spans": [0, 2]}])
    assert {t.dtype for t in (batch.pieces.ids, batch.before, batch.targets, batch.example)} == {torch.int64}

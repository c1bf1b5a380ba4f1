"""Conversations to tokens: which tokens have a loss, by a template's marks and by the beginnings of its text."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from language_files import CHAT, MARKED, THINKING, tokenizer_of

from gradual.tasks.causal_lm.chat import ChatError, TurnFrame, encode_chat, turn_frame

ALWAYS = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
TALK = [
    {"role": "system", "content": "you are kind"},
    {"role": "user", "content": "what is one plus one ?"},
    {"role": "assistant", "content": "the answer is two"},
    {"role": "user", "content": "two plus two"},
    {"role": "assistant", "content": "four"},
]


def said(tokenizer, conversation):
    spans = zip(conversation.spans[::2], conversation.spans[1::2])
    return [tokenizer.decode(conversation.tokens[start:end]) for start, end in spans]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("chat", [CHAT, MARKED])
def test_the_assistants_turns_end_with_the_token_that_ends_generation(family, chat):
    tokenizer = tokenizer_of(family, chat)
    conversation = encode_chat(tokenizer, TALK)
    assert conversation.tokens == tokenizer.apply_chat_template(TALK)["input_ids"]
    assert said(tokenizer, conversation) == ["the answer is two<|stop|>", "four<|stop|>"]
    assert conversation.answer == "four"
    assert conversation.prompt == tokenizer.apply_chat_template(TALK[:-1], add_generation_prompt=True)["input_ids"]


@pytest.mark.parametrize("chat", [CHAT, MARKED])
def test_a_conversation_that_ends_with_a_question_is_prompted_for_its_end(chat):
    tokenizer = tokenizer_of("llama", chat)
    conversation = encode_chat(tokenizer, TALK[:-1])
    assert conversation.prompt == tokenizer.apply_chat_template(TALK[:-1], add_generation_prompt=True)["input_ids"]
    assert conversation.answer is None
    assert said(tokenizer, conversation) == ["the answer is two<|stop|>"], "what was said is trained on all the same"


def test_marks_give_the_mask_of_transformers():
    tokenizer = tokenizer_of("llama", MARKED)
    conversation = encode_chat(tokenizer, TALK)
    expected = tokenizer.apply_chat_template(TALK, return_dict=True, return_assistant_tokens_mask=True)
    mask = [0] * len(conversation.tokens)
    for start, end in zip(conversation.spans[::2], conversation.spans[1::2]):
        mask[start:end] = [1] * (end - start)
    assert mask == expected["assistant_masks"]


words = st.text(st.sampled_from("one two\n é?<"), max_size=12)


@given(st.lists(st.tuples(words, words), min_size=1, max_size=3), st.sampled_from(["llama", "gpt2"]))
def test_whatever_is_said_is_found(turns, family):
    messages = [
        {"role": role, "content": content} for turn in turns for role, content in zip(("user", "assistant"), turn)
    ]
    tokenizer = tokenizer_of(family)
    conversation = encode_chat(tokenizer, messages)
    assert said(tokenizer, conversation) == [f"{answer}<|stop|>" for _, answer in turns]


def test_a_turn_without_a_token_for_its_end_goes_up_to_the_next():
    tokenizer = tokenizer_of("llama", ALWAYS)
    assert said(tokenizer, encode_chat(tokenizer, TALK)) == [" the answer is two\n", " four\n"]


def test_a_conversation_that_waits_for_an_answer_is_a_prompt():
    tokenizer = tokenizer_of("gpt2")
    conversation = encode_chat(tokenizer, TALK[:-1][:2])
    assert conversation.tokens == conversation.prompt
    assert tokenizer.decode(conversation.prompt).endswith("?<|stop|>\n<|start|>assistant\n")
    assert (conversation.spans, conversation.answer) == ([], None)


def test_a_loss_on_everything_needs_no_template_that_shows_the_turns():
    changing = "{% for m in messages %}{{ m['content'] }}{% if loop.last %}<|stop|>{% endif %}{% endfor %}"
    tokenizer = tokenizer_of("gpt2", changing)
    with pytest.raises(ChatError, match=r"does not render message 3 as an answer .* or set loss_on to all"):
        encode_chat(tokenizer, TALK)
    conversation = encode_chat(tokenizer, TALK, answers=False)
    assert conversation.spans == [0, len(conversation.tokens)]


def test_fields_that_other_messages_have_are_left_out():
    named = [{**message, "name": None} for message in TALK]
    tokenizer = tokenizer_of("gpt2", "{% for m in messages %}{{ m['name'] if 'name' in m }}{{ m.content }}{% endfor %}")
    assert tokenizer.decode(encode_chat(tokenizer, named, answers=False).tokens) == "".join(
        message["content"] for message in TALK
    )


CHANNELS = (  # as gpt-oss has it
    "{% for m in messages %}<|start|>{{ m['role'] }}{% if m['role'] == 'assistant' %}<|begin|>final{% endif %}<|pad|>"
    "{{ m['content'] }}<|stop|>{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
LOUD = CHAT.replace("m['content']", "m['content'].upper()")
OPEN = CHAT.replace("<|start|>assistant\n", "<|start|>assistant\n<think>\n")  # its prompt says what its turns do not


@pytest.mark.parametrize("messages", [TALK, TALK[:-1], TALK[2:-1]])
@pytest.mark.parametrize(
    ("chat", "frame"),
    [
        (CHAT, TurnFrame("", 1)),
        (MARKED, TurnFrame("", 1)),
        (ALWAYS, TurnFrame(" ", None)),
        (THINKING, TurnFrame("<think>\n\n</think>\n\n", 1)),
        (CHANNELS, TurnFrame("<|begin|>final<|pad|>", 1)),
        (LOUD, TurnFrame("", None)),
        (OPEN, TurnFrame("", 1)),
    ],
)
def test_a_template_shows_what_it_puts_around_an_answer(chat, messages, frame):
    assert turn_frame(tokenizer_of("llama", chat), messages) == frame


def test_a_template_that_refuses_an_answer_shows_nothing():
    chat = CHAT.replace(
        "<|start|>{{", "{% if messages[-1].role == 'assistant' %}{{ raise_exception('no') }}{% endif %}{{"
    )
    assert turn_frame(tokenizer_of("llama", chat), TALK[:1]) == TurnFrame()


REFUSING = "{{ raise_exception('roles must alternate') }}"


@pytest.mark.parametrize(
    ("messages", "chat", "problem"),
    [
        ([], CHAT, "the conversation has no messages"),
        (None, CHAT, "the conversation has no messages"),
        ([{"role": "user"}], CHAT, "message 1 has no text as its content"),
        ([TALK[0], {"role": 3, "content": "x"}], CHAT, "message 2 has no text as its role"),
        ("hello", CHAT, "message 1 has no text as its role"),
        (TALK[2:], CHAT, "the conversation begins with the assistant's turn, which nothing prompts"),
        (TALK, REFUSING, "the chat template refuses the first 4 messages (roles must alternate)"),
    ],
)
def test_other_conversations_are_refused_in_one_clause(messages, chat, problem):
    with pytest.raises(ChatError, match=f"^{re.escape(problem)}$"):
        encode_chat(tokenizer_of("gpt2", chat), messages)

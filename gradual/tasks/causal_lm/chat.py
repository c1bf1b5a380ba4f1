"""Conversations to token ids, by the chat template of a tokenizer, and which tokens the assistant says."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2 import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

from gradual.tasks.special_tokens import special_tokens

Ints = npt.NDArray[np.int64]

_ASSISTANT = "assistant"
_CONTENT = "An answer 0123456789."  # which no template has itself
_MARKS_TURNS = re.compile(r"\{%-?\s*generation\s*-?%\}")


class ChatError(Exception):
    """A conversation that cannot be used; the message is to follow its place in a file."""


@dataclass(frozen=True)
class Conversation:
    """A conversation, or anything else that has answers.

    Attributes:
        tokens: Its token ids.
        spans: The tokens of the answers: start, end, start, ...
        prompt: The tokens from which the answer at its end would be generated, there or not.
        answer: The text of that answer; None for a conversation that ends with another turn.
    """

    tokens: list[int]
    spans: list[int]
    prompt: list[int]
    answer: str | None


def encode_chat(tokenizer: Any, messages: Any, answers: bool = True) -> Conversation:
    """Render a conversation by the chat template of a tokenizer, and tokenize it.

    Which tokens the assistant says is told by the template's ``{% generation %}`` marks where it has them. Otherwise,
    each of the assistant's turns is what the text up to and including it has more than the text of the messages before
    it with the prompt for an answer (``add_generation_prompt``). That is exact if both are beginnings of the whole
    text, which is checked. White space after the special token that ends a turn is not part of it, since generation
    has ended there. A token that is partly in a turn counts as in it.

    Args:
        tokenizer: A fast tokenizer with a chat template.
        messages: Objects with ``role`` and ``content``.
        answers: Whether to look for the assistant's turns, which not every template allows; otherwise everything is one
            span if the conversation has one.

    Raises:
        ChatError: These are no messages, the template refuses them, or it does not show which tokens the assistant
            says.
    """
    messages = _checked(messages)
    said = [index for index, message in enumerate(messages) if message["role"] == _ASSISTANT]
    text, asked = _prompt(tokenizer, messages)
    prompt = _tokens(tokenizer, text)
    answer = messages[-1]["content"] if len(asked) < len(messages) else None
    if not said:
        return Conversation(prompt, [], prompt, None)
    if not answers:
        tokens = _tokens(tokenizer, _render(tokenizer, messages))
        return Conversation(tokens, [0, len(tokens)], prompt, answer)
    if _MARKS_TURNS.search(tokenizer.get_chat_template()):
        tokens, spans = _marked(tokenizer, messages)
    else:
        tokens, spans = _by_beginnings(tokenizer, messages, said)
    return Conversation(tokens, spans, prompt, answer)


def said_in(messages: Sequence[Mapping[str, str]]) -> str:
    """Return the text of all of the assistant's messages."""
    return "\n".join(message["content"] for message in messages if message["role"] == _ASSISTANT)


@dataclass(frozen=True)
class TurnFrame:
    """What a chat template puts around the content of the assistant's last turn.

    Attributes:
        before: The text between the prompt for an answer and the content, such as an empty block of reasoning.
        end: The id of the special token that ends the turn; None where there is none.
    """

    before: str = ""
    end: int | None = None


def turn_frame(tokenizer: Any, messages: Any) -> TurnFrame:
    """Find what the chat template puts around an answer.

    Args:
        tokenizer: A fast tokenizer with a chat template.
        messages: A conversation that ``encode_chat`` accepts, whose last answer another takes the place of.

    Returns:
        What is there; nothing where the template does not render a content as it is.
    """
    prompt, messages = _prompt(tokenizer, _checked(messages))
    try:
        whole = _render(tokenizer, [*messages, {"role": _ASSISTANT, "content": _CONTENT}])
    except ChatError:  # such as an answer to the system
        return TurnFrame()
    through, content, after = whole.rpartition(_CONTENT)
    if not content:
        return TurnFrame()
    special = special_tokens(tokenizer)
    end = next((token for token in _tokens(tokenizer, after) if token in special), None)
    return TurnFrame(through.removeprefix(prompt) if through.startswith(prompt) else "", end)


def _checked(messages: Any) -> list[dict[str, Any]]:
    if not isinstance(messages, Sequence) or not messages:
        raise ChatError("the conversation has no messages")
    for number, message in enumerate(messages, start=1):
        for name in ("role", "content"):
            if not isinstance(message, Mapping) or not isinstance(message.get(name), str):
                raise ChatError(f"message {number} has no text as its {name}")
    # a column of a table has every field that one of its messages has
    return [{name: value for name, value in message.items() if value is not None} for message in messages]


def _prompt(tokenizer: Any, messages: list[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """Return what the answer at the end of a conversation is generated from, as text and as messages."""
    asked = messages[:-1] if messages[-1]["role"] == _ASSISTANT else messages
    return _render(tokenizer, asked, prompting=True), asked


def _render(tokenizer: Any, messages: list[dict[str, Any]], prompting: bool = False) -> str:
    if not messages:
        raise ChatError("the conversation begins with the assistant's turn, which nothing prompts")
    try:
        text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompting)
    except TemplateError as error:
        raise ChatError(f"the chat template refuses the first {len(messages)} messages ({error})") from None
    return text


def _tokens(tokenizer: Any, text: str) -> list[int]:
    """Tokenize what a template has rendered, which has all special tokens that it needs."""
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _marked(tokenizer: Any, messages: list[dict[str, Any]]) -> tuple[list[int], list[int]]:
    """Return the tokens, and the spans of those that the template marks."""
    try:
        rendered, marks = render_jinja_template(
            [messages],
            chat_template=tokenizer.get_chat_template(),
            return_assistant_tokens_mask=True,
            **tokenizer.special_tokens_map,
        )
    except TemplateError as error:
        raise ChatError(f"the chat template refuses the conversation ({error})") from None
    tokens, starts, ends = _located(tokenizer, rendered[0])
    return tokens, _covering(marks[0], starts, ends)


def _by_beginnings(tokenizer: Any, messages: list[dict[str, Any]], said: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the tokens, and the spans of the messages with the indices ``said``."""
    whole = _render(tokenizer, messages)
    tokens, starts, ends = _located(tokenizer, whole)
    turns = []
    for index in said:
        before = _render(tokenizer, messages[:index], prompting=True)
        through = _render(tokenizer, messages[: index + 1])
        if not (whole.startswith(through) and through.startswith(before)):
            raise ChatError(
                f"the chat template does not render message {index + 1} as an answer to those before it and unchanged "
                "by those after it, so that the tokens of the assistant are unknown: use a template with "
                "{% generation %} marks, or set loss_on to all"
            )
        turns.append((len(before), len(through)))
    stops = ends[np.isin(tokens, [*special_tokens(tokenizer)])]
    return tokens, _covering([(begin, _without_space(whole, begin, end, stops)) for begin, end in turns], starts, ends)


def _without_space(text: str, begin: int, end: int, stops: Ints) -> int:
    """Return where a turn ends, without white space after its last special token.

    Args:
        text: The whole text.
        begin: The first character of the turn.
        end: The character after its last.
        stops: The end of each special token, in ascending order.
    """
    inside = stops[(stops > begin) & (stops <= end)]
    return int(inside[-1]) if len(inside) and not text[inside[-1] : end].strip() else end


def _located(tokenizer: Any, text: str) -> tuple[list[int], Ints, Ints]:
    """Return the tokens of a text, with the first character of each and the one after its last."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    offsets = np.array(encoded["offset_mapping"], dtype=np.int64).reshape(-1, 2)
    return list(encoded["input_ids"]), offsets[:, 0], offsets[:, 1]


def _covering(turns: Sequence[tuple[int, int]], starts: Ints, ends: Ints) -> list[int]:
    """Return the spans of the tokens that have a character of a turn: start, end, start, ..."""
    edges = np.array(turns, dtype=np.int64).reshape(-1, 2)
    first, after = np.searchsorted(ends, edges[:, 0], side="right"), np.searchsorted(starts, edges[:, 1], side="left")
    return list(chain.from_iterable((int(a), int(b)) for a, b in zip(first, after) if a < b))

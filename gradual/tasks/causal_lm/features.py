"""Rows to token ids, and which of the tokens have a loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from gradual.data.features import Features, RowError
from gradual.tasks.causal_lm.chat import ChatError, Conversation, encode_chat, said_in
from gradual.tasks.special_tokens import MARKERS, markers_of

Form = Literal["text", "completion", "messages"]
"""What a row consists of: a text, a prompt and its completion, or the messages of a conversation."""
LossOn = Literal["answer", "all"]
"""The tokens with a loss: those of a completion or of the assistant's turns, or all."""

_Spans = list[int]  # start, end, start, ... of tokens


@dataclass(frozen=True)
class TokenFeatures(Features):
    """Tokenizes texts, prompts with completions, or conversations.

    - A text has a loss on every token. It has the special tokens that the tokenizer adds, and ends with the token for
      the end of a text.
    - A prompt and its completion are tokenized separately, so that a prompt consists of the same tokens when only its
      completion is to be generated. The completion has no special token but the one for the end of a text. A prompt
      without tokens has the one for the beginning of a text.
    - A conversation is rendered by the tokenizer's chat template, see ``encode_chat``.

    What is longer than ``longest`` loses its end.

    Attributes:
        form: What a row consists of.
        loss_on: The tokens with a loss.
        longest: Maximum number of tokens; None for no limit.
        prompts: Whether to add what generation starts from: the text without its end, the prompt, or the conversation
            without the assistant's turn at its end.
    """

    version: ClassVar[int] = 4

    form: Form
    loss_on: LossOn
    longest: int | None
    prompts: bool

    def __call__(self, rows: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        """Return ``input_ids``, the ``loss_spans`` among them (start, end, start, ...) and whether a row was ``cut``.

        Also the special tokens in texts, completions and the assistant's messages as ``markers``.

        With ``prompts``, also ``prompt_ids`` and ``answer``, the text that the prompt was followed by, or None.
        """
        if self.form == "text":
            targets = rows["text"]
            encoded = self._texts(targets)
        elif self.form == "completion":
            targets = rows.get("completion") or [""] * len(rows["prompt"])
            encoded = self._completions(rows["prompt"], rows.get("completion"))
        else:
            encoded = [self._conversation(position, messages) for position, messages in enumerate(rows["messages"])]
            targets = [said_in(messages) for messages in rows["messages"]]
        for position, conversation in enumerate(encoded):
            if not conversation.tokens:
                raise RowError(position, "the text has no tokens")
        longest = self.longest or max(len(conversation.tokens) for conversation in encoded)
        found: dict[str, list[Any]] = {
            "input_ids": [conversation.tokens[:longest] for conversation in encoded],
            "loss_spans": [self._spans(conversation, longest) for conversation in encoded],
            "cut": [len(conversation.tokens) > longest for conversation in encoded],
            MARKERS: markers_of(self.tokenizer, targets),
        }
        if self.prompts:
            start = self._start()
            found["prompt_ids"] = [conversation.prompt or start for conversation in encoded]
            found["answer"] = [conversation.answer for conversation in encoded]
        return found

    def _texts(self, texts: list[str]) -> list[Conversation]:
        found = [_without_last(tokens, self.tokenizer.eos_token_id) for tokens in self._tokens(texts)]
        end = self._end()
        return [Conversation([*tokens, *end], [0, len(tokens) + len(end)], tokens, None) for tokens in found]

    def _completions(self, prompts: list[str], completions: list[str] | None) -> list[Conversation]:
        end_id, first = self.tokenizer.eos_token_id, self._start()
        starts = [_without_last(tokens, end_id) or first for tokens in self._tokens(prompts)]
        if completions is None:
            return [Conversation(start, [], start, None) for start in starts]
        end = self._end()
        rests = self._tokens(self._without_own_space(completions), special=False)
        found = []
        for start, answer, rest in zip(starts, completions, rests):
            tokens = [*start, *rest, *end]
            found.append(Conversation(tokens, [len(start), len(tokens)], start, answer))
        return found

    def _conversation(self, position: int, messages: Any) -> Conversation:
        try:
            return encode_chat(self.tokenizer, messages, answers=self.loss_on == "answer")
        except ChatError as error:
            raise RowError(position, str(error)) from None

    def _spans(self, conversation: Conversation, longest: int) -> _Spans:
        spans = conversation.spans
        if spans and self.loss_on == "all":  # data without answers is not trained on
            spans = [0, len(conversation.tokens)]
        pairs = zip(spans[::2], spans[1::2])
        return [edge for start, end in pairs if start < longest for edge in (start, min(end, longest))]

    def _tokens(self, texts: list[str], special: bool = True) -> list[list[int]]:
        found: list[list[int]] = self.tokenizer(
            texts, add_special_tokens=special, return_attention_mask=False, return_token_type_ids=False, verbose=False
        )["input_ids"]
        return found

    def _without_own_space(self, texts: list[str]) -> list[str]:
        """Leave out the space before texts that the tokenizer adds to each, as that of Llama 2 even where one is."""
        double = "".join(self.tokenizer.convert_ids_to_tokens(self._tokens([" a"], special=False)[0]))
        return [text.removeprefix(" ") for text in texts] if double.startswith("▁▁") else texts

    def _start(self) -> list[int]:
        """What stands for a prompt without tokens."""
        tokens = (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id, 0)
        return [next(token for token in tokens if token is not None)]

    def _end(self) -> list[int]:
        end = self.tokenizer.eos_token_id
        return [] if end is None else [end]


def _without_last(tokens: list[int], end: int | None) -> list[int]:
    """Return tokens without the one for the end of a text, which some tokenizers add."""
    return tokens[:-1] if tokens and end is not None and tokens[-1] == end else tokens

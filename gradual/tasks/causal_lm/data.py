"""The data of language modeling: texts, prompts with completions, or conversations, in files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from gradual.checks import check, number
from gradual.data.domains import Domains
from gradual.data.roles import Role
from gradual.data.task_files import TaskFileDataModule
from gradual.errors import InputError
from gradual.logging import note
from gradual.tasks.causal_lm.batch import TokenCollator
from gradual.tasks.causal_lm.chat import TurnFrame, turn_frame
from gradual.tasks.causal_lm.features import Form, LossOn, TokenFeatures
from gradual.tasks.causal_lm.task import TokenSpec
from gradual.tasks.special_tokens import MARKERS, joined_markers, special_tokens

_GENERATED = ("test", "predict")  # parts that texts are generated for


class CausalLMData(TaskFileDataModule):
    """Texts, prompts with completions, or conversations, for ``CausalLM``.

    A row has one of these, and the first that the files have is used:

    - ``messages``, a list of objects with ``role`` and ``content``, rendered by the tokenizer's chat template. The
      assistant's turns have a loss.
    - ``prompt`` and ``completion``. The completion has a loss.
    - ``text``. All of it has a loss.

    ``TokenFeatures`` says how they become tokens.

    Args:
        in_domain: Training examples of the target domain.
        text_column: Column of texts; None for ``text`` or ``sentence``.
        prompt_column: Column of prompts; None for ``prompt``.
        completion_column: Column of completions; None for ``completion``.
        messages_column: Column of conversations; None for ``messages``.
        loss_on: ``answer`` for a loss on completions and the assistant's turns, ``all`` for a loss on all tokens.
        max_padding: Maximum share of padding inside attention; there is none anywhere else in models that can read
            packed rows.
        **settings: Those of every task, see ``TaskFileDataModule``.

    Attributes:
        form: What a row consists of; available after ``setup``.
    """

    form: Form

    def __init__(
        self,
        in_domain: str | list[str],
        text_column: str | None = None,
        prompt_column: str | None = None,
        completion_column: str | None = None,
        messages_column: str | None = None,
        loss_on: LossOn = "answer",
        max_padding: float = 0.1,
        **settings: Any,
    ):
        self.forms: dict[Form, tuple[Role, ...]] = {
            "messages": (Role("messages", messages_column, ("messages",)),),
            "completion": (
                Role("prompt", prompt_column, ("prompt",), is_text=True),
                Role("completion", completion_column, ("completion",), is_text=True, predicted=True),
            ),
            "text": (Role("text", text_column, ("text", "sentence"), is_text=True),),
        }
        super().__init__(in_domain, (), **settings)
        self.loss_on: LossOn = check("loss_on", loss_on, LossOn)
        self.max_padding = number(0, below=1).check("max_padding", max_padding)

    def load(self) -> Domains:
        """Map the features from the cache, and log what is cut or has no loss."""
        domains = super().load()
        for part, table in self._read().items():
            if part == "predict":  # only its prompts are read, and the model says what it cannot read of them
                continue
            cut = sum(table["cut"])
            if cut:
                note(
                    "%d of %d examples of %s have more than %d tokens and lose their end.",
                    cut,
                    len(table),
                    part,
                    self.longest,
                )
            empty = sum(not spans for spans in table["loss_spans"])
            if empty:
                note("%d of %d examples of %s have no token with a loss.", empty, len(table), part)
        if self.form == "messages" and self.turn.end is None:
            note(
                "The chat template ends the assistant's turns with no special token: what is generated goes on up to "
                "max_new_tokens."
            )
        return domains

    def _find_columns(self, files: Mapping[str, Sequence[Any]]) -> None:
        """Find which form the rows have, then their columns."""
        from gradual.data.reading import column_names

        first = files["in_domain"][0]
        there = column_names(first)
        named = [form for form, roles in self.forms.items() if any(role.given for role in roles)]
        found = [form for form, roles in self.forms.items() if all(set(there) & {*role.usual} for role in roles)]
        if not named and not found:
            raise InputError(
                f"{first} has no column messages, none of prompt and completion, and none of text, but "
                f"{', '.join(there)}: set --data.messages_column, --data.prompt_column and --data.completion_column, "
                "or --data.text_column."
            )
        self.form = next(iter((*named, *found)))
        others = {role.name for roles in self.forms.values() for role in roles}
        self.roles = (*self.forms[self.form], *(role for role in self.roles if role.name not in others))
        super()._find_columns(files)

    def features(self, part: str) -> TokenFeatures:
        """Return what tokenizes the rows of a part.

        Raises:
            InputError: The rows are conversations, but the tokenizer has no chat template.
        """
        tokenizer = self.fast_tokenizer
        if self.form == "messages" and tokenizer.chat_template is None:
            raise InputError(
                f"The tokenizer of '{self.tokenizer}' has no chat template, which conversations need: take a model "
                "that is made for conversations, or write rows with prompt and completion."
            )
        return TokenFeatures(tokenizer, self.form, self.loss_on, self.longest, part in _GENERATED)

    def example_settings(self) -> dict[str, Any]:
        """Return what a row consists of, and which tokens have a loss."""
        return {**super().example_settings(), "form": self.form, "loss_on": self.loss_on}

    def collator(self) -> Callable[[list[dict[str, Any]]], Any]:
        """Return what packs examples."""
        return TokenCollator(self.padding, self.max_padding)

    def spec(self) -> TokenSpec:
        """Return what is known of the tokenizer and its chat template, and the special tokens in training data."""
        tokenizer = self.fast_tokenizer
        tables = [table for part, table in self._read().items() if part not in _GENERATED]
        ends = {end for end in (tokenizer.eos_token_id, self.turn.end) if end is not None}
        markers = joined_markers(table.data.column(MARKERS) for table in tables) - ends
        return TokenSpec(
            str(self.tokenizer),
            len(tokenizer),
            self.padding,
            tuple(sorted(ends)),
            before=self._without_special(self.turn.before, markers),
            markers=tuple(sorted(markers)),
        )

    @cached_property
    def turn(self) -> TurnFrame:
        """What the chat template puts around an answer; nothing where rows are no conversations."""
        if self.form != "messages":
            return TurnFrame()
        (first,) = self.tables["in_domain"].select([0])[self.column_of["messages"]]
        return turn_frame(self.fast_tokenizer, first)

    def _without_special(self, text: str, markers: set[int]) -> str:
        """Return a text as generated ones are shown: without special tokens that are no markers."""
        for id_, token in special_tokens(self.fast_tokenizer).items():
            text = text if id_ in markers else text.replace(token, "")
        return text

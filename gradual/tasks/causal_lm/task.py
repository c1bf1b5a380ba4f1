"""The LightningModule of language modeling: losses, scores and generated texts of a causal language model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from gradual.distributed import of_all_processes
from gradual.errors import InputError
from gradual.logging import note
from gradual.nn.causal import states_at, take_rows, takes_rows
from gradual.nn.pieces import logits_of
from gradual.tasks.causal_lm.batch import Prompts, TokenBatch
from gradual.tasks.causal_lm.loss import losses_of_logits, token_losses
from gradual.tasks.causal_lm.scores import LanguageScores
from gradual.tasks.generation import TEXT_SCORES, text_scores
from gradual.tasks.generative import GenerativeTask, TokenizerSpec
from gradual.tasks.scores import sums_of


@dataclass(frozen=True)
class TokenSpec(TokenizerSpec):
    """What a language model must know of its data.

    Attributes:
        end: The ids of the tokens that end a text or the assistant's turn. (Older checkpoints have an id, or None.)
        before: What the chat template puts before the content of the assistant's last turn, which is no part of it.
    """

    end: tuple[int, ...]
    before: str = ""

    def __post_init__(self) -> None:
        end: Any = self.end
        if not isinstance(end, tuple):
            object.__setattr__(self, "end", () if end is None else (end,))


class CausalLM(GenerativeTask):
    """A causal language model, trained on texts, on completions of prompts or on conversations (``CausalLMData``).

    Logs ``loss``, the mean negative log likelihood of the tokens that have a loss, and ``perplexity``, its exponential,
    for ``train``, ``val`` and ``test``. With ``generate``, answers to the test prompts are generated and compared with
    those of the data: ``test/exact_match``, ``test/rouge1``, ``test/rouge2`` and ``test/rougeL``, from 0 to 1.

    All examples of a batch are one row of tokens, without padding, in the architectures that ``gradual.nn.causal``
    lists (Llama, Mistral, Qwen, Gemma, Phi, OLMo, SmolLM, GPT-2 and others); their logits are computed only for tokens
    with a loss, and never all at once where the vocabulary is large. Others run once for each group of examples of
    similar length.

    Args:
        pretrained: A pretrained model for ``transformers``: a folder, or a name on the Hugging Face Hub.
        generate: Settings of ``transformers.GenerationConfig`` for the texts that ``test`` and ``predict`` generate, by
            default the most probable tokens, 64 at most. None to generate in ``predict`` only.
        **settings: Those of every task, see ``PretrainedTask``.
    """

    auto_class = "AutoModelForCausalLM"
    datamodule_class = "gradual.tasks.CausalLMData"
    spec_class = TokenSpec
    _prompts = _shortened = 0  # numbers of prompts that the log has not reported yet

    def make_scores(self, spec: TokenSpec) -> LanguageScores:
        """Return a new metric for a split."""
        return LanguageScores()

    def prepare_model(self, model: Any) -> None:
        """Let the model process packed rows, if it can."""
        super().prepare_model(model)
        take_rows(model)

    def generation(self) -> GenerationConfig:
        """Return the settings of generation."""
        config = super().generation()
        if config.pad_token_id is None:
            config.pad_token_id = self.spec.padding
        if config.eos_token_id is None:
            config.eos_token_id = self._ends() or None
        return config

    def test_step(self, batch: TokenBatch, batch_idx: int) -> Any:
        """Add a batch to the test scores, and return those of each example."""
        _, losses = self._losses(batch)
        counts = torch.bincount(batch.example, minlength=len(batch.ids))
        sums = losses.new_zeros(len(batch.ids), dtype=torch.float64).index_add_(0, batch.example, losses.double())
        pairs = zip(batch.ids, sums.tolist(), counts.tolist())
        records: list[dict[str, Any]] = [{"id": id_, "loss": [loss, count]} for id_, loss, count in pairs]
        scores, answered = self._text_scores(batch.prompts)
        self.scores_of("test").update(losses, scores)
        for at, row in zip(answered, [] if scores is None else scores.tolist()):
            records[at] |= {name: [value, 1] for name, value in zip(TEXT_SCORES, row)}
        return records

    def predict_step(self, batch: TokenBatch, batch_idx: int) -> list[dict[str, Any]]:
        """Return the text that is generated for each prompt."""
        assert batch.prompts is not None
        return [{"id": id_, "text": text} for id_, text in zip(batch.ids, self._texts(batch.prompts))]

    def on_test_epoch_end(self) -> None:
        """Log the test scores, and how many prompts were too long."""
        super().on_test_epoch_end()
        self._say_what_was_shortened()

    def on_predict_epoch_end(self) -> None:
        """Log how many prompts were too long."""
        self._say_what_was_shortened()

    def _say_what_was_shortened(self) -> None:
        prompts, shortened = map(sum, zip(*of_all_processes((self._prompts, self._shortened))))
        self._prompts = self._shortened = 0
        if shortened:
            positions, new = self.model.config.max_position_embeddings, self.generation().max_new_tokens
            note(
                "%d of %d prompts have more than %d tokens and lose their start: the model reads %d, %d of which are "
                "kept for the generated text (max_new_tokens).",
                *(shortened, prompts, positions - new, positions, new),
            )

    def _step(self, batch: TokenBatch, split: str) -> Tensor:
        """Return the mean loss of a token, and add a batch to the scores of the split."""
        total, losses = self._losses(batch)
        self.scores_of(split).update(losses)
        if batch.source is not None:
            self.add_source_losses(split, *sums_of(losses, batch.example, len(batch.ids)), batch.source)
        return total / self.mean_count(total, len(losses))

    def _losses(self, batch: TokenBatch) -> tuple[Tensor, Tensor]:
        """Return the sum of the losses, and each of them without a gradient, shape ``(K,)``."""
        if takes_rows(self.model):
            states = states_at(self.model, batch.pieces.ids, batch.pieces.packing, batch.before)
            return token_losses(states, batch.targets, self.model.get_output_embeddings())
        logits = logits_of(self.model, batch.pieces, by_token=True, padding=self.spec.padding)
        losses = losses_of_logits(logits[batch.before], batch.targets)
        return losses.sum(), losses.detach()

    def _text_scores(self, prompts: Prompts | None) -> tuple[Tensor | None, list[int]]:
        """Generate answers and compare them with those of the data, if this was asked for.

        Returns:
            The scores of the prompts that have an answer in the data, None if there are none, and their positions.
        """
        if self.generate is None or prompts is None:
            return None, []
        answers = {at: answer for at, answer in enumerate(prompts.answers) if answer is not None}
        answered = list(answers)
        if not answered:
            return None, []
        chosen = Prompts(prompts.ids[answered], prompts.mask[answered], list(answers.values()))
        return text_scores(self._texts(chosen), list(answers.values())), answered

    def _texts(self, prompts: Prompts) -> list[str]:
        """Generate what follows the prompts, of which a model with a limit reads as much of the end as it can."""
        config = self.generation()
        ids, mask = prompts.ids, prompts.mask
        positions = getattr(self.model.config, "max_position_embeddings", None)
        if positions is not None:
            room = positions - config.max_new_tokens
            if room < 1:
                raise InputError(
                    f"generate.max_new_tokens is {config.max_new_tokens}: it must be below {positions}, the number of "
                    "tokens that the model reads at most."
                )
            self._prompts += len(ids)
            self._shortened += int((mask.sum(1) > room).sum())
            ids, mask = ids[:, -room:], mask[:, -room:]
        made = self.generated(config, ids, mask)
        return [text.removeprefix(self.spec.before) for text in self.decoded(made[:, ids.shape[1] :])]

    def _ends(self) -> list[int]:
        """The tokens that end a text: those of the data, and those of the pretrained model."""
        own = self.model.generation_config.eos_token_id
        ends = [*self.spec.end, *(own if isinstance(own, list) else [own])]
        return sorted({end for end in ends if end is not None})

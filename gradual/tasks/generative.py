"""The base class of the tasks whose models generate texts."""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from transformers import GenerationConfig

from gradual.errors import InputError
from gradual.logging import say_once
from gradual.nn.encoder import load_tokenizer
from gradual.tasks.generation import generation_config
from gradual.tasks.pretrained import PretrainedTask
from gradual.tasks.special_tokens import special_tokens

_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff")
# what keeps generation from the most probable text, which models bring along for the texts that they were made for
_INHERITED = (
    *("num_beams", "length_penalty", "min_length", "min_new_tokens", "exponential_decay_length_penalty"),
    *("repetition_penalty", "encoder_repetition_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size"),
)
_WITHOUT_EFFECT = (None, 0, 1)


@dataclass(frozen=True)
class TokenizerSpec:
    """What a model that generates texts must know of its data.

    Attributes:
        tokenizer: Folder or hub name of the tokenizer.
        vocabulary: Number of its tokens.
        padding: The id of the token that fills up a batch.
        markers: The ids of special tokens that targets spell out, which generated texts keep.
    """

    tokenizer: str
    vocabulary: int
    padding: int
    markers: tuple[int, ...] = field(default=(), kw_only=True)  # which older checkpoints do not have


class GenerativeTask(PretrainedTask):
    """A task whose model generates texts; its spec is derived from ``TokenizerSpec``.

    Args:
        pretrained: A pretrained model for ``transformers``: a folder, or a name on the Hugging Face Hub.
        generate: Settings of ``transformers.GenerationConfig``; what neither they nor the task set is as in the
            pretrained model.
        **settings: Those of every task, see ``PretrainedTask``.
    """

    def __init__(self, pretrained: str, generate: dict[str, Any] | None = None, **settings: Any):
        super().__init__(pretrained, **settings)
        self.generate = generate
        generation_config(generate or {})  # refuses what is wrong before anything is trained

    def model_config(self, spec: TokenizerSpec) -> dict[str, Any]:
        """The model stays as it is."""
        return {}

    def prepare_model(self, model: Any) -> None:
        """Check that the model knows all tokens, and what it brings along for generation if texts are compared.

        Raises:
            InputError: The tokenizer has more tokens than the model, or texts must be longer than they may be.
        """
        known = len(model.get_input_embeddings().weight)  # LoRA may be beside it
        if self.spec.vocabulary > known:
            raise InputError(
                f"The tokenizer '{self.spec.tokenizer}' has {self.spec.vocabulary} tokens, but the model knows {known}."
            )
        if self.generates:
            self._check_inherited(model)

    def difference(self, trained: TokenizerSpec, data: TokenizerSpec) -> str | None:
        """Tokenizers may be in different places, but must be the same size."""
        if trained.vocabulary == data.vocabulary:
            return None
        return f"its tokenizer has {trained.vocabulary} tokens, but the one of the data has {data.vocabulary}"

    @property
    def generates(self) -> bool:
        """Whether texts are compared with those of the data."""
        return self.generate is not None

    def generation_settings(self) -> dict[str, Any]:
        """Return the settings of generation that are not those of the pretrained model."""
        return self.generate or {}

    def generation(self) -> GenerationConfig:
        """Return the settings of generation; what is None in them is as in the pretrained model."""
        return generation_config(self.generation_settings())

    def on_predict_start(self) -> None:
        """Check what the model brings along for generation."""
        self._check_inherited(self.model)

    def _check_inherited(self, model: Any) -> None:
        """Say which settings of generation are those of the pretrained model.

        Raises:
            InputError: Texts must be longer than they may be, so that none could end.
        """
        settings, theirs = self.generation_settings(), model.generation_config
        inherited = {
            name: value
            for name in _INHERITED
            if name not in settings and (value := getattr(theirs, name, None)) not in _WITHOUT_EFFECT
        }
        if inherited:
            named = ", ".join(f"{name}: {value}" for name, value in inherited.items())
            say_once(
                logging.INFO,
                f"Texts are generated with what the pretrained model sets: {{{named}}}; generate overrides it.",
            )
        most = generation_config(settings).max_new_tokens
        # min_new_tokens overrides min_length, which counts the prompt where there is no encoder
        for name in ("min_new_tokens", "min_length") if model.config.is_encoder_decoder else ("min_new_tokens",):
            least = (inherited | settings).get(name)
            if least is not None:
                if least > most:
                    raise InputError(_too_long(name, least, most, name in inherited))
                break

    def generated(self, config: GenerationConfig, ids: Tensor, mask: Tensor) -> Tensor:
        """Generate tokens.

        Args:
            config: The settings.
            ids: Token ids that the model reads, shape ``(n, L)``.
            mask: 1 for tokens, 0 for padding, same shape.

        Returns:
            The tokens, for a model without an encoder after those that it has read, shape ``(n, M)``.
        """
        tokens: Tensor = self.model.generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=config,
            synced_gpus=isinstance(self.model, FSDPModule),  # each call gathers weights: all make as many
        )
        return tokens

    def decoded(self, tokens: Tensor) -> list[str]:
        """Return generated tokens as texts, as they are, without special tokens that no target spells out.

        Args:
            tokens: Token ids, shape ``(n, M)``.
        """
        hidden = special_tokens(self.tokenizer).keys() - {*self.spec.markers}
        rows = [[token for token in row if token not in hidden] for row in tokens.tolist()]
        texts: list[str] = self.tokenizer.batch_decode(rows, clean_up_tokenization_spaces=False)
        return texts

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer, loaded."""
        return load_tokenizer(self.spec.tokenizer, trust_remote_code=self.trust_remote_code)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder that ``transformers`` loads, whose ``generate`` generates the same texts by default."""
        super().save_pretrained(folder)
        config = copy.deepcopy(self.model.generation_config)
        config.max_length = None
        config.update(**{name: value for name, value in self.generation().to_dict().items() if value is not None})
        if not config.do_sample:
            config.update(**dict.fromkeys(_SAMPLING))
        config.save_pretrained(folder)


def _too_long(name: str, least: int, most: int, inherited: bool) -> str:
    if inherited:
        return (
            f"The pretrained model generates at least {least} tokens ({name}), but texts may have at most {most} "
            f"(max_new_tokens): set generate to {{{name}: 0}}."
        )
    return f"generate.{name} is {least}: it must be at most {most}, the number of tokens that texts may have."

"""The base class of the tasks whose models generate texts."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from transformers import GenerationConfig

from gradual.errors import InputError
from gradual.nn.encoder import load_tokenizer
from gradual.tasks.generation import generation_config
from gradual.tasks.pretrained import PretrainedTask

_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff")


@dataclass(frozen=True)
class TokenizerSpec:
    """What a model that generates texts must know of its data.

    Attributes:
        tokenizer: Folder or hub name of the tokenizer.
        vocabulary: Number of its tokens.
        padding: The id of the token that fills up a batch.
    """

    tokenizer: str
    vocabulary: int
    padding: int


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
        """Check that the model knows all tokens.

        Raises:
            InputError: The tokenizer has more tokens than the model.
        """
        known = len(model.get_input_embeddings().weight)  # LoRA may be beside it
        if self.spec.vocabulary > known:
            raise InputError(
                f"The tokenizer '{self.spec.tokenizer}' has {self.spec.vocabulary} tokens, but the model knows {known}."
            )

    def difference(self, trained: TokenizerSpec, data: TokenizerSpec) -> str | None:
        """Tokenizers may be in different places, but must be the same size."""
        if trained.vocabulary == data.vocabulary:
            return None
        return f"its tokenizer has {trained.vocabulary} tokens, but the one of the data has {data.vocabulary}"

    def generation(self) -> GenerationConfig:
        """Return the settings of generation; what is None in them is as in the pretrained model."""
        return generation_config(self.generate or {})

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

"""The LightningModule of sequence-to-sequence tasks: losses, generated texts and their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from transformers import GenerationConfig

from gradual.checks import check
from gradual.errors import InputError, did_you_mean
from gradual.tasks.generative import GenerativeTask, TokenizerSpec
from gradual.tasks.seq2seq.batch import IGNORED, Group, PairBatch
from gradual.tasks.seq2seq.scores import FROM_SACREBLEU, MEANS, SCORES, PairScores, compared


@dataclass(frozen=True)
class PairSpec(TokenizerSpec):
    """What a sequence-to-sequence model must know of its data.

    Attributes:
        longest_target: Number of tokens of the longest target, test data left aside.
    """

    longest_target: int


class Seq2Seq(GenerativeTask):
    """An encoder-decoder model, such as T5 or BART, trained on sources with targets (``Seq2SeqData``).

    The loss is the mean negative log likelihood of a token of the targets. Logs it for ``train``, ``val`` and ``test``,
    and for ``test`` the scores of generated texts, all from 0 to 1:

    - ``exact_match``, the share of texts that are the target, apart from white space around them;
    - ``rouge1``, ``rouge2`` and ``rougeL``, mean F1, of words of Latin letters and digits;
    - ``sentence_chrf``, mean chrF of a text; ``chrf`` and ``bleu``, those of all texts together, as sacrebleu computes
      them (a hundredth of what it prints). These need ``gradual[text]``.

    Differences between strategies are tested for significance in the loss and in scores that are means over texts.

    A batch is processed in groups of examples of similar length.

    Args:
        pretrained: A pretrained model for ``transformers``: a folder, or a name on the Hugging Face Hub such as
            ``google/flan-t5-small``.
        generate: Settings of ``transformers.GenerationConfig`` such as ``{num_beams: 4}``. Unless they say otherwise,
            texts are the most probable ones, not drawn at random, and at most as long as the longest target of training
            and validation; all else is as in the pretrained model.
        scores: The scores of the texts that are generated for ``test``: any of ``exact_match``, ``rouge1``, ``rouge2``,
            ``rougeL``, ``sentence_chrf``, ``chrf`` and ``bleu``; an empty list to generate none.
        val_scores: The same for each validation, where generating takes time; one of them may be the ``monitor``, such
            as ``val/rougeL``.
        **settings: Those of every task, see ``PretrainedTask``.
    """

    auto_class = "AutoModelForSeq2SeqLM"
    datamodule_class = "gradual.tasks.Seq2SeqData"
    spec_class = PairSpec

    def __init__(
        self,
        pretrained: str,
        generate: dict[str, Any] | None = None,
        scores: Sequence[str] = ("exact_match", "rougeL"),
        val_scores: Sequence[str] = (),
        **settings: Any,
    ):
        super().__init__(pretrained, generate, **settings)
        self.text_scores = {"test": _names("scores", scores), "val": _names("val_scores", val_scores)}

    def make_scores(self, spec: PairSpec) -> PairScores:
        """Return a new metric for a split."""
        return PairScores()

    def prepare_model(self, model: Any) -> None:
        """Check that the model knows all tokens, and how to begin a target.

        Raises:
            InputError: It does not.
        """
        super().prepare_model(model)
        for name in ("decoder_start_token_id", "pad_token_id"):
            if getattr(model.config, name, None) is None:
                raise InputError(
                    f"The model's config.json has no {name}, which an encoder-decoder model needs: add it."
                )

    @property
    def generates(self) -> bool:
        """Whether texts are compared with targets."""
        return any(self.text_scores.values())

    def generation_settings(self) -> dict[str, Any]:
        """Return the settings of generation that are not those of the pretrained model."""
        return {"max_new_tokens": self.spec.longest_target, **super().generation_settings()}

    def generation(self) -> GenerationConfig:
        """Return the settings of generation."""
        config = super().generation()
        positions = getattr(self.model.config, "max_position_embeddings", None)
        if positions is not None and config.max_new_tokens > positions:
            raise InputError(
                f"generate.max_new_tokens is {config.max_new_tokens}: it must be at most {positions}, the number of "
                "tokens that the model takes."
            )
        return config

    def test_step(self, batch: PairBatch, batch_idx: int) -> Any:
        """Add a batch to the test scores, and return those of each example."""
        losses, tokens = self.losses(batch)
        texts = self._compare(batch, "test")
        self.scores_of("test").update(losses, tokens, texts)
        by_name = {name: values.tolist() for name, values in texts.items() if name in MEANS}
        return [
            {"id": id_, "loss": [loss, count], **{name: [values[at], 1] for name, values in by_name.items()}}
            for at, (id_, loss, count) in enumerate(zip(batch.ids, losses.tolist(), tokens.tolist()))
        ]

    def predict_step(self, batch: PairBatch, batch_idx: int) -> list[dict[str, Any]]:
        """Return the text that is generated for each source."""
        return [{"id": id_, "text": text} for id_, text in zip(batch.ids, self.texts(batch))]

    def losses(self, batch: PairBatch) -> tuple[Tensor, Tensor]:
        """Compute the negative log likelihoods of targets.

        Returns:
            The sum over the tokens of each target, and their number; both have shape ``(n,)``.
        """
        labels = batch.labels
        assert labels is not None
        groups = batch.groups
        if isinstance(self.model, FSDPModule):  # each call gathers weights, so all processes must make as many
            everything = torch.arange(len(labels), device=labels.device)
            groups = [Group(everything, batch.source.shape[1], labels.shape[1])]
        sums = []
        for group in groups:
            target = labels[group.rows, : group.target]
            logits = self.model(
                input_ids=batch.source[group.rows, : group.source],
                attention_mask=batch.mask[group.rows, : group.source],
                decoder_input_ids=self._decoder_inputs(target),
                use_cache=False,
            ).logits
            precise = logits.flatten(0, 1).to(torch.promote_types(logits.dtype, torch.float32))
            each = F.cross_entropy(precise, target.flatten(), ignore_index=IGNORED, reduction="none")
            sums.append(each.view_as(target).sum(1))
        rows = torch.cat([group.rows for group in groups])
        return torch.cat(sums)[rows.argsort()], (labels != IGNORED).sum(1)

    def texts(self, batch: PairBatch) -> list[str]:
        """Generate a text for each source."""
        tokens = self.generated(self.generation(), batch.source, batch.mask)
        return self.decoded(tokens[:, 1:])  # without the token that the decoder starts with

    def _decoder_inputs(self, labels: Tensor) -> Tensor:
        """Return what the decoder reads to predict the labels: the token before each, shape ``(n, T)``."""
        if hasattr(self.model, "prepare_decoder_input_ids_from_labels"):
            shifted: Tensor = self.model.prepare_decoder_input_ids_from_labels(labels=labels)
            return shifted
        config = self.model.config  # such models, like M2M100, shift in this way inside their forward pass
        start = labels.new_full((len(labels), 1), config.decoder_start_token_id)
        return torch.cat([start, labels[:, :-1].masked_fill(labels[:, :-1] == IGNORED, config.pad_token_id)], 1)

    def _compare(self, batch: PairBatch, split: str) -> dict[str, Tensor]:
        """Generate texts and compare them with the targets, where this was asked for."""
        names = self.text_scores.get(split)
        if not names:
            return {}
        assert batch.answers is not None
        return compared(self.texts(batch), batch.answers, names)

    def _step(self, batch: PairBatch, split: str) -> Tensor:
        """Return the mean loss of a token, and add a batch to the scores of the split."""
        losses, tokens = self.losses(batch)
        self.scores_of(split).update(losses, tokens, self._compare(batch, split))
        self.add_source_losses(split, losses, tokens, batch.source_number)
        return losses.sum() / self.mean_count(losses, tokens.sum())


def _names(setting: str, given: Sequence[str]) -> tuple[str, ...]:
    """Check names of scores.

    Raises:
        InputError: There is no such score, or the package that computes it is missing.
    """
    names: list[str] = check(setting, list(given), list[str])
    for name in names:
        if name not in SCORES:
            raise InputError(f"{setting} has '{name}': it may have {', '.join(SCORES)}.{did_you_mean(name, SCORES)}")
        if name in FROM_SACREBLEU and find_spec("sacrebleu") is None:
            raise InputError(f"The score {name} needs the package sacrebleu: pip install 'gradual[text]'.")
    return tuple(dict.fromkeys(names))

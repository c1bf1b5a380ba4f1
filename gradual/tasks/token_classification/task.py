"""The LightningModule of tagging: losses, scores and predictions."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gradual.errors import InputError
from gradual.nn.pieces import logits_of, prepare_for_pieces
from gradual.tasks.pretrained import PretrainedTask
from gradual.tasks.scores import TaskScores, sums_of
from gradual.tasks.token_classification.features import TagBatch
from gradual.tasks.token_classification.labels import TagSpec
from gradual.tasks.token_classification.scores import SpanScores, TagScores


class TokenClassifier(PretrainedTask):
    """Tagging of words, on the data of a ``TokenClassificationData``.

    The first word piece of a word stands for it. The loss is the cross-entropy, averaged over words as in
    ``transformers``; tags that the schema of a sentence lacks are left out of it.

    Logs ``loss`` and, for ``train``, ``val`` and ``test``, ``precision``, ``recall`` and ``f1`` of spans as
    ``conlleval`` and ``seqeval`` count them, or the ``accuracy`` of tags that describe no spans.

    Args:
        pretrained: A pretrained encoder for ``transformers``: a folder, or a name on the Hugging Face Hub such as
            ``roberta-base``.
        per_type_scores: Also log the scores of each type of span, as ``f1/TYPE``.
        **settings: Those of every task, see ``PretrainedTask``.
    """

    auto_class = "AutoModelForTokenClassification"
    datamodule_class = "gradual.tasks.TokenClassificationData"
    spec_class = TagSpec

    def __init__(self, pretrained: str, per_type_scores: bool = False, **settings: Any):
        super().__init__(pretrained, **settings)
        self.per_type_scores = per_type_scores

    def model_config(self, spec: TagSpec) -> dict[str, Any]:
        """Return the tags."""
        return {
            "num_labels": len(spec.tags),
            "id2label": dict(enumerate(spec.tags)),
            "label2id": {tag: at for at, tag in enumerate(spec.tags)},
            "pad_token_id": spec.padding,
        }

    def make_scores(self, spec: TagSpec) -> TaskScores:
        """Return the scores of a split."""
        return SpanScores(spec.tags, self.per_type_scores) if spec.spans else TagScores()

    def main_score(self, spec: TagSpec) -> str:
        """Return the score that is usually reported."""
        return "f1" if spec.spans else "accuracy"

    def prepare_model(self, model: Any) -> None:
        """Let the encoder read sentences without padding, where it can."""
        prepare_for_pieces(model, by_token=True)

    def difference(self, trained: TagSpec, data: TagSpec) -> str | None:
        """Compare the tags; the schemas of the parts may differ."""
        if trained.tags == data.tags:
            return None
        sides = (("the data", data, trained), ("the model", trained, data))
        alone = [(who, [tag for tag in one.tags if tag not in other.tags]) for who, one, other in sides]
        return "; ".join(f"only {who} has the tags {', '.join(tags)}" for who, tags in alone if tags)

    def forward(self, batch: TagBatch) -> Tensor:
        """Return the logits of all words, shape ``(W, tags)``."""
        logits = logits_of(self.model, batch.pieces, by_token=True, padding=self.spec.padding)
        return logits.index_select(0, batch.word).float()

    def loss(self, logits: Tensor, batch: TagBatch, reduction: str = "sum") -> Tensor:
        """Return the loss, summed over words; with the reduction ``none`` that of each word, shape ``(W,)``.

        Raises:
            InputError: The batch has no tags.
        """
        if batch.tags is None:
            raise InputError("These sentences have no tags: their loss cannot be computed.")
        if self.spec.allowed:
            allowed = torch.tensor(self.spec.allowed, device=logits.device)[batch.schema]
            logits = logits.masked_fill(~allowed[batch.sentence], -torch.inf)
        return F.cross_entropy(logits, batch.tags, reduction=reduction)

    def test_step(self, batch: TagBatch, batch_idx: int) -> Any:
        """Add a batch to the test scores, and return the scores of each sentence."""
        logits = self(batch)
        self._score(logits, batch, "test")
        return self.scores_of("test").of_examples(logits.argmax(1), batch.tags, batch.sentence, batch.ids)

    def predict_step(self, batch: TagBatch, batch_idx: int) -> list[dict[str, Any]]:
        """Return ``id``, ``tokens`` and ``tags`` of each sentence."""
        assert batch.words is not None, "data to predict keeps its words"
        tags = iter([self.spec.tags[at] for at in self(batch).argmax(1).tolist()])
        return [
            {"id": id_, "tokens": words, "tags": [next(tags) for _ in words]}
            for id_, words in zip(batch.ids, batch.words)
        ]

    def _score(self, logits: Tensor, batch: TagBatch, split: str) -> Tensor:
        """Add a batch to the scores of a split; returns the loss summed over words."""
        loss = self.loss(logits, batch)
        self.scores_of(split).update(logits.detach().argmax(1), batch.tags, batch.sentence, loss)
        if batch.source is not None:
            losses = self.loss(logits.detach(), batch, "none")
            self.add_source_losses(split, *sums_of(losses, batch.sentence, len(batch.ids)), batch.source)
        return loss

    def _step(self, batch: TagBatch, split: str) -> Tensor:
        """Return the mean loss of a batch."""
        loss = self._score(self(batch), batch, split)
        return loss / self.mean_count(loss, len(batch.word))

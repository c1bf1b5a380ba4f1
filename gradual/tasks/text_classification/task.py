"""The LightningModule of text classification: losses, scores and predictions."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gradual.checks import number
from gradual.errors import InputError
from gradual.nn.pieces import logits_of, prepare_for_pieces
from gradual.tasks.pretrained import PretrainedTask
from gradual.tasks.scores import TaskScores
from gradual.tasks.text_classification.features import TextBatch
from gradual.tasks.text_classification.labels import TextSpec, in_words
from gradual.tasks.text_classification.scores import LabelScores, NumberScores

_PROBLEMS = {
    "label": "single_label_classification",
    "labels": "multi_label_classification",
    "number": "regression",
}
_DIGITS = 4


class TextClassifier(PretrainedTask):
    """Classification of texts, or of pairs of texts, on the data of a ``TextClassificationData``.

    For one label the loss is the cross-entropy; for several labels, the binary cross-entropy averaged over labels; for
    a number, the squared error. Each is averaged over texts, as in ``transformers``. Labels that the schema of a text
    lacks are left out of its loss.

    Logs ``loss``, ``accuracy`` (all labels of a text are right), ``micro_f1`` and ``macro_f1``, or for a number
    ``pearson``, ``spearman`` and ``mse``, for ``train``, ``val`` and ``test``.

    Args:
        pretrained: A pretrained encoder for ``transformers``: a folder, or a name on the Hugging Face Hub such as
            ``roberta-base``.
        threshold: Least probability with which a label is predicted where a text may have several.
        per_label_scores: Also log the F1 of each label, as ``f1/LABEL``.
        **settings: Those of every task, see ``PretrainedTask``.
    """

    auto_class = "AutoModelForSequenceClassification"
    datamodule_class = "gradual.tasks.TextClassificationData"
    spec_class = TextSpec

    def __init__(self, pretrained: str, threshold: float = 0.5, per_label_scores: bool = False, **settings: Any):
        super().__init__(pretrained, **settings)
        self.threshold = number(above=0, below=1).check("threshold", threshold)
        self.per_label_scores = per_label_scores

    def model_config(self, spec: TextSpec) -> dict[str, Any]:
        """Return the labels and the kind of problem."""
        names = spec.labels or ("score",)
        return {
            "num_labels": len(names),
            "id2label": dict(enumerate(names)),
            "label2id": {name: at for at, name in enumerate(names)},
            "problem_type": _PROBLEMS[spec.target],
            "pad_token_id": spec.padding,
        }

    def make_scores(self, spec: TextSpec) -> TaskScores:
        """Return the scores of a split."""
        return LabelScores(spec.labels, self.per_label_scores) if spec.labels else NumberScores()

    def main_score(self, spec: TextSpec) -> str:
        """Return the score that counts all labels alike, or the correlation of numbers; the loss of several labels.

        The F1 of several labels of a text is 0 until one of them is more likely than not, which may take many epochs
        in which the loss already falls: patience would end a stage before it has begun to learn.
        """
        return {"label": "macro_f1", "labels": "loss", "number": "pearson"}[spec.target]

    def predicted_in_words(self, spec: TextSpec) -> str:
        """Say whether it is a label, several labels or a number."""
        return in_words(spec.target, len(spec.labels))

    def begins_on_plateau(self, spec: TextSpec) -> bool:
        """Return whether texts have several labels: for hundreds of steps a model may only learn how frequent they are.

        With as much patience as for one label, a pool of 1,500 texts with 62 labels was left on this plateau, without
        a single label predicted, under one seed in three.
        """
        return spec.target == "labels"

    def prepare_model(self, model: Any) -> None:
        """Let the encoder read texts without padding, where it can."""
        prepare_for_pieces(model, by_token=False)

    def difference(self, trained: TextSpec, data: TextSpec) -> str | None:
        """Compare target and labels; the schemas of the parts may differ."""
        if trained.target != data.target:
            return f"it was trained to predict a {trained.target}, but the data has a {data.target}"
        if trained.labels == data.labels:
            return None
        sides = (("the data", data, trained), ("the model", trained, data))
        alone = [(who, [label for label in one.labels if label not in other.labels]) for who, one, other in sides]
        return "; ".join(f"only {who} has the labels {', '.join(labels)}" for who, labels in alone if labels)

    def forward(self, batch: TextBatch) -> Tensor:
        """Return logits, shape ``(n, labels)``; for numbers, the predicted numbers, shape ``(n,)``."""
        logits = logits_of(self.model, batch.pieces, by_token=False, padding=self.spec.padding).float()
        return logits if self.spec.labels else logits[:, 0]

    def losses(self, logits: Tensor, batch: TextBatch) -> Tensor:
        """Return the loss of each text, shape ``(n,)``.

        Raises:
            InputError: The batch has no labels.
        """
        if batch.gold is None:
            raise InputError("These texts have no labels: their loss cannot be computed.")
        if self.spec.target == "number":
            return (logits - batch.gold).square()
        allowed = torch.tensor(self.spec.allowed, device=logits.device)[batch.schema] if self.spec.allowed else None
        if self.spec.target == "label":
            if allowed is not None:
                logits = logits.masked_fill(~allowed, -torch.inf)
            return F.cross_entropy(logits, batch.gold.to(torch.uint8).argmax(1), reduction="none")
        each = F.binary_cross_entropy_with_logits(logits, batch.gold.to(logits.dtype), reduction="none")
        if allowed is None:
            return each.mean(1)
        return (each * allowed).sum(1) / allowed.sum(1).clamp_min(1)

    def predicted(self, logits: Tensor) -> Tensor:
        """Return which labels are predicted, booleans of shape ``(n, labels)``."""
        if self.spec.target == "label":
            return F.one_hot(logits.argmax(1), logits.shape[1]).bool()
        return logits.sigmoid() >= self.threshold

    def test_step(self, batch: TextBatch, batch_idx: int) -> Any:
        """Add a batch to the test scores, and return the scores of each text."""
        logits = self(batch)
        losses = self._score(logits, batch, "test")
        assert batch.gold is not None
        if not self.spec.labels:
            return [{"id": id_, "mse": [error, 1]} for id_, error in zip(batch.ids, losses.tolist())]
        predicted, gold = self.predicted(logits), batch.gold
        right = (predicted == gold).all(1).long()
        both, either = 2 * (predicted & gold).sum(1), predicted.sum(1) + gold.sum(1)
        return [
            {"id": id_, "accuracy": [one, 1], "micro_f1": [twice, count]}
            for id_, one, twice, count in zip(batch.ids, right.tolist(), both.tolist(), either.tolist())
        ]

    def predict_step(self, batch: TextBatch, batch_idx: int) -> list[dict[str, Any]]:
        """Return ``id``, ``label`` and ``score`` of each text.

        The score is the probability of the label. Where a text may have several labels, both are lists, with the most
        probable label first; for numbers there is only a score.
        """
        logits = self(batch)
        if not self.spec.labels:
            return [{"id": id_, "score": value} for id_, value in zip(batch.ids, logits.tolist())]
        if self.spec.target == "label":
            best = logits.softmax(1).max(1)
            found = zip(batch.ids, best.indices.tolist(), best.values.tolist())
            return [{"id": id_, "label": self.spec.labels[at], "score": round(p, _DIGITS)} for id_, at, p in found]
        ordered = logits.sigmoid().sort(1, descending=True)
        records = []
        for id_, indices, values in zip(batch.ids, ordered.indices.tolist(), ordered.values.tolist()):
            kept = [(self.spec.labels[at], round(p, _DIGITS)) for at, p in zip(indices, values) if p >= self.threshold]
            records.append({"id": id_, "label": [label for label, _ in kept], "score": [p for _, p in kept]})
        return records

    def _score(self, logits: Tensor, batch: TextBatch, split: str) -> Tensor:
        """Add a batch to the scores of a split; returns the losses."""
        losses = self.losses(logits, batch)
        predicted = self.predicted(logits.detach()) if self.spec.labels else logits
        self.scores_of(split).update(predicted, batch.gold, losses)
        self.add_source_losses(split, losses, torch.ones_like(losses), batch.source)
        return losses

    def _step(self, batch: TextBatch, split: str) -> Tensor:
        """Return the mean loss of a batch."""
        losses = self._score(self(batch), batch, split)
        return losses.sum() / self.mean_count(losses, len(losses))

"""A bag of words for three classes, on batches of ``input_ids`` and ``label``; any project's model could be this."""

import torch
from lightning.pytorch import LightningModule
from torch import nn


class WordCounts(LightningModule):
    def __init__(self, words: int = 20):
        super().__init__()
        self.scores = nn.EmbeddingBag(words, 3, mode="sum")

    def _loss(self, batch) -> torch.Tensor:
        scores = self.scores(batch["input_ids"], per_sample_weights=batch["attention_mask"].float())
        return nn.functional.cross_entropy(scores, batch["label"])

    def training_step(self, batch, batch_idx):
        return self._loss(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self._loss(batch), batch_size=len(batch["label"]))

    def test_step(self, batch, batch_idx):
        self.log("test/loss", self._loss(batch), batch_size=len(batch["label"]))

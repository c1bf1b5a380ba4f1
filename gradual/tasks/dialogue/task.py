"""The LightningModule of dialogue state tracking: losses, scores and predictions of ``Sumbt``."""

from __future__ import annotations

import logging
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gradual.checks import integer
from gradual.errors import InputError
from gradual.logging import say_once
from gradual.nn.encoder import load_encoder, load_tokenizer, weights_of
from gradual.tasks.base import TaskModule
from gradual.tasks.dialogue.data import DialogueSpec, Ontology, belief_state
from gradual.tasks.dialogue.features import TurnBatch
from gradual.tasks.dialogue.metrics import BeliefScores, dialogue_scores
from gradual.tasks.dialogue.model import Sumbt, batch_loss, turn_losses
from gradual.tasks.dialogue.vectors import text_vectors, tokenized_alike

_ALIKE = "ontology, slot '{}': the encoder's tokenizer cannot tell {} apart, so that only {} is ever predicted."


class DialogueStateTracker(TaskModule):
    """Dialogue state tracking with SUMBT (Lee et al., 2019), trained as in Section 4.1 of the paper.

    The ontology comes from a ``DialogueDataModule``. The vectors of slots and values are frozen where a stage does not
    train them: ``optimizer={"trainable_by_name": {"model.*_vectors": True}}`` does, as in the fine-tuning stages of the
    paper's published code. Logs ``loss``, ``slot_accuracy`` and ``joint_accuracy`` (on the
    target domain), ``slot_accuracy_all`` and ``joint_accuracy_all``, for ``train``, ``val`` and ``test``.

    Args:
        encoder: A pretrained encoder for ``transformers``: a folder, or a name on the Hugging Face Hub such as
            ``bert-base-uncased``.
        encoder_layers: Number of encoder layers to keep, from the first; None for all. Slot and value vectors always
            come from the whole encoder.
        vectors: Represent slots and values by the state of the first word piece (``cls``, as in the paper) or by the
            mean over word pieces (``mean``, better with sentence encoders).
        vector_scale: Factor on slot and value vectors.
        distance: Compare belief and value vectors by ``euclidean`` distance (as in the paper) or ``cosine`` similarity.
        heads: Number of heads of the slot attention.
        hidden: Width of the belief tracker's GRU.
        per_slot_scores: Also log the accuracy of each slot of the target domain.
        trust_remote_code: Run Python code that comes with the encoder, from its folder or the Hub. If off, such
            encoders are refused.
    """

    datamodule_class = "gradual.tasks.dialogue.DialogueDataModule"

    def __init__(
        self,
        encoder: str,
        encoder_layers: int | None = None,
        vectors: Literal["cls", "mean"] = "cls",
        vector_scale: float = 1.0,
        distance: Literal["euclidean", "cosine"] = "euclidean",
        heads: int = 4,
        hidden: int = 300,
        per_slot_scores: bool = False,
        trust_remote_code: bool = False,
    ):
        super().__init__()
        self.save_hyperparameters(ignore=["trust_remote_code"])
        self.trust_remote_code = trust_remote_code
        integer(1).check("hidden", hidden)
        pretrained = load_encoder(encoder, encoder_layers, trust_remote_code)
        if heads < 1 or pretrained.config.hidden_size % heads:
            raise InputError(f"heads is {heads}: it must divide the encoder's width, {pretrained.config.hidden_size}.")
        # transformers loads encoders in evaluation mode, and Lightning trains modules in the mode it finds them in
        self.model = Sumbt(pretrained, heads, hidden, distance).train()
        self.pretrained_weights = weights_of(encoder)  # the vectors also depend on layers that the model does not keep
        self.ontology: Ontology | None = None
        self._trained_on: Ontology | None = None  # according to a checkpoint
        self._target_slots: tuple[int, ...] | None = None

    def configure_data(self, spec: Any) -> None:
        """Take the ontology, or check that it is the one the model was trained with."""
        spec = self.expect(spec, DialogueSpec)
        for known in (self._trained_on, self.ontology):
            if known is not None:
                _check_same(known, spec.ontology)
        self.ontology = spec.ontology
        if spec.target_slots != self._target_slots:
            self._target_slots, per_slot = spec.target_slots, self.hparams["per_slot_scores"]
            self.add_scores(lambda: BeliefScores(spec.ontology.slots, spec.target_slots, per_slot))

    def setup(self, stage: str) -> None:
        """Make the slot and value vectors, before Lightning changes the default type of tensors for new layers."""
        self.configure_model()

    def configure_model(self) -> None:
        """Encode the slots and values of the ontology, unless there are vectors of them."""
        if self.ontology is not None and self.model.slot_vectors is None:
            self._encode_ontology(self.ontology)

    def _encode_ontology(self, ontology: Ontology) -> None:
        name, trusted = self.hparams["encoder"], self.trust_remote_code
        frozen = load_encoder(name, trust_remote_code=trusted).to(self.device)
        tokenizer = load_tokenizer(name, trust_remote_code=trusted)
        for slot, values in zip(ontology.slots, ontology.values):
            for alike in tokenized_alike(tokenizer, values):
                say_once(logging.WARNING, _ALIKE.format(slot, ", ".join(map(repr, alike)), repr(alike[0])))
        texts = list(dict.fromkeys([*ontology.slots, *(value for values in ontology.values for value in values)]))
        vectors = text_vectors(frozen, tokenizer, texts, self.hparams["vectors"]) * self.hparams["vector_scale"]
        row = {text: index for index, text in enumerate(texts)}
        self.model.set_vectors(
            vectors[[row[slot] for slot in ontology.slots]],
            [vectors[[row[value] for value in values]] for values in ontology.values],
        )
        self.model.to(self.device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the slots and their values, which decide the order of their vectors."""
        if self.ontology is not None:
            checkpoint["slots"] = self.ontology.to_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Allocate the slot and value vectors, whose shape depends on the ontology.

        Raises:
            InputError: The data has another ontology than the checkpoint, or the checkpoint has an invalid one.
        """
        if "slots" in checkpoint:  # not in those of early versions
            try:
                self._trained_on = Ontology.from_mapping(checkpoint["slots"])
            except TypeError:
                raise InputError("The checkpoint has no slots: it must come from a DialogueStateTracker.") from None
            if self.ontology is not None:
                _check_same(self._trained_on, self.ontology)
        for name in ("slot_vectors", "value_vectors", "value_mask"):
            stored = checkpoint["state_dict"].get(f"model.{name}")
            if stored is not None and getattr(self.model, name) is None:
                is_vectors = stored.is_floating_point()
                dtype = next(self.parameters()).dtype if is_vectors else stored.dtype
                empty = torch.empty_like(stored, device=self.device, dtype=dtype)
                setattr(self.model, name, nn.Parameter(empty, requires_grad=False) if is_vectors else empty)

    def forward(self, batch: TurnBatch) -> Tensor:
        """Return logits of all candidate values, shape ``(turns, slots, values)``."""
        return self.model(batch)

    def training_step(self, batch: TurnBatch, batch_idx: int) -> Tensor:
        """Return the loss of a batch: the mean over turns for each slot, summed over slots."""
        losses, _ = self._step(batch, "train")
        loss = batch_loss(losses, batch.labels)
        self.log_loss(loss)
        return loss

    def test_step(self, batch: TurnBatch, batch_idx: int) -> Any:
        """Add a batch to the test scores, and return the accuracies of each dialogue, in the order of the data."""
        _, predicted = self._step(batch, "test")
        dialogue = torch.tensor(batch.dialogue, device=predicted.device)
        records = dialogue_scores(predicted, batch.labels, dialogue, batch.ids, self.scores_of("test").target)
        return [records[index] for index in sorted(range(len(records)), key=batch.positions.__getitem__)]

    def predict_step(self, batch: TurnBatch, batch_idx: int) -> list[dict[str, Any]]:
        """Return dialogue id, turn and filled slots for each turn, in the order of the data."""
        assert self.ontology is not None
        predicted = self(batch).argmax(-1).tolist()
        records: list[list[dict[str, Any]]] = [[] for _ in batch.ids]
        for dialogue, values in zip(batch.dialogue, predicted):
            turns, state = records[batch.positions[dialogue]], belief_state(values, self.ontology)
            turns.append({"dialogue": batch.ids[dialogue], "turn": len(turns), "state": state})
        return [record for turns in records for record in turns]

    def _step(self, batch: TurnBatch, split: str) -> tuple[Tensor, Tensor]:
        """Return the losses and the predicted value indices, both of shape ``(turns, slots)``."""
        logits = self(batch)
        losses = turn_losses(logits, batch.labels)
        predicted = logits.detach().argmax(-1)
        self.scores_of(split).update(predicted, batch.labels, losses)
        return losses, predicted


def _check_same(trained_on: Ontology, data: Ontology) -> None:
    """Raise an InputError if a model and its data have different ontologies."""
    if difference := trained_on.difference(data):
        raise InputError(f"The model was trained with another ontology than {data.path}: {difference}.")

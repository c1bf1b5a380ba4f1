"""Pretrained models are trained in training mode; what else is in evaluation mode is left alone and named."""

from contextlib import nullcontext

import pytest
import torch
from dialogue_files import tiny_bert
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.callbacks import BaseFinetuning
from torch import nn
from transformers import BertModel

import gradual
from gradual import MixedDomainDataModule
from gradual.stage.callbacks.training_modes import set_modes

WORDS = torch.arange(5, 15)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny BERT with dropout, as a folder."""
    path = tmp_path_factory.mktemp("bert")
    tiny_bert(vocab_size=20, hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.3).save_pretrained(path)
    return path


class Classifier(LightningModule):
    """Writes down by stage whether two passes over one training batch differ: whether dropout is at work."""

    def __init__(self, folder):
        super().__init__()
        self.encoder = BertModel.from_pretrained(folder)
        self.head = nn.Linear(self.encoder.config.hidden_size, 1)
        self.differs: dict[int, set[bool]] = {}

    def forward(self, words):
        return self.head(self.encoder(words).last_hidden_state[:, 0]).mean()

    def training_step(self, words, batch_idx):
        first, second = self(words), self(words)
        self.differs.setdefault(self.trainer.datamodule.stage, set()).add(bool(first != second))
        return first

    def validation_step(self, words, batch_idx):
        assert not self.encoder.training
        self.log("val/loss", self(words), batch_size=len(words))

    def test_step(self, words, batch_idx):
        self.log("test/loss", self(words), batch_size=len(words))


def fit(tmp_path, model, schedule=(4, 2, 0), **settings):
    data = [WORDS[:4], WORDS[4:8]]
    datamodule = MixedDomainDataModule(data, [*data, *data], val=data, test=data, batch_size=2)
    settings = {"accelerator": "cpu", "enable_progress_bar": False, "logger": False, "max_epochs": 1, **settings}
    return gradual.fit(model, datamodule, schedule, tmp_path, optimizer={"lr": 1e-3}, **settings)


class Modes(Callback):
    """Keeps which modules of each stage are in training mode."""

    def __init__(self):
        self.seen = []

    def on_train_epoch_end(self, trainer, pl_module):
        self.seen.append([name for name, part in pl_module.named_modules() if part.training])


def said(caplog, about: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if about in record.getMessage()]


def test_dropout_is_at_work_in_every_stage_of_a_pretrained_model(tmp_path, folder, caplog):
    model = Classifier(folder)
    assert not model.encoder.training, "how transformers hands it out"
    fit(tmp_path, model)
    assert model.differs == {0: {True}, 1: {True}, 2: {True}}
    (line,) = said(caplog, "training mode")
    assert "'encoder' (BertModel)" in line
    assert not said(caplog, "In evaluation mode")


def test_the_warning_is_repeated_in_another_run(tmp_path, folder, caplog):
    for name in ("a", "b"):
        fit(tmp_path / name, Classifier(folder), [0])
    assert len(said(caplog, "training mode")) == 2


def test_other_modules_in_evaluation_mode_are_left_alone_and_named_once(tmp_path, folder, caplog):
    model = Classifier(folder)
    model.norms = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout()).eval()
    fit(tmp_path, model)
    assert not any(part.training for part in model.norms.modules())
    (line,) = said(caplog, "In evaluation mode")
    assert "'norms' (Sequential)" in line
    assert "encoder" not in line
    assert "norms.0" not in line


def test_a_frozen_model_stays_in_evaluation_mode_and_is_named(tmp_path, folder, caplog):
    model = Classifier(folder)
    model.encoder.requires_grad_(False)
    fit(tmp_path, model)
    assert model.differs == {0: {False}, 1: {False}, 2: {False}}
    (line,) = said(caplog, "In evaluation mode")
    assert "'encoder' (BertModel)" in line


class Unfreezing(BaseFinetuning):
    """Trains the encoder from the second epoch on."""

    def freeze_before_training(self, pl_module):
        self.freeze(pl_module.encoder)

    def finetune_function(self, pl_module, epoch, optimizer):
        if epoch == 1:
            self.unfreeze_and_add_param_group(pl_module.encoder, optimizer)


def test_a_model_that_a_callback_unfreezes_has_dropout_from_then_on(tmp_path, folder):
    model = Classifier(folder)
    fit(tmp_path, model, [0], callbacks=[Unfreezing()], max_epochs=2)
    assert model.differs == {0: {False, True}}


def test_a_module_in_evaluation_mode_is_put_into_training_mode_whole(tmp_path, folder, caplog):
    model = Classifier(folder)
    model.teacher = BertModel.from_pretrained(folder).requires_grad_(False)
    model.eval()
    modes = Modes()
    fit(tmp_path, model, callbacks=[modes])
    assert model.differs == {0: {True}, 1: {True}, 2: {True}}
    for training in modes.seen:
        assert "head" in training
        assert not any(name.startswith("teacher") for name in training)
    (line,) = said(caplog, "training mode")
    assert "Classifier" in line


def test_modes_set_inside_a_model_in_training_mode_are_left_alone(folder):
    model = nn.ModuleDict({"encoder": BertModel.from_pretrained(folder).train()})
    model["encoder"].embeddings.eval()
    assert set_modes(model) == ([], [])
    assert not model["encoder"].embeddings.dropout.training
    assert model["encoder"].encoder.training


FROZEN = {"amount": 0, "optimizer": {"trainable_by_name": {"encoder.*": False}}}


class Late(Classifier):
    """Loads its encoder when the layers are made."""

    def __init__(self, folder):
        super().__init__(folder)
        self.folder, self.encoder = folder, None

    def configure_model(self):
        if self.encoder is None:
            self.encoder = BertModel.from_pretrained(self.folder)


class Collapsing(Classifier):
    """The first attempt at its first stage collapses."""

    def training_step(self, words, batch_idx):
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        loss = super().training_step(words, batch_idx)
        return loss * float("nan") if self.trainer.datamodule.stage == 0 and rate > 6e-4 else loss


@pytest.mark.parametrize("cls", [Classifier, Late, Collapsing])
def test_a_model_that_a_later_stage_freezes_is_in_the_mode_in_which_it_was_given(tmp_path, folder, cls):
    """In one process as in a new one, and in a comparison, where each stage has a new model."""

    def made():
        torch.manual_seed(0)
        return cls(folder)

    whole = made()
    expected = fit(tmp_path / "whole", whole, [4, FROZEN])
    assert whole.differs == {0: {True}, 1: {False}}
    fit(tmp_path / "again", made(), [4])
    again = made()
    result = fit(tmp_path / "again", again, [4, FROZEN])
    assert again.differs == {1: {False}}
    assert result.stages[1].val == expected.stages[1].val


@pytest.mark.parametrize("fails", [False, True])
def test_after_a_fit_all_modes_are_as_given(tmp_path, folder, fails):
    class Changing(Callback):
        def on_train_start(self, trainer, pl_module):
            pl_module.norm.eval()

        def on_validation_start(self, trainer, pl_module):
            if fails and not trainer.sanity_checking:
                raise RuntimeError("power cut")

    model = Classifier(folder)
    model.norm = nn.BatchNorm1d(3)
    model.encoder.pooler.train()
    before = {name: part.training for name, part in model.named_modules()}
    with pytest.raises(RuntimeError, match="power cut") if fails else nullcontext():
        fit(tmp_path, model, callbacks=[Changing()])
    assert {name: part.training for name, part in model.named_modules()} == before

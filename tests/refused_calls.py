"""Calls of fit and compare with a small model and small data, and the sentence that a wrong one ends in."""

from collections.abc import Callable
from typing import Any

import pytest
from lightning.pytorch import LightningModule
from linear_model import Examples, make_data
from torch import nn

import gradual
from gradual import InputError, MixedDomainDataModule


class Net(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def _loss(self, batch):
        return (self.layer(batch[0]) - batch[1]).square().mean()

    def training_step(self, batch, batch_idx):
        return self._loss(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self._loss(batch), batch_size=len(batch[0]))

    def test_step(self, batch, batch_idx):
        self.log("test/loss", self._loss(batch), batch_size=len(batch[0]))


class Plain(nn.Module):
    pass


def small(**changes) -> MixedDomainDataModule:
    return make_data({"out_of_domain": Examples("out", 8, 1.0, 2), "batch_size": 8, **changes})


SETTINGS = {
    "optimizer": {"lr": 0.1}, "max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False, "logger": False,
}  # fmt: skip


def refusal(call: Callable[[], Any]) -> str:
    """The sentence that a call ends in."""
    with pytest.raises(InputError) as refused:
        call()
    sentence = str(refused.value)
    assert "\n" not in sentence
    assert sentence.endswith((".", "?"))
    return sentence


def fit(root, *, model=None, data=None, schedule=(4, 0), run_dir=..., **settings):
    model, data = Net() if model is None else model, small() if data is None else data
    return gradual.fit(model, data, schedule, root / "run" if run_dir is ... else run_dir, **SETTINGS | settings)


def compare(root, *, model=Net, data=None, schedule=(4, 0), run_dir=..., **settings):
    data = small() if data is None else data
    run_dir = root / "run" if run_dir is ... else run_dir
    return gradual.compare(model, data, schedule, run_dir, **SETTINGS | {"seeds": [0]} | settings)

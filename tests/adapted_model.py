"""A linear model with an adapter in a dozen lines: what stages ask of a model that has one."""

import torch
from lightning.pytorch import LightningModule
from linear_model import Examples
from torch import nn

import gradual
from gradual.nn.frozen import leave_out


class ProductAdapter:
    """A product of two matrices beside the weight of a layer that is frozen."""

    def __init__(self, model):
        self.model = model
        self.earlier = []

    def check_merge(self):
        if self.model.refuses:
            raise gradual.InputError("this adapter cannot be merged")

    def merge(self, seed):
        self.earlier = [*self.earlier, [self.model.down.detach().clone(), self.model.up.detach().clone()]]
        self.restore(self.earlier)
        with torch.no_grad():
            self.model.down.copy_(torch.randn(2, 3, generator=torch.Generator().manual_seed(seed)))
            self.model.up.zero_()

    def restore(self, earlier):
        self.earlier = earlier
        with torch.no_grad():
            self.model.base.weight.copy_(sum((up @ down for down, up in earlier), self.model.pretrained))


class Adapted(LightningModule):
    """A frozen layer under an adapter, and a trained head; it notes its weights whenever training starts."""

    def __init__(self, refuses=False):
        super().__init__()
        torch.manual_seed(0)
        self.base, self.drop, self.head = nn.Linear(3, 64, bias=False), nn.Dropout(0.2), nn.Linear(64, 1)
        self.base.weight.requires_grad_(False)
        self.pretrained = self.base.weight.clone()
        self.down, self.up = nn.Parameter(torch.randn(2, 3)), nn.Parameter(torch.zeros(64, 2))
        self.refuses, self.adapter = refuses, ProductAdapter(self)
        self.starts = []
        leave_out(self, ["base.weight"])

    def forward(self, inputs):
        return self.head(self.drop(self.base(inputs) + inputs @ self.down.T @ self.up.T))

    def on_save_checkpoint(self, checkpoint):
        checkpoint["earlier"] = self.adapter.earlier

    def on_load_checkpoint(self, checkpoint):
        self.adapter.restore(checkpoint["earlier"])

    def on_train_start(self):
        self.starts.append({name: value.detach().clone() for name, value in self.named_parameters()})

    def training_step(self, batch, batch_idx):
        return nn.functional.mse_loss(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", nn.functional.mse_loss(self(batch[0]), batch[1]), batch_size=len(batch[0]))

    def test_step(self, batch, batch_idx):
        self.log("test/loss", nn.functional.mse_loss(self(batch[0]), batch[1]), batch_size=len(batch[0]))


def data():
    training, held_out = (("in", 8, 2.0, 1), ("out", 40, 1.0, 2)), (("val", 8, 2.0, 3), ("test", 8, 2.0, 4))
    return gradual.MixedDomainDataModule(*(Examples(*part) for part in (*training, *held_out)), batch_size=4)


def fit(root, schedule=(24, 8, 0), model=None, later=None, **settings):
    """The model that a run leaves, and the run's result; ``later`` is what stages but the first override."""
    quiet = {"accelerator": "cpu", "enable_progress_bar": False, "logger": False}
    model = Adapted() if model is None else model
    settings = {"optimizer": {"lr": 0.02}, "max_epochs": 2, **quiet, **settings}
    return model, gradual.fit(model, data(), gradual.Schedule(schedule, later), root / "run", **settings)

"""Small modules, data and runs that tests of training share."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from linear_model import Examples
from torch import nn

import gradual
from gradual import MixedDomainDataModule, OptimizerConfig


class LinearModel(LightningModule):
    """A linear model with dropout, that records what the driver does to it."""

    def __init__(self, lr: float | None = None):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Linear(3, 4)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(4, 1)
        self.lr = lr
        self.starts: list[dict[str, torch.Tensor]] = []
        self.rates: list[list[float]] = []
        self.trainers: list[Trainer] = []
        self.losses: list[float] = []
        if lr is not None:
            self.configure_optimizers = self.own_optimizers  # type: ignore[method-assign]

    def own_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)

    def _loss(self, batch):
        inputs, targets = batch
        return nn.functional.mse_loss(self.head(self.drop(self.encoder(inputs))), targets)

    def on_train_start(self):
        self.starts.append({name: value.clone() for name, value in self.state_dict().items()})
        self.rates.append([group["lr"] for group in self.trainer.optimizers[0].param_groups])
        self.trainers.append(self.trainer)

    def training_step(self, batch, batch_idx):
        loss = self._loss(batch)
        self.losses.append(float(loss.detach()))
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self._loss(batch), batch_size=len(batch[0]))

    def test_step(self, batch, batch_idx):
        self.log("test/loss", self._loss(batch), batch_size=len(batch[0]))


class Own(LinearModel):
    """The same with an optimizer of its own, as a module usually has it."""

    def __init__(self, lr: float):
        super().__init__()
        self.own_lr = lr

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.own_lr)


def data(**changes) -> MixedDomainDataModule:
    parts = {
        "in_domain": Examples("in", 12, 2.0, 1),
        "out_of_domain": Examples("out", 40, 1.0, 2),
        "val": Examples("val", 8, 2.0, 3),
        "test": Examples("test", 8, 2.0, 4),
        "batch_size": 4,
    }
    return MixedDomainDataModule(**(parts | changes))


ADAM = OptimizerConfig(lr=0.05)


QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "max_epochs": 3}


def run(tmp_path: Path, model=None, schedule=(20, 5, 0), **arguments):
    model = model or LinearModel()
    arguments = {"optimizer": ADAM, **QUIET, **arguments}
    return model, gradual.fit(model, arguments.pop("data", None) or data(), schedule, tmp_path / "run", **arguments)


def path_results(run_dir: Path, seed: int = 0) -> dict:
    """What ``results.json`` says of the path that a fit has trained."""
    return json.loads((run_dir / "results.json").read_text())["strategies"]["fit"]["seeds"][str(seed)]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


class Scripted(LinearModel):
    """Validation losses as written down beforehand; the weights count the epochs."""

    def __init__(self, losses: list[float]):
        super().__init__()
        self.script = losses
        self.counter = nn.Parameter(torch.zeros(()), requires_grad=False)

    @staticmethod
    def validation_loss(state: dict[str, torch.Tensor], name: str, seed: int) -> float:
        inputs, targets = zip(*Examples(name, 8, 2.0, seed))
        hidden = torch.stack(inputs) @ state["encoder.weight"].T + state["encoder.bias"]
        predicted = hidden @ state["head.weight"].T + state["head.bias"]
        return float(((predicted - torch.stack(targets)) ** 2).mean())

    def on_train_epoch_start(self):
        self.counter += 1

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.script[min(self.trainer.current_epoch, len(self.script) - 1)], batch_size=1)


class Stop(Callback):
    """Fails in the n-th training batch of the k-th stage, once."""

    stage, batch, stages, done = 0, 0, 0, False

    @classmethod
    def at(cls, stage: int, batch: int) -> Stop:
        cls.stage, cls.batch, cls.stages, cls.done = stage, batch, -1, False
        return cls()

    def on_train_start(self, trainer, pl_module):
        Stop.stages += 1

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if not Stop.done and Stop.stages == Stop.stage and trainer.global_step == Stop.batch:
            Stop.done = True
            raise RuntimeError("power cut")

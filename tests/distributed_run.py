"""What a process of a distributed test run does; run as a script, ``distributed_run.py WHAT FOLDER PROCESSES``."""

import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from linear_model import Examples
from torch import nn
from torchmetrics import MeanMetric

import gradual
from gradual import MixedDomainDataModule
from gradual.__main__ import main
from gradual.distributed import mean_over_processes, of_all_processes
from gradual.stage.callbacks.distributed_metrics import DistributedMetrics

SIZES = (1, 2, 3, 4, 5, 7, 9)  # of evaluations, in batches of 2
QUIET = {"enable_progress_bar": False, "enable_model_summary": False}


class LinearModel(LightningModule):
    """A linear model with dropout that logs in all ways, and leaves their averaging to the engine."""

    def __init__(self, drop: float = 0.2):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 1)
        self.register_buffer("shift", torch.zeros(3))  # DDP sends buffers around before a forward pass
        self.drop = nn.Dropout(drop)
        self.close = MeanMetric()

    def _losses(self, batch):
        return (self.layer(self.drop(batch[0] + self.shift)) - batch[1]).square().squeeze(1)

    def training_step(self, batch, batch_idx):
        return self._losses(batch).mean()

    def evaluate(self, batch, split):
        losses = self._losses(batch)
        self.log(f"{split}/loss", losses.mean())
        self.log(f"{split}/sized", losses.mean(), batch_size=len(losses))
        self.log(f"{split}/examples", float(len(losses)), reduce_fx="sum")
        self.log(f"{split}/worst", losses.max(), reduce_fx="max")
        self.close.update((losses < 1).double())
        self.log(f"{split}/close", self.close)
        return [{"id": f"{value:.6f}", "loss": [float(value), 1]} for value in losses]

    def validation_step(self, batch, batch_idx):
        self.evaluate(batch, "val")

    def test_step(self, batch, batch_idx):
        return self.evaluate(batch, "test")


class Sometimes(LinearModel):
    """Logs scores of some of the examples, so that processes know other names, or the same in another order."""

    def evaluate(self, batch, split):
        losses = self._losses(batch)
        kinds = [int(10 * abs(float(inputs[0]))) % 3 for inputs in batch[0]]
        self.seen = [*kinds, *getattr(self, "seen", ())]
        for kind in dict.fromkeys(kinds):
            own = losses[[each == kind for each in kinds]]
            size = {"batch_size": len(own)}
            self.log(f"{split}/loss/{kind}", own.mean(), **size)
            self.log(f"{split}/stepwise/{kind}", own.mean(), on_step=True, on_epoch=True, **size)
            self.log(f"{split}/precise/{kind}", own.double().mean(), **size)
            self.log(f"{split}/examples/{kind}", float(len(own)), reduce_fx="sum")
            self.log(f"{split}/worst/{kind}", own.max(), reduce_fx="max")
        if kinds[0] == 2:
            self.close.update(losses[:1])
            self.log(f"{split}/first", self.close)

    def on_validation_epoch_end(self):
        for kind in dict.fromkeys(self.seen):
            self.log(f"val/seen/{kind}", float(kind), reduce_fx="max")


def data(size: int = 7, test_slope: float = 2.0) -> MixedDomainDataModule:
    parts = {"val": Examples("val", size, 2.0, 3), "test": Examples("test", size, test_slope, 4)}
    pool, batches = Examples("out", 40, 1.0, 2), {"batch_size": 4, "eval_batch_size": 2}
    return MixedDomainDataModule(Examples("in", 12, 2.0, 1), pool, **parts, **batches)


class Losses(Callback):
    """Writes down the loss of each step of all processes together."""

    def __init__(self, path: str):
        self.path = path

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        loss = float(mean_over_processes(outputs["loss"]))
        if trainer.is_global_zero:
            with Path(self.path).open("a") as file:
                file.write(f"{loss!r}\n")


class Death(Callback):
    """Kills one process, as the machine would, in a step of the second stage."""

    def __init__(self, rank: int):
        self.rank = rank

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.datamodule.stage == 1 and trainer.global_step == 4 and trainer.global_rank == self.rank:
            os.kill(os.getpid(), signal.SIGKILL)


def trainer_arguments(processes: int) -> dict:
    nodes = int(os.environ.get("GROUP_WORLD_SIZE", "1"))  # torchrun says it
    strategy = "ddp" if processes > 1 else "auto"
    return {"accelerator": "cpu", "devices": processes // nodes, "num_nodes": nodes, "strategy": strategy, **QUIET}


def address() -> str:
    """That of this machine on the way to the first one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
        way.connect((os.environ["MASTER_ADDR"], 9))
        return way.getsockname()[0]


def train(root: Path, processes: int, *callbacks: Callback, final: Any = "last", **changes: float) -> None:
    """Three stages; what each process ended with is written down."""
    model = LinearModel()
    gradual.fit(
        model, data(**changes), [20, 5, 0], root / "run", optimizer={"lr": 0.05}, max_epochs=3, final=final,
        callbacks=list(callbacks), **trainer_arguments(processes),
    )  # fmt: skip
    end = {"weights": [parameter.flatten().tolist() for parameter in model.parameters()], "code": gradual.__file__}
    everyone = of_all_processes(end), of_all_processes(address())
    for name, content in zip(("ends", "addresses"), everyone):
        (root / f"{name}.json").write_text(json.dumps(content))


def evaluate(root: Path, processes: int) -> None:
    """Scores of one model on data of several sizes."""
    for size in SIZES:
        trainer = Trainer(**trainer_arguments(processes), logger=False, use_distributed_sampler=False,
                          callbacks=[DistributedMetrics()])  # fmt: skip
        (val,) = trainer.validate(LinearModel(), datamodule=data(size), verbose=False)
        (test,) = trainer.test(LinearModel(), datamodule=data(size), verbose=False)
        if trainer.is_global_zero:
            (root / f"scores-{size}.json").write_text(json.dumps(val | test))


def sometimes(root: Path, processes: int) -> None:
    """Scores of a model that does not log the same in every process, of two validations of one Trainer each."""
    for size in (1, 4, 7):
        trainer = Trainer(**trainer_arguments(processes), logger=False, use_distributed_sampler=False,
                          callbacks=[DistributedMetrics()])  # fmt: skip
        model = Sometimes()
        scores = [trainer.validate(model, datamodule=data(size), verbose=False)[0] for _ in range(2)]
        everyone = of_all_processes(scores)
        if trainer.is_global_zero:
            (root / f"scores-{size}.json").write_text(json.dumps(everyone))


def compare(root: Path, processes: int) -> None:
    """Two strategies and their report."""
    strategies = {"one-stage": [20, 0], "in-domain only": [0]}
    page = gradual.compare(
        LinearModel, data(), [20, 0], root / "run", strategies=strategies, seeds=[0, 1], optimizer={"lr": 0.05},
        max_epochs=1, **trainer_arguments(processes),
    )  # fmt: skip
    everyone = of_all_processes(str(page))
    (root / "pages.json").write_text(json.dumps(everyone))


def dialogue(root: Path, processes: int, checkpoint: Path | None = None) -> None:
    """Two stages of the dialogue task and the predictions of a checkpoint (None: the last one), by the command line."""
    config = Path(__file__).parents[1] / "gradual/cli/demo.yaml"
    demo, run = root / "demo", root / "run-dialogue"
    given = [f"--config={config}", f"--data.root={demo}", "--data.pool=train30.tsv", f"--model.encoder={demo}/encoder"]
    given += [f"--data.batch_size={8 // processes}", "--data.eval_batch_size=3"]
    given += ["--trainer.max_epochs=1", "--trainer.enable_progress_bar=false"]
    strategy = "ddp" if processes > 1 else "auto"
    given += ["--trainer.accelerator=cpu", f"--trainer.devices={processes}", f"--trainer.strategy={strategy}"]
    losses = f"--trainer.callbacks=[{{class_path: distributed_run.Losses, init_args: {{path: {root}/losses.txt}}}}]"
    main(["fit", *given, "--schedule=[20, 0]", f"--run_dir={run}", losses])
    checkpoint = checkpoint or run / "seed-0/20/0/best.ckpt"
    main(["predict", *given, f"--ckpt_path={checkpoint}", f"--predictions={root}/predictions.jsonl"])


def work(what: str, folder: Path, processes: int) -> None:
    """What one process of several does."""
    if what == "all":
        train(folder, processes)
        evaluate(folder, processes)
        dialogue(folder, processes)
    elif what == "test":
        train(folder, processes, test_slope=5.0)
    elif what in ("train", "compare", "sometimes"):
        {"train": train, "compare": compare, "sometimes": sometimes}[what](folder, processes)
    else:
        train(folder, processes, Death(int(what)))


if __name__ == "__main__":
    work(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))

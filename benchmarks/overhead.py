"""The time that ``gradual`` takes in addition to training: its driver, its start-up, its help.

    python benchmarks/overhead.py

Each pair is measured alternately, several times, on a small synthetic corpus.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from variants import clock, spread

import gradual
from gradual.tasks.dialogue import DialogueDataModule, DialogueStateTracker
from gradual.tasks.dialogue.demo import write_demo_data

IMPORTS = """
import torch, lightning.pytorch, transformers
from transformers import AutoModel, AutoTokenizer
AutoTokenizer.from_pretrained({encoder!r})
AutoModel.from_pretrained({encoder!r})
"""
FIRST_STEP = """
import os, sys, time
from gradual.tasks.dialogue import DialogueStateTracker
own = DialogueStateTracker.training_step
def training_step(self, batch, batch_idx):
    loss = own(self, batch, batch_idx)
    loss.backward()
    os._exit(0)  # the measurement ends here
DialogueStateTracker.training_step = training_step
from gradual.__main__ import main
main(sys.argv[1:])
"""
CONFIG = """
model: {{class_path: gradual.tasks.dialogue.DialogueStateTracker}}
data: {{class_path: gradual.tasks.dialogue.DialogueDataModule, init_args: {{root: {root}, domain: hostel}}}}
optimizer: {{lr: 1.0e-4}}
schedule: [1.0]
"""


class Tracker(DialogueStateTracker):
    """The dialogue model with its own optimizer, which training with a plain Trainer needs."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimizer that the package would create."""
        return torch.optim.AdamW(self.parameters(), lr=1e-4, fused=True)


def driver(model: LightningModule, data: DialogueDataModule, folder: Path, epochs: int) -> None:
    """Train one stage with the package."""
    gradual.fit(
        model,
        data,
        [1.0],
        folder,
        patience=epochs,
        max_epochs=epochs,
        gradient_clip_val=1.0,
        enable_progress_bar=False,
    )


def by_hand(model: LightningModule, data: DialogueDataModule, folder: Path, epochs: int) -> None:
    """Train the same stage with Lightning alone, as a careful user would; the best weights are tested."""
    seed_everything(0, verbose=False)
    data.schedule = [1.0]
    best = ModelCheckpoint(folder, "best", monitor="val/loss", save_weights_only=True)
    trainer = Trainer(
        max_epochs=epochs,
        gradient_clip_val=1.0,
        logger=TensorBoardLogger(str(folder), version="", default_hp_metric=False),
        callbacks=[
            EarlyStopping("val/loss", patience=epochs),
            best,
            ModelCheckpoint(folder, filename="last", save_on_train_epoch_end=True),
            LearningRateMonitor(),
        ],
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    trainer.fit(model, datamodule=data)
    trainer.test(model, datamodule=data, ckpt_path=best.best_model_path, verbose=False)


def stage_seconds(demo: Path, epochs: int, rounds: int, now: Callable[[], float]) -> None:
    """Print the time of a stage with the driver, and relative to a hand-written fit."""
    data = DialogueDataModule(str(demo), "hostel", str(demo / "encoder"), batch_size=8)
    data.setup()
    seconds: dict[str, list[float]] = {"by hand": [], "driver": []}
    for number in range(-1, rounds):
        pair = [("by hand", by_hand), ("driver", driver)]
        for name, train in pair if number % 2 else pair[::-1]:
            torch.manual_seed(0)
            model = Tracker(str(demo / "encoder"), vectors="mean", hidden=100)
            with tempfile.TemporaryDirectory() as folder:
                start = now()
                train(model, data, Path(folder) / "run", epochs)
                if number >= 0:  # the first round warms up
                    seconds[name].append(now() - start)
    ratios = [mine / theirs for mine, theirs in zip(seconds["driver"], seconds["by hand"])]
    steps = epochs * data.steps_per_epoch()
    print(f"a stage of {epochs} epochs, {steps} steps: by hand {spread(seconds['by hand'], 2)} s, ", end="")
    print(f"driver {spread(seconds['driver'], 2)} s, ratio {spread(ratios, 3)}")
    print(f"ratio of the minimum times: {min(seconds['driver']) / min(seconds['by hand']):.3f}")


def start_seconds(demo: Path, encoder: str, rounds: int, now: Callable[[], float]) -> None:
    """Print the time that commands take, each in a new process."""
    script = demo / "first_step.py"
    script.write_text(FIRST_STEP, encoding="utf-8")
    fit = [str(script), "fit", "--config", str(demo / "config.yaml"), "--model.encoder", encoder]
    (demo / "config.yaml").write_text(CONFIG.format(root=demo), encoding="utf-8")
    commands = {
        "importing torch, lightning and transformers, loading the encoder": ["-c", IMPORTS.format(encoder=encoder)],
        "gradual fit, to the end of its first training step": fit,
        "gradual --help": ["-m", "gradual", "--help"],
        "python alone": ["-c", ""],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(-1, rounds):
        for name, command in commands.items():
            with tempfile.TemporaryDirectory() as folder:
                more = ["--run_dir", folder] if command is fit else []
                start = now()
                subprocess.run([sys.executable, *command, *more], check=True, capture_output=True, env=_environment())
                if number >= 0:  # the first round fills the caches
                    seconds[name].append(now() - start)
    for name, values in seconds.items():
        print(f"{name}: {spread(values, 2)} s")
    imports, first_step, *_ = seconds.values()
    print(f"first step relative to imports and encoder: {median(a / b for a, b in zip(first_step, imports)):.2f}")


def _children() -> float:
    """The processor seconds of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _environment() -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=3, help="epochs of the stage (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each pair (%(default)s)")
    parser.add_argument("--encoder", help="encoder to load; default: the demo's tiny one")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: for a busy machine (%(default)s)"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        demo = Path(folder)
        write_demo_data(demo)
        on_cpu = options.clock == "cpu"
        start_seconds(
            demo, options.encoder or str(demo / "encoder"), options.rounds, _children if on_cpu else time.perf_counter
        )
        stage_seconds(demo, options.epochs, options.rounds, clock(options.clock))


if __name__ == "__main__":
    main()

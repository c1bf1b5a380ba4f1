"""Runs that are interrupted at a step, and what they leave."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import signal
import traceback
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule
from linear_model import Examples
from torch import nn
from torchmetrics import MeanSquaredError

import gradual

SCHEDULE = [20, 0]  # 4 and 2 batches an epoch, 2 epochs each


STEPS = 12


class Net(LightningModule):
    """Everything that a resumed epoch could get wrong: dropout, averages over the epoch, random validation."""

    def __init__(self, log: Path):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.3), nn.Linear(4, 1))
        self.error = MeanSquaredError()
        self.log_file = log

    def _loss(self, batch):
        return nn.functional.mse_loss(self.net(batch[0]), batch[1])

    def training_step(self, batch, batch_idx):
        with self.log_file.open("a") as file:
            file.write("step\n")
        loss = self._loss(batch)
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        self.log("train/largest", loss, on_step=False, on_epoch=True, reduce_fx="max")
        self.error(self.net(batch[0]), batch[1])
        self.log("train/error", self.error, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        torch.rand(1)
        self.log("val/loss", self._loss(batch), batch_size=len(batch[0]))

    def test_step(self, batch, batch_idx):
        self.log("test/loss", self._loss(batch), batch_size=len(batch[0]))


def fit(root, *callbacks, **changes):
    domains = Examples("in", 12, 2.0, 1), Examples("out", 40, 1.0, 2), Examples("val", 12, 2.0, 3)
    data = gradual.MixedDomainDataModule(*domains, Examples("test", 8, 2.0, 4), batch_size=8, eval_batch_size=4)
    settings = {
        "optimizer": {"lr": 0.05}, "lr_schedule": {"name": "linear", "warmup": 0.1}, "max_epochs": 2,
        "accelerator": "cpu", "enable_progress_bar": False, "logger": False, "callbacks": list(callbacks), "seed": 3,
    }  # fmt: skip
    return gradual.fit(Net(root / "steps.txt"), data, SCHEDULE, root / "run", **(settings | changes))


def steps(root):
    """Training steps that were begun, by however many processes."""
    return len((root / "steps.txt").read_text().splitlines())


def in_a_process(work):
    """The exit status of a process that does ``work``; negative for a signal."""
    return end_process(begin_process(work))


def begin_process(work):
    """The id of a process that does ``work``. A fork, since importing takes seconds."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            logging.getLogger("gradual").addHandler(logging.StreamHandler())
            torch.set_num_threads(1)  # the parent's threads are not there
            os.environ["TOKENIZERS_PARALLELISM"] = "false"  # nor those of its tokenizers
            signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
            work()
            status = 0
        except KeyboardInterrupt:
            status = 130
        except SystemExit as stop:
            status = stop.code
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return child


def end_process(child):
    """The exit status of a process, once it has ended; negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def outcome(root):
    """All that a run leaves but its times: weights, scores and epochs."""
    run = root / "run"
    found = {}
    for path in sorted(run.rglob("best.ckpt")):
        state = torch.load(path, weights_only=True)["state_dict"]
        found[path.relative_to(run)] = {
            name: hashlib.sha256(value.numpy()).hexdigest() for name, value in state.items()
        }
    for path in (*sorted(run.rglob("history.jsonl")), *sorted(run.rglob("result.json")), run / "results.json"):
        content = [json.loads(line) for line in path.read_text().splitlines()] if path.suffix == ".jsonl" else None
        found[path.relative_to(run)] = without_costs(content or json.loads(path.read_text()))
    return found


def without_costs(content):
    """Without times, and without the number of threads, of which a forked process has one."""
    if isinstance(content, dict):
        return {name: without_costs(value) for name, value in content.items() if name not in ("seconds", "threads")}
    return [without_costs(value) for value in content] if isinstance(content, list) else content


def kill(number=signal.SIGKILL):
    os.kill(os.getpid(), number)


class At(Callback):
    """Does something at the ``count``-th call of a hook, counted over all stages."""

    def __init__(self, hook, count, action=kill):
        self.calls = []

        def call(trainer, *_, **__):
            if not trainer.sanity_checking:
                self.calls.append(hook)
                if len(self.calls) == count:
                    action()

        setattr(self, hook, call)

    def __deepcopy__(self, memo):  # the settings of each stage are copies; the count goes on
        return self

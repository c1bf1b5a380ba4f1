"""Notices that a stage collapses (the paper's Appendix A.1): its learning rate destroys what the stage began with.

``LossWatch`` and ``ScoreWatch`` are the rules, on plain numbers; ``CollapseGuard`` shows them the numbers of a stage.
They are silent on every stage that learns, however noisily: a collapse that is missed costs epochs that are not kept,
a false alarm costs the run.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torchmetrics import Metric

from gradual.errors import InputError
from gradual.score_names import without_split
from gradual.settings import CollapseConfig

EVERY = 20
"""Training steps between two looks at the losses, each a wait for the device: a collapse is noticed so late at most."""

_WINDOW = 20  # losses whose median is compared
_FIRST = 5  # losses that say where the stage began
_DEAD = 2  # losses in a row that are not finite: one alone may be a batch that mixed precision skips
_LEAST_SCORE = 0.1  # what a parent's score must have been at least, and ...
_LEAST_RIGHT = 10  # ... in examples of the validation data, to have something to fall from
_SCORE_NAME = re.compile(r"([^/]*_)?(accuracy|acc|f1)(_[^/]*)?")  # of one class alone would have another slash


class Collapse(Exception):
    """A stage has collapsed; raised out of ``Trainer.fit``, in all processes at the same step.

    Args:
        step: Training batches of the attempt up to where it was seen.
        reason: What was seen.
    """

    def __init__(self, step: int, reason: str):
        super().__init__(f"{reason} at step {step}")
        self.step, self.reason = step, reason


class LossWatch:
    """The rule for training losses: two in a row that are not finite, or an explosion at the stage's start.

    A loss has exploded when the median of the last 20 is more than ``ratio`` times the largest of the first five and
    more than ``ratio`` times ``level``. Noise within a factor of three either way, single spikes of any height and
    losses that begin near zero are no explosion; where a loss below zero is among the first, ratios mean nothing, and
    none is looked for.

    Args:
        ratio: What counts as an explosion.
        level: A loss that the stage may always have, e.g. its parent's validation loss.

    Attributes:
        steps: Losses seen.
        settled: Whether the stage's start is over: only whether losses are finite is looked at then.
    """

    def __init__(self, ratio: float, level: float = 0.0):
        self.steps, self.settled = 0, False
        self._ratio, self._level = ratio, level
        self._first: list[float] = []
        self._last: list[float] = []
        self._not_finite = 0

    def add(self, loss: float) -> str | None:
        """Look at the loss of the next step; what was seen where it shows a collapse."""
        self.steps += 1
        finite = math.isfinite(loss)
        self._not_finite = 0 if finite else self._not_finite + 1
        if self._not_finite >= _DEAD:
            return f"the training loss is {loss}"
        if finite and len(self._first) < _FIRST:
            self._first.append(loss)
        self._last = [*self._last, loss if finite else math.inf][-_WINDOW:]
        if self.settled or len(self._last) < _WINDOW or not self._first or min(self._first) < 0:
            return None
        began, now = max(*self._first, self._level), median(self._last)
        return f"the training loss rose from {began:.4g} to {now:.4g}" if now > self._ratio * began > 0 else None

    def state_dict(self) -> dict[str, Any]:
        """What was seen so far."""
        return {
            "steps": self.steps, "settled": self.settled, "first": self._first, "last": self._last,
            "not_finite": self._not_finite,
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore it."""
        self.steps, self.settled, self._not_finite = state["steps"], state["settled"], state["not_finite"]
        self._first, self._last = state["first"], state["last"]


class ScoreWatch:
    """The rule for validation scores: a monitor that is not finite, or scores far from the parent stage's at the start.

    A score that is better when higher has collapsed when it is ``ratio`` times below the parent's, if that was 0.1 at
    least and stands for ten examples at least. A loss has when it is ``ratio`` times above the parent's in two
    validations in a row, without having halved in between; and not where all scores are still above half the parent's,
    since a loss that was next to nothing may grow a hundredfold and be none the worse.

    Args:
        config: Which scores, and the ratio.
        monitor: The metric that decides on convergence; always watched, as ``mode`` says.
        mode: ``min`` or ``max``.
        parent: Validation scores that the stage's weights had, without the split in their names; empty where there is
            no stage before.
        examples: Validation examples.

    Attributes:
        settled: Whether the stage's start is over: only the monitor's being finite is looked at then.
        healthy: Whether the last validation was as it should be; False before the first.
    """

    def __init__(self, config: CollapseConfig, monitor: str, mode: str, parent: Mapping[str, float], examples: int):
        self.settled, self.healthy = False, False
        self._config, self._monitor, self._mode = config, monitor, mode
        self._parent, self._examples = parent, examples
        self._risen: dict[str, float] = {}  # the losses that were far off in the last validation

    @property
    def parent_loss(self) -> float:
        """The parent's validation loss; 0 where none is known."""
        monitored = [without_split(self._monitor)] if self._mode == "min" else []
        return max(0.0, *(self._parent.get(name, 0.0) for name in ("loss", *monitored)))

    def validated(self, metrics: Mapping[str, float]) -> str | None:
        """Look at one validation's metrics; what was seen where they show a collapse.

        Raises:
            InputError: A score to watch is not among them.
        """
        self._check_named("val", metrics)
        value = metrics.get(self._monitor, 0.0)
        if not math.isfinite(value):
            return f"{self._monitor} is {value}"
        if self.settled:
            return None
        fallen, holds = self._fallen("val", metrics), self._scores("val", metrics)
        risen: dict[str, float] = {}
        for name, value in metrics.items():
            parent = self._parent.get(without_split(name), 0.0)
            if name.startswith("val") and self._kind(name) == "loss" and value > self._config.ratio * parent > 0:
                risen[name] = value
        if holds and all(2 * value >= parent for value, parent in holds.values()):
            risen = {}
        before, self._risen = self._risen, risen
        self.healthy = not fallen and not risen
        stayed = [name for name in risen if name in before and 2 * risen[name] >= before[name]]
        if not fallen and stayed:
            return f"{stayed[0]} rose from {self._parent[without_split(stayed[0])]:.4g} to {risen[stayed[0]]:.4g}"
        return fallen

    def trained(self, metrics: Mapping[str, float]) -> str | None:
        """Look at the training scores of an epoch, which only ``config.scores`` can name; its end may end the start."""
        self._check_named("train", metrics)
        fallen = None if self.settled else self._fallen("train", metrics)
        self.settled = self.settled or (self.healthy and not fallen)
        return fallen

    def state_dict(self) -> dict[str, Any]:
        """What was seen so far."""
        return {"settled": self.settled, "healthy": self.healthy, "risen": self._risen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore it."""
        self.settled, self.healthy, self._risen = state["settled"], state["healthy"], state["risen"]

    def _fallen(self, split: str, metrics: Mapping[str, float]) -> str | None:
        for name, (value, parent) in self._scores(split, metrics).items():
            if value * self._config.ratio < parent:
                return f"{name} fell from {parent:.4g} to {value:.4g}"
        return None

    def _scores(self, split: str, metrics: Mapping[str, float]) -> dict[str, tuple[float, float]]:
        """The watched scores that had something to fall from: each now, and the parent's."""
        scores = {}
        for name, value in metrics.items():
            parent = self._parent.get(without_split(name), 0.0)
            counts = parent >= _LEAST_SCORE and parent * self._examples >= _LEAST_RIGHT
            if counts and name.startswith(split) and self._kind(name) == "score":
                scores[name] = (value, parent)
        return scores

    def _kind(self, name: str) -> str | None:
        """Whether a metric is watched as a ``score`` (better when higher) or a ``loss``; None where it is not."""
        if name == self._monitor:
            return "score" if self._mode == "max" else "loss"
        if self._config.scores is not None and name in self._config.scores:
            return "score"
        if name.startswith("val") and without_split(name) == "loss":
            return "loss"
        guessed = self._config.scores is None and name.startswith("val") and _SCORE_NAME.fullmatch(without_split(name))
        return "score" if guessed else None

    def _check_named(self, split: str, metrics: Mapping[str, float]) -> None:
        for name in self._config.scores or ():
            if name.startswith(split) and name not in metrics:
                logged = ", ".join(sorted(metrics)) or "nothing"
                raise InputError(f"collapse.scores holds '{name}', which is not logged; logged are {logged}.")


class CollapseGuard(Checkpoint):
    """Ends a stage's training with ``Collapse`` where one of the rules sees one.

    Lightning calls a ``Checkpoint`` after the module has logged the epoch's training scores, other callbacks before.

    Args:
        losses: The rule for training losses.
        scores: The rule for scores.
        start: Where to keep the weights that the stage starts from; None where a parent stage keeps them.
        earlier: The attempts before, as ``StageResult.collapses``; shown by loggers.
    """

    def __init__(self, losses: LossWatch, scores: ScoreWatch, start: Path | None, earlier: Sequence[Mapping[str, Any]]):
        self._losses, self._scores = losses, scores
        self._start, self._earlier = start, earlier
        self._pending: list[Tensor] = []  # losses not looked at yet, on their device
        self._batches = 0  # since the last look
        self._modes: list[tuple[nn.Module, bool]] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep what to go back to."""
        self._modes = [(module, module.training) for module in pl_module.modules()]
        if self._start is not None:
            trainer.save_checkpoint(self._start, weights_only=True)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show which attempt this is, and why the ones before ended."""
        if not self._earlier:
            return
        for logger in trainer.loggers:
            logger.log_metrics({"collapse/attempt": len(self._earlier) + 1}, trainer.global_step)
            if isinstance(logger, TensorBoardLogger):
                text = "\n".join(f"{number}. {describe(entry)}" for number, entry in enumerate(self._earlier, start=1))
                logger.experiment.add_text("collapse/seen", text, trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the loss without waiting for it; look at the last ones every few steps."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, Tensor):
            self._pending.append(loss.detach())
        self._batches += 1
        if self._batches == EVERY:
            self._look_at_losses(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the scores, and at the losses since the last look."""
        if trainer.sanity_checking:
            return
        self._look_at_losses(trainer)
        self._end_if(trainer, self._scores.validated(_floats(trainer.callback_metrics)))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the training scores; the stage's start ends here if all is well."""
        self._end_if(trainer, self._scores.trained(_floats(trainer.callback_metrics)))
        self._losses.settled = self._scores.settled

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave nothing half done to the next attempt: modules as validation has them, and metrics half full."""
        if isinstance(exception, Collapse):
            for module, training in self._modes:
                module.training = training
                if isinstance(module, Metric):
                    module.reset()

    def state_dict(self) -> dict[str, Any]:
        """What was seen so far."""
        return {
            "losses": self._losses.state_dict(),
            "scores": self._scores.state_dict(),
            "pending": [float(loss) for loss in self._pending],
            "batches": self._batches,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore it."""
        self._losses.load_state_dict(state_dict["losses"])
        self._scores.load_state_dict(state_dict["scores"])
        self._pending = [torch.tensor(loss) for loss in state_dict["pending"]]
        self._batches = state_dict["batches"]

    def _look_at_losses(self, trainer: Trainer) -> None:
        device = trainer.strategy.root_device
        losses = [loss.to(device, torch.float32) for loss in self._pending]
        self._pending, self._batches = [], 0
        if losses:  # their means over the processes, not finite where one is not
            means = trainer.strategy.reduce(torch.stack(losses), reduce_op="mean").tolist()
            self._end_if(trainer, next(filter(None, map(self._losses.add, means)), None))

    def _end_if(self, trainer: Trainer, reason: str | None) -> None:
        # scores may differ between processes, but all must end or go on together
        if trainer.strategy.reduce_boolean_decision(reason is not None, all=False):
            raise Collapse(self._losses.steps, reason or "another process saw a score collapse")


def describe(collapse: Mapping[str, Any]) -> str:
    """One entry of ``StageResult.collapses`` in words."""
    return f"{collapse['reason']} at step {collapse['step']} with learning rates times {collapse['lr_scale']:g}"


def advice(stage: str, collapses: Sequence[Mapping[str, Any]], folder: Path) -> str:
    """The sentence with which a stage ends that collapsed in every attempt."""
    return (
        f"{stage} collapsed in {len(collapses)} of {len(collapses)} attempts, the last time because "
        f"{describe(collapses[-1])}: in the schedule, give it a lower learning rate (optimizer: {{lr_scale: 0.1}}), a "
        "warm-up (lr_schedule: {warmup: 0.1}) or gradient clipping (gradient_clip_val: 1.0), or let the amounts fall "
        f"in smaller steps; to try it again as it is, remove {folder}."
    )


def _floats(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}

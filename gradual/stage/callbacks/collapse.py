"""Detection of collapse (the paper's Appendix A.1), where the learning rate destroys what a stage started from.

``LossWatch`` and ``ScoreWatch`` are the rules, on plain numbers; ``CollapseGuard`` applies them to a stage. They accept
every stage that learns, however noisily: a collapse that is missed wastes some epochs, a false alarm ends all paths
that need the stage.
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
from torch import Tensor
from torchmetrics import Metric

from gradual.errors import InputError
from gradual.score_names import without_split
from gradual.settings import CollapseConfig

EVERY = 20
"""Training steps between two checks of the losses, since each check waits for the device."""

_WINDOW = 20  # losses whose median is compared
_FIRST = 5  # losses that show where the stage started
_DEAD = 2  # consecutive losses that are not finite; a single one may be a batch that mixed precision skips
_LEAST_SCORE = 0.1  # a parent's score is watched only if it is at least this, and ...
_LEAST_RIGHT = 10  # ... stands for at least so many validation examples
_SCORE_NAME = re.compile(r"([^/]*_)?(accuracy|acc|f1)(_[^/]*)?")  # a score of a single class has another slash


class Collapse(Exception):
    """A stage has collapsed; raised out of ``Trainer.fit``, in all processes at the same step.

    Args:
        step: Number of training batches of the attempt until the collapse was detected.
        reason: What was detected.
    """

    def __init__(self, step: int, reason: str):
        super().__init__(f"{reason} at step {step}")
        self.step, self.reason = step, reason


class CollapsedError(InputError):
    """A stage has collapsed in every attempt: those that need it cannot be trained, and others can."""

    @property
    def original(self) -> CollapsedError:
        """The error as it was raised: the one that Ray raises instead holds it, and has a traceback as its message."""
        return getattr(self, "cause", self)


class LossWatch:
    """The rule for training losses: two in a row that are not finite, or an explosion at the start of the stage.

    The loss has exploded if the median of the last 20 is more than ``ratio`` times the largest of the first five, and
    more than ``ratio`` times ``level``. These are no explosions: noise within a factor of three either way, single
    spikes of any height, losses that start near zero and stay below ``ratio`` times ``level``, and losses that start at
    zero where there is no level. If one of the first losses is negative, ratios are meaningless, and explosions are not
    detected.

    Args:
        ratio: The factor that counts as an explosion.
        level: A loss that is always acceptable, e.g. the parent's validation loss.

    Attributes:
        steps: Number of losses seen.
        settled: Whether the start of the stage is over; from then on only losses that are not finite are detected.
    """

    def __init__(self, ratio: float, level: float = 0.0):
        self.steps, self.settled = 0, False
        self._ratio, self._level = ratio, level
        self._first: list[float] = []
        self._last: list[float] = []
        self._not_finite = 0

    def add(self, loss: float) -> str | None:
        """Add the loss of the next step; returns what was detected, or None."""
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
        """What the rule has seen so far."""
        return {
            "steps": self.steps, "settled": self.settled, "first": self._first, "last": self._last,
            "not_finite": self._not_finite,
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state."""
        self.steps, self.settled, self._not_finite = state["steps"], state["settled"], state["not_finite"]
        self._first, self._last = state["first"], state["last"]


class ScoreWatch:
    """The rule for validation scores: a monitor that is not finite, or scores far worse than the parent stage's.

    A score for which higher is better has collapsed if it is lower than the parent's by the factor ``ratio``, provided
    that the parent's was at least 0.1 and stands for at least ten examples. A loss has collapsed if it is higher than
    the parent's by this factor in two consecutive validations, without having halved in between; but not as long as all
    scores are above half the parent's, since a loss close to zero may grow a hundredfold without harm.

    Args:
        config: The scores to watch, and the ratio.
        monitor: The metric that decides on convergence; it is always watched, by ``mode``.
        mode: ``min`` or ``max``.
        parent: The parent stage's validation scores, without the split in their names; empty if there is no parent.
        examples: Number of validation examples.

    Attributes:
        settled: Whether the start of the stage is over; from then on only a monitor that is not finite is detected.
        healthy: Whether the last validation showed no sign of a collapse; False before the first.
    """

    def __init__(self, config: CollapseConfig, monitor: str, mode: str, parent: Mapping[str, float], examples: int):
        self.settled, self.healthy = False, False
        self._config, self._monitor, self._mode = config, monitor, mode
        self._parent, self._examples = parent, examples
        self._risen: dict[str, float] = {}  # the losses that were too high in the last validation

    @property
    def parent_loss(self) -> float:
        """The parent's validation loss; 0 if it is unknown."""
        monitored = [without_split(self._monitor)] if self._mode == "min" else []
        return max(0.0, *(self._parent.get(name, 0.0) for name in ("loss", *monitored)))

    def validated(self, metrics: Mapping[str, float]) -> str | None:
        """Check the metrics of a validation; returns what was detected, or None.

        Raises:
            InputError: A score to watch was not logged.
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
        """Check an epoch's training scores that ``config.scores`` names; this may end the start of the stage."""
        self._check_named("train", metrics)
        fallen = None if self.settled else self._fallen("train", metrics)
        self.settled = self.settled or (self.healthy and not fallen)
        return fallen

    def state_dict(self) -> dict[str, Any]:
        """What the rule has seen so far."""
        return {"settled": self.settled, "healthy": self.healthy, "risen": self._risen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state."""
        self.settled, self.healthy, self._risen = state["settled"], state["healthy"], state["risen"]

    def _fallen(self, split: str, metrics: Mapping[str, float]) -> str | None:
        for name, (value, parent) in self._scores(split, metrics).items():
            if value * self._config.ratio < parent:
                return f"{name} fell from {parent:.4g} to {value:.4g}"
        return None

    def _scores(self, split: str, metrics: Mapping[str, float]) -> dict[str, tuple[float, float]]:
        """The watched scores whose parent's was high enough to fall from: the current one and the parent's."""
        scores = {}
        for name, value in metrics.items():
            parent = self._parent.get(without_split(name), 0.0)
            counts = parent >= _LEAST_SCORE and parent * self._examples >= _LEAST_RIGHT
            if counts and name.startswith(split) and self._kind(name) == "score":
                scores[name] = (value, parent)
        return scores

    def _kind(self, name: str) -> str | None:
        """Whether a metric is watched as a ``score`` (higher is better) or as a ``loss``; None if it is not watched."""
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
                logged = f"the names logged are {', '.join(sorted(metrics))}" if metrics else "nothing is logged"
                raise InputError(f"collapse.scores contains '{name}', which is not logged; {logged}.")


class CollapseGuard(Checkpoint):
    """Ends the training of a stage with ``Collapse`` if one of the rules detects one.

    It is a ``Checkpoint`` because Lightning calls these after the module has logged the epoch's training scores, and
    other callbacks before.

    Args:
        losses: The rule for training losses.
        scores: The rule for scores.
        start: Where to save the weights that the stage starts from; None if a parent stage has saved them.
        earlier: The previous attempts, as in ``StageResult.collapses``, for the loggers.
    """

    def __init__(self, losses: LossWatch, scores: ScoreWatch, start: Path | None, earlier: Sequence[Mapping[str, Any]]):
        self._losses, self._scores = losses, scores
        self._start, self._earlier = start, earlier
        self._pending: list[Tensor] = []  # losses that are not checked yet, on their device
        self._batches = 0  # since the last check

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the weights to return to."""
        if self._start is not None:
            trainer.save_checkpoint(self._start, weights_only=True)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the number of the attempt, and why the previous ones ended."""
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
        """Collect the loss without waiting for the device; check the collected losses every few steps."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, Tensor):
            self._pending.append(loss.detach())
        self._batches += 1
        if self._batches == EVERY:
            self._look_at_losses(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the scores, and the losses since the last check."""
        if trainer.sanity_checking:
            return
        self._look_at_losses(trainer)
        self._end_if(trainer, self._scores.validated(_floats(trainer.callback_metrics)))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the training scores; the start of the stage is over if nothing is detected."""
        self._end_if(trainer, self._scores.trained(_floats(trainer.callback_metrics)))
        self._losses.settled = self._scores.settled

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Reset the states of metrics for the next attempt."""
        if isinstance(exception, Collapse):
            for module in pl_module.modules():
                if isinstance(module, Metric):
                    module.reset()

    def state_dict(self) -> dict[str, Any]:
        """What the rules have seen so far, and the losses to check."""
        return {
            "losses": self._losses.state_dict(),
            "scores": self._scores.state_dict(),
            "pending": [float(loss) for loss in self._pending],
            "batches": self._batches,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state."""
        self._losses.load_state_dict(state_dict["losses"])
        self._scores.load_state_dict(state_dict["scores"])
        self._pending = [torch.tensor(loss) for loss in state_dict["pending"]]
        self._batches = state_dict["batches"]

    def _look_at_losses(self, trainer: Trainer) -> None:
        device = trainer.strategy.root_device
        losses = [loss.to(device, torch.float32) for loss in self._pending]
        self._pending, self._batches = [], 0
        if losses:  # a mean over processes is not finite if one loss is not
            means = trainer.strategy.reduce(torch.stack(losses), reduce_op="mean").tolist()
            self._end_if(trainer, next(filter(None, map(self._losses.add, means)), None))

    def _end_if(self, trainer: Trainer, reason: str | None) -> None:
        # scores may differ between processes, but all must stop or continue together
        if trainer.strategy.reduce_boolean_decision(reason is not None, all=False):
            raise Collapse(self._losses.steps, reason or "another process saw a score collapse")


def describe(collapse: Mapping[str, Any]) -> str:
    """Describe an entry of ``StageResult.collapses``."""
    return f"{collapse['reason']} at step {collapse['step']} with learning rates times {collapse['lr_scale']:g}"


def advice(stage: str, collapses: Sequence[Mapping[str, Any]], folder: Path, copied: str = "") -> str:
    """The error message for a stage that has collapsed in every attempt.

    Args:
        stage: Which stage it is.
        collapses: Its attempts.
        folder: Its folder.
        copied: The stage of a strategy that has the learning rates of this one, which is a control's; else empty.
    """
    rates = (
        "a lower learning rate (optimizer: {lr_scale: 0.1}), a warm-up (lr_schedule: {warmup: 0.1}) or gradient "
        "clipping (gradient_clip_val: 1.0)"
    )
    mend = (
        f"It is trained with the learning rates of {copied}: in the schedule, give that stage {rates}"
        if copied
        else f"In the schedule, give it {rates}, or decrease the amounts in smaller steps"
    )
    return (
        f"{stage} collapsed in {len(collapses)} of {len(collapses)} attempts, the last time because "
        f"{describe(collapses[-1])}. {mend}. To try again with the same settings, remove {folder}."
    )


def _floats(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}

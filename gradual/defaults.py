"""What holds for every stage of an experiment that does not override it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gradual.arguments import check_fields, integer, number
from gradual.errors import InputError
from gradual.groups import LR_SCHEDULE, OPTIMIZER, group
from gradual.names import better
from gradual.schedule import LRScheduleConfig, OptimizerConfig, Stage, as_plain, is_configured, merge

SEED = integer(0, 2**32 - 1)
"""A seed of numpy's and torch's generators."""

MAX_EPOCHS = 100
"""The Trainer's ``max_epochs`` where nobody sets one: enough for patience to end a stage, as it should."""


def resolve_mode(monitor: str, mode: str) -> str:
    """``min`` or ``max``; ``auto`` goes by the monitor's name.

    Raises:
        InputError: The mode is none of these, or ``auto`` with a name that does not say which values are better.
    """
    if mode not in ("auto", "min", "max"):
        raise InputError(f"mode is {mode!r}: it must be 'auto', 'min' or 'max'.")
    resolved = better(monitor) if mode == "auto" else mode
    if resolved is None:
        raise InputError(
            f"The name of the monitor, '{monitor}', does not say which values are better: correct it, or set mode to "
            "'min' (lower is better) or 'max' (higher is better)."
        )
    return resolved


@dataclass(frozen=True)
class CollapseConfig:
    """What to do about a stage that collapses at its start: go back to its starting weights, with lower learning rates.

    Attributes:
        attempts: How often a stage is tried at most; 1 stops at the first collapse, 0 looks for none.
        factor: What each further attempt multiplies all learning rates with.
        ratio: A score this many times below the parent stage's, or a loss this many times above, is a collapse.
        scores: Scores to watch besides the monitor, the higher the better; one of training (``train/accuracy``) must be
            logged by epoch. None for the validation scores with accuracy, acc or f1 in their names.
    """

    attempts: int = 3
    factor: float = 0.5
    ratio: float = 10.0
    scores: list[str] | None = None

    def __post_init__(self) -> None:
        accepted = {"attempts": integer(0), "factor": number(above=0, below=1), "ratio": number(above=1)}
        check_fields(self, "collapse.{}", **accepted)
        for name in self.scores or ():
            if not str(name).startswith(("val/", "val_", "train/", "train_")):
                raise InputError(f"collapse.scores holds {name!r}: accepted are names such as val/accuracy.")


@dataclass(frozen=True)
class Defaults:
    """What holds for every stage that does not override it.

    Attributes:
        monitor: Validation metric that decides on convergence and on the best epoch.
        mode: Which value of it is better: ``min``, ``max``, or ``auto`` to go by the last part of its name (losses and
            errors fall; accuracy, F1, BLEU and the like rise). Once the settings are made it is ``min`` or ``max``.
        patience: Validations without improvement after which a stage has converged.
        min_delta: Least change of the metric that counts as an improvement.
        optimizer: The optimizer; where it names none, the module's own ``configure_optimizers`` is used.
        lr_schedule: The learning-rate schedule of a configured optimizer.
        weight_averaging: Decay of an exponential moving average of a stage's weights, e.g. 0.999; the average is what
            is validated, kept and carried forward. None for the weights themselves.
        smoothing: Convergence and the best epoch are decided on the mean of the monitor's last so many values, from the
            stage's so many-th validation on. None for its value.
        collapse: What to do about a stage that collapses.
        checkpoint_every: Minutes of training after which a stage saves all that it needs to go on from there, besides
            the end of each epoch.
        seed: Seed of samples, order and dropout.
    """

    monitor: str = "val/loss"
    mode: str = "auto"
    patience: int = 5
    min_delta: float = 0.0
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    lr_schedule: LRScheduleConfig = field(default_factory=LRScheduleConfig)
    weight_averaging: float | None = None
    smoothing: int | None = None
    collapse: CollapseConfig = field(default_factory=CollapseConfig)
    checkpoint_every: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(
            self,
            patience=integer(0),
            min_delta=number(0),
            optimizer=OPTIMIZER,
            lr_schedule=LR_SCHEDULE,
            weight_averaging=number(0, below=1),
            smoothing=integer(1),
            collapse=group(CollapseConfig, "{'attempts': 3}"),
            checkpoint_every=number(0),
            seed=SEED,
        )
        object.__setattr__(self, "mode", resolve_mode(self.monitor, self.mode))

    def to_plain(self) -> dict[str, Any]:
        """The settings that are set, as plain data; without those that change no result."""
        plain = as_plain(self)
        del plain["checkpoint_every"]
        return plain

    def of(self, stage: Stage) -> dict[str, Any]:
        """All that ``stage`` trains with, as plain data: the defaults with its overrides.

        Raises:
            InputError: It sets something of an optimizer, and there is none.
        """
        optimizer = merge(self.optimizer, stage.optimizer)
        plain, lr_schedule = as_plain(optimizer), as_plain(merge(self.lr_schedule, stage.lr_schedule))
        if not is_configured(optimizer):
            unused = [f"optimizer.{name}" for name in plain if name != "lr_scale"]
            unused += [f"lr_schedule.{name}" for name in lr_schedule]
            if unused:
                raise InputError(
                    f"{' and '.join(unused)} would do nothing, since the module's own configure_optimizers makes the "
                    "optimizer: set optimizer.lr or optimizer.class_path as well."
                )
        return {**self.to_plain(), **stage.overrides(), "optimizer": plain, "lr_schedule": lr_schedule}

"""Progress of a stage: a live line on a terminal, or one line per epoch elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ProgressBar
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn


class StageProgress(ProgressBar):
    """Shows the stage and its amount, the epoch, the loss, the best validation so far, patience and the time left.

    ``patience 2/5`` means that two validations in a row have not improved, and that the stage ends after five. The time
    left is the time until ``max_epochs``, which patience may come before; or the time until a number of steps that is
    known.

    Args:
        label: A prefix that tells several paths apart; empty if only one path is trained.
        stages: Number of stages.
        amounts: Out-of-domain examples of the stages up to this one.
        monitor: Validation score to show.
        mode: ``min`` if lower scores are better, ``max`` if higher ones are.
        is_ready: Whether there have been enough validations for one to be the best.
        console: Where to write; standard output by default.
        steps: The number of steps that the stage takes, where it is known.
        stopper: What ends the stage once its patience is exhausted, if anything does; it must come before this.
    """

    def __init__(
        self,
        label: str,
        stages: int,
        amounts: Sequence[int],
        monitor: str,
        mode: str,
        is_ready: Callable[[], bool],
        console: Console | None = None,
        steps: int | None = None,
        stopper: EarlyStopping | None = None,
    ):
        super().__init__()
        self._title = f"{label}stage {len(amounts)}/{stages} ({' -> '.join(map(str, amounts))} out-of-domain)"
        self._monitor, self._sign, self._is_ready = monitor, 1.0 if mode == "min" else -1.0, is_ready
        self._steps, self._stopper = steps, stopper
        self._console = console or Console(file=sys.stdout)
        self._best: float | None = None
        self._best_epoch = 0
        self._live: Progress | None = None
        self._started = 0.0
        self._started_epoch = self._started_step = 0

    def disable(self) -> None:
        """Write nothing; Lightning calls this on all ranks but the first."""
        self._console = Console(quiet=True)

    def enable(self) -> None:
        """Do nothing; Lightning calls this on the first rank."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the live line if the output is a terminal."""
        self._started, self._started_epoch = time.monotonic(), trainer.current_epoch
        self._started_step = trainer.global_step
        if self._console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[text]}"))
            self._live = Progress(*columns, console=self._console, transient=True)
            self._live.start()
            self._task = self._live.add_task(self._title, total=int(trainer.num_training_batches), text="")

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Update the live line."""
        if self._live is None:
            return
        batch = args[-1] if args else 0
        done = trainer.current_epoch - self._started_epoch + (batch + 1) / max(1, int(trainer.num_training_batches))
        self._live.update(self._task, completed=batch + 1, text=self._text(trainer, done))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the validation score and, without a terminal, write the epoch's line."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        score = trainer.callback_metrics.get(self._monitor)
        if (
            score is not None
            and self._is_ready()
            and (self._best is None or self._sign * float(score) < self._sign * self._best)
        ):
            self._best, self._best_epoch = float(score), trainer.current_epoch + 1
        if self._live is None:
            done = trainer.current_epoch + 1 - self._started_epoch
            now = "" if score is None else f", {self._monitor} {float(score):.4g}"
            self._console.print(f"{self._title}: {self._text(trainer, done, now)}", soft_wrap=True, highlight=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace the live line by a summary."""
        self._close()
        if self._console.is_terminal:
            best = f", best {self._monitor} {self._best:.4g}" if self._best is not None else ""
            self._console.print(f"{self._title}: {trainer.current_epoch} epochs{best}", soft_wrap=True, highlight=False)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Remove the live line."""
        self._close()

    def state_dict(self) -> dict[str, Any]:
        """The best validation so far."""
        return {"best": self._best, "best_epoch": self._best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best validation so far."""
        self._best, self._best_epoch = state_dict["best"], state_dict["best_epoch"]

    def _text(self, trainer: Trainer, epochs_done: float, now: str = "") -> str:
        of = f"/{trainer.max_epochs}" if self._steps is None and trainer.max_epochs and trainer.max_epochs > 0 else ""
        parts = [f"epoch {trainer.current_epoch + 1}{of}"]
        if self._steps is not None:
            parts.append(f"step {trainer.global_step}/{self._steps}")
        # the usual names of a training loss
        for name in ("train/loss", "train_loss", "loss"):
            if name in trainer.callback_metrics:
                parts.append(f"loss {float(trainer.callback_metrics[name]):.4g}")
                break
        text = ", ".join(parts) + now
        if self._best is not None:
            text += f", best {self._best:.4g} (epoch {self._best_epoch})"
        if self._stopper is not None and self._stopper.wait_count:
            text += f", patience {self._stopper.wait_count}/{self._stopper.patience}"
        passed = time.monotonic() - self._started
        if of and epochs_done > 0:
            left = (trainer.max_epochs or 0) - self._started_epoch - epochs_done
            text += f", at most {_clock(left * passed / epochs_done)} left"
        if self._steps is not None and trainer.global_step > self._started_step:
            rate = passed / (trainer.global_step - self._started_step)
            text += f", {_clock((self._steps - trainer.global_step) * rate)} left"
        return text

    def _close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"

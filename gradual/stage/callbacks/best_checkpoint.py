"""The checkpoint of a stage's best epoch, with its validation scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from gradual.errors import InputError
from gradual.runs.checkpoint import read_checkpoint

OF_BEST = "gradual_best"
"""In a checkpoint of the best validation, its score (None where the next validation replaces it), scores and epoch."""


class BestCheckpoint(ModelCheckpoint):
    """A ``ModelCheckpoint`` that keeps the weights of the best validation, and records its scores.

    The scores are in the file of the weights, too. A stage may be resumed from a checkpoint that is older than this
    file, and does not know its scores; trained again, an epoch need not have the same ones, as on a GPU.

    Args:
        directory: The stage's folder; the file is ``best.ckpt``.
        monitor: The validation score to select by.
        mode: ``min`` or ``max``.
        is_ready: Whether there have been enough validations to select by; until then the latest one is kept.
        with_optimizer: Whether to keep all else of the training with the weights, such as the optimizer's state.

    Attributes:
        scores: All logged metrics, as of the best validation.
        epoch: The epoch of the best validation, counted from 1; 0 before the first validation.
        validations: Number of validations.
    """

    def __init__(
        self, directory: Path, monitor: str, mode: str, is_ready: Callable[[], bool], with_optimizer: bool = False
    ):
        super().__init__(
            dirpath=directory,
            filename="best",
            monitor=monitor,
            mode=mode,
            save_top_k=1,
            save_weights_only=not with_optimizer,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )
        self.is_ready = is_ready
        self.scores: dict[str, float] = {}
        self.epoch = self.validations = 0

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the weights and record the scores if this validation is the best so far.

        Raises:
            InputError: The strategy saves each process's shard of the weights separately.
        """
        before, is_ready = self.best_model_score, self.is_ready()
        self.validations += not trainer.sanity_checking
        with self._recorded(trainer, pl_module, is_ready):
            super().on_validation_end(trainer, pl_module)
        if self.best_model_score is not before:
            self.scores, self.epoch = _scores(trainer), trainer.current_epoch + 1
            if Path(self.best_model_path).is_dir():
                raise InputError(
                    f"{type(trainer.strategy).__name__} saves a separate shard of the weights for each process: "
                    "configure it to save one file (state_dict_type: full, or save_distributed_checkpoint: false)."
                )
        if not is_ready:
            self.best_k_models, self.best_model_score = {}, None  # the next validation replaces it, whatever its score

    def state_dict(self) -> dict[str, Any]:
        """The state of ``ModelCheckpoint``, the scores, the epoch and the number of validations."""
        return {**super().state_dict(), "scores": self.scores, "epoch": self.epoch, "validations": self.validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them, with the checkpoint's present place: ``ModelCheckpoint`` forgets the score of a moved one.

        Scores that the file has are its own, and are restored instead of others.
        """
        self.scores, self.epoch = state_dict["scores"], state_dict["epoch"]
        self.validations = state_dict.get("validations", 0)  # an earlier version did not count them
        paths = {name: self._here(state_dict[name]) for name in ("best_model_path", "kth_best_model_path")}
        scores = {self._here(path): score for path, score in state_dict["best_k_models"].items()}
        state = {**state_dict, **paths, "best_k_models": scores, "dirpath": self.dirpath}
        super().load_state_dict(state | self._of_file())

    def _of_file(self) -> dict[str, Any]:
        """Take over the scores in the file, and return the state that goes with them; empty where it has none."""
        file = Path(str(self.dirpath)) / f"{self.filename}{self.FILE_EXTENSION}"
        recorded = read_checkpoint(file).get(OF_BEST) if file.exists() else None
        if recorded is None:  # written by an earlier version
            return {}
        self.scores, self.epoch = recorded["scores"], recorded["epoch"]
        path, score = str(file), recorded["score"]
        return {
            "best_model_path": path,
            "best_model_score": score,
            "best_k_models": {} if score is None else {path: score},
            "kth_best_model_path": path,
            "kth_value": score,
        }

    @contextmanager
    def _recorded(self, trainer: Trainer, module: LightningModule, is_ready: bool) -> Iterator[None]:
        """While it is open, checkpoints hold the scores; for those of weights alone, only the module has a hook."""
        own, patched = module.on_save_checkpoint, "on_save_checkpoint" in vars(module)

        def with_scores(checkpoint: dict[str, Any]) -> None:
            own(checkpoint)
            score = trainer.callback_metrics.get(str(self.monitor)) if is_ready else None
            checkpoint[OF_BEST] = {"score": score, "scores": _scores(trainer), "epoch": trainer.current_epoch + 1}

        module.on_save_checkpoint = with_scores  # type: ignore[method-assign]
        try:
            yield
        finally:
            del module.on_save_checkpoint
            if patched:
                module.on_save_checkpoint = own  # type: ignore[method-assign]

    def _here(self, path: str) -> str:
        return str(Path(str(self.dirpath)) / Path(path).name) if path else path


def _scores(trainer: Trainer) -> dict[str, float]:
    return {name: float(value) for name, value in trainer.callback_metrics.items()}

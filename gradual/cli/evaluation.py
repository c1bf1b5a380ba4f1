"""Evaluation of a stage's checkpoint: ``gradual validate``, ``test`` and ``predict``."""

from __future__ import annotations

import glob
import logging
from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal

from jsonargparse import Namespace
from lightning.pytorch import LightningModule, Trainer

from gradual.errors import InputError
from gradual.runs.checkpoint import WholeCheckpointIO, read_checkpoint

_log = logging.getLogger(__name__)


def evaluate(
    command: Literal["validate", "test", "predict"],
    trainer: Trainer,
    model: LightningModule,
    ckpt_path: str | None = None,
    **arguments: Any,
) -> None:
    """Run a Trainer's method of evaluation with the weights of a checkpoint.

    Args:
        command: The method.
        trainer: The Trainer.
        model: The model that the configuration describes.
        ckpt_path: The checkpoint; None for the untrained model.
        **arguments: Further arguments of the method, such as the data module.

    Raises:
        InputError: The checkpoint cannot be read, or it has the weights of another model.
    """
    if ckpt_path is None:
        _log.warning("No --ckpt_path is given: this is the untrained model, before the first stage.")
    else:
        read_checkpoint(ckpt_path)  # reports what is wrong with it in one sentence
    trainer.strategy.checkpoint_io = WholeCheckpointIO({}, model)
    try:
        getattr(trainer, command)(model, ckpt_path=ckpt_path, weights_only=True, **arguments)
    except RuntimeError as error:
        title, *differences = str(error).splitlines()
        if not title.startswith("Error(s) in loading state_dict"):
            raise
        raise InputError(
            f"{ckpt_path} has the weights of another model ({differences[0].strip().rstrip('.:')}): give the "
            "configuration that it was trained with."
        ) from error


def predictions_path(settings: Namespace) -> Path:
    """The file for predictions, the one that is set or else one beside the checkpoint; its folder is made.

    Args:
        settings: All settings of the command.

    Raises:
        InputError: The file cannot be written, or a setting names it as a file that is read.
    """
    given, checkpoint = settings.get("predictions"), settings.get("ckpt_path")
    beside = Path(checkpoint).with_name("predictions.jsonl") if checkpoint else Path("predictions.jsonl")
    path = beside if given is None else Path(given)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not path.exists()
        path.open("a").close()
        if is_new:  # nothing stays behind if the command is refused later
            path.unlink(missing_ok=True)
    except (OSError, ValueError) as error:  # ValueError: a character that no path can have
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"The predictions cannot be written to {str(path)!r}: {reason}.") from error
    for name, value in settings.items():
        if name != "predictions" and path.resolve() in _files_in(value):
            name = name.replace(".init_args.", ".")
            raise InputError(
                f"The predictions would replace {path}, which {name} names: set --predictions to another file."
            )
    return path


def _files_in(value: Any) -> set[Path]:
    """What exists of the paths and patterns in a setting."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return set().union(*map(_files_in, value))
    if not isinstance(value, str | PathLike):
        return set()
    text = fspath(value)
    found = (*glob.glob(glob.escape(text)), *glob.glob(text, recursive=True))  # noqa: PTH207 - as files are found
    return {Path(each).resolve() for each in found}

"""Evaluation of a stage's checkpoint: ``gradual validate``, ``test`` and ``predict``."""

from __future__ import annotations

import glob
import logging
from collections.abc import Collection, Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal

from jsonargparse import Namespace
from lightning.pytorch import LightningModule, Trainer

from gradual.cli.chosen_stage import run_of
from gradual.cli.recorded_model import SameTokenizer, check_folder
from gradual.errors import InputError
from gradual.runs.checkpoint import WholeCheckpointIO, read_checkpoint
from gradual.tasks.base import TaskModule

_log = logging.getLogger(__name__)


def evaluate(
    command: Literal["validate", "test", "predict"],
    trainer: Trainer,
    model: LightningModule,
    settings: Namespace,
    linked: Collection[str],
    ckpt_path: str | None = None,
    **arguments: Any,
) -> None:
    """Run a Trainer's method of evaluation with the weights of a checkpoint.

    Args:
        command: The method.
        trainer: The Trainer.
        model: The model that the configuration describes.
        settings: All settings of the command.
        linked: The names of the settings of the data that the model's have filled in.
        ckpt_path: The checkpoint; None for the untrained model, which has scores, but no predictions.
        **arguments: Further arguments of the method, such as the data module.

    Raises:
        InputError: Predictions are asked of an untrained model, the checkpoint cannot be read, it has the weights of
            another model, or its run was trained with another tokenizer than the one of that name.
    """
    if ckpt_path is None:
        trained = f"gradual {command} {settings.run_dir if _has_run(settings) else 'RUN_DIR'}"
        if command == "predict":
            raise InputError(f"The model is untrained: give a trained one, as in {trained}.")
        _log.warning("This is the untrained model, before the first stage; for a trained one: %s.", trained)
    else:
        read_checkpoint(ckpt_path)  # reports what is wrong with it in one sentence
        path = Path(ckpt_path)
        run = run_of(path) or run_of(path.absolute())  # the current folder may be inside of it
        if run is not None:
            _check_names(trainer, model, settings, linked, run)
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


def _check_names(
    trainer: Trainer, model: LightningModule, settings: Namespace, linked: Collection[str], run: Path
) -> None:
    """Check that the names of pretrained model and tokenizer mean what they meant in training."""
    option = "--data.tokenizer"
    for name in ("pretrained", "encoder") if isinstance(model, TaskModule) else ():
        if folder := settings.model.init_args.get(name):
            check_folder(run, folder, f"--model.{name}")
            option = f"--model.{name}" if "data.init_args.tokenizer" in linked else option
    tokenizer = (settings.data.get("init_args") or {}).get("tokenizer")
    if isinstance(tokenizer, str):
        check_folder(run, tokenizer, option)
    trainer.callbacks.append(SameTokenizer(run, option))  # type: ignore[attr-defined]  # a list of the Trainer


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


def _has_run(settings: Namespace) -> bool:
    """Whether the run directory that the settings name holds results of ``fit`` or ``compare``."""
    return any((Path(settings.run_dir) / name).is_file() for name in ("results.json", "compare.json"))


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

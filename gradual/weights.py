"""Checkpoint files, read without running code from them."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule

from gradual.checksums import damage
from gradual.errors import InputError
from gradual.plain import from_plain


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a stage's checkpoint; its tensors stay in the file until they are looked at.

    Raises:
        InputError: The file cannot be read, is damaged, is no checkpoint of Lightning's, or holds objects that only
            code could make, which is not run.
    """
    accepted = "accepted is a checkpoint of a stage, such as best.ckpt"
    wrong = damage(Path(path))
    if wrong:
        raise InputError(f"{path} cannot be loaded ({wrong}); {accepted}.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        content = from_plain(content) if isinstance(content, dict) else content
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} holds more than tensors and plain data, which is not loaded as it could run code; {accepted}."
        ) from error
    except Exception as error:  # a zip archive of something else may raise anything
        raise InputError(f"{path} is no checkpoint; {accepted}.") from error
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not isinstance(content.get("pytorch-lightning_version"), str):
        raise InputError(f"{path} is no checkpoint of Lightning's; {accepted}.")
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise InputError(f"{path}: the weight {name!r:.80} is no tensor; {accepted}.")
    return content


def check_plain(part: LightningModule | LightningDataModule) -> None:
    """Refuse what would go into a checkpoint and could not be read from it again.

    Raises:
        InputError: One of its hyperparameters, or of a module's states, is no plain data.
    """
    owner = type(part).__name__
    if isinstance(part, LightningModule):
        for name, value in part.state_dict().items():
            if not isinstance(value, torch.Tensor):
                raise InputError(f"The state of {owner} holds '{name}', a {type(value).__name__} and no tensor.")
    for name, value in part.hparams.items():
        file = io.BytesIO()
        try:
            torch.save(value, file)
            file.seek(0)
            torch.load(file, weights_only=True)
        except Exception as error:  # pickling anything may raise anything
            raise InputError(
                f"The hyperparameter '{name}' of {owner}, a {type(value).__name__}, is no plain data, of which "
                f"checkpoints are made: leave it out with save_hyperparameters(ignore=['{name}'])."
            ) from error

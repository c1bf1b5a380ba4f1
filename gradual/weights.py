"""Checkpoint files, read without running code from them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from gradual.checksums import damage
from gradual.errors import InputError


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
